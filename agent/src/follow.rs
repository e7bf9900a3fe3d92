//! A tree that stays what its disk is.
//!
//! A [`Follower`] scans a root once and from then on follows it: the watcher says which paths may
//! have changed, a thread reads just those again, and whoever uses the tree takes it with the paths
//! that changed since it was last taken ([`Reader::take`]). Nothing walks the tree any more, so
//! what a change costs does not depend on how large the tree is. The session follows the host's
//! root and the agent the sandbox's, with the same code.
//!
//! What makes it safe:
//! - The watcher is on a directory before the directory is listed, so nothing is made unseen.
//! - Changes that steps make ([`Follower::apply`]) are in the tree the moment they are reported. What
//!   was being read while a step changed the same path is thrown away and read again, so no state of
//!   the tree is older than the last step on any path (invariant I3).
//! - States are numbered. Whoever has state N has every change and every outcome up to N, in order.
//! - Where watching is not complete (limits, overflow) the tree is scanned again: at a flush, and at
//!   intervals. A full scan every ten minutes is the net under everything.
//!
//! On Linux an event is queued before the system call that caused it returns. So a flush needs no
//! cookie file: what is in the queue when it is read is all that happened until then. Where events come
//! later (macOS, see [`Watcher::TELLS_AT_ONCE`]) a flush scans the tree instead: it asks every file's
//! `stat`, which is dearer the larger the tree is, and right.

mod echo;
mod thread;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;

use crate::disk::DiskError;
use crate::endpoint::{Endpoint, EndpointError};
use crate::entry::{Digest, Entry};
use crate::path::SyncPath;
use crate::scan::ScanError;
use crate::transition::{Outcome, Status, Step};
use crate::wake::Wake;
use crate::watch::{WatchError, Watcher};

/// Outcomes after which whoever waits for the next state is woken, while more are coming.
const OUTCOMES_PER_WAKE: usize = 256;

/// What [`Reader::take`] gives: a state, and what is new in it.
#[derive(Debug)]
pub struct Taken {
    /// The number of the state.
    pub seq: u64,
    /// The whole tree; nothing of it is copied. Missing if it was not asked for.
    pub tree: Option<Entry>,
    /// The paths that changed since the last taking, each with everything below it; in order.
    pub changed: Vec<SyncPath>,
    /// What became of the steps of numbered calls, in the order it happened. The tree shows them.
    pub outcomes: Vec<(u64, Outcome)>,
    /// The root cannot be read any more; the tree is what it was before.
    pub lost: Option<ScanError>,
    /// Why not everything is watched, for a person. What is not is found more slowly.
    pub unwatched: Option<String>,
}

/// Follows one root. Ends with its value.
#[derive(Debug)]
pub struct Follower {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    endpoint: Arc<Endpoint>,
    watcher: Option<Watcher>,
    /// Wakes the thread.
    wake: Wake,
    state: Mutex<State>,
    /// The number of the newest state, for those who wait for it.
    seq: watch::Sender<u64>,
    /// The number of the last flush that is done.
    flushed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    tree: Entry,
    seq: u64,
    /// The number of the reader.
    reader: u64,
    /// What the reader calls what it is told.
    reader_name: u64,
    changed: BTreeSet<SyncPath>,
    outcomes: Vec<(u64, Outcome)>,
    /// Paths that steps are changing now, and how many.
    active: BTreeMap<SyncPath, u32>,
    /// Calls of `apply` that run.
    applying: u32,
    /// Paths that steps have done with since the thread began to read, if it does. Those that are being
    /// changed still are in `active`.
    touched: Option<BTreeSet<SyncPath>>,
    /// Paths that steps changed and whose events are still to come.
    echoes: HashSet<SyncPath>,
    requests: Requests,
    lost: Option<ScanError>,
    unwatched: Option<String>,
}

/// What the thread is asked for.
#[derive(Debug, Default)]
struct Requests {
    marks: Vec<Mark>,
    flushes: u64,
    rescan: bool,
    stop: bool,
}

/// A path that is to be read again.
#[derive(Clone, Debug)]
struct Mark {
    path: SyncPath,
    below: bool,
    /// To be told as changed even if it is the same: somebody had another idea of it.
    tell: bool,
}

impl State {
    /// Not all that happens is told by events: not all is watched, or the root is gone and may come
    /// back.
    fn is_incomplete(&self) -> bool {
        self.unwatched.is_some() || self.lost.is_some()
    }

    fn next(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // What a panic leaves half done is a tree that lags; the thread that panicked is seen at
        // its next use.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.wake.wake();
    }

    fn mark(&self, mark: Mark) {
        self.state().requests.marks.push(mark);
        self.wake();
    }
}

