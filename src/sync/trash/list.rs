//! What is in the trash, read from the disk as it is.

use std::path::{Path, PathBuf};

use skync_agent::disk::{DiskError, DiskErrorKind, Kind, Meta, Root};
use skync_agent::path::{Name, SyncPath};
use skync_agent::transition::Loss;

use super::{Trash, TrashError, place};

/// A version of a path that can be brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Where it was in the project.
    pub path: SyncPath,
    /// When the burst began in which it was lost, nanoseconds since 1970: names the batch.
    pub batch_ns: i64,
    /// When it was lost, nanoseconds since 1970.
    pub lost_ns: i64,
    /// How it was lost.
    pub loss: Loss,
    /// The how manieth time in this batch that the path was lost in this way, from 1.
    pub times: u32,
    /// A file or a symbolic link, its size, mode and times.
    pub meta: Meta,
    /// The directory below which it is, at the same path.
    pub shelf: PathBuf,
}

impl Trash {
    /// Everything that can be brought back, the newest first.
    ///
    /// # Errors
    /// If the trash cannot be read.
    pub fn list(&self) -> Result<Vec<Lost>, TrashError> {
        let mut found = Vec::new();
        for batch_ns in batches(&self.path)? {
            let batch = self.path.join(place::batch_name(batch_ns));
            for (name, loss, times) in shelves(&batch)? {
                let shelf = batch.join(name.as_os_str());
                walk(&shelf, &mut |path, meta| {
                    let (path, shelf) = (path.clone(), shelf.clone());
                    // Moving an object is the last that changes it.
                    let lost_ns = meta.ctime_ns;
                    found.push(Lost { path, batch_ns, lost_ns, loss, times, meta: *meta, shelf });
                })?;
            }
        }
        found.sort_by(|one, other| {
            // File systems tell times apart by milliseconds only.
            let age = |lost: &Lost| (lost.batch_ns, lost.lost_ns, lost.times);
            age(other).cmp(&age(one)).then_with(|| one.path.cmp(&other.path))
        });
        Ok(found)
    }
}

/// When the batches began that are there, in no order.
pub(super) fn batches(trash: &Path) -> Result<Vec<i64>, DiskError> {
    let names = names(trash)?;
    let began = |(name, _): &(Name, _)| place::began(std::str::from_utf8(name.as_bytes()).ok()?);
    Ok(names.iter().filter_map(began).collect())
}

fn shelves(batch: &Path) -> Result<Vec<(Name, Loss, u32)>, DiskError> {
    let loss = |(name, _): (Name, _)| {
        let (loss, times) = place::loss_of(std::str::from_utf8(name.as_bytes()).ok()?)?;
        Some((name, loss, times))
    };
    Ok(names(batch)?.into_iter().filter_map(loss).collect())
}

/// Bytes of all files of a batch; those that cannot be read count nothing.
pub(super) fn bytes_of(batch: &Path) -> u64 {
    let mut bytes = 0_u64;
    for (name, ..) in shelves(batch).unwrap_or_default() {
        let count = &mut |_: &SyncPath, meta: &Meta| bytes = bytes.saturating_add(meta.size);
        // A batch that is being removed by another process ends early.
        let _ = walk(&batch.join(name.as_os_str()), count);
    }
    bytes
}

fn names(directory: &Path) -> Result<Vec<(Name, Option<Kind>)>, DiskError> {
    let root = match Root::open(directory) {
        // Another process made room.
        Err(error) if error.kind() == DiskErrorKind::Missing => return Ok(Vec::new()),
        other => other?,
    };
    let found = root.open_directory(&SyncPath::root())?.list(&mut Vec::new());
    found.map_err(|errno| DiskError::at("list", directory, errno))
}

/// Calls `found` with each file and link below a directory.
fn walk(shelf: &Path, found: &mut dyn FnMut(&SyncPath, &Meta)) -> Result<(), DiskError> {
    let root = match Root::open(shelf) {
        Err(error) if error.kind() == DiskErrorKind::Missing => return Ok(()),
        other => other?,
    };
    let mut buffer = Vec::new();
    let mut waiting = vec![SyncPath::root()];
    while let Some(path) = waiting.pop() {
        let directory = match root.open_directory(&path) {
            Err(error) if error.kind() == DiskErrorKind::Missing => continue,
            other => other?,
        };
        let listed = directory.list(&mut buffer);
        let names = listed.map_err(|errno| DiskError::new("list", &path, errno))?;
        for (name, _) in names {
            let Ok(meta) = directory.stat(&name) else { continue };
            let at = path.join(&name);
            match meta.kind {
                Kind::Directory => waiting.push(at),
                Kind::File | Kind::Symlink if name.as_bytes() != place::PART.as_bytes() => {
                    found(&at, &meta);
                }
                Kind::File | Kind::Symlink | Kind::Other => {}
            }
        }
    }
    Ok(())
}
