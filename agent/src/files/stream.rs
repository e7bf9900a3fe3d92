//! One stream of a mount: requests come in, a few threads do what they ask, replies go out.
//!
//! The threads belong to the stream: what one stream reads ahead never stands in the way of what
//! somebody waits for in another. They are made when they are needed, and end with the stream.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream as Replies;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tonic::{Status, Streaming};

use super::Stay;
use super::at_once::AtOnce;
use super::mount::Mount;
use super::outbox::Outbox;
use super::tell::tell;
use super::watch::Watch;
use crate::proto::files_request::Request;
use crate::proto::{FilesReply, FilesRequest};

/// Threads of a stream: a few, so that one request that takes long does not hold all others up.
const THREAD_COUNT_MAX: usize = 4;
/// Requests that wait or are under way. Past it, no more are taken from the link.
const REQUEST_COUNT_MAX: u32 = 256;
/// Bytes that a request may have to be one request; with more it counts for several.
const REQUEST_BYTES: usize = 64 << 10;

/// What the threads of a stream, and whoever reads its requests, share.
#[derive(Debug)]
pub(super) struct Stream {
    mount: Arc<Mount>,
    pub(super) outbox: Outbox,
    room: Arc<Semaphore>,
    work: Mutex<Work>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Work {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    /// Changes under way.
    changing: usize,
    /// No more jobs come.
    over: bool,
}

/// A request, and what it holds while it is not answered.
#[derive(Debug)]
struct Job {
    request: FilesRequest,
    arrival: u64,
    _room: OwnedSemaphorePermit,
}

impl Stream {
    /// With its first thread, so that it can do something at all.
    pub(super) fn start(mount: Arc<Mount>) -> io::Result<Arc<Self>> {
        let stream = Arc::new(Self {
            mount,
            outbox: Outbox::new(),
            room: Arc::new(Semaphore::new(REQUEST_COUNT_MAX as usize)),
            work: Mutex::default(),
            more: Condvar::new(),
        });
        stream.work().threads = 1;
        stream.add_thread()?;
        Ok(stream)
    }

    fn add_thread(self: &Arc<Self>) -> io::Result<()> {
        let stream = Arc::clone(self);
        let thread = std::thread::Builder::new().name("files".to_owned());
        thread.spawn(move || stream.run()).map(drop)
    }

    /// Tells what is watched, in a thread of its own.
    pub(super) fn tell(self: &Arc<Self>, watch: &Arc<Watch>) -> io::Result<()> {
        let (watch, stream) = (Arc::clone(watch), Arc::clone(self));
        let thread = std::thread::Builder::new().name("watch".to_owned());
        thread.spawn(move || tell(&stream.mount, &watch, &stream.outbox)).map(drop)
    }

    /// Takes requests until no more come. Then what is under way is still answered.
    pub(super) async fn take(
        self: Arc<Self>,
        mut requests: Streaming<FilesRequest>,
        stay: Arc<Stay>,
    ) {
        let mut at_once = AtOnce::default();
        while let Ok(Some(request)) = requests.message().await {
            if matches!(request.request, Some(Request::End(_))) {
                stay.end();
                continue;
            }
            // Others are on this thread, too.
            tokio::task::consume_budget().await;
            if self.work().over {
                // A newer link is here: what this one still holds back is not to be done.
                break;
            }
            if let Some(asked) = &request.request
                && self.outbox.has_room()
                && let Some(reply) = at_once.answer(&self.mount, asked)
            {
                if request.id != 0 {
                    self.outbox.put(FilesReply { id: request.id, ..reply });
                }
                continue;
            }
            let room = Arc::clone(&self.room).acquire_many_owned(weight(&request)).await;
            // It is never closed.
            let Ok(room) = room else { break };
            self.outbox.owe();
            let arrival = self.mount.stamps.next();
            self.add(Job { request, arrival, _room: room });
        }
        self.work().over = true;
        self.more.notify_all();
        self.outbox.settle();
    }

    fn add(self: &Arc<Self>, job: Job) {
        let mut work = self.work();
        if work.over {
            return;
        }
        work.jobs.push_back(job);
        if work.jobs.len() > work.idle && work.threads < THREAD_COUNT_MAX {
            work.threads += 1;
            drop(work);
            if self.add_thread().is_err() {
                // The system has no more: those that there are do it.
                self.work().threads -= 1;
            }
        } else {
            drop(work);
            self.more.notify_one();
        }
    }

