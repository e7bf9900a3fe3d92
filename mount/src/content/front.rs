//! Where small files are read one after the other, and how many of them to fetch before they are
//! asked for: a decision about names, numbers and times.
//!
//! A *front* is a reader who walks through directories. It begins with the second small file that
//! is not there within a second in neighbouring directories. Its window is doubled whenever most of
//! what was fetched got used, and halved when it was not.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::NodeId;

/// The first window, as bytes and as files, whichever is reached first.
const WINDOW: Amount = Amount { files: 256, bytes: 1024 * 1024 };
/// The smallest one.
const WINDOW_MIN: Amount = Amount { files: 32, bytes: 128 * 1024 };
/// Within this the next small file has to be asked for.
const NEAR_TIME: Duration = Duration::from_secs(1);
/// After this without a use what a front fetched counts for nothing.
const IDLE_TIME: Duration = Duration::from_secs(5);
/// Fronts at once. Past it the one that was not used for longest goes.
const FRONTS_COUNT_MAX: usize = 4;
/// Directories that are remembered for having missed a file.
const MISSES_COUNT_MAX: usize = 16;

/// So many files with so many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) files: usize,
    pub(super) bytes: u64,
}

impl Amount {
    fn less(self, other: Self) -> Self {
        Self {
            files: self.files.saturating_sub(other.files),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self { files: self.files + other.files, bytes: self.bytes + other.bytes }
    }

    fn least(self, other: Self) -> Self {
        Self { files: self.files.min(other.files), bytes: self.bytes.min(other.bytes) }
    }

    fn half(self) -> Self {
        Self { files: self.files / 2, bytes: self.bytes / 2 }
    }

    /// True if it is no more than that, in both.
    fn is_within(self, other: Self) -> bool {
        self.files <= other.files && self.bytes <= other.bytes
    }
}

/// On a file that was fetched and not used yet: which front did it, and how large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    front: u64,
    bytes: u64,
}

/// What to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// For which front.
    pub(super) front: u64,
    /// The files after this one.
    pub(super) after: NodeId,
    /// At most so much.
    pub(super) amount: Amount,
}

struct Front {
    number: u64,
    /// Where it last missed a file, and where what it fetched ends.
    at: [PathBuf; 2],
    used: Instant,
    window: Amount,
    /// On its way, or there and not used.
    ahead: Amount,
    /// After which file to go on; nothing while the next batch is made up, or at the end.
    next: Option<NodeId>,
    /// Batches that are made up or on their way.
    running: usize,
}

/// See the module's text.
pub(super) struct Fronts {
    max: Amount,
    number: u64,
    fronts: Vec<Front>,
    misses: VecDeque<(PathBuf, Instant)>,
}

/// True if a reader may get from one to the other with few steps.
fn is_near(one: &Path, other: &Path) -> bool {
    let (up, down) = (one.parent(), other.parent());
    one == other
        || up == Some(other)
        || down == Some(one)
        || (up.is_some() && up == down)
        || (up.is_some() && up.and_then(Path::parent) == Some(other))
        || (down.is_some() && down.and_then(Path::parent) == Some(one))
}

impl Fronts {
    pub(super) fn new(max: Amount) -> Self {
        Self { max, number: 0, fronts: Vec::new(), misses: VecDeque::new() }
    }

