//! `skync status --watch` at a terminal: what there is to see, and what a key means. Pure: who feeds
//! it, and carries out what it wants, is the command.
//!
//! [`model::Model`] takes one [`model::Input`] at a time and says what is to be done about it;
//! [`render::render`] draws it. All text comes from elsewhere, so each of it goes through
//! [`crate::ui::visible`] on its way to a cell, in one place (`text`).

mod actions;
mod header;
pub mod keys;
pub mod model;
mod output;
mod overlay;
mod panels;
pub mod render;
#[cfg(test)]
mod tests;
mod text;
