//! Says when a path that had an event is to be read again.
//!
//! An edit of a known file is read at once: nobody waits for a debounce. What has to wait is what
//! is not complete yet, so that each save style of an editor is one change:
//!
//! | events | read |
//! |---|---|
//! | a known file is closed, replaced by a rename, or has new attributes | at once |
//! | a known file is written and stays open | after a second, then each second |
//! | a name appears or goes | once it was quiet for 8 ms, after 40 ms at the latest |
//! | a new file is written and not closed | after 40 ms |
//! | a name that was made goes before it was read | never: a temporary file of somebody |
//! | anything under a `.git` in which a `*.lock` is | once the last lock is gone, or after 2 s |
//!
//! A name that was *moved* in and goes again is read all the same: when two names are swapped in
//! one step, the kernel says of the second that it came and went, and it is there.
//!
//! It knows no clock and no disk: time is an argument, nanoseconds since any fixed point.

use std::collections::{BTreeMap, BTreeSet};

use super::Event;
use crate::path::SyncPath;

/// How long a new or removed name has to be quiet, nanoseconds: an editor's next step comes within
/// a few milliseconds, and a person does not see 8.
const QUIET_NS: u64 = 8_000_000;
/// Longest that a new or removed name waits for quiet, nanoseconds.
const SETTLE_NS_MAX: u64 = 40_000_000;
/// Longest that a file which is being written waits for its close, nanoseconds: a log that stays
/// open is sent once a second.
const WRITING_NS_MAX: u64 = 1_000_000_000;
/// Longest that a repository's lock holds changes back, nanoseconds. Past it the lock is taken for
/// one that a dead git left, and holds nothing until it is gone.
const HOLD_NS_MAX: u64 = 2_000_000_000;

/// Longest that a path with an event waits, nanoseconds, if [`Settle::due`] is asked in time.
pub const WAIT_NS_MAX: u64 = WRITING_NS_MAX + HOLD_NS_MAX;

/// A path to read again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dirt {
    /// Where.
    pub path: SyncPath,
    /// Everything below it must be read too.
    pub below: bool,
}

/// The paths that had events and were not read since.
///
/// Its size is that of the paths between two calls of [`Settle::due`].
#[derive(Debug, Default)]
pub struct Settle {
    waiting: BTreeMap<SyncPath, Waiting>,
    /// By the path of their `.git`: those in which there are locks.
    repositories: BTreeMap<SyncPath, Repository>,
    /// Nothing is due before, nanoseconds; it may be too early.
    earliest_ns: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    below: bool,
    due_ns: u64,
    /// `due_ns` is never put off past it; it only comes nearer.
    limit_ns: u64,
    /// It was made since it was last read, and has done nothing that this does not explain.
    is_new: bool,
    /// No lock holds it back.
    is_urgent: bool,
    /// Since when a lock holds it back, nanoseconds.
    held_since_ns: Option<u64>,
}

#[derive(Debug, Default)]
struct Repository {
    locks: BTreeSet<SyncPath>,
    /// When these locks held the first change back, nanoseconds.
    held_since_ns: Option<u64>,
}

