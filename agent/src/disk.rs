//! The only place that touches synchronised files (invariant I7).
//!
//! Everything below a root is reached from a directory descriptor of that root, and the kernel is
//! told not to follow a symbolic link or `..` on the way (`openat2`), so whatever another process
//! swaps in meanwhile, no call of ours reads or writes outside. Where `openat2` is missing (a
//! kernel before 5.6, a seccomp filter that answers EPERM, or another system), the path is walked one
//! name at a time without following links, which is slower and as safe.
//!
//! What the systems do differently is in `linux` and `macos`, which have the same functions.
//!
//! This module decides nothing: what may be replaced or removed is [`crate::transition`]'s matter.

mod directory;
mod error;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
mod object;

pub use directory::{DirFd, Kind, Meta, set_mode, set_mtime};
pub(crate) use error::reason;
pub use error::{DiskError, DiskErrorKind};
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
use macos as system;
#[cfg(target_os = "linux")]
pub(crate) use object::{Attributes, Made, SetTime, find_data, set_owner, set_times};

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::path::{Name, SyncPath};

/// Windows in which files are read and copied, bytes: large enough that system calls do not count,
/// small enough for a thread to have its own.
pub(crate) const READ_WINDOW_BYTES: usize = 256 * 1024;

/// The root of a synchronised tree.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
    device: u64,
    inode: u64,
    umask: u16,
    resolver: system::Resolver,
}

impl Root {
    /// Names that differ only in their Unicode form are the same file, whatever volume it is.
    pub const FOLDS_FORM: bool = cfg!(target_os = "macos");

    /// Opens an existing directory as a root. Links in `path` itself are followed: the user chose
    /// it. A relative path starts at the working directory.
    ///
    /// # Errors
    /// [`DiskErrorKind::Missing`], [`DiskErrorKind::NotADirectory`], or what the system says.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let fail = |errno| DiskError::at("open the root", path, errno);
        let absolute = std::path::absolute(path)
            .map_err(|e| fail(Errno::from_io_error(&e).unwrap_or(Errno::INVAL)))?;
        let flags = system::PLACE | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, &absolute, flags, Mode::empty()).map_err(fail)?;
        let stat = rustix::fs::fstat(&fd).map_err(fail)?;
        Ok(Self {
            path: absolute,
            device: system::device_of(&stat),
            inode: stat.st_ino,
            umask: current_umask(),
            resolver: system::Resolver::of(&fd),
            fd,
        })
    }

    /// Opens a root, making it and its parents if they are not there; says whether it was made.
    ///
    /// # Errors
    /// As [`Root::open`].
    pub fn create(path: &Path) -> Result<(Self, bool), DiskError> {
        match Self::open(path) {
            Ok(root) => return Ok((root, false)),
            Err(error) if error.kind() == DiskErrorKind::Missing => {}
            Err(error) => return Err(error),
        }
        std::fs::create_dir_all(path).map_err(|e| {
            DiskError::at("make the root", path, Errno::from_io_error(&e).unwrap_or(Errno::IO))
        })?;
        Ok((Self::open(path)?, true))
    }

    /// The root's absolute path, for people and for comparing; files are never opened by it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The device that the root is on. Directories below may be on others.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Whether both are the same directory.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// The process's file mode creation mask as it was when the root was opened.
    pub fn umask(&self) -> u16 {
        self.umask
    }

    /// Says whether the root's path still leads to the directory that was opened. A root that was
    /// removed or moved away reads as an empty one through its descriptor, which must not be taken
    /// for a user who deleted everything (invariant I10).
    ///
    /// # Errors
    /// [`DiskErrorKind::Missing`] if it is gone or replaced.
    pub fn check_in_place(&self) -> Result<(), DiskError> {
        let fail = |errno| DiskError::at("find the root", &self.path, errno);
        let stat = rustix::fs::stat(&self.path).map_err(fail)?;
        if (system::device_of(&stat), stat.st_ino) == (self.device, self.inode) {
            Ok(())
        } else {
            Err(fail(Errno::NOENT))
        }
    }

    /// Opens the directory at `path` for listing and for changes in it.
    ///
    /// # Errors
    /// What the system says; a symbolic link on the way is refused.
    pub fn open_directory(&self, path: &SyncPath) -> Result<DirFd, DiskError> {
        self.open_to_list(path).map_err(|errno| DiskError::new("open", path, errno))
    }

    /// As [`Root::open_directory`], with the bare number of an error.
    pub(crate) fn open_to_list(&self, path: &SyncPath) -> Result<DirFd, Errno> {
        unseen(OFlags::RDONLY | OFlags::DIRECTORY, |flags| self.open_below(path, flags))
            .map(DirFd::new)
    }

    /// Opens the file at `path` for reading. It does not block on a FIFO; what was opened may not
    /// be a regular file, which the caller asks [`Meta::of`].
    ///
    /// # Errors
    /// What the system says; a symbolic link on the way or at the end is refused.
    pub fn open_file(&self, path: &SyncPath) -> Result<File, DiskError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        unseen(flags, |flags| self.open_below(path, flags))
            .map(File::from)
            .map_err(|errno| DiskError::new("open", path, errno))
    }

    /// Opens the directory that holds `path` (for changes in it, not for listing) and gives the
    /// name in it.
    ///
    /// # Errors
    /// What the system says. The root itself has no parent here and is refused.
    pub fn parent_of(&self, path: &SyncPath) -> Result<(DirFd, Name), DiskError> {
        let Some((parent, name)) = path.split() else {
            return Err(DiskError::new("change", path, Errno::INVAL));
        };
        self.open_below(&parent, system::PLACE | OFlags::DIRECTORY)
            .map(|fd| (DirFd::new(fd), name))
            .map_err(|errno| DiskError::new("open", &parent, errno))
    }

    fn open_below(&self, path: &SyncPath, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.resolver.open(&self.fd, path, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC)
    }

    /// Makes everything written to the root's file system durable (invariant I2).
    ///
    /// # Errors
    /// What the system says, among it errors of earlier writes.
    pub fn syncfs(&self) -> Result<(), DiskError> {
        let root = SyncPath::root();
        let directory = self.open_directory(&root)?;
        system::sync(&directory).map_err(|errno| DiskError::new("sync", &root, errno))
    }

    /// Bytes that an unprivileged process may still write to the root's file system.
    ///
    /// # Errors
    /// What the system says.
    pub fn free_bytes(&self) -> Result<u64, DiskError> {
        let stat = rustix::fs::fstatvfs(&self.fd)
            .map_err(|errno| DiskError::new("measure", &SyncPath::root(), errno))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Says whether names that differ only in case are the same file here. Nothing is written: an
    /// existing name is asked for with its case flipped. False if there is no letter to flip.
    ///
    /// # Errors
    /// What the system says when the root is listed.
    pub fn is_case_insensitive(&self) -> Result<bool, DiskError> {
        let root = SyncPath::root();
        let directory = self.open_directory(&root)?;
        let names = directory
            .list(&mut Vec::new())
            .map_err(|errno| DiskError::new("list", &root, errno))?;
        for (name, _) in &names {
            let Some(flipped) = flip_case(name) else {
                continue;
            };
            if names.iter().any(|(other, _)| *other == flipped) {
                // Both spellings stand side by side.
                return Ok(false);
            }
            if let Ok(original) = directory.stat_listed(name) {
                return Ok(directory
                    .stat_listed(&flipped)
                    .is_ok_and(|m| m.is_same_object(&original)));
            }
        }
        Ok(self.own_name_is_case_insensitive())
    }

    fn own_name_is_case_insensitive(&self) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let name = self.path.file_name().and_then(|n| Name::parse(n.as_bytes()).ok());
        let Some(flipped) = name.as_ref().and_then(flip_case) else {
            return false;
        };
        rustix::fs::stat(self.path.with_file_name(flipped.as_os_str()))
            .is_ok_and(|stat| (system::device_of(&stat), stat.st_ino) == (self.device, self.inode))
    }

    #[cfg(all(test, target_os = "linux"))]
    pub(crate) fn without_openat2(mut self) -> Self {
        self.resolver = self.resolver.without_openat2();
        self
    }

    #[cfg(test)]
    pub(crate) fn with_umask(mut self, umask: u16) -> Self {
        self.umask = umask;
        self
    }
}

