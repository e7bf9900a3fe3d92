//! The calls of the agent: each is a connection, and its first frame says what it asks.

use std::collections::HashSet;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

use super::shared::Shared;
use super::{attach, ladder, prepared};
use crate::operation::frame::{Frame, Frames};
use crate::operation::processes::{Process, Swept, descendants};
use crate::proto::{CancelReply, OperationInfo};

/// When there are no descriptors left, the next connection is tried after this.
const ACCEPT_INTERVAL: Duration = Duration::from_millis(100);

/// Takes connections.
pub(super) async fn accept(shared: Rc<Shared>, listener: UnixListener) {
    let mut number = 0;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                number += 1;
                tokio::task::spawn_local(serve(Rc::clone(&shared), stream, number));
            }
            Err(_) => tokio::time::sleep(ACCEPT_INTERVAL).await,
        }
    }
}

async fn serve(shared: Rc<Shared>, stream: UnixStream, number: u64) {
    let (from, mut to) = prepared(stream).into_split();
    let mut frames = Frames::new(from);
    let Ok(Some(first)) = frames.next().await else { return };
    let answer = match first {
        Frame::Watch => {
            let first =
                vec![Frame::Specified(shared.specification), Frame::Started(shared.started())];
            return watch(shared, frames, to, first).await;
        }
        Frame::Attach(request) => {
            return attach::attach(&shared, request, frames, to, number).await;
        }
        first => answer(&shared, first).await,
    };
    // Whoever asked may be gone.
    if let Some(answer) = answer {
        let _ = answer.write(&mut to).await;
    }
}

async fn answer(shared: &Rc<Shared>, asked: Frame) -> Option<Frame> {
    match asked {
        Frame::Wait => {
            shared.until(|shared| shared.exit.get().is_some()).await;
            shared.exit.get().map(Frame::Exited)
        }
        Frame::Signal(request) => {
            ladder::signal(shared, request.signal);
            Some(Frame::Done)
        }
        Frame::Cancel(request) => {
            let grace = Duration::from_millis(request.grace_ms.into());
            let Swept { stopped, survivors } = ladder::cancel(shared, request.signal, grace).await;
            Some(Frame::Cancelled(CancelReply { stopped, survivors }))
        }
        Frame::Status => Some(Frame::Info(info(shared))),
        Frame::Detach => {
            shared.spool.borrow_mut().set_detached(true);
            shared.tell();
            Some(Frame::Done)
        }
        Frame::Forget if shared.exit.get().is_none() => Some(Frame::Refused),
        Frame::Forget => {
            shared.forgotten.set(true);
            // What of it lives may do so for long.
            shared.spool.borrow_mut().clear();
            shared.tell();
            Some(Frame::Done)
        }
        Frame::Start(_)
        | Frame::Started(_)
        | Frame::Specified(_)
        | Frame::Watch
        | Frame::Forgotten
        | Frame::Attach(_)
        | Frame::Reply(_)
        | Frame::Output(_)
        | Frame::End
        | Frame::Exited(_)
        | Frame::Cancelled(_)
        | Frame::Info(_)
        | Frame::Done
        | Frame::Refused => None,
    }
}

/// An agent is there as long as this connection is.
pub(super) async fn watch(
    shared: Rc<Shared>,
    mut frames: Frames<OwnedReadHalf>,
    mut to: OwnedWriteHalf,
    first: Vec<Frame>,
) {
    let _held = shared.lease.hold();
    let tell = async {
        for frame in first {
            frame.write(&mut to).await?;
        }
        if shared.forgotten.get() {
            Frame::Forgotten.write(&mut to).await?;
        }
        shared.until(|shared| shared.exit.get().is_some()).await;
        let exit = shared.exit.get().unwrap_or_default();
        Frame::Exited(exit).write(&mut to).await?;
        std::future::pending::<io::Result<()>>().await
    };
    let gone = async { while let Ok(Some(_)) = frames.next().await {} };
    tokio::select! {
        _ = tell => {}
        () = gone => {}
    }
}

/// What the operation is and uses.
fn info(shared: &Shared) -> OperationInfo {
    let me = rustix::process::getpid();
    let living = if shared.alone.get() { Vec::new() } else { descendants(me, &HashSet::new()) };
    // Of the dead, what whoever waited for them has counted; in the end that is us.
    let own = Process::read(me.as_raw_nonzero().get());
    let dead_ms = own.map_or(0, |own| own.children_cpu_ms);
    let spool = shared.spool.borrow();
    let mut info = OperationInfo {
        id: shared.id.clone(),
        argv: shared.argv.clone(),
        pid: shared.leader.as_raw_nonzero().get().unsigned_abs(),
        terminal: shared.terminal.is_some(),
        detached: spool.is_detached(),
        exit: shared.exit.get(),
        started_ms: shared.started_ms,
        processes: u32::try_from(living.len()).unwrap_or(u32::MAX),
        cpu_ms: dead_ms + living.iter().map(|process| process.cpu_ms).sum::<u64>(),
        memory_bytes: 0,
        read_bytes: 0,
        written_bytes: 0,
        output_bytes: spool.end(),
        lost_bytes: spool.lost(),
        taken_bytes: spool.taken(),
    };
    for process in &living {
        info.memory_bytes += number(process, "status", "VmRSS:").unwrap_or(0) << 10;
        info.read_bytes += number(process, "io", "read_bytes:").unwrap_or(0);
        info.written_bytes += number(process, "io", "write_bytes:").unwrap_or(0);
    }
    info
}

/// A number of a process; nothing if it is gone, or not ours to know.
fn number(process: &Process, file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(process.file(file)).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
