//! What is known of one directory.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use super::{Name, NodeId, UNFOLLOWED_FOR};
use crate::source::Stamp;

/// Names of one directory that the kernel was told do not exist and may remember: a search path has
/// a few hundred. Past it the kernel is told not to remember.
const ABSENT_COUNT_MAX: usize = 4096;

/// One name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Child {
    /// What it means.
    pub(crate) node: NodeId,
    /// When that was looked at.
    pub(crate) stamp: Stamp,
}

/// All names of a directory are known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// Changes in it are told.
    pub(crate) followed: bool,
    /// When they were looked at.
    pub(crate) seen: Instant,
    /// The source was out of reach since: what is known serves until it was listed again.
    pub(crate) is_doubtful: bool,
}

/// A directory's names.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// All of them if `known`, else those of nodes that are still needed.
    pub(crate) entries: BTreeMap<Name, Child>,
    /// Whether these are all.
    pub(crate) known: Option<Known>,
    /// When it was seen to have the name that it has. What was told of it before was told of another
    /// path, and a listing from before may lack that.
    pub(super) named: Stamp,
    /// The newest listing of it. One that is older does not count, even if the names are not all
    /// known any more.
    pub(super) newest: Stamp,
    /// Names that the kernel remembers not to exist.
    absent: HashSet<Name>,
    /// When it was last used, in [`super::Nodes::uses`].
    pub(crate) used: u64,
}

impl Directory {
    /// Names that count towards what is known.
    pub(super) fn listed(&self) -> usize {
        if self.known.is_some() { self.entries.len() } else { 0 }
    }

    /// How long its names can be believed from now on; nothing: for as long as nobody tells of a
    /// change. Zero if they are not known.
    pub(crate) fn believed(&self, now: Instant) -> Option<Duration> {
        match &self.known {
            Some(known) if known.followed => None,
            Some(known) => Some((known.seen + UNFOLLOWED_FOR).saturating_duration_since(now)),
            None => Some(Duration::ZERO),
        }
    }

    /// The kernel is told that there is no such name; whether it may remember that.
    pub(crate) fn tell_absent(&mut self, name: &Name) -> bool {
        let may = self.absent.len() < ABSENT_COUNT_MAX || self.absent.contains(name);
        if may {
            self.absent.insert(name.clone());
        }
        may
    }

    /// Whether the kernel may remember that there is no such name; not any more afterwards.
    pub(super) fn take_absent(&mut self, name: &Name) -> bool {
        !self.absent.is_empty() && self.absent.remove(name)
    }

    /// All names that the kernel may remember not to exist.
    pub(super) fn take_all_absent(&mut self) -> HashSet<Name> {
        std::mem::take(&mut self.absent)
    }
}
