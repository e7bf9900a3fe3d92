//! What the system knows of mounts: which there are, how they are, who uses them, and how they go.
//!
//! Nothing here asks a filesystem of ours anything but [`health`], and that in a thread that may
//! be left behind: a mount whose process is stuck holds whoever touches it, for ever.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod nowhere;

use std::path::PathBuf;

#[cfg(target_os = "linux")]
pub(crate) use linux::{Own, fusermount};
#[cfg(target_os = "linux")]
pub use linux::{bury, detach, health, holders, is_mount_point, mounts, unmount};
#[cfg(not(target_os = "linux"))]
pub use nowhere::{bury, detach, health, holders, is_mount_point, mounts, unmount};

/// What stands before the profile's name in the list of mounts.
pub const NAME_PREFIX: &str = "skync:";
/// A mount of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// Where it is.
    pub at: PathBuf,
    /// What it is called in the list of mounts: `skync:` and the profile's name.
    pub name: String,
}

/// How a mount is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Somebody answers, or it is no mount at all.
    Alive,
    /// The process that served it is gone: "transport endpoint is not connected".
    Dead,
    /// Nobody answers, though somebody should.
    Hangs,
}

/// A process that keeps a mount from going.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its program's name.
    pub command: String,
    /// What it has there, in words: `works in \`src\``.
    pub what: String,
}
