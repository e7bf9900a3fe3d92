//! Our own changes that are under way.
//!
//! The source tells of what we do ourselves, too, and may do so before it replies. What is told of a
//! name, or a node, that a request of ours is changing waits until the reply is there; then it says
//! nothing new.

use std::collections::HashMap;
use std::path::PathBuf;

use super::{Name, NodeId};
use crate::source::{Attributes, Entry, Stamp};

/// What a request of ours is changing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Hold {
    /// A name of a directory.
    Name(NodeId, Name),
    /// The attributes of a node.
    Node(NodeId),
}

/// Something that was told: [`crate::source::Change::Entry`].
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) directory: PathBuf,
    pub(crate) directory_attributes: Option<Attributes>,
    pub(crate) name: Name,
    pub(crate) entry: Option<Entry>,
    pub(crate) content: bool,
    pub(crate) stamp: Stamp,
}

/// All that is being changed, and what was told of it meanwhile.
#[derive(Debug, Default)]
pub(super) struct Holds(HashMap<Hold, (usize, Vec<Held>)>);

/// What was told of one name or node while it was being changed. Past it the oldest are left out:
/// each tells the whole state, so the newest of a name is enough.
const HELD_COUNT_MAX: usize = 256;

impl Holds {
    pub(super) fn begin(&mut self, hold: Hold) {
        self.0.entry(hold).or_default().0 += 1;
    }

    /// What was told meanwhile, if that was the last request which changes it.
    pub(super) fn end(&mut self, hold: &Hold) -> Vec<Held> {
        let Some((count, _)) = self.0.get_mut(hold) else { return Vec::new() };
        *count -= 1;
        if *count > 0 {
            return Vec::new();
        }
        self.0.remove(hold).map(|(_, held)| held).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, hold: &Hold) -> bool {
        self.0.contains_key(hold)
    }

    /// Whether something in this directory is being changed.
    pub(super) fn has_name_in(&self, directory: NodeId) -> bool {
        self.0.keys().any(|hold| matches!(hold, Hold::Name(at, _) if *at == directory))
    }

    pub(super) fn keep(&mut self, hold: &Hold, told: Held) {
        let Some((_, held)) = self.0.get_mut(hold) else { return };
        if held.len() == HELD_COUNT_MAX {
            held.remove(0);
        }
        held.push(told);
    }
}
