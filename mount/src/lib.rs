//! A filesystem over a [`Source`]: how skync shows a sandbox's files as a directory.
//!
//! This crate knows nothing of links, agents or drivers, and depends on nothing of ours, so that a
//! filesystem can be tested without a kernel and without a sandbox. For now it is the contract
//! alone; the filesystem over it comes with `skync mount`.

mod source;

pub use source::{Attributes, Change, FileKind, Listed, Node, Source, SourceError};
