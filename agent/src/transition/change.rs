//! One transition on disk: look, compare, write, look at what came out.

use std::fs::File as OpenFile;
use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::keep::{Doomed, KeepError, Keeper, Kept, Loss};
use super::{Status, Transition, permissions};
use crate::disk::{DirFd, DiskError, DiskErrorKind, Kind, Meta, Root, set_mode, set_mtime};
use crate::entry::{Digest, Entry, File};
use crate::path::{Name, SyncPath};
use crate::scan::{DigestError, FileRecord, StatCache, digest_of, now_ns};
use crate::staging::{Content, Staging, copy_checked};

mod swap;
mod temp;

use temp::Temp;

/// What a transition works with.
pub(super) struct Change<'a> {
    pub(super) root: &'a Root,
    pub(super) staging: &'a Staging,
    pub(super) cache: &'a Mutex<StatCache>,
    pub(super) keeper: Option<&'a dyn Keeper>,
}

/// Why a transition went no further.
enum Stop {
    Errno(&'static str, Errno),
    Told(String),
    NotKept(KeepError),
}

impl Change<'_> {
    /// Applies one transition and says what became of it.
    pub(super) fn apply(&self, transition: &Transition, content: Option<Content>) -> Status {
        let path = &transition.path;
        let (directory, name) = match self.root.parent_of(path) {
            Ok(parent) => parent,
            Err(error) => return without_parent(transition, &error),
        };
        let place = Place { change: self, path, directory: &directory, name: &name };
        place.apply(transition, content).unwrap_or_else(|stop| match stop {
            Stop::Told(problem) => Status::Failed { problem, no_space: false },
            Stop::NotKept(KeepError::Changed) => Status::Stale,
            Stop::NotKept(KeepError::Failed { problem, no_space }) => {
                Status::Failed { problem, no_space }
            }
            Stop::Errno(action, errno) => {
                let error = DiskError::new(action, path, errno);
                Status::Failed { problem: error.to_string(), no_space: error.is_no_space() }
            }
        })
    }

    fn cache(&self) -> MutexGuard<'_, StatCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn without_parent(transition: &Transition, error: &DiskError) -> Status {
    match error.kind() {
        DiskErrorKind::Missing if transition.new.is_none() => Status::Applied,
        DiskErrorKind::Missing => {
            let parent = transition.path.split().map(|(parent, _)| parent).unwrap_or_default();
            Status::Failed {
                problem: format!("the directory `{parent}`, where it belongs, is not there"),
                no_space: false,
            }
        }
        _ => Status::Failed { problem: error.to_string(), no_space: error.is_no_space() },
    }
}

/// The path of a transition, with its directory open.
struct Place<'a> {
    change: &'a Change<'a>,
    path: &'a SyncPath,
    directory: &'a DirFd,
    name: &'a Name,
}

/// What is there now. The digest is computed when it is first needed.
struct Present {
    meta: Option<Meta>,
    digest: Option<Digest>,
}

impl<'a> Place<'a> {
    fn apply(&self, transition: &Transition, content: Option<Content>) -> Result<Status, Stop> {
        let (expected, new) = (transition.expected.as_ref(), transition.new.as_ref());
        if let (None, Some(entry)) = (expected, new) {
            // The common case pays for no look: the system refuses a name that is taken.
            return self.create(entry, content);
        }
        let mut present = self.look()?;
        if self.is(&mut present, new)? {
            self.remember(&present);
            return Ok(Status::Applied);
        }
        if !self.is(&mut present, expected)? {
            return Ok(Status::Stale);
        }
        match (present.meta, new) {
            (Some(meta), None) => self.remove(&meta),
            (Some(meta), Some(entry)) => self.replace(&meta, entry, expected, content),
            (None, _) => Ok(Status::Stale),
        }
    }

    fn look(&self) -> Result<Present, Stop> {
        let meta = match self.directory.stat(self.name) {
            Ok(meta) => Some(meta),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(Stop::Errno("look at", errno)),
        };
        Ok(Present { meta, digest: None })
    }

