//! A mount over a temporary directory, and accesses to it that end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use skync_mount::testing::DirectorySource;
use skync_mount::{Busy, MountError, Mounted, Options, Owners};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Longer than anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A mount, what is under it, and the runtime that serves it.
pub(crate) struct World {
    runtime: Runtime,
    mounted: Option<Mounted>,
    pub(crate) source: DirectorySource,
    directory: TempDir,
}

/// Says that a test is skipped, or panics if it must not be.
fn skip(why: &str) {
    let required = std::env::var("SKYNC_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|part| part == "fuse"), "fuse is required, but {why}");
    eprintln!("skipped: {why}");
}

/// Whether there is a kernel to mount with.
pub(crate) fn has_fuse() -> bool {
    match File::options().read(true).write(true).open("/dev/fuse") {
        Ok(_) => true,
        Err(error) => {
            skip(&format!("/dev/fuse cannot be opened: {error}"));
            false
        }
    }
}

impl World {
    /// A mount over an empty directory that `fill` fills first. Nothing: there is no kernel for it.
    pub(crate) fn new(fill: impl FnOnce(&Path)) -> Option<Self> {
        Self::with(fill, |_| {})
    }

    /// The same, mounted in another way.
    pub(crate) fn with(
        fill: impl FnOnce(&Path),
        change: impl FnOnce(&mut Options),
    ) -> Option<Self> {
        if !has_fuse() {
            return None;
        }
        // A mount point is named by its canonical path.
        let place = std::env::temp_dir().canonicalize().unwrap();
        let directory = TempDir::new_in(place).unwrap();
        std::fs::create_dir(directory.path().join("source")).unwrap();
        std::fs::create_dir(directory.path().join("mount")).unwrap();
        fill(&directory.path().join("source"));
        let source = DirectorySource::new(&directory.path().join("source")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let mut world = Self { runtime, mounted: None, source, directory };
        world.mount(change);
        Some(world)
    }

    /// Mounts.
    pub(crate) fn mount(&mut self, change: impl FnOnce(&mut Options)) {
        self.try_mount(change).unwrap();
    }

    /// Mounts. The mount that there was before is dropped after that.
    pub(crate) fn try_mount(
        &mut self,
        change: impl FnOnce(&mut Options),
    ) -> Result<(), MountError> {
        let mut options = Options {
            at: self.directory.path().join("mount"),
            name: "skync:test".to_owned(),
            source_root: self.directory.path().join("source"),
            writable: true,
            owners: Owners::Mine,
            allow_other: false,
            raw_symlinks: false,
            replay: true,
            deadline: Duration::from_secs(30),
        };
        change(&mut options);
        let mounted = Mounted::new(Arc::new(self.source.clone()), options);
        self.mounted = Some(self.runtime.block_on(mounted)?);
        Ok(())
    }

    /// Unmounts, as somebody who finds it not in use.
    pub(crate) fn unmount(&mut self) {
        let mounted = self.mounted.take().unwrap();
        self.runtime.block_on(mounted.unmount(Busy::Refuse)).unwrap();
    }

    pub(crate) fn mounted(&self) -> &Mounted {
        self.mounted.as_ref().unwrap()
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// A path below the mount point.
    pub(crate) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join("mount").join(path)
    }

    /// A path in the source.
    pub(crate) fn under(&self, path: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join("source").join(path)
    }

    /// Another directory beside the two.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Changes the source as another process would, and waits until the kernel was told.
    pub(crate) fn outside<T>(&self, paths: &[&str], act: impl FnOnce(&Path) -> T) -> T {
        let done = self.source.outside(paths, act);
        self.told();
        done
    }

    /// Waits until the kernel was told of everything.
    pub(crate) fn told(&self) {
        let told = self.mounted().told(Instant::now() + DEADLINE);
        assert!(self.runtime.block_on(told), "the kernel was not told in time");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The mount goes from its place before the directory is removed: never through the mount.
        drop(self.mounted.take());
    }
}

/// Does something in a thread, and panics if it does not end.
#[track_caller]
pub(crate) fn within<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _ = tell.send(act());
    });
    match told.recv_timeout(DEADLINE) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the mount does not answer"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().unwrap_err())
        }
    }
}

/// Reads a file through the mount.
#[track_caller]
pub(crate) fn read(path: PathBuf) -> std::io::Result<String> {
    within(move || std::fs::read_to_string(path))
}

/// The names in a directory, sorted.
#[track_caller]
pub(crate) fn names(path: PathBuf) -> Vec<String> {
    within(move || {
        let entries = std::fs::read_dir(path).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    })
}

/// Waits for a condition.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}: not in time");
        std::thread::yield_now();
    }
}
