//! The requests of a kernel, without anything of the kernel's library in it.
//!
//! What is known answers at once; a request waits only where the source has to be asked. Each is
//! told as an `async fn`: whoever carries it out polls it once in place, and goes on with it
//! elsewhere if that was not enough. No lock is held across an `await`, nor while the source or the
//! content cache is called: a source may tell of changes from within a request.

mod alter;
mod create;
mod directories;
mod events;
mod files;
mod listing;
mod lookup;
mod refresh;
mod show;
mod space;
mod symlinks;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle as Runtime;

pub(crate) use create::Caller;
pub(crate) use directories::Row;
pub(crate) use files::Opened;
pub(crate) use lookup::Found;
pub(crate) use show::Shown;
pub(crate) use tree::Tree;

use crate::content::{Contents, FileHandle, Limits};
use crate::nodes::{Hold, NodeId, Nodes, Notice};
use crate::notify::Outbox;
use crate::source::{Answer, Attributes, Seen, Source, SourceError};
use directories::DirectoryHandle;
use listing::Listings;
use space::LastSpace;

/// How long the kernel may remember what is followed: it is told of changes.
pub(crate) const FOLLOWED_TTL: Duration = Duration::from_secs(3600);

/// Names in known directories. At about 600 bytes each, with their nodes; past it the directories
/// that were not used for longest are forgotten.
pub(crate) const LISTED_COUNT_MAX: usize = 1_000_000;

/// Whose the files are that a user sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// All belong to the user who mounts.
    Mine,
    /// As in the source.
    AsTheyAre,
}

/// What a filesystem may do, and how it shows things.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// Anything may be changed.
    pub(crate) writable: bool,
    /// Whose the files are.
    pub(crate) owners: Owners,
    /// User and group of whoever mounts.
    pub(crate) me: (u32, u32),
    /// Symbolic links are shown as they are, wherever they lead to.
    pub(crate) raw_symlinks: bool,
    /// The absolute path of the root in the source.
    pub(crate) source_root: PathBuf,
    /// Names in known directories; see [`LISTED_COUNT_MAX`].
    pub(crate) listed_count_max: usize,
}

/// A filesystem over a source.
pub(crate) struct Filesystem<S: Source> {
    source: Arc<S>,
    tree: Arc<Tree>,
    contents: Contents<S, Tree>,
    policy: Policy,
    runtime: Runtime,
    /// Listings on their way, and how much they bring.
    listings: Mutex<Listings>,
    /// Open directories. Several threads of the kernel's library use them.
    directories: Mutex<HashMap<u64, Arc<DirectoryHandle>>>,
    /// Open files of each node that has any.
    files: Mutex<HashMap<NodeId, Vec<FileHandle>>>,
    next_directory: AtomicU64,
    space: Mutex<LastSpace>,
    /// Counts the sources that it was over: replies of an earlier one count for nothing.
    epoch: AtomicU64,
}

impl<S: Source> Filesystem<S> {
    /// A filesystem that follows the source from now on.
    pub(crate) async fn new(
        source: Arc<S>,
        policy: Policy,
        outbox: Arc<Outbox>,
        runtime: Runtime,
    ) -> Answer<Arc<Self>> {
        let root = source.root().await?;
        let tree = Arc::new(Tree::new(Nodes::new(root, Instant::now()), outbox));
        let contents = Contents::new(
            Arc::clone(&source),
            Arc::clone(&tree),
            Limits::default(),
            runtime.clone(),
        );
        let filesystem = Arc::new(Self {
            source,
            tree,
            contents,
            policy,
            runtime,
            listings: Mutex::default(),
            directories: Mutex::default(),
            files: Mutex::default(),
            next_directory: AtomicU64::new(1),
            space: Mutex::default(),
            epoch: AtomicU64::new(0),
        });
        filesystem.follow();
        filesystem.refresh_space().await;
        Ok(filesystem)
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.tree.nodes()
    }

    pub(crate) fn contents(&self) -> &Contents<S, Tree> {
        &self.contents
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Carries out what follows from something that was seen.
    fn publish(&self, notices: Vec<Notice>) {
        if notices.is_empty() {
            return;
        }
        for notice in &notices {
            if let Notice::Content(node) = notice {
                self.contents.changed(*node);
            }
        }
        self.tree.outbox().send(notices);
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether a reply counts to a request that was sent in this epoch.
    fn still(&self, epoch: u64) -> Answer<()> {
        if self.epoch() == epoch { Ok(()) } else { Err(SourceError::Stale) }
    }

    /// Attributes came with a reply to a request that only reads.
    fn saw(&self, node: NodeId, seen: Seen<Attributes>) {
        let notices = self.nodes().seen(node, seen, Instant::now());
        self.publish(notices);
    }

    /// Says that a request of ours changes this, until the result is dropped.
    fn hold(&self, holds: Vec<Hold>) -> Holding<'_, S> {
        let mut nodes = self.nodes();
        for hold in &holds {
            nodes.hold(hold.clone());
        }
        drop(nodes);
        Holding { filesystem: self, holds }
    }

    /// Whether somebody has a file open that may write it.
    pub(crate) fn has_writers(&self, id: NodeId) -> bool {
        self.nodes().node(id).is_none_or(|node| node.writers > 0)
    }

    /// What is kept, for those who ask: open files, bytes that are not written yet, nodes.
    pub(crate) fn usage(&self) -> (usize, u64, usize) {
        let nodes = self.nodes().count();
        (self.contents.open_files(), self.contents.dirty_bytes(), nodes)
    }
}

/// See [`Filesystem::hold`].
struct Holding<'a, S: Source> {
    filesystem: &'a Filesystem<S>,
    holds: Vec<Hold>,
}

impl<S: Source> Drop for Holding<'_, S> {
    fn drop(&mut self) {
        let mut notices = Vec::new();
        let now = Instant::now();
        {
            let mut nodes = self.filesystem.nodes();
            for hold in &self.holds {
                notices.extend(nodes.release(hold, now));
            }
        }
        self.filesystem.publish(notices);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
