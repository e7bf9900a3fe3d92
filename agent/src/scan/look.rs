//! Reads what is at one path.
//!
//! A file costs an open of its directory, a look, and a reading if the cache does not hold. What
//! is no directory any more has no records and no watches below.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::walk::{Top, file_entry, read_symlink, too_deep, too_long};
use super::{DEPTH_MAX, DigestError, ENTRY_COUNT_MAX, Reader, ScanError, StatCache, digest_of};
use crate::disk::{DirFd, DiskErrorKind, Kind, Meta, Root, reason};
use crate::entry::Entry;
use crate::path::{Name, PATH_BYTES_MAX, SyncPath};
use crate::rules::{DirectoryRules, Rules};
use crate::staging::TEMP_PREFIX;
use crate::watch::{WatchError, Watcher};

/// What is at one path.
#[derive(Debug, Default)]
pub struct Look {
    /// The entry, a directory with everything below; nothing if there is none to synchronise.
    pub entry: Option<Entry>,
    /// Something is there, and the rules leave it out.
    pub excluded: bool,
    /// Temporary files of ours at or below the path, see [`super::Snapshot::temporaries`].
    pub temporaries: Vec<SyncPath>,
    /// Why directories are not watched: the first error, after which none was tried.
    pub unwatched: Option<WatchError>,
}

/// Reads what is at `path` now, and brings the cache up to date with it.
///
/// `has` says whether a directory above `path` holds a name, for the rules that look beside them
/// ([`Rules::is_excluded`]); below it the names are read. Such a name that comes or goes changes
/// what is excluded beside it: the caller reads that directory again. The path's directory is
/// watched already, or the caller has no watcher.
///
/// The cache is locked for moments only, never while a file is read.
///
/// # Errors
/// Only for what concerns the whole tree, see [`ScanError`]. What cannot be read is an
/// [`Entry::Problem`].
#[expect(clippy::too_many_arguments, reason = "the arguments of a scan, the path, and its names")]
pub fn scan_at(
    root: &Root,
    rules: &Rules,
    cache: &Mutex<StatCache>,
    path: &SyncPath,
    has: &dyn Fn(&SyncPath, &[u8]) -> bool,
    watcher: Option<&Watcher>,
    threads: usize,
    cancelled: &AtomicBool,
) -> Result<Look, ScanError> {
    let entry_count_max = ENTRY_COUNT_MAX;
    let reader = Reader { root, rules, watcher, threads, cancelled, entry_count_max };
    let looker = Looker { reader, cache, path, has };
    let look = if path.is_root() { looker.look_at_all() } else { looker.look() }?;
    // In a root that was removed nothing is there, which says nothing (invariant I10).
    root.check_in_place()?;
    Ok(look)
}

struct Looker<'a> {
    reader: Reader<'a>,
    cache: &'a Mutex<StatCache>,
    path: &'a SyncPath,
    has: &'a dyn Fn(&SyncPath, &[u8]) -> bool,
}

