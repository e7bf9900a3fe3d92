//! A filesystem that is mounted: from the first request of the kernel to the last.

mod attach;
mod events;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle as Runtime;
use tokio::sync::watch;

pub use crate::filesystem::Owners;
use crate::filesystem::{Filesystem, LISTED_COUNT_MAX, Policy};
use crate::fuse::{Activity, Adapter, FuserKernel, MountFiles};
use crate::notify::{Local, Outbox, Replay};
use crate::source::{Answer, Source, SourceError};
use crate::system::{self, Holder, Own};
use attach::{Attach, attach};
use events::Events;

/// Threads that take requests from the kernel. One is as fast as more (measured); a second one is
/// there in case that the first is held up.
const THREAD_COUNT: usize = 2;

/// How much longer than the source's own deadline a request may take, before it is given up.
const GRACE: Duration = Duration::from_secs(5);

/// How long an unmount waits for the kernel's last request.
const LAST_REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// How it is mounted.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where: an empty directory, by its canonical path. It is refused if it is another one by then.
    pub at: PathBuf,
    /// What the system lists it as, beginning with [`system::NAME_PREFIX`].
    pub name: String,
    /// The absolute path of the root in the source: links to below it are followed within the mount.
    pub source_root: PathBuf,
    /// Anything may be changed.
    pub writable: bool,
    /// Whose the files are.
    pub owners: Owners,
    /// Users other than the one who mounts may use it.
    pub allow_other: bool,
    /// Symbolic links are shown as they are, wherever they lead to.
    pub raw_symlinks: bool,
    /// What changes in the source is told to those who watch the mount.
    pub replay: bool,
    /// How long a request of the source can take.
    pub deadline: Duration,
}

/// Why it cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The system has no `/dev/fuse`.
    #[error("this system cannot mount filesystems of programs: there is no `/dev/fuse`")]
    NoDevice,
    /// Only root mounts without it.
    #[error("`fusermount3` is not installed")]
    NoFusermount,
    /// It is not allowed to whoever asks.
    #[error("mounting is not allowed: {0}")]
    NotAllowed(String),
    /// The root of the source cannot be looked at.
    #[error("the directory cannot be looked at in the sandbox")]
    Source(#[source] SourceError),
    /// Anything else.
    #[error("the system refuses to mount")]
    Other(#[from] io::Error),
}

impl MountError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoDevice => {
                "load the kernel's module with `modprobe fuse`; in a container, start it with `--device /dev/fuse --cap-add SYS_ADMIN`"
            }
            Self::NoFusermount => "install the package `fuse3`",
            Self::NotAllowed(why) if why.contains("user_allow_other") => {
                "add the line `user_allow_other` to /etc/fuse.conf, or leave out `--allow-other`"
            }
            Self::NotAllowed(_) => "ask for access to `/dev/fuse`, or mount somewhere of your own",
            Self::Source(_) | Self::Other(_) => return None,
        };
        Some(hint.to_owned())
    }
}

/// What to do if a mount that is to go is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// It stays.
    Refuse,
    /// It goes from its place; those who use it keep what they have open.
    Detach,
}

/// Why it is still mounted, or what went wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// It is in use, by these as far as can be told.
    #[error("it is in use")]
    InUse(Vec<Holder>),
    /// Something that was written is not in the source and never will be. It is told once: asked
    /// again, it is unmounted.
    #[error(transparent)]
    Unsettled(Lost),
    /// Anything else.
    #[error("the system refuses to unmount")]
    Other(#[from] io::Error),
}

/// Something that was written is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what was written to the mount is lost: {why}")]
pub struct Lost {
    /// What the source said.
    pub why: SourceError,
    /// It was found out too late: it is unmounted.
    pub unmounted: bool,
}

/// What a mount keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Files that are open.
    pub open_files: usize,
    /// Bytes that were written and are not in the source.
    pub dirty_bytes: u64,
    /// Files and directories that are known.
    pub nodes: usize,
}

/// A filesystem that is mounted. Dropped, it goes from its place, in use or not.
pub struct Mounted {
    filesystem: Arc<dyn Served>,
    at: PathBuf,
    own: Own,
    /// It went from its place through us: its numbers may be another's.
    taken: Arc<AtomicBool>,
    gone: watch::Receiver<bool>,
    outbox: Arc<Outbox>,
    events: Events,
}

