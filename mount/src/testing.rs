//! A [`Source`](crate::Source) over a directory of this machine, for tests: its requests are
//! counted, can be made slow, made to fail, and cut off.
//!
//! It does not watch the directory. Changes that others make there are told by whoever makes them
//! ([`DirectorySource::notice`], [`DirectorySource::outside`]), so that a test decides when they
//! are heard of. What comes through the source itself is told right after it was done, as the
//! agent's watcher would. Its disk calls are made in place: a test's directory answers at once, and
//! tokio's clock may stand still meanwhile.

mod disk;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::source::{Answer, Attributes, Change, Handle, Seen, SourceError, Stamp, Urgency};
use disk::Disk;

/// Requests that [`DirectorySource::reads`] and the like remember. Past it the oldest are
/// forgotten.
const ASKED_COUNT_MAX: usize = 100_000;

/// The kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Request {
    Root,
    List,
    Forget,
    Look,
    Attributes,
    Read,
    Fetch,
    Open,
    Create,
    Close,
    Write,
    Sync,
    Allocate,
    Seek,
    SetAttributes,
    Make,
    Link,
    Rename,
    Remove,
    Space,
}

/// One read that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadAsked {
    /// Where it begins.
    pub offset: u64,
    /// Bytes.
    pub length: u32,
    /// How soon.
    pub urgency: Urgency,
    /// Reads that were being answered meanwhile, this one included.
    pub at_once: u64,
}

/// One write that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteAsked {
    /// Where it begins.
    pub offset: u64,
    /// Bytes.
    pub length: usize,
    /// Writes that were being answered meanwhile, this one included.
    pub at_once: u64,
}

/// How a source behaves; can be changed at any time.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// How long each answer takes: one half before it is done, the other half after.
    pub latency: Duration,
    /// Up to so much more, as it happens to come; the same in each run.
    pub jitter: Duration,
    /// After this a request fails while the source cannot be reached.
    pub deadline: Duration,
    /// Directories are followed.
    pub followed: bool,
    /// What the source itself did is told as a change, too.
    pub echoes: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            deadline: Duration::from_secs(30),
            followed: true,
            echoes: true,
        }
    }
}

/// Remembers one more, and not too many.
fn remember<T>(all: &mut VecDeque<T>, one: T) {
    all.push_back(one);
    if all.len() > ASKED_COUNT_MAX {
        all.pop_front();
    }
}

type Tell = Arc<dyn Fn(Vec<Change>) + Send + Sync>;

/// A [`Source`](crate::Source) over a directory; see the module's text.
#[derive(Clone)]
pub struct DirectorySource {
    shared: Arc<Shared>,
}

struct Shared {
    disk: Mutex<Arc<Disk>>,
    stamp: AtomicU64,
    reading: AtomicU64,
    writing: AtomicU64,
    chance: AtomicU64,
    // Requests come from many tasks at once; each lock is held for one look only.
    state: Mutex<State>,
    outage: tokio::sync::watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    behaviour: Behaviour,
    handles: HashMap<Handle, (Arc<File>, PathBuf)>,
    counts: BTreeMap<Request, u64>,
    reads: VecDeque<ReadAsked>,
    writes: VecDeque<WriteAsked>,
    fetches: VecDeque<usize>,
    faults: Vec<(Request, SourceError)>,
    tell: Option<Tell>,
}

impl DirectorySource {
    /// Shows what is in `root`.
    ///
    /// # Errors
    /// What opening it says.
    pub fn new(root: &Path) -> io::Result<Self> {
        Ok(Self {
            shared: Arc::new(Shared {
                disk: Mutex::new(Arc::new(Disk::open(root)?)),
                stamp: AtomicU64::new(0),
                reading: AtomicU64::new(0),
                writing: AtomicU64::new(0),
                chance: AtomicU64::new(1),
                state: Mutex::default(),
                outage: tokio::sync::watch::Sender::new(false),
            }),
        })
    }