impl Looker<'_> {
    fn look_at_all(&self) -> Result<Look, ScanError> {
        let known = self.cache().below(self.path);
        let snapshot = self.reader.read_all(&known)?;
        self.cache().merge_below(self.path, &known, snapshot.cache);
        Ok(Look {
            entry: snapshot.root,
            excluded: false,
            temporaries: snapshot.temporaries,
            unwatched: snapshot.unwatched,
        })
    }

    fn look(&self) -> Result<Look, ScanError> {
        let (parent, name) = match self.reader.root.parent_of(self.path) {
            Ok(parent) => parent,
            Err(error) if error.kind() == DiskErrorKind::Missing => return Ok(self.nothing()),
            Err(error) if error.kind() == DiskErrorKind::NotADirectory || error.is_link() => {
                return Ok(self.nothing());
            }
            Err(error) => return Ok(self.unreadable(error.reason())),
        };
        let meta = match parent.stat(&name) {
            Ok(meta) => meta,
            Err(Errno::NOENT) => return Ok(self.nothing()),
            Err(errno) => return Ok(self.unreadable(reason(errno))),
        };
        let is_directory = meta.kind == Kind::Directory;
        if self.reader.rules.is_excluded(self.path, is_directory, self.has) {
            return Ok(self.left_out());
        }
        if self.path.as_bytes().len() > PATH_BYTES_MAX {
            return Ok(self.problem(too_long()));
        }
        match meta.kind {
            Kind::Directory => self.directory(&parent, &name),
            Kind::File => self.file(&parent, &name, &meta),
            Kind::Symlink => Ok(match read_symlink(&parent, &name) {
                Ok(entry) => self.other(entry),
                Err(reason) => self.problem(reason),
            }),
            Kind::Other => Ok(self.other(Some(Entry::Untracked))),
        }
    }

    fn directory(&self, parent: &DirFd, name: &Name) -> Result<Look, ScanError> {
        if self.path.names().count() > DEPTH_MAX {
            return Ok(self.problem(too_deep()));
        }
        let directory = match parent.open_directory(name) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(self.nothing()),
            Err(errno) => return Ok(self.problem(reason(errno))),
        };
        let known = {
            let mut cache = self.cache();
            // It may have been a file.
            cache.remove(self.path);
            cache.below(self.path)
        };
        let top = Top { path: self.path.clone(), directory, rules: self.rules() };
        let snapshot = self.reader.walk(&known, top)?;
        self.cache().merge_below(self.path, &known, snapshot.cache);
        Ok(Look {
            entry: snapshot.root,
            excluded: false,
            temporaries: snapshot.temporaries,
            unwatched: snapshot.unwatched,
        })
    }

    /// The rules as they hold in the directory at the path.
    fn rules(&self) -> DirectoryRules {
        let mut rules = self.reader.rules.root();
        let mut above = SyncPath::root();
        // Parts of a checked path are checked.
        for name in self.path.names().filter_map(|name| Name::parse(name).ok()) {
            above = above.join(&name);
            rules = self.reader.rules.child(&rules, &above);
        }
        rules
    }

    fn file(&self, parent: &DirFd, name: &Name, meta: &Meta) -> Result<Look, ScanError> {
        let known = self.cache().get(self.path).filter(|record| record.holds_for(meta)).copied();
        if let Some(record) = known {
            return Ok(self.is(Some(file_entry(meta, &record))));
        }
        match digest_of(parent, name, &mut Vec::new(), self.reader.cancelled) {
            Ok((meta, record)) => {
                let look = self.is(Some(file_entry(&meta, &record)));
                self.cache().insert(self.path, record);
                Ok(look)
            }
            Err(DigestError::Cancelled) => Err(ScanError::Cancelled),
            Err(DigestError::Errno(Errno::NOENT)) => Ok(self.nothing()),
            Err(error) => Ok(self.problem(error.reason())),
        }
    }

    /// Something is there, and what it is cannot be asked.
    fn unreadable(&self, reason: String) -> Look {
        let is_excluded = self.reader.rules.is_excluded(self.path, false, self.has);
        if is_excluded { self.left_out() } else { self.problem(reason) }
    }

    fn left_out(&self) -> Look {
        let name = self.path.names().last().unwrap_or_default();
        let is_ours = name.starts_with(TEMP_PREFIX.as_bytes());
        let temporaries = if is_ours { vec![self.path.clone()] } else { Vec::new() };
        Look { excluded: true, temporaries, ..self.nothing() }
    }

    fn nothing(&self) -> Look {
        self.other(None)
    }

    fn problem(&self, reason: String) -> Look {
        self.other(Some(Entry::Problem(reason)))
    }

    /// No file and no directory that was read.
    fn other(&self, entry: Option<Entry>) -> Look {
        self.cache().remove(self.path);
        self.is(entry)
    }

    /// No directory that was read.
    fn is(&self, entry: Option<Entry>) -> Look {
        self.cache().remove_below(self.path);
        if let Some(watcher) = self.reader.watcher {
            watcher.forget(self.path);
        }
        Look { entry, ..Look::default() }
    }

    fn cache(&self) -> MutexGuard<'_, StatCache> {
        // A record that is there or not is no harm, so it is whole after any panic.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
