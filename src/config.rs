//! Profiles: what a user calls a kind of sandbox, and everything that is set for it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
}

/// Settings of the directory driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct DirectoryConfig {
    /// Where sandboxes are made; else `$XDG_STATE_HOME/skync/sandboxes`.
    pub base: Option<PathBuf>,
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
    /// Where the project is in the sandbox; else where it is on the host.
    pub root: Option<PathBuf>,
}
