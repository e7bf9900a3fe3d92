//! A client that is attached to an operation: its terminal and streams are the command's. `exec`,
//! `attach` and `wait` are this with different first words.
//!
//! One loop owns everything and does one thing at a time. Two threads do what blocks: one reads
//! standard input, one writes the output; a terminal that is stopped must not stop the signals. The
//! session may go away under a command that runs: the loop then dials its successor, and goes on at
//! the byte where it was.

mod client;
mod dial;
mod input;
mod interrupts;
mod link;
mod outcome;
mod output;
mod query;
pub(super) mod signals;
pub(super) mod voice;

use std::time::Duration;

pub(super) use client::run;
pub(super) use link::seconds;
pub(super) use outcome::{Left, Outcome, survivors};

use crate::operation::OperationId;
use crate::session::proto::{Attachment, Begin, Join, TerminalSize};
use crate::ui::terminal;

/// What a client is to its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It has the input, and its signals are the command's.
    Owner,
    /// It sees the output.
    Viewer,
    /// It wants to know how it ends.
    Waiter,
}

/// The first word to the session.
#[derive(Clone, Debug)]
pub(super) enum First {
    /// Run this.
    Begin(Box<Begin>),
    /// Join what runs.
    Join(Box<Join>),
}

/// What a client wants.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The operation.
    pub id: OperationId,
    /// How it comes to it.
    pub first: First,
    /// What it is to it.
    pub role: Role,
    /// Return as soon as it has started.
    pub detach: bool,
    /// How long a session that is gone is looked for; nothing: as long as it takes.
    pub reconnect: Option<Duration>,
}

/// How this client is attached, for the session.
pub(super) fn attachment(is_terminal: bool, reconnect: Option<Duration>) -> Attachment {
    let reconnect_ms = reconnect.map_or(0, crate::config::quantity::milliseconds);
    // Who sets a limit means it, at a terminal too.
    Attachment { person: is_terminal && reconnect.is_none(), reconnect_ms }
}

/// The terminal's size, for the session.
pub(super) fn terminal_size() -> TerminalSize {
    // What is not known is 0, which the sandbox makes 24 by 80.
    terminal::size().map_or_else(TerminalSize::default, |size| TerminalSize {
        rows: size.rows,
        columns: size.columns,
    })
}
