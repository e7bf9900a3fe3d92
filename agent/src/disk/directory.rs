//! One open directory, and what can be done with the names in it.
//!
//! Every call takes one name, so it cannot leave the directory; none follows a symbolic link.
//! Errors are bare numbers: the caller knows the path and makes a [`super::DiskError`] of them.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawMode, RenameFlags, Stat, Timespec, Timestamps,
    UTIME_OMIT,
};
use rustix::io::Errno;

use super::system;
use crate::path::Name;

/// What an object of a file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A FIFO, socket or device.
    Other,
}

/// What the system says of an object without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// The nine permission bits.
    pub mode: u16,
    /// Time of the last change of content, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Time of the last change of anything, nanoseconds since 1970.
    pub ctime_ns: i64,
    /// Inode number.
    pub inode: u64,
    /// Device number.
    pub device: u64,
    /// Names that the object has.
    pub link_count: u64,
}

impl Meta {
    /// What the system says of an open object.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(fd: impl AsFd) -> Result<Self, Errno> {
        rustix::fs::fstat(fd).map(|stat| Self::from_stat(&stat))
    }

    /// The same inode on the same device.
    pub fn is_same_object(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    fn from_stat(stat: &Stat) -> Self {
        let file_type = FileType::from_raw_mode(stat.st_mode);
        Self {
            kind: super::kind_of(file_type).unwrap_or(Kind::Other),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: (stat.st_mode & 0o777) as u16,
            mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec as i64),
            ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec as i64),
            inode: stat.st_ino,
            device: system::device_of(stat),
            // Other types on other machines.
            link_count: stat.st_nlink as _,
        }
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// An open directory.
#[derive(Debug)]
pub struct DirFd(OwnedFd);

