//! How one kind of sandbox is created, reached and removed.
//!
//! A driver does no policy: no printing, nothing about synchronisation or operations. What a
//! provider's contract asks to be sent again is sent again here (`http`); any other second try
//! belongs to [`crate::link`] or [`crate::session`].
//! Nothing outside this module may know which driver it is on.

pub mod daytona;
#[cfg(target_os = "linux")]
pub mod directory;
pub mod docker;
pub mod e2b;

mod excerpt;
mod http;
mod key;
mod launch;
pub(crate) mod listening;
#[cfg(not(target_os = "linux"))]
mod no_directory;
pub mod reach;
#[cfg(test)]
mod stand_in;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::Profile;
use crate::credentials::Surroundings;
use crate::credentials::mask::mask;

/// A two-way byte stream to an agent.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// The names of the labels that everything of ours carries.
pub mod label {
    /// Always `1`; without it nothing is ever touched.
    pub const VERSION: &str = "skync.v";
    /// Who made it: user and machine, hashed.
    pub const OWNER: &str = "skync.owner";
    /// The session's id.
    pub const SESSION: &str = "skync.session";
    /// The profile's name.
    pub const PROFILE: &str = "skync.profile";
    /// The project root on the host.
    pub const PROJECT: &str = "skync.project";
    /// The name under which what was prepared in this sandbox is to be kept.
    pub const KEEP: &str = "skync.keep";
    /// The name of what was kept, of which this sandbox was made: it is prepared already.
    pub const KEPT: &str = "skync.kept";
    /// Why nothing of this sandbox can be kept although it is to be, in words for a person.
    pub const UNKEPT: &str = "skync.unkept";
}

/// What a sandbox is to be. Journalled before [`Driver::create`] is called.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Chosen by the session: 16 lower-case hexadecimal digits. Names and paths are made from it.
    pub session: String,
    /// On everything that the driver makes (names in [`label`]).
    pub labels: BTreeMap<String, String>,
    /// The project's absolute path on the host: the root in the sandbox, wherever it can be made.
    pub root: PathBuf,
    /// How long the agent lives without a session.
    pub lease: Duration,
    /// A directory of the session on the host (mode 0700), for sockets; it exists.
    pub runtime: PathBuf,
    /// Stands for what will be done in the sandbox before anything else. A driver that keeps
    /// prepared sandboxes makes it of one with the same key; it says so by its labels
    /// ([`label::KEPT`], [`label::KEEP`], [`label::UNKEPT`]).
    #[serde(default)]
    pub preparation: Option<String>,
}

/// Paths and names are made of a session's id, so it is checked before.
pub(crate) fn check_session_id(session: &str) -> Result<(), DriverError> {
    if is_session_id(session) {
        return Ok(());
    }
    let message = "a session's id must be 16 lower-case hexadecimal digits";
    Err(DriverError::new(ErrorKind::Invalid, message))
}

/// True for what [`SandboxSpec::session`] may be. Drivers check it, because they make paths of it.
pub(crate) fn is_session_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The 32 bytes that both ends of a link prove to know. Never printed.
#[derive(Clone, Serialize, Deserialize)]
pub struct LinkSecret(pub [u8; 32]);

impl std::fmt::Debug for LinkSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkSecret(…)")
    }
}

/// A sandbox that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// The driver's own name for it (a container id, a directory).
    pub id: String,
    /// What a person would call it.
    pub name: String,
    /// The project's absolute path inside it.
    pub root: PathBuf,
    /// We made it and remove it. False for `container = NAME`: that one is never removed by us,
    /// only our agent in it.
    pub ephemeral: bool,
    /// The labels it carries, as far as the driver knows them.
    pub labels: BTreeMap<String, String>,
}

/// How a sandbox is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SandboxState {
    /// It runs.
    Running,
    /// It is there, and does not run.
    Stopped {
        /// What the driver knows of why.
        reason: String,
        /// The memory limit ended it.
        out_of_memory: bool,
    },
    /// There is no such sandbox.
    Gone,
}

/// What a sandbox uses of what it may, as its provider measures it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of each second, in thousandths of a processor; and processors it has.
    pub milli_cpus: (u64, u64),
    /// Bytes of memory, and of those it has.
    pub memory: (u64, u64),
    /// Bytes on disk, and of those it has.
    pub disk: (u64, u64),
}

