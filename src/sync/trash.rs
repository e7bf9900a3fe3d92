//! What the sandbox overwrote or deleted on the host, for `skync undo` (invariant I13).
//!
//! Everything that is known of a kept object is in the file system itself, so that nothing can be
//! lost between a file and its record: an object is moved, in one step, to
//! `<batch>/<loss>/<path in the project>`, with its mode and times. A batch is named after the
//! nanosecond in which it began; the loss is `overwritten` or `deleted`, with a number behind it if
//! the path was lost in this batch before. Directories are not kept: only what is in them can be
//! lost. On another file system, where nothing can be moved to, an object is copied.
//!
//! A batch is what was lost in one burst: it ends after `BURST_QUIET` without a loss, and when it
//! is large or old. Then room is made: batches go, the oldest first, once they are older than
//! [`AGE_MAX`] or all together larger than [`BYTES_MAX`]. A batch goes as a whole, and never the
//! newest: one that is larger than the limit is kept until the next is.
//!
//! A power cut may cost what was kept in the seconds before it, as it may cost any write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use skync_agent::disk::{DirFd, DiskError, Kind, Meta};
use skync_agent::path::Name;
use skync_agent::transition::{Doomed, KeepError, Keeper, Kept};

use crate::state::{self, StateError};

mod list;
mod place;

#[cfg(test)]
mod tests;

pub use list::Lost;

/// The name of the trash in the state directory of a session.
pub const TRASH: &str = "trash";
/// How long a lost version can be brought back.
pub const AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// How much is kept in one project, bytes.
pub const BYTES_MAX: u64 = 1 << 30;
/// A burst of losses ends when this long nothing was lost.
const BURST_QUIET: Duration = Duration::from_secs(5);
/// The longest burst: a command that never rests.
const BURST_MAX: Duration = Duration::from_secs(600);
/// The part of the limit that one burst may reach before the next begins.
const BURST_SHARE: u64 = 4;

/// Why a trash could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TrashError {
    /// Its directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// A system call failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// What is kept, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How old a batch may be.
    pub age: Duration,
    /// How much all batches may have, bytes.
    pub bytes: u64,
}

/// The trash of one project.
#[derive(Debug)]
pub struct Trash {
    path: PathBuf,
    limits: Limits,
    now_ns: fn() -> i64,
    /// Losses come from several threads. Keeping one is a rename, so they wait in line.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    batch: Option<Batch>,
    /// Bytes of the batches that this process measured.
    sizes: BTreeMap<i64, u64>,
}

/// The batch of the burst that goes on.
#[derive(Debug)]
struct Batch {
    began_ns: i64,
    last_ns: i64,
    bytes: u64,
    shelf: place::Shelf,
}

