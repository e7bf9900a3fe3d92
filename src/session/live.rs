//! The sandbox that a session has at this time: made, dialled, synchronised, removed.

mod setup;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::agents::Agents;
use crate::config::Profile;
use crate::driver::{
    AgentSource, Driver, DriverError, ErrorKind, LinkSecret, Progress, Sandbox, SandboxSpec,
    SandboxState, label,
};
use crate::error::{CliError, ExitCode};
use crate::link::{self, Link, LinkError};
use crate::session::Spec;
use crate::session::errors::{driver_error, link_error, state_error, sync_error};
use crate::session::journal::{Entry, Journal, MountRecord};
use crate::session::setup::key;
use crate::session::setup::show::Now;
use crate::state;
use crate::sync::engine::{Engine, Settings, SyncError};
use crate::sync::host::Host;
use crate::sync::transfer::Counters;

pub(super) use self::setup::Setup;

/// How long the agent lives without its session (`design.md` §9), if it is on this machine.
const LEASE: Duration = Duration::from_secs(45);

/// A link ends a moment before the end of its sandbox can be seen. No longer: whoever only lost the
/// link waits for it, and what ends later is seen at the next try.
const END_SHOWS: Duration = Duration::from_millis(300);
const END_LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// One look may take so long: whoever wants the session waits meanwhile.
const LOOK_PATIENCE: Duration = Duration::from_secs(10);

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
    /// The engine is of a link before this one.
    is_stale: bool,
    /// The transfers' progress; the engine's.
    counters: Arc<Counters>,
}

/// A link, and what another one to the same agent needs.
struct Line {
    link: Link,
    secret: LinkSecret,
    epoch: u64,
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
    /// A sandbox may have been made that is not known.
    may_be_left: bool,
    /// A person sits at a terminal of a command: a link's end is to be noticed sooner.
    person: watch::Receiver<bool>,
    setup: Setup,
}

/// What became of a sandbox that an earlier process of the session made.
pub enum Adopted {
    /// It goes on.
    Live(Box<Live>),
    /// It has stopped, and still holds its files.
    Stopped(Sandbox),
    /// There is none any more.
    Gone,
}

impl Maker {
    /// For one session; its entry is not in the journal yet, unless it succeeds one that died.
    pub(super) fn new(
        spec: Spec,
        driver: Arc<dyn Driver>,
        journal: Journal,
        entry: Entry,
        owner: String,
        person: watch::Receiver<bool>,
        setup: Setup,
    ) -> Self {
        let runtime = entry.runtime.clone();
        Self { spec, driver, journal, entry, runtime, owner, may_be_left: false, person, setup }
    }

    fn sandbox_spec(&self) -> SandboxSpec {
        let root = self.spec.profile.root.clone().unwrap_or_else(|| self.spec.root.clone());
        SandboxSpec {
            session: self.spec.id.clone(),
            labels: self.labels(),
            root,
            lease: if self.driver.is_remote() { self.spec.profile.outlives() } else { LEASE },
            runtime: self.runtime.clone(),
            preparation: key(&self.spec.profile),
        }
    }

    fn secret_file(&self) -> PathBuf {
        self.runtime.join("secret")
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
        let spec = self.sandbox_spec();
        if !revive {
            // What was known of this is of one that is gone.
            (self.entry.prepared, self.entry.preparing) = (None, false);
        }
        // Written down, and on the disk, before the driver makes anything. The secret is for the
        // process that goes on if this one dies; it lies where only the user reaches.
        state::write_atomic(&self.secret_file(), &secret.0, 0o600)
            .and_then(|()| self.journal.write(&self.entry))
            .map_err(|error| state_error(&error))?;
        // Until its outcome is known, and for ever if nobody waits for it.
        self.may_be_left = true;
        let sandbox = self.driver.create(&spec, &secret, &Agents, progress).await;
        self.may_be_left = sandbox.as_ref().is_err_and(|error| error.unclear);
        let sandbox = sandbox.map_err(driver_error)?;
        self.entry.sandbox = Some(sandbox.clone());
        self.entry.preparing = !revive && self.is_to_be_prepared(&sandbox);
        if let Err(error) = self.journal.write(&self.entry) {
            if !revive {
                self.remove(&sandbox).await?;
            }
            return Err(state_error(&error));
        }
        // Preparing can take long, and whoever waits for it may leave.
        self.may_be_left = !revive;
        let started = self.start(&sandbox, secret, host, command_line, revive).await;
        self.may_be_left = false;
        match started {
            Ok(live) => Ok(live),
            // It may hold what nobody else has.
            Err(error) if revive => Err(error),
            Err(error) => {
                // Half of a sandbox is of no use: it goes before the error is told.
                self.may_be_left = true;
                let removed = self.remove(&sandbox).await;
                self.may_be_left = removed.is_err();
                Err(match removed {
                    Ok(()) => error,
                    Err(left) => error.hint(left.to_string()),
                })
            }
        }
    }