/// What is needed of a filesystem whatever its source is.
trait Served: Send + Sync {
    fn settle(&self) -> std::pin::Pin<Box<dyn Future<Output = Answer<()>> + Send + '_>>;
    fn usage(&self) -> Usage;
    fn event_is_over(&self, replay: &Replay);
}

impl<S: Source> Served for Filesystem<S> {
    fn settle(&self) -> std::pin::Pin<Box<dyn Future<Output = Answer<()>> + Send + '_>> {
        Box::pin(self.contents().settle_all())
    }

    fn usage(&self) -> Usage {
        let (open_files, dirty_bytes, nodes) = self.usage();
        Usage { open_files, dirty_bytes, nodes }
    }

    fn event_is_over(&self, replay: &Replay) {
        self.event_is_over(replay.gone());
    }
}

impl Mounted {
    /// Mounts. Has to be called within a runtime, which carries out what requests wait for.
    ///
    /// # Errors
    /// See [`MountError`].
    pub async fn new<S: Source>(source: Arc<S>, options: Options) -> Result<Self, MountError> {
        let runtime = Runtime::current();
        let policy = Policy {
            writable: options.writable,
            owners: options.owners,
            me: (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()),
            raw_symlinks: options.raw_symlinks,
            source_root: options.source_root.clone(),
            listed_count_max: LISTED_COUNT_MAX,
        };
        let outbox = Arc::new(Outbox::default());
        let filesystem = Filesystem::new(source, policy, Arc::clone(&outbox), runtime.clone());
        let filesystem = filesystem.await.map_err(MountError::Source)?;
        let served = Arc::clone(&filesystem);
        let begun = runtime.spawn_blocking(move || begin(&filesystem, &options, outbox));
        let begun = begun.await.map_err(io::Error::other)??;
        served.warm_up();
        Ok(begun)
    }

    /// Returns when it was unmounted, by whomever.
    pub async fn gone(&self) {
        let mut gone = self.gone.clone();
        // The sender goes with the last request.
        let _ = gone.wait_for(|gone| *gone).await;
    }

    /// Where it was mounted. It may be somewhere else by now.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Returns when all that was written so far is in the source.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn settle(&self) -> Result<(), SourceError> {
        self.filesystem.settle().await
    }

    /// What it keeps.
    pub fn usage(&self) -> Usage {
        self.filesystem.usage()
    }

    /// Waits until the kernel was told of everything that the source told so far, and those who watch
    /// the mount heard of it, at most until `deadline`. Says whether that is so.
    #[doc(hidden)]
    pub async fn told(&self, deadline: Instant) -> bool {
        let (outbox, events) = (Arc::clone(&self.outbox), self.events.clone());
        let told = tokio::task::spawn_blocking(move || {
            let mut told = outbox.drained(deadline);
            while told && events.waiting() > 0 {
                std::thread::yield_now();
                told = Instant::now() < deadline;
            }
            told
        });
        told.await.unwrap_or(false)
    }

    /// Takes it from its place, whoever uses it, and whatever of what was written is still on its way.
    /// Nothing is done if it is gone.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn detach(&self) -> io::Result<()> {
        let taking = self.taking();
        let taken = tokio::task::spawn_blocking(move || taking.take(Busy::Detach));
        taken.await.map_err(io::Error::other)?
    }

    /// Unmounts, after what was written is in the source.
    ///
    /// # Errors
    /// See [`UnmountError`]; it is mounted still, but for [`Lost::unmounted`].
    pub async fn unmount(&self, busy: Busy) -> Result<(), UnmountError> {
        if let Err(why) = self.settle().await {
            match busy {
                Busy::Refuse => {
                    return Err(UnmountError::Unsettled(Lost { why, unmounted: false }));
                }
                Busy::Detach => tracing::warn!(error = %why, "what was written to a mount is lost"),
            }
        }
        let taking = self.taking();
        tokio::task::spawn_blocking(move || taking.unmount(busy))
            .await
            .map_err(io::Error::other)??;
        // One that is detached goes on for those who use it.
        let _ = tokio::time::timeout(LAST_REQUEST_WITHIN, self.gone()).await;
        // Of a file that was mapped the last data comes when it is let go: perhaps just now.
        match self.settle().await {
            Ok(()) => Ok(()),
            Err(why) => Err(UnmountError::Unsettled(Lost { why, unmounted: true })),
        }
    }

    fn taking(&self) -> Taking {
        Taking {
            own: self.own,
            is_gone: *self.gone.borrow(),
            taken: Arc::clone(&self.taken),
            events: self.events.clone(),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Nothing is waited for: this may be a thread that others need.
        self.events.halt();
        if let Err(error) = self.taking().take(Busy::Detach) {
            tracing::warn!(%error, at = %self.at.display(), "a mount cannot be detached");
        }
    }
}