impl Settle {
    /// Takes an event. `is_known` says whether the tree, as it was last read, has an entry at the
    /// event's path.
    pub fn event(&mut self, event: Event, is_known: bool, now_ns: u64) {
        match event {
            Event::Overflow | Event::RootGone => {
                // Whether the locks are still there is not known; they hold nothing.
                self.repositories.clear();
                let mut waiting = Waiting::at_once(now_ns);
                waiting.below = true;
                waiting.is_urgent = true;
                self.put(SyncPath::root(), waiting);
            }
            Event::Appeared { path, is_directory, moved } => {
                self.lock_appeared(&path);
                let mut waiting = self.at(&path).unwrap_or_else(|| Waiting {
                    is_new: !is_known && !moved,
                    ..Waiting::until(now_ns, SETTLE_NS_MAX)
                });
                waiting.below |= is_directory;
                waiting.is_new &= !moved;
                self.put(path, waiting.moved_on(is_known && moved, now_ns));
            }
            Event::Gone { path, is_directory } => {
                self.lock_gone(&path, now_ns);
                let waiting = self.at(&path);
                if waiting.is_some_and(|waiting| waiting.is_new && !is_known) {
                    self.waiting.remove(&path);
                    return;
                }
                let mut waiting = waiting.unwrap_or_else(|| Waiting::until(now_ns, SETTLE_NS_MAX));
                waiting.below |= is_directory;
                waiting.is_new = false;
                self.put(path, waiting.moved_on(false, now_ns));
            }
            Event::Writing(path) => {
                let longest = if is_known { WRITING_NS_MAX } else { SETTLE_NS_MAX };
                let mut waiting = self.at(&path).unwrap_or_else(|| Waiting::until(now_ns, longest));
                if !waiting.is_due(now_ns) {
                    waiting.due_ns = waiting.limit_ns;
                }
                self.put(path, waiting);
            }
            Event::Written(path) => {
                let waiting =
                    self.at(&path).unwrap_or_else(|| Waiting::until(now_ns, SETTLE_NS_MAX));
                self.put(path, waiting.moved_on(is_known, now_ns));
            }
            Event::Attributes(path) => {
                // With whatever it waits for: that comes after this, and is soon.
                let waiting = self.at(&path).unwrap_or_else(|| {
                    Waiting::until(now_ns, SETTLE_NS_MAX).moved_on(is_known, now_ns)
                });
                self.put(path, waiting);
            }
        }
    }

    /// Makes a path due at once, whatever lock there is.
    pub fn mark(&mut self, dirt: Dirt) {
        let mut waiting = Waiting::at_once(0);
        waiting.is_urgent = true;
        waiting.below = dirt.below || self.at(&dirt.path).is_some_and(|waiting| waiting.below);
        self.put(dirt.path, waiting);
    }

    /// Takes what is due: in order, each path once, and none below one that is read with
    /// everything below.
    pub fn due(&mut self, now_ns: u64) -> Vec<Dirt> {
        if self.earliest_ns.is_none_or(|earliest_ns| earliest_ns > now_ns) {
            return Vec::new();
        }
        let mut due = Vec::new();
        let mut earliest_ns: Option<u64> = None;
        for (path, waiting) in &mut self.waiting {
            let mut from_ns = waiting.due_ns;
            if from_ns <= now_ns
                && !waiting.is_urgent
                && let Some(repository) = holder_of(&mut self.repositories, path)
            {
                from_ns = waiting.held_until_ns(repository, now_ns);
            }
            if from_ns <= now_ns {
                due.push(Dirt { path: path.clone(), below: waiting.below });
            } else {
                earliest_ns = Some(earliest_ns.map_or(from_ns, |earliest| earliest.min(from_ns)));
            }
        }
        let due = outermost(due);
        for dirt in &due {
            self.remove(dirt);
        }
        self.earliest_ns = earliest_ns.filter(|_| !self.is_empty());
        due
    }

    /// Takes everything, due or not, as [`Settle::due`] does: a flush.
    pub fn all(&mut self) -> Vec<Dirt> {
        self.earliest_ns = None;
        let all = std::mem::take(&mut self.waiting);
        outermost(
            all.into_iter().map(|(path, waiting)| Dirt { path, below: waiting.below }).collect(),
        )
    }

    /// When to ask [`Settle::due`] next. It may be too early, and is never too late; asking makes
    /// it right.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.earliest_ns
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn at(&self, path: &SyncPath) -> Option<Waiting> {
        self.waiting.get(path).copied()
    }

    fn put(&mut self, path: SyncPath, waiting: Waiting) {
        self.wake_at(waiting.due_ns);
        self.waiting.insert(path, waiting);
    }

    fn wake_at(&mut self, due_ns: u64) {
        let earliest_ns = self.earliest_ns.map_or(due_ns, |earliest_ns| earliest_ns.min(due_ns));
        self.earliest_ns = Some(earliest_ns);
    }

