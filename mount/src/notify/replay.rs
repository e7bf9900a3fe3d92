//! Events for those who watch the mount.
//!
//! The kernel tells watchers (`inotify`) of what is done through it, and of nothing that a filesystem
//! says is different. So what changed in the source is done once more on the mount, by one thread of
//! ours, whose requests are answered without the source ([`super::local`]): a file that is there is
//! made, one that is gone removed, one whose content is different truncated to the size that it has.
//!
//! What the user who mounts may not do cannot be told: then nobody hears of it. Nothing waits for it.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::{Local, Task, alone};
use crate::source::FileKind;

/// Events that wait. Past it they are left out: whoever watches a tree in which that much happens
/// reads it again.
const WAITING_COUNT_MAX: usize = 500;

/// How often it is said that events are left out.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// One event.
#[derive(Clone, Debug)]
pub(crate) struct Replay {
    /// Where, below the root.
    pub(crate) path: PathBuf,
    /// What kind of object it is.
    pub(crate) kind: FileKind,
    /// Its permission bits.
    pub(crate) mode: u16,
    /// Its size.
    pub(crate) size: u64,
    /// What is to be done.
    pub(crate) act: Act,
}

/// What is done so that an event happens.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// It appears, or is gone.
    Task(Task),
    /// Its content is different.
    Modify,
    /// Its attributes are different.
    Touch,
}

/// Where events go.
pub(crate) struct Replayer {
    to: mpsc::Sender<Replay>,
    waiting: Arc<AtomicUsize>,
    has_ended: Arc<AtomicBool>,
    /// When it was said last that events were left out.
    said: Mutex<Option<Instant>>,
    thread: JoinHandle<()>,
}

impl Replayer {
    /// Starts the thread, for the mount at `at` that has this device. `done` is told of each event that has
    /// happened, or will not.
    pub(crate) fn start(
        at: &Path,
        device: (u32, u32),
        local: Arc<Local>,
        done: impl Fn(&Replay) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (to, from) = mpsc::channel::<Replay>();
        let mut root = Root { at: at.to_owned(), device, open: None };
        let (waiting, has_ended) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ended) = (Arc::clone(&waiting), Arc::clone(&has_ended));
        let work = move || {
            if let Err(error) = alone::share_no_files() {
                // Better no events than a process that cannot be killed.
                tracing::warn!(%error, "those who watch a mount hear of nothing");
                ended.store(true, Ordering::Release);
            }
            let _begun = local.begin();
            for replay in from {
                if !ended.load(Ordering::Acquire) {
                    let task = match &replay.act {
                        Act::Task(task) => task.clone(),
                        Act::Modify | Act::Touch => Task::Touch,
                    };
                    local.set(Some(task));
                    let done = root.open().and_then(|root| carry_out(root, &replay));
                    if let Err(error) = done {
                        tracing::debug!(%error, path = %replay.path.display(), "no event");
                    }
                    local.set(None);
                }
                done(&replay);
                if count.fetch_sub(1, Ordering::AcqRel) == 1 {
                    root.close();
                }
            }
        };
        let thread = std::thread::Builder::new().name("mount-events".to_owned()).spawn(work)?;
        Ok(Self { to, waiting, has_ended, said: Mutex::default(), thread })
    }

    /// Makes an event happen, unless too many wait. Says whether it will.
    pub(crate) fn send(&self, replay: Replay) -> bool {
        if self.waiting.load(Ordering::Acquire) >= WAITING_COUNT_MAX {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            if said.is_none_or(|at| at.elapsed() > SAY_EVERY) {
                *said = Some(Instant::now());
                tracing::info!("those who watch a mount do not hear of everything: it is too much");
            }
            return false;
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.to.send(replay).is_ok()
    }

    /// Events that are still to happen.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Ends the thread, which is still to be waited for: events that wait do not happen any more.
    pub(crate) fn end(self) -> JoinHandle<()> {
        self.has_ended.store(true, Ordering::Release);
        drop(self.to);
        self.thread
    }
}

