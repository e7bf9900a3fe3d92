//! What a mount does with an object of any kind: all that `stat` shows, and changes of it.
//!
//! Synchronisation needs none of this: it knows nine permission bits, no owners and no devices.
//! A mount shows what there is and changes what it is told to, but no symbolic link is followed
//! here either, and every call is about an open object or about one name of an open directory.

use std::ffi::CStr;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RawDir, RenameFlags, SeekFrom, StatxFlags, Timespec,
    Timestamps, UTIME_NOW, UTIME_OMIT, Uid,
};
use rustix::io::Errno;

use super::linux::LIST_BUFFER_BYTES;
use super::{DirFd, Root};
use crate::path::{Name, SyncPath};

/// How a file of a mount is opened, besides for what: nothing that it could be blocks, becomes our
/// terminal, or is followed.
const CAREFULLY: OFlags =
    OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// What `stat` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// 0 where the system does not tell.
    pub(crate) born_ns: i64,
    /// Type and twelve permission bits.
    pub(crate) mode: u32,
    pub(crate) links: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Twelve bits of the major and twenty of the minor number, as Linux has them in 32 bits.
    pub(crate) rdev: u32,
    pub(crate) size: u64,
    /// Of 512 bytes.
    pub(crate) blocks: u64,
    pub(crate) accessed_ns: i64,
    pub(crate) modified_ns: i64,
    pub(crate) changed_ns: i64,
}

impl Attributes {
    /// Of an open object; one that was opened as a mere place (`O_PATH`) will do.
    pub(crate) fn of(fd: impl AsFd) -> Result<Self, Errno> {
        Self::look(fd, c"", AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Of what a name means.
    pub(crate) fn of_name(directory: &DirFd, name: impl rustix::path::Arg) -> Result<Self, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        name.into_with_c_str(|name| Self::look(directory, name, flags))
    }

    fn look(fd: impl AsFd, name: &CStr, flags: AtFlags) -> Result<Self, Errno> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let stat = match rustix::fs::statx(&fd, name, flags, wanted) {
            Ok(stat) => stat,
            // A filter from before there was such a call.
            Err(Errno::NOSYS) => return Self::look_plainly(fd, name, flags),
            Err(errno) => return Err(errno),
        };
        let is_born = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        let time = |time: rustix::fs::StatxTimestamp| nanoseconds(time.tv_sec, time.tv_nsec.into());
        Ok(Self {
            device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            born_ns: if is_born { time(stat.stx_btime) } else { 0 },
            mode: stat.stx_mode.into(),
            links: stat.stx_nlink,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            rdev: device_number(stat.stx_rdev_major, stat.stx_rdev_minor),
            size: stat.stx_size,
            blocks: stat.stx_blocks,
            accessed_ns: time(stat.stx_atime),
            modified_ns: time(stat.stx_mtime),
            changed_ns: time(stat.stx_ctime),
        })
    }

