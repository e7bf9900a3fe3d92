//! One mount of a session, as it is here: its root, its open files, and what watches it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};

use super::problem::Problem;
use super::stream::Stream;
use super::system::{FileSystem, FileSystems, is_in_memory};
use super::watch::Watch;
use crate::disk::{Attributes, DirFd, Root};
use crate::path::SyncPath;
use crate::proto::FilesError;

/// Most files that a mount has open at a time. Past it, and past half of what the system lets the
/// agent open, as it has other work: `EXHAUSTED`.
const OPEN_FILES_MAX: usize = 4096;

/// Numbers that say which of two looks is the newer one.
///
/// They begin with the clock, so that those of an agent that was started anew are higher.
#[derive(Debug)]
pub(super) struct Stamps(AtomicU64);

impl Stamps {
    pub(super) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(AtomicU64::new(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX / 2)))
    }

    /// The next one; to be taken before the look.
    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// A file that is open for a mount.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: OwnedFd,
    device: u64,
    inode: u64,
}

impl OpenFile {
    pub(super) fn new(file: OwnedFd, attributes: &Attributes) -> Self {
        Self { file, device: attributes.device, inode: attributes.inode }
    }
}

/// When a stream was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// The number of its link.
    pub(super) link: u64,
    /// Over this link, as the session counts.
    pub(super) round: u64,
}

/// One mount.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(super) root: Root,
    /// For what is answered on the spot, where that can be done.
    pub(super) near: Option<Root>,
    pub(super) stamps: Arc<Stamps>,
    device: u64,
    systems: FileSystems,
    open: Mutex<HashMap<u64, Arc<OpenFile>>>,
    open_max: usize,
    /// Its streams, each with when it was opened.
    streams: Mutex<Vec<(Opened, Weak<Stream>)>>,
    /// Of the stream that is told changes, if there is one.
    watch: Mutex<Option<Arc<Watch>>>,
    /// The session ended it: what is still under way opens nothing any more.
    ended: AtomicBool,
    /// Another directory came to the root's place.
    replaced: AtomicBool,
}

impl Mount {
    pub(super) fn new(root: Root, stamps: Arc<Stamps>) -> Self {
        let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 2;
        Self {
            device: root.device(),
            near: if is_in_memory(&root) { root.near() } else { None },
            root,
            stamps,
            systems: FileSystems::default(),
            open: Mutex::default(),
            open_max: usize::try_from(allowed).unwrap_or(usize::MAX).min(OPEN_FILES_MAX),
            streams: Mutex::default(),
            watch: Mutex::default(),
            ended: AtomicBool::new(false),
            replaced: AtomicBool::new(false),
        }
    }

    /// What the root is like.
    pub(super) fn attributes(&self) -> Result<Attributes, Problem> {
        Ok(Attributes::of(self.root.open_object(&SyncPath::root())?)?)
    }

    /// Adds a stream, and gives those that were opened before it, which come to an end. Nothing if
    /// the session has opened newer ones already.
    pub(super) fn take_over(&self, at: Opened, stream: &Arc<Stream>) -> Option<Vec<Arc<Stream>>> {
        // Nothing panics under the lock.
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|(_, stream)| stream.strong_count() > 0);
        if streams.iter().any(|(of, _)| of.link == at.link && of.round > at.round) {
            return None;
        }
        // They stay in the list as long as something is done for them: each newer one waits for that.
        let older = streams.iter().filter(|(of, _)| *of != at);
        let older = older.filter_map(|(_, stream)| stream.upgrade()).collect();
        streams.push((at, Arc::downgrade(stream)));
        Some(older)
    }

    /// Looks whether another directory came to the root's place. Then this mount is of something
    /// that nobody sees any more, and the session has to begin again.
    pub(super) fn check_in_place(&self) {
        if self.root.check_in_place().is_err() && Root::open(self.root.path()).is_ok() {
            self.replaced.store(true, Ordering::SeqCst);
        }
    }

    /// Whether it has been found so.
    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::SeqCst)
    }

    /// The file system of a directory.
    pub(super) fn file_system(&self, directory: &DirFd, attributes: &Attributes) -> FileSystem {
        self.systems.of(directory, attributes, self.device)
    }

    /// Whether this open file is on the root's own file system; true for 0, which is none.
    pub(super) fn is_near(&self, handle: u64) -> bool {
        handle == 0 || self.open().get(&handle).is_some_and(|file| file.device == self.device)
    }

    /// An open file; STALE if there is none of that number.
    pub(super) fn file(&self, handle: u64) -> Result<Arc<OpenFile>, Problem> {
        let file = self.open().get(&handle).map(Arc::clone);
        let file = file.filter(|_| !self.ended.load(Ordering::SeqCst));
        file.ok_or_else(|| FilesError::Stale.into())
    }

    #[cfg(test)]
    pub(super) fn open_max(&self) -> usize {
        self.open_max
    }

    /// EXHAUSTED if no file can be opened as this handle, which the caller wants to know before it
    /// makes one.
    pub(super) fn check_room(&self, handle: u64) -> Result<(), Problem> {
        if handle == 0 {
            return Err(Problem::invalid("0 is no handle"));
        }
        let open = self.open();
        match open.len() < self.open_max || open.contains_key(&handle) {
            true => Ok(()),
            false => Err(FilesError::Exhausted.into()),
        }
    }

    /// Keeps a file open. One that was open as this handle is closed: the session says the same
    /// again only if it does not know whether it was heard.
    pub(super) fn keep(&self, handle: u64, file: Arc<OpenFile>) -> Result<(), Problem> {
        self.check_room(handle)?;
        let mut open = self.open();
        if self.ended.load(Ordering::SeqCst) {
            return Err(FilesError::Stale.into());
        }
        let before = open.insert(handle, file);
        drop(open);
        // Closing may take long, so it is not done under the lock.
        drop(before);
        Ok(())
    }

    /// Closes a file, once what is done with it is done.
    pub(super) fn close(&self, handle: u64) {
        let file = self.open().remove(&handle);
        drop(file);
    }

    /// Whether the object is open.
    pub(super) fn has_open(&self, object: &Attributes) -> bool {
        let is_it =
            |file: &Arc<OpenFile>| (file.device, file.inode) == (object.device, object.inode);
        self.open().values().any(is_it)
    }

    /// From now on no file is opened or found.
    pub(super) fn refuse(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    /// Closes all files and ends watching. What is under way still ends.
    pub(super) fn end(&self) {
        self.refuse();
        let open = std::mem::take(&mut *self.open());
        self.set_watch(None);
        drop(open);
    }

    /// What watches it now.
    pub(super) fn watch(&self) -> Option<Arc<Watch>> {
        self.watches().clone()
    }

    /// From now on this watches it; what did before ends.
    pub(super) fn set_watch(&self, watch: Option<Arc<Watch>>) {
        let before = std::mem::replace(&mut *self.watches(), watch);
        if let Some(before) = before {
            before.end();
        }
    }

    /// Ends watching if it is still this that watches.
    pub(super) fn unwatch(&self, watch: &Arc<Watch>) {
        let mut now = self.watches();
        if now.as_ref().is_some_and(|now| Arc::ptr_eq(now, watch)) {
            *now = None;
        }
        drop(now);
        watch.end();
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<OpenFile>>> {
        // No call under the lock leaves the map half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watches(&self) -> MutexGuard<'_, Option<Arc<Watch>>> {
        // It holds one value, which is set in one go.
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