    /// Whether what is there is that entry.
    fn is(&self, present: &mut Present, entry: Option<&Entry>) -> Result<bool, Stop> {
        let (meta, entry) = match (present.meta, entry) {
            (None, None) => return Ok(true),
            (Some(meta), Some(entry)) => (meta, entry),
            (None, Some(_)) | (Some(_), None) => return Ok(false),
        };
        match entry {
            Entry::Directory(_) => Ok(meta.kind == Kind::Directory),
            Entry::Symlink(target) => Ok(meta.kind == Kind::Symlink
                && self.directory.read_link(self.name).is_ok_and(|there| there == *target)),
            Entry::File(file) => {
                let looks_alike = meta.kind == Kind::File && meta.size == file.size && {
                    let there = File { mode: meta.mode, ..file.clone() };
                    there == *file
                };
                Ok(looks_alike && self.digest(present, &meta)? == Some(file.digest))
            }
            Entry::Untracked | Entry::Problem(_) => Ok(false),
        }
    }

    /// The digest of the file that is there, from the cache if it holds; nothing if the file moved
    /// while it was read.
    fn digest(&self, present: &mut Present, meta: &Meta) -> Result<Option<Digest>, Stop> {
        if present.digest.is_some() {
            return Ok(present.digest);
        }
        let known = self.change.cache().get(self.path).filter(|r| r.holds_for(meta)).copied();
        if let Some(record) = known {
            present.digest = Some(record.digest);
            return Ok(present.digest);
        }
        let never = AtomicBool::new(false);
        match digest_of(self.directory, self.name, &mut Vec::new(), &never) {
            Ok((read, record)) => {
                // If it is another file by now, all that is asked next is asked of that one.
                present.meta = Some(read);
                present.digest = (read == *meta).then_some(record.digest);
                self.change.cache().insert(self.path, record);
                Ok(present.digest)
            }
            Err(DigestError::Errno(Errno::NOENT | Errno::LOOP)) => Ok(None),
            Err(DigestError::Errno(errno)) => Err(Stop::Errno("read", errno)),
            Err(DigestError::NotAFile | DigestError::Changing | DigestError::Cancelled) => Ok(None),
        }
    }

    fn remember(&self, present: &Present) {
        if present.meta.is_none() {
            self.change.cache().remove(self.path);
        }
    }

    fn create(&self, entry: &Entry, content: Option<Content>) -> Result<Status, Stop> {
        let made = match entry {
            // The owner must be able to write what comes into it.
            Entry::Directory(new) => self.directory.make_directory(self.name, new.mode | 0o700),
            Entry::Symlink(target) => self.directory.make_symlink(self.name, target),
            Entry::File(file) => match content {
                Some(content) => return self.create_file(file, content),
                // The sender is to send it the next time.
                None => return self.unless_it_is(entry, Ok(Status::Stale)),
            },
            Entry::Untracked | Entry::Problem(_) => return Err(bad_plan()),
        };
        match made {
            Ok(()) => Ok(Status::Applied),
            Err(Errno::EXIST) => self.unless_it_is(entry, Ok(Status::Stale)),
            Err(errno) => Err(Stop::Errno("make", errno)),
        }
    }

    /// Applied if the path is as `entry` says already, else what is given.
    fn unless_it_is(&self, entry: &Entry, other: Result<Status, Stop>) -> Result<Status, Stop> {
        let mut present = self.look()?;
        if self.is(&mut present, Some(entry))? { Ok(Status::Applied) } else { other }
    }

    fn create_file(&self, file: &File, content: Content) -> Result<Status, Stop> {
        let mode = permissions::for_new(file, self.change.root.umask());
        let mut temp = self.write_temp(file, content, mode)?;
        // A new file gets the time that it has on the other side, so that in a fresh copy of a
        // project `make` sees the same order of times. A replaced file keeps the present time: a
        // build here must see that it changed.
        let open = temp.file.as_ref().ok_or_else(bad_plan)?;
        set_mtime(open, file.mtime_ns).map_err(|errno| Stop::Errno("set the time of", errno))?;
        loop {
            match temp.home.rename_new(&temp.name, self.directory, self.name) {
                Ok(()) => break,
                Err(Errno::EXIST) => {
                    drop(temp);
                    let entry = Entry::File(file.clone());
                    return self.unless_it_is(&entry, Ok(Status::Stale));
                }
                Err(Errno::XDEV) if temp.is_in_staging => {
                    temp = self.move_beside(temp, file, mode, Some(file.mtime_ns))?;
                }
                Err(errno) => return Err(Stop::Errno("put in place", errno)),
            }
        }
        temp.is_placed = true;
        self.record(&temp, file.digest);
        Ok(Status::Applied)
    }

