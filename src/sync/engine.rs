//! The cycle: rules → scans → plan → content and writes → record.
//!
//! One cycle at a time per session; both directions of one plan run together. What changed while a
//! cycle ran is found by the next: a cycle is repeated while something was stale, a few times, and
//! whatever stays open is reported, never forced.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skync_agent::disk::Root;
use skync_agent::endpoint::{Endpoint, EndpointError};
use skync_agent::entry::Entry;
use skync_agent::proto::agent_client::AgentClient;
use skync_agent::proto::{PrepareRequest, ScanRequest};
use skync_agent::rules::{CollectError, RuleSet, Rules};
use skync_agent::scan::StatCache;
use skync_agent::transition::Status;
use skync_agent::wire::{self, TreeBuilder, WireError};
use tokio::task::{JoinError, JoinHandle};

use super::ancestor::Ancestor;
use super::manifest::{Manifest, ManifestError, ReplicaPair};
use super::plan::{Plan, Side, Step, creations_first, flatten};
use super::reconcile::reconcile;
use super::record;
use super::report::Report;
use super::safety::{self, Halt};
use super::transfer::reuse::reusable;
use super::transfer::{Counters, Outcomes, TransferError, pull, push};
use crate::channel::Channel;
use crate::config::SyncMode;

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
    /// A thread of ours failed.
    #[error("a thread failed")]
    Thread(#[from] JoinError),
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
    /// The sandbox may outlive this session: what is recorded must survive a power cut.
    pub durable: bool,
}

/// The host's side of a session, which is there before any sandbox is.
pub struct Host {
    endpoint: Arc<Endpoint>,
    record: Arc<Mutex<Record>>,
    rules: RuleSet,
    staging: PathBuf,
    /// What makes this root this replica (I9): a root that was made anew is another one.
    replica: Vec<u8>,
}

/// The manifest, and what is known to be in it.
struct Record {
    manifest: Manifest,
    saved: StatCache,
}

impl Host {
    /// Opens the project and what is recorded of it. Blocks.
    ///
    /// # Errors
    /// If the project is no directory, or our own state cannot be used.
    pub fn open(root: &Path, staging: &Path, mut manifest: Manifest) -> Result<Self, SyncError> {
        for note in manifest.take_notes() {
            tracing::warn!(note, "the manifest was started anew");
        }
        let rules = RuleSet::of_defaults();
        let (compiled, _) = Rules::compile(&rules);
        let root = Root::open(root).map_err(EndpointError::from)?;
        let endpoint = Endpoint::open(root, staging, compiled, rules.version, None)?;
        let saved = record::load_stats(&mut manifest, &endpoint)?;
        let replica = replica(&endpoint);
        let record = Arc::new(Mutex::new(Record { manifest, saved }));
        let (endpoint, staging) = (Arc::new(endpoint), staging.to_owned());
        Ok(Self { endpoint, record, rules, staging, replica })
    }

    /// Reads the project once, so that the first cycle need not hash it. Blocks; meant to run while
    /// a sandbox is being made.
    ///
    /// # Errors
    /// If the project cannot be read.
    pub fn warm_up(&mut self, settings: &Settings, exclude: &[String]) -> Result<(), SyncError> {
        self.refresh_rules(settings, exclude)?;
        self.endpoint.scan(&AtomicBool::new(false))?;
        Ok(())
    }

