//! What is asked of whoever keeps what transitions destroy (invariant I13).
//!
//! The host's session has such a keeper, a sandbox has none and pays nothing for it. It is called
//! with what is being destroyed in hand, so what is kept is exactly that, and not what was there a
//! moment before.

use std::fmt;

use crate::disk::{DirFd, Meta};
use crate::path::{Name, SyncPath};

/// Why an object goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// Something else takes its path.
    Overwritten,
    /// Nothing does.
    Deleted,
}

/// A file or symbolic link that is about to be destroyed.
#[derive(Debug)]
pub struct Doomed<'a> {
    /// Where it is in the tree, or was until now.
    pub path: &'a SyncPath,
    /// What was compared with the plan.
    pub meta: &'a Meta,
    /// The directory that has it now.
    pub directory: &'a DirFd,
    /// Its name there: maybe a temporary one.
    pub name: &'a Name,
    /// Why it goes.
    pub loss: Loss,
    /// It must stay under that name as well: a second name or a copy is to be kept.
    pub must_stay: bool,
}

/// How an object was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It was moved: nothing is under its name any more.
    Moved,
    /// A copy was kept, or a second name: it is still there, for the caller to remove.
    Copied,
}

/// Why an object was not kept. It is where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeepError {
    /// It is not what was compared.
    Changed,
    /// It could not be.
    Failed {
        /// Why, for a person.
        problem: String,
        /// The disk is full or the quota used up.
        no_space: bool,
    },
}

/// Keeps what transitions destroy. Called from several threads at once.
pub trait Keeper: Send + Sync + fmt::Debug {
    /// Keeps a file or symbolic link. The object may be destroyed if, and only if, this succeeds.
    ///
    /// # Errors
    /// See [`KeepError`]; the transition then changes nothing.
    fn keep(&self, doomed: &Doomed<'_>) -> Result<Kept, KeepError>;

    /// A row of transitions is done: a good time to make room.
    fn rest(&self);
}
