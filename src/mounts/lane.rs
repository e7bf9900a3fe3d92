//! One stream of requests and the replies to them: who waits for which.
//!
//! A lane ends for good with its stream. Whoever waited is told whether the request can have
//! reached the agent at all.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use skync_agent::proto::files_reply::Reply;
use skync_agent::proto::files_request::Request;
use skync_agent::proto::{FilesChanges, FilesClose, FilesReply, FilesRequest};
use skync_mount::source::Handle;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Streaming;

use super::wire;

/// Requests of one lane that are on their way at a time; further ones wait for their turn. More
/// than a kernel sends at once, and so few that an agent which does not answer costs nothing.
const ASKED_MAX: usize = 1024;
/// Bytes, about, of replies to one request that wait for their reader; a request of which more
/// comes fails. Reading them is quick, so this is met only by an agent that sends without end.
const HELD_BYTES_MAX: usize = 32 << 20;
/// The id of `begin`.
const BEGIN: u64 = 1;
/// Beside the id of the last request that left: none leaves any more.
const ENDED: u64 = 1 << 63;

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The lane ended before the request had left.
    Unsent,
    /// The lane ended, and the request may have been carried out.
    Unknown,
}

/// The reply to a request.
#[derive(Debug)]
pub(super) struct Got {
    /// The last one.
    pub(super) reply: FilesReply,
    /// Data that came before it, in order.
    pub(super) before: Vec<Bytes>,
}

/// One stream of a mount.
pub(super) struct Lane {
    table: Mutex<Table>,
    /// The id of the last request that left, and [`ENDED`].
    left: Arc<AtomicU64>,
    room: Semaphore,
    /// Added to all stamps.
    base: u64,
    open: watch::Sender<bool>,
}

/// Who waits.
#[derive(Default)]
struct Table {
    /// Nothing once the lane has ended.
    queue: Option<mpsc::UnboundedSender<FilesRequest>>,
    id: u64,
    waiters: HashMap<u64, Waiter>,
    /// Files that were closed, with the last request before: once a later one is answered, the
    /// agent knows of it.
    closes: VecDeque<(u64, Handle)>,
    stamp_max: u64,
}

impl Table {
    fn raise(&mut self, stamp: u64) {
        self.stamp_max = self.stamp_max.max(stamp);
    }
}

enum Waiter {
    One { send: oneshot::Sender<Got>, before: Vec<Bytes>, left: usize },
    Many { send: mpsc::UnboundedSender<FilesReply>, load: Arc<Load> },
}

/// What waits to be read of one request.
#[derive(Default)]
struct Load {
    bytes: AtomicUsize,
}

/// The requests of a stream that is about to begin.
pub(super) struct Requests {
    queue: mpsc::UnboundedSender<FilesRequest>,
    left: Arc<AtomicU64>,
}

impl Requests {
    /// A queue with `begin` in it, and its end.
    pub(super) fn beginning_with(
        begin: Request,
    ) -> (Self, impl Stream<Item = FilesRequest> + Send + 'static) {
        let (queue, requests) = mpsc::unbounded_channel();
        // It cannot fail: the other end is in the next line.
        let _ = queue.send(FilesRequest { id: BEGIN, request: Some(begin) });
        let left = Arc::new(AtomicU64::new(0));
        let mark = Arc::clone(&left);
        let leaves = move |request: &FilesRequest| {
            let next = |left: u64| (left & ENDED == 0).then_some(left.max(request.id));
            mark.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).is_ok()
        };
        let requests = UnboundedReceiverStream::new(requests).take_while(leaves);
        (Self { queue, left }, requests)
    }
}

impl Lane {
    /// The lane of a stream that has begun with this stamp; `base` is added to all of them.
    pub(super) fn new(requests: Requests, base: u64, stamp: u64) -> Self {
        let stamp_max = base.saturating_add(stamp);
        let queue = Some(requests.queue);
        let table = Table { queue, id: BEGIN, stamp_max, ..Table::default() };
        Self {
            table: Mutex::new(table),
            left: requests.left,
            room: Semaphore::new(ASKED_MAX),
            base,
            open: watch::Sender::new(true),
        }
    }

    /// Sends a request and waits for the reply, with up to `data_max` bytes of data in several.
    pub(super) async fn ask(&self, request: Request, data_max: usize) -> Result<Got, Broken> {
        let _room = self.room().await?;
        let (send, receive) = oneshot::channel();
        let waiter = Waiter::One { send, before: Vec::new(), left: data_max };
        let mut asked = Asked { lane: self, id: self.send(request, waiter)? };
        let got = receive.await.map_err(|_| self.doubt(asked.id))?;
        // There is nothing left to take back.
        asked.id = 0;
        Ok(got)
    }

    /// Sends a request to which many replies come.
    pub(super) async fn ask_many(self: &Arc<Self>, request: Request) -> Result<Replies, Broken> {
        // Its turn only: a list is read by somebody who may take their time.
        drop(self.room().await?);
        let (send, receive) = mpsc::unbounded_channel();
        let load = Arc::new(Load::default());
        let waiter = Waiter::Many { send, load: Arc::clone(&load) };
        let id = self.send(request, waiter)?;
        Ok(Replies { lane: Arc::clone(self), id, receive, load })
    }

    /// Sends a request to which nothing is replied.
    pub(super) fn tell(&self, request: Request) {
        let mut table = self.lock();
        let before = table.id;
        if let Request::Close(FilesClose { handle }) = &request {
            table.closes.push_back((before, Handle(*handle)));
        }
        if let Some(queue) = &table.queue {
            let _ = queue.send(FilesRequest { id: 0, request: Some(request) });
        }
    }