impl Trash {
    /// Opens the trash in that directory, or makes it.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn open(path: &Path) -> Result<Self, TrashError> {
        let limits = Limits { age: AGE_MAX, bytes: BYTES_MAX };
        Self::with(path, limits, skync_agent::scan::now_ns)
    }

    /// As [`Trash::open`], with other limits and another clock.
    ///
    /// # Errors
    /// As [`Trash::open`].
    pub fn with(path: &Path, limits: Limits, now_ns: fn() -> i64) -> Result<Self, TrashError> {
        state::make_private_directory(path)?;
        Ok(Self { path: path.to_owned(), limits, now_ns, state: Mutex::default() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic leaves a batch that is smaller than it was thought, at worst.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The batch of this burst; makes room first if a new one begins.
    fn batch<'a>(&self, state: &'a mut State) -> Result<&'a mut Batch, DiskError> {
        let now = (self.now_ns)();
        let is_over = |batch: &Batch| {
            let passed = |since: i64, max: Duration| {
                let passed = Duration::from_nanos(now.saturating_sub(since).max(0).unsigned_abs());
                passed > max
            };
            passed(batch.last_ns, BURST_QUIET)
                || passed(batch.began_ns, BURST_MAX)
                || batch.bytes > self.limits.bytes / BURST_SHARE
        };
        if let Some(over) = state.batch.take_if(|batch| is_over(batch)) {
            state.sizes.insert(over.began_ns, over.bytes);
        }
        if state.batch.is_none() {
            self.make_room(&mut state.sizes);
            let (began_ns, shelf) = place::begin(&self.path, now)?;
            state.batch = Some(Batch { began_ns, last_ns: now, bytes: 0, shelf });
        }
        let batch = state.batch.as_mut().expect("it was made just now");
        batch.last_ns = now;
        Ok(batch)
    }

    /// Removes batches that are too old, and the oldest while there is too much.
    fn make_room(&self, sizes: &mut BTreeMap<i64, u64>) {
        let Ok(mut batches) = list::batches(&self.path) else { return };
        batches.sort_unstable_by(|one, other| other.cmp(one));
        let oldest = (self.now_ns)().saturating_sub(nanoseconds(self.limits.age));
        let (mut total, mut is_full) = (0_u64, false);
        for (rank, began) in batches.into_iter().enumerate() {
            let path = self.path.join(place::batch_name(began));
            if began >= oldest && !is_full {
                let measured = || list::bytes_of(&path);
                total = total.saturating_add(*sizes.entry(began).or_insert_with(measured));
                // The newest stays whatever its size.
                is_full = total > self.limits.bytes;
                if !is_full || rank == 0 {
                    continue;
                }
            }
            sizes.remove(&began);
            if let Err(error) = state::remove_tree(&path) {
                tracing::warn!(%error, "an old batch of the trash could not be removed");
            }
        }
    }

    fn try_keep(&self, doomed: &Doomed<'_>) -> Result<Kept, KeepError> {
        let mut state = self.lock();
        let mut batch = self.batch(&mut state).map_err(|error| disk_failed(&error))?;
        let placed = match batch.shelf.place(doomed) {
            // Another process made room, and this batch had to go.
            Err(Errno::NOENT) => {
                state.batch = None;
                batch = self.batch(&mut state).map_err(|error| disk_failed(&error))?;
                batch.shelf.place(doomed)
            }
            other => other,
        };
        let (directory, name) = placed.map_err(|errno| failed(doomed, errno))?;
        let kept = if doomed.meta.kind == Kind::File && doomed.meta.link_count > 1 {
            // Under its other names it can be changed in place, and what is kept must not change.
            self.copy(doomed, &directory, &name)?
        } else if doomed.must_stay {
            match doomed.directory.link_new(doomed.name, &directory, &name) {
                Ok(()) => Kept::Copied,
                // File systems without second names, or where users may not give them.
                Err(Errno::XDEV | Errno::PERM | Errno::NOTSUP | Errno::MLINK) => {
                    self.copy(doomed, &directory, &name)?
                }
                Err(errno) => return Err(failed(doomed, errno)),
            }
        } else {
            match doomed.directory.rename_new(doomed.name, &directory, &name) {
                Ok(()) => {
                    take_back_if_changed(doomed, &directory, &name)?;
                    Kept::Moved
                }
                Err(Errno::XDEV) => self.copy(doomed, &directory, &name)?,
                // Either it is gone, or our directory is: the next try has another one.
                Err(Errno::NOENT) => {
                    state.batch = None;
                    return Err(KeepError::Changed);
                }
                Err(errno) => return Err(failed(doomed, errno)),
            }
        };
        batch.bytes = batch.bytes.saturating_add(doomed.meta.size);
        Ok(kept)
    }

    fn copy(&self, doomed: &Doomed<'_>, directory: &DirFd, name: &Name) -> Result<Kept, KeepError> {
        place::copy(doomed, directory, name).map_err(|error| match error {
            place::CopyError::Changed => KeepError::Changed,
            place::CopyError::Errno(errno) => failed(doomed, errno),
        })?;
        Ok(Kept::Copied)
    }
}

impl Keeper for Trash {
    fn keep(&self, doomed: &Doomed<'_>) -> Result<Kept, KeepError> {
        self.try_keep(doomed)
    }

    fn rest(&self) {
        // Room is made when the next batch begins: a burst is not over with one row of transitions.
    }
}

/// What was moved is what was compared, or it goes back.
fn take_back_if_changed(
    doomed: &Doomed<'_>,
    directory: &DirFd,
    name: &Name,
) -> Result<(), KeepError> {
    let same = |now: &Meta| {
        now.is_same_object(doomed.meta)
            && (now.kind, now.size, now.mtime_ns)
                == (doomed.meta.kind, doomed.meta.size, doomed.meta.mtime_ns)
    };
    if directory.stat(name).is_ok_and(|now| same(&now)) {
        return Ok(());
    }
    // If its name has been taken meanwhile, it stays here, where it can be found.
    match directory.rename_new(name, doomed.directory, doomed.name) {
        Ok(()) | Err(Errno::EXIST) => Err(KeepError::Changed),
        Err(errno) => Err(failed(doomed, errno)),
    }
}

fn failed(doomed: &Doomed<'_>, errno: Errno) -> KeepError {
    disk_failed(&DiskError::new("keep the old version of", doomed.path, errno))
}

fn disk_failed(error: &DiskError) -> KeepError {
    KeepError::Failed { problem: error.to_string(), no_space: error.is_no_space() }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
