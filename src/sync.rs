//! Keeping a project and a sandbox the same.
//!
//! [`engine`] is the cycle. [`reconcile`], [`plan`], [`safety`] and [`ancestor`] are pure: values
//! in, values out, no time, no logging. [`transfer`] carries content and steps, [`manifest`] is
//! what a session remembers in SQLite.

pub mod plan;
pub mod tracked;
pub mod reconcile;
pub mod safety;
pub mod ancestor;
pub mod engine;
pub mod transfer;
pub mod report;
pub mod manifest;
mod record;

#[cfg(test)]
mod trees;
