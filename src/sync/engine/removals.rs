//! Removals in the sandbox wait a moment before they are carried to the host.
//!
//! What deletes many files takes a while, and an accident is only seen as one when its deletions are
//! in one plan (invariant I10). So they are put off until no more come, for a second at most; a
//! flush, and so the end of a command, puts nothing off. Edits and new files do not wait.

use std::time::Duration;

use skync_agent::entry::Entry;
use skync_agent::path::SyncPath;

/// No more removals for so long, and they are due.
const QUIET: Duration = Duration::from_millis(100);
/// They are due so long after the first, whatever comes.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Paths that went in the sandbox. Times are since any moment that stays the same.
#[derive(Debug, Default)]
pub(super) struct Removals {
    gone: Vec<SyncPath>,
    others: Vec<SyncPath>,
    first: Duration,
    last: Duration,
}

impl Removals {
    /// Takes paths that changed in the sandbox, whose tree is `tree` now.
    pub(super) fn sort_out(&mut self, changed: Vec<SyncPath>, tree: Option<&Entry>, now: Duration) {
        for path in changed {
            if tree.is_some_and(|tree| tree.find(&path).is_none()) {
                if self.gone.is_empty() {
                    self.first = now;
                }
                self.last = now;
                self.gone.push(path);
            } else {
                self.others.push(path);
            }
        }
    }

    /// Takes what does not wait any more; with `all`, everything.
    pub(super) fn take_due(&mut self, now: Duration, all: bool) -> Vec<SyncPath> {
        let mut due = std::mem::take(&mut self.others);
        if all || self.next_due().is_some_and(|at| at <= now) {
            due.append(&mut self.gone);
        }
        due
    }

    /// When the next of them is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        (!self.gone.is_empty()).then(|| (self.last + QUIET).min(self.first + WAIT_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::trees::{dir, file, path};

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn removals_wait_until_no_more_come_and_nothing_else_waits() {
        let tree = dir([("edited", file("1"))]);
        let mut removals = Removals::default();
        removals.sort_out(vec![path("edited"), path("a")], Some(&tree), 10 * MS);
        assert_eq!(removals.take_due(10 * MS, false), [path("edited")]);
        removals.sort_out(vec![path("b")], Some(&tree), 100 * MS);
        assert_eq!(removals.take_due(150 * MS, false), []);
        assert_eq!(removals.next_due(), Some(200 * MS));
        assert_eq!(removals.take_due(200 * MS, false), [path("a"), path("b")]);
        assert_eq!(removals.next_due(), None);
    }

    #[test]
    fn removals_without_an_end_wait_a_second_and_a_flush_puts_nothing_off() {
        let tree = dir([]);
        let mut removals = Removals::default();
        for at in 0..20 {
            removals.sort_out(vec![path("a")], Some(&tree), at * 50 * MS);
        }
        assert_eq!(removals.next_due(), Some(Duration::from_secs(1)));
        assert_eq!(removals.take_due(999 * MS, false), []);
        assert_eq!(removals.take_due(999 * MS, true).len(), 20);
    }
}
