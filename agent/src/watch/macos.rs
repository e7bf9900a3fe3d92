//! FSEvents: one stream of events for the whole tree, by the `notify` crate.
//!
//! # What is weaker than on Linux
//! - Events come a moment after what they tell of, so having read them says nothing of what was done
//!   just before ([`Watcher::TELLS_AT_ONCE`]). `FSEventStreamFlushSync` would, and `notify` does not
//!   offer it; kqueue tells at once, and wants an open descriptor for each file. So they only make
//!   changes quick to be noticed: a flush scans.
//! - The system puts together what happened to a path, and does not say in which order. So every event
//!   is told as one after which the path is read: that it may be gone is found there.
//! - Nothing says that a file was closed. One that is still being written is read at each event, and
//!   what moved while it was read is read again.
//! - Paths are strings. They are used to tell a path of the tree, and to ask what is there; files are
//!   opened as ever, through `disk`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{CreateKind, EventKind, ModifyKind, RemoveKind};
use notify::{FsEventWatcher, RecursiveMode, Watcher as _};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::{Event, WatchError};
use crate::disk::DirFd;
use crate::path::SyncPath;
use crate::staging::TEMP_PREFIX;
use crate::wake::Wake;

/// Most events that wait to be read. Past it they are forgotten, and the tree is scanned.
const WAITING_COUNT_MAX: usize = 100_000;

/// Watches one tree.
#[derive(Debug)]
pub struct Watcher {
    told: Arc<Told>,
    /// Its thread ends with it.
    _stream: FsEventWatcher,
}

/// What was told and is not read yet.
#[derive(Debug)]
struct Told {
    /// Where the root is, as the system calls it.
    root: PathBuf,
    /// The thread of the stream fills it, whoever reads empties it.
    waiting: Mutex<Vec<Event>>,
    wake: Wake,
}

impl Watcher {
    /// What was done before [`Watcher::read`] is among what it gives.
    pub const TELLS_AT_ONCE: bool = false;

    /// A watcher for the tree whose root was opened at `root`; all of it is watched.
    ///
    /// # Errors
    /// [`WatchError::Stream`] if the system gives no events.
    pub fn new(root: &Path) -> Result<Self, WatchError> {
        let fail =
            |error: &io::Error| WatchError::Other(Errno::from_io_error(error).unwrap_or(Errno::IO));
        let root = std::fs::canonicalize(root).map_err(|error| fail(&error))?;
        let wake = Wake::new().map_err(WatchError::Other)?;
        let told = Arc::new(Told { root, waiting: Mutex::default(), wake });
        let of_stream = Arc::clone(&told);
        let tell = move |event: notify::Result<notify::Event>| of_stream.take(event.ok());
        let mut stream =
            FsEventWatcher::new(tell, notify::Config::default()).map_err(|_| WatchError::Stream)?;
        stream.watch(&told.root, RecursiveMode::Recursive).map_err(|_| WatchError::Stream)?;
        Ok(Self { told, _stream: stream })
    }

    /// Every directory of the tree is watched.
    ///
    /// # Errors
    /// None here.
    pub fn add(&self, _path: &SyncPath, _directory: &DirFd) -> Result<(), WatchError> {
        Ok(())
    }

    /// What is excluded is told of, too, and left out by whoever reads it.
    pub fn forget(&self, _path: &SyncPath) {}

    /// See [`Watcher::forget`].
    pub(crate) fn begin(&self) -> u64 {
        0
    }

    /// See [`Watcher::forget`].
    pub(crate) fn finish(&self, _path: &SyncPath, _round: u64) {}

    /// Gives `sink` all events that were told until now, without waiting.
    ///
    /// After [`Event::Overflow`] the whole tree has to be scanned.
    ///
    /// # Errors
    /// None here.
    pub fn read(&self, sink: &mut impl FnMut(Event)) -> io::Result<()> {
        // First this: what comes in between wakes again.
        self.told.wake.take();
        let waiting = std::mem::take(&mut *self.told.waiting());
        waiting.into_iter().for_each(sink);
        Ok(())
    }

    /// Waits until there are events, `wake` is readable, or the time is over. It may also return for no
    /// reason. It reads nothing from `wake`.
    ///
    /// # Errors
    /// What the system says; it is not expected to say anything.
    pub fn wait(&self, wake: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut fds = [
            PollFd::new(&self.told.wake, PollFlags::IN),
            PollFd::from_borrowed_fd(wake, PollFlags::IN),
        ];
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Watcher {
    /// Readable while there are events.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.told.wake.as_fd()
    }
}

impl Told {
    fn waiting(&self) -> MutexGuard<'_, Vec<Event>> {
        // Each change is one call.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event of the stream; none is one that failed.
    fn take(&self, told: Option<notify::Event>) {
        let Some(event) = told.map_or(Some(Event::Overflow), |told| self.understand(&told)) else {
            return;
        };
        {
            let mut waiting = self.waiting();
            if waiting.len() >= WAITING_COUNT_MAX {
                waiting.clear();
                waiting.push(Event::Overflow);
            } else {
                waiting.push(event);
            }
        }
        self.wake.wake();
    }

    fn understand(&self, told: &notify::Event) -> Option<Event> {
        let Some(whole) = told.paths.first().filter(|_| !told.need_rescan()) else {
            return Some(Event::Overflow);
        };
        let below = whole.strip_prefix(&self.root).ok()?;
        if below.as_os_str().is_empty() {
            let is_there = rustix::fs::lstat(whole).is_ok();
            return (!is_there).then_some(Event::RootGone);
        }
        let path = SyncPath::parse(below.as_os_str().as_bytes()).ok()?;
        if path.names().any(|name| name.starts_with(TEMP_PREFIX.as_bytes())) {
            return None;
        }
        let is_directory = || {
            let stat = rustix::fs::lstat(whole);
            stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
        };
        Some(match told.kind {
            EventKind::Modify(ModifyKind::Metadata(_)) => Event::Attributes(path),
            EventKind::Modify(ModifyKind::Data(_)) => Event::Written(path),
            EventKind::Create(CreateKind::File) | EventKind::Remove(RemoveKind::File) => {
                Event::Appeared { path, is_directory: false, moved: true }
            }
            EventKind::Create(CreateKind::Folder) | EventKind::Remove(RemoveKind::Folder) => {
                Event::Appeared { path, is_directory: true, moved: true }
            }
            _ => Event::Appeared { path, is_directory: is_directory(), moved: true },
        })
    }
}
