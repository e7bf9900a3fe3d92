//! Raw inotify: one watch for each directory that is read. The scan puts it there before it lists
//! the directory ([`Watcher::add`]), so what is made before the watch is in the listing, and what
//! is made after it is an event. Nothing is lost in fresh nested directories.
//!
//! # What the kernel promises
//! An event is queued before the system call that caused it returns. So whoever drains the queue
//! with [`Watcher::read`] has seen every change that was made before: that is what a flush stands
//! on, and no cookie file is needed.
//!
//! # Why not the `notify` crate
//! Read and measured, `notify` 8.2 watches `IN_OPEN`, so that every file that a command or our own scan
//! opens wakes us and fills the queue of 16,384 events; it adds watches by path and follows symbolic
//! links (I7); each watch is a hop to its thread and two stats (some 90 µs, and here 2); a directory
//! that moved keeps its old path; and files in fresh nested directories are lost.
//!
//! # Limits
//! A directory that is mounted at two places of the tree has one watch, as it is one inode, and its
//! events come under the path that was added last.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify::ReadFlags;
use rustix::io::Errno;

use super::inotify::{Inotify, RawEvent, events};
use super::{Event, WatchError};
use crate::disk::DirFd;
use crate::path::{Name, SyncPath};
use crate::staging::TEMP_PREFIX;

/// Most bytes that one system call reads: some 2,000 events.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Fewest, as the kernel refuses a buffer that the next event does not fit.
const READ_BYTES_MIN: usize = 4 * 1024;

/// Most watches that are ended at once, as each makes an event. Past it they are only forgotten,
/// and ended when the next event of theirs comes: a large directory that moves away does not
/// overflow the queue.
const UNWATCH_COUNT_MAX: usize = 1024;

/// Watches the directories of one tree.
///
/// One thread reads its events; any may add and forget.
#[derive(Debug)]
pub struct Watcher {
    inotify: Inotify,
    /// Where the root was opened.
    root: PathBuf,
    /// The watch of the directory that holds the root, and the root's name in it. A root that is
    /// removed while somebody has it open, as [`crate::disk::Root`] does, tells nothing itself.
    above: Option<(i32, OsString)>,
    /// Threads of a scan add while another forgets. The system calls are made under the lock, as
    /// one directory has one watch: else one thread could end what another was just given.
    watches: Mutex<Watches>,
    /// What the system's limit is taken for.
    #[cfg(test)]
    pub(crate) watch_count_max: usize,
}

#[derive(Debug, Default)]
struct Watches {
    by_descriptor: HashMap<i32, SyncPath>,
    by_path: BTreeMap<SyncPath, Watch>,
    round: u64,
}

#[derive(Clone, Copy, Debug)]
struct Watch {
    descriptor: i32,
    /// When it was last added, see [`Watcher::begin`].
    round: u64,
}

impl Watcher {
    /// What was done before [`Watcher::read`] is among what it gives.
    pub const TELLS_AT_ONCE: bool = true;

    /// A watcher for the tree whose root was opened at `root`; nothing is watched yet.
    ///
    /// # Errors
    /// [`WatchError::Instances`] if the system allows no more, or the process has too many files
    /// open.
    pub fn new(root: &Path) -> Result<Self, WatchError> {
        let inotify = Inotify::new().map_err(|errno| match errno {
            Errno::MFILE => WatchError::Instances,
            other => WatchError::Other(other),
        })?;
        // Without it (no permission, the root is `/`) a root that is removed is noticed when it is
        // read next.
        let above = std::fs::canonicalize(root).ok().and_then(|real| {
            let descriptor = inotify.watch_names(real.parent()?).ok()?;
            Some((descriptor, real.file_name()?.to_owned()))
        });
        Ok(Self {
            inotify,
            root: root.to_path_buf(),
            above,
            watches: Mutex::default(),
            #[cfg(test)]
            watch_count_max: usize::MAX,
        })
    }