    /// Takes out what the reading of `dirt` covers.
    fn remove(&mut self, dirt: &Dirt) {
        self.waiting.remove(&dirt.path);
        if !dirt.below {
            return;
        }
        let below = |(path, _): &(&SyncPath, _)| path.is_within(&dirt.path);
        let below = self.waiting.range(&dirt.path..).take_while(below);
        for path in below.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            self.waiting.remove(&path);
        }
    }

    fn lock_appeared(&mut self, path: &SyncPath) {
        if is_lock(path)
            && let Some(git) = repository_of(path)
        {
            self.repositories.entry(git).or_default().locks.insert(path.clone());
        }
    }

    /// `path` went: it was a lock, or a directory with locks.
    fn lock_gone(&mut self, path: &SyncPath, now_ns: u64) {
        let is_touched = |git: &SyncPath| git.is_within(path) || path.is_within(git);
        let before = self.repositories.len();
        self.repositories.retain(|git, repository| {
            if is_touched(git) {
                repository.locks.retain(|lock| !lock.is_within(path));
            }
            !repository.locks.is_empty()
        });
        if self.repositories.len() < before {
            self.wake_at(now_ns);
        }
    }
}

impl Waiting {
    /// Waits at most `longest_ns`.
    fn until(now_ns: u64, longest_ns: u64) -> Self {
        let limit_ns = now_ns.saturating_add(longest_ns);
        Self {
            below: false,
            due_ns: limit_ns,
            limit_ns,
            is_new: false,
            is_urgent: false,
            held_since_ns: None,
        }
    }

    fn at_once(now_ns: u64) -> Self {
        Self::until(now_ns, 0)
    }

    fn is_due(&self, now_ns: u64) -> bool {
        self.due_ns <= now_ns
    }

    /// Until when the locks hold it back. It counts from whichever was held first: locks that come
    /// and go, one after another, do not hold a change for ever, and an old lock holds no new one.
    fn held_until_ns(&mut self, repository: &mut Repository, now_ns: u64) -> u64 {
        let own_ns = *self.held_since_ns.get_or_insert(now_ns);
        let all_ns = *repository.held_since_ns.get_or_insert(now_ns);
        own_ns.min(all_ns).saturating_add(HOLD_NS_MAX)
    }

    /// After an event that takes it a step on: due at once if it is complete, else when it was
    /// quiet. What is due already stays so.
    fn moved_on(mut self, is_complete: bool, now_ns: u64) -> Self {
        let longest_ns = if is_complete { 0 } else { SETTLE_NS_MAX };
        self.limit_ns = self.limit_ns.min(now_ns.saturating_add(longest_ns));
        self.due_ns = match self.is_due(now_ns) {
            true => self.due_ns,
            false => now_ns.saturating_add(QUIET_NS).min(self.limit_ns),
        };
        self
    }
}

/// The repository whose locks hold `path` back.
fn holder_of<'a>(
    repositories: &'a mut BTreeMap<SyncPath, Repository>,
    path: &SyncPath,
) -> Option<&'a mut Repository> {
    if repositories.is_empty() || is_lock(path) {
        return None;
    }
    repositories.get_mut(&repository_of(path)?)
}

fn is_lock(path: &SyncPath) -> bool {
    path.as_bytes().ends_with(b".lock")
}

/// The outermost `.git` that the path is at or below.
fn repository_of(path: &SyncPath) -> Option<SyncPath> {
    let mut end = 0;
    for name in path.names() {
        end += name.len() + usize::from(end > 0);
        if name == b".git" {
            return SyncPath::parse(&path.as_bytes()[..end]).ok();
        }
    }
    None
}

/// Leaves out what is below a path that is read with everything below. `dirt` is in order.
fn outermost(dirt: Vec<Dirt>) -> Vec<Dirt> {
    let mut kept: Vec<Dirt> = Vec::with_capacity(dirt.len());
    let mut above: Option<usize> = None;
    for dirt in dirt {
        if above.is_some_and(|at| dirt.path.is_within(&kept[at].path)) {
            continue;
        }
        if dirt.below {
            above = Some(kept.len());
        }
        kept.push(dirt);
    }
    kept
}

#[cfg(test)]
mod tests;