impl Follower {
    /// Scans the root and follows it from then on. Blocks for the scan.
    ///
    /// # Errors
    /// If the root cannot be read.
    pub fn start(endpoint: Arc<Endpoint>) -> Result<Self, EndpointError> {
        let (watcher, problem) = match Watcher::new(endpoint.root().path()) {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => (None, Some(error)),
        };
        let wake =
            Wake::new().map_err(|errno| DiskError::new("watch", &SyncPath::root(), errno))?;
        let snapshot =
            endpoint.snapshot(watcher.as_ref(), &std::sync::atomic::AtomicBool::new(false))?;
        let unwatched: Option<WatchError> = problem.or(snapshot.unwatched);
        let state = State {
            tree: snapshot.root.unwrap_or_default(),
            seq: 1,
            unwatched: unwatched.map(|error| error.to_string()),
            ..State::default()
        };
        let shared = Arc::new(Shared {
            endpoint,
            watcher,
            wake,
            state: Mutex::new(state),
            seq: watch::Sender::new(1),
            flushed: watch::Sender::new(0),
        });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("follow".to_owned())
            .spawn(move || thread::run(&of_thread))
            .map_err(|error| {
                let errno = rustix::io::Errno::from_io_error(&error);
                DiskError::new("watch", &SyncPath::root(), errno.unwrap_or(rustix::io::Errno::IO))
            })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The root with its rules and its caches.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.shared.endpoint
    }

    /// The number of the newest state; changes with it.
    pub fn seq(&self) -> watch::Receiver<u64> {
        self.shared.seq.subscribe()
    }

    /// Whoever takes the states from now on: there is one at a time, and the one before gets no more.
    /// `name` is what it calls them, see [`Follower::reader_name`].
    pub fn reader(&self, name: u64) -> Reader {
        let mut state = self.shared.state();
        state.reader += 1;
        state.reader_name = name;
        state.changed.clear();
        state.outcomes.clear();
        Reader { shared: Arc::clone(&self.shared), number: state.reader }
    }

    /// The name that the present reader came with; 0 if there has been none.
    pub fn reader_name(&self) -> u64 {
        self.shared.state().reader_name
    }

    /// True if this follows the directory that is at `path` now, with rules of that version.
    pub fn is_of(&self, path: &Path, rules: Digest) -> bool {
        let endpoint = &self.shared.endpoint;
        endpoint.rules_version() == rules
            && endpoint.root().path() == path
            && endpoint.root().check_in_place().is_ok()
            && self.shared.state().lost.is_none()
    }

    /// Has a path read again, with everything below it, and told as changed even if it is the same:
    /// somebody found it other than the tree said.
    pub fn mark(&self, path: &SyncPath) {
        self.shared.mark(Mark { path: path.clone(), below: true, tell: true });
    }

    /// Makes the tree show everything that was done to the disk before this call. Returns the number
    /// of a state that does.
    ///
    /// With `rescan` the whole tree is read, which also finds what no watcher is told: writing through
    /// a memory mapping, or through a name outside the root.
    pub async fn flush(&self, rescan: bool) -> u64 {
        let mut flushed = self.shared.flushed.subscribe();
        let wanted = {
            let mut state = self.shared.state();
            state.requests.flushes += 1;
            state.requests.rescan |= rescan;
            state.requests.flushes
        };
        self.shared.wake();
        // It ends only with the follower.
        let _ = flushed.wait_for(|done| *done >= wanted).await;
        self.shared.state().seq
    }

    /// Changes the tree on the disk; one outcome is reported for each transition, in the state that
    /// comes with it. Blocks. Outcomes of a call with a number are taken with the state, too.
    pub fn apply(
        &self,
        call: Option<u64>,
        steps: impl Iterator<Item = Step>,
        report: &mut (impl FnMut(Outcome) + Send),
    ) {
        echo::apply(&self.shared, call, steps, report);
    }
}

/// Takes the states of a follower.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    number: u64,
}

impl Reader {
    /// Takes the newest state, and what is new in it since the last taking; of the first, nothing is
    /// new. Nothing if there is another reader now.
    pub fn take(&self) -> Option<Taken> {
        self.take_if(|_| true)
    }

    /// As [`Reader::take`], without the tree if nothing but steps changed it.
    ///
    /// As long as somebody has a clone of the tree, every step copies the directory it changes.
    pub fn take_news(&self) -> Option<Taken> {
        self.take_if(|state| !state.changed.is_empty())
    }

    fn take_if(&self, wants_tree: impl Fn(&State) -> bool) -> Option<Taken> {
        let mut state = self.shared.state();
        if state.reader != self.number {
            return None;
        }
        let tree = wants_tree(&state).then(|| state.tree.clone());
        Some(Taken {
            seq: state.seq,
            tree,
            changed: std::mem::take(&mut state.changed).into_iter().collect(),
            outcomes: std::mem::take(&mut state.outcomes),
            lost: state.lost.clone(),
            unwatched: state.unwatched.clone(),
        })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.state().requests.stop = true;
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // A panic there was logged by the panic hook; this value goes either way.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