    /// Watches the open directory that is at `path`, before it is listed. Again is no error; a
    /// directory that was watched at another path is at this one from now on.
    ///
    /// # Errors
    /// [`WatchError::Watches`] if the system allows no more.
    pub fn add(&self, path: &SyncPath, directory: &DirFd) -> Result<(), WatchError> {
        let mut watches = self.watches();
        #[cfg(test)]
        if watches.by_path.len() >= self.watch_count_max {
            return Err(WatchError::Watches);
        }
        let whole = self.root.join(path.as_path());
        match self.inotify.watch(directory, &whole, path.is_root()) {
            Ok(Some(descriptor)) => {
                if let Some(old) = watches.map(path, descriptor) {
                    self.inotify.unwatch(old);
                }
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(Errno::NOSPC) => Err(WatchError::Watches),
            Err(errno) => Err(WatchError::Other(errno)),
        }
    }

    /// Watches nothing at and below `path` any more.
    pub fn forget(&self, path: &SyncPath) {
        self.forget_in(&mut self.watches(), path, u64::MAX);
    }

    /// Number of directories that are watched.
    pub fn count(&self) -> usize {
        self.watches().by_path.len()
    }

    /// Begins a round: the scan of a directory and all below it. [`Watcher::finish`] ends it.
    pub(crate) fn begin(&self) -> u64 {
        let mut watches = self.watches();
        watches.round += 1;
        watches.round
    }

    /// Forgets what is at or below `path` and was not added since the round began: directories
    /// that went away while events were lost, or that the rules exclude by now.
    pub(crate) fn finish(&self, path: &SyncPath, round: u64) {
        self.forget_in(&mut self.watches(), path, round);
    }

    /// Gives `sink` all events that are queued now, in order, without waiting.
    ///
    /// Changes made before the call are among them. After [`Event::Overflow`] the whole tree has
    /// to be scanned with this watcher: that finds what was missed and corrects the watches.
    ///
    /// # Errors
    /// What the system says; it is not expected to say anything.
    pub fn read(&self, sink: &mut impl FnMut(Event)) -> io::Result<()> {
        // What comes meanwhile waits for the next call, or one that writes fast would keep us here.
        let mut left = self.inotify.queued_bytes()?;
        let mut buffer = vec![0; left.clamp(READ_BYTES_MIN, READ_BYTES_MAX)];
        while left > 0 {
            let count = self.inotify.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            left = left.saturating_sub(count);
            events(&buffer[..count]).filter_map(|raw| self.understand(&raw)).for_each(&mut *sink);
        }
        Ok(())
    }

    /// Waits until events are queued, `wake` is readable, or the time is over. It may also return
    /// for no reason. It reads nothing from `wake`.
    ///
    /// # Errors
    /// What the system says; it is not expected to say anything.
    pub fn wait(&self, wake: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut fds = [
            PollFd::new(&self.inotify, PollFlags::IN),
            PollFd::from_borrowed_fd(wake, PollFlags::IN),
        ];
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn watches(&self) -> MutexGuard<'_, Watches> {
        // After a panic in between, a watch has one path too many or none: events are lost or
        // double, and the periodic rescan finds what was missed.
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_in(&self, watches: &mut Watches, path: &SyncPath, round: u64) {
        for descriptor in watches.unmap_below(path, round).into_iter().take(UNWATCH_COUNT_MAX) {
            self.inotify.unwatch(descriptor);
        }
    }

    fn understand(&self, raw: &RawEvent<'_>) -> Option<Event> {
        if raw.mask.contains(ReadFlags::QUEUE_OVERFLOW) {
            return Some(Event::Overflow);
        }
        let is_above = self.above.as_ref().is_some_and(|(above, _)| *above == raw.descriptor);
        if is_above && self.is_about_root(raw) {
            return Some(Event::RootGone);
        }
        let mut watches = self.watches();
        if raw.mask.contains(ReadFlags::IGNORED) {
            watches.unmap(raw.descriptor);
            return None;
        }
        let Some(directory) = watches.by_descriptor.get(&raw.descriptor) else {
            if !is_above {
                self.inotify.unwatch(raw.descriptor);
            }
            return None;
        };
        if raw.name.is_empty() {
            let directory = directory.clone();
            return self.understand_self(&mut watches, directory, raw.mask);
        }
        // The kernel gives no name that is none, but that is not for us to rely on.
        let name = Name::parse(raw.name).ok()?;
        // Our own temporary files: what is moved out of one is an event of its own.
        if raw.name.starts_with(TEMP_PREFIX.as_bytes()) {
            return None;
        }
        let event = named_event(raw.mask, directory.join(&name))?;
        if let Event::Gone { path, is_directory: true } = &event {
            self.forget_in(&mut watches, path, u64::MAX);
        }
        Some(event)
    }

    /// An event of a watched directory itself.
    fn understand_self(
        &self,
        watches: &mut Watches,
        path: SyncPath,
        mask: ReadFlags,
    ) -> Option<Event> {
        let ended = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT;
        if path.is_root() {
            return mask.intersects(ended).then_some(Event::RootGone);
        }
        // What was hidden below the mounted file system is there now. All else of a directory is
        // told by the one above.
        mask.contains(ReadFlags::UNMOUNT).then(|| {
            self.forget_in(watches, &path, u64::MAX);
            Event::Appeared { path, is_directory: true, moved: true }
        })
    }

    fn is_about_root(&self, raw: &RawEvent<'_>) -> bool {
        let moves = ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO;
        let is_its_name = self.above.as_ref().is_some_and(|(_, name)| name.as_bytes() == raw.name);
        is_its_name && raw.mask.intersects(moves)
    }
}

fn named_event(mask: ReadFlags, path: SyncPath) -> Option<Event> {
    let is_directory = mask.contains(ReadFlags::ISDIR);
    let moved = mask.contains(ReadFlags::MOVED_TO);
    if moved || mask.contains(ReadFlags::CREATE) {
        Some(Event::Appeared { path, is_directory, moved })
    } else if mask.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
        Some(Event::Gone { path, is_directory })
    } else if mask.contains(ReadFlags::CLOSE_WRITE) {
        Some(Event::Written(path))
    } else if mask.contains(ReadFlags::MODIFY) {
        Some(Event::Writing(path))
    } else if mask.contains(ReadFlags::ATTRIB) {
        Some(Event::Attributes(path))
    } else {
        None
    }
}

impl Watches {
    /// Says that a descriptor is at a path; gives the one that was there before, which watches
    /// something that is no longer at any path.
    fn map(&mut self, path: &SyncPath, descriptor: i32) -> Option<i32> {
        let watch = Watch { descriptor, round: self.round };
        let before = self.by_path.insert(path.clone(), watch).map(|before| before.descriptor);
        if before == Some(descriptor) {
            return None;
        }
        if let Some(elsewhere) = self.by_descriptor.insert(descriptor, path.clone()) {
            self.by_path.remove(&elsewhere);
        }
        let before = before?;
        self.by_descriptor.remove(&before);
        Some(before)
    }

    fn unmap(&mut self, descriptor: i32) {
        if let Some(path) = self.by_descriptor.remove(&descriptor) {
            self.by_path.remove(&path);
        }
    }

    /// Forgets what is at or below `path` and was added before `round`.
    fn unmap_below(&mut self, path: &SyncPath, round: u64) -> Vec<i32> {
        let gone: Vec<i32> = self
            .by_path
            .range(path..)
            .take_while(|(at, _)| at.is_within(path))
            .filter(|(_, watch)| watch.round < round)
            .map(|(_, watch)| watch.descriptor)
            .collect();
        gone.iter().for_each(|descriptor| self.unmap(*descriptor));
        gone
    }
}

impl AsFd for Watcher {
    /// Readable while events are queued.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests;
