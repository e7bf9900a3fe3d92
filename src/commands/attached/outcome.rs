//! What came of being attached, and which exit code that is.

use crate::error::{CliError, ExitCode};
use crate::operation::OperationId;
use crate::session::proto::{Exit, Finished, Started};

/// Why a client went before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Left {
    /// By `~.`; false if the session could not be told, so that it counts as gone without a word.
    Detached(bool),
    /// By Ctrl-C, or a signal.
    Interrupted,
    /// The session is gone, and no other one serves this operation.
    Lost,
}

/// What came of it.
#[derive(Debug)]
pub(in crate::commands) struct Outcome {
    pub id: OperationId,
    /// The last of them.
    pub started: Option<Started>,
    pub exit: Option<Exit>,
    /// What the session said went wrong.
    pub failure: Option<CliError>,
    pub finished: Option<Finished>,
    pub left: Option<Left>,
}

impl Outcome {
    /// The command's own exit code, as a shell has it.
    pub(in crate::commands) fn command_code(exit: &Exit) -> u8 {
        if exit.timed_out {
            return ExitCode::TimedOut as u8;
        }
        match exit.signal {
            0 => u8::try_from(exit.code).unwrap_or(u8::MAX),
            signal => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }

    /// What the process ends with, and what is to be said if it is not the command's alone.
    pub(in crate::commands) fn code(&self, detach: bool) -> (u8, Option<CliError>) {
        match self.left {
            Some(Left::Detached(_)) => return (ExitCode::Done as u8, None),
            Some(Left::Interrupted) => return (ExitCode::Interrupted as u8, None),
            Some(Left::Lost) | None => {}
        }
        match (&self.exit, &self.failure) {
            (Some(exit), failure) => {
                let code = Self::command_code(exit);
                let survivors = (exit.survivors > 0).then(|| survivors(exit.survivors, self.id));
                let unfinished = (self.left == Some(Left::Lost)).then(unfinished);
                // It ran, so no code may say that it did not; but it is no success either.
                let error = failure.as_ref().cloned().or(survivors).or(unfinished);
                let least = error.as_ref().map_or(0, |_| ExitCode::Failed as u8);
                (code.max(least), error)
            }
            (None, Some(failure)) => {
                let mut error = failure.clone();
                let is_unknown = self.started.is_some() && !detach;
                if is_unknown && (error.code as u8) < ExitCode::OutcomeUnknown as u8 {
                    error.code = ExitCode::OutcomeUnknown;
                }
                if error.code == ExitCode::OutcomeUnknown {
                    error.hints.extend(hints(self.id));
                }
                (error.code as u8, Some(error))
            }
            (None, None) if detach && self.started.is_some() => (ExitCode::Done as u8, None),
            (None, None) => {
                let error = self.lost();
                (error.code as u8, Some(error))
            }
        }
    }

    fn lost(&self) -> CliError {
        if self.started.is_none() {
            let message = "the session ended before the command started";
            return CliError::new(ExitCode::NotStarted, message).hint("it is safe to try again");
        }
        let message = "the session ended while the command was running; its outcome is not known";
        let mut error = CliError::new(ExitCode::OutcomeUnknown, message);
        error.hints.extend(hints(self.id));
        error
    }
}

fn hints(id: OperationId) -> [String; 2] {
    let id = id.short();
    [
        format!("`skync attach {id}` goes on where this ended, if the command is still there"),
        format!("`skync logs {id}` shows what is known of its output"),
    ]
}

/// Processes that a cancel could not stop.
pub(in crate::commands) fn survivors(count: u32, id: OperationId) -> CliError {
    let processes = if count == 1 { "process" } else { "processes" };
    let message = format!("{count} {processes} of the command could not be stopped");
    CliError::new(ExitCode::Failed, message).hint(format!(
        "`skync cancel --kill {}` tries again; `skync down` removes the sandbox",
        id.short()
    ))
}

/// The command's end is known, and no more.
fn unfinished() -> CliError {
    let message = "the session ended after the command, and may not have brought all results home";
    CliError::new(ExitCode::Failed, message)
        .hint("`skync status` shows whether its sandbox is there; `skync exec true` tries again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            id: OperationId::random(),
            started: Some(Started::default()),
            exit: None,
            failure: None,
            finished: None,
            left: None,
        }
    }

    #[test]
    fn the_code_is_the_commands_unless_it_ran_too_long() {
        for (exit, code) in [
            (Exit { code: 3, ..Exit::default() }, 3),
            (Exit { code: 300, ..Exit::default() }, 255),
            (Exit { signal: 15, ..Exit::default() }, 143),
            (Exit { signal: 9, timed_out: true, ..Exit::default() }, 124),
        ] {
            let outcome = Outcome { exit: Some(exit), ..outcome() };
            let (found, error) = outcome.code(false);
            assert!(found == code && error.is_none(), "{found}");
        }
    }

    #[test]
    fn a_failure_after_the_command_or_a_survivor_is_no_success() {
        let failure = Some(CliError::new(ExitCode::Conflict, "not home"));
        let ended = Outcome { exit: Some(Exit::default()), failure, ..outcome() };
        assert_eq!(ended.code(false).0, 1);
        let exit = Exit { survivors: 2, stopped: 5, ..Exit::default() };
        let (code, error) = Outcome { exit: Some(exit), ..outcome() }.code(false);
        assert_eq!(code, 1);
        assert!(error.expect("an error").message.starts_with("2 processes"));
        let exit = Some(Exit::default());
        let lost = Outcome { exit, left: Some(Left::Lost), ..outcome() };
        assert_eq!(lost.code(false).0, 1);
    }

    #[test]
    fn what_had_started_is_unknown_and_what_had_not_is_safe_to_try_again() {
        assert_eq!(outcome().code(false).0, 123);
        assert_eq!(Outcome { started: None, ..outcome() }.code(false).0, 125);
        let failure = Some(CliError::new(ExitCode::Unreachable, "gone"));
        let (code, error) = Outcome { failure, ..outcome() }.code(false);
        assert_eq!(code, 123);
        assert!(error.expect("an error").hints[0].contains("skync attach"));
        let failure = Some(CliError::new(ExitCode::CommandNotFound, "no"));
        assert_eq!(Outcome { started: None, failure, ..outcome() }.code(false).0, 127);
    }

    #[test]
    fn who_leaves_on_purpose_has_a_code_of_their_own() {
        let left = |left| Outcome { left: Some(left), ..outcome() }.code(false).0;
        assert_eq!(left(Left::Detached(true)), 0);
        assert_eq!(left(Left::Interrupted), 130);
        assert_eq!(left(Left::Lost), 123);
        assert_eq!(outcome().code(true).0, 0);
    }
}
