//! What a person or the system sends to end a command that has something to put right first.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{CliError, ExitCode, LIMITS};

/// Ctrl-C, TERM and HUP, which from here on end nothing by themselves.
pub(super) struct Ends {
    int: Signal,
    term: Signal,
    hup: Signal,
}

impl Ends {
    /// Takes them.
    ///
    /// # Errors
    /// As [`hear`].
    pub(super) fn new() -> Result<Self, CliError> {
        Ok(Self {
            int: hear(SignalKind::interrupt())?,
            term: hear(SignalKind::terminate())?,
            hup: hear(SignalKind::hangup())?,
        })
    }

    /// Returns when one has come.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
            _ = self.hup.recv() => {}
        }
    }
}

/// Takes a signal.
///
/// # Errors
/// If the system has nothing to tell of it by.
pub(super) fn hear(kind: SignalKind) -> Result<Signal, CliError> {
    signal(kind).map_err(|error| {
        CliError::new(ExitCode::Failed, "cannot handle signals").because(&error).hint(LIMITS)
    })
}
