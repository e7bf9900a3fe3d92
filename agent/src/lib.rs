//! Everything that is true at either end of a link: the endpoint of a synchronisation, and the
//! operations of a sandbox.
//!
//! The binary `skync-agent` serves this library in a sandbox; a session runs the endpoint half
//! in-process over the host's files, so both sides share one implementation.
//!
//! # The straight line, here
//! [`path`] and [`entry`] are the vocabulary. [`rules`] says what is excluded, [`scan`] reads a
//! tree, [`delta`] finds what of a content the receiver has, [`staging`] holds content until it is
//! needed, [`transition`] changes a tree, and all of them touch the disk through [`disk`] alone;
//! [`endpoint`] holds them together. [`watch`] tells what may have changed
//! and [`follow`] keeps a tree what its disk is. `files` are those of a sandbox, for a mount.
//! [`proto`] is the wire contract, [`wire`] turns its messages
//! into checked values and [`pack`] makes them smaller. [`handshake`] opens a link,
//! `launch` and `serve` are the agent's life, `lease` its end, `bridge` and [`websocket`] what leads to
//! it; `operation` runs commands, each under an `operation::supervisor`.
//!
//! # Systems
//! A sandbox is Linux, and so is the agent. On macOS there is the half of it that a host needs: the
//! endpoint. What the two systems do differently is in `disk::linux` and `disk::macos`,
//! `watch::linux` and `watch::macos`, and `wake`; nothing else asks which one it is on.
//!
//! # What is not here
//! Nothing here knows drivers, sessions or conflicts, resolves host names, or looks up users: the
//! agent is a static binary that must work in an empty image.

#[cfg(target_os = "linux")]
pub mod bridge;
pub mod delta;
pub mod disk;
pub mod endpoint;
pub mod entry;
#[cfg(target_os = "linux")]
pub mod files;
pub mod follow;
pub mod handshake;
#[cfg(target_os = "linux")]
pub mod launch;
#[cfg(target_os = "linux")]
pub mod lease;
#[cfg(target_os = "linux")]
pub mod operation;
#[cfg(target_os = "linux")]
pub mod own;
pub mod pack;
pub mod path;
pub mod rules;
pub mod scan;
#[cfg(target_os = "linux")]
pub mod serve;
#[cfg(target_os = "linux")]
mod service;
pub mod sizes;
pub mod staging;
#[cfg(target_os = "linux")]
pub mod stop;
pub mod transition;
mod wake;
pub mod watch;
pub mod websocket;
pub mod wire;

/// The wire contract, generated from `proto/skync.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("skync.v1");
}
