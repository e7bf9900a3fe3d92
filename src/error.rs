//! The one error that people see: what happened, why, what to do.
//!
//! Modules have errors of their own; they become a [`CliError`] where a command ends. A caller
//! branches on [`ExitCode`], a person reads the rest.

use std::fmt;

/// What to do about what cannot be: only we can mend it.
pub const MISTAKE: &str = "this is a mistake in skync: `skync doctor --bundle FILE` gathers what a \
                           report of it needs";
/// What to look at if the system refuses what it grants to everybody.
pub const LIMITS: &str = "a limit may be reached: `ulimit -n` says how many files may be open, \
                          `ulimit -u` how many processes there may be";

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
    /// All of them, by number.
    pub const ALL: [Self; 15] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Config,
        Self::Auth,
        Self::NotFound,
        Self::Conflict,
        Self::Unreachable,
        Self::Exhausted,
        Self::OutcomeUnknown,
        Self::TimedOut,
        Self::NotStarted,
        Self::NotExecutable,
        Self::CommandNotFound,
        Self::Interrupted,
    ];

    /// The code of that number; [`ExitCode::Failed`] if there is none.
    pub fn from_number(number: u32) -> Self {
        Self::ALL.into_iter().find(|code| *code as u32 == number).unwrap_or(Self::Failed)
    }

    /// The word for it, for programs; it never changes.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Config => "config",
            Self::Auth => "auth",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Unreachable => "unreachable",
            Self::Exhausted => "exhausted",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::TimedOut => "timed-out",
            Self::NotStarted => "not-started",
            Self::NotExecutable => "not-executable",
            Self::CommandNotFound => "command-not-found",
            Self::Interrupted => "interrupted",
        }
    }

    /// What it says, for the table in the help, the manual and the README: one line.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "it failed",
            Self::Usage => "the command line is wrong",
            Self::Config => "the configuration or the profile is wrong",
            Self::Auth => "a key is missing, refused or cannot be read",
            Self::NotFound => "what was named is not there",
            Self::Conflict => "the two sides disagree and a person must say",
            Self::Unreachable => "the engine or provider cannot be reached",
            Self::Exhausted => "no room, memory or quota",
            Self::OutcomeUnknown => {
                "the command started and its outcome is not known: `skync attach ID` tries again"
            }
            Self::TimedOut => {
                "it ran longer than --timeout or the profile's `max_runtime`, and was stopped"
            }
            Self::NotStarted => "skync failed before the command started: it is safe to try again",
            Self::NotExecutable => "the command was found and cannot be executed",
            Self::CommandNotFound => "the command was not found",
            Self::Interrupted => "interrupted by Ctrl-C",
        }
    }

    /// What to do where an error says nothing better.
    pub fn way_forward(self) -> Option<&'static str> {
        match self {
            Self::Done | Self::Interrupted | Self::TimedOut => None,
            Self::Failed | Self::NotStarted | Self::OutcomeUnknown => Some(
                "`skync doctor` looks for what may be wrong; the log is `session.log` in \
                 ~/.local/state/skync",
            ),
            Self::Usage => Some("`--help` says what there is"),
            Self::Config => Some("`skync profile validate` says all that is wrong"),
            Self::Auth => Some("`skync auth status` says which keys there are"),
            Self::NotFound => Some("`skync status` and `skync ps -a` show what there is"),
            Self::Conflict => Some("`skync conflicts` lists what is open"),
            Self::Unreachable => Some("try again; `skync doctor` says what can be reached"),
            Self::Exhausted => Some("make room, then try again"),
            Self::NotExecutable | Self::CommandNotFound => {
                Some("look at the command, and at what the sandbox has: `skync exec ls -l PATH`")
            }
        }
    }

    /// True of the codes that `exec`, `attach` and `wait` alone have: below them a code is the command's.
    pub fn is_of_a_command(self) -> bool {
        (Self::OutcomeUnknown as u8..=Self::CommandNotFound as u8).contains(&(self as u8))
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

    /// The same error with a way forward, if it had none.
    #[must_use]
    pub fn with_way_forward(self) -> Self {
        match self.code.way_forward() {
            Some(hint) if self.hints.is_empty() => self.hint(hint),
            Some(_) | None => self,
        }
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
