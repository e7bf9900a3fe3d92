//! Telling the kernel what is different.
//!
//! One thread of its own does it, with no lock held: a notice can block in the kernel, while somebody
//! reads the file or looks into the directory. Pages of a file that is being read are left until that
//! has ended, for a second at most; what is said of its attributes is said at once.
//!
//! What is told must be in the tree before: the kernel asks again at once.

mod alone;
mod later;
mod local;
mod replay;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

pub(crate) use local::{LOCAL_HANDLE, Local, Task};
pub(crate) use replay::{Act, Replay, Replayer};

use self::later::{Later, Same};
use crate::content::ContentVersion;
use crate::nodes::{Event, Name, NodeId, Notice};

/// Pages of a file that somebody reads all the time are told of after so long all the same.
const BUSY_TIME: Duration = Duration::from_secs(1);

/// Threads that wait for readers at once.
const BLOCKED_COUNT_MAX: usize = 16;

/// Past so many things that wait, events are left out: far fewer than these can happen in time.
const WAITING_COUNT_MAX: usize = 10_000;

/// Bytes that wait to be put into the kernel's cache. Past it what comes is left out: it is only
/// there to save time.
const STORE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How the kernel is told.
pub(crate) trait Kernel: Clone + Send + 'static {
    /// The name means something else.
    fn entry(&self, parent: NodeId, name: &Name) -> io::Result<()>;
    /// The attributes are different.
    fn attributes(&self, node: NodeId) -> io::Result<()>;
    /// Attributes and content are different.
    fn content(&self, node: NodeId) -> io::Result<()>;
    /// This is the content.
    fn store(&self, node: NodeId, data: &[u8]) -> io::Result<()>;
}

/// What the kernel's thread needs to know of files.
pub(crate) trait Files: Send + 'static {
    /// Somebody is reading it.
    fn is_reading(&self, node: NodeId) -> bool;
    /// It has this content still, and nobody writes it.
    fn is_still(&self, node: NodeId, version: ContentVersion) -> bool;
    /// Replies are on their way into the kernel.
    fn is_replying(&self) -> bool;
    /// Who watches this should hear of it.
    fn event(&self, event: Event);
}

/// What waits to be told.
#[derive(Default)]
pub(crate) struct Outbox {
    // Fed from any thread, emptied by one; held for a push or a swap.
    state: Mutex<State>,
    filled: Condvar,
    /// Held while content is put into the kernel's cache.
    storing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// The notices among them.
    queued: HashSet<Same>,
    /// Nodes of which a thread of its own waits until they are not read.
    blocked: HashSet<NodeId>,
    /// Nodes whose pages in the kernel are old, and how often that is still to be told.
    contents: HashMap<NodeId, usize>,
    store_bytes: usize,
    /// Counts what was put in, and what was carried out.
    sent: u64,
    done: u64,
    has_ended: bool,
}

impl State {
    fn tell(&mut self, notice: Notice) {
        let is_left_out = match (&notice, Same::of(&notice)) {
            (_, Some(same)) => !self.queued.insert(same),
            // A node is kept until such an event is over.
            (Notice::Event(Event::Gone(..)), None) => false,
            (_, None) => self.jobs.len() >= WAITING_COUNT_MAX,
        };
        if is_left_out {
            return;
        }
        if let Notice::Content(node) = notice {
            *self.contents.entry(node).or_default() += 1;
        }
        self.sent += 1;
        self.jobs.push_back(Job::Tell(notice));
    }

    fn told(&mut self, node: NodeId, times: usize) {
        if let Some(count) = self.contents.get_mut(&node) {
            *count = count.saturating_sub(times);
            if *count == 0 {
                self.contents.remove(&node);
            }
        }
    }
}

enum Job {
    Tell(Notice),
    Store(NodeId, ContentVersion, Bytes),
}

impl Outbox {
    /// Puts in what is to be told.
    pub(crate) fn send(&self, notices: Vec<Notice>) {
        let mut state = self.state();
        notices.into_iter().for_each(|notice| state.tell(notice));
        drop(state);
        self.filled.notify_all();
    }

    /// Puts in a content for the kernel's cache.
    pub(crate) fn store(&self, node: NodeId, version: ContentVersion, data: Bytes) {
        let mut state = self.state();
        if state.store_bytes + data.len() > STORE_BYTES_MAX {
            return;
        }
        state.store_bytes += data.len();
        state.sent += 1;
        state.jobs.push_back(Job::Store(node, version, data));
        drop(state);
        self.filled.notify_all();
    }

    /// Whether the kernel has pages of a node that it is still to be told are old.
    pub(crate) fn is_waiting(&self, node: NodeId) -> bool {
        self.state().contents.contains_key(&node)
    }

    /// Waits until nothing is being put into the kernel's cache, if `writes`. Whoever is known to
    /// write from before on need not fear that what is written is undone.
    pub(crate) async fn wait_for_store(&self, writes: bool) {
        if writes {
            drop(self.storing.lock().await);
        }
    }