    /// Nothing is sent any more, and the agent is told so.
    pub(super) fn finish(&self) {
        self.lock().queue = None;
    }

    /// Reads the stream to its end.
    pub(super) async fn run(
        self: Arc<Self>,
        mut replies: Streaming<FilesReply>,
        changes: impl Fn(FilesChanges) + Send,
    ) {
        let _ends = Ends(&self);
        loop {
            match replies.message().await {
                Ok(Some(mut reply)) => {
                    let stamp = wire::age(&mut reply, self.base);
                    self.lock().raise(stamp);
                    match reply.reply {
                        Some(Reply::Changes(told)) if reply.id == 0 => changes(told),
                        _ => self.deliver(reply),
                    }
                }
                Ok(None) => return,
                Err(status) => {
                    tracing::debug!(%status, "a stream of the mount has ended");
                    return;
                }
            }
        }
    }

    /// Returns when the lane has ended.
    pub(super) async fn ended(&self) {
        let mut open = self.open.subscribe();
        let _ = open.wait_for(|open| !open).await;
    }

    /// The highest stamp that came.
    pub(super) fn stamp_max(&self) -> u64 {
        self.lock().stamp_max
    }

    /// Files of which the agent may not know that they were closed.
    pub(super) fn closes(&self) -> Vec<Handle> {
        self.lock().closes.iter().map(|(_, handle)| *handle).collect()
    }

    async fn room(&self) -> Result<SemaphorePermit<'_>, Broken> {
        self.room.acquire().await.map_err(|_| Broken::Unsent)
    }

    fn send(&self, request: Request, waiter: Waiter) -> Result<u64, Broken> {
        let mut table = self.lock();
        let id = table.id + 1;
        // Under the lock, so that requests leave in the order of their ids.
        let queue = table.queue.as_ref().ok_or(Broken::Unsent)?;
        queue.send(FilesRequest { id, request: Some(request) }).map_err(|_| Broken::Unsent)?;
        table.id = id;
        table.waiters.insert(id, waiter);
        Ok(id)
    }

    /// Hands a reply to who waits for it. One that nobody waits for (any more) is dropped.
    fn deliver(&self, reply: FilesReply) {
        use std::collections::hash_map::Entry;
        let mut table = self.lock();
        while table.closes.front().is_some_and(|(before, _)| *before < reply.id) {
            table.closes.pop_front();
        }
        let Entry::Occupied(mut entry) = table.waiters.entry(reply.id) else { return };
        match entry.get_mut() {
            Waiter::One { before, left, .. } => match &reply.reply {
                Some(Reply::Data(data))
                    if reply.more && !data.is_empty() && data.len() <= *left =>
                {
                    *left -= data.len();
                    before.push(data.clone());
                    return;
                }
                _ => {}
            },
            Waiter::Many { send, load } => {
                let weight = weight(&reply);
                let held = load.bytes.fetch_add(weight, Ordering::Relaxed) + weight;
                let more = reply.more;
                if held > HELD_BYTES_MAX || send.send(reply).is_err() || !more {
                    entry.remove();
                }
                return;
            }
        }
        if let Waiter::One { send, before, .. } = entry.remove() {
            let _ = send.send(Got { reply, before });
        }
    }

    /// What is known of a request to which no reply will come.
    fn doubt(&self, id: u64) -> Broken {
        let left = self.left.load(Ordering::Acquire) & !ENDED;
        if id > left { Broken::Unsent } else { Broken::Unknown }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing in here can panic half way.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// About how much memory a reply takes.
fn weight(reply: &FilesReply) -> usize {
    /// Of the attributes and the rest of an entry.
    const ENTRY_BYTES: usize = 160;
    let content = match &reply.reply {
        Some(Reply::Listing(listing)) => {
            let of = |entry: &skync_agent::proto::FilesEntry| {
                ENTRY_BYTES + entry.name.len() + entry.target.len()
            };
            listing.path.len() + listing.entries.iter().map(of).sum::<usize>()
        }
        Some(Reply::Contents(contents)) => {
            contents.contents.iter().map(|content| ENTRY_BYTES + content.data.len()).sum()
        }
        _ => 0,
    };
    ENTRY_BYTES + content
}

/// Ends a lane, however its reader ends.
struct Ends<'a>(&'a Lane);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        // First, so that what has not left now never does.
        self.0.left.fetch_or(ENDED, Ordering::AcqRel);
        let mut table = self.0.lock();
        table.queue = None;
        table.waiters.clear();
        drop(table);
        self.0.room.close();
        self.0.open.send_replace(false);
    }
}

/// A request that somebody waits for: whoever gives up is forgotten.
struct Asked<'a> {
    lane: &'a Lane,
    id: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.id != 0 {
            self.lane.lock().waiters.remove(&self.id);
        }
    }
}

/// The replies to a request.
pub(super) struct Replies {
    lane: Arc<Lane>,
    id: u64,
    receive: mpsc::UnboundedReceiver<FilesReply>,
    load: Arc<Load>,
}

impl Replies {
    /// The next one; nothing if the lane has ended.
    ///
    /// # Errors
    /// If more has come than can be meant.
    pub(super) async fn next(&mut self) -> Result<Option<FilesReply>, skync_mount::SourceError> {
        match self.receive.recv().await {
            Some(reply) => {
                self.load.bytes.fetch_sub(weight(&reply), Ordering::Relaxed);
                Ok(Some(reply))
            }
            None if self.load.bytes.load(Ordering::Relaxed) > 0 => {
                Err(wire::bad("more than anybody can want"))
            }
            None => Ok(None),
        }
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.lane.lock().waiters.remove(&self.id);
    }
}