    fn look_plainly(fd: impl AsFd, name: &CStr, flags: AtFlags) -> Result<Self, Errno> {
        let stat = rustix::fs::statat(fd, name, flags)?;
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        Ok(Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            born_ns: 0,
            mode: stat.st_mode,
            links: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            uid: stat.st_uid,
            gid: stat.st_gid,
            rdev: device_number(major, minor),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
            accessed_ns: nanoseconds(stat.st_atime, stat.st_atime_nsec as i64),
            modified_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec as i64),
            changed_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec as i64),
        })
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// The same inode on the same device.
    pub(crate) fn is_same_object(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

fn device_number(major: u32, minor: u32) -> u32 {
    ((major & 0xfff) << 8) | (minor & 0xff) | ((minor & 0xf_ff00) << 12)
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetTime {
    /// It stays.
    Leave,
    /// The system's clock.
    Now,
    /// Nanoseconds since 1970.
    At(i64),
}

impl SetTime {
    fn to_system(self) -> Timespec {
        match self {
            Self::Leave => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
            Self::Now => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW as _ },
            Self::At(ns) => Timespec {
                tv_sec: ns.div_euclid(1_000_000_000),
                tv_nsec: ns.rem_euclid(1_000_000_000) as _,
            },
        }
    }
}

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Made<'a> {
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Symlink(&'a [u8]),
    /// A FIFO, a socket, an empty file, or a device of this number.
    Node(FileType, u32),
}

impl Root {
    /// The same root for whoever must not wait: with it, what the kernel would have to read from a
    /// disk to find, and what is on another file system, is `XDEV`. Nothing where the kernel has no
    /// such way (before 5.12).
    pub(crate) fn near(&self) -> Option<Self> {
        let resolver = self.resolver.near()?;
        let near =
            Self { fd: self.fd.try_clone().ok()?, path: self.path.clone(), resolver, ..*self };
        near.open_object(&SyncPath::root()).is_ok().then_some(near)
    }

    /// See [`Root::near`].
    pub(crate) fn is_near(&self) -> bool {
        self.resolver.is_near()
    }

    /// Opens what is at `path` as a mere place: nothing can be read or written by it, and no
    /// permission on the object itself is needed. A symbolic link at the end is opened itself.
    pub(crate) fn open_object(&self, path: &SyncPath) -> Result<OwnedFd, Errno> {
        self.open_below(path, OFlags::PATH)
    }

    /// Opens the directory at `path` as a mere place, for what is done with its names.
    pub(crate) fn open_place(&self, path: &SyncPath) -> Result<DirFd, Errno> {
        self.open_below(path, OFlags::PATH | OFlags::DIRECTORY).map(DirFd::new)
    }

    /// Opens what is at `path` for `access`; it need not be a file, which the caller looks at.
    pub(crate) fn open_carefully(&self, path: &SyncPath, access: OFlags) -> Result<OwnedFd, Errno> {
        self.open_below(path, access | CAREFULLY)
    }

    /// Sets twelve permission bits of `object`, which was at `path`; a mere place will do.
    pub(crate) fn set_mode(
        &self,
        path: &SyncPath,
        object: &OwnedFd,
        mode: u32,
    ) -> Result<(), Errno> {
        set_mode_of(object, mode, &|access| self.open_carefully(path, access))
    }

    /// What `statvfs` says of the root's file system.
    pub(crate) fn space(&self) -> Result<rustix::fs::StatVfs, Errno> {
        rustix::fs::fstatvfs(self.open_object(&SyncPath::root())?)
    }
}

impl DirFd {
    /// Calls `each` with every name in it but `.` and `..`, until it says to stop. The names are
    /// not gathered: there may be millions.
    pub(crate) fn each_name(
        &self,
        buffer: &mut Vec<u8>,
        each: &mut dyn FnMut(&CStr) -> ControlFlow<()>,
    ) -> Result<(), Errno> {
        buffer.clear();
        buffer.reserve(LIST_BUFFER_BYTES);
        let mut entries = RawDir::new(self, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") && each(name).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The target of a symbolic link, as stored.
    pub(crate) fn target_of(&self, name: impl rustix::path::Arg) -> Result<Vec<u8>, Errno> {
        rustix::fs::readlinkat(self, name, Vec::new()).map(std::ffi::CString::into_bytes)
    }

    /// Opens what `name` means for `access`; it need not be a file, which the caller looks at.
    pub(crate) fn open_carefully(&self, name: &Name, access: OFlags) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(self, name.as_os_str(), access | CAREFULLY, Mode::empty())
    }

    /// Opens what `name` means as a mere place.
    pub(crate) fn open_object(&self, name: &Name) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(self, name.as_os_str(), flags, Mode::empty())
    }

    /// Makes a file that must not be there, and opens it. The system applies the umask.
    pub(crate) fn make_file(
        &self,
        name: &Name,
        access: OFlags,
        mode: u32,
    ) -> Result<OwnedFd, Errno> {
        let flags = access | CAREFULLY | OFlags::CREATE | OFlags::EXCL;
        rustix::fs::openat(self, name.as_os_str(), flags, Mode::from_raw_mode(mode & 0o777))
    }

    /// Makes something that must not be there. The system applies the umask.
    pub(crate) fn make(&self, name: &Name, what: Made<'_>, mode: u32) -> Result<(), Errno> {
        let (name, mode) = (name.as_os_str(), Mode::from_raw_mode(mode & 0o777));
        match what {
            Made::Directory => rustix::fs::mkdirat(self, name, mode),
            Made::Symlink(target) => rustix::fs::symlinkat(target, self, name),
            Made::Node(kind, rdev) => {
                let (major, minor) =
                    ((rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & 0xf_ff00));
                let device = rustix::fs::makedev(major, minor);
                rustix::fs::mknodat(self, name, kind, mode, device)
            }
        }
    }

    /// Sets twelve permission bits of `object`, which `name` meant; a mere place will do.
    pub(crate) fn set_mode(&self, name: &Name, object: &OwnedFd, mode: u32) -> Result<(), Errno> {
        set_mode_of(object, mode, &|access| self.open_carefully(name, access))
    }

    /// Moves `name` to a name that must not be taken. As [`DirFd::rename_new`], but what cannot be
    /// moved at all is told as the system tells it.
    pub(crate) fn move_new(&self, name: &Name, to: &Self, to_name: &Name) -> Result<(), Errno> {
        let (from, target) = (name.as_os_str(), to_name.as_os_str());
        match rustix::fs::renameat_with(self, from, to, target, RenameFlags::NOREPLACE) {
            Err(refused @ (Errno::INVAL | Errno::NOSYS)) => {
                if Attributes::of_name(self, from)?.kind() == FileType::Directory {
                    return Err(refused);
                }
                self.rename_new(name, to, to_name)
            }
            other => other,
        }
    }
}

/// Opens an object anew, for this access.
type Again<'a> = &'a dyn Fn(OFlags) -> Result<OwnedFd, Errno>;

fn set_mode_of(object: &OwnedFd, mode: u32, again: Again<'_>) -> Result<(), Errno> {
    let bits = Mode::from_raw_mode(mode & 0o7777);
    match rustix::fs::fchmod(object, bits) {
        // It is a mere place.
        Err(Errno::BADF) => {}
        other => return other,
    }
    let before = Attributes::of(object)?;
    if before.kind() == FileType::Symlink {
        return Err(Errno::OPNOTSUPP);
    }
    match rustix::fs::chmodat(CWD, by_descriptor(object), bits, AtFlags::empty()) {
        // Without `/proc`, or for a process that may not look at itself.
        Err(Errno::NOENT | Errno::NOTDIR) => {}
        Err(Errno::ACCESS) if std::fs::read_link(by_descriptor(object)).is_err() => {}
        other => return other,
    }
    set_mode_again(&before, object, bits, again)
}

/// What can be done without `/proc`.
fn set_mode_again(
    before: &Attributes,
    object: &OwnedFd,
    bits: Mode,
    again: Again<'_>,
) -> Result<(), Errno> {
    let opened = match before.kind() {
        FileType::Directory => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat(object, c".", flags, Mode::empty())?
        }
        FileType::RegularFile | FileType::Fifo => match again(OFlags::RDONLY) {
            Err(Errno::ACCESS) => again(OFlags::WRONLY)?,
            other => other?,
        },
        // Opening a device does something, and a socket cannot be opened.
        _ => return Err(Errno::OPNOTSUPP),
    };
    if !Attributes::of(&opened)?.is_same_object(before) {
        return Err(Errno::STALE);
    }
    rustix::fs::fchmod(&opened, bits)
}

