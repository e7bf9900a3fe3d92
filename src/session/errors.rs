//! The errors of the modules below, as a person sees them: with a code to act on and what to do.

use skync_agent::handshake::HandshakeError;
use tonic::Code;

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
        error => {
            let hint = link_hint(&error);
            CliError::new(ExitCode::Failed, "cannot open a link to the sandbox")
                .because(&error)
                .hint(hint)
        }
    }
}

fn link_hint(error: &LinkError) -> &'static str {
    match error {
        LinkError::Silent(_) | LinkError::Http(_) | LinkError::Handshake(HandshakeError::Io(_)) => {
            "try again: skync dials anew, and nothing of either side is lost"
        }
        // A newer link of the same session is open.
        LinkError::Handshake(HandshakeError::Refused(_)) => {
            "its session has a successor by now: try again"
        }
        LinkError::Handshake(HandshakeError::NotSkync(_) | HandshakeError::Malformed) => {
            "something else answered, in the sandbox or on the way to it: try again; `skync doctor` says \
             what can be reached"
        }
        // Somebody answers in the agent's place, and is told nothing of the project.
        LinkError::Impostor | LinkError::Handshake(HandshakeError::Secret) => {
            "`skync down --discard` gives up that sandbox, and what is only in it; the next command makes \
             another"
        }
        LinkError::Driver(_) | LinkError::Handshake(HandshakeError::Protocol { .. }) => MISTAKE,
    }
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
            "nothing was changed by it: is the project's directory there and yours to read, and is there \
             room in the state directory?"
        }
        SyncError::Rules(_) => {
            "make the ignore file that is named smaller, or one that you can read"
        }
        SyncError::Sandbox(status) | SyncError::Transfer(TransferError::Link(status))
            if status.code() == Code::Unavailable =>
        {
            "both sides are as they were last carried over: the next command goes on from there"
        }
        SyncError::Sandbox(_) | SyncError::Transfer(TransferError::Link(_)) => {
            "nothing is lost: look at the sandbox (`skync exec df -h`), then try again"
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
