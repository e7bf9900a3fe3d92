//! The sandbox that a session has at this time: made, dialled, synchronised, removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::agents::Agents;
use crate::config::Profile;
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
use crate::sync::transfer::Counters;

/// How long the agent lives without its session (`design.md` §9).
const LEASE: Duration = Duration::from_secs(45);

/// A link ends a moment before the end of its sandbox can be seen.
const END_SHOWS: Duration = Duration::from_secs(2);
const END_LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How long one try to dial an agent again may take. It answers in milliseconds if it does at all,
/// and whoever wants the session waits meanwhile.
const REDIAL_PATIENCE: Duration = Duration::from_secs(5);

/// The project being read while the sandbox is being made.
pub type HostTask = tokio::task::JoinHandle<Result<Host, SyncError>>;

/// A sandbox with its link and its synchronisation.
pub struct Live {
    /// The sandbox.
    pub sandbox: Sandbox,
    link: Link,
    secret: LinkSecret,
    /// Of the link: the agent drops an older one for a newer one.
    epoch: u64,
    /// None after a new link could be opened and the project not be read anew.
    engine: Option<Engine>,
    /// The transfers' progress; the engine's.
    counters: Arc<Counters>,
}

/// What is known of a sandbox whose link has ended.
pub struct Autopsy {
    /// In words for a person: a sentence without a stop.
    pub words: String,
    /// Nothing if the driver cannot say.
    pub state: Option<SandboxState>,
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

    /// Makes a sandbox and opens a link to the agent in it. With `revive` there is one that has
    /// stopped and still holds its files: its agent is started again.
    ///
    /// # Errors
    /// What keeps it from being made; what was begun is removed before, but for one to revive.
    pub async fn make(
        &mut self,
        host: HostTask,
        command_line: Vec<String>,
        revive: bool,
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
            if !revive {
                self.remove(&sandbox).await?;
            }
            return Err(state_error(&error));
        }
        match self.start(&sandbox, secret, host, command_line).await {
            Ok(live) => Ok(live),
            // It may hold what nobody else has.
            Err(error) if revive => Err(error),
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
        secret: LinkSecret,
        host: HostTask,
        command_line: Vec<String>,
    ) -> Result<Live, CliError> {
        let epoch = 1;
        let link =
            Link::open(&*self.driver, sandbox, &secret, epoch, None).await.map_err(link_error)?;
        let installed = Agents.agent(&link.agent.machine).map_err(driver_error)?.sha256;
        if link.agent.sha256 != installed {
            return Err(link_error(LinkError::Impostor));
        }
        let engine = self.engine(sandbox, &link, host, command_line).await?;
        let counters = Arc::clone(&engine.counters);
        let (sandbox, engine) = (sandbox.clone(), Some(engine));
        Ok(Live { sandbox, link, secret, epoch, engine, counters })
    }

    /// An engine over a link, going on from what is recorded of the two sides.
    async fn engine(
        &self,
        sandbox: &Sandbox,
        link: &Link,
        host: HostTask,
        command_line: Vec<String>,
    ) -> Result<Engine, CliError> {
        let settings = Self::settings(&self.spec, sandbox.root.clone(), !sandbox.ephemeral);
        let client = link.client.clone();
        let host = host.await.map_err(SyncError::from).flatten().map_err(sync_error)?;
        let replica = replica(sandbox, &link.agent.replica_id);
        Engine::new(host, client, &replica, settings, command_line).map_err(sync_error)
    }