    fn run(&self) {
        while let Some(Job { request, arrival, _room }) = self.next_job() {
            let is_change = is_change(&request);
            let FilesRequest { id, request } = request;
            // Nobody listens for what has no id.
            let mut send =
                |reply: FilesReply| id == 0 || self.outbox.push(FilesReply { id, ..reply });
            self.mount.answer(request.as_ref(), arrival, &mut send);
            if self.mount.is_replaced() {
                self.outbox.fail(Status::aborted("another directory is in the root's place"));
            }
            self.outbox.settle();
            if is_change {
                self.change_done();
            }
        }
    }

    fn next_job(&self) -> Option<Job> {
        let mut work = self.work();
        loop {
            if let Some(job) = work.jobs.pop_front() {
                work.changing += usize::from(is_change(&job.request));
                return Some(job);
            }
            if work.over {
                return None;
            }
            work.idle += 1;
            work = self.more.wait(work).unwrap_or_else(PoisonError::into_inner);
            work.idle -= 1;
        }
    }

    fn change_done(&self) {
        let mut work = self.work();
        work.changing -= 1;
        if work.over {
            self.more.notify_all();
        }
    }

    /// Waits until no change is under way, after it was closed; false if that takes too long.
    pub(super) fn wait_idle(&self, patience: Duration) -> bool {
        let is_busy = |work: &mut Work| work.changing > 0;
        let waited = self.more.wait_timeout_while(self.work(), patience, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Nobody takes replies any more, so nothing more is done.
    pub(super) fn close(&self) {
        let mut work = self.work();
        work.over = true;
        let jobs = std::mem::take(&mut work.jobs);
        drop(work);
        drop(jobs);
        self.more.notify_all();
        self.outbox.close();
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        // Nothing panics under the lock.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it matters when it is done. When something is read does not, and where a server is gone
/// that may never end.
fn is_change(request: &FilesRequest) -> bool {
    match &request.request {
        Some(Request::Open(open)) => open.how.is_some_and(|how| how.truncate),
        Some(
            Request::Create(_)
            | Request::Write(_)
            | Request::Allocate(_)
            | Request::Set(_)
            | Request::Make(_)
            | Request::Link(_)
            | Request::Rename(_)
            | Request::Remove(_),
        ) => true,
        _ => false,
    }
}

/// How many of the requests that may wait this one is.
fn weight(request: &FilesRequest) -> u32 {
    let bytes = match &request.request {
        Some(Request::Write(write)) => write.data.len(),
        Some(Request::Fetch(fetch)) => fetch.files.len() * 64,
        Some(Request::Forget(forget)) => forget.paths.len() * 64,
        _ => 0,
    };
    u32::try_from(1 + bytes / REQUEST_BYTES).map_or(REQUEST_COUNT_MAX, |n| n.min(REQUEST_COUNT_MAX))
}

/// The replies of a stream. With it the stream ends.
#[derive(Debug)]
pub(crate) struct FilesReplies {
    stream: Arc<Stream>,
    stay: Arc<Stay>,
    watch: Option<Arc<Watch>>,
    reader: Option<AbortHandle>,
}

impl FilesReplies {
    /// Of a stream that takes no requests yet.
    pub(super) fn start(stay: Stay) -> io::Result<Self> {
        let stream = Stream::start(Arc::clone(stay.mount()))?;
        Ok(Self { stream, stay: Arc::new(stay), watch: None, reader: None })
    }

    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// From now on changes are told here, if they can be told, and nowhere else.
    pub(super) fn watch(&mut self, watch: Option<Arc<Watch>>) {
        self.watch = watch.filter(|watch| self.stream.tell(watch).is_ok());
        self.stay.mount().set_watch(self.watch.clone());
    }

    /// Tells that it has begun, and takes requests.
    pub(super) fn begin(&mut self, begun: FilesReply, requests: Streaming<FilesRequest>) {
        self.stream.outbox.put(begun);
        let take = Arc::clone(&self.stream).take(requests, Arc::clone(&self.stay));
        self.reader = Some(tokio::spawn(take).abort_handle());
    }
}

impl Replies for FilesReplies {
    type Item = Result<FilesReply, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.outbox.poll(context)
    }
}

impl Drop for FilesReplies {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
        if let Some(watch) = &self.watch {
            self.stay.mount().unwatch(watch);
        }
        self.stream.close();
    }
}
