//! From the command's streams into the spool, in the order in which they are read; and when that
//! is over.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::Instant;

use super::shared::{Flow, Shared};
use crate::operation::memory;
use crate::operation::spool::MEMORY_BYTES_MAX;
use crate::proto::{Exit, Stream};

/// Most bytes of output in one piece.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// With less room than this, the next piece is read to a new place.
const ROOM_BYTES_MIN: usize = 64 << 10;
/// How long the streams may be quiet after the command's end before we stop listening: something
/// it left in the background may hold them open for ever …
const DRAIN_QUIET: Duration = Duration::from_millis(250);
/// … or write to them for ever: past this, only what was in the pipes at the end is still owed.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// While a client keeps up, so much that it has not taken yet is held in memory, in bytes: what is on
/// its way fits, and the disk is not used for nothing.
const FLIGHT_BYTES_MAX: usize = 8 << 20;
/// A client that has got nothing on its way for so long does not keep up. While there is no room,
/// the disk is tried again this often.
const STANDSTILL: Duration = Duration::from_millis(250);

/// One of the command's streams.
pub(super) struct Source {
    stream: Stream,
    pipe: Option<pipe::Receiver>,
    /// Bytes that were read.
    read: u64,
    buffer: BytesMut,
}

impl Source {
    pub(super) fn pipe(stream: Stream, from: OwnedFd) -> io::Result<Self> {
        Ok(Self::new(stream, Some(pipe::Receiver::from_owned_fd(from)?)))
    }

    /// A terminal is no pipe, but what is done with it here is the same; its end is an error (EIO).
    pub(super) fn terminal(from: OwnedFd) -> io::Result<Self> {
        Ok(Self::new(Stream::Stdout, Some(pipe::Receiver::from_owned_fd_unchecked(from)?)))
    }

    /// A stream that is not there.
    pub(super) fn none(stream: Stream) -> Self {
        Self::new(stream, None)
    }

    fn new(stream: Stream, pipe: Option<pipe::Receiver>) -> Self {
        Self { stream, pipe, read: 0, buffer: BytesMut::new() }
    }

    /// How far the stream has been written: what was read, and what is in the pipe.
    fn written(&self) -> u64 {
        let waiting = self.pipe.as_ref().and_then(|pipe| rustix::io::ioctl_fionread(pipe).ok());
        self.read + waiting.unwrap_or(0)
    }

    fn has_reached(&self, offset: u64) -> bool {
        self.is_done() || self.read >= offset
    }

    fn is_done(&self) -> bool {
        self.pipe.is_none()
    }

    /// Reads the next piece into `buffer`; empty at the stream's end. Safe to cancel: it holds no
    /// bytes across a wait.
    async fn next(&mut self) {
        if self.buffer.capacity() < ROOM_BYTES_MIN {
            self.buffer.reserve(OUTPUT_BYTES_MAX);
        }
        let read = match self.pipe.as_mut() {
            Some(pipe) => pipe.read_buf(&mut self.buffer).await,
            None => Ok(0),
        };
        match read {
            Ok(count @ 1..) => self.read += count as u64,
            // A pipe that fails has ended as far as we are concerned.
            Ok(0) | Err(_) => self.pipe = None,
        }
    }
}

