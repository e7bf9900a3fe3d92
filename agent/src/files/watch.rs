//! Watches the directories that a mount has listed.
//!
//! Each was opened when it was at a path, and a watch goes with the directory, not with the path.
//! So there is a relation between the two, of many to many: a directory can be seen at two places
//! (bind mounts), and while one is moved away and another one comes to its place, both have been
//! there. Whatever is told is looked at afterwards, so a pair too many costs a look and a pair too
//! few a change: a pair goes only when nothing was at its path after it was made, or when the
//! session forgets the path.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::fs::inotify::ReadFlags;
use rustix::io::Errno;

use super::mount::Stamps;
use super::place::is_ours;
use crate::disk::{DirFd, Root};
use crate::path::{Name, SyncPath};
use crate::watch::inotify::{Inotify, RawEvent, events};

/// Bytes of events that one system call reads.
const READ_BYTES: usize = 64 * 1024;
/// Most watches that are ended at once, as each makes an event. Past it they are only forgotten,
/// and ended when the next event of theirs comes.
const UNWATCH_COUNT_MAX: usize = 1024;

/// Most watches where the system does not tell how many the user may have.
const WATCH_COUNT_MAX: usize = 4096;

/// What an event means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// This name is to be looked at.
    Name {
        directory: Arc<SyncPath>,
        name: Name,
        /// The content may be another.
        content: bool,
        /// A directory came from elsewhere or went.
        moved: bool,
    },
    /// Nothing is known of what is at or below it.
    Below(SyncPath),
}

/// Watches directories, for one stream.
#[derive(Debug)]
pub(crate) struct Watch {
    inotify: Inotify,
    /// Where the root was opened.
    root: PathBuf,
    /// The watch of the directory that holds the root, and the root's name in it. A root that is
    /// removed while it is open tells nothing itself.
    above: Option<(i32, OsString)>,
    /// Wakes whoever waits for events.
    wake: OwnedFd,
    ended: AtomicBool,
    /// Most watches. They are the user's, and the synchronisation and the programs of the sandbox
    /// need theirs: half of all is theirs.
    count_max: usize,
    stamps: Arc<Stamps>,
    /// System calls are made under the lock: one directory has one watch, and one thread must not
    /// end what another was just given.
    pairs: Mutex<Pairs>,
}

/// Which directory was at which path.
#[derive(Debug, Default)]
struct Pairs {
    /// The watches, and a stamp of when each was added.
    by_path: BTreeMap<Arc<SyncPath>, Vec<(i32, u64)>>,
    by_watch: HashMap<i32, Vec<Arc<SyncPath>>>,
}

impl Watch {
    /// Nothing is watched yet.
    pub(super) fn new(root: &Root, stamps: Arc<Stamps>) -> Result<Self, Errno> {
        let inotify = Inotify::new()?;
        let above = std::fs::canonicalize(root.path()).ok().and_then(|real| {
            let watch = inotify.watch_names(real.parent()?).ok()?;
            Some((watch, real.file_name()?.to_owned()))
        });
        Ok(Self {
            inotify,
            root: root.path().to_path_buf(),
            above,
            wake: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            ended: AtomicBool::new(false),
            count_max: std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches")
                .ok()
                .and_then(|text| text.trim().parse::<usize>().ok())
                .map_or(WATCH_COUNT_MAX, |all| all / 2),
            stamps,
            pairs: Mutex::default(),
        })
    }

    /// Watches an open directory that is at `path`, before it is read. False if it cannot.
    pub(super) fn add(&self, path: &SyncPath, directory: &DirFd) -> bool {
        let mut pairs = self.pairs();
        if pairs.by_watch.len() >= self.count_max {
            return false;
        }
        let whole = self.root.join(path.as_path());
        match self.inotify.watch(directory, &whole, path.is_root()) {
            Ok(Some(watch)) => {
                pairs.add(path, watch, self.stamps.next());
                true
            }
            Ok(None) | Err(_) => false,
        }
    }

    /// Watches these paths no more, unless they were added after `before`.
    pub(super) fn forget(&self, paths: &[Vec<u8>], before: u64) {
        let mut pairs = self.pairs();
        let mut ended = 0;
        for path in paths.iter().filter_map(|path| SyncPath::parse(path).ok()) {
            for watch in pairs.remove(&path, before) {
                ended += 1;
                if ended <= UNWATCH_COUNT_MAX {
                    self.inotify.unwatch(watch);
                }
            }
        }
    }

    /// Nothing was at `path` after `before`: what was added earlier is not there.
    pub(super) fn prune(&self, path: &SyncPath, before: u64) {
        let mut pairs = self.pairs();
        let within: Vec<_> = pairs
            .by_path
            .range::<SyncPath, _>(path..)
            .map(|(at, _)| Arc::clone(at))
            .take_while(|at| at.is_within(path))
            .collect();
        let mut ended = 0;
        for at in within {
            for watch in pairs.remove(&at, before) {
                ended += 1;
                if ended <= UNWATCH_COUNT_MAX {
                    self.inotify.unwatch(watch);
                }
            }
        }
    }