    /// Changes how it behaves.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.state().behaviour);
    }

    /// Cuts it off, or makes it reachable again: requests wait meanwhile, as long as the deadline
    /// allows. The end of an outage is told as [`Change::Missed`].
    pub fn outage(&self, cut: bool) {
        let before = self.shared.outage.send_replace(cut);
        if before && !cut {
            self.tell(Change::Missed);
        }
    }

    /// The next request of this kind fails so, without being done. May be called several times.
    pub fn fail_next(&self, request: Request, error: SourceError) {
        self.state().faults.push((request, error));
    }

    /// How many requests of each kind there were; none is left out that was.
    pub fn counts(&self) -> BTreeMap<Request, u64> {
        self.state().counts.clone()
    }

    /// How many requests of this kind there were.
    pub fn count(&self, request: Request) -> u64 {
        self.state().counts.get(&request).copied().unwrap_or(0)
    }

    /// How many requests there were for which somebody may have waited: all but `Close` and
    /// `Forget`.
    pub fn round_trips(&self) -> u64 {
        let quiet = [Request::Close, Request::Forget];
        let state = self.state();
        state.counts.iter().filter(|(kind, _)| !quiet.contains(kind)).map(|(_, count)| count).sum()
    }

    /// The reads that were asked for, in order.
    pub fn reads(&self) -> Vec<ReadAsked> {
        self.state().reads.iter().copied().collect()
    }

    /// The writes that were asked for, in order.
    pub fn writes(&self) -> Vec<WriteAsked> {
        self.state().writes.iter().copied().collect()
    }

    /// How many files were fetched with each request for them.
    pub fn fetches(&self) -> Vec<usize> {
        self.state().fetches.iter().copied().collect()
    }

    /// Files that are open.
    pub fn open_handles(&self) -> usize {
        self.state().handles.len()
    }

    /// Forgets what was counted.
    pub fn forget_counts(&self) {
        let mut state = self.state();
        state.counts.clear();
        state.reads.clear();
        state.writes.clear();
        state.fetches.clear();
    }

    /// Tells a change to whoever subscribed.
    pub fn tell(&self, change: Change) {
        let tell = self.state().tell.clone();
        if let Some(tell) = tell {
            tell(vec![change]);
        }
    }

    /// Looks at `path` (below the root) and tells what is there now; `content`: it may have
    /// changed, whatever the times say.
    pub fn notice(&self, path: impl AsRef<Path>, content: bool) {
        let stamp = self.stamp();
        let path = path.as_ref();
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return };
        let disk = self.disk();
        let change = Change::Entry {
            directory: directory.to_owned(),
            directory_attributes: disk.attributes(directory).ok(),
            name: name.to_owned(),
            entry: disk.entry(directory, name).ok(),
            content,
            stamp,
        };
        self.tell(change);
    }

    /// What is at `path` (below the root) now; no request.
    ///
    /// # Errors
    /// What looking at it says.
    pub fn see(&self, path: &Path) -> Answer<Seen<Attributes>> {
        let stamp = self.stamp();
        Ok(Seen { stamp, what: self.disk().attributes(path)? })
    }

    /// Does something to the directory as another process would, and tells what it led to at each
    /// of `paths`.
    pub fn outside<T>(&self, paths: &[&str], act: impl FnOnce(&Path) -> T) -> T {
        let done = act(self.disk().path());
        for path in paths {
            self.notice(path, true);
        }
        done
    }

    /// Becomes a source over another directory: every handle is gone, and [`Change::Anew`] is told.
    ///
    /// # Errors
    /// What opening it says.
    pub fn become_another(&self, root: &Path) -> io::Result<()> {
        let disk = Arc::new(Disk::open(root)?);
        let stamp = self.stamp();
        let what = disk.attributes(Path::new("")).map_err(io::Error::other)?;
        *self.shared.disk.lock().unwrap_or_else(PoisonError::into_inner) = disk;
        self.state().handles.clear();
        self.tell(Change::Anew(Seen { stamp, what }));
        Ok(())
    }

    /// Begins the chances of [`Behaviour::jitter`] somewhere else.
    pub fn seed(&self, seed: u64) {
        self.shared.chance.store(seed, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disk(&self) -> Arc<Disk> {
        self.shared.disk.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stamp(&self) -> Stamp {
        Stamp(1 + self.shared.stamp.fetch_add(1, Ordering::Relaxed))
    }

    /// A number that seems to be any, below `end`.
    fn any_below(&self, end: u64) -> u64 {
        // splitmix64
        let mut x = self.shared.chance.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % end.max(1)
    }

    fn handle(&self, handle: Handle) -> Answer<(Arc<File>, PathBuf)> {
        self.state().handles.get(&handle).cloned().ok_or(SourceError::Stale)
    }

    /// Tells what the source itself did at a path.
    fn echo(&self, path: &Path, content: bool) {
        let behaviour = self.state().behaviour;
        if behaviour.echoes && behaviour.followed {
            self.notice(path, content);
        }
    }
}