    fn remove(&self, meta: &Meta) -> Result<Status, Stop> {
        if meta.kind == Kind::Directory {
            return match self.directory.remove_directory(self.name) {
                Ok(()) | Err(Errno::NOENT) => Ok(Status::Applied),
                Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(Status::NotEmpty),
                Err(Errno::NOTDIR) => Ok(Status::Stale),
                Err(errno) => Err(Stop::Errno("remove", errno)),
            };
        }
        // Once more, as comparing may have taken long.
        match self.directory.stat(self.name) {
            Ok(now) if now == *meta => {}
            Err(Errno::NOENT) => {}
            Ok(_) | Err(_) => return Ok(Status::Stale),
        }
        let (directory, name) = (self.directory, self.name);
        let removed = match self.keep(meta, directory, name, Loss::Deleted, false)? {
            Kept::Moved => Ok(()),
            Kept::Copied if !self.is_unchanged(meta) => return Ok(Status::Stale),
            Kept::Copied => directory.remove_file(name),
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => {
                self.change.cache().remove(self.path);
                Ok(Status::Applied)
            }
            Err(Errno::ISDIR) => Ok(Status::Stale),
            Err(errno) => Err(Stop::Errno("remove", errno)),
        }
    }

    /// Has what is about to be destroyed kept, if there is someone to do it.
    fn keep(
        &self,
        meta: &Meta,
        directory: &DirFd,
        name: &Name,
        loss: Loss,
        must_stay: bool,
    ) -> Result<Kept, Stop> {
        let Some(keeper) = self.change.keeper else { return Ok(Kept::Copied) };
        let doomed = Doomed { path: self.path, meta, directory, name, loss, must_stay };
        keeper.keep(&doomed).map_err(Stop::NotKept)
    }

    /// False if it changed while it was being kept, which may take long.
    fn is_unchanged(&self, meta: &Meta) -> bool {
        self.change.keeper.is_none()
            || self.directory.stat(self.name).is_ok_and(|now| swap::is_same_version(&now, meta))
    }

    fn replace(
        &self,
        meta: &Meta,
        new: &Entry,
        expected: Option<&Entry>,
        content: Option<Content>,
    ) -> Result<Status, Stop> {
        if meta.kind == Kind::Directory {
            return Err(bad_plan());
        }
        let umask = self.change.root.umask();
        match new {
            Entry::File(file) => {
                let mode = if meta.kind == Kind::File {
                    permissions::for_existing(meta.mode, file, umask)
                } else {
                    permissions::for_new(file, umask)
                };
                let before = expected.and_then(Entry::as_file);
                if before.is_some_and(|before| before.same_content(file)) {
                    return self.change_mode(meta, mode, file.digest);
                }
                let Some(content) = content else { return Ok(Status::Stale) };
                let temp = self.write_temp(file, content, mode)?;
                self.swap_in(meta, temp, Some((file, mode)))
            }
            Entry::Symlink(target) => {
                let temp = Temp::of_link(self, target)?;
                self.swap_in(meta, temp, None)
            }
            Entry::Directory(_) | Entry::Untracked | Entry::Problem(_) => Err(bad_plan()),
        }
    }

    fn change_mode(&self, meta: &Meta, mode: u16, digest: Digest) -> Result<Status, Stop> {
        let fail = |errno| Stop::Errno("change the mode of", errno);
        let open = match self.directory.open_to_chmod(self.name) {
            Ok(open) => open,
            Err(Errno::NOENT | Errno::LOOP) => return Ok(Status::Stale),
            Err(errno) => return Err(fail(errno)),
        };
        if Meta::of(&open).map_err(fail)? != *meta {
            return Ok(Status::Stale);
        }
        set_mode(&open, mode).map_err(fail)?;
        if let Ok(meta) = Meta::of(&open) {
            self.change.cache().insert(self.path, FileRecord::new(&meta, digest, now_ns()));
        }
        Ok(Status::Applied)
    }

    fn record(&self, temp: &Temp<'_>, digest: Digest) {
        // After the rename, which changes the file's ctime.
        if let Some(meta) = temp.file.as_ref().and_then(|file| Meta::of(file).ok()) {
            self.change.cache().insert(self.path, FileRecord::new(&meta, digest, now_ns()));
        }
    }
}

fn bad_plan() -> Stop {
    Stop::Told("the plan is not one: this cannot be made in one step".to_owned())
}