/// Sets owner and group of an open object; a mere place will do.
pub(crate) fn set_owner(
    object: &impl AsFd,
    uid: Option<u32>,
    gid: Option<u32>,
) -> Result<(), Errno> {
    // The highest number means "leave it", and is nobody's.
    let is_none = |id: Option<u32>| id == Some(u32::MAX);
    if is_none(uid) || is_none(gid) {
        return Err(Errno::INVAL);
    }
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(object, c"", uid.map(Uid::from_raw), gid.map(Gid::from_raw), flags)
}

/// Sets the times of an open object; a mere place will do.
pub(crate) fn set_times(
    object: &impl AsFd,
    accessed: SetTime,
    modified: SetTime,
) -> Result<(), Errno> {
    let times =
        Timestamps { last_access: accessed.to_system(), last_modification: modified.to_system() };
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    match rustix::fs::utimensat(object, c"", &times, flags) {
        // A kernel before 5.8 has no way for a mere place but by its name.
        Err(Errno::INVAL) => {
            match rustix::fs::utimensat(CWD, by_descriptor(object), &times, AtFlags::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR) => rustix::fs::futimens(object, &times),
                other => other,
            }
        }
        other => other,
    }
}

/// Where the next data or hole of an open file is.
pub(crate) fn find_data(file: &impl AsFd, offset: u64, hole: bool) -> Result<u64, Errno> {
    rustix::fs::seek(file, if hole { SeekFrom::Hole(offset) } else { SeekFrom::Data(offset) })
}

fn by_descriptor(object: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", object.as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_set_without_proc() {
        let outside = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(outside.path().join("d")).expect("made");
        std::fs::File::create(outside.path().join("f")).expect("made");
        let root = Root::open(outside.path()).expect("a root");
        for name in ["d", "f"] {
            let path = SyncPath::parse(name.as_bytes()).expect("a path");
            let object = root.open_object(&path).expect("opened");
            let before = Attributes::of(&object).expect("there");
            let again = |access| root.open_carefully(&path, access);
            let bits = Mode::from_raw_mode(0o1711);
            set_mode_again(&before, &object, bits, &again).expect("set");
            assert_eq!(Attributes::of(&object).expect("there").mode & 0o7777, 0o1711);
        }
        let (d, f) = (SyncPath::parse(b"d").expect("a path"), SyncPath::parse(b"f"));
        let object = root.open_object(&f.expect("a path")).expect("opened");
        let before = Attributes::of(&object).expect("there");
        let another = |_| root.open_carefully(&d, OFlags::RDONLY);
        let set = set_mode_again(&before, &object, Mode::empty(), &another);
        assert_eq!(set, Err(Errno::STALE), "it was replaced");
    }

    #[test]
    fn a_near_root_finds_what_is_at_hand() {
        let outside = tempfile::tempdir().expect("a directory");
        std::fs::File::create(outside.path().join("f")).expect("made");
        let root = Root::open(outside.path()).expect("a root");
        let path = SyncPath::parse(b"f").expect("a path");
        // A kernel before 5.12 has none.
        let Some(near) = root.near() else { return };
        near.open_object(&path).expect("it was just made");
        let whole = Root::open(std::path::Path::new("/")).expect("a root");
        let near = whole.near().expect("as before");
        let proc = SyncPath::parse(b"proc").expect("a path");
        assert_eq!(near.open_object(&proc).err(), Some(Errno::XDEV), "another file system");
    }
}
