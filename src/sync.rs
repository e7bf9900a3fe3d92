//! Keeping two trees the same: what to change, whether that is safe, and what is remembered.
//!
//! [`reconcile`] compares the host's tree and the sandbox's with the [`ancestor`], the last tree
//! both agreed on, and makes a [`plan`]. [`safety`] stops a plan that looks like an accident.
//! After the plan was carried out, [`ancestor`] says what both sides now agree on and [`manifest`]
//! records it. [`tracked`] is the one place that says what counts as being there at all.
//!
//! All of these but the manifest are functions from values to values: they read no clock and no
//! disk, and they never log. Nothing here knows which driver a sandbox comes from.

pub mod ancestor;
pub mod manifest;
pub mod plan;
pub mod reconcile;
pub mod safety;
pub mod tracked;

#[cfg(test)]
mod trees;
