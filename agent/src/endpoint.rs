//! One side of a synchronisation: a root with its rules, its staging store and its stat cache.
//!
//! The host's session holds one in-process; the agent serves one over the link. Both do the same.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::disk::{DiskError, Root};
use crate::entry::{Digest, Directory, Entry, File};
use crate::path::SyncPath;
use crate::rules::Rules;
use crate::scan::{ScanError, Snapshot, StatCache, scan};
use crate::staging::{Staging, StagingError, sweep};
use crate::transition::{
    Applier, Chunk, Held, Outcome, ReadProblem, Step, read_content, sign_content,
};

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
        Ok(Self { root, staging, rules, rules_version, cache: Mutex::new(cache) })
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

    /// Reads the whole tree.
    ///
    /// # Errors
    /// If the root itself cannot be read; anything else is a problem inside the tree.
    pub fn scan(&self, cancelled: &AtomicBool) -> Result<Entry, EndpointError> {
        // A root that is missing is an error of the scan, so there is one.
        Ok(self.snapshot(cancelled)?.root.unwrap_or_else(|| Entry::Directory(Directory::default())))
    }

    /// As [`Endpoint::scan`], with what it counted.
    ///
    /// # Errors
    /// As [`Endpoint::scan`].
    pub fn snapshot(&self, cancelled: &AtomicBool) -> Result<Snapshot, EndpointError> {
        // Held for the whole scan: nobody changes a tree while it is being read (I3).
        let mut cache = self.cache();
        let mut snapshot = scan(&self.root, &self.rules, &cache, threads(), cancelled)?;
        *cache = std::mem::take(&mut snapshot.cache);
        sweep(&self.root, &snapshot.temporaries);
        Ok(snapshot)
    }

    /// Changes the tree; one outcome is reported for each transition.
    pub fn apply(
        &self,
        steps: impl Iterator<Item = Step>,
        report: &mut (impl FnMut(Outcome) + Send),
    ) {
        Applier::new(&self.root, &self.staging, &self.cache, threads()).apply(steps, report);
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

    /// Makes what was written survive a power cut (invariant I2).
    ///
    /// # Errors
    /// If the file system could not.
    pub fn sync(&self) -> Result<(), EndpointError> {
        Ok(self.root.syncfs()?)
    }
}

/// Threads for scanning and writing: one for each CPU.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}
