//! Values of ours as the kernel's library has them, and the other way round.

use std::time::UNIX_EPOCH;

use fuser::{FileAttr, FileType, INodeNo, OpenAccMode, OpenFlags, TimeOrNow};
use rustix::fs::{OFlags, RawMode};

use crate::filesystem::Shown;
use crate::source::{FileKind, OpenHow, SetTime, SourceError};

/// Bytes that programs are told to read at once.
const BLOCK_BYTES: u32 = 4096;

/// Says that there is no such name, in a form that the kernel may remember.
pub(super) const NOTHING: FileAttr = FileAttr {
    ino: INodeNo(0),
    size: 0,
    blocks: 0,
    atime: UNIX_EPOCH,
    mtime: UNIX_EPOCH,
    ctime: UNIX_EPOCH,
    crtime: UNIX_EPOCH,
    kind: FileType::RegularFile,
    perm: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
    blksize: BLOCK_BYTES,
    flags: 0,
};

pub(super) fn file_attr(shown: &Shown) -> FileAttr {
    let attributes = &shown.attributes;
    FileAttr {
        ino: INodeNo(shown.node),
        size: attributes.size,
        blocks: attributes.blocks,
        atime: attributes.accessed,
        mtime: attributes.modified,
        ctime: attributes.changed,
        crtime: UNIX_EPOCH,
        kind: file_type(attributes.kind),
        perm: attributes.mode & 0o7777,
        nlink: attributes.links,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: attributes.rdev,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::BlockDevice => FileType::BlockDevice,
        FileKind::CharDevice => FileType::CharDevice,
    }
}

/// What `mknod` makes; nothing: something that cannot be made so.
pub(super) fn kind_of_mode(mode: u32) -> Option<FileKind> {
    match rustix::fs::FileType::from_raw_mode(mode as RawMode) {
        rustix::fs::FileType::RegularFile => Some(FileKind::File),
        rustix::fs::FileType::Fifo => Some(FileKind::Fifo),
        rustix::fs::FileType::Socket => Some(FileKind::Socket),
        rustix::fs::FileType::BlockDevice => Some(FileKind::BlockDevice),
        rustix::fs::FileType::CharacterDevice => Some(FileKind::CharDevice),
        _ => None,
    }
}

/// The twelve permission bits of a mode.
pub(super) fn permissions(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

pub(super) fn open_how(flags: OpenFlags) -> OpenHow {
    let access = flags.acc_mode();
    let flags = OFlags::from_bits_retain(flags.0.cast_unsigned());
    OpenHow {
        read: access != OpenAccMode::O_WRONLY,
        write: access != OpenAccMode::O_RDONLY,
        append: flags.contains(OFlags::APPEND),
        truncate: flags.contains(OFlags::TRUNC),
        exclusive: flags.contains(OFlags::EXCL),
    }
}

pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::SpecificTime(at) => SetTime::At(at),
        TimeOrNow::Now => SetTime::Now,
    }
}

pub(super) fn errno(error: &SourceError) -> fuser::Errno {
    if let SourceError::Failed(why) = error {
        tracing::warn!(why, "a request of a mount failed");
    }
    fuser::Errno::from_i32(crate::errno::of(error).raw_os_error())
}