/// What it takes to take a mount away, for a thread that may wait.
struct Taking {
    own: Own,
    is_gone: bool,
    taken: Arc<AtomicBool>,
    events: Events,
}

impl Taking {
    fn unmount(self, busy: Busy) -> Result<(), UnmountError> {
        // Our own thread that makes events happen uses it, too.
        self.events.stop();
        match self.take(busy) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.events.start();
                if error.kind() != io::ErrorKind::ResourceBusy {
                    return Err(error.into());
                }
                let at = self.own.place().ok().flatten();
                let holders = at.map(|at| system::holders(&at)).unwrap_or_default();
                Err(UnmountError::InUse(holders))
            }
        }
    }

    fn take(&self, busy: Busy) -> io::Result<()> {
        if self.taken.load(Ordering::Acquire) {
            return Ok(());
        }
        match busy {
            _ if self.is_gone => self.own.bury()?,
            Busy::Refuse => self.own.unmount()?,
            Busy::Detach => self.own.detach()?,
        }
        self.taken.store(true, Ordering::Release);
        Ok(())
    }
}

/// Attaches the filesystem and starts the threads that serve it.
fn begin<S: Source>(
    filesystem: &Arc<Filesystem<S>>,
    options: &Options,
    outbox: Arc<Outbox>,
) -> Result<Mounted, MountError> {
    let at = options.at.canonicalize()?;
    if at != options.at {
        let text = format!("`{}` is not where it was any more", options.at.display());
        return Err(MountError::Other(io::Error::other(text)));
    }
    let (name, allow_other) = (options.name.as_str(), options.allow_other);
    let device = attach(&Attach { at: &at, name, allow_other })?;
    let own = Own::at(&at)?;
    let (local, activity) = (Arc::new(Local::default()), Arc::new(Activity::default()));
    let deadline = options.deadline + GRACE;
    let adapter =
        Adapter::new(Arc::clone(filesystem), Arc::clone(&local), Arc::clone(&activity), deadline);
    let acl = if options.allow_other { fuser::SessionACL::All } else { fuser::SessionACL::Owner };
    let mut config = fuser::Config::default();
    config.n_threads = Some(THREAD_COUNT);
    let detach = |error| {
        // The first error is the one to tell.
        let _ = own.detach();
        error
    };
    let session = fuser::Session::from_fd(adapter, device, acl, config).map_err(detach)?;
    let notifier = session.notifier();
    let session = session.spawn().map_err(detach)?;

    let served = Arc::clone(filesystem) as Arc<dyn Served>;
    let events = Events::new(options.replay, &at, own.device(), local, served);
    events.start();
    let files =
        MountFiles { filesystem: Arc::clone(filesystem), activity, replayer: events.replayer() };
    let notices = Arc::clone(&outbox);
    std::thread::Builder::new()
        .name("mount-notices".to_owned())
        .spawn(move || notices.run(&FuserKernel(notifier), &files))
        .map_err(detach)?;

    let (went, gone) = watch::channel(false);
    let (last, ends) = (Arc::clone(&outbox), events.clone());
    std::thread::Builder::new()
        .name("mount-end".to_owned())
        .spawn(move || {
            if let Err(error) = session.join() {
                tracing::debug!(%error, "the kernel's requests end");
            }
            last.end();
            ends.stop();
            // Its connection may have been ended while it is mounted.
            if let Err(error) = own.bury() {
                tracing::warn!(%error, "a mount that nobody serves any more cannot be detached");
            }
            went.send_replace(true);
        })
        .map_err(detach)?;
    let (filesystem, taken) = (Arc::clone(filesystem) as Arc<dyn Served>, Arc::default());
    Ok(Mounted { filesystem, at, own, taken, gone, outbox, events })
}
