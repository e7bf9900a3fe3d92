//! Keeping a project and a sandbox the same.
//!
//! [`engine`] is the cycle. [`reconcile`], [`decide`], [`plan`], [`guard`], [`safety`] and
//! [`ancestor`] are pure: values in, values out, no time, no logging. [`transfer`] carries content
//! and steps, [`manifest`] is what a session remembers in SQLite. [`trash`] keeps what the host
//! loses, [`undo`] brings it back.

pub mod ancestor;
pub mod decide;
pub mod engine;
pub mod guard;
pub mod manifest;
pub mod plan;
pub mod reconcile;
mod record;
pub mod report;
pub mod safety;
pub mod tracked;
pub mod transfer;
pub mod trash;
pub mod undo;

#[cfg(test)]
mod trees;
