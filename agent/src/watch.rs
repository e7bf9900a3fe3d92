//! Tells what changes in a tree, while it changes.
//!
//! `linux` watches every directory with inotify, `macos` the whole tree with FSEvents; both are a
//! [`Watcher`]. Changes that another machine makes on a network file system, and writes through a
//! memory map, are no events on either. The periodic rescan is the net under all that.
//!
//! It changes nothing, reads no file and decides nothing: when a path is to be read again is the
//! matter of [`settle`].

#[cfg(target_os = "linux")]
pub(crate) mod inotify;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
pub mod settle;

use std::fmt;
#[cfg(target_os = "linux")]
use std::path::Path;

use rustix::io::Errno;

use crate::path::SyncPath;

#[cfg(target_os = "linux")]
pub use linux::Watcher;
#[cfg(target_os = "macos")]
pub use macos::Watcher;

/// A change in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A name is there that was not, or something was moved over it.
    Appeared {
        /// Where.
        path: SyncPath,
        /// What appeared is a directory. Nothing below it was watched.
        is_directory: bool,
        /// It came by a rename, so it is complete.
        moved: bool,
    },
    /// A name was removed or moved away. If it was a directory, the watches at and below it are
    /// forgotten.
    Gone {
        /// Where.
        path: SyncPath,
        /// What went was a directory.
        is_directory: bool,
    },
    /// A file's content changed; more may come.
    Writing(SyncPath),
    /// A file that was open for writing was closed.
    Written(SyncPath),
    /// Permissions, owner or times changed.
    Attributes(SyncPath),
    /// The kernel's queue was full: any change may have been missed.
    Overflow,
    /// The root itself was removed, moved, replaced or unmounted.
    RootGone,
}

impl Event {
    /// The path it is about; nothing if it is about the whole tree.
    pub fn path(&self) -> Option<&SyncPath> {
        match self {
            Self::Appeared { path, .. }
            | Self::Gone { path, .. }
            | Self::Writing(path)
            | Self::Written(path)
            | Self::Attributes(path) => Some(path),
            Self::Overflow | Self::RootGone => None,
        }
    }
}

/// Why something cannot be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchError {
    /// The user has as many watchers as the system allows.
    #[cfg(target_os = "linux")]
    Instances,
    /// The user watches as many directories as the system allows.
    #[cfg(target_os = "linux")]
    Watches,
    /// The system gives no events of that directory.
    #[cfg(target_os = "macos")]
    Stream,
    /// What else the system says.
    Other(Errno),
}

impl fmt::Display for WatchError {
    #[cfg(target_os = "linux")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, setting) = match self {
            Self::Instances => ("inotify instances", "max_user_instances"),
            Self::Watches => ("inotify watches", "max_user_watches"),
            Self::Other(errno) => return f.write_str(&crate::disk::reason(*errno)),
        };
        write!(f, "the limit of {what} is reached: raise the sysctl `fs.inotify.{setting}`")?;
        match std::fs::read_to_string(Path::new("/proc/sys/fs/inotify").join(setting)) {
            Ok(now) => write!(f, " (now {})", now.trim()),
            Err(_) => Ok(()),
        }
    }

    #[cfg(target_os = "macos")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream => f.write_str("the system gives no file events (FSEvents) of it"),
            Self::Other(errno) => f.write_str(&crate::disk::reason(*errno)),
        }
    }
}

impl std::error::Error for WatchError {}
