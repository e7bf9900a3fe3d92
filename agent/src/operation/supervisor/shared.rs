//! What the tasks of a supervisor know together. One thread runs them all, so nothing is locked.

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use rustix::process::Pid;
use tokio::sync::watch;
use tokio::time::Instant;

use super::input::Input;
use super::ladder::Order;
use super::terminal::Terminal;
use crate::lease::Lease;
use crate::operation::place::{Place, Specification, specification};
use crate::operation::processes::Swept;
use crate::operation::spool::Spool;
use crate::proto::{Exit, StartReply, StartRequest, Stream};

/// How a program ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ended {
    /// As `wait` tells it.
    pub(super) status: i32,
    /// When.
    pub(super) at_ms: u64,
    /// The memory limit killed something meanwhile.
    pub(super) memory_kill: bool,
}

/// How a client gets on with the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    /// What is below is on its way to the client, or there.
    pub(super) sent: u64,
    /// When that last became more, or the client took something.
    pub(super) moved: Instant,
}

/// What the tasks of a supervisor know together.
pub(super) struct Shared {
    pub(super) place: Place,
    pub(super) specification: Specification,
    pub(super) id: Vec<u8>,
    pub(super) argv: Vec<Vec<u8>>,
    pub(super) leader: Pid,
    pub(super) terminal: Option<Terminal>,
    pub(super) started_ms: u64,
    /// Processes that the memory limit had killed before.
    pub(super) memory_kills: u64,
    /// Held by every agent that watches.
    pub(super) lease: Lease,
    pub(super) spool: RefCell<Spool>,
    pub(super) input: RefCell<Input>,
    /// How far the client that has the input has been sent the output, while it is there.
    pub(super) flow: Cell<Option<Flow>>,
    /// Nobody reads this stream any more.
    pub(super) closed: [Cell<bool>; 2],
    /// A client has been there.
    pub(super) joined: Cell<bool>,
    /// How the program ended.
    pub(super) ended: Cell<Option<Ended>>,
    /// Nothing is left below us.
    pub(super) alone: Cell<bool>,
    /// A cancel goes on, and how.
    pub(super) order: Cell<Option<Order>>,
    /// What cancels have done.
    pub(super) swept: Cell<Swept>,
    pub(super) cancelled: Cell<bool>,
    pub(super) timed_out: Cell<bool>,
    /// All output has been read, and nothing changes any more.
    pub(super) exit: Cell<Option<Exit>>,
    pub(super) forgotten: Cell<bool>,
    /// Anything of the above is another.
    changed: watch::Sender<()>,
}

impl Shared {
    pub(super) fn new(
        place: Place,
        request: StartRequest,
        lease: Duration,
        memory_kills: u64,
        (leader, terminal): (Pid, Option<Terminal>),
    ) -> Self {
        use crate::operation::spool::{DISK_BYTES_DEFAULT, MEMORY_BYTES_MAX};
        let disk_bytes =
            if request.spool_bytes == 0 { DISK_BYTES_DEFAULT } else { request.spool_bytes };
        let mut spool = Spool::new(place.path(), MEMORY_BYTES_MAX, disk_bytes);
        spool.set_detached(request.detached);
        Self {
            place,
            specification: specification(&request),
            id: request.id,
            argv: request.argv,
            leader,
            terminal,
            started_ms: now_ms(),
            memory_kills,
            lease: Lease::new(lease),
            spool: RefCell::new(spool),
            input: RefCell::default(),
            flow: Cell::new(None),
            closed: [Cell::new(false), Cell::new(false)],
            joined: Cell::new(false),
            ended: Cell::new(None),
            alone: Cell::new(false),
            order: Cell::new(None),
            swept: Cell::default(),
            cancelled: Cell::new(false),
            timed_out: Cell::new(false),
            exit: Cell::new(None),
            forgotten: Cell::new(false),
            changed: watch::Sender::new(()),
        }
    }

    /// The answer to whoever asks how it started.
    pub(super) fn started(&self) -> StartReply {
        let pid = self.leader.as_raw_nonzero().get().unsigned_abs();
        StartReply { pid, ..StartReply::default() }
    }

    /// Tells all tasks that something is another.
    pub(super) fn tell(&self) {
        self.changed.send_replace(());
    }

    /// Is told of all that changes from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Returns when something is so.
    pub(super) async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let mut changes = self.changes();
        while !is_so(self) {
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }

    pub(super) fn append(&self, stream: Stream, data: &mut BytesMut) {
        self.spool.borrow_mut().append(stream, data, now_ms());
        self.tell();
    }

    pub(super) fn is_closed(&self, stream: Stream) -> bool {
        self.closed[usize::from(stream == Stream::Stderr)].get()
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
