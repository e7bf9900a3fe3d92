//! Locks between processes, as files of ours.
//!
//! A lock is held by an open file, never by the file's being there: what a crash leaves excludes
//! nobody.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::{StateError, remove_file};

/// How long [`lock`] waits. An edit holds its lock for milliseconds, so past this something hangs.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// How often [`lock`] looks again.
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// A lock that other processes respect; it ends with this value or with the process.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Removes the lock file and lets go.
    ///
    /// # Errors
    /// If the file cannot be removed; the lock is given up all the same.
    pub fn remove(self) -> Result<(), StateError> {
        // Removed while it is held: whoever opened it before sees in `holds` that it is gone.
        remove_file(&self.path)
    }

    /// Whether the path still leads to the file that is locked.
    pub(super) fn holds(&self) -> io::Result<bool> {
        let locked = self.file.metadata()?;
        match std::fs::symlink_metadata(&self.path) {
            Ok(found) => Ok(found.dev() == locked.dev() && found.ino() == locked.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Takes a lock that nobody else has; nothing if somebody has it.
///
/// # Errors
/// If the lock file cannot be made or opened.
pub fn try_lock(path: &Path) -> Result<Option<Lock>, StateError> {
    let fail = || StateError::io("lock", path);
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    loop {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(nofollow)
            .open(path)
            .map_err(fail())?;
        let lock = Lock { file, path: path.to_owned() };
        match rustix::fs::flock(&lock.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(fail()(error.into())),
        }
        // Somebody may have removed the file between our open and our lock: a lock on a file
        // without a name excludes nobody.
        if lock.holds().map_err(fail())? {
            return Ok(Some(lock));
        }
    }
}

/// Takes a lock, waiting up to ten seconds for whoever has it. Blocks the thread.
///
/// # Errors
/// If the lock file cannot be made, or the wait was in vain.
pub fn lock(path: &Path) -> Result<Lock, StateError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        if let Some(lock) = try_lock(path)? {
            return Ok(lock);
        }
        if Instant::now() >= deadline {
            return Err(StateError::Locked { path: path.to_owned() });
        }
        std::thread::sleep(LOCK_RETRY);
    }
}
