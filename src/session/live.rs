//! The sandbox that a session has at this time: made, dialled, synchronised, removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skync_agent::proto::agent_client::AgentClient;

use crate::agents::Agents;
use crate::channel::Channel;
use crate::driver::{
    AgentSource, Driver, DriverError, LinkSecret, Progress, Sandbox, SandboxSpec, SandboxState,
    label,
};
use crate::error::{CliError, ExitCode};
use crate::link::{Link, LinkError};
use crate::session::Spec;
use crate::session::journal::{Entry, Journal};
use crate::sync::engine::{Engine, Settings, SyncError};
use crate::sync::host::Host;
use crate::sync::report::Report;

/// How long the agent lives without its session (`design.md` §9).
const LEASE: Duration = Duration::from_secs(45);

/// A link ends a moment before the end of its sandbox can be seen.
const END_SHOWS: Duration = Duration::from_secs(2);
const END_LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The project being read while the sandbox is being made.
pub type HostTask = tokio::task::JoinHandle<Result<Host, SyncError>>;

/// A sandbox with its link and its synchronisation.
pub struct Live {
    /// The sandbox.
    pub sandbox: Sandbox,
    link: Link,
    engine: Engine,
}

/// What makes and removes sandboxes for one session.
pub struct Maker {
    spec: Spec,
    driver: Arc<dyn Driver>,
    journal: Journal,
    entry: Entry,
    runtime: PathBuf,
    owner: String,
}

impl Maker {
    /// For one session; its entry is not in the journal yet.
    pub fn new(
        spec: Spec,
        driver: Arc<dyn Driver>,
        journal: Journal,
        entry: Entry,
        owner: String,
    ) -> Self {
        let runtime = entry.runtime.clone();
        Self { spec, driver, journal, entry, runtime, owner }
    }

    /// Makes a sandbox and opens a link to the agent in it.
    ///
    /// # Errors
    /// What keeps it from being made; what was begun is removed before.
    pub async fn make(
        &mut self,
        host: HostTask,
        command_line: Vec<String>,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Live, CliError> {
        let secret = LinkSecret(random_secret());
        let root = self.spec.profile.root.clone().unwrap_or_else(|| self.spec.root.clone());
        let spec = SandboxSpec {
            session: self.spec.id.clone(),
            labels: self.labels(),
            root,
            lease: LEASE,
            runtime: self.runtime.clone(),
        };
        // Written down, and on the disk, before the driver makes anything.
        self.journal.write(&self.entry).map_err(|error| state_error(&error))?;
        let sandbox = self.driver.create(&spec, &secret, &Agents, progress).await;
        let sandbox = sandbox.map_err(driver_error)?;
        self.entry.sandbox = Some(sandbox.clone());
        if let Err(error) = self.journal.write(&self.entry) {
            self.remove(&sandbox).await?;
            return Err(state_error(&error));
        }
        match self.start(&sandbox, &secret, host, command_line).await {
            Ok(live) => Ok(live),
            Err(error) => {
                // Half of a sandbox is of no use: it goes before the error is told.
                self.remove(&sandbox).await?;
                Err(error)
            }
        }
    }

    async fn start(
        &self,
        sandbox: &Sandbox,
        secret: &LinkSecret,
        host: HostTask,
        command_line: Vec<String>,
    ) -> Result<Live, CliError> {
        let link = Link::open(&*self.driver, sandbox, secret, 1, None).await.map_err(link_error)?;
        let installed = Agents.agent(&link.agent.machine).map_err(driver_error)?.sha256;
        if link.agent.sha256 != installed {
            return Err(link_error(LinkError::Impostor));
        }
        let settings = self.settings(sandbox.root.clone(), !sandbox.ephemeral);
        let client = link.client.clone();
        let host = host.await.map_err(SyncError::from).flatten().map_err(sync_error)?;
        let replica = replica(sandbox, &link.agent.replica_id);
        let engine =
            Engine::new(host, client, &replica, settings, command_line).map_err(sync_error)?;
        Ok(Live { sandbox: sandbox.clone(), link, engine })
    }

    /// What the synchronisation is set to, for a sandbox root.
    pub fn settings(&self, sandbox_root: PathBuf, durable: bool) -> Settings {
        let profile = &self.spec.profile;
        Settings {
            host_root: self.spec.root.clone(),
            sandbox_root,
            mode: profile.mode,
            exclude: profile.exclude.clone(),
            gitignore: profile.gitignore,
            durable,
        }
    }

    /// Removes a sandbox and verifies that it is gone.
    ///
    /// # Errors
    /// If it is still there; the journal keeps it for `skync gc`.
    pub async fn remove(&mut self, sandbox: &Sandbox) -> Result<(), CliError> {
        self.driver.remove(sandbox).await.map_err(|error| {
            driver_error(error).hint("`skync gc` tries again to remove what is left")
        })?;
        self.entry.sandbox = None;
        Ok(())
    }

    /// How a sandbox is, in words for a person, now that its link has ended.
    pub async fn autopsy(&self, sandbox: &Sandbox) -> String {
        let name = &sandbox.name;
        let deadline = tokio::time::Instant::now() + END_SHOWS;
        let state = loop {
            let state = self.driver.state(sandbox).await;
            if !matches!(state, Ok(SandboxState::Running)) || deadline.elapsed() > Duration::ZERO {
                break state;
            }
            tokio::time::sleep(END_LOOK_INTERVAL).await;
        };
        match state {
            Ok(SandboxState::Gone) => format!("the sandbox `{name}` was removed from outside"),
            Ok(SandboxState::Stopped { out_of_memory: true, .. }) => {
                format!("the sandbox `{name}` was stopped: it ran out of memory")
            }
            Ok(SandboxState::Stopped { reason, .. }) => {
                format!("the sandbox `{name}` has stopped: {reason}")
            }
            Ok(SandboxState::Running) => {
                format!("the sandbox `{name}` runs, but its agent does not answer any more")
            }
            Err(error) => format!("the sandbox `{name}` cannot be reached: {error}"),
        }
    }

    /// The session's entry in the journal.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    fn labels(&self) -> std::collections::BTreeMap<String, String> {
        let mut labels = self.entry.labels();
        labels.insert(label::OWNER.into(), self.owner.clone());
        labels.insert(label::PROFILE.into(), self.spec.profile.name.clone());
        labels.insert(label::PROJECT.into(), self.spec.root.display().to_string());
        labels
    }
}

