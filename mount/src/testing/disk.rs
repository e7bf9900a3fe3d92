//! The calls to the disk: everything is reached from a descriptor of the root, without following
//! links.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Statx, StatxFlags, StatxTimestamp,
    Timespec, Timestamps, Uid,
};
use rustix::io::Errno;

use crate::source::{
    Answer, Attributes, Entry, FileKind, Listing, Make, ObjectId, OpenHow, Owner, Place,
    SetAttributes, SetTime, SourceError,
};

/// A directory and what is below it.
pub(super) struct Disk {
    root: OwnedFd,
    path: PathBuf,
}

/// The source's word for what the system says.
pub(super) fn error_of(errno: Errno) -> SourceError {
    match errno {
        Errno::NOENT => SourceError::NotFound,
        Errno::STALE => SourceError::Stale,
        Errno::EXIST => SourceError::Exists,
        Errno::NOTEMPTY => SourceError::NotEmpty,
        Errno::ISDIR => SourceError::IsDirectory,
        Errno::NOTDIR => SourceError::NotDirectory,
        Errno::ACCESS => SourceError::Denied,
        Errno::PERM => SourceError::NotPermitted,
        Errno::ROFS => SourceError::ReadOnly,
        Errno::NOSPC => SourceError::NoSpace,
        Errno::DQUOT => SourceError::Quota,
        Errno::FBIG => SourceError::TooLarge,
        Errno::MLINK => SourceError::TooManyLinks,
        Errno::NAMETOOLONG => SourceError::NameTooLong,
        Errno::LOOP => SourceError::Loop,
        Errno::XDEV => SourceError::OtherDevice,
        Errno::BUSY => SourceError::Busy,
        Errno::TXTBSY => SourceError::Running,
        Errno::NXIO => SourceError::Nothing,
        Errno::INVAL => SourceError::Invalid,
        Errno::NOMEM | Errno::MFILE | Errno::NFILE => SourceError::Exhausted,
        Errno::OPNOTSUPP | Errno::NOSYS => SourceError::Unsupported,
        other => SourceError::Failed(other.to_string()),
    }
}