    /// Opens a new link to the agent of a sandbox whose link has ended, and goes on from what is
    /// recorded: what was under way may have been done or not, and the next scan tells.
    ///
    /// # Errors
    /// If the agent does not answer, or the project cannot be read. Safe to repeat.
    pub async fn redial(
        &self,
        live: &mut Live,
        host: impl FnOnce() -> HostTask,
        command_line: Vec<String>,
    ) -> Result<(), CliError> {
        if !live.link.is_open() {
            live.epoch += 1;
            let dial = Link::open(&*self.driver, &live.sandbox, &live.secret, live.epoch, None);
            let link = match tokio::time::timeout(REDIAL_PATIENCE, dial).await {
                Ok(dialled) => dialled.map_err(link_error)?,
                Err(_) => {
                    let message = "the agent in the sandbox does not answer";
                    return Err(CliError::new(ExitCode::Unreachable, message));
                }
            };
            if link.agent.sha256 != live.link.agent.sha256 {
                return Err(link_error(LinkError::Impostor));
            }
            live.link = link;
        }
        // Its record is written before it is read again.
        if let Some(engine) = live.engine.take()
            && let Err(error) = engine.close().await
        {
            tracing::warn!(%error, "the last record before the link ended could not be written");
        }
        let engine = self.engine(&live.sandbox, &live.link, host(), command_line).await?;
        live.counters = Arc::clone(&engine.counters);
        live.engine = Some(engine);
        Ok(())
    }

    /// A sandbox that has stopped still holds its files, and can be started again.
    pub fn revives(&self) -> bool {
        self.driver.revives()
    }

    /// The project and the profile, as they are now.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Takes over what a changed profile says of files; the rest needs a new session.
    pub fn take_over(&mut self, profile: &Profile) {
        let own = &mut self.spec.profile;
        own.exclude.clone_from(&profile.exclude);
        own.guarded.clone_from(&profile.guarded);
        own.gitignore = profile.gitignore;
    }

    /// What the synchronisation is set to, for a sandbox root.
    pub fn settings(spec: &Spec, sandbox_root: PathBuf, durable: bool) -> Settings {
        let profile = &spec.profile;
        Settings {
            host_root: spec.root.clone(),
            sandbox_root,
            mode: profile.mode,
            exclude: profile.exclude.clone(),
            gitignore: profile.gitignore,
            guarded: profile.guarded.clone(),
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

    /// Removes every sandbox of this session that there is.
    ///
    /// # Errors
    /// If one is still there; the journal keeps it for `skync gc`.
    pub async fn remove_all(&mut self) -> Result<(), CliError> {
        let found = self.driver.find(&self.entry.labels()).await.map_err(driver_error)?;
        for sandbox in &found {
            self.remove(sandbox).await?;
        }
        Ok(())
    }

    /// How a sandbox is, now that its link has ended.
    pub async fn autopsy(&self, sandbox: &Sandbox) -> Autopsy {
        let name = &sandbox.name;
        let deadline = tokio::time::Instant::now() + END_SHOWS;
        let state = loop {
            let state = self.driver.state(sandbox).await;
            if !matches!(state, Ok(SandboxState::Running)) || deadline.elapsed() > Duration::ZERO {
                break state;
            }
            tokio::time::sleep(END_LOOK_INTERVAL).await;
        };
        let words = match &state {
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
        };
        Autopsy { words, state: state.ok() }
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
    /// The link, which may have ended.
    pub fn link(&self) -> Link {
        self.link.clone()
    }

    /// The link is open, and the two sides can be synchronised over it.
    pub fn is_whole(&self) -> bool {
        self.link.is_open() && self.engine.is_some()
    }

    /// What synchronises; nothing between two links.
    pub fn engine(&mut self) -> Option<&mut Engine> {
        self.engine.as_mut()
    }

    /// The transfers' progress.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Patterns of the command line that hold from now on.
    pub fn set_command_line(&mut self, patterns: Vec<String>) {
        if let Some(engine) = &mut self.engine {
            engine.set_command_line(patterns);
        }
    }

    /// Ends the synchronisation.
    ///
    /// # Errors
    /// If the last record could not be written.
    pub async fn close(self) -> Result<(), CliError> {
        match self.engine {
            Some(engine) => engine.close().await.map_err(sync_error),
            None => Ok(()),
        }
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
    match error {
        // A person decides; until then nothing is lost on either side.
        SyncError::Halted(_) => CliError::new(ExitCode::Conflict, "cannot synchronise")
            .because(&error)
            .hint("if it is meant, `skync resume --accept` carries it out")
            .hint("`skync down --discard` gives up what is only in the sandbox"),
        error => CliError::new(ExitCode::Failed, "cannot synchronise").because(&error),
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