    /// Reads the rules anew; true if they changed. Blocks.
    fn refresh_rules(
        &mut self,
        settings: &Settings,
        exclude: &[String],
    ) -> Result<bool, SyncError> {
        let root = self.endpoint.root();
        let rules = RuleSet::collect(root, &settings.exclude, settings.gitignore, exclude)?;
        if rules.version == self.endpoint.rules_version() {
            return Ok(false);
        }
        let (compiled, problems) = Rules::compile(&rules);
        for problem in problems {
            tracing::warn!(%problem, "a pattern is not valid");
        }
        let root = Root::open(&settings.host_root).map_err(EndpointError::from)?;
        let endpoint =
            Endpoint::open(root, &self.staging, compiled, rules.version, Some(&self.endpoint))?;
        self.endpoint = Arc::new(endpoint);
        self.rules = rules;
        Ok(true)
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    // Whatever a panic left half done is a record that lags, which is safe (I2).
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

fn replica(endpoint: &Endpoint) -> Vec<u8> {
    use std::os::unix::fs::MetadataExt;
    let path = endpoint.root().path();
    let inode = std::fs::metadata(path).map_or(0, |metadata| metadata.ino());
    let mut hasher = blake3::Hasher::new();
    hasher.update(path.as_os_str().as_encoded_bytes());
    hasher.update(&endpoint.root().device().to_be_bytes()).update(&inode.to_be_bytes());
    hasher.finalize().as_bytes()[..16].to_vec()
}

/// Synchronises one project with one sandbox.
pub struct Engine {
    host: Host,
    sandbox: AgentClient<Channel>,
    settings: Settings,
    /// Patterns of the command line; the strongest.
    command_line: Vec<String>,
    replicas: ReplicaPair,
    ancestor: Ancestor,
    /// The sandbox's tree as it last came, with its fingerprint: an unchanged one need not travel.
    seen: Option<(Vec<u8>, Entry)>,
    /// The agent has been told these rules.
    prepared: Option<skync_agent::entry::Digest>,
    case_insensitive: [bool; 2],
    /// The record that is being written: it may lag (I2), so nobody waits for it.
    saving: Option<JoinHandle<Result<(), ManifestError>>>,
    /// Progress of the transfers.
    pub counters: Arc<Counters>,
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
        let replicas = ReplicaPair { host: host.replica.clone(), sandbox: replica.to_vec() };
        // Another sandbox than the recorded one means an empty ancestor (I9), and one that is not
        // valid is refused (I11): both can cost conflicts, never deletions.
        let loaded = lock(&host.record).manifest.load_ancestor(&replicas)?;
        if let Some(problem) = loaded.problem {
            tracing::warn!(problem, "starting with an empty ancestor");
        }
        let ancestor = Ancestor::from_tree(loaded.root).unwrap_or_default();
        let case_insensitive = [host.endpoint.root().is_case_insensitive().unwrap_or(false), false];
        Ok(Self {
            host,
            sandbox,
            settings,
            command_line,
            replicas,
            ancestor,
            seen: None,
            prepared: None,
            case_insensitive,
            saving: None,
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
        self.command_line = patterns;
    }

    /// Makes both sides the same, as far as the mode and conflicts let it.
    ///
    /// # Errors
    /// If a side as a whole cannot be read or written; single paths are in the report.
    pub async fn synchronise(&mut self) -> Result<Report, SyncError> {
        let mut report = Report::default();
        for _ in 0..ROUNDS_MAX {
            self.refresh_rules().await?;
            let (host, sandbox) = self.scan().await?;
            let trees = [host.clone(), sandbox.clone()];
            let plan = self.plan(host, sandbox)?;
            let steps = [&plan.host, &plan.sandbox]
                .map(|changes| Arc::new(creations_first(flatten(changes))));
            let outcomes = self.carry_out(&steps, &trees).await?;
            self.record(&plan, &steps, &outcomes).await?;
            report.add(plan, &steps, &outcomes);
            let stale = |status: &Option<Status>| matches!(status, Some(Status::Stale) | None);
            if !outcomes.iter().flatten().any(stale) {
                break;
            }
        }
        report.is_one_way =
            matches!(self.settings.mode, SyncMode::OneWaySafe | SyncMode::OneWayReplica);
        Ok(report)
    }

    async fn refresh_rules(&mut self) -> Result<(), SyncError> {
        let (settings, patterns) = (self.settings.clone(), self.command_line.clone());
        tokio::task::block_in_place(|| self.host.refresh_rules(&settings, &patterns))?;
        let version = self.host.rules.version;
        if self.prepared == Some(version) {
            return Ok(());
        }
        let request = PrepareRequest {
            root: self.settings.sandbox_root.as_os_str().as_encoded_bytes().to_vec(),
            create: true,
            rules: Some(wire::rules_to_wire(&self.host.rules)),
        };
        let reply = self.sandbox.prepare(request).await?.into_inner();
        self.case_insensitive[1] = reply.case_insensitive;
        self.prepared = Some(version);
        Ok(())
    }

    /// Reads both sides at the same time.
    async fn scan(&mut self) -> Result<(Entry, Entry), SyncError> {
        let host = Arc::clone(&self.host.endpoint);
        let host = tokio::task::spawn_blocking(move || host.scan(&AtomicBool::new(false)));
        let version = self.host.rules.version.0.to_vec();
        let known = self.seen.as_ref().map(|(fingerprint, _)| fingerprint.clone());
        let request = ScanRequest { rules_version: version, known: known.unwrap_or_default() };
        let mut replies = self.sandbox.scan(request).await?.into_inner();
        let (mut builder, mut fingerprint, mut unchanged) = (TreeBuilder::default(), vec![], false);
        while let Some(reply) = replies.message().await? {
            reply.entries.into_iter().try_for_each(|entry| builder.push(entry))?;
            fingerprint = reply.fingerprint;
            unchanged = reply.unchanged;
        }
        let seen = match self.seen.take().filter(|_| unchanged) {
            Some(seen) => seen,
            None => (fingerprint, builder.finish()?),
        };
        let sandbox = seen.1.clone();
        self.seen = Some(seen);
        Ok((host.await??, sandbox))
    }

    fn plan(&mut self, mut host: Entry, mut sandbox: Entry) -> Result<Plan, SyncError> {
        self.ancestor.forget(|ancestor| {
            self.host.endpoint.rules().agree(ancestor, &mut host, &mut sandbox);
        });
        let (ancestor, mode) = (self.ancestor.root(), self.settings.mode);
        let mut plan = reconcile(ancestor, Some(&host), Some(&sandbox), mode);
        safety::check(ancestor, Some(&host), Some(&sandbox), &plan)?;
        for (side, tree) in [(Side::Host, &host), (Side::Sandbox, &sandbox)] {
            let insensitive = self.case_insensitive[usize::from(side == Side::Sandbox)];
            let changes = match side {
                Side::Host => &mut plan.host,
                Side::Sandbox => &mut plan.sandbox,
            };
            let (kept, problems) =
                safety::take_out_collisions(side, std::mem::take(changes), Some(tree), insensitive);
            *changes = kept;
            plan.problems.extend(problems);
        }
        Ok(plan)
    }

    async fn carry_out(
        &mut self,
        steps: &[Arc<Vec<Step>>; 2],
        trees: &[Entry; 2],
    ) -> Result<[Outcomes; 2], SyncError> {
        let (host, durable) = (&self.host.endpoint, self.settings.durable);
        let [to_host, to_sandbox] = steps;
        let [on_host, in_sandbox] = trees;
        let on_host = reusable(to_host, Some(on_host));
        let in_sandbox = reusable(to_sandbox, Some(in_sandbox));
        let (pulled, pushed) = tokio::join!(
            pull(host, self.sandbox.clone(), to_host, durable, &self.counters, on_host),
            push(host, self.sandbox.clone(), to_sandbox, durable, &self.counters, in_sandbox),
        );
        Ok([pulled?, pushed?])
    }

    /// Writes, then records (I2): this comes after the outcomes.
    async fn record(
        &mut self,
        plan: &Plan,
        steps: &[Arc<Vec<Step>>; 2],
        outcomes: &[Outcomes; 2],
    ) -> Result<(), SyncError> {
        let done = steps.iter().zip(outcomes).flat_map(|(steps, outcomes)| {
            steps
                .iter()
                .zip(outcomes)
                .map(|(step, status)| (step, *status == Some(Status::Applied)))
        });
        let changes = self.ancestor.advance(&plan.agreed, done);
        self.saved().await?;
        let (record, endpoint) = (Arc::clone(&self.host.record), Arc::clone(&self.host.endpoint));
        let replicas = self.replicas.clone();
        self.saving = Some(tokio::task::spawn_blocking(move || {
            let Record { manifest, saved } = &mut *lock(&record);
            if !changes.is_empty() {
                manifest.save_ancestor(&replicas, &changes)?;
            }
            record::save_stats(manifest, &endpoint, saved)
        }));
        Ok(())
    }

    async fn saved(&mut self) -> Result<(), SyncError> {
        match self.saving.take() {
            Some(saving) => Ok(saving.await??),
            None => Ok(()),
        }
    }
}