    /// A small file of this directory is needed and not there: perhaps with it what follows it is
    /// to be fetched.
    pub(super) fn miss(&mut self, directory: &Path, node: NodeId, now: Instant) -> Option<Batch> {
        self.fronts.retain(|front| now < front.used + IDLE_TIME);
        let known =
            self.fronts.iter().position(|front| front.at.iter().any(|at| is_near(at, directory)));
        let is_recent =
            |(at, when): &(PathBuf, Instant)| now < *when + NEAR_TIME && is_near(at, directory);
        let recent = self.misses.iter().any(is_recent);
        if self.misses.back().is_none_or(|(at, _)| at != directory) {
            self.misses.push_back((directory.to_owned(), now));
        } else if let Some(last) = self.misses.back_mut() {
            last.1 = now;
        }
        if self.misses.len() > MISSES_COUNT_MAX {
            self.misses.pop_front();
        }
        let at = match known {
            Some(at) => at,
            None if recent => self.begin(directory, now),
            None => return None,
        };
        let front = &mut self.fronts[at];
        front.used = now;
        front.at[0] = directory.to_owned();
        if front.running > 0 {
            // Perhaps it is in there, or will be in the next one.
            return None;
        }
        if !front.ahead.is_within(front.window.half()) {
            // Much of what was fetched was not what is needed, and does not count any more.
            front.window = Amount {
                files: (front.window.files / 2).max(WINDOW_MIN.files),
                bytes: (front.window.bytes / 2).max(WINDOW_MIN.bytes),
            };
            front.ahead = Amount::default();
            self.number += 1;
            front.number = self.number;
        }
        front.next = None;
        let amount = self.room(at);
        // A few files more are not worth a request.
        if !self.fronts[at].window.half().half().is_within(amount) {
            return None;
        }
        self.fronts[at].running += 1;
        Some(Batch { front: self.fronts[at].number, after: node, amount })
    }

    fn begin(&mut self, directory: &Path, now: Instant) -> usize {
        if self.fronts.len() >= FRONTS_COUNT_MAX {
            let oldest = self.fronts.iter().enumerate().min_by_key(|(_, front)| front.used);
            if let Some(at) = oldest.map(|(at, _)| at) {
                self.fronts.remove(at);
            }
        }
        self.number += 1;
        self.fronts.push(Front {
            number: self.number,
            at: [directory.to_owned(), directory.to_owned()],
            used: now,
            window: WINDOW.least(self.max),
            ahead: Amount::default(),
            next: None,
            running: 0,
        });
        self.fronts.len() - 1
    }

    /// How much a front may fetch now.
    fn room(&self, at: usize) -> Amount {
        let all = self.fronts.iter().fold(Amount::default(), |all, front| all.plus(front.ahead));
        self.fronts[at].window.less(self.fronts[at].ahead).least(self.max.less(all))
    }

    fn of(&mut self, number: u64) -> Option<&mut Front> {
        self.fronts.iter_mut().find(|front| front.number == number)
    }

    /// Counts a file of a batch; the mark is taken back with [`Fronts::used`] or [`Fronts::lost`].
    pub(super) fn fetch(&mut self, number: u64, bytes: u64) -> Mark {
        if let Some(front) = self.of(number) {
            front.ahead = front.ahead.plus(Amount { files: 1, bytes });
        }
        Mark { front: number, bytes }
    }

    /// A batch is on its way, or there was none: after which file the next one begins, and in
    /// which directory this one ends.
    pub(super) fn sent(&mut self, number: u64, next: Option<NodeId>, directory: Option<&Path>) {
        if let Some(front) = self.of(number) {
            front.next = next;
            if let Some(directory) = directory {
                front.at[1] = directory.to_owned();
            }
        }
    }

    /// A batch is no longer on its way.
    pub(super) fn arrived(&mut self, number: u64) {
        if let Some(front) = self.of(number) {
            front.running = front.running.saturating_sub(1);
        }
    }

    /// A file that was fetched is needed. Once most of them were, the next ones are to be fetched.
    pub(super) fn used(&mut self, mark: Mark, now: Instant) -> Option<Batch> {
        let max = self.max;
        let front = self.of(mark.front)?;
        front.used = now;
        front.ahead = front.ahead.less(Amount { files: 1, bytes: mark.bytes });
        let after = front.next?;
        if !front.ahead.is_within(front.window.half()) {
            return None;
        }
        front.next = None;
        front.running += 1;
        front.window = front.window.plus(front.window).least(max);
        let at = self.fronts.iter().position(|front| front.number == mark.front)?;
        Some(Batch { front: mark.front, after, amount: self.room(at) })
    }

    /// A file that was fetched is gone before it was used.
    pub(super) fn lost(&mut self, mark: Mark) {
        if let Some(front) = self.of(mark.front) {
            front.ahead = front.ahead.less(Amount { files: 1, bytes: mark.bytes });
        }
    }
}