/// The agent for one machine type, ready to be put there.
#[derive(Clone, Debug)]
pub struct AgentBinary {
    /// `uname -m`: `x86_64`, `aarch64`.
    pub machine: String,
    /// SHA-256 of `bytes`: the name under which it is installed.
    pub sha256: [u8; 32],
    /// The static executable.
    pub bytes: bytes::Bytes,
    /// The same compressed by gzip, where it is there already.
    pub packed: Option<bytes::Bytes>,
}

impl AgentBinary {
    /// The file name it has wherever it is installed.
    pub fn file_name(&self) -> String {
        let hex: String = self.sha256[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("skync-agent-{hex}")
    }
}

/// Where the agents are: asked with a machine type once a driver knows it.
pub trait AgentSource: Send + Sync {
    /// The agent for `machine` (`x86_64`, `aarch64`).
    ///
    /// # Errors
    /// [`ErrorKind::NoAgent`] names the machine types there are.
    fn agent(&self, machine: &str) -> Result<AgentBinary, DriverError>;
}

/// Something slow that a driver tells while it works.
#[derive(Clone, Debug)]
pub enum Progress {
    /// A new thing is being done: `pulling image \`python:3.12\``.
    Step(String),
    /// Bytes of it that are done, and in all if that is known.
    Bytes {
        /// Done so far.
        done: u64,
        /// In all.
        total: Option<u64>,
    },
}

/// What went wrong, as far as a caller acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The engine or provider cannot be reached.
    Unreachable,
    /// What the profile names is not there (image, container).
    NotFound,
    /// The profile asks for something that cannot be.
    Invalid,
    /// No rights.
    Denied,
    /// The provider's key is missing, refused, or cannot be read.
    Auth,
    /// No room, no memory, no quota.
    Exhausted,
    /// There is no agent for the sandbox's machine type.
    NoAgent,
    /// The sandbox has gone.
    Gone,
    /// Anything else.
    Failed,
}

/// A driver's error: what happened, and what a person can do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DriverError {
    /// For code.
    pub kind: ErrorKind,
    /// What happened and why, in one sentence without a stop.
    pub message: String,
    /// What to do, one sentence each.
    pub hints: Vec<String>,
    /// Something may have been made that only [`Driver::find`] finds.
    pub unclear: bool,
    /// What it came from.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl DriverError {
    /// An error without hints.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        // What an engine or a provider says may repeat what it was told.
        let (message, hints) = (mask(&message.into()).into_owned(), Vec::new());
        Self { kind, message, hints, unclear: false, source: None }
    }

    /// True if it is the key that is not let in, or may not do this.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.kind, ErrorKind::Auth | ErrorKind::Denied)
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Says that something may have been made all the same.
    #[must_use]
    pub fn unclear(mut self) -> Self {
        self.unclear = true;
        self
    }

    /// Adds what it came from.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// One kind of sandbox.
///
/// All calls are safe to repeat. `create` followed by a crash is repaired by `find` with the
/// journalled labels and `remove`.
#[async_trait]
pub trait Driver: Send + Sync {
    /// Checks that the profile can work, online: every problem, not the first.
    async fn validate(&self) -> Vec<DriverError>;

