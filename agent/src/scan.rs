//! Reads a tree: what is there, with a digest for every file.
//!
//! The scan goes directory by directory through descriptors, on a few threads that share a queue.
//! A file whose size, times and inode are what they were when its digest was taken is not read
//! again ([`StatCache`]). Nothing that cannot be read stops it: such a path becomes
//! [`Entry::Problem`], at and below which nobody changes anything. Directories of other file
//! systems that are mounted in the tree are scanned like any other.
//!
//! It changes nothing on disk and decides nothing about what a difference means.

mod cache;
mod digest;
mod walk;

pub use cache::{FileRecord, StatCache};
pub use digest::now_ns;
pub(crate) use digest::{DigestError, digest_of};

use std::sync::atomic::AtomicBool;

use crate::disk::{DiskError, Root};
use crate::entry::Entry;
use crate::path::SyncPath;
use crate::rules::Rules;

/// Deepest directory that is read, counted from the root. One descriptor is open for each level
/// while its threads are down there, and a process may have 1024; what is deeper is a problem.
pub const DEPTH_MAX: usize = 400;

/// Most entries of one tree: at some 200 bytes each, 2 GB of memory. Past it the scan fails.
pub const ENTRY_COUNT_MAX: u64 = 10_000_000;

/// Longest target of a symbolic link, bytes. Linux stores none that is longer.
pub const TARGET_BYTES_MAX: usize = 4095;

/// What a scan found.
#[derive(Debug)]
pub struct Snapshot {
    /// The tree: a directory. (Always there; a root that is missing is an error.)
    pub root: Option<Entry>,
    /// What to give the next scan.
    pub cache: StatCache,
    /// The paths that could not be read, and why; in order.
    pub problems: Vec<(SyncPath, String)>,
    /// Temporary files of ours that lie in the tree, of a run that works now or that was cut off:
    /// [`crate::staging::sweep`] tells them apart.
    pub temporaries: Vec<SyncPath>,
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that had to be read.
    pub hashed_files: u64,
    /// Their bytes.
    pub hashed_bytes: u64,
    /// Names that the rules left out (what is below them is not counted).
    pub excluded: u64,
}

/// Why there is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// The root is gone, was replaced while it was read, or cannot be read.
    #[error(transparent)]
    Root(#[from] DiskError),
    /// The caller asked to stop.
    #[error("the scan was cancelled")]
    Cancelled,
    /// The tree is too large.
    #[error("the tree holds more than {0} entries; exclude what need not be synchronised")]
    TooManyEntries(u64),
}

/// Reads the whole tree below `root` with `threads` threads (at least one).
///
/// `cancelled` is looked at for every directory and every window of a file.
///
/// # Errors
/// Only for what concerns the whole tree, see [`ScanError`].
pub fn scan(
    root: &Root,
    rules: &Rules,
    cache: &StatCache,
    threads: usize,
    cancelled: &AtomicBool,
) -> Result<Snapshot, ScanError> {
    scan_limited(root, rules, cache, threads, cancelled, ENTRY_COUNT_MAX)
}

fn scan_limited(
    root: &Root,
    rules: &Rules,
    cache: &StatCache,
    threads: usize,
    cancelled: &AtomicBool,
    entry_count_max: u64,
) -> Result<Snapshot, ScanError> {
    root.check_in_place()?;
    let snapshot = walk::walk(root, rules, cache, threads, cancelled, entry_count_max)?;
    // A root that was moved away in between reads as one that was emptied (invariant I10).
    root.check_in_place()?;
    Ok(snapshot)
}

#[cfg(test)]
mod tests;
