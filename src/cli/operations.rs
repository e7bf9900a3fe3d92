//! The arguments of `exec` and of the verbs about what it has started.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::config::OnDisconnect;
use crate::config::quantity::{duration, on_disconnect, size};

/// Longest name of an operation, in characters.
const NAME_MAX: usize = 64;

const EXEC_HELP: &str = "\
Examples:
  skync exec python -m pytest -q
  skync exec -e DEBUG=1 -e TOKEN -- ./run.sh --fast    TOKEN is taken from this shell
  echo y | skync exec ./setup.sh
  skync exec sh -c 'make && make test'                 a shell runs where you name one
  skync exec vim notes.md                              a terminal, since you sit at one
  skync exec -d --name train python train.py           `skync logs -f train` follows it
  skync exec --timeout 10m --report run.json make      the facts for a program

At a terminal, after Enter:
  ~.  leave; the command goes on      ~k  stop it and everything that it started
  ~s  how things are                  ~?  this list           ~~  send one ~";

const EXEC_CODES_END: &str = "\
A command may end with 123 to 127 itself; skync's own errors are on stderr, after `error:`, and
--report says whose the code is.";

/// What stands behind the options in `skync exec --help`.
pub(super) fn exec_help() -> String {
    format!("{EXEC_HELP}\n\nExit codes:\n{}{EXEC_CODES_END}", super::manual::command_rows())
}

pub(super) const PS_HELP: &str = "\
Examples:
  skync ps            what runs now, in all projects of this machine
  skync ps -a         what has ended in the last 24 hours too
  skync --json ps     one document for a program";

pub(super) const LOGS_HELP: &str = "\
Examples:
  skync logs 3f9c0d2a                   all that it has written
  skync logs -f train                   and what it writes from now on, until it ends
  skync logs --tail 20 train            the last 20 lines
  skync logs --since 10m --stream stderr train";

pub(super) const ATTACH_HELP: &str = "\
Examples:
  skync attach 3f9c0d2a                 go on where its last client was
  skync attach --read-only train        watch, and type nothing

`Enter ~.` leaves again. The exit code is the operation's, as with `skync exec`.";

pub(super) const WAIT_HELP: &str = "\
Examples:
  skync wait train && echo it went well

The exit code is the operation's, as with `skync exec`; 123 if its outcome is not known.";

pub(super) const CANCEL_HELP: &str = "\
Examples:
  skync cancel train               SIGINT, then SIGTERM, then SIGKILL, 5 s apart
  skync cancel --grace 30s train   more time between them
  skync cancel --kill train        SIGKILL at once";

/// Arguments of `exec`.
#[derive(Args, Clone, Debug)]
pub struct ExecArgs {
    /// The project's directory; else the one around the current directory
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Where the command starts: a directory of the project, or an absolute path in the sandbox
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Set a variable for the command; without a value it is taken from this shell
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Leave out what this pattern matches, gitignore syntax
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Go on although the project is `/`, the home directory, or otherwise a likely mistake
    #[arg(long)]
    pub force: bool,
    /// Give the command a terminal; else it gets one if stdin and stdout are terminals
    #[arg(short, long, conflicts_with = "no_tty")]
    pub tty: bool,
    /// Give the command pipes, also at a terminal
    #[arg(short = 'T', long)]
    pub no_tty: bool,
    /// Nothing: stdin is always forwarded. Accepted for those used to `docker exec -it`
    #[arg(short, long, hide = true)]
    pub interactive: bool,
    /// Return once it has started, and print its id; it goes on in the background
    #[arg(short, long)]
    pub detach: bool,
    /// Call it so, for `skync logs NAME` and the like
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub name: Option<String>,
    /// Stop it when it has run so long, as in 90s, 10m or 1h30m; the exit code is 124
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// Time between the steps of stopping it; else 5s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub grace: Option<Duration>,
    /// What becomes of it if this client goes without a word: keep, cancel, or how long it goes on;
    /// else 10m
    #[arg(long, value_name = "WHAT", value_parser = on_disconnect)]
    pub on_disconnect: Option<OnDisconnect>,
    /// Do not wait until its results are here
    #[arg(long)]
    pub no_wait: bool,
    /// Give up if synchronising before it makes no progress for so long; else 60s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub sync_timeout: Option<Duration>,
    /// Give up a link that is lost after so long, with exit code 123; else 10m, and at a terminal
    /// never
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub reconnect_timeout: Option<Duration>,
    /// How much of its output is kept while nobody takes it, as in 64MiB; else 256MiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub spool: Option<u64>,
    /// Write how it went into this file, as a JSON document
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// The command and its arguments, passed on exactly
    // Without `allow_hyphen_values` a mistyped flag before the command is an error instead of the
    // name of a program; behind the first word everything is the command's.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Arguments of `ps`.
#[derive(Args, Clone, Debug, Default)]
pub struct PsArgs {
    /// Show what has ended too
    #[arg(short, long)]
    pub all: bool,
}

/// A stream of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StreamName {
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
}

impl StreamName {
    /// As messages have it.
    pub fn number(self) -> u32 {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }
}

/// Arguments of `logs`.
#[derive(Args, Clone, Debug)]
pub struct LogsArgs {
    /// The operation: its name, or the first digits of its id
    #[arg(value_name = "OPERATION")]
    pub operation: String,
    /// Show what it writes from now on too, until it ends
    #[arg(short, long)]
    pub follow: bool,
    /// Begin with the last so many lines
    #[arg(long, value_name = "COUNT", conflicts_with = "since")]
    pub tail: Option<u64>,
    /// Begin with what was written so long ago, as in 10m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub since: Option<Duration>,
    /// Only this stream
    #[arg(long, value_name = "STREAM")]
    pub stream: Option<StreamName>,
}

/// Arguments of `attach`.
#[derive(Args, Clone, Debug)]
pub struct AttachArgs {
    /// The operation: its name, or the first digits of its id
    #[arg(value_name = "OPERATION")]
    pub operation: String,
    /// Only watch: whoever has the input keeps it
    #[arg(long)]
    pub read_only: bool,
}

/// Which operation is meant.
#[derive(Args, Clone, Debug)]
pub struct WaitArgs {
    /// The operation: its name, or the first digits of its id
    #[arg(value_name = "OPERATION")]
    pub operation: String,
}

/// Arguments of `cancel`.
#[derive(Args, Clone, Debug)]
pub struct CancelArgs {
    /// The operation: its name, or the first digits of its id
    #[arg(value_name = "OPERATION")]
    pub operation: String,
    /// SIGKILL at once
    #[arg(long)]
    pub kill: bool,
    /// Time between the steps; else 5s
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "kill")]
    pub grace: Option<Duration>,
}

fn name(text: &str) -> Result<String, String> {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if starts_well && text.len() <= NAME_MAX && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err("a name has up to 64 letters, digits, `.`, `_` and `-`, and starts with a letter or digit"
        .to_owned())
}
