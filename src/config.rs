//! Profiles: what a user calls a kind of sandbox, and everything that is set for it.
//!
//! The types here are checked values: [`mod@file`] reads them from `config.toml`, [`check`] is the only
//! place that makes them from text, [`select`] says which one is meant and why, [`edit`] changes
//! the file. Nothing here asks an engine or a provider: that is [`crate::driver`]'s `validate`.

pub mod check;
pub mod edit;
mod error;
pub mod file;
mod judge;
mod keys;
pub mod layers;
mod merge;
pub mod problem;
pub mod quantity;
pub mod schema;
pub mod select;
mod settings;
pub mod sources;
mod syntax;
pub mod trust;
mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use file::{Config, ConfigError};
pub use problem::ConfigProblem;
pub use quantity::OnDisconnect;
pub use select::{Origin, Selected};
pub use settings::is_never_of_project;
pub use sources::{Level, Place};

/// How long whoever reads a mount waits for a lost link if nothing else is said.
pub const MOUNT_TIMEOUT: Duration = Duration::from_secs(30);
/// And at most.
pub const MOUNT_TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// How long a lost link is dialled if nothing else is said.
pub const RECONNECT_TIMEOUT: Duration = Duration::from_secs(600);

/// How long `setup` may take if nothing else is said: a compiler can be built in that time, and a
/// command that waits for an answer that nobody gives does not keep a sandbox for ever.
pub const SETUP_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// How two sides are kept the same. Semantics: `sync::reconcile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum SyncMode {
    /// Both ways; a conflict changes nothing.
    #[default]
    TwoWaySafe,
    /// Both ways; the host wins a conflict.
    TwoWayResolved,
    /// Host to sandbox; what the sandbox changed is kept and reported.
    OneWaySafe,
    /// Host to sandbox; the sandbox becomes what the host is.
    OneWayReplica,
}

/// Which byte stream the docker driver uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    /// A socket if the engine is on this machine, else stdio.
    #[default]
    Auto,
    /// A unix socket in a directory that the container sees read-only.
    Socket,
    /// An attached `exec`.
    Stdio,
}

/// Settings of the docker driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct DockerConfig {
    /// The image of a new container. Exactly one of `image` and `container` is set.
    pub image: Option<String>,
    /// Name or id of a container that already runs; never removed by us.
    pub container: Option<String>,
    /// Engine address (`unix:///…`, `tcp://…`); else DOCKER_HOST, the docker context, the default.
    pub host: Option<String>,
    /// Memory limit, bytes.
    pub memory: Option<u64>,
    /// CPU limit, in thousandths of a CPU.
    pub milli_cpus: Option<u64>,
    /// Most processes.
    pub pids: Option<u64>,
    /// Docker network mode: `none`, `bridge`, a network's name.
    pub network: Option<String>,
    /// `uid[:gid]` or a name from the image's `/etc/passwd`.
    pub user: Option<String>,
    /// How the agent is reached.
    pub link: LinkKind,
    /// What the profile's `setup` has made of `image` is kept as an image of its own.
    // Journals that an older skync wrote do not have it.
    #[serde(default)]
    pub setup_image: bool,
}

/// Settings of the directory driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct DirectoryConfig {
    /// Where sandboxes are made; else `$XDG_STATE_HOME/skync/sandboxes`.
    pub base: Option<PathBuf>,
}

/// What becomes of an E2B sandbox whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum OnTimeout {
    /// It goes: nothing is left behind, whatever becomes of this machine.
    #[default]
    Kill,
    /// It is paused with what is in it, and stays until a session takes it up or `skync gc` removes
    /// it.
    Pause,
}

/// Which byte stream the e2b driver uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum E2bLink {
    /// A WebSocket if one can be had, else a stream.
    #[default]
    Auto,
    /// A WebSocket to a port of the agent.
    #[serde(rename = "websocket")]
    WebSocket,
    /// Input and output of a process that envd runs.
    Stream,
}

