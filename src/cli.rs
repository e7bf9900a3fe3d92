//! The command line: every verb, flag and help text. Doc comments here are what `--help` prints.
//!
//! Nothing is decided here beyond what the words mean; `SKYNC_PROFILE` is read by the selection
//! ([`crate::config::select`]), which must know where a name came from.

mod auth;
mod config;
mod doctor;
mod init;
mod manual;
mod mounts;
mod operations;
mod profiles;
mod refusal;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub use auth::{AuthCommand, AuthStatusArgs, LoginArgs, LogoutArgs};
use config::{CONFIG_HELP, TRUST_HELP};
pub use config::{ConfigCommand, ConfigShowArgs, TrustArgs};
use doctor::DOCTOR_HELP;
pub use doctor::DoctorArgs;
use init::INIT_HELP;
pub use init::InitArgs;
use manual::{COMPLETIONS_HELP, HELP_HELP, MAN_HELP};
pub use manual::{CompletionsArgs, HelpArgs, ManArgs, Shell, exit_codes};
use mounts::{MOUNT_HELP, UNMOUNT_HELP};
pub use mounts::{MountArgs, ProfileMountArgs, UnmountArgs, UpMountArgs};
use operations::{ATTACH_HELP, CANCEL_HELP, LOGS_HELP, PS_HELP, WAIT_HELP};
pub use operations::{AttachArgs, CancelArgs, ExecArgs, LogsArgs, PsArgs, StreamName, WaitArgs};
pub use profiles::{AddArgs, ProfileCommand, RemoveArgs, ShowArgs, UseArgs, ValidateArgs};
pub use refusal::Glimpse;

/// The heading that keeps the flags of every command apart from those of one.
const GLOBAL: &str = "Options of every command";

const UP_HELP: &str = "\
Examples:
  skync up                        mirror until Ctrl-C, and show what moves
  skync up -d                     mirror in the background; `skync down` ends it
  skync up --exclude 'data/'      leave out what is not needed there
  skync up --mount                show the sandbox's own files meanwhile, in ~/.remote/PROFILE
  skync --json up                 one JSON object per line, for a program

Ctrl-C brings home what the sandbox has, removes the sandbox and ends with code 0. If others use the
sandbox, or it mirrors in the background, only this view ends. Code 6 says that the sandbox was kept
because something in it is not here: `skync status` says what.";

const RESOLVE_HELP: &str = "\
Examples:
  skync resolve                        ask about each conflict
  skync resolve notes.md --host        this side's version is wanted
  skync resolve src --both             keep both versions of all that is in conflict in src
  skync resolve .git/hooks --sandbox   let the hooks that the sandbox wrote come home";

const UNDO_HELP: &str = "\
Examples:
  skync undo --list         what can be brought back
  skync undo notes.md       the version that was there before
  skync undo src            what was lost last in src
  skync undo --last         all that was lost last";