/// Carries both streams into the spool, and when the command has ended and they are through, sets
/// the exit. Then it goes on reading: what the command left in the background may go on writing,
/// and must not die of it.
pub(super) async fn carry(shared: Rc<Shared>, mut streams: [Source; 2]) {
    let mut changes = shared.changes();
    // When the command was seen to have ended, and where each stream was then.
    let mut ended: Option<(Instant, [u64; 2])> = None;
    loop {
        changes.borrow_and_update();
        let [out, err] = &mut streams;
        close(&shared, out);
        close(&shared, err);
        // While a cancel goes on, what it stops may still have something to say.
        let over = shared.ended.get().is_some() && shared.order.get().is_none();
        if over && ended.is_none() {
            ended = Some((Instant::now(), [out.written(), err.written()]));
        }
        let done = out.is_done() && err.is_done();
        if done && over {
            break;
        }
        // Only once all that the command wrote has been read may the streams be given up.
        let give_up = ended
            .filter(|(_, [o, e])| over && out.has_reached(*o) && err.has_reached(*e))
            .map(|(at, _)| (at + DRAIN_MAX).min(Instant::now() + DRAIN_QUIET));
        let room = done || has_room(&shared);
        // When it has ended, what is left of its output is no more than its pipes hold: its end must
        // not wait for somebody who takes it.
        let [out_owed, err_owed] =
            ended.map_or([false; 2], |(_, [o, e])| [!out.has_reached(o), !err.has_reached(e)]);
        let read = tokio::select! {
            () = out.next(), if (room || out_owed) && !out.is_done() => out,
            () = err.next(), if (room || err_owed) && !err.is_done() => err,
            () = until(give_up), if give_up.is_some() => break,
            _ = changes.changed() => continue,
            () = tokio::time::sleep(STANDSTILL), if !room => continue,
        };
        if !read.buffer.is_empty() {
            shared.append(read.stream, &mut read.buffer);
            // Whoever reads the spool is to keep up: otherwise the disk would be used for nothing.
            tokio::task::yield_now().await;
        }
    }
    shared.exit.set(Some(exit(&shared)));
    shared.tell();
    drop_rest(&shared, streams).await;
}

/// Whether the command may go on writing.
///
/// A client that keeps up holds it up as the reader of a pipe does. The disk is for one that stands
/// still, or is not there, or has not yet got what was stored while it was not.
fn has_room(shared: &Shared) -> bool {
    let mut spool = shared.spool.borrow_mut();
    let keeps_up = |flow: &Flow| {
        flow.moved.elapsed() < STANDSTILL
            && flow.sent >= spool.memory_first()
            && !spool.is_detached()
    };
    let Some(flow) = shared.flow.get().filter(keeps_up) else {
        spool.set_memory_bytes_max(MEMORY_BYTES_MAX);
        return spool.has_room();
    };
    spool.set_memory_bytes_max(FLIGHT_BYTES_MAX);
    spool.has_room() && spool.end().saturating_sub(flow.sent) < MEMORY_BYTES_MAX as u64
}

fn close(shared: &Shared, source: &mut Source) {
    if shared.is_closed(source.stream) && shared.terminal.is_none() {
        source.pipe = None;
    }
}

async fn drop_rest(shared: &Shared, [mut out, mut err]: [Source; 2]) {
    let mut changes = shared.changes();
    while !(out.is_done() && err.is_done()) {
        close(shared, &mut out);
        close(shared, &mut err);
        tokio::select! {
            () = out.next(), if !out.is_done() => out.buffer.clear(),
            () = err.next(), if !err.is_done() => err.buffer.clear(),
            _ = changes.changed() => {}
        }
    }
}

/// Returns at that time; never, if there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn exit(shared: &Shared) -> Exit {
    let ended = shared.ended.get().unwrap_or_default();
    let status = ExitStatus::from_raw(ended.status);
    let signal = status.signal().unwrap_or(0).unsigned_abs();
    let code = status.code().unwrap_or(0).unsigned_abs();
    // A shell reports the kill of its child as 128 + 9.
    let killed = signal == 9 || code == 137;
    let cancelled = shared.cancelled.get();
    let out_of_memory = killed && !cancelled && ended.memory_kill;
    let memory_limit = if out_of_memory { memory::limit().unwrap_or(0) } else { 0 };
    let (swept, spool) = (shared.swept.get(), shared.spool.borrow());
    Exit {
        code,
        signal,
        out_of_memory,
        memory_limit,
        stopped: swept.stopped,
        survivors: swept.survivors,
        timed_out: shared.timed_out.get(),
        cancelled,
        started_ms: shared.started_ms,
        ended_ms: ended.at_ms,
        output_bytes: spool.end(),
        lost_bytes: spool.lost(),
        input_bytes: shared.input.borrow().taken,
        unknown: false,
        state: None,
    }
}
