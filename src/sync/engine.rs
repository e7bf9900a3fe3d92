//! The cycle: what changed → plan → content and writes → record.
//!
//! Both sides are followed: what changes there wakes the [`Inbox`], a step takes both trees as they
//! are with the paths that changed, and [`Core`] decides about these and no others. One cycle at a
//! time per session; both directions of one plan run together. What changes while a cycle runs
//! gathers for the next, so the first change of a quiet time goes at once and a storm in batches.
//! Whatever stays open is reported, never forced.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skync_agent::disk::Root;
use skync_agent::endpoint::EndpointError;
use skync_agent::entry::Entry;
use skync_agent::path::SyncPath;
use skync_agent::proto::agent_client::AgentClient;
use skync_agent::proto::{FlushRequest, StateNumber};
use skync_agent::rules::CollectError;
use skync_agent::wire::WireError;
use tokio::task::{AbortHandle, JoinError, JoinHandle};

use self::removals::Removals;
use super::ancestor::Ancestor;
use super::core::{Batch, Core, Outcomes, View};
use super::guard::Guards;
use super::host::{Host, Saving};
use super::inbox::Inbox;
use super::manifest::{ManifestError, ReplicaPair};
use super::plan::{Conflict, Problem};
use super::replay::{Progress, Replay};
use super::report::Report;
use super::safety::{Folds, Halt};
use super::transfer::reuse::{Reuse, reusable};
use super::transfer::{Counters, TransferError, pull, push};
use super::trash::TrashError;
use crate::channel::Channel;
use crate::config::SyncMode;

mod removals;
mod rules;

/// Rounds of one synchronisation; what is stale after the last one is a file that never rests.
const ROUNDS_MAX: usize = 4;

