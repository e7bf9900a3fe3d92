//! What went wrong with a path, for a caller to branch on and for a person to read.

use std::path::Path;

use rustix::io::Errno;

use crate::path::SyncPath;

/// What a caller can do something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskErrorKind {
    /// It is not there.
    Missing,
    /// It, or a part of the way to it, is not a directory.
    NotADirectory,
    /// The disk is full or the quota used up.
    NoSpace,
    /// Permission denied.
    Denied,
    /// The file system is read-only.
    ReadOnly,
    /// Anything else.
    Io,
}

/// A system call on a path failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {action} `{path}`: {}", reason(*errno))]
pub struct DiskError {
    action: &'static str,
    path: String,
    errno: Errno,
}

impl DiskError {
    /// An error at a path below a root; `action` is a verb: `open`, `write`.
    pub fn new(action: &'static str, path: &SyncPath, errno: Errno) -> Self {
        Self { action, path: path.to_string(), errno }
    }

    /// An error at a path of the system.
    pub fn at(action: &'static str, path: &Path, errno: Errno) -> Self {
        Self { action, path: path.display().to_string(), errno }
    }

    /// What a caller branches on.
    pub fn kind(&self) -> DiskErrorKind {
        match self.errno {
            Errno::NOENT => DiskErrorKind::Missing,
            Errno::NOTDIR => DiskErrorKind::NotADirectory,
            Errno::NOSPC | Errno::DQUOT => DiskErrorKind::NoSpace,
            Errno::ACCESS | Errno::PERM => DiskErrorKind::Denied,
            Errno::ROFS => DiskErrorKind::ReadOnly,
            _ => DiskErrorKind::Io,
        }
    }

    /// The system's number.
    #[cfg(target_os = "linux")]
    pub(crate) fn errno(&self) -> Errno {
        self.errno
    }

    /// True if the disk is full or the quota used up.
    pub fn is_no_space(&self) -> bool {
        self.kind() == DiskErrorKind::NoSpace
    }

    /// True if a symbolic link is in its place or on the way: it is not followed.
    pub fn is_link(&self) -> bool {
        self.errno == Errno::LOOP
    }

    /// The reason alone, without the path.
    pub fn reason(&self) -> String {
        reason(self.errno)
    }
}

/// The system's number in words for a person.
pub(crate) fn reason(errno: Errno) -> String {
    let words = match errno {
        Errno::NOENT => "it is not there",
        Errno::NOTDIR => "a part of the path is not a directory",
        Errno::LOOP => "a symbolic link is in its place or on the way",
        Errno::XDEV => "the path leaves the root or the file system",
        Errno::NOSPC => "the disk is full",
        Errno::DQUOT => "the disk quota is used up",
        Errno::ROFS => "the file system is read-only",
        Errno::ACCESS => "permission denied",
        Errno::PERM => "the system does not permit it",
        Errno::NAMETOOLONG => "the name is too long for this file system",
        Errno::MFILE | Errno::NFILE => "too many files are open",
        Errno::IO => "the disk reports an input/output error",
        Errno::FBIG => "the file is too large for this file system",
        Errno::INVAL | Errno::ILSEQ => "this file system does not take the name or the request",
        Errno::TXTBSY => "the program is running",
        Errno::NOTEMPTY => "the directory is not empty",
        Errno::EXIST => "something is there already",
        _ => return errno.to_string(),
    };
    words.to_owned()
}