/// The root of the mount. It is open while there is something to do there, and no longer: whoever
/// wants to unmount it would be told that it is in use.
struct Root {
    at: PathBuf,
    device: (u32, u32),
    open: Option<OwnedFd>,
}

impl Root {
    fn open(&mut self) -> Result<&OwnedFd, Errno> {
        if self.open.is_none() {
            let (root, device) = open_root(&self.at)?;
            // Something else may be mounted there by now.
            if device != self.device {
                return Err(Errno::XDEV);
            }
            self.open = Some(root);
        }
        self.open.as_ref().ok_or(Errno::BADF)
    }

    fn close(&mut self) {
        self.open = None;
    }
}

/// Opens a mount's root, and says which device it is, without asking whoever serves it.
fn open_root(at: &Path) -> Result<(OwnedFd, (u32, u32)), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(at, flags, Mode::empty())?;
    let how = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let seen = rustix::fs::statx(&root, "", how, StatxFlags::empty())?;
    Ok((root, (seen.stx_dev_major, seen.stx_dev_minor)))
}

fn carry_out(root: &OwnedFd, replay: &Replay) -> Result<(), Errno> {
    // Nobody can make or remove the root, and whoever watches it hears of what is in it.
    let Some(name) = replay.path.file_name() else { return Ok(()) };
    let directory = directory(root, replay.path.parent().unwrap_or(Path::new("")))?;
    match &replay.act {
        Act::Task(Task::Make(..)) => make(&directory, name, replay),
        Act::Task(Task::Remove(..)) => {
            let is_directory = replay.kind == FileKind::Directory;
            let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            rustix::fs::unlinkat(&directory, name, flags)
        }
        Act::Task(Task::Touch) | Act::Touch => {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let object = rustix::fs::openat(&directory, name, flags, Mode::empty())?;
            // This object, and nothing that it may point to.
            rustix::fs::chmod(format!("/proc/thread-self/fd/{}", object.as_raw_fd()), mode(replay))
        }
        Act::Modify if replay.kind != FileKind::File => Ok(()),
        Act::Modify if is_program(replay) => {
            let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
            let same = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
            // To the kernel this is a change of the content, too.
            let times = Timestamps { last_access: same, last_modification: now };
            rustix::fs::utimensat(&directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        }
        Act::Modify => {
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let file = rustix::fs::openat(&directory, name, flags, Mode::empty())?;
            rustix::fs::ftruncate(&file, replay.size)
        }
    }
}

/// A directory on the mount. No link is followed, and nothing that is mounted there gone into: what
/// is done here must not be done anywhere else.
fn directory(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if path.as_os_str().is_empty() {
        return rustix::fs::openat(root, ".", flags, Mode::empty());
    }
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(root, path, flags, Mode::empty(), inside)
}

fn make(directory: &OwnedFd, name: &OsStr, replay: &Replay) -> Result<(), Errno> {
    let mode = mode(replay);
    match replay.kind {
        FileKind::File if is_program(replay) => {
            rustix::fs::mknodat(directory, name, FileType::RegularFile, mode, 0)
        }
        FileKind::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            rustix::fs::openat(directory, name, flags, mode).map(drop)
        }
        FileKind::Directory => rustix::fs::mkdirat(directory, name, mode),
        // The target is not looked at: the link is there.
        FileKind::Symlink => rustix::fs::symlinkat("-", directory, name),
        FileKind::Fifo => rustix::fs::mknodat(directory, name, FileType::Fifo, mode, 0),
        FileKind::Socket => rustix::fs::mknodat(directory, name, FileType::Socket, mode, 0),
        // Only root makes devices, and nobody waits for one to appear.
        FileKind::BlockDevice | FileKind::CharDevice => Ok(()),
    }
}

/// Nobody can execute a file that is open for writing, and somebody may want to do so just now: such
/// files are not opened, even if then nobody hears that they are closed.
fn is_program(replay: &Replay) -> bool {
    replay.kind == FileKind::File && replay.mode & 0o111 != 0
}

fn mode(replay: &Replay) -> Mode {
    Mode::from_raw_mode(u32::from(replay.mode))
}
