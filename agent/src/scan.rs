//! Reads a tree: what is there, with a digest for every file.
//!
//! The scan goes directory by directory through descriptors, on a few threads that share a queue.
//! A file whose size, times and inode are what they were when its digest was taken is not read
//! again ([`StatCache`]). Nothing that cannot be read stops it: such a path becomes
//! [`Entry::Problem`], at and below which nobody changes anything. Directories of other file
//! systems that are mounted in the tree are scanned like any other.
//!
//! [`scan`] reads the whole tree, and [`scan_at`] one path, by the same rules: a tree in which each
//! path that changed is put in as `scan_at` gives it is the tree that `scan` gives. Both put a
//! watch on each directory before they list it, if they are given a watcher.
//!
//! It changes nothing on disk and decides nothing about what a difference means.

mod cache;
mod digest;
mod look;
mod walk;

pub use cache::{FileRecord, StatCache};
pub use digest::now_ns;
pub(crate) use digest::{DigestError, RACY_NS, digest_of};
pub use look::{Look, scan_at};

use std::sync::atomic::AtomicBool;

use crate::disk::{DiskError, Root};
use crate::entry::Entry;
use crate::path::SyncPath;
use crate::rules::Rules;
use crate::watch::{WatchError, Watcher};
use walk::{Top, walk};

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
    /// Why directories are not watched: the first error, after which none was tried.
    pub unwatched: Option<WatchError>,
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
/// Each directory is watched before it is listed, and only those that are listed stay watched.
/// `cancelled` is looked at for every directory and every window of a file.
///
/// # Errors
/// Only for what concerns the whole tree, see [`ScanError`].
pub fn scan(
    root: &Root,
    rules: &Rules,
    cache: &StatCache,
    watcher: Option<&Watcher>,
    threads: usize,
    cancelled: &AtomicBool,
) -> Result<Snapshot, ScanError> {
    Reader { root, rules, watcher, threads, cancelled, entry_count_max: ENTRY_COUNT_MAX }
        .read_all(cache)
}

/// What every reading needs.
struct Reader<'a> {
    root: &'a Root,
    rules: &'a Rules,
    watcher: Option<&'a Watcher>,
    threads: usize,
    cancelled: &'a AtomicBool,
    entry_count_max: u64,
}

impl Reader<'_> {
    fn read_all(&self, cache: &StatCache) -> Result<Snapshot, ScanError> {
        self.root.check_in_place()?;
        let path = SyncPath::root();
        let directory = self.root.open_directory(&path)?;
        let snapshot = self.walk(cache, Top { path, directory, rules: self.rules.root() })?;
        // A root that was moved away in between reads as one that was emptied (invariant I10).
        self.root.check_in_place()?;
        Ok(snapshot)
    }

    /// Reads a directory with all below, and leaves no watch there but of what it read.
    fn walk(&self, cache: &StatCache, top: Top) -> Result<Snapshot, ScanError> {
        let Some(watcher) = self.watcher else {
            return walk(self, cache, top);
        };
        let round = watcher.begin();
        let path = top.path.clone();
        let snapshot = walk(self, cache, top)?;
        // What is still watched where no more can be is better than nothing.
        if snapshot.unwatched.is_none() {
            watcher.finish(&path, round);
        }
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests;
