//! The operations of a session: what all who have to do with one share.
//!
//! An operation is driven by a task of its own (`exec`), which outlives every client; clients
//! are attached to it (`attach`), any number at a time. They meet here and nowhere else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use skync_agent::proto as agent;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::driver::Sandbox;
use crate::operation::{OperationId, Record};
use crate::session::proto::{self, Begin, OperationState};

/// Output that is remembered of an operation whose clients have taken it, in bytes.
const TAIL_BYTES_MAX: usize = 1 << 20;

/// All operations that run, or whose clients have not heard of their end yet.
pub(super) type Operations = Mutex<BTreeMap<OperationId, Arc<Operation>>>;

/// One operation.
pub(super) struct Operation {
    pub(super) id: OperationId,
    /// Without its environment once it has started: there may be secrets in it.
    pub(super) begin: Begin,
    /// Of `begin`: the same id with another command is a mistake.
    pub(super) fingerprint: Option<blake3::Hash>,
    /// How long it goes on when its client has gone without a word; nothing: for ever.
    pub(super) patience: Option<Duration>,
    /// What is written down of it.
    pub(super) record: Mutex<Record>,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) presence: watch::Sender<Presence>,
    /// How the command ended, as soon as a client is told.
    exit: watch::Sender<Option<agent::Exit>>,
    tail: Mutex<Tail>,
}

/// How far an operation is.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Files are synchronised for it.
    Preparing,
    /// The command runs.
    Running(Place),
    /// It has ended, or is lost; results come home.
    Ending(Place, Option<proto::Exit>),
    /// All is done.
    Over(Arc<Over>),
}

/// Where a command runs.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) pid: u32,
    pub(super) sandbox: Sandbox,
}

/// How an operation ended, for its clients.
#[derive(Debug, Default)]
pub(super) struct Over {
    pub(super) state: OperationState,
    pub(super) exit: Option<proto::Exit>,
    pub(super) failure: Option<proto::Failure>,
    /// What a person should know of the synchronisation after it.
    pub(super) notes: Vec<String>,
    pub(super) finished: proto::Finished,
}

/// Who is attached.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Presence {
    /// All clients.
    pub(super) clients: u32,
    /// Those who have not been given all output yet.
    pub(super) readers: u32,
    /// Those whose going counts.
    pub(super) owners: u32,
    /// It goes on without any.
    pub(super) detached: bool,
    /// Since when there has been no owner, if there is none.
    pub(super) absent_since: Option<Instant>,
    /// Its sandbox is given up.
    given_up: bool,
}

impl Operation {
    /// One that a client asks for.
    pub(super) fn new(begin: Begin, record: Record, patience: Option<Duration>) -> Self {
        let fingerprint = Some(fingerprint(&begin));
        let detached = begin.detach;
        Self {
            id: record.id,
            begin,
            fingerprint,
            patience,
            record: Mutex::new(record),
            phase: watch::Sender::new(Phase::Preparing),
            presence: watch::Sender::new(Presence {
                detached,
                absent_since: Some(Instant::now()),
                ..Presence::default()
            }),
            exit: watch::Sender::default(),
            tail: Mutex::default(),
        }
    }

    /// One that an earlier process of the session started, by what it wrote down of it.
    pub(super) fn adopted(record: Record, place: Place, patience: Option<Duration>) -> Self {
        let begin = Begin {
            id: record.id.to_vec(),
            argv: record.argv.iter().map(|word| word.clone().into_bytes()).collect(),
            name: record.name.clone(),
            detach: record.detached,
            ..Begin::default()
        };
        let operation = Self::new(begin, record, patience);
        operation.phase.send_replace(Phase::Running(place));
        Self { fingerprint: None, ..operation }
    }

    /// What is written down of it.
    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        // Every change is an assignment of whole values.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if the same command is asked for.
    pub(super) fn is_same(&self, begin: &Begin) -> bool {
        self.fingerprint.is_none_or(|known| known == fingerprint(begin))
    }

    /// A client was told how the command ended.
    pub(super) fn exited(&self, exit: agent::Exit) {
        self.exit.send_replace(Some(exit));
    }

