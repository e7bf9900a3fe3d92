//! What Linux has for a root and its directories: `openat2`, mere places, `getdents`, `syncfs`.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, RawDir, ResolveFlags, SeekFrom, Stat};
use rustix::io::Errno;

use super::{DirFd, walk_below};
use crate::path::{Name, SyncPath};

/// How a directory is opened for what is done with its names, not for listing: it needs no
/// permission to be read.
pub(super) const PLACE: OFlags = OFlags::PATH;
/// Reading is no access. Only the owner and root may ask for that.
pub(super) const UNSEEN: OFlags = OFlags::NOATIME;

/// Buffer for one `getdents` call, bytes: some 600 names of usual length.
pub(super) const LIST_BUFFER_BYTES: usize = 32 * 1024;

/// How often `openat2` is asked again when it says that the tree moved under it (EAGAIN). Past it
/// the error goes to the caller, who reports a problem of that path.
const OPEN_RETRY_COUNT_MAX: u32 = 16;

/// How paths below a root are found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver {
    has_openat2: bool,
    /// Whether it finds only what the kernel has at hand, see [`super::Root::near`].
    is_near: bool,
}

impl Resolver {
    /// What can be had for the root that was opened.
    pub(super) fn of(root: &OwnedFd) -> Self {
        let flags = PLACE | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let has_openat2 = !matches!(
            rustix::fs::openat2(root, c".", flags, Mode::empty(), resolve_flags()),
            Err(Errno::NOSYS | Errno::PERM)
        );
        Self { has_openat2, is_near: false }
    }

    /// The same for whoever must not wait; nothing where there is no such way.
    pub(super) fn near(self) -> Option<Self> {
        self.has_openat2.then_some(Self { is_near: true, ..self })
    }

    /// See [`Resolver::near`].
    pub(super) fn is_near(self) -> bool {
        self.is_near
    }

    /// Opens what is at `path`; no symbolic link is followed, and nothing outside is reached.
    pub(super) fn open(
        self,
        root: &OwnedFd,
        path: &SyncPath,
        flags: OFlags,
    ) -> Result<OwnedFd, Errno> {
        if !self.has_openat2 {
            return walk_below(root, path, flags);
        }
        let target = if path.is_root() { Path::new(".") } else { path.as_path() };
        let mut tries = 0;
        if self.is_near {
            let resolve = resolve_flags() | ResolveFlags::CACHED | ResolveFlags::NO_XDEV;
            return rustix::fs::openat2(root, target, flags, Mode::empty(), resolve)
                .map_err(|errno| if errno == Errno::AGAIN { Errno::XDEV } else { errno });
        }
        loop {
            match rustix::fs::openat2(root, target, flags, Mode::empty(), resolve_flags()) {
                Err(Errno::AGAIN | Errno::INTR) if tries < OPEN_RETRY_COUNT_MAX => tries += 1,
                other => return other,
            }
        }
    }

    #[cfg(test)]
    pub(super) fn without_openat2(self) -> Self {
        Self { has_openat2: false, ..self }
    }
}

fn resolve_flags() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

/// Gives `each` all names in a directory, from the first on. `buffer` is scratch space.
pub(super) fn each_entry(
    directory: &OwnedFd,
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(&CStr, FileType),
) -> Result<(), Errno> {
    buffer.clear();
    buffer.reserve(LIST_BUFFER_BYTES);
    rustix::fs::seek(directory, SeekFrom::Start(0))?;
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        each(entry.file_name(), entry.file_type());
    }
    Ok(())
}

/// Whether `name`, which is there, is spelled exactly so in the directory: a name has one spelling.
/// (Directories of ext4 and tmpfs can be made to think otherwise. What two spellings do there is seen by
/// the next scan.)
pub(super) fn is_spelled(_directory: &OwnedFd, _name: &Name) -> bool {
    true
}

/// The number of the device that something is on.
pub(super) fn device_of(stat: &Stat) -> u64 {
    stat.st_dev
}

/// The file system has no such way to rename.
pub(super) fn is_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::INVAL | Errno::NOSYS)
}

/// Makes everything written to the file system of an open directory durable.
pub(super) fn sync(directory: &DirFd) -> Result<(), Errno> {
    rustix::fs::syncfs(directory)
}