    /// Makes a sandbox, with our agent put into it under its SHA-256 and started.
    ///
    /// If it fails it leaves nothing behind that [`Driver::find`] does not find.
    async fn create(
        &self,
        spec: &SandboxSpec,
        secret: &LinkSecret,
        agents: &dyn AgentSource,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Sandbox, DriverError>;

    /// Opens a byte stream to the agent of a sandbox that `create` returned in this process, or that
    /// it has taken over.
    ///
    /// Waits at most `patience`. May be called again after a stream ended.
    async fn dial(
        &self,
        sandbox: &Sandbox,
        patience: Duration,
    ) -> Result<Box<dyn ByteStream>, DriverError>;

    /// Takes over a sandbox that an earlier process made and left running: `dial` works from then on.
    ///
    /// Fails with [`ErrorKind::Gone`] if no agent runs there any more.
    async fn adopt(&self, sandbox: &Sandbox, spec: &SandboxSpec) -> Result<(), DriverError>;

    /// How the sandbox is.
    async fn state(&self, sandbox: &Sandbox) -> Result<SandboxState, DriverError>;

    /// Asks the provider whether it takes the key; the organisation that the key is of, if that is
    /// known. Drivers without a key have nothing to ask.
    async fn account(&self) -> Result<Option<String>, DriverError> {
        Ok(None)
    }

    /// True if a network is between the sandbox and this machine, which may be away for minutes: its
    /// agent then lives without a session for as long as a lost link is dialled.
    fn is_remote(&self) -> bool {
        false
    }

    /// Has the provider keep the sandbox for at least `time` from now on. Returns how long it
    /// promises; nothing if a sandbox lives as long as its agent does, so that this need not be called.
    async fn renew(
        &self,
        _sandbox: &Sandbox,
        _time: Duration,
    ) -> Result<Option<Duration>, DriverError> {
        Ok(None)
    }

    /// What the sandbox uses of what it may; nothing if its provider does not measure that.
    async fn usage(&self, _sandbox: &Sandbox) -> Result<Option<Usage>, DriverError> {
        Ok(None)
    }

    /// A sandbox that carries [`label::KEEP`] has been prepared, and nothing of a project is in it
    /// yet: keeps it under that name for later calls of `create`, without anything that is of this
    /// session. The sandbox goes on, also after a failure. Safe to repeat.
    async fn keep_prepared(&self, _sandbox: &Sandbox) -> Result<(), DriverError> {
        Ok(())
    }

    /// How many bytes are kept under that name, beside what they are built on; nothing if there is
    /// no such thing.
    async fn kept_bytes(&self, _name: &str) -> Result<Option<u64>, DriverError> {
        Ok(None)
    }

    /// Removes what is kept under that name; nothing there is no error.
    async fn remove_kept(&self, _name: &str) -> Result<(), DriverError> {
        Ok(())
    }

    /// What that user ([`label::OWNER`]) has kept and nobody finds any more, since something else
    /// took its name: what [`Driver::remove_kept`] takes instead of a name.
    async fn nameless_kept(&self, _owner: &str) -> Result<Vec<String>, DriverError> {
        Ok(Vec::new())
    }

    /// True if a sandbox that has stopped still holds its files: `create` for the same session
    /// starts an agent on them.
    fn revives(&self) -> bool {
        false
    }

    /// Removes the sandbox if it is ephemeral, else our agent and its files from it; returns when
    /// it is gone. One that is gone already is no error.
    async fn remove(&self, sandbox: &Sandbox) -> Result<(), DriverError>;

    /// The sandboxes that carry all these labels, running or not.
    async fn find(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Sandbox>, DriverError>;
}

/// Where the provider of a profile is: the address of its API; nothing for one without a provider.
pub fn provider(profile: &Profile, surroundings: &Surroundings) -> Option<String> {
    use crate::config::DriverConfig;
    match &profile.driver {
        DriverConfig::E2b(config) => Some(e2b::address(config, surroundings)),
        DriverConfig::Daytona(_) => Some(daytona::address(surroundings)),
        DriverConfig::Local | DriverConfig::Directory(_) | DriverConfig::Docker(_) => None,
    }
}

/// The driver that a profile asks for; `None` for `local`, which needs none.
pub fn open(profile: &Profile) -> Option<Box<dyn Driver>> {
    open_in(profile, Surroundings::of_process())
}

/// As [`open`], with other surroundings than those of this process.
pub fn open_in(profile: &Profile, surroundings: Surroundings) -> Option<Box<dyn Driver>> {
    use crate::config::DriverConfig;
    #[cfg(target_os = "linux")]
    use directory::Directory;
    #[cfg(not(target_os = "linux"))]
    use no_directory::Directory;
    let surroundings =
        surroundings.for_profile(&profile.name, profile.credential_command.as_deref());
    match &profile.driver {
        DriverConfig::Local => None,
        DriverConfig::Directory(config) => Some(Box::new(Directory::new(config))),
        DriverConfig::Docker(config) => Some(Box::new(docker::Docker::new(config))),
        DriverConfig::E2b(config) => Some(Box::new(e2b::E2b::new(config, surroundings))),
        DriverConfig::Daytona(config) => {
            Some(Box::new(daytona::Daytona::new(config, surroundings)))
        }
    }
}
