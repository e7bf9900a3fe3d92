//! The command's output on its way out of this process, in a thread of its own.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

/// Pieces that wait for the thread.
const PIECES_WAITING_MAX: usize = 4;
/// What has been written out is told after so many bytes …
const TOLD_BYTES: u64 = 64 << 10;
/// … or after this time.
pub(super) const TOLD_INTERVAL: Duration = Duration::from_millis(250);

/// What is to be written.
pub(super) enum Piece {
    /// Output of the command; `end` is the offset behind it.
    Output { stream: u32, data: Bytes, end: u64 },
    /// A line of ours on standard output, between the others.
    Line(String),
}

/// How far the thread is.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    /// All output below this offset is written, or nobody reads it.
    end: u64,
    /// Streams that nobody reads any more.
    broken: [bool; 2],
    /// Pieces that are over.
    pieces: u64,
}

/// Writes what the command writes.
pub(super) struct Writer {
    /// Taken at the end: then the thread ends.
    pieces: Option<mpsc::Sender<Piece>>,
    /// What the thread has no room for: nothing more is taken from the session until it has.
    waiting: VecDeque<Piece>,
    done: watch::Receiver<Done>,
    thread: Option<std::thread::JoinHandle<()>>,
    pushed: u64,
    told: u64,
    broken_told: [bool; 2],
}

impl Writer {
    pub(super) fn start() -> Self {
        let (pieces, receive) = mpsc::channel(PIECES_WAITING_MAX);
        let (tell, done) = watch::channel(Done::default());
        let thread = Some(std::thread::spawn(move || write(receive, &tell)));
        let waiting = VecDeque::new();
        let pieces = Some(pieces);
        Self { pieces, waiting, done, thread, pushed: 0, told: 0, broken_told: [false; 2] }
    }

    pub(super) fn push(&mut self, piece: Piece) {
        self.pushed += 1;
        self.waiting.push_back(piece);
        self.hand_over();
    }

    pub(super) fn is_full(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Everything that was pushed has been written.
    pub(super) fn is_through(&self) -> bool {
        self.done.borrow().pieces == self.pushed
    }

    /// Returns when something has been written.
    pub(super) async fn written(&mut self) {
        if self.done.changed().await.is_err() {
            // The thread is gone, by a panic: nothing will be written any more.
            std::future::pending::<()>().await;
        }
        self.hand_over();
    }

    fn hand_over(&mut self) {
        let Some(pieces) = &self.pieces else { return };
        while !self.waiting.is_empty() {
            let Ok(permit) = pieces.try_reserve() else { return };
            permit.send(self.waiting.pop_front().expect("it is not empty"));
        }
    }

    /// What is to be told, if it is worth it by now; with `all` whatever there is.
    pub(super) fn taken(&mut self, all: bool) -> Option<u64> {
        let end = self.done.borrow().end;
        let news = end.saturating_sub(self.told);
        if news >= TOLD_BYTES || (all && news > 0) {
            self.told = end;
            return Some(end);
        }
        None
    }

    /// Something has been written that was not told.
    pub(super) fn has_news(&self) -> bool {
        self.done.borrow().end > self.told
    }

    /// Output begins here.
    pub(super) fn begin(&mut self, offset: u64) {
        self.told = self.told.max(offset);
    }

    /// Streams that nobody reads any more, each once.
    pub(super) fn closed(&mut self) -> Vec<u32> {
        let broken = self.done.borrow().broken;
        let new = (0..2_usize).filter(|at| broken[*at] && !self.broken_told[*at]);
        let new: Vec<u32> = new.map(|at| at as u32).collect();
        self.broken_told = broken;
        new
    }

    /// Streams that nobody reads any more, for a session that is new.
    pub(super) fn closed_again(&mut self) -> Vec<u32> {
        self.broken_told = [false; 2];
        self.closed()
    }

    /// Returns when all has been written.
    pub(super) async fn finish(&mut self) {
        while self.is_full() {
            self.written().await;
        }
        self.pieces = None;
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// Writes until there is no more, each piece as soon as it is there.
fn write(mut pieces: mpsc::Receiver<Piece>, tell: &watch::Sender<Done>) {
    let mut done = Done::default();
    while let Some(piece) = pieces.blocking_recv() {
        let (stream, data, end) = match &piece {
            Piece::Output { stream, data, end } => (usize::from(*stream != 0), &data[..], *end),
            Piece::Line(line) => (0, line.as_bytes(), done.end),
        };
        if !done.broken[stream] {
            let written = if stream == 0 {
                let mut stdout = io::stdout().lock();
                stdout.write_all(data).and_then(|()| stdout.flush())
            } else {
                io::stderr().lock().write_all(data)
            };
            // `| head` has what it wants: the command is told as a pipe would tell it.
            done.broken[stream] = written.is_err();
        }
        done.end = done.end.max(end);
        done.pieces += 1;
        tell.send_replace(done);
    }
}