/// Opens for reading so that it is no access: times tell of what people and their programs do, not of
/// our looking, which is at other times (a mount lists ahead). Who may not ask for that (PERM), or asks a
/// file system that does not know of it (INVAL), opens it all the same.
fn unseen(
    flags: OFlags,
    open: impl Fn(OFlags) -> Result<OwnedFd, Errno>,
) -> Result<OwnedFd, Errno> {
    match open(flags | system::UNSEEN) {
        Err(Errno::PERM | Errno::INVAL) => open(flags),
        other => other,
    }
}

/// Opens `path` below `root`, one name at a time.
fn walk_below(root: &OwnedFd, path: &SyncPath, flags: OFlags) -> Result<OwnedFd, Errno> {
    let step = system::PLACE | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut directory: Option<OwnedFd> = None;
    let mut names = path.names().peekable();
    while let Some(name) = names.next() {
        let here: BorrowedFd<'_> = directory.as_ref().unwrap_or(root).as_fd();
        if names.peek().is_none() {
            return rustix::fs::openat(here, name, flags, Mode::empty());
        }
        directory = Some(rustix::fs::openat(here, name, step, Mode::empty())?);
    }
    rustix::fs::openat(root, c".", flags, Mode::empty())
}

fn flip_case(name: &Name) -> Option<Name> {
    let flipped: Vec<u8> =
        name.as_bytes()
            .iter()
            .map(|b| {
                if b.is_ascii_lowercase() { b.to_ascii_uppercase() } else { b.to_ascii_lowercase() }
            })
            .collect();
    (flipped != name.as_bytes()).then(|| Name::parse(&flipped).ok()).flatten()
}

/// The process's umask. `/proc` tells it without a side effect; without `/proc` it has to be set
/// to be read, which another thread could notice for an instant, so it is set to the strictest.
fn current_umask() -> u16 {
    let mut status = String::new();
    let read = File::open("/proc/self/status").and_then(|mut f| f.read_to_string(&mut status));
    let told = status
        .lines()
        .find_map(|line| u16::from_str_radix(line.strip_prefix("Umask:")?.trim(), 8).ok());
    match (read, told) {
        (Ok(_), Some(umask)) => umask & 0o777,
        _ => {
            let umask = rustix::process::umask(Mode::from_raw_mode(0o077));
            rustix::process::umask(umask);
            u16::try_from(umask.as_raw_mode() & 0o777).unwrap_or(0o022)
        }
    }
}

fn kind_of(file_type: FileType) -> Option<Kind> {
    match file_type {
        FileType::RegularFile => Some(Kind::File),
        FileType::Directory => Some(Kind::Directory),
        FileType::Symlink => Some(Kind::Symlink),
        FileType::Unknown => None,
        _ => Some(Kind::Other),
    }
}

#[cfg(test)]
mod tests;