    /// Nothing more is told.
    pub(crate) fn end(&self) {
        self.state().has_ended = true;
        self.filled.notify_all();
    }

    /// Waits until all that was put in so far has been carried out.
    pub(crate) fn drained(&self, deadline: Instant) -> bool {
        let mut state = self.state();
        let goal = state.sent;
        loop {
            if state.done >= goal || state.has_ended {
                return state.done >= goal;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = match self.filled.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Tells the kernel, until the end.
    pub(crate) fn run(self: &Arc<Self>, kernel: &impl Kernel, files: &impl Files) {
        let mut later = Later::default();
        while let Some(jobs) = self.take(later.next()) {
            let count = jobs.len() as u64;
            for job in jobs {
                match job {
                    Job::Tell(notice) => self.tell(notice, kernel, files, &mut later),
                    Job::Store(node, version, data) => {
                        self.put(node, version, &data, kernel, files);
                    }
                }
            }
            self.retry(kernel, files, &mut later);
            self.state().done += count;
            self.filled.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to tell, at most until then. Nothing: it is the end.
    fn take(&self, until: Option<Instant>) -> Option<VecDeque<Job>> {
        let mut state = self.state();
        loop {
            if state.has_ended {
                return None;
            }
            let left = until.map(|at| at.saturating_duration_since(Instant::now()));
            if !state.jobs.is_empty() || left == Some(Duration::ZERO) {
                state.queued.clear();
                return Some(std::mem::take(&mut state.jobs));
            }
            state = match left {
                Some(left) => match self.filled.wait_timeout(state, left) {
                    Ok((state, _)) => state,
                    Err(poisoned) => poisoned.into_inner().0,
                },
                None => self.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn tell(&self, notice: Notice, kernel: &impl Kernel, files: &impl Files, later: &mut Later) {
        let is_replying = files.is_replying();
        let (told, again) = match notice {
            Notice::Entry(parent, name) => (kernel.entry(parent, &name), Same::Entry(parent, name)),
            Notice::Attributes(node) => (kernel.attributes(node), Same::Attributes(node)),
            // Perhaps the kernel does not know the node before that reply.
            Notice::Content(node) if files.is_reading(node) => {
                later.put_off(node, Instant::now());
                (kernel.attributes(node), Same::Attributes(node))
            }
            Notice::Content(node) => {
                let told = kernel.content(node);
                self.state().told(node, 1);
                (told, Same::Attributes(node))
            }
            Notice::Event(event) => return files.event(event),
        };
        log(told);
        if is_replying {
            later.again(again, Instant::now());
        }
    }

    fn put(
        &self,
        node: NodeId,
        version: ContentVersion,
        data: &[u8],
        kernel: &impl Kernel,
        files: &impl Files,
    ) {
        let _storing = self.storing.blocking_lock();
        self.state().store_bytes -= data.len();
        if !files.is_reading(node) && files.is_still(node, version) && !self.is_waiting(node) {
            log(kernel.store(node, data));
        }
    }

    /// Tells what was put off.
    fn retry(self: &Arc<Self>, kernel: &impl Kernel, files: &impl Files, later: &mut Later) {
        let now = Instant::now();
        later.busy.retain(|node, busy| {
            if !files.is_reading(*node) {
                log(kernel.content(*node));
                self.state().told(*node, busy.count);
                return false;
            }
            now < busy.since + BUSY_TIME || !self.wait_for_readers(*node, busy.count, kernel)
        });
        while let Some(notice) = later.due(now) {
            log(match notice {
                Same::Entry(parent, name) => kernel.entry(parent, &name),
                Same::Attributes(node) => kernel.attributes(node),
                Same::Content(node) => kernel.content(node),
            });
        }
    }

    /// Tells of pages that somebody reads. That waits for those reads that are under way, and is done
    /// by a thread of its own. Says whether there is one now.
    fn wait_for_readers(
        self: &Arc<Self>,
        node: NodeId,
        count: usize,
        kernel: &impl Kernel,
    ) -> bool {
        let mut state = self.state();
        if state.blocked.len() >= BLOCKED_COUNT_MAX || !state.blocked.insert(node) {
            return false;
        }
        drop(state);
        let (outbox, kernel) = (Arc::clone(self), kernel.clone());
        let wait = move || {
            log(kernel.content(node));
            let mut state = outbox.state();
            state.told(node, count);
            state.blocked.remove(&node);
        };
        let thread = std::thread::Builder::new().name("mount-pages".to_owned()).spawn(wait);
        if thread.is_err() {
            self.state().blocked.remove(&node);
        }
        thread.is_ok()
    }
}

/// The kernel does not know the node or name, as likely as not; anything else is worth a line.
fn log(told: io::Result<()>) {
    if let Err(error) = told
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(%error, "the kernel cannot be told of a change");
    }
}

#[cfg(test)]
mod tests;