/// Settings of the e2b driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct E2bConfig {
    /// Name or id of the template; else `base`.
    pub template: Option<String>,
    /// How long a sandbox outlives its session at most: while a command runs in it, or it holds what
    /// is not on the host. Else the profile's reconnect time.
    pub timeout: Option<Duration>,
    /// The sandbox reaches the internet.
    pub internet: bool,
    /// What becomes of it then.
    pub on_timeout: OnTimeout,
    /// The user that commands run as; else the template's.
    pub user: Option<String>,
    /// How the agent is reached.
    pub link: E2bLink,
}

impl Default for E2bConfig {
    fn default() -> Self {
        Self {
            template: None,
            timeout: None,
            internet: true,
            on_timeout: OnTimeout::default(),
            user: None,
            link: E2bLink::default(),
        }
    }
}

/// Settings of the daytona driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaytonaConfig {
    /// Name or id of the snapshot; else the organisation's default.
    pub snapshot: Option<String>,
    /// An image instead of a snapshot.
    pub image: Option<String>,
    /// CPUs, with `image`.
    pub cpus: Option<u32>,
    /// Memory in GiB, with `image`.
    pub memory_gib: Option<u32>,
    /// Disk in GiB, with `image`.
    pub disk_gib: Option<u32>,
    /// The region; else `DAYTONA_TARGET`, or the organisation's default.
    pub target: Option<String>,
    /// As [`E2bConfig::timeout`].
    pub timeout: Option<Duration>,
    /// The sandbox reaches the internet.
    pub internet: bool,
}

impl Default for DaytonaConfig {
    fn default() -> Self {
        Self {
            snapshot: None,
            image: None,
            cpus: None,
            memory_gib: None,
            disk_gib: None,
            target: None,
            timeout: None,
            internet: true,
        }
    }
}

/// A profile's driver and its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriverConfig {
    /// Commands run in place.
    Local,
    /// Another directory on this machine.
    Directory(DirectoryConfig),
    /// A Docker container.
    Docker(DockerConfig),
    /// An E2B sandbox.
    E2b(E2bConfig),
    /// A Daytona sandbox.
    Daytona(DaytonaConfig),
}

/// A user's named settings, resolved and checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: DriverConfig,
    /// Variables for every operation.
    pub env: BTreeMap<String, String>,
    /// How the two sides are kept the same.
    pub mode: SyncMode,
    /// Patterns of what is not synchronised, gitignore syntax.
    pub exclude: Vec<String>,
    /// Apply `.gitignore` files as well.
    pub gitignore: bool,
    /// Patterns of what the sandbox may not change on the host without a yes, in place of
    /// `sync::guard`'s own; gitignore syntax.
    // Journals that an older skync wrote do not have it.
    #[serde(default)]
    pub guarded: Option<Vec<String>>,
    /// Where the project is in the sandbox; else where it is on the host.
    pub root: Option<PathBuf>,
    /// A command is stopped when it has run so long; else it may run for ever.
    #[serde(default)]
    pub max_runtime: Option<Duration>,
    /// What becomes of a command whose client has gone without a word; else it goes on for 10
    /// minutes.
    #[serde(default)]
    pub on_disconnect: Option<OnDisconnect>,
    /// How long a link that is lost is dialled before the outcome counts as unknown; else 10
    /// minutes.
    #[serde(default)]
    pub reconnect_timeout: Option<Duration>,
    /// How its sandbox is mounted.
    #[serde(default)]
    pub mount: MountConfig,
    /// A program and its arguments that print the provider's key.
    #[serde(default)]
    pub credential_command: Option<Vec<String>>,
    /// What is done in its sandbox once, before anything else.
    #[serde(default)]
    pub setup: SetupConfig,
    /// The keys that a variable or a flag said: an edit of a file does not change them meanwhile.
    #[serde(default)]
    pub fixed: Vec<String>,
    /// The project's files as they were when the profile was selected: name and digest.
    #[serde(default)]
    pub project_files: BTreeMap<String, String>,
}

/// How a profile's sandbox is prepared, once, before the first synchronisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct SetupConfig {
    /// In order; the first that fails is the last.
    pub commands: Vec<SetupCommand>,
    /// All of them together are stopped after so long; else after [`SETUP_TIMEOUT`].
    pub timeout: Option<Duration>,
}

