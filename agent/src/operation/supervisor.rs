//! The process that owns one operation: parent of the command, subreaper of all that it starts,
//! keeper of its terminal, its output and its input.
//!
//! Each operation has one, so that what belongs to an operation is known for certain, whatever it
//! forks, and so that an operation outlives the link, the session and the agent: they are its
//! clients, by a socket in the operation's directory. It ends when it has been forgotten and
//! nothing of the command is left (a daemon that the command put into the background lives on, as
//! it would in a shell), or when no agent has watched it for the lease; then it kills what is left.
//!
//! One thread does everything, and it never makes another: stopping an operation must work where
//! no process can be made any more.

mod attach;
mod calls;
mod command;
mod input;
mod ladder;
mod output;
mod shared;
mod terminal;

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{WaitOptions, kill_process_group, wait};
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};

use self::command::Started;
use self::output::Source;
use self::shared::{Ended, Shared, now_ms};
use super::frame::{Frame, Frames};
use super::memory;
use super::place::{self, Place};
use super::processes::kill_all;
use crate::own;
use crate::proto::{StartReply, StartRequest, Stream};

/// The kernel's out-of-memory killer takes the command, not the agent that must tell of it.
const COMMAND_OOM_SCORE: &str = "500";

/// Runs the operation that the first frame on `control` asks for, in its directory; returns when
/// it has been forgotten, or when nobody has watched it for `lease`.
///
/// # Errors
/// If the agent goes away before it has said what to run, or the socket cannot be made.
pub fn supervise(control: OwnedFd, directory: &Path, lease: Duration) -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run(control, Place::at(directory), lease))
}

async fn run(control: OwnedFd, place: Place, lease: Duration) -> io::Result<()> {
    let control = std::os::unix::net::UnixStream::from(control);
    control.set_nonblocking(true)?;
    let (from, mut to) = UnixStream::from_std(control)?.into_split();
    let mut frames = Frames::new(from);
    let Some(Frame::Start(request)) = frames.next().await? else {
        return Err(io::Error::other("the agent said nothing"));
    };
    // Before there is anything that could end, or anybody who could ask.
    let children = signal(SignalKind::child())?;
    let ends = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    // A terminal that hangs up is no reason to end; without a handler it would be one.
    let _hangup = signal(SignalKind::hangup())?;
    let listener = place.listen()?;
    let memory_kills = memory::kills();
    let started = match start(&request) {
        Ok(started) => started,
        Err(reply) => return Frame::Started(reply).write(&mut to).await,
    };
    let timeout = Duration::from_millis(request.timeout_ms);
    let grace = Duration::from_millis(request.grace_ms.into());
    let Started { leader, input, output, error, terminal } = started;
    let streams = match error {
        Some(error) => {
            [Source::pipe(Stream::Stdout, output)?, Source::pipe(Stream::Stderr, error)?]
        }
        None => [Source::terminal(output)?, Source::none(Stream::Stderr)],
    };
    let shared = Shared::new(place, request, lease, memory_kills, (leader, terminal));
    let shared = Rc::new(shared);
    let first = vec![Frame::Started(shared.started())];
    spawn_local(reap(Rc::clone(&shared), children));
    spawn_local(output::carry(Rc::clone(&shared), streams));
    spawn_local(input::feed(Rc::clone(&shared), input));
    spawn_local(calls::accept(Rc::clone(&shared), listener));
    spawn_local(calls::watch(Rc::clone(&shared), frames, to, first));
    if !timeout.is_zero() {
        spawn_local(limit(Rc::clone(&shared), timeout, grace));
    }
    let told = end(&shared, ends).await;
    if !told {
        if shared.ended.get().is_none() {
            // Without `/proc` there is only this.
            let _ = kill_process_group(leader, rustix::process::Signal::KILL);
        }
        kill_all(rustix::process::getpid(), &HashSet::new());
    }
    // If it cannot be removed, the agent tries again.
    let _ = shared.place.remove();
    Ok(())
}

fn start(request: &StartRequest) -> Result<Started, StartReply> {
    // Only a container has a limit of its own; elsewhere this may be refused, which is no matter.
    let before = std::fs::read("/proc/self/oom_score_adj");
    let _ = own::write_kernel_file("/proc/self/oom_score_adj", COMMAND_OOM_SCORE.as_bytes());
    let started = command::start(request);
    if let Ok(before) = before {
        // It was for the command alone.
        let _ = own::write_kernel_file("/proc/self/oom_score_adj", &before);
    }
    started
}

/// Waits for every child, and knows when there is none any more.
async fn reap(shared: Rc<Shared>, mut children: Signal) {
    use rustix::io::Errno;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == shared.leader => {
                let memory_kill = memory::kills() > shared.memory_kills;
                let ended = Ended { status: status.as_raw(), at_ms: now_ms(), memory_kill };
                shared.ended.set(Some(ended));
                shared.tell();
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Err(Errno::CHILD) => {
                shared.alone.set(true);
                shared.tell();
                return;
            }
            Ok(None) | Err(_) => {
                let _ = children.recv().await;
            }
        }
    }
}

/// Stops the operation when its time is over.
async fn limit(shared: Rc<Shared>, timeout: Duration, grace: Duration) {
    let ended = shared.until(|shared| shared.ended.get().is_some());
    if tokio::time::timeout(timeout, ended).await.is_err() {
        shared.timed_out.set(true);
        ladder::cancel(&shared, 2, grace).await;
    }
}

/// Returns when this process is to end; true if it was told so, and nothing is left.
async fn end(shared: &Shared, [mut terminate, mut interrupt]: [Signal; 2]) -> bool {
    tokio::select! {
        () = shared.until(|shared| shared.forgotten.get() && shared.alone.get()) => true,
        () = shared.lease.expired() => false,
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
    }
}

/// For the connections of an operation.
fn prepared(stream: UnixStream) -> UnixStream {
    place::enlarge(&stream);
    stream
}
