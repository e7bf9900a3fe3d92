//! Keeping a project and a sandbox the same.
//!
//! [`engine`] is the cycle over [`host`] and [`replay`], the two trees as they are; [`core`] is
//! everything in it that decides. [`core`], [`dirty`], [`agree`], [`reconcile`], [`decide`],
//! [`plan`], [`guard`], [`safety`] and [`ancestor`] are pure: values in, values out, no clock, no logging. [`transfer`] carries content
//! and steps, [`manifest`] is what a session remembers in SQLite. [`trash`] keeps what the host
//! loses, [`undo`] brings it back.

pub mod agree;
pub mod ancestor;
pub mod core;
pub mod decide;
pub mod dirty;
pub mod engine;
pub mod guard;
pub mod host;
pub mod inbox;
pub mod manifest;
pub mod plan;
pub mod reconcile;
mod record;
pub mod replay;
pub mod report;
pub mod safety;
pub mod tracked;
pub mod transfer;
pub mod trash;
pub mod undo;

#[cfg(test)]
mod trees;
