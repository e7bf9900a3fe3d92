//! One operation as the host remembers it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::OperationId;

/// Version of a record's file. History: 1, the first.
pub(super) const FORMAT: u32 = 1;

/// What an operation is, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the file; a later one may mean things that we do not know.
    pub format: u32,
    /// Its id.
    pub id: OperationId,
    /// Its name; may be empty.
    #[serde(default)]
    pub name: String,
    /// The project on the host.
    pub root: PathBuf,
    /// The profile's name; with the root it finds the session.
    pub profile: String,
    /// The command's words. What is not UTF-8 is replaced: they are shown, never run again.
    pub argv: Vec<String>,
    /// When it began, milliseconds since 1970.
    pub began_ms: u64,
    /// What became of it.
    pub state: RecordState,
    /// It goes on although nobody is attached.
    #[serde(default)]
    pub detached: bool,
    /// It has a terminal.
    #[serde(default)]
    pub terminal: bool,
    /// How long it goes on without its client; as in `Begin`.
    #[serde(default)]
    pub disconnect_ms: u64,
    /// The sandbox's name, for a person.
    #[serde(default)]
    pub sandbox: String,
    /// How it ended, if that is known.
    #[serde(default)]
    pub exit: Option<ExitRecord>,
    /// Why it is lost, or was refused; for a person.
    #[serde(default)]
    pub why: String,
    /// When it ended, or was given up, milliseconds since 1970; 0: it has not.
    #[serde(default)]
    pub ended_ms: u64,
    /// Output below this offset was written out by a client: a later one begins there.
    #[serde(default)]
    pub taken: u64,
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordState {
    /// It was started, and nobody has written down its end.
    Running,
    /// It has ended, and `exit` says how.
    Ended,
    /// It had started, and its outcome is not known.
    Lost,
    /// It was never started.
    Refused,
}

impl RecordState {
    /// The word for programs; it never changes.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Ended => "ended",
            Self::Lost => "lost",
            Self::Refused => "refused",
        }
    }
}

/// How an operation ended: `Exit` of session.proto.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExitRecord {
    /// The exit code, if the command exited.
    pub code: u32,
    /// The signal that killed it, else 0.
    pub signal: u32,
    /// The sandbox's memory limit killed it.
    pub out_of_memory: bool,
    /// Bytes, if it is known and `out_of_memory` is set.
    pub memory_limit: u64,
    /// Processes that were stopped by a cancel.
    pub stopped: u32,
    /// Processes that could not be stopped.
    pub survivors: u32,
    /// It ran longer than it may.
    pub timed_out: bool,
    /// It was cancelled.
    pub cancelled: bool,
    /// When it started, milliseconds since 1970.
    pub started_ms: u64,
    /// When it ended, milliseconds since 1970.
    pub ended_ms: u64,
    /// Bytes of output, both streams together.
    pub output_bytes: u64,
    /// Bytes of output that the spool had no room for.
    pub lost_bytes: u64,
    /// Bytes of input that were taken.
    pub input_bytes: u64,
}

impl Record {
    /// A record of an operation that is about to start.
    pub fn new(id: OperationId, root: PathBuf, profile: String, argv: &[Vec<u8>]) -> Self {
        Self {
            format: FORMAT,
            id,
            name: String::new(),
            root,
            profile,
            argv: argv.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
            began_ms: 0,
            state: RecordState::Running,
            detached: false,
            terminal: false,
            disconnect_ms: 0,
            sandbox: String::new(),
            exit: None,
            why: String::new(),
            ended_ms: 0,
            taken: 0,
        }
    }
}
