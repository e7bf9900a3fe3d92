//! One side of a synchronisation: a root with its rules, its staging store and its stat cache.
//!
//! The host's session holds one in-process; the agent serves one over the link. Both do the same.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::disk::{DiskError, Root};
use crate::entry::{Digest, Entry, File};
use crate::path::SyncPath;
use crate::rules::Rules;
use crate::scan::{Look, ScanError, Snapshot, StatCache, scan, scan_at};
use crate::staging::{Staging, StagingError, sweep};
use crate::transition::{
    Applier, Chunk, Held, Keeper, Outcome, ReadProblem, Step, entry_at, read_content, sign_content,
};
use crate::watch::Watcher;

/// Why an endpoint cannot work.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The root or the file system.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The scan as a whole.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The staging store.
    #[error(transparent)]
    Staging(#[from] StagingError),
}

impl EndpointError {
    /// The file system is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Disk(error) => error.is_no_space(),
            Self::Staging(error) => error.is_no_space(),
            Self::Scan(_) => false,
        }
    }
}

/// A root that can be scanned and changed.
#[derive(Debug)]
pub struct Endpoint {
    root: Root,
    staging: Staging,
    rules: Rules,
    rules_version: Digest,
    cache: Mutex<StatCache>,
    keeper: Option<Arc<dyn Keeper>>,
}

impl Endpoint {
    /// An endpoint over `root`; what `previous` knows of the same root is kept.
    ///
    /// # Errors
    /// If the staging store cannot be used.
    pub fn open(
        root: Root,
        staging: &Path,
        rules: Rules,
        rules_version: Digest,
        previous: Option<&Self>,
    ) -> Result<Self, EndpointError> {
        let staging = Staging::open(staging, &root)?;
        let cache = previous
            .filter(|previous| previous.root.path() == root.path())
            .map(|previous| previous.cache().clone())
            .unwrap_or_default();
        let cache = Mutex::new(cache);
        let keeper = previous.and_then(|previous| previous.keeper.clone());
        Ok(Self { root, staging, rules, rules_version, cache, keeper })
    }

    /// From now on, what is replaced or removed is given to `keeper` first (invariant I13). An
    /// endpoint that is opened after this one has the same keeper.
    #[must_use]
    pub fn keep_with(mut self, keeper: Arc<dyn Keeper>) -> Self {
        self.keeper = Some(keeper);
        self
    }

    /// The root.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The rules it judges by.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The version of the rules it judges by.
    pub fn rules_version(&self) -> Digest {
        self.rules_version
    }

    /// What is known of the files' stats and digests.
    pub fn cache(&self) -> MutexGuard<'_, StatCache> {
        // Every change of the cache is one insert or one assignment: it is whole after any panic.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the whole tree, watching every directory before it is listed.
    ///
    /// # Errors
    /// If the root itself cannot be read; anything else is a problem inside the tree.
    pub fn snapshot(
        &self,
        watcher: Option<&Watcher>,
        cancelled: &AtomicBool,
    ) -> Result<Snapshot, EndpointError> {
        // Held for the whole scan: nobody changes a tree while it is being read (I3).
        let mut cache = self.cache();
        let mut snapshot = scan(&self.root, &self.rules, &cache, watcher, threads(), cancelled)?;
        cache.replace(std::mem::take(&mut snapshot.cache));
        sweep(&self.root, &snapshot.temporaries);
        Ok(snapshot)
    }

    /// Reads what is at one path, with everything below it. `has` says whether a directory above
    /// holds a name.
    ///
    /// # Errors
    /// As [`Endpoint::snapshot`].
    pub fn look(
        &self,
        path: &SyncPath,
        has: &dyn Fn(&SyncPath, &[u8]) -> bool,
        watcher: Option<&Watcher>,
        cancelled: &AtomicBool,
    ) -> Result<Look, ScanError> {
        let (root, rules, cache) = (&self.root, &self.rules, &self.cache);
        let look = scan_at(root, rules, cache, path, has, watcher, threads(), cancelled)?;
        sweep(root, &look.temporaries);
        Ok(look)
    }

    /// Changes the tree; one outcome is reported for each transition.
    pub fn apply(
        &self,
        steps: impl Iterator<Item = Step>,
        report: &mut (impl FnMut(Outcome) + Send),
    ) {
        Applier::new(&self.root, &self.staging, &self.cache, threads())
            .with_keeper(self.keeper.as_deref())
            .apply(steps, report);
    }

    /// Reads a file's content in chunks, without what the receiver holds.
    ///
    /// # Errors
    /// If it cannot be read or is not what was expected any more.
    pub fn read(
        &self,
        path: &SyncPath,
        expected: &File,
        held: Held,
        sink: &mut impl FnMut(Chunk) -> ControlFlow<()>,
    ) -> Result<(), ReadProblem> {
        read_content(&self.root, path, expected, held, sink)
    }

    /// The size and the signature of a file as it is now, if it has one and can be read.
    pub fn sign(&self, path: &SyncPath) -> Option<(u64, Vec<u8>)> {
        sign_content(&self.root, path)
    }

    /// The contents that wait for their place.
    pub fn staging(&self) -> &Staging {
        &self.staging
    }

    /// What is at a path now, without children; nothing if there is no such path.
    ///
    /// # Errors
    /// If it cannot be read or keeps changing.
    pub fn entry_at(&self, path: &SyncPath) -> Result<Option<Entry>, ReadProblem> {
        entry_at(&self.root, path)
    }

    /// Makes what was written survive a power cut (invariant I2).
    ///
    /// # Errors
    /// If the file system could not.
    pub fn sync(&self) -> Result<(), EndpointError> {
        Ok(self.root.syncfs()?)
    }
}

/// Threads for scanning and writing: one for each CPU. They are counted once: the count reads files of the
/// control groups, and each path that is looked at would have it anew.
fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| std::thread::available_parallelism().map_or(2, std::num::NonZero::get))
}
