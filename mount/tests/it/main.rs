//! The filesystem with a kernel on top: mounts over a directory of this machine.
//!
//! One binary. Whatever touches a mount does so in a thread and within a deadline: a request that is
//! not answered cannot be killed, and would hold the test for ever.

#![expect(clippy::disallowed_methods, reason = "what is written here is a test's")]

mod support;

mod contents;
mod events;
mod files;
mod going;
mod model;
mod outside;
mod reading;
mod stress;
