//! A filesystem over a [`Source`]: how skync shows a sandbox's files as a directory.
//!
//! This crate knows nothing of links, agents or drivers, and depends on nothing of ours, so that a
//! filesystem can be tested without a kernel and without a sandbox.
//!
//! # The straight line
//! A request of the kernel comes in at `fuse` (which only translates), is answered by `filesystem`
//! out of what `nodes` knows of the tree, or, for content, by `content`, and only where those do not
//! know by the [`Source`]. What changes in the source comes in at
//! `filesystem::refresh`, is applied to `nodes`
//! (pure: no I/O, no clock), and what follows from it for the kernel goes out through `notify`.
//! [`Mounted`] puts the pieces together.
//!
//! # Systems
//! Only Linux mounts: macOS has no FUSE of its own. Elsewhere there are the words ([`source`]), and
//! [`system`], by which nothing is mounted.

#[cfg(target_os = "linux")]
mod content;
#[cfg(target_os = "linux")]
pub mod errno;
#[cfg(target_os = "linux")]
mod filesystem;
#[cfg(target_os = "linux")]
mod fuse;
#[cfg(target_os = "linux")]
mod mounted;
#[cfg(target_os = "linux")]
mod nodes;
#[cfg(target_os = "linux")]
mod notify;
pub mod source;
pub mod system;
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub mod testing;

#[cfg(target_os = "linux")]
pub use mounted::{Busy, Lost, MountError, Mounted, Options, Owners, UnmountError, Usage};
pub use source::{Answer, Source, SourceError};