    async fn start(
        &mut self,
        sandbox: &Sandbox,
        secret: LinkSecret,
        host: HostTask,
        command_line: Vec<String>,
        revive: bool,
    ) -> Result<Live, CliError> {
        let mut line = self.open_line(sandbox, secret).await?;
        let agent = &line.link.agent;
        let installed = Agents.agent(&agent.machine).map_err(driver_error)?.sha256;
        if agent.sha256 != installed {
            return Err(link_error(LinkError::Impostor));
        }
        // Before anything of the project is there: it is in nothing that is kept, and a preparation
        // that fails has cost no transfer. In one that is started again lies what a person may have
        // nowhere else: nothing may stand between them, so `prepare_live` sees to it afterwards.
        if !revive {
            Box::pin(self.prepare(sandbox, &mut line)).await?;
        }
        self.live(sandbox, line, host, command_line).await
    }

    /// Opens a link to an agent that has proved itself, which may be of an earlier skync.
    async fn open_line(&self, sandbox: &Sandbox, secret: LinkSecret) -> Result<Line, CliError> {
        let epoch = epoch_after(0);
        let link = self.open(sandbox, &secret, epoch, link::PATIENCE).await?;
        Ok(Line { link, secret, epoch })
    }

    /// Begins to synchronise over it.
    async fn live(
        &self,
        sandbox: &Sandbox,
        line: Line,
        host: HostTask,
        command_line: Vec<String>,
    ) -> Result<Live, CliError> {
        let Line { link, secret, epoch } = line;
        let engine = self.engine(sandbox, &link, host, command_line).await?;
        let counters = Arc::clone(&engine.counters);
        let (sandbox, engine) = (sandbox.clone(), Some(engine));
        Ok(Live { sandbox, link, secret, epoch, engine, is_stale: false, counters })
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

    /// Takes over what an earlier process of this session made, if it is still there.
    ///
    /// # Errors
    /// If it may be there and cannot be reached, or the project cannot be read.
    pub async fn adopt(
        &mut self,
        host: HostTask,
        command_line: Vec<String>,
    ) -> Result<Adopted, CliError> {
        let Some(sandbox) = self.entry.sandbox.clone() else { return Ok(Adopted::Gone) };
        if self.entry.preparing {
            // Half prepared, and nothing else was done in it: another one begins from the start.
            return Ok(Adopted::Gone);
        }
        if let Err(error) = self.driver.adopt(&sandbox, &self.sandbox_spec()).await {
            return match (error.kind, self.driver.state(&sandbox).await) {
                (ErrorKind::Gone, Ok(SandboxState::Stopped { .. })) if self.revives() => {
                    Ok(Adopted::Stopped(sandbox))
                }
                (ErrorKind::Gone, Ok(SandboxState::Stopped { .. } | SandboxState::Gone)) => {
                    Ok(Adopted::Gone)
                }
                _ => Err(driver_error(error)),
            };
        }
        let secret = state::read(&self.secret_file(), 64).map_err(|error| state_error(&error))?;
        let secret =
            secret.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).ok_or_else(|| {
                CliError::new(ExitCode::Failed, "the secret of the session's link is lost")
                    .hint("`skync gc` removes what the session left")
            })?;
        let line = self.open_line(&sandbox, LinkSecret(secret)).await?;
        let live = self.live(&sandbox, line, host, command_line).await?;
        self.show_prepared();
        Ok(Adopted::Live(Box::new(live)))
    }

    async fn open(
        &self,
        sandbox: &Sandbox,
        secret: &LinkSecret,
        epoch: u64,
        patience: Duration,
    ) -> Result<Link, CliError> {
        let person = self.person.clone();
        Link::open(&*self.driver, sandbox, secret, epoch, patience, person)
            .await
            .map_err(link_error)
    }

