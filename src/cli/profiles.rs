//! The flags of `profile` and `use`.

use clap::{Args, Subcommand};

use super::ProfileMountArgs;

const ADD_HELP: &str = "\
Examples:
  skync profile add dev --driver docker --image python:3.12 --memory 2GiB --cpus 1.5
  skync profile add web --driver docker --container web-1
  skync profile add web2 --driver docker --image debian:12 \\
      --setup 'apt-get update && apt-get install -y git' --setup-image
  skync profile add copy --driver directory --exclude 'dist/' --env CI=1
  skync profile add cloud --driver e2b               then `skync auth login e2b`
  skync profile add day --driver daytona             then `skync auth login daytona`";

/// Verbs of `profile`.
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// Add a profile
    ///
    /// The first profile that is added is used from then on.
    #[command(after_long_help = ADD_HELP)]
    Add(Box<AddArgs>),
    /// List the profiles, and say which is used and why
    List,
    /// Show a profile with everything that is set for it
    Show(ShowArgs),
    /// Choose the profile that is used from now on
    Use(UseArgs),
    /// Remove a profile
    Remove(RemoveArgs),
    /// Check profiles: the file first, then whether the engine has what they need
    Validate(ValidateArgs),
}

/// Arguments of `profile add`.
// The values are checked by the configuration's own rules, not by clap: so all that is wrong is
// said at once, in the same words as for the file.
#[derive(Args, Clone, Debug, Default)]
pub struct AddArgs {
    /// The name
    pub name: String,
    /// How sandboxes are made: docker, e2b, daytona, directory or local
    #[arg(long)]
    pub driver: String,
    /// docker, daytona: the image of a new sandbox
    #[arg(long)]
    pub image: Option<String>,
    /// docker: a container that runs already; it is never removed
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// docker, daytona: memory, as in 512MiB or 2g
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// docker, daytona: CPUs, as in 1.5
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<String>,
    /// docker: most processes
    #[arg(long, value_name = "COUNT")]
    pub pids: Option<String>,
    /// docker: none, bridge or the name of a network
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// docker, e2b: the user, as in 1000:1000 or root
    #[arg(long)]
    pub user: Option<String>,
    /// docker: the engine, as in unix:///run/docker.sock
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<String>,
    /// How the agent is reached; docker: auto, socket or stdio; e2b: auto, websocket or stream
    #[arg(long)]
    pub link: Option<String>,
    /// e2b: the template, `base` if not given
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
    /// daytona: the snapshot, the organisation's default if not given
    #[arg(long, value_name = "NAME")]
    pub snapshot: Option<String>,
    /// daytona: disk, as in 10GiB
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<String>,
    /// daytona: the region
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// e2b, daytona: how long a sandbox outlives its session at most, as in 10m
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<String>,
    /// e2b, daytona: the sandbox does not reach the internet
    #[arg(long)]
    pub no_internet: bool,
    /// e2b: kill or pause a sandbox whose time is over
    #[arg(long, value_name = "WHAT")]
    pub on_timeout: Option<String>,
    /// e2b, daytona: a program that prints the key, with its arguments
    #[arg(long, value_name = "WORD", num_args = 1..)]
    pub credential_command: Vec<String>,
    /// directory: where sandboxes are made
    #[arg(long, value_name = "DIR")]
    pub base: Option<String>,
    /// A variable for every command
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// A pattern of what is not synchronised, gitignore syntax
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// two-way-safe, two-way-resolved, one-way-safe or one-way-replica
    #[arg(long)]
    pub mode: Option<String>,
    /// Leave out what .gitignore files leave out
    #[arg(long)]
    pub gitignore: bool,
    /// Where the project is in the sandbox; else where it is here
    #[arg(long, value_name = "DIR")]
    pub root: Option<String>,
    /// How its sandbox is mounted.
    #[command(flatten)]
    pub mount: ProfileMountArgs,
    /// A command that prepares a new sandbox, for its `/bin/sh`; may be given several times
    #[arg(long, value_name = "LINE")]
    pub setup: Vec<String>,
    /// How long all of them may take together, 30m if not given
    #[arg(long, value_name = "TIME")]
    pub setup_timeout: Option<String>,
    /// docker: keep the prepared sandbox as a local image, so that the next one starts from it
    #[arg(long)]
    pub setup_image: bool,
    /// Replace a profile of this name
    #[arg(long)]
    pub force: bool,
    /// Write it into the project's `skync.toml`, for everybody who works on the project
    #[arg(long)]
    pub project: bool,
}

/// Arguments of `profile show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// The profile; else the one that is used
    pub name: Option<String>,
}

/// Arguments of `use`.
#[derive(Args, Clone, Debug)]
pub struct UseArgs {
    /// The profile; `local` runs in place, `directory` in another directory of this machine
    pub name: String,
    /// Use it for this project
    #[arg(long, conflicts_with = "everywhere")]
    pub here: bool,
    /// Use it wherever nothing else is said, also if this project has a choice of its own
    #[arg(long)]
    pub everywhere: bool,
}

/// Arguments of `profile remove`.
#[derive(Args, Clone, Debug)]
pub struct RemoveArgs {
    /// The profile
    pub name: String,
}

/// Arguments of `profile validate`.
#[derive(Args, Clone, Debug, Default)]
pub struct ValidateArgs {
    /// The profile; else the one that is used
    pub name: Option<String>,
    /// Check every profile
    #[arg(long, conflicts_with = "name")]
    pub all: bool,
    /// Check the file only, without asking an engine
    #[arg(long)]
    pub offline: bool,
    /// Make a sandbox and try in it what people rely on; it is removed at the end
    #[arg(long, conflicts_with_all = ["offline", "all"])]
    pub deep: bool,
}
