//! What macOS has for a root and its directories.
//!
//! # What is weaker than on Linux
//! - There is no `openat2` and no flag for "stay beneath" that every release honours (one that does
//!   not know `O_NOFOLLOW_ANY` ignores it). A path is walked one name at a time, each without
//!   following a link, so nothing outside is reached (invariant I7); a deep path costs a call for each
//!   directory on the way.
//! - There are no mere places (`O_PATH`): what is in a directory that its owner may not read cannot be
//!   changed. It is a problem of that path.
//! - A name is found by other spellings, too. [`is_spelled`] costs one more open for each path that is
//!   looked at by its name; names that a listing gave need none.
//!
//! No mount is served here, so there is nothing of `object`.

use std::ffi::{CStr, c_int};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{DirFd, walk_below};
use crate::path::{Name, SyncPath};

/// How a directory is opened for what is done with its names.
pub(super) const PLACE: OFlags = OFlags::RDONLY;
/// There is no way to read without an access.
pub(super) const UNSEEN: OFlags = OFlags::empty();

/// Opens a symbolic link itself. `rustix` does not name it.
const O_SYMLINK: u32 = 0x0020_0000;

/// Of `fsync_volume_np`: it returns when all is written …
const SYNC_VOLUME_WAIT: c_int = 2;
/// … and the drive has emptied its own cache, too.
const SYNC_VOLUME_FULLSYNC: c_int = 1;

#[expect(unsafe_code, reason = "no crate has it: the one call that syncs a whole volume")]
unsafe extern "C" {
    /// From `unistd.h`, since OS X 10.8.
    safe fn fsync_volume_np(descriptor: c_int, flags: c_int) -> c_int;
}

/// How paths below a root are found: there is one way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver;

impl Resolver {
    /// What can be had for the root that was opened.
    pub(super) fn of(_root: &OwnedFd) -> Self {
        Self
    }

    /// Opens what is at `path`; no symbolic link is followed, and nothing outside is reached.
    pub(super) fn open(
        self,
        root: &OwnedFd,
        path: &SyncPath,
        flags: OFlags,
    ) -> Result<OwnedFd, Errno> {
        walk_below(root, path, flags)
    }
}

/// Gives `each` all names in a directory, from the first on. The system keeps its own buffer.
pub(super) fn each_entry(
    directory: &OwnedFd,
    _buffer: &mut Vec<u8>,
    mut each: impl FnMut(&CStr, FileType),
) -> Result<(), Errno> {
    // It opens the directory anew, so it begins at the first name.
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        each(entry.file_name(), entry.file_type());
    }
    Ok(())
}

/// Whether `name`, which is there, is spelled exactly so in the directory. Most volumes take other
/// cases and other Unicode forms of a name for the name (invariant I12).
pub(super) fn is_spelled(directory: &OwnedFd, name: &Name) -> bool {
    let flags = OFlags::from_bits_retain(O_SYMLINK) | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(directory, name.as_os_str(), flags, Mode::empty());
    let path = opened.and_then(rustix::fs::getpath);
    if path.is_ok_and(|path| {
        path.to_bytes().rsplit(|byte| *byte == b'/').next() == Some(name.as_bytes())
    }) {
        return true;
    }
    // It cannot be opened, or is told by another of its names (a hard link).
    let mut found = false;
    let listed = each_entry(directory, &mut Vec::new(), |other, _| {
        found |= other.to_bytes() == name.as_bytes();
    });
    // What cannot be listed cannot be synchronised either: its scan says so.
    found || listed.is_err()
}

/// The number of the device that something is on.
pub(super) fn device_of(stat: &Stat) -> u64 {
    u64::from(stat.st_dev.cast_unsigned())
}

/// The file system has no such way to rename.
pub(super) fn is_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::OPNOTSUPP)
}

/// Makes everything written to the volume of an open directory durable. On a file system that knows
/// nothing of volumes all of the system is written, and the drive's cache of this one emptied.
pub(super) fn sync(directory: &DirFd) -> Result<(), Errno> {
    let descriptor = directory.as_fd().as_raw_fd();
    if fsync_volume_np(descriptor, SYNC_VOLUME_WAIT | SYNC_VOLUME_FULLSYNC) == 0 {
        return Ok(());
    }
    match Errno::from_io_error(&std::io::Error::last_os_error()) {
        Some(Errno::IO | Errno::NOSPC | Errno::DQUOT) => Err(Errno::IO),
        Some(_) | None => {
            rustix::fs::sync();
            rustix::fs::fcntl_fullfsync(directory).or_else(|_| rustix::fs::fsync(directory))
        }
    }
}
