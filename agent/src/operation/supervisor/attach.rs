//! A client of the operation: it is told the output from where it wants it, and if it has the
//! input, what it sends counts.

use std::io;
use std::rc::Rc;

use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::Instant;

use super::shared::{Flow, Shared};
use crate::operation::frame::{Frame, Frames};
use crate::operation::spool::{Cursor, Piece};
use crate::proto::attach_begin::From as Begin;
use crate::proto::attach_reply::Reply;
use crate::proto::attach_request::Request;
use crate::proto::{AttachBegin, AttachReply, AttachRequest, Attached, Gap, Stream, TerminalSize};

/// Serves one client until it goes or has everything.
pub(super) async fn attach(
    shared: &Rc<Shared>,
    first: AttachRequest,
    frames: Frames<OwnedReadHalf>,
    to: OwnedWriteHalf,
    number: u64,
) {
    let Some(Request::Begin(begin)) = first.request else { return };
    let offset = offset(shared, &begin);
    if begin.input {
        join(shared, number, begin.terminal);
    }
    let client = Client { shared, number, input: begin.input };
    client.moved(offset);
    tokio::select! {
        // The client is gone, or has said what is no request.
        () = client.listen(frames) => {}
        // Everything has been told, or the client is gone.
        _ = client.tell(to, Cursor::new(offset), &begin) => {}
    }
    if client.has_input() {
        shared.flow.set(None);
        shared.tell();
    }
}

/// Where the output is to begin.
fn offset(shared: &Shared, begin: &AttachBegin) -> u64 {
    let spool = shared.spool.borrow();
    match begin.from {
        Some(Begin::Offset(offset)) => offset.min(spool.end()),
        Some(Begin::Lines(count)) => spool.lines(count, begin.only.map(|_| begin.only())),
        Some(Begin::SinceMs(time)) => spool.since(time),
        Some(Begin::Untaken(_)) | None => spool.taken(),
    }
}

/// Gives the input to a client.
fn join(shared: &Rc<Shared>, number: u64, size: Option<TerminalSize>) {
    shared.input.borrow_mut().holder = number;
    shared.spool.borrow_mut().set_detached(false);
    let first = !shared.joined.replace(true);
    if let (Some(size), Some(terminal)) = (size, &shared.terminal) {
        if first {
            let _ = terminal.resize(&size);
        } else {
            let shared = Rc::clone(shared);
            tokio::task::spawn_local(async move {
                if let Some(terminal) = &shared.terminal {
                    let _ = terminal.redraw(&size).await;
                }
            });
        }
    }
    shared.tell();
}

struct Client<'a> {
    shared: &'a Shared,
    number: u64,
    /// It took the input when it came.
    input: bool,
}

impl Client<'_> {
    fn has_input(&self) -> bool {
        self.input && self.shared.input.borrow().holder == self.number
    }

    /// It has been sent everything below this.
    fn moved(&self, sent: u64) {
        if self.has_input() {
            self.shared.flow.set(Some(Flow { sent, moved: Instant::now() }));
        }
    }

    /// Does what the client asks until it goes.
    async fn listen(&self, mut frames: Frames<OwnedReadHalf>) {
        while let Ok(Some(Frame::Attach(request))) = frames.next().await {
            let Some(request) = request.request else { continue };
            self.obey(request);
            self.shared.tell();
        }
    }

    fn obey(&self, request: Request) {
        let shared = self.shared;
        match request {
            Request::Begin(_) => {}
            Request::Close(stream) => {
                let index = usize::from(stream == i32::from(Stream::Stderr));
                shared.closed[index].set(true);
            }
            _ if !self.has_input() => {}
            Request::Input(frame) => shared.input.borrow_mut().accept(frame),
            Request::Taken(offset) => {
                shared.spool.borrow_mut().take(offset);
                if let Some(flow) = shared.flow.get() {
                    shared.flow.set(Some(Flow { moved: Instant::now(), ..flow }));
                }
            }
            Request::Resize(size) => {
                if let Some(terminal) = &shared.terminal {
                    let _ = terminal.resize(&size);
                }
            }
        }
    }

    /// Tells the client everything until the operation's end, or what there is so far.
    async fn tell(
        &self,
        mut to: OwnedWriteHalf,
        mut cursor: Cursor,
        begin: &AttachBegin,
    ) -> io::Result<()> {
        let shared = self.shared;
        let mut changes = shared.changes();
        let mut input_told = shared.input.borrow().offset();
        let attached = Attached {
            input_offset: input_told,
            output_offset: cursor.offset(),
            terminal: shared.terminal.is_some(),
        };
        send(&mut to, Reply::Attached(attached)).await?;
        let mut evicted = false;
        loop {
            changes.borrow_and_update();
            let taken = shared.input.borrow().taken;
            if self.has_input() && taken > input_told {
                input_told = taken;
                send(&mut to, Reply::InputTaken(taken)).await?;
            }
            if self.input && !evicted && !self.has_input() {
                evicted = true;
                send(&mut to, Reply::Evicted(true)).await?;
            }
            let piece = shared.spool.borrow().read(&mut cursor);
            match piece {
                Piece::Data(output) if begin.only.is_none_or(|only| only == output.stream) => {
                    Frame::Output(output).write(&mut to).await?;
                    self.moved(cursor.offset());
                    // There may be room for more now.
                    shared.tell();
                }
                Piece::Data(_) => self.moved(cursor.offset()),
                Piece::Gap { from, to: end } => {
                    send(&mut to, Reply::Gap(Gap { from, to: end })).await?;
                    self.moved(end);
                }
                Piece::Nothing => {
                    let exit = shared.exit.get();
                    if let Some(exit) = exit {
                        return Frame::Exited(exit).write(&mut to).await;
                    }
                    if begin.no_follow {
                        return Frame::End.write(&mut to).await;
                    }
                    // The sender lives as long as what is shared.
                    let _ = changes.changed().await;
                }
            }
        }
    }
}

async fn send(to: &mut OwnedWriteHalf, reply: Reply) -> io::Result<()> {
    Frame::Reply(AttachReply { reply: Some(reply) }).write(to).await
}