impl Disk {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        Ok(Self { root, path: std::path::absolute(path)? })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens what is at a path, without following links.
    fn reach(&self, path: &Path, flags: OFlags) -> Answer<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve).map_err(error_of)
    }

    fn directory(&self, path: &Path) -> Answer<OwnedFd> {
        self.reach(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Something that is there, links themselves included, and is what `place` says.
    fn object(&self, place: &Place) -> Answer<(OwnedFd, Attributes)> {
        let fd = self.reach(&place.path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let attributes = attributes_of(&fd)?;
        match is_same(place.object, attributes.object) {
            true => Ok((fd, attributes)),
            false => Err(SourceError::Stale),
        }
    }

    /// A directory that is what `place` says.
    pub(super) fn parent(&self, place: &Place) -> Answer<OwnedFd> {
        let fd = self.directory(&place.path)?;
        match is_same(place.object, attributes_of(&fd)?.object) {
            true => Ok(fd),
            false => Err(SourceError::Stale),
        }
    }

    /// Keeps what is at a path from being gone for good.
    pub(super) fn hold(&self, path: &Path) -> Answer<OwnedFd> {
        self.reach(path, OFlags::PATH | OFlags::NOFOLLOW)
    }

    pub(super) fn attributes(&self, path: &Path) -> Answer<Attributes> {
        attributes_of(&self.reach(path, OFlags::PATH | OFlags::NOFOLLOW)?)
    }

    pub(super) fn attributes_at(&self, place: &Place) -> Answer<Attributes> {
        Ok(self.object(place)?.1)
    }

    pub(super) fn entry(&self, directory: &Path, name: &OsStr) -> Answer<Entry> {
        entry_of(&self.directory(directory)?, name)
    }

    pub(super) fn look(&self, directory: &Place, name: &OsStr) -> Answer<Entry> {
        entry_of(&self.parent(directory)?, name)
    }

    pub(super) fn list(&self, path: &Path, followed: bool) -> Answer<Listing> {
        let fd = self.reach(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let attributes = attributes_of(&fd)?;
        let mut entries = Vec::new();
        for found in rustix::fs::Dir::read_from(&fd).map_err(error_of)? {
            let found = found.map_err(error_of)?;
            let name = OsStr::from_bytes(found.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            match entry_of(&fd, name) {
                Ok(entry) => entries.push(entry),
                Err(SourceError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Listing { path: path.to_owned(), attributes, entries, followed })
    }

    /// Opens a regular file.
    pub(super) fn open_file(&self, place: &Place, how: OpenHow) -> Answer<(File, Attributes)> {
        let (fd, attributes) = self.object(place)?;
        match attributes.kind {
            FileKind::File => {}
            FileKind::Directory => return Err(SourceError::IsDirectory),
            FileKind::Symlink => return Err(SourceError::Loop),
            _ => return Err(SourceError::Unsupported),
        }
        let again = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let opened = rustix::fs::openat(CWD, again, flags_of(how), Mode::empty());
        let file = File::from(opened.map_err(error_of)?);
        let attributes = attributes_of(&file)?;
        Ok((file, attributes))
    }

    /// Makes a file, or opens the one that is there; says whether it was made.
    pub(super) fn create_file(
        &self,
        directory: &Place,
        name: &OsStr,
        how: OpenHow,
        owner: Owner,
    ) -> Answer<(File, bool)> {
        let parent = self.parent(directory)?;
        let flags = flags_of(how) | OFlags::NOFOLLOW;
        let made = OFlags::CREATE | OFlags::EXCL;
        match rustix::fs::openat(&parent, name, flags | made, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => {
                own(&parent, name, owner)?;
                Ok((File::from(fd), true))
            }
            Err(Errno::EXIST) if !how.exclusive => {
                let fd = rustix::fs::openat(&parent, name, flags, Mode::empty());
                Ok((File::from(fd.map_err(error_of)?), false))
            }
            Err(errno) => Err(error_of(errno)),
        }
    }

    pub(super) fn make(
        &self,
        directory: &Place,
        name: &OsStr,
        what: &Make,
        owner: Owner,
    ) -> Answer<()> {
        let parent = self.parent(directory)?;
        let mode = Mode::RUSR | Mode::WUSR | Mode::XUSR;
        let made = match what {
            Make::Directory => rustix::fs::mkdirat(&parent, name, mode),
            Make::Symlink(target) => rustix::fs::symlinkat(target, &parent, name),
            Make::Node(kind, device) => {
                let kind = match kind {
                    FileKind::File => FileType::RegularFile,
                    FileKind::Fifo => FileType::Fifo,
                    FileKind::Socket => FileType::Socket,
                    FileKind::BlockDevice => FileType::BlockDevice,
                    FileKind::CharDevice => FileType::CharacterDevice,
                    FileKind::Directory | FileKind::Symlink => return Err(SourceError::Invalid),
                };
                rustix::fs::mknodat(&parent, name, kind, mode, u64::from(*device))
            }
        };
        made.map_err(error_of)?;
        own(&parent, name, owner)
    }

    pub(super) fn link(&self, object: &Place, directory: &Place, name: &OsStr) -> Answer<()> {
        self.object(object)?;
        let from = self.directory(object.path.parent().unwrap_or(Path::new("")))?;
        let to = self.parent(directory)?;
        let old = object.path.file_name().ok_or(SourceError::NotPermitted)?;
        rustix::fs::linkat(&from, old, &to, name, AtFlags::empty()).map_err(error_of)
    }

    pub(super) fn set(&self, place: &Place, open: Option<&File>, to: SetAttributes) -> Answer<()> {
        let (fd, attributes) = match open {
            Some(file) => (file.try_clone().map_err(io_error)?.into(), attributes_of(file)?),
            None => self.object(place)?,
        };
        // Of a descriptor that may only be a path: the calls go by its name in /proc, and that is
        // the object itself, also if it is a link.
        let itself = format!("/proc/self/fd/{}", fd.as_raw_fd());
        if let Some(size) = to.size {
            match open {
                Some(file) => rustix::fs::ftruncate(file, size).map_err(error_of)?,
                None => {
                    let how = OpenHow { write: true, ..OpenHow::default() };
                    let (file, _) = self.open_file(place, how)?;
                    rustix::fs::ftruncate(file, size).map_err(error_of)?;
                }
            }
        }
        if to.uid.is_some() || to.gid.is_some() {
            let (uid, gid) = (to.uid.map(Uid::from_raw), to.gid.map(Gid::from_raw));
            rustix::fs::chownat(&fd, "", uid, gid, AtFlags::EMPTY_PATH).map_err(error_of)?;
        }
        if let Some(mode) = to.mode {
            if attributes.kind == FileKind::Symlink {
                return Err(SourceError::Unsupported);
            }
            let mode = Mode::from_raw_mode(mode.into());
            rustix::fs::chmodat(CWD, &itself, mode, AtFlags::empty()).map_err(error_of)?;
        }
        if to.accessed.is_some() || to.modified.is_some() {
            let times = Timestamps {
                last_access: timespec_of(to.accessed),
                last_modification: timespec_of(to.modified),
            };
            rustix::fs::utimensat(&fd, "", &times, AtFlags::EMPTY_PATH).map_err(error_of)?;
        }
        Ok(())
    }

    pub(super) fn space(&self) -> Answer<rustix::fs::StatVfs> {
        rustix::fs::fstatvfs(&self.root).map_err(error_of)
    }
}

pub(super) fn io_error(error: io::Error) -> SourceError {
    error_of(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Gives a new object its mode, whatever the process's own mask is, and its owner.
fn own(parent: &OwnedFd, name: &OsStr, owner: Owner) -> Answer<()> {
    if let Some((uid, gid)) = owner.ids {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(error_of)?;
    }
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(error_of)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        let mode = Mode::from_raw_mode(owner.mode.into());
        rustix::fs::chmodat(parent, name, mode, AtFlags::empty()).map_err(error_of)?;
    }
    Ok(())
}

fn is_same(expected: ObjectId, found: ObjectId) -> bool {
    (expected.device, expected.inode) == (found.device, found.inode)
}

fn flags_of(how: OpenHow) -> OFlags {
    let mut flags = OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    flags |= match (how.read, how.write || how.append) {
        (_, false) => OFlags::RDONLY,
        (false, true) => OFlags::WRONLY,
        (true, true) => OFlags::RDWR,
    };
    flags.set(OFlags::APPEND, how.append);
    flags.set(OFlags::TRUNC, how.truncate);
    flags
}

fn entry_of(directory: &OwnedFd, name: &OsStr) -> Answer<Entry> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let statx = rustix::fs::statx(directory, name, flags, mask).map_err(error_of)?;
    let attributes = attributes_from(&statx);
    let target = match attributes.kind {
        FileKind::Symlink => rustix::fs::readlinkat(directory, name, Vec::new())
            .ok()
            .map(|target| OsString::from_vec(target.into_bytes())),
        _ => None,
    };
    Ok(Entry { name: name.to_owned(), attributes, target })
}

/// What an open object is like.
pub(super) fn attributes_of(fd: impl AsFd) -> Answer<Attributes> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let statx = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, mask).map_err(error_of)?;
    Ok(attributes_from(&statx))
}

fn attributes_from(statx: &Statx) -> Attributes {
    let born = StatxFlags::from_bits_retain(statx.stx_mask).contains(StatxFlags::BTIME);
    let born_ns = statx.stx_btime.tv_sec * 1_000_000_000 + i64::from(statx.stx_btime.tv_nsec);
    Attributes {
        object: ObjectId {
            device: rustix::fs::makedev(statx.stx_dev_major, statx.stx_dev_minor),
            inode: statx.stx_ino,
            born_ns: if born { born_ns } else { 0 },
        },
        kind: match FileType::from_raw_mode(statx.stx_mode.into()) {
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Symlink,
            FileType::Fifo => FileKind::Fifo,
            FileType::Socket => FileKind::Socket,
            FileType::BlockDevice => FileKind::BlockDevice,
            FileType::CharacterDevice => FileKind::CharDevice,
            _ => FileKind::File,
        },
        mode: statx.stx_mode & 0o7777,
        links: statx.stx_nlink,
        uid: statx.stx_uid,
        gid: statx.stx_gid,
        rdev: rustix::fs::makedev(statx.stx_rdev_major, statx.stx_rdev_minor) as u32,
        size: statx.stx_size,
        blocks: statx.stx_blocks,
        accessed: time_of(statx.stx_atime),
        modified: time_of(statx.stx_mtime),
        changed: time_of(statx.stx_ctime),
    }
}

fn time_of(stamp: StatxTimestamp) -> SystemTime {
    let seconds = Duration::from_secs(stamp.tv_sec.unsigned_abs());
    let whole = match stamp.tv_sec >= 0 {
        true => SystemTime::UNIX_EPOCH + seconds,
        false => SystemTime::UNIX_EPOCH - seconds,
    };
    whole + Duration::from_nanos(stamp.tv_nsec.into())
}

fn timespec_of(time: Option<SetTime>) -> Timespec {
    let time = match time {
        None => return Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        Some(SetTime::Now) => return Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        Some(SetTime::At(time)) => time,
    };
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => {
            Timespec { tv_sec: since.as_secs() as i64, tv_nsec: since.subsec_nanos().into() }
        }
        Err(before) => {
            let before = before.duration();
            let nanos = i64::from(before.subsec_nanos());
            let seconds = -(before.as_secs() as i64);
            match nanos {
                0 => Timespec { tv_sec: seconds, tv_nsec: 0 },
                _ => Timespec { tv_sec: seconds - 1, tv_nsec: 1_000_000_000 - nanos },
            }
        }
    }
}