    /// Waits until something happened, the watching ends, or the time is over.
    pub(super) fn wait(&self, timeout: Option<Duration>) {
        let timeout = timeout.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut fds =
            [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
        // Whatever it says, the caller looks.
        let _ = rustix::event::poll(&mut fds, timeout.as_ref());
    }

    /// Gives `sink` what the events mean that are queued now.
    pub(super) fn read(&self, sink: &mut dyn FnMut(Mark)) -> Result<(), Errno> {
        // What comes meanwhile waits for the next call, or one that writes fast would keep us here.
        let mut left = self.inotify.queued_bytes()?;
        let mut buffer = vec![0; READ_BYTES];
        while left > 0 {
            let count = self.inotify.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            left = left.saturating_sub(count);
            for event in events(buffer.get(..count).unwrap_or_default()) {
                self.understand(&event, sink);
            }
        }
        Ok(())
    }

    fn understand(&self, event: &RawEvent<'_>, sink: &mut dyn FnMut(Mark)) {
        let all = || Mark::Below(SyncPath::root());
        if event.mask.contains(ReadFlags::QUEUE_OVERFLOW) {
            return sink(all());
        }
        let above = self.above.as_ref().filter(|(watch, _)| *watch == event.descriptor);
        if above.is_some_and(|(_, name)| name.as_bytes() == event.name) {
            sink(all());
        }
        let mut pairs = self.pairs();
        if event.mask.contains(ReadFlags::IGNORED) {
            pairs.unwatched(event.descriptor);
            return;
        }
        let Some(paths) = pairs.by_watch.get(&event.descriptor).cloned() else {
            if above.is_none() {
                self.inotify.unwatch(event.descriptor);
            }
            return;
        };
        drop(pairs);
        for path in paths {
            match event.name {
                b"" => understand_self(&path, event.mask, sink),
                name if is_ours(name) => {}
                name => {
                    if let Ok(name) = Name::parse(name) {
                        sink(mark(path, name, event.mask));
                    }
                }
            }
        }
    }

    /// It watches no more.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        // It can only fail if the counter is full, and then it is readable.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    #[cfg(test)]
    pub(super) fn is_watched(&self, path: &str) -> bool {
        let path = SyncPath::parse(path.as_bytes()).expect("a path");
        self.pairs().by_path.contains_key(&path)
    }

    fn pairs(&self) -> MutexGuard<'_, Pairs> {
        // Nothing panics under the lock.
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn mark(directory: Arc<SyncPath>, name: Name, mask: ReadFlags) -> Mark {
    let comes_or_goes = ReadFlags::MOVED_TO | ReadFlags::MOVED_FROM | ReadFlags::DELETE;
    let moved = mask.contains(ReadFlags::ISDIR) && mask.intersects(comes_or_goes);
    let content = !mask.contains(ReadFlags::ATTRIB);
    Mark::Name { directory, name, content, moved }
}

/// An event of a watched directory itself.
fn understand_self(path: &SyncPath, mask: ReadFlags, sink: &mut dyn FnMut(Mark)) {
    let ended = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::ATTRIB;
    match path.split() {
        // What was hidden below a mounted file system is there now.
        _ if mask.contains(ReadFlags::UNMOUNT) => sink(Mark::Below(path.clone())),
        None if mask.intersects(ended) => sink(Mark::Below(SyncPath::root())),
        Some((parent, name)) if mask.contains(ReadFlags::ATTRIB) => {
            // The directory above tells the same, if it is watched.
            let directory = Arc::new(parent);
            sink(Mark::Name { directory, name, content: false, moved: false });
        }
        _ => {}
    }
}

impl Pairs {
    fn add(&mut self, path: &SyncPath, watch: i32, stamp: u64) {
        let path = match self.by_path.get_key_value(path) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::new(path.clone()),
        };
        let watches = self.by_path.entry(Arc::clone(&path)).or_default();
        match watches.iter_mut().find(|(known, _)| *known == watch) {
            Some((_, when)) => *when = stamp,
            None => {
                watches.push((watch, stamp));
                self.by_watch.entry(watch).or_default().push(path);
            }
        }
    }

    /// Removes what was added to a path before; gives the watches that are at no path any more.
    fn remove(&mut self, path: &SyncPath, before: u64) -> Vec<i32> {
        let Some(watches) = self.by_path.get_mut(path) else { return Vec::new() };
        let mut removed = Vec::new();
        watches.retain(|(watch, when)| {
            let stays = *when >= before;
            if !stays {
                removed.push(*watch);
            }
            stays
        });
        if watches.is_empty() {
            self.by_path.remove(path);
        }
        removed.retain(|watch| {
            let Some(paths) = self.by_watch.get_mut(watch) else { return false };
            paths.retain(|at| **at != *path);
            paths.is_empty() && self.by_watch.remove(watch).is_some()
        });
        removed
    }

    /// The kernel watches it no more.
    fn unwatched(&mut self, watch: i32) {
        for path in self.by_watch.remove(&watch).unwrap_or_default() {
            if let Some(watches) = self.by_path.get_mut(&path) {
                watches.retain(|(known, _)| *known != watch);
                if watches.is_empty() {
                    self.by_path.remove(&path);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
