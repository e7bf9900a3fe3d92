//! The one error that people see: what happened, why, what to do.
//!
//! Modules have errors of their own; they become a [`CliError`] where a command ends. A caller
//! branches on [`ExitCode`], a person reads the rest.

use std::fmt;

/// What the process says when it ends. `exec` passes a command's own code through instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The configuration or the profile is wrong.
    Config = 3,
    /// A key is missing, refused, or cannot be read.
    Auth = 4,
    /// What was named is not there.
    NotFound = 5,
    /// The two sides disagree and a person must say.
    Conflict = 6,
    /// The engine or provider cannot be reached.
    Unreachable = 7,
    /// No room, memory or quota.
    Exhausted = 8,
    /// `exec`: the command started and its outcome is not known.
    OutcomeUnknown = 123,
    /// `exec`: the command ran longer than it may, and was stopped.
    TimedOut = 124,
    /// `exec`: skync failed before the command started; it is safe to try again.
    NotStarted = 125,
    /// `exec`: found, but it cannot be executed.
    NotExecutable = 126,
    /// `exec`: not found.
    CommandNotFound = 127,
    /// Ctrl-C.
    Interrupted = 130,
}

impl ExitCode {
    /// The code of that number; [`ExitCode::Failed`] if there is none.
    pub fn from_number(number: u32) -> Self {
        const ALL: [ExitCode; 15] = [
            ExitCode::Done,
            ExitCode::Failed,
            ExitCode::Usage,
            ExitCode::Config,
            ExitCode::Auth,
            ExitCode::NotFound,
            ExitCode::Conflict,
            ExitCode::Unreachable,
            ExitCode::Exhausted,
            ExitCode::OutcomeUnknown,
            ExitCode::TimedOut,
            ExitCode::NotStarted,
            ExitCode::NotExecutable,
            ExitCode::CommandNotFound,
            ExitCode::Interrupted,
        ];
        ALL.into_iter().find(|code| *code as u32 == number).unwrap_or(Self::Failed)
    }

    /// True if the same thing may work when it is done once more, with nothing changed by a person: the
    /// other end could not be reached, or had no room.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Unreachable | Self::Exhausted => true,
            Self::Done
            | Self::Failed
            | Self::Usage
            | Self::Config
            | Self::Auth
            | Self::NotFound
            | Self::Conflict
            | Self::OutcomeUnknown
            | Self::TimedOut
            | Self::NotStarted
            | Self::NotExecutable
            | Self::CommandNotFound
            | Self::Interrupted => false,
        }
    }
}

/// An error on its way to a person.
#[derive(Clone, Debug)]
pub struct CliError {
    /// What the process ends with.
    pub code: ExitCode,
    /// What happened and why: one sentence, lower case, no stop, names in backticks.
    pub message: String,
    /// What to do, one line each.
    pub hints: Vec<String>,
    /// What it came from, outermost first; shown after the message.
    pub causes: Vec<String>,
    /// Blocks of lines that show where; printed as they are, so made printable by who adds them.
    pub details: Vec<String>,
    /// The same may work when it is done once more; see [`ExitCode::is_retryable`].
    pub retryable: bool,
}

impl CliError {
    /// An error without hints.
    pub fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hints: Vec::new(),
            causes: Vec::new(),
            details: Vec::new(),
            retryable: code.is_retryable(),
        }
    }

    /// Adds a line of what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds what it came from, with all that that came from.
    #[must_use]
    pub fn because(mut self, source: &dyn std::error::Error) -> Self {
        let mut next = Some(source);
        while let Some(cause) = next {
            self.causes.push(cause.to_string());
            next = cause.source();
        }
        self
    }

    /// The same error for `exec` before the command has started; an interruption stays one.
    #[must_use]
    pub fn not_started(mut self) -> Self {
        if self.code != ExitCode::Interrupted {
            self.code = ExitCode::NotStarted;
        }
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for CliError {}
