//! Changes a tree as a plan says: one transition, one path, expected old to new.
//!
//! - I4: right before a file is replaced or removed, it is compared with what the plan expected.
//!   If it differs, the step is [`Status::Stale`] and nothing was changed.
//! - I5: a directory is removed by `rmdir` alone; one with unknown content stays.
//! - I6: creation never clobbers; replacement is a rename of fully written, hash-checked content.
//! - I7: everything goes through [`crate::disk`].
//! - I13: where there is a [`Keeper`], it has what is replaced or removed before that is destroyed.
//!
//! A step whose path already is as `new` says is applied, so a plan can be run again after a lost
//! reply. One path that fails is an outcome, never the end of the others.
//!
//! This module plans nothing: the order of the steps is the caller's, and it is kept wherever it
//! can be seen. Small files are written by a few worker threads; removals, and steps on a path that
//! a worker has, wait for the workers first.

mod arrival;
mod change;
mod keep;
mod permissions;
mod read;
mod workers;

pub use keep::{Doomed, KeepError, Keeper, Kept, Loss};
pub use read::{Held, ReadProblem, entry_at, read_content, sign_content};

use std::sync::{Mutex, PoisonError};

use arrival::Arrival;
use bytes::Bytes;

use crate::disk::Root;
use crate::entry::{Digest, Entry};
use crate::path::SyncPath;
use crate::scan::StatCache;
use crate::staging::{Content, Staging};

/// One change to one path. Entries are shallow, absence is `None`.
///
/// A directory's children have transitions of their own; removals of children come before their
/// directory, directories before their children. A change from or to a directory comes as a
/// removal and a creation.
#[derive(Clone, Debug)]
pub struct Transition {
    /// Where.
    pub path: SyncPath,
    /// What must be there now.
    pub expected: Option<Entry>,
    /// What must be there afterwards.
    pub new: Option<Entry>,
}

/// A piece of a file's content. The pieces of one file follow each other without a gap.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// BLAKE3 of the whole content.
    pub digest: Digest,
    /// Of the first byte of the piece in the content. The first piece may begin where the staged
    /// part of that content ends.
    pub offset: u64,
    /// The bytes.
    pub piece: Piece,
    /// The last piece.
    pub last: bool,
}

/// What a chunk brings.
#[derive(Clone, Debug)]
pub enum Piece {
    /// These bytes.
    Data(Bytes),
    /// What stands in a file of the receiver.
    Copy {
        /// The file.
        from: SyncPath,
        /// Of the first byte in it.
        offset: u64,
        /// Bytes.
        length: u64,
    },
}

impl Piece {
    /// Bytes of content that it brings.
    pub fn length(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Copy { length, .. } => *length,
        }
    }
}

/// What [`Applier::apply`] is fed with.
#[derive(Clone, Debug)]
pub enum Step {
    /// A change.
    Transition(Transition),
    /// Content for the transition that follows its last piece.
    Chunk(Chunk),
}

/// What became of a transition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The path is now as `new` says.
    Applied,
    /// What is there is not what was expected, or its content did not come or could not be put
    /// together from what is here; nothing was changed.
    Stale,
    /// A directory holds content that the plan did not name; it stays.
    NotEmpty,
    /// It could not be changed.
    Failed {
        /// Why, for a person.
        problem: String,
        /// The disk is full or the quota used up.
        no_space: bool,
    },
}

/// What became of the transition with that number, counted from 0 in the order fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Number of the transition.
    pub index: u64,
    /// What became of it.
    pub status: Status,
}

/// Applies transitions to one root.
#[derive(Debug)]
pub struct Applier<'a> {
    root: &'a Root,
    staging: &'a Staging,
    cache: &'a Mutex<StatCache>,
    writers: usize,
    keeper: Option<&'a dyn Keeper>,
}

impl<'a> Applier<'a> {
    /// An applier with `writers` threads for small files (at least one).
    ///
    /// The cache is read to see whether files are what was expected without reading them, and
    /// told what was written, so that the next scan need not read it (unless it comes within the
    /// second in which a record is not trusted).
    pub fn new(
        root: &'a Root,
        staging: &'a Staging,
        cache: &'a Mutex<StatCache>,
        writers: usize,
    ) -> Self {
        Self { root, staging, cache, writers: writers.max(1), keeper: None }
    }

    /// The same, with someone who keeps what is replaced or removed.
    #[must_use]
    pub fn with_keeper(mut self, keeper: Option<&'a dyn Keeper>) -> Self {
        self.keeper = keeper;
        self
    }

    /// Applies all steps and blocks until the last is done. Each transition is reported once, from
    /// whichever thread did it, as soon as it is done; outcomes of files may come out of order.
    pub fn apply(&self, steps: impl IntoIterator<Item = Step>, report: impl FnMut(Outcome) + Send) {
        let report = Mutex::new(report);
        let report = |index, status| {
            (report.lock().unwrap_or_else(PoisonError::into_inner))(Outcome { index, status });
        };
        let Self { root, staging, cache, keeper, .. } = *self;
        let change = change::Change { root, staging, cache, keeper };
        let work = |job: workers::Job| {
            let status = change.apply(&job.transition, job.content);
            report(job.index, status);
        };
        workers::with(self.writers, &work, |workers| {
            let mut index = 0;
            let mut arrival = Arrival::new(self.root, self.staging);
            for step in steps {
                let transition = match step {
                    Step::Chunk(chunk) => {
                        arrival.take(chunk);
                        continue;
                    }
                    Step::Transition(transition) => transition,
                };
                workers.wait_for(&transition);
                match arrival.content_for(&transition) {
                    Err(status) => report(index, status),
                    Ok(Some(Content::Inline(data))) => {
                        let content = Some(Content::Inline(data));
                        workers.send(workers::Job { index, transition, content });
                    }
                    Ok(content) => report(index, change.apply(&transition, content)),
                }
                index += 1;
            }
            arrival.end();
        });
        if let Some(keeper) = keeper {
            keeper.rest();
        }
    }
}

#[cfg(test)]
mod tests;