    /// Returns when a client has been told how the command ended.
    pub(super) async fn exit(&self) -> agent::Exit {
        let mut exit = self.exit.subscribe();
        match exit.wait_for(Option::is_some).await.map(|exit| *exit) {
            Ok(Some(exit)) => exit,
            // The sender is in this value.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// What it is doing, in a word.
    pub(super) fn state(&self) -> OperationState {
        match &*self.phase.borrow() {
            Phase::Preparing => OperationState::OperationPreparing,
            Phase::Running(_) => OperationState::OperationRunning,
            Phase::Ending(..) => OperationState::OperationEnding,
            Phase::Over(over) => over.state,
        }
    }

    /// Where it runs, if it does.
    pub(super) fn place(&self) -> Option<Place> {
        match &*self.phase.borrow() {
            Phase::Running(place) | Phase::Ending(place, _) => Some(place.clone()),
            Phase::Preparing | Phase::Over(_) => None,
        }
    }

    /// Nobody wants to know any more how it ends: its sandbox is given up.
    pub(super) fn give_up(&self) {
        self.presence.send_modify(|presence| presence.given_up = true);
    }

    /// Returns when nobody wants to know any more how it ends.
    pub(super) async fn given_up(&self) {
        let mut presence = self.presence.subscribe();
        if presence.wait_for(|presence| presence.given_up).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns when all clients that read the output have been given it, or have gone.
    pub(super) async fn all_read(&self) {
        let mut presence = self.presence.subscribe();
        // It lives as long as the operation.
        let _ = presence.wait_for(|presence| presence.readers == 0).await;
    }

    /// A client comes; it is gone when the value is dropped.
    pub(super) fn attach(self: &Arc<Self>, owner: bool) -> Attachment {
        self.presence.send_modify(|presence| {
            presence.clients += 1;
            if owner {
                presence.owners += 1;
                presence.absent_since = None;
            }
        });
        Attachment { operation: Arc::clone(self), owner, reads: false }
    }

    /// Remembers output that a client has been given.
    pub(super) fn remember(&self, stream: u32, offset: u64, time_ms: u64, data: &Bytes) {
        self.tail().push(Piece { stream, offset, time_ms, data: data.clone() });
    }

    /// The output that is remembered, oldest first.
    pub(super) fn remembered(&self) -> Vec<Piece> {
        std::mem::take(&mut *self.tail()).pieces.into()
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        // At worst a piece too many is remembered.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that is attached to an operation.
pub(super) struct Attachment {
    operation: Arc<Operation>,
    owner: bool,
    reads: bool,
}

impl Attachment {
    /// Whether it is still to be given output: as long as it is, the operation is not forgotten.
    pub(super) fn reads(&mut self, reads: bool) {
        let before = std::mem::replace(&mut self.reads, reads);
        if before != reads {
            self.operation.presence.send_modify(|presence| match reads {
                true => presence.readers += 1,
                false => presence.readers -= 1,
            });
        }
    }

    /// Another client has taken its place: its going does not count any more.
    pub(super) fn disown(&mut self) {
        if std::mem::take(&mut self.owner) {
            self.operation.presence.send_modify(Presence::lose_owner);
        }
    }

    /// Its going counts.
    pub(super) fn is_owner(&self) -> bool {
        self.owner
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.disown();
        self.reads(false);
        self.operation.presence.send_modify(|presence| presence.clients -= 1);
    }
}

impl Presence {
    fn lose_owner(&mut self) {
        self.owners -= 1;
        if self.owners == 0 {
            self.absent_since = Some(Instant::now());
        }
    }
}

/// A piece of output.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) stream: u32,
    pub(super) offset: u64,
    pub(super) time_ms: u64,
    pub(super) data: Bytes,
}

/// The last of an operation's output.
#[derive(Debug, Default)]
struct Tail {
    pieces: VecDeque<Piece>,
    bytes: usize,
    end: u64,
}

impl Tail {
    fn push(&mut self, piece: Piece) {
        // A client that came later is given again what another one had.
        let end = piece.offset + piece.data.len() as u64;
        if end <= self.end {
            return;
        }
        self.end = end;
        self.bytes += piece.data.len();
        self.pieces.push_back(piece);
        while self.bytes > TAIL_BYTES_MAX && self.pieces.len() > 1 {
            let gone = self.pieces.pop_front().map_or(0, |piece| piece.data.len());
            self.bytes -= gone;
        }
    }
}

/// What makes two requests the same: everything but who waits for it, and how.
fn fingerprint(begin: &Begin) -> blake3::Hash {
    use prost::Message;
    let command = Begin { attachment: None, terminal: None, ..begin.clone() };
    blake3::hash(&command.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::OperationId;

    fn operation(begin: Begin) -> Arc<Operation> {
        let record = Record::new(OperationId::random(), "/p".into(), "dev".into(), &begin.argv);
        Arc::new(Operation::new(begin, record, None))
    }

    fn begin(word: &str) -> Begin {
        Begin { argv: vec![word.into()], ..Begin::default() }
    }

    #[test]
    fn the_same_command_in_another_terminal_is_the_same_and_another_one_is_not() {
        let operation = operation(begin("true"));
        let terminal = Some(proto::TerminalSize { rows: 9, columns: 9 });
        assert!(operation.is_same(&Begin { terminal, ..begin("true") }));
        assert!(!operation.is_same(&begin("false")));
        assert!(!operation.is_same(&Begin { timeout_ms: 1, ..begin("true") }));
    }

    #[test]
    fn only_those_whose_going_counts_are_missed() {
        let operation = operation(begin("true"));
        let absent = || operation.presence.borrow().absent_since.is_some();
        assert!(absent());
        let (owner, mut other) = (operation.attach(true), operation.attach(true));
        let viewer = operation.attach(false);
        other.disown();
        drop(other);
        assert!(!absent());
        drop(owner);
        assert!(absent());
        assert_eq!(operation.presence.borrow().clients, 1);
        drop(viewer);
        assert_eq!(operation.presence.borrow().clients, 0);
    }

    #[test]
    fn the_last_output_is_remembered_once_whoever_took_it() {
        let operation = operation(begin("true"));
        let piece = Bytes::from(vec![b'x'; 400 << 10]);
        for offset in [0, 1, 2, 3, 2, 3] {
            operation.remember(0, offset * (400 << 10), 7, &piece);
        }
        let offsets: Vec<u64> = operation.remembered().iter().map(|piece| piece.offset).collect();
        assert_eq!(offsets, [2 * (400 << 10), 3 * (400 << 10)]);
    }
}