/// Mirror a project into a sandbox, run commands there as if they were local, and leave nothing
/// behind.
#[derive(Debug, Parser)]
#[command(name = "skync", version, after_long_help = manual::root_help(), disable_help_subcommand = true)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command has.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// Use this profile; else SKYNC_PROFILE, else the project's, else the one that `skync use` chose
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "NAME")]
    pub profile: Option<String>,
    /// A setting of the profile for this command, as in `--set image=python:3.13`; so does the variable
    /// SKYNC_IMAGE
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print one JSON document on stdout, for errors too
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Say less: once for no progress, twice for errors only
    #[arg(short, long, global = true, help_heading = GLOBAL, action = ArgAction::Count)]
    pub quiet: u8,
    /// Say more: once for what is done, twice for all of it
    #[arg(short, long, global = true, help_heading = GLOBAL, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Use colours
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command in the sandbox, on this project's files
    ///
    /// The project is synchronised into the sandbox before the command starts and back before
    /// `skync exec` returns, also when the command fails. Streams and exit code are the command's.
    #[command(after_long_help = operations::exec_help())]
    Exec(Box<ExecArgs>),
    /// Show the commands that run
    #[command(after_long_help = PS_HELP)]
    Ps(PsArgs),
    /// Show what a command has written
    #[command(after_long_help = LOGS_HELP)]
    Logs(LogsArgs),
    /// Be the terminal, or the streams, of a command that runs
    ///
    /// Whoever had its input loses it, and sees its output as before. Of a command that has ended
    /// it shows what no client has seen yet, and how it ended.
    #[command(after_long_help = ATTACH_HELP)]
    Attach(AttachArgs),
    /// Wait until a command has ended
    #[command(after_long_help = WAIT_HELP)]
    Wait(WaitArgs),
    /// Stop a command and everything that it started
    #[command(after_long_help = CANCEL_HELP)]
    Cancel(CancelArgs),
    /// Set up a profile for this project, with at most four questions
    ///
    /// It looks which kinds of sandboxes there are here and what the project is made of, proposes an
    /// answer to each question, and shows what it would write before it writes.
    #[command(after_long_help = INIT_HELP)]
    Init(Box<InitArgs>),
    /// Name, choose and check kinds of sandboxes
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Choose the profile that is used from now on; the same as `skync profile use`
    Use(UseArgs),
    /// Log in to a provider, log out, and see which keys there are
    #[command(subcommand)]
    Auth(AuthCommand),
    /// Show what is configured, and where it is said
    #[command(subcommand, after_long_help = CONFIG_HELP)]
    Config(ConfigCommand),
    /// Let what this project's `skync.toml` says count, as it is now
    #[command(after_long_help = TRUST_HELP)]
    Trust(TrustArgs),
    /// Mirror the project into a sandbox and keep it mirrored, both ways
    ///
    /// What changes on either side is carried over at once. A second `skync up` shows the same
    /// mirror; `skync exec` uses its sandbox.
    #[command(after_long_help = UP_HELP)]
    Up(UpArgs),
    /// Show the sessions, and what state they are in; or one command
    Status(StatusArgs),
    /// Wait until everything that was done before, on either side, is on both
    ///
    /// Conflicts and files that cannot be synchronised are warnings; a full disk, a halt or a broken
    /// link is a failure.
    Flush(SessionOf),
    /// Let nothing move between the two sides until `skync resume`
    ///
    /// `skync exec` is refused meanwhile. Ending the mirror ends the pause: results come home.
    Pause(SessionOf),
    /// Go on after `skync pause`, or allow what was halted
    Resume(ResumeArgs),
    /// List where the two sides disagree, and what may not come home unasked
    Conflicts(ConflictsArgs),
    /// Say whose version of a path in conflict is wanted
    ///
    /// Without --host, --sandbox or --both, each one is asked about.
    #[command(after_long_help = RESOLVE_HELP)]
    Resolve(ResolveArgs),
    /// Bring back what the sandbox overwrote or deleted on this side
    ///
    /// Old versions are kept for 7 days, up to 1 GiB for each project. What is replaced by an old
    /// version is kept too: an undo can be undone.
    #[command(after_long_help = UNDO_HELP)]
    Undo(UndoArgs),
    /// Show the sandbox's files as a directory, without copying them
    ///
    /// Files come when somebody reads them, and changes in the sandbox show at once. Read-only unless
    /// --rw is given. It stays until `skync unmount` or `skync down`.
    #[command(after_long_help = MOUNT_HELP)]
    Mount(Box<MountArgs>),
    /// Take away what `skync mount` has mounted
    ///
    /// What was written there is put into the sandbox first. If nothing else needs the sandbox, it
    /// comes home and the sandbox goes.
    #[command(after_long_help = UNMOUNT_HELP)]
    Unmount(UnmountArgs),
    /// End the session of a project and remove its sandbox
    Down(DownArgs),
    /// Remove what crashes left behind: sandboxes, containers, files of ours
    Gc(GcArgs),
    /// Check this machine, the project and the profile, and say what is in the way
    ///
    /// Each finding comes with its reason and with the command that removes it.
    #[command(after_long_help = DOCTOR_HELP)]
    Doctor(DoctorArgs),
    /// Print the script with which a shell completes command lines of skync
    #[command(after_long_help = COMPLETIONS_HELP)]
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for each command
    #[command(after_long_help = MAN_HELP)]
    Man(ManArgs),
    /// Print the help of a command, or the exit codes
    #[command(after_long_help = HELP_HELP)]
    Help(HelpArgs),
    /// Serve a session; started by other commands
    #[command(name = "__session", hide = true)]
    Session(SessionArgs),
}

