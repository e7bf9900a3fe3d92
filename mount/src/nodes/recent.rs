//! What happened to names lately.
//!
//! A listing takes a while to arrive, and so does a change that was looked at before our own reply:
//! what they say of a name may be older than what is known. Of a name that is there its stamp is
//! kept with it; of one that is gone, and of names in directories that are not known yet, it is kept
//! here.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Name;
use crate::source::{Entry, Stamp};

/// How long something can be on its way: longer than any request takes.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Names that are kept. Past it the oldest go, and listings that are as old as those do not count.
const KEPT_COUNT_MAX: usize = 20_000;

/// What became of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    /// When it was looked at.
    pub(super) stamp: Stamp,
    /// What it means; nothing: it is gone.
    pub(super) entry: Option<Entry>,
}

/// What happened to names lately.
#[derive(Debug, Default)]
pub(super) struct Recent {
    by_directory: HashMap<PathBuf, HashMap<Name, Fate>>,
    /// In order of time.
    order: VecDeque<(Instant, Stamp, PathBuf, Name)>,
    /// The newest that was dropped before its time.
    lost: Stamp,
}

impl Recent {
    /// Remembers what became of a name.
    pub(super) fn put(&mut self, directory: PathBuf, name: Name, fate: Fate, now: Instant) {
        self.expire(now);
        let stamp = fate.stamp;
        let of_directory = self.by_directory.entry(directory.clone()).or_default();
        match of_directory.get_mut(&name) {
            Some(known) if known.stamp > stamp => return,
            Some(known) => *known = fate,
            None => drop(of_directory.insert(name.clone(), fate)),
        }
        self.order.push_back((now, stamp, directory, name));
        while self.order.len() > KEPT_COUNT_MAX {
            self.lost = self.lost.max(stamp);
            self.drop_oldest();
        }
    }

    /// What became of a name after `stamp`.
    pub(super) fn after(&self, directory: &Path, name: &Name, stamp: Stamp) -> Option<&Fate> {
        self.by_directory.get(directory)?.get(name).filter(|fate| fate.stamp > stamp)
    }

    /// What became of a directory's names.
    pub(super) fn of(&self, directory: &Path) -> Option<&HashMap<Name, Fate>> {
        self.by_directory.get(directory)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether something that is newer than `stamp` may have been dropped.
    pub(super) fn lost_since(&self, stamp: Stamp) -> bool {
        self.lost > stamp
    }

    fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(at, ..)| *at + KEPT_FOR < now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((_, stamp, directory, name)) = self.order.pop_front() else { return };
        let Some(of_directory) = self.by_directory.get_mut(&directory) else { return };
        // It may have been told of again since: then that is further back in the order.
        if of_directory.get(&name).is_some_and(|fate| fate.stamp == stamp) {
            of_directory.remove(&name);
        }
        if of_directory.is_empty() {
            self.by_directory.remove(&directory);
        }
    }

    /// Forgets everything: it is another source.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
