//! The host's side of a session: the project, its rules, what follows it, and what is recorded.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skync_agent::disk::Root;
use skync_agent::endpoint::{Endpoint, EndpointError};
use skync_agent::entry::Entry;
use skync_agent::follow::{Follower, Reader};
use skync_agent::path::SyncPath;
use skync_agent::rules::{GIT_RULE_FILE, RULE_FILE, RuleSet, Rules};
use skync_agent::scan::now_ns;

use super::ancestor::AncestorSet;
use super::engine::{Settings, SyncError};
use super::manifest::{Manifest, ManifestError, ReplicaPair};
use super::plan::Conflict;
use super::record;
use super::trash::{TRASH, Trash};

/// What is to be recorded.
#[derive(Debug, Default)]
pub(super) struct Saving {
    /// What both sides agree on now.
    pub(super) changes: Vec<AncestorSet>,
    /// Paths of decisions that are carried out, or void.
    pub(super) spent: Vec<SyncPath>,
    /// All open conflicts, if they are others than before.
    pub(super) conflicts: Option<Vec<Conflict>>,
}

/// The host's side of a session, which is there before any sandbox is.
pub struct Host {
    endpoint: Arc<Endpoint>,
    /// Once the project has been read.
    following: Option<(Arc<Follower>, Reader)>,
    record: Arc<Mutex<Manifest>>,
    rules: RuleSet,
    staging: PathBuf,
    /// What makes this root this replica (I9): a root that was made anew is another one.
    replica: Vec<u8>,
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
        let trash = Arc::new(Trash::open(&staging.with_file_name(TRASH))?);
        let endpoint =
            Endpoint::open(root, staging, compiled, rules.version, None)?.keep_with(trash);
        record::load_stats(&mut manifest, &endpoint)?;
        let replica = replica(&endpoint);
        let record = Arc::new(Mutex::new(manifest));
        let (endpoint, staging) = (Arc::new(endpoint), staging.to_owned());
        Ok(Self { endpoint, following: None, record, rules, staging, replica })
    }

    /// Reads the project and follows it from then on. Blocks; meant to run while a sandbox is being
    /// made.
    ///
    /// # Errors
    /// If the project cannot be read.
    pub fn warm_up(&mut self, settings: &Settings, exclude: &[String]) -> Result<(), SyncError> {
        self.refresh(settings, exclude).map(|_| ())
    }

    /// Reads the rules, and if they are other ones, the project. True if it was read. Blocks.
    ///
    /// # Errors
    /// If the project cannot be read.
    pub(super) fn refresh(
        &mut self,
        settings: &Settings,
        exclude: &[String],
    ) -> Result<bool, SyncError> {
        let root = self.endpoint.root();
        let rules = RuleSet::collect(root, &settings.exclude, settings.gitignore, exclude)?;
        if rules.version != self.endpoint.rules_version() {
            let (compiled, problems) = Rules::compile(&rules);
            for problem in problems {
                tracing::warn!(%problem, "a pattern is not valid");
            }
            let root = Root::open(&settings.host_root).map_err(EndpointError::from)?;
            let previous = Some(&*self.endpoint);
            let endpoint = Endpoint::open(root, &self.staging, compiled, rules.version, previous)?;
            self.endpoint = Arc::new(endpoint);
            self.rules = rules;
        } else if self.following.is_some() {
            return Ok(false);
        }
        let follower = Follower::start(Arc::clone(&self.endpoint))?;
        let reader = follower.reader(0);
        self.following = Some((Arc::new(follower), reader));
        Ok(true)
    }

    /// What follows the project.
    ///
    /// # Errors
    /// If it has not been read yet.
    pub(super) fn following(&self) -> Result<(&Arc<Follower>, &Reader), SyncError> {
        let following = self.following.as_ref().map(|(follower, reader)| (follower, reader));
        following.ok_or(SyncError::NotRead)
    }

    /// The rules as they were read last.
    pub(super) fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// The project's root with its caches.
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// What makes this root this replica (I9).
    pub(super) fn replica(&self) -> &[u8] {
        &self.replica
    }

    /// The manifest.
    pub fn record(&self) -> MutexGuard<'_, Manifest> {
        lock(&self.record)
    }

    /// True if a change of `path`, in the tree as it is now, may have changed the rules.
    pub(super) fn concerns_rules(&self, path: &SyncPath, tree: &Entry, gitignore: bool) -> bool {
        let is_rule_file = |name: &[u8]| {
            name == RULE_FILE.as_bytes() || (gitignore && name == GIT_RULE_FILE.as_bytes())
        };
        // One that is gone, with its directory perhaps.
        let mut known = self.rules.skyncignore.iter().chain(&self.rules.gitignore);
        path.names().last().is_some_and(is_rule_file)
            || known.any(|file| file.directory == *path || file.directory.is_below(path))
            || tree.find(path).is_some_and(|entry| holds(entry, &is_rule_file))
    }

    /// Writes, in the background, what is new, and what is known of the host's files.
    pub(super) fn save(
        &self,
        replicas: &ReplicaPair,
        what: Saving,
    ) -> tokio::task::JoinHandle<Result<(), ManifestError>> {
        let (record, endpoint) = (Arc::clone(&self.record), Arc::clone(&self.endpoint));
        let replicas = replicas.clone();
        tokio::task::spawn_blocking(move || {
            let manifest = &mut *lock(&record);
            let Saving { changes, spent, conflicts } = what;
            if !changes.is_empty() {
                manifest.save_ancestor(&replicas, &changes)?;
            }
            if !spent.is_empty() {
                manifest.remove_decisions(&spent)?;
            }
            if let Some(conflicts) = conflicts {
                manifest.set_conflicts(&conflicts, now_ns())?;
            }
            record::save_stats(manifest, &endpoint)
        })
    }
}

fn holds(entry: &Entry, is_rule_file: &dyn Fn(&[u8]) -> bool) -> bool {
    let Some(directory) = entry.as_directory() else { return false };
    let mut children = directory.children.iter();
    children.any(|(name, child)| is_rule_file(name.as_bytes()) || holds(child, is_rule_file))
}

fn lock(record: &Mutex<Manifest>) -> MutexGuard<'_, Manifest> {
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