/// Arguments of `up`.
#[derive(Args, Clone, Debug, Default)]
pub struct UpArgs {
    /// The project's directory; else the one around the current directory
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Return once both sides are the same, and go on in the background until `skync down`
    #[arg(short, long)]
    pub detach: bool,
    /// Leave out what this pattern matches, gitignore syntax
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Go on although the project is `/`, the home directory, or otherwise a likely mistake
    #[arg(long)]
    pub force: bool,
    /// How the sandbox is mounted meanwhile.
    #[command(flatten)]
    pub mount: UpMountArgs,
}

/// Arguments of `status`.
#[derive(Args, Clone, Debug, Default)]
pub struct StatusArgs {
    /// A command that runs or has ended: its name, or the first digits of its id
    #[arg(value_name = "OPERATION", conflicts_with = "watch")]
    pub operation: Option<String>,
    /// Show this project's session as it changes, until it ends; on a terminal, a view with keys
    #[arg(long)]
    pub watch: bool,
    /// With --watch: plain lines on a terminal, too
    #[arg(long, requires = "watch")]
    pub plain: bool,
    /// With --watch: the project's directory; else the one around the current directory
    #[arg(long, value_name = "DIR", requires = "watch")]
    pub root: Option<PathBuf>,
}

/// Which session is meant.
#[derive(Args, Clone, Debug, Default)]
pub struct SessionOf {
    /// The project's directory; else the one around the current directory
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// Arguments of `resume`.
#[derive(Args, Clone, Debug, Default)]
pub struct ResumeArgs {
    /// The project's directory; else the one around the current directory
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Carry out what was halted because it looked like an accident, once
    #[arg(long)]
    pub accept: bool,
}

/// Arguments of `conflicts`.
#[derive(Args, Clone, Debug, Default)]
pub struct ConflictsArgs {
    /// The project's directory; else the one around the current directory
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// Arguments of `resolve`.
#[derive(Args, Clone, Debug, Default)]
pub struct ResolveArgs {
    /// The paths; a directory means all conflicts in it
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// All conflicts
    #[arg(long, conflicts_with = "paths")]
    pub all: bool,
    /// This side's version is wanted; of a guarded path, what the sandbox did is discarded
    #[arg(long, group = "choice")]
    pub host: bool,
    /// The sandbox's version is wanted; of a guarded path, this is the yes
    #[arg(long, group = "choice")]
    pub sandbox: bool,
    /// Both: this side's version stays, the sandbox's is put beside it
    #[arg(long, group = "choice")]
    pub both: bool,
    /// The project's directory; else the one around the current directory
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// Arguments of `undo`.
#[derive(Args, Clone, Debug, Default)]
pub struct UndoArgs {
    /// What to bring back: the newest version of a file, or what was lost last in a directory
    #[arg(value_name = "PATH", required_unless_present_any = ["last", "list"])]
    pub path: Option<PathBuf>,
    /// Bring back all that was lost last
    #[arg(long, conflicts_with = "path")]
    pub last: bool,
    /// Show what can be brought back, and bring back nothing
    #[arg(long, conflicts_with = "last")]
    pub list: bool,
    /// The project's directory; else the one around the current directory
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// Arguments of `gc`.
#[derive(Args, Clone, Debug)]
pub struct GcArgs {
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Remove all prepared images (`setup_image`), not only those that nobody has used for 30 days
    #[arg(long)]
    pub images: bool,
}

/// Arguments of `down`.
#[derive(Args, Clone, Debug)]
pub struct DownArgs {
    /// The project's directory; else the one around the current directory
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Give up changes in the sandbox that are not on this side yet, and mounts that are in use
    #[arg(long)]
    pub discard: bool,
}

/// Arguments of the session process.
#[derive(Args, Clone, Debug)]
pub struct SessionArgs {
    /// Be the session itself, not its keeper
    #[arg(long)]
    pub serve: bool,
}

#[cfg(test)]
mod tests;
