//! The replies of one stream on their way to the session.
//!
//! Threads put them in and wait while the session has more than enough to read; the link takes
//! them out. It is bounded by bytes, as a reply can be of forty bytes or of a million.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tonic::Status;

use crate::proto::FilesReply;
use crate::proto::files_change::Change;
use crate::proto::files_reply::Reply;

/// Bytes past which whoever has a reply waits: enough for the link while a thread is woken.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// What an entry or a reply costs besides its names, about.
const ENTRY_BYTES: usize = 160;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    replies: VecDeque<(usize, FilesReply)>,
    bytes: usize,
    /// Requests whose replies are not all here, and one more until no request can come.
    owed: usize,
    /// The stream ends with this, once what is there has been taken.
    failed: Option<Status>,
    waker: Option<Waker>,
    /// Nobody takes replies any more.
    closed: bool,
}

impl Outbox {
    /// Empty, for a stream whose requests are still to come.
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { owed: 1, ..State::default() }), room: Condvar::new() }
    }

    /// Puts a reply in, once there is room. False if nobody takes it any more.
    pub(super) fn push(&self, reply: FilesReply) -> bool {
        let mut state = self.state();
        while state.bytes > WAITING_BYTES_MAX && !state.closed {
            // As below: nothing panics under the lock.
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        put(state, reply)
    }

    /// Puts a reply in, room or not: for whoever must not wait and has asked whether there is.
    pub(super) fn put(&self, reply: FilesReply) {
        put(self.state(), reply);
    }

    /// Whether a reply would not have to wait.
    pub(super) fn has_room(&self) -> bool {
        let state = self.state();
        state.bytes <= WAITING_BYTES_MAX || state.closed
    }

    /// A request came, whose replies will.
    pub(super) fn owe(&self) {
        self.state().owed += 1;
    }

    /// All replies to a request are here; or no more requests come.
    pub(super) fn settle(&self) {
        let mut state = self.state();
        state.owed = state.owed.saturating_sub(1);
        if state.owed == 0 {
            wake(state);
        }
    }

    /// The stream ends once what is there has been taken.
    pub(super) fn fail(&self, status: Status) {
        let mut state = self.state();
        state.failed = Some(status);
        wake(state);
    }

    /// The next reply; nothing after the last one.
    pub(super) fn poll(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<FilesReply, Status>>> {
        let mut state = self.state();
        if let Some((bytes, reply)) = state.replies.pop_front() {
            let was_full = state.bytes > WAITING_BYTES_MAX;
            state.bytes -= bytes;
            if was_full && state.bytes <= WAITING_BYTES_MAX {
                self.room.notify_all();
            }
            return Poll::Ready(Some(Ok(reply)));
        }
        if let Some(status) = state.failed.take() {
            return Poll::Ready(Some(Err(status)));
        }
        if state.owed == 0 || state.closed {
            return Poll::Ready(None);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => state.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Nobody takes replies any more.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let replies = std::mem::take(&mut state.replies);
        state.bytes = 0;
        self.room.notify_all();
        wake(state);
        drop(replies);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn put(mut state: MutexGuard<'_, State>, reply: FilesReply) -> bool {
    if state.closed {
        return false;
    }
    let bytes = size(&reply);
    state.bytes += bytes;
    state.replies.push_back((bytes, reply));
    wake(state);
    true
}

/// Wakes the link, after the lock is free again.
fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// About what a reply takes.
fn size(reply: &FilesReply) -> usize {
    let entry = |name: &[u8], target: &[u8]| ENTRY_BYTES + name.len() + target.len();
    ENTRY_BYTES
        + match &reply.reply {
            Some(Reply::Data(data)) => data.len(),
            Some(Reply::Contents(contents)) => {
                contents.contents.iter().map(|content| ENTRY_BYTES + content.data.len()).sum()
            }
            Some(Reply::Listing(listing)) => {
                let entries = listing.entries.iter();
                listing.path.len() + entries.map(|e| entry(&e.name, &e.target)).sum::<usize>()
            }
            Some(Reply::Changes(changes)) => changes.changes.iter().map(change_size).sum(),
            _ => 0,
        }
}

fn change_size(change: &crate::proto::FilesChange) -> usize {
    ENTRY_BYTES
        + match &change.change {
            Some(Change::Below(path)) => path.len(),
            Some(Change::Entry(entry)) => ENTRY_BYTES + entry.directory.len(),
            None => 0,
        }
}