impl Live {
    /// The agent's calls.
    pub fn client(&self) -> AgentClient<Channel> {
        self.link.client.clone()
    }

    /// Returns when the link has ended.
    pub fn link(&self) -> Link {
        self.link.clone()
    }

    /// Makes both sides the same.
    ///
    /// # Errors
    /// If a side as a whole cannot be read or written.
    pub async fn synchronise(&mut self) -> Result<Report, CliError> {
        self.engine.synchronise().await.map_err(sync_error)
    }

    /// The transfers' progress.
    pub fn counters(&self) -> Arc<crate::sync::transfer::Counters> {
        Arc::clone(&self.engine.counters)
    }

    /// Patterns of the command line that hold from now on.
    pub fn set_command_line(&mut self, patterns: Vec<String>) {
        self.engine.set_command_line(patterns);
    }

    /// Ends the synchronisation.
    ///
    /// # Errors
    /// If the last record could not be written.
    pub async fn close(self) -> Result<(), CliError> {
        self.engine.close().await.map_err(sync_error)
    }
}

/// Which replica a sandbox is (I9). One that we made lives and dies with the agent's own id. In one
/// that was there before, and stays, nothing of ours may stay; but its driver never gives its id
/// to another one.
fn replica(sandbox: &Sandbox, of_agent: &[u8]) -> Vec<u8> {
    if sandbox.ephemeral {
        return of_agent.to_vec();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(sandbox.id.as_bytes()).update(&[0]);
    hasher.update(sandbox.root.as_os_str().as_encoded_bytes());
    hasher.finalize().as_bytes()[..16].to_vec()
}

fn random_secret() -> [u8; 32] {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).expect("the kernel gives random bytes");
    secret
}

/// A driver's error, for a person.
pub fn driver_error(error: DriverError) -> CliError {
    use crate::driver::ErrorKind;
    let code = match error.kind {
        ErrorKind::Unreachable => ExitCode::Unreachable,
        ErrorKind::NotFound | ErrorKind::Gone => ExitCode::NotFound,
        ErrorKind::Invalid => ExitCode::Config,
        ErrorKind::Exhausted => ExitCode::Exhausted,
        ErrorKind::Denied | ErrorKind::NoAgent | ErrorKind::Failed => ExitCode::Failed,
    };
    let mut shown = CliError::new(code, error.message.clone());
    if let Some(source) = &error.source {
        shown = shown.because(&**source);
    }
    shown.hints = error.hints;
    shown
}

/// A link's error, for a person.
pub fn link_error(error: LinkError) -> CliError {
    use skync_agent::handshake::HandshakeError;
    match error {
        LinkError::Driver(error) => driver_error(error),
        LinkError::Handshake(error @ HandshakeError::Protocol { .. }) => CliError::new(
            ExitCode::Failed,
            "cannot use the agent in the sandbox",
        )
        .because(&error)
        .hint(
            "use the agent that this skync carries: unset SKYNC_AGENT_DIR, or build it again \
                 with `scripts/build-agents`",
        ),
        error => {
            CliError::new(ExitCode::Failed, "cannot open a link to the sandbox").because(&error)
        }
    }
}

/// A synchronisation's error, for a person.
pub fn sync_error(error: SyncError) -> CliError {
    let shown = CliError::new(ExitCode::Failed, "cannot synchronise").because(&error);
    match error {
        // A person decides; until then nothing is lost on either side.
        SyncError::Halted(_) => shown
            .hint("if it is meant, do the same on the host, and the two sides agree")
            .hint("`skync down --discard` gives up what is only in the sandbox"),
        _ => shown,
    }
}

/// An error with a file of ours, for a person.
pub fn state_error(error: &crate::state::StateError) -> CliError {
    let shown = CliError::new(ExitCode::Failed, "cannot keep the session's state").because(error);
    match error.hint() {
        Some(hint) => shown.hint(hint),
        None => shown,
    }
}

/// Where a session keeps its manifest and staged content.
pub fn state_directory(places: &crate::state::Places, key: &str) -> PathBuf {
    Path::new(&places.state).join("sessions").join(key)
}