    /// Opens a new link to the agent of a sandbox whose link has ended. Its engine is to be renewed
    /// then.
    ///
    /// # Errors
    /// If the agent does not answer. Safe to repeat.
    pub async fn dial(&self, live: &mut Live) -> Result<(), CliError> {
        if live.link.is_open() {
            return Ok(());
        }
        live.epoch = epoch_after(live.epoch);
        let dial = self.open(&live.sandbox, &live.secret, live.epoch, REDIAL_PATIENCE);
        let link = tokio::time::timeout(REDIAL_PATIENCE, dial).await.map_err(|_| {
            CliError::new(ExitCode::Unreachable, "the agent in the sandbox does not answer")
                .hint("try again: skync dials anew, and nothing of either side is lost")
        })??;
        if link.agent.sha256 != live.link.agent.sha256 {
            return Err(link_error(LinkError::Impostor));
        }
        live.link = link;
        live.is_stale = true;
        Ok(())
    }

    /// Goes on over the link there is from what is recorded: what was under way when the one before
    /// ended may have been done or not, and the next scan tells.
    ///
    /// # Errors
    /// If the project cannot be read. Safe to repeat.
    pub async fn renew(
        &self,
        live: &mut Live,
        host: impl FnOnce() -> HostTask,
        command_line: Vec<String>,
    ) -> Result<(), CliError> {
        // Its record is written before it is read again.
        if let Some(engine) = live.engine.take()
            && let Err(error) = engine.close().await
        {
            tracing::warn!(%error, "the last record before the link ended could not be written");
        }
        let engine = self.engine(&live.sandbox, &live.link, host(), command_line).await?;
        live.counters = Arc::clone(&engine.counters);
        live.engine = Some(engine);
        live.is_stale = false;
        Ok(())
    }

    /// A sandbox may have been made whose making nobody has seen to its end.
    pub fn may_have_left(&self) -> bool {
        self.may_be_left
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
        (self.entry.prepared, self.entry.preparing) = (None, false);
        self.setup.show.settle(Now::Nothing);
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
        self.may_be_left = false;
        Ok(())
    }

    /// How a sandbox is, now that its link has ended; `just_now`, so its end may show a little later.
    pub async fn autopsy(&self, sandbox: &Sandbox, just_now: bool) -> Autopsy {
        let name = &sandbox.name;
        let wait = if just_now { END_SHOWS } else { Duration::ZERO };
        let deadline = tokio::time::Instant::now() + wait;
        let state = loop {
            let look = tokio::time::timeout(LOOK_PATIENCE, self.driver.state(sandbox)).await;
            let state = look.unwrap_or_else(|_| {
                let message = format!("nothing was heard of it for {} s", LOOK_PATIENCE.as_secs());
                Err(DriverError::new(ErrorKind::Unreachable, message)
                    .hint("`skync doctor` says what can be reached"))
            });
            if !matches!(state, Ok(SandboxState::Running))
                || tokio::time::Instant::now() >= deadline
            {
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

    /// Whether the session goes on without users, and with which patterns: written down for the
    /// process that goes on if this one dies.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn record_hold(&mut self, hold: bool, exclude: &[String]) -> Result<(), CliError> {
        if self.entry.hold == hold && self.entry.exclude == exclude {
            return Ok(());
        }
        (self.entry.hold, self.entry.exclude) = (hold, exclude.to_vec());
        self.journal.write(&self.entry).map_err(|error| state_error(&error))
    }

    /// Where the sandbox is mounted, or is about to be: written down for whoever cleans up, and for the
    /// process that goes on if this one dies.
    ///
    /// # Errors
    /// If the journal cannot be written; then nothing must be mounted.
    pub fn record_mounts(&mut self, mounts: Vec<MountRecord>) -> Result<(), CliError> {
        let before = std::mem::replace(&mut self.entry.mounts, mounts);
        self.journal.write(&self.entry).map_err(|error| {
            self.entry.mounts = before;
            state_error(&error)
        })
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
        self.link.is_open() && self.engine.is_some() && !self.is_stale
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

/// The number of the next link: it rises, also from one process of the session to the next, of which
/// neither knows the other's.
fn epoch_after(last: u64) -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0).max(last + 1)
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

/// Where a session keeps its manifest and staged content.
pub fn state_directory(places: &crate::state::Places, key: &str) -> PathBuf {
    Path::new(&places.state).join("sessions").join(key)
}
