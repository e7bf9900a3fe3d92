//! The errors of the modules below, as a person sees them: with a code to act on and what to do.

use skync_agent::handshake::HandshakeError;

use crate::driver::{DriverError, ErrorKind};
use crate::error::{CliError, ExitCode, MISTAKE};
use crate::link::LinkError;
use crate::sync::engine::SyncError;
use crate::sync::transfer::TransferError;

/// A driver's error, for a person.
pub fn driver_error(error: DriverError) -> CliError {
    let mut shown = CliError::new(exit_code(error.kind), error.message.clone());
    if let Some(source) = &error.source {
        shown = shown.because(&**source);
    }
    shown.hints = error.hints;
    shown
}

/// What a process ends with after a driver's error.
pub fn exit_code(kind: ErrorKind) -> ExitCode {
    match kind {
        ErrorKind::Unreachable => ExitCode::Unreachable,
        ErrorKind::NotFound | ErrorKind::Gone => ExitCode::NotFound,
        ErrorKind::Invalid => ExitCode::Config,
        ErrorKind::Auth => ExitCode::Auth,
        ErrorKind::Exhausted => ExitCode::Exhausted,
        ErrorKind::Denied | ErrorKind::NoAgent | ErrorKind::Failed => ExitCode::Failed,
    }
}

/// A link's error, for a person.
pub fn link_error(error: LinkError) -> CliError {
    match error {
        LinkError::Driver(error) => driver_error(error),
        LinkError::Handshake(error @ HandshakeError::Protocol { .. }) => CliError::new(
            ExitCode::Failed,
            "cannot use the agent in the sandbox",
        )
        .because(&error)
        .hint(
            "use the agent that this skync carries: unset SKYNC_AGENT_DIR, or build it again \
                 with `scripts/build-agents`",
        ),
        error @ (LinkError::Silent(_)
        | LinkError::Http(_)
        | LinkError::Handshake(HandshakeError::Io(_))) => {
            cannot_open(&error, "try again: skync dials anew, and nothing of either side is lost")
        }
        error @ LinkError::Handshake(HandshakeError::Refused(_)) => cannot_open(
            &error,
            "another session may hold this sandbox: `skync status` shows which there are",
        ),
        // Something else answers. It is told nothing and believed nothing.
        error @ (LinkError::Impostor | LinkError::Handshake(_)) => cannot_open(
            &error,
            "something in the sandbox answers in the agent's place, and was sent nothing: `skync down \
             --discard` gives that sandbox up",
        ),
    }
}

fn cannot_open(error: &LinkError, hint: &'static str) -> CliError {
    CliError::new(ExitCode::Failed, "cannot open a link to the sandbox").because(error).hint(hint)
}

/// A synchronisation's error, for a person.
pub fn sync_error(error: SyncError) -> CliError {
    match error {
        // A person decides; until then nothing is lost on either side.
        SyncError::Halted(_) => CliError::new(ExitCode::Conflict, "cannot synchronise")
            .because(&error)
            .hint("if it is meant, `skync resume --accept` carries it out")
            .hint("`skync down --discard` gives up what is only in the sandbox"),
        error => {
            let hint = sync_hint(&error);
            CliError::new(ExitCode::Failed, "cannot synchronise").because(&error).hint(hint)
        }
    }
}

fn sync_hint(error: &SyncError) -> &'static str {
    match error {
        SyncError::Host(_) => {
            "nothing was changed by it: mend what is named, or exclude it (`.skyncignore`)"
        }
        SyncError::Rules(_) => {
            "make the ignore file that is named smaller, or one that you can read"
        }
        SyncError::Sandbox(_) | SyncError::Transfer(TransferError::Link(_)) => {
            "both sides are as they were last carried over: the next command goes on from there"
        }
        SyncError::Manifest(_) | SyncError::Trash(_) => {
            "nothing is changed that cannot be written down first: is there room in the state directory, \
             and is it yours?"
        }
        SyncError::Wire(_)
        | SyncError::Thread(_)
        | SyncError::NotRead
        | SyncError::Halted(_)
        | SyncError::Transfer(TransferError::Wire(_) | TransferError::Thread(_)) => MISTAKE,
    }
}

/// An error with a file of ours, for a person.
pub fn state_error(error: &crate::state::StateError) -> CliError {
    let shown = CliError::new(ExitCode::Failed, "cannot keep the session's state").because(error);
    match error.hint() {
        Some(hint) => shown.hint(hint),
        None => shown,
    }
}