/// One command that prepares a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SetupCommand {
    /// For the sandbox's `/bin/sh`.
    Line(String),
    /// A program and its words, for a sandbox without a shell.
    Argv(Vec<String>),
}

impl SetupCommand {
    /// The program that is run, with its words.
    pub fn argv(&self) -> Vec<String> {
        match self {
            Self::Line(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
            Self::Argv(words) => words.clone(),
        }
    }
}

impl std::fmt::Display for SetupCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(line) => f.write_str(line.trim()),
            Self::Argv(words) => f.write_str(&words.join(" ")),
        }
    }
}

/// How a profile's sandbox is mounted, unless the command line says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct MountConfig {
    /// `skync up` mounts it.
    pub with_up: bool,
    /// Where on the host; else `~/.remote/PROFILE`.
    pub at: Option<PathBuf>,
    /// The directory of the sandbox that is shown, from its `/` or from the project's root; else that.
    pub root: Option<PathBuf>,
    /// It can be written.
    pub writable: bool,
    /// How long whoever reads there waits for a lost link; else [`MOUNT_TIMEOUT`].
    pub timeout: Option<Duration>,
}

impl Profile {
    /// A profile with nothing set but its name and driver.
    pub fn new(name: impl Into<String>, driver: DriverConfig) -> Self {
        Self {
            name: name.into(),
            driver,
            env: BTreeMap::new(),
            mode: SyncMode::default(),
            exclude: Vec::new(),
            gitignore: false,
            guarded: None,
            root: None,
            max_runtime: None,
            on_disconnect: None,
            reconnect_timeout: None,
            mount: MountConfig::default(),
            credential_command: None,
            setup: SetupConfig::default(),
            fixed: Vec::new(),
            project_files: BTreeMap::new(),
        }
    }

    /// How long a sandbox outlives its session at most, where a network is in between: as long as a
    /// lost link is dialled, unless the driver's settings say otherwise.
    pub fn outlives(&self) -> Duration {
        self.timeout().or(self.reconnect_timeout).unwrap_or(RECONNECT_TIMEOUT)
    }

    /// The user that commands run as, if the driver's settings name one.
    pub fn user(&self) -> Option<&str> {
        match &self.driver {
            DriverConfig::Docker(config) => config.user.as_deref(),
            DriverConfig::E2b(config) => config.user.as_deref(),
            DriverConfig::Local | DriverConfig::Directory(_) | DriverConfig::Daytona(_) => None,
        }
    }

    /// What the driver's settings say of that.
    pub fn timeout(&self) -> Option<Duration> {
        match &self.driver {
            DriverConfig::E2b(config) => config.timeout,
            DriverConfig::Daytona(config) => config.timeout,
            DriverConfig::Local | DriverConfig::Directory(_) | DriverConfig::Docker(_) => None,
        }
    }

    /// The built-in profile of this name: `local` runs in place, `directory` in another directory
    /// of this machine.
    pub fn built_in(name: &str) -> Option<Self> {
        let driver = match name {
            "local" => DriverConfig::Local,
            "directory" => DriverConfig::Directory(DirectoryConfig::default()),
            _ => return None,
        };
        Some(Self::new(name, driver))
    }
}

impl DriverConfig {
    /// The driver's name, as `driver = …` has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Directory(_) => "directory",
            Self::Docker(_) => "docker",
            Self::E2b(_) => "e2b",
            Self::Daytona(_) => "daytona",
        }
    }
}

/// The names of the built-in profiles; they cannot be redefined.
pub const BUILT_IN: [&str; 2] = ["local", "directory"];

/// The candidate that `name` is most likely a slip of, if one is near enough.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Half the letters may differ: short names are mistyped by one letter out of three.
    const SIMILARITY_MIN: f64 = 0.5;
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            let near = strsim::normalized_damerau_levenshtein(&lower, &candidate.to_lowercase());
            (near, candidate)
        })
        .filter(|(near, _)| *near >= SIMILARITY_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// Names in a row for a message: `` `a`, `b`, `c` ``.
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
