//! The errors of the modules below, as a person sees them: with a code to act on and what to do.

use skync_agent::handshake::HandshakeError;

use crate::driver::{DriverError, ErrorKind};
use crate::error::{CliError, ExitCode};
use crate::link::LinkError;
use crate::sync::engine::SyncError;

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
            CliError::new(ExitCode::Failed, "cannot open a link to the sandbox").because(&error)
        }
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
        error => CliError::new(ExitCode::Failed, "cannot synchronise").because(&error),
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