impl AsFd for DirFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl DirFd {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Opens a directory of our own state by its path in the system.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, path, flags, Mode::empty()).map(Self)
    }

    /// The names in it but `.` and `..`, in no order, with their kind where the file system tells
    /// it. `buffer` is scratch space that a caller of many directories keeps.
    ///
    /// # Errors
    /// What the system says.
    pub fn list(&self, buffer: &mut Vec<u8>) -> Result<Vec<(Name, Option<Kind>)>, Errno> {
        let mut names = Vec::new();
        system::each_entry(&self.0, buffer, |name, file_type| {
            // Only `.` and `..` are refused: the kernel gives no other bad names.
            if let Ok(name) = Name::parse(name.to_bytes()) {
                names.push((name, super::kind_of(file_type)));
            }
        })?;
        Ok(names)
    }

    /// What the system says of `name`, spelled exactly so.
    ///
    /// # Errors
    /// `NOENT` if there is none.
    pub fn stat(&self, name: &Name) -> Result<Meta, Errno> {
        let meta = self.stat_listed(name)?;
        if system::is_spelled(&self.0, name) { Ok(meta) } else { Err(Errno::NOENT) }
    }

    /// As [`DirFd::stat`], of a name that [`DirFd::list`] gave; else another spelling may do, too.
    ///
    /// # Errors
    /// `NOENT` if it is gone.
    pub fn stat_listed(&self, name: &Name) -> Result<Meta, Errno> {
        rustix::fs::statat(&self.0, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| Meta::from_stat(&stat))
    }

    /// Opens the directory `name` for listing.
    ///
    /// # Errors
    /// `NOTDIR` for anything else, a symbolic link among it.
    pub fn open_directory(&self, name: &Name) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.open_unseen(name, flags).map(Self)
    }

    /// Opens the file `name` for reading, without blocking on a FIFO.
    ///
    /// # Errors
    /// `LOOP` for a symbolic link.
    pub fn open_file(&self, name: &Name) -> Result<File, Errno> {
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        self.open_unseen(name, flags).map(File::from)
    }

    fn open_unseen(&self, name: &Name, flags: OFlags) -> Result<OwnedFd, Errno> {
        super::unseen(flags, |flags| {
            rustix::fs::openat(&self.0, name.as_os_str(), flags, Mode::empty())
        })
    }

    /// Opens the file `name` to change its permission bits: whoever may not read it may perhaps
    /// write it.
    ///
    /// # Errors
    /// `LOOP` for a symbolic link.
    pub fn open_to_chmod(&self, name: &Name) -> Result<File, Errno> {
        match self.open_file(name) {
            Err(Errno::ACCESS) => {
                let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                rustix::fs::openat(&self.0, name.as_os_str(), flags, Mode::empty()).map(File::from)
            }
            other => other,
        }
    }

    /// The target of the symbolic link `name`, as stored.
    ///
    /// # Errors
    /// `INVAL` if it is not a link.
    pub fn read_link(&self, name: &Name) -> Result<Box<[u8]>, Errno> {
        rustix::fs::readlinkat(&self.0, name.as_os_str(), Vec::new())
            .map(|target| target.into_bytes().into_boxed_slice())
    }

    /// Makes a file that must not be there yet and opens it for writing. The system applies the
    /// umask to `mode`.
    ///
    /// # Errors
    /// `EXIST` if the name is taken.
    pub fn create_file(&self, name: &Name, mode: u16) -> Result<File, Errno> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, name.as_os_str(), flags, mode_bits(mode)).map(File::from)
    }

    /// Opens the file `name` for reading and for writing at its end.
    ///
    /// # Errors
    /// `LOOP` for a symbolic link.
    pub fn open_to_append(&self, name: &Name) -> Result<File, Errno> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, name.as_os_str(), flags, Mode::empty()).map(File::from)
    }

    /// Makes a directory. The system applies the umask to `mode`.
    ///
    /// # Errors
    /// `EXIST` if the name is taken.
    pub fn make_directory(&self, name: &Name, mode: u16) -> Result<(), Errno> {
        rustix::fs::mkdirat(&self.0, name.as_os_str(), mode_bits(mode))
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// `EXIST` if the name is taken.
    pub fn make_symlink(&self, name: &Name, target: &[u8]) -> Result<(), Errno> {
        rustix::fs::symlinkat(target, &self.0, name.as_os_str())
    }

    /// Removes a file or link, never a directory.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove_file(&self, name: &Name) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.0, name.as_os_str(), AtFlags::empty())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NOTEMPTY` if it holds anything.
    pub fn remove_directory(&self, name: &Name) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.0, name.as_os_str(), AtFlags::REMOVEDIR)
    }

    /// Moves `name` to a name that must not be taken (invariant I6). Where the file system cannot
    /// do that in one step, a hard link does it, which files and links can have.
    ///
    /// # Errors
    /// `EXIST` if the name is taken, `XDEV` for another file system.
    pub fn rename_new(&self, name: &Name, to: &Self, to_name: &Name) -> Result<(), Errno> {
        let (from, target) = (name.as_os_str(), to_name.as_os_str());
        match rustix::fs::renameat_with(&self.0, from, &to.0, target, RenameFlags::NOREPLACE) {
            Err(errno) if system::is_unsupported(errno) => {
                rustix::fs::linkat(&self.0, from, &to.0, target, AtFlags::empty())?;
                rustix::fs::unlinkat(&self.0, from, AtFlags::empty())
            }
            other => other,
        }
    }

    /// Gives `name` a second name that must not be taken. A symbolic link gets one itself.
    ///
    /// # Errors
    /// `EXIST` if the name is taken, `XDEV` for another file system.
    pub fn link_new(&self, name: &Name, to: &Self, to_name: &Name) -> Result<(), Errno> {
        let (from, target) = (name.as_os_str(), to_name.as_os_str());
        rustix::fs::linkat(&self.0, from, &to.0, target, AtFlags::empty())
    }

    /// Moves `name` over another.
    ///
    /// # Errors
    /// `XDEV` for another file system.
    pub fn rename_over(&self, name: &Name, to: &Self, to_name: &Name) -> Result<(), Errno> {
        rustix::fs::renameat(&self.0, name.as_os_str(), &to.0, to_name.as_os_str())
    }

    /// Swaps two names in one step; false if the file system cannot.
    ///
    /// # Errors
    /// `NOENT` if one is not there, `XDEV` for another file system.
    pub fn exchange(&self, name: &Name, to: &Self, to_name: &Name) -> Result<bool, Errno> {
        let (from, target) = (name.as_os_str(), to_name.as_os_str());
        match rustix::fs::renameat_with(&self.0, from, &to.0, target, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(errno) if system::is_unsupported(errno) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

/// Sets the permission bits of an open file, whatever the umask; never setuid, setgid or sticky
/// (invariant I14).
///
/// # Errors
/// What the system says.
pub fn set_mode(file: &File, mode: u16) -> Result<(), Errno> {
    rustix::fs::fchmod(file, mode_bits(mode))
}

/// Sets the time of the last change of an open file's content.
///
/// # Errors
/// What the system says.
pub fn set_mtime(file: &File, mtime_ns: i64) -> Result<(), Errno> {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ };
    let time = Timespec {
        tv_sec: mtime_ns.div_euclid(1_000_000_000),
        tv_nsec: mtime_ns.rem_euclid(1_000_000_000) as _,
    };
    rustix::fs::futimens(file, &Timestamps { last_access: omit, last_modification: time })
}

fn mode_bits(mode: u16) -> Mode {
    Mode::from_raw_mode(RawMode::from(mode & 0o777))
}
