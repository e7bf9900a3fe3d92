//! What is in files: kept for a while, read ahead, and written behind.
//!
//! * A read that the cache can answer asks nobody. Of what is missing each byte is asked for once,
//!   however many wait for it ([`reading`], [`asking`]); who reads on is read ahead for ([`stream`]).
//! * Small files that are read one after the other come in batches, before they are asked for
//!   ([`front`], [`batch`]).
//! * What is written is taken at once, put together, and on its way when a writer closes or syncs;
//!   then it is there, or the error is told ([`writes`], [`writing`]).
//!
//! What is cached is of one object at one time: [`Contents::changed`] ends that. A reply that was
//! on its way meanwhile is handed to whoever asked before, and not kept.
//!
//! It knows the tree by [`Tree`] alone, and never calls it, or the source, while it holds its lock:
//! the tree may call in here while it holds its own.

mod asking;
mod batch;
mod cache;
mod file;
mod front;
mod open;
mod reading;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod writes;
mod writing;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::runtime;
use tokio::sync::Notify;

use crate::source::{Attributes, Handle, Place, Seen, Source};
use state::State;

/// The number by which the kernel knows an object.
pub(crate) type NodeId = u64;

/// A file that the kernel has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileHandle(pub(crate) u64);

/// Which content of a node it is: another one after each change, and after each write of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ContentVersion(pub(crate) u64);

/// What content needs of the tree.
pub(crate) trait Tree: Send + Sync + 'static {
    /// Where it is now; nothing if it has no name any more.
    fn place(&self, node: NodeId) -> Option<Place>;

    /// What it was like when it was last seen, without what [`Contents::adjust`] makes of that.
    fn attributes(&self, node: NodeId) -> Option<Seen<Attributes>>;

    /// A reply to a request of ours told it: the kernel need not hear of it.
    fn learn(&self, node: NodeId, seen: Seen<Attributes>);

    /// Regular files after `node`, in the order in which a recursive reader visits them: the rest of
    /// its directory in listing order, then the directories after it, descending; as far as they
    /// are listed, until `bytes` of content or `count` files. Files that are empty or larger than
    /// [`SMALL_BYTES_MAX`] had better be left out.
    fn following(&self, node: NodeId, count: usize, bytes: u64)
    -> Vec<(NodeId, Place, Attributes)>;

    /// Puts a whole content into the kernel's page cache, unless [`Contents::version`] of the node
    /// is another by then.
    fn store(&self, node: NodeId, version: ContentVersion, data: Bytes);

    /// What the kernel has of the content is not what is in the source: a write was lost, or went
    /// somewhere else. Its pages had better be invalidated.
    fn doubt(&self, _node: NodeId) {}

    /// All that was written to it is in the source, or lost. Says whether others changed it
    /// meanwhile.
    fn settled(&self, _node: NodeId) -> bool {
        false
    }
}

/// Bytes of the largest file that is fetched in a batch.
pub(crate) const SMALL_BYTES_MAX: u64 = 64 * 1024;

/// How much of everything there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of content that are kept. Past it goes what was handed out to a reader in order, then
    /// what was not used for longest.
    pub(crate) cache_bytes: u64,
    /// Bytes that one reader is read ahead.
    pub(crate) window_bytes: u64,
    /// Bytes that are read ahead and on their way, of all readers. Past it nothing more is asked
    /// for before it is needed.
    pub(crate) ahead_bytes: u64,
    /// Bytes of small files that are on their way, or there and not used.
    pub(crate) batch_bytes: u64,
    /// The same as a number of files.
    pub(crate) batch_files: usize,
    /// Bytes that were written and are not in the source. Past it a writer waits.
    pub(crate) dirty_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            cache_bytes: 64 * MIB,
            window_bytes: 16 * MIB,
            ahead_bytes: 32 * MIB,
            batch_bytes: 16 * MIB,
            batch_files: 4096,
            dirty_bytes: 64 * MIB,
        }
    }
}

/// The contents of all files of one mount.
pub(crate) struct Contents<S: Source, T: Tree> {
    inner: Arc<Inner<S, T>>,
}

impl<S: Source, T: Tree> Clone for Contents<S, T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct Inner<S: Source, T: Tree> {
    source: Arc<S>,
    tree: Arc<T>,
    limits: Limits,
    /// Where requests wait for their replies: a reader that gives up does not end one for which
    /// another waits.
    runtime: runtime::Handle,
    numbers: AtomicU64,
    /// Counts parts of what was written that came to the source.
    arrived: AtomicU64,
    // Threads of the kernel's side and tasks of replies come here side by side; each holds the lock
    // for a few look-ups and never waits with it.
    state: Mutex<State>,
    /// There is room for more written bytes.
    room: Arc<Notify>,
}

impl<S: Source, T: Tree> Inner<S, T> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

impl<S: Source, T: Tree> Contents<S, T> {
    pub(crate) fn new(
        source: Arc<S>,
        tree: Arc<T>,
        limits: Limits,
        runtime: runtime::Handle,
    ) -> Self {
        let state = Mutex::new(State::new(limits));
        let (numbers, arrived, room) = (AtomicU64::new(1), AtomicU64::new(0), Arc::default());
        let inner = Inner { source, tree, limits, runtime, numbers, arrived, state, room };
        Self { inner: Arc::new(inner) }
    }

    /// A number for a file that the tree opens in the source.
    pub(crate) fn new_handle(&self) -> Handle {
        Handle(self.inner.number())
    }

    /// The content changed by others, or by a truncation: nothing that is cached counts.
    pub(crate) fn changed(&self, node: NodeId) {
        self.inner.state().changed(node);
    }

    /// It is another source: all open files are stale.
    pub(crate) fn anew(&self) {
        self.inner.state().anew();
        self.inner.room.notify_waiters();
    }

    /// Which content the node has; see [`Tree::store`].
    pub(crate) fn version(&self, node: NodeId) -> ContentVersion {
        self.inner.state().version(node)
    }

    /// True while a read of the node is answered: the kernel holds its pages meanwhile.
    pub(crate) fn is_reading(&self, node: NodeId) -> bool {
        self.inner.state().is_reading(node)
    }

    /// Bytes that were written and are not in the source.
    pub(crate) fn dirty_bytes(&self) -> u64 {
        self.inner.state().dirty
    }

    /// Another number as soon as something more of what was written is in the source: whoever waits for
    /// that waits for something that goes on.
    pub(crate) fn arrived(&self) -> u64 {
        self.inner.arrived.load(Ordering::Acquire)
    }

    /// Files that are open.
    pub(crate) fn open_files(&self) -> usize {
        self.inner.state().open_files()
    }

    /// Bytes of content that are kept.
    #[cfg(test)]
    pub(crate) fn cached_bytes(&self) -> u64 {
        self.inner.state().cache.bytes()
    }

    /// Makes size and time of change what they will be once everything that was written is in the
    /// source. True if there is such a thing: what is said of the file must not be kept then.
    pub(crate) fn adjust(&self, node: NodeId, attributes: &mut Attributes) -> bool {
        self.inner.state().adjust(node, attributes)
    }
}
