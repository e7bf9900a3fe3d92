//! skync mirrors a project into a sandbox, runs commands there as if they were local, and leaves
//! nothing behind.
//!
//! # The straight line
//! `skync exec CMD` ([`commands::exec`]) finds the [`project`] and the profile ([`config`]), and
//! hands the command to the project's [`session`], a background process that it starts if there is
//! none. The session has a [`driver`] make a sandbox with our agent in it, opens a [`link`] to that
//! agent, and synchronises ([`sync`]): **entry** (`skync_agent::scan`, on both sides) → **plan**
//! ([`sync::reconcile`], [`sync::safety`]) → **content** ([`sync::transfer`],
//! `skync_agent::staging`) → **write** (`skync_agent::transition` over `skync_agent::disk`) →
//! **record** ([`sync::manifest`]). Then the agent runs the command under a supervisor of its own
//! (`skync_agent::operation`), its streams come back, and the same line brings the results home.
//!
//! # What survives what
//! A command belongs to its supervisor, and everything else may come and go: output is read from an
//! offset on and input written at one, so whoever comes back goes on where it was. In the session an
//! operation has a task of its own (`session::exec`), clients are attached to it
//! (`session::attach`) over whatever link there is (`session::ways`), and `session::mirror` dials
//! the next one. A session that dies is started again by its keeper and takes over what there is
//! (`session::succession`); its clients join it. What an operation was and wrote stays on the host for
//! a day ([`operation`]).
//!
//! `skync up` ([`commands::up`]) is the same line without the command, over and over: a task of the
//! session carries over whatever changes on either side, and mends the link when it breaks, until
//! the last `up` has left. What happens is told to every client as it happens; `status`, `flush`,
//! `pause`, `resume` and `down` are one call each.
//!
//! `skync mount` ([`commands::mount`]) shows the sandbox itself: the session has a table of mounts
//! (`session::mount_table`), each of them the filesystem of [`skync_mount`] over the files that come over
//! the link (`mounts`). It is taken away before results come home, and made again by a successor.
//!
//! # Systems
//! Sandboxes are Linux, whatever this runs on. On macOS there is everything but what needs the agent or
//! FUSE on this machine: the driver `directory` (`driver::no_directory`) and mounts
//! (`session::mounting::nowhere`) say so. No agent is built there: `SKYNC_EMBED_AGENT_DIR` or
//! `SKYNC_AGENT_DIR` name some that were built on Linux. Containers are in a virtual machine there, so
//! the link goes by `exec`. What is different with files is said in `skync_agent`. `scripts/check-macos`
//! has a compiler look at all this; nothing has run there yet.
//!
//! Not Windows: `skync_agent::disk` needs directory descriptors (`NtCreateFile` relative to a handle, and
//! reparse points refused), modes, ownership and locks are Unix's all through [`state`], the session's
//! socket and its peer check would be a named pipe, and terminals and signals of [`commands::exec`] the
//! console's. That is another implementation of each, so a build for it stops at once and says so.
//!
//! # What is not here
//! - Nothing but [`driver`] knows which kind of sandbox there is.
//! - Nothing but [`commands`] and [`ui`] talks to the terminal; nothing but [`state`] writes our own
//!   files, and nothing in this crate writes a user's files: the agent library does.
//! - [`sync::reconcile`], [`sync::plan`], [`sync::safety`], [`sync::ancestor`],
//!   [`session::lifecycle`] and [`session::view`] do no I/O, know no time and never log.
//! - Imports go one way: `commands → session → {sync, operation, mounts} → link → driver`.

pub mod agents;
mod backoff;
pub mod channel;
pub mod cli;
pub mod commands;
pub mod config;
pub mod credentials;
pub mod driver;
pub mod environment;
pub mod error;
pub mod link;
#[cfg(target_os = "linux")]
pub mod mounts;
pub mod operation;
pub mod project;
pub mod session;
pub mod state;
pub mod sync;
pub mod ui;