/// Why a synchronisation could not be carried out. Nothing is lost by any of them.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The host's side.
    #[error("the project could not be read")]
    Host(#[from] EndpointError),
    /// The rules of the project.
    #[error("the project's ignore files could not be read")]
    Rules(#[from] CollectError),
    /// The agent could not do something, or the link broke.
    #[error("the sandbox could not be read: {}", .0.message())]
    Sandbox(#[from] tonic::Status),
    /// The agent broke the contract.
    #[error("the agent sent something malformed")]
    Wire(#[from] WireError),
    /// Content was on its way.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The manifest.
    #[error("the session's record could not be kept")]
    Manifest(#[from] ManifestError),
    /// The trash.
    #[error("what is overwritten could not be kept")]
    Trash(#[from] TrashError),
    /// A thread of ours failed.
    #[error("a thread failed")]
    Thread(#[from] JoinError),
    /// Nothing has read the project yet.
    #[error("the project has not been read")]
    NotRead,
    /// It looks like an accident (invariant I10).
    #[error(transparent)]
    Halted(#[from] Halt),
}

/// What a session's synchronisation is set to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The project on the host.
    pub host_root: PathBuf,
    /// The project in the sandbox.
    pub sandbox_root: PathBuf,
    /// How the two are kept the same.
    pub mode: SyncMode,
    /// The profile's patterns.
    pub exclude: Vec<String>,
    /// Apply `.gitignore` files too.
    pub gitignore: bool,
    /// Patterns of what the sandbox may not change on the host without a yes, instead of the
    /// built-in ones (I14).
    pub guarded: Option<Vec<String>>,
    /// The sandbox may outlive this session: what is recorded must survive a power cut.
    pub durable: bool,
}

/// What is known of a session's synchronisation now.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// Files and links that both sides agree on.
    pub files: u64,
    /// Where a person must decide.
    pub conflicts: Vec<Conflict>,
    /// What is left out, and why.
    pub problems: Vec<Problem>,
    /// Why nothing is done at all.
    pub halted: Option<Halt>,
    /// Why not everything is watched, on host and sandbox.
    pub watching: [Option<String>; 2],
}

/// Asks an agent for a state that shows everything that was done in its sandbox until now; nothing
/// if it does not say.
pub async fn ask(mut sandbox: AgentClient<Channel>) -> Option<StateNumber> {
    let reply = sandbox.flush(FlushRequest { rescan: false }).await.ok()?.into_inner();
    Some(StateNumber { follow: reply.follow, seq: reply.seq })
}

/// Synchronises one project with one sandbox.
pub struct Engine {
    host: Host,
    sandbox: AgentClient<Channel>,
    settings: Settings,
    /// Patterns of the command line; the strongest.
    command_line: Vec<String>,
    replicas: ReplicaPair,
    core: Core,
    /// The sandbox's tree, as the agent tells it.
    replay: Arc<Replay>,
    following: Option<AbortHandle>,
    unwatched: [Option<String>; 2],
    /// What went in the sandbox and is not to go on the host yet.
    removals: Removals,
    /// Nothing is put off.
    is_flushing: bool,
    /// The rules may have changed.
    rules_dirty: bool,
    guards: Guards,
    folds: [Folds; 2],
    /// The conflicts that are in the record; nothing before the first were written.
    recorded: Option<Vec<Conflict>>,
    /// The record that is being written: it may lag (I2), so nobody waits for it.
    saving: Option<JoinHandle<Result<(), ManifestError>>>,
    inbox: Arc<Inbox>,
    listening: Vec<AbortHandle>,
    clock: Instant,
    /// Progress of the transfers.
    pub counters: Arc<Counters>,
}

/// What the sandbox may not change here, as the settings have it.
fn guards_of(settings: &Settings) -> Guards {
    Guards::new(&settings.host_root, settings.guarded.as_deref(), settings.gitignore)
}

impl Drop for Engine {
    fn drop(&mut self) {
        for task in self.listening.iter().chain(&self.following) {
            task.abort();
        }
    }
}

impl Engine {
    /// An engine for the host and the sandbox behind `sandbox`, which is `replica`.
    ///
    /// # Errors
    /// If the manifest cannot be read.
    pub fn new(
        host: Host,
        sandbox: AgentClient<Channel>,
        replica: &[u8],
        settings: Settings,
        command_line: Vec<String>,
    ) -> Result<Self, SyncError> {
        let replicas = ReplicaPair { host: host.replica().to_vec(), sandbox: replica.to_vec() };
        // Another sandbox than the recorded one means an empty ancestor (I9), and one that is not
        // valid is refused (I11): both can cost conflicts, never deletions.
        let loaded = host.record().load_ancestor(&replicas)?;
        if let Some(problem) = loaded.problem {
            tracing::warn!(problem, "starting with an empty ancestor");
        }
        let ancestor = Ancestor::from_tree(loaded.root).unwrap_or_default();
        let guards = guards_of(&settings);
        let root = host.endpoint().root();
        let case = root.is_case_insensitive().unwrap_or(false);
        let folds = [Folds { case, form: case || Root::FOLDS_FORM }, Folds::default()];
        Ok(Self {
            core: Core::new(settings.mode, ancestor),
            host,
            sandbox,
            settings,
            command_line,
            replicas,
            replay: Arc::default(),
            following: None,
            unwatched: [None, None],
            removals: Removals::default(),
            is_flushing: false,
            rules_dirty: true,
            guards,
            folds,
            recorded: None,
            saving: None,
            inbox: Arc::default(),
            listening: Vec::new(),
            clock: Instant::now(),
            counters: Arc::default(),
        })
    }

    /// Waits for the record of what was done.
    ///
    /// # Errors
    /// If the last record could not be written.
    pub async fn close(mut self) -> Result<(), SyncError> {
        self.saved().await
    }

    /// Patterns of the command line that hold from the next synchronisation on.
    pub fn set_command_line(&mut self, patterns: Vec<String>) {
        self.rules_dirty |= patterns != self.command_line;
        self.command_line = patterns;
    }

    /// What the profile says of files; holds from the next synchronisation on.
    pub fn set_profile(&mut self, exclude: &[String], gitignore: bool, guarded: Option<&[String]>) {
        let settings = &mut self.settings;
        let counts = gitignore != settings.gitignore;
        if exclude != settings.exclude || counts {
            exclude.clone_into(&mut settings.exclude);
            settings.gitignore = gitignore;
            self.rules_dirty = true;
        }
        if guarded != settings.guarded.as_deref() || counts {
            settings.guarded = guarded.map(<[String]>::to_vec);
            self.guards = guards_of(settings);
            self.core.touch_all();
        }
        self.inbox.wake();
    }

    /// Where to wait for something to do.
    pub fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }

    /// What is known now.
    pub fn overview(&self) -> Overview {
        Overview {
            files: self.core.ancestor().files(),
            conflicts: self.core.conflicts().cloned().collect(),
            problems: self.core.problems().collect(),
            halted: self.core.halted().cloned(),
            watching: self.unwatched.clone(),
        }
    }

    /// Why nothing is done, until a person allows it.
    pub fn halted(&self) -> Option<&Halt> {
        self.core.halted()
    }

    /// The halt that stands may be carried out, once.
    pub fn accept(&mut self) {
        self.core.accept();
    }

    /// Makes both sides the same, as far as the mode and conflicts let it: everything that was done
    /// on either side before this call is on both after it.
    ///
    /// # Errors
    /// If a side as a whole cannot be read or written; single paths are in the report.
    pub async fn synchronise(&mut self) -> Result<Report, SyncError> {
        self.synchronise_after(None).await
    }

    /// As [`Engine::synchronise`]; but in the sandbox, what was done before the state that was `told`
    /// counts, and no turn of the link is made to ask for one.
    ///
    /// # Errors
    /// As [`Engine::synchronise`].
    pub async fn synchronise_after(
        &mut self,
        mut told: Option<StateNumber>,
    ) -> Result<Report, SyncError> {
        let mut report = Report::default();
        self.is_flushing = true;
        self.core.retry();
        // A person may have decided something meanwhile.
        let decisions = self.host.record().decisions()?;
        self.core.decide(decisions);
        for _ in 0..ROUNDS_MAX {
            self.refresh_rules().await?;
            self.flush(false, told.take()).await?;
            self.rounds(&mut report).await?;
            if self.core.is_clean() {
                break;
            }
        }
        Ok(self.said(report))
    }

    /// As [`Engine::synchronise`], after reading both sides whole: that also finds what no watcher
    /// is told.
    ///
    /// # Errors
    /// As [`Engine::synchronise`].
    pub async fn synchronise_all(&mut self) -> Result<Report, SyncError> {
        self.refresh_rules().await?;
        self.flush(true, None).await?;
        self.synchronise().await
    }

    /// Carries out what has changed; quick if nothing has.
    ///
    /// # Errors
    /// As [`Engine::synchronise`].
    pub async fn step(&mut self) -> Result<Report, SyncError> {
        let mut report = Report::default();
        self.is_flushing = false;
        self.rounds(&mut report).await?;
        let retry = self.core.next_due_ns().map(Duration::from_nanos);
        if let Some(due) = retry.into_iter().chain(self.removals.next_due()).min() {
            self.inbox.wake_after(due.saturating_sub(self.clock.elapsed()));
        }
        Ok(self.said(report))
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// What stays open belongs to every report.
    fn said(&self, mut report: Report) -> Report {
        report.is_one_way =
            matches!(self.settings.mode, SyncMode::OneWaySafe | SyncMode::OneWayReplica);
        report.stays_open(&self.core);
        report
    }

    async fn rounds(&mut self, report: &mut Report) -> Result<(), SyncError> {
        for _ in 0..ROUNDS_MAX {
            self.refresh_rules().await?;
            if !self.round(report).await? {
                break;
            }
        }
        Ok(())
    }

    /// One plan, carried out. False if there was nothing to do.
    async fn round(&mut self, report: &mut Report) -> Result<bool, SyncError> {
        let [host, sandbox] = self.take()?;
        if self.rules_dirty {
            // What to leave alone is known first.
            return Ok(true);
        }
        let view = View {
            host: host.as_ref(),
            sandbox: sandbox.as_ref(),
            rules: self.host.endpoint().rules(),
            guards: &self.guards,
            folds: self.folds,
        };
        let planned = self.core.plan(&view, self.now_ns());
        let Some(batch) = planned? else { return Ok(false) };
        let [to_host, to_sandbox] = &batch.steps;
        let reuse = [reusable(to_host, host.as_ref()), reusable(to_sandbox, sandbox.as_ref())];
        // As long as these trees are held, every step copies the directory it changes.
        drop([host, sandbox]);
        let outcomes = self.carry_out(&batch, reuse).await?;
        let changes = self.core.finish(&batch, &outcomes, self.now_ns());
        let is_empty = batch.is_empty();
        let spent = self.core.take_spent();
        let conflicts = self.new_conflicts();
        if !is_empty || !spent.is_empty() || conflicts.is_some() {
            self.save(Saving { changes, spent, conflicts }).await?;
        }
        // Nothing is planned from trees older than these steps (I3).
        if let [Some(host), _] = self.take()? {
            let core = &mut self.core;
            self.replay.share(|sandbox| core.share(&batch, &host, sandbox));
        }
        report.add(&batch, &outcomes);
        Ok(!is_empty)
    }

    /// Takes both trees as they are now.
    fn take(&mut self) -> Result<[Option<Entry>; 2], SyncError> {
        if let Progress::Ended(why) = &*self.replay.progress().borrow() {
            return Err(SyncError::Sandbox(tonic::Status::unavailable(why.clone())));
        }
        let (_, reader) = self.host.following()?;
        let Some(host) = reader.take() else { return Err(SyncError::NotRead) };
        let sandbox = self.replay.take();
        let rules = self.host.endpoint().rules();
        for path in &host.changed {
            self.core.touch(path, rules);
        }
        self.removals.sort_out(sandbox.changed, sandbox.tree.as_ref(), self.clock.elapsed());
        for path in self.removals.take_due(self.clock.elapsed(), self.is_flushing) {
            self.core.touch(&path, rules);
        }
        if let Some(tree) = &host.tree {
            let concerns =
                |path: &SyncPath| self.host.concerns_rules(path, tree, self.settings.gitignore);
            self.rules_dirty |= host.changed.iter().any(concerns);
        }
        let is_lost = [host.lost.is_some(), sandbox.lost.is_some()];
        if is_lost.contains(&true) {
            self.core.touch(&SyncPath::root(), rules);
        }
        self.unwatched = [host.unwatched, sandbox.unwatched];
        let [host_lost, sandbox_lost] = is_lost;
        Ok([host.tree.filter(|_| !host_lost), sandbox.tree.filter(|_| !sandbox_lost)])
    }

    /// Has both sides read and told what was done until now, at the same time; in the sandbox, if
    /// the agent has said which state shows that, it is only waited for.
    async fn flush(&mut self, rescan: bool, told: Option<StateNumber>) -> Result<(), SyncError> {
        let (follower, _) = self.host.following()?;
        let host = follower.flush(rescan);
        // One of another stream, over the link before perhaps, says nothing of this one.
        let told = told.filter(|state| state.follow == self.replay.name());
        let sandbox = async {
            let seq = match told {
                Some(state) => state.seq,
                None => self.sandbox.flush(FlushRequest { rescan }).await?.into_inner().seq,
            };
            self.replay.reached(seq).await.map_err(tonic::Status::unavailable)
        };
        let (_, flushed) = tokio::join!(host, sandbox);
        Ok(flushed?)
    }

    async fn carry_out(
        &mut self,
        batch: &Batch,
        reuse: [Reuse; 2],
    ) -> Result<[Outcomes; 2], SyncError> {
        let (follower, _) = self.host.following()?;
        let durable = self.settings.durable;
        let [to_host, to_sandbox] = &batch.steps;
        let [on_host, in_sandbox] = reuse;
        let (client, counters) = (&self.sandbox, &self.counters);
        let (sources, replay) = (&batch.sources, &self.replay);
        let (pulled, pushed) = tokio::join!(
            pull(follower, client.clone(), to_host, sources, durable, counters, on_host),
            push(follower, client.clone(), replay, to_sandbox, durable, counters, in_sandbox),
        );
        Ok([pulled?, pushed?])
    }

    /// The conflicts, if they are not those that are recorded.
    fn new_conflicts(&mut self) -> Option<Vec<Conflict>> {
        let is_same = self.core.conflicts().eq(self.recorded.iter().flatten());
        if is_same && self.recorded.is_some() {
            return None;
        }
        let conflicts: Vec<Conflict> = self.core.conflicts().cloned().collect();
        self.recorded = Some(conflicts.clone());
        Some(conflicts)
    }

    /// Writes, then records (I2): this comes after the outcomes.
    async fn save(&mut self, what: Saving) -> Result<(), SyncError> {
        self.saved().await?;
        self.saving = Some(self.host.save(&self.replicas, what));
        Ok(())
    }

    async fn saved(&mut self) -> Result<(), SyncError> {
        match self.saving.take() {
            Some(saving) => Ok(saving.await??),
            None => Ok(()),
        }
    }
}
