//! The agent's side of operations: starting each under a supervisor of its own, carrying its
//! streams, and knowing how it ended.
//!
//! Nothing is buffered without a bound: output waits in the pipe until the session takes it, which
//! makes the command wait, as a pipe to a slow reader does.

pub mod frame;
pub mod memory;
pub mod processes;
pub mod program;
pub mod supervisor;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::sync::{Mutex as AsyncMutex, mpsc, watch};
use tokio::time::Instant;

use crate::bridge::widen;
use crate::operation::frame::Frame;
use crate::operation::processes::Swept;
use crate::proto::{Exit, OutputFrame, StartFailure, StartReply, StartRequest, Stream};

/// Most bytes of output in one frame.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// Frames that wait for the session; with the pipe before them this is all that is ever held.
const FRAMES_WAITING_MAX: usize = 4;
/// How long the streams may be quiet after the command's end before we stop listening: something
/// it left in the background may hold them open for ever …
const DRAIN_QUIET: Duration = Duration::from_millis(250);
/// … or write to them for ever: past this, only what was in the pipes at the end is still owed.
const DRAIN_MAX: Duration = Duration::from_secs(1);
/// A reply of the supervisor that takes longer than this beyond its own grace is not coming.
const CANCEL_SLACK: Duration = Duration::from_secs(10);

/// A client-chosen name of an operation.
pub type OperationId = [u8; 16];

/// All operations of this agent.
#[derive(Debug, Default)]
pub struct Operations {
    known: Mutex<HashMap<OperationId, Arc<Operation>>>,
}

/// Why an operation could not be started or found.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The same id with another specification.
    #[error("an operation with this id and another specification is known already")]
    Conflict,
    /// No operation of that id.
    #[error("no such operation")]
    Unknown,
    /// The supervisor could not be started or went away.
    #[error("the operation's supervisor failed")]
    Supervisor(#[from] io::Error),
}

/// One operation.
#[derive(Debug)]
pub struct Operation {
    request: StartRequest,
    started: StartReply,
    control: AsyncMutex<OwnedWriteHalf>,
    input: AsyncMutex<Option<pipe::Sender>>,
    /// Frames on their way to the session; whoever reads the output holds it.
    output: Arc<AsyncMutex<mpsc::Receiver<OutputFrame>>>,
    state: watch::Receiver<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    exit: Option<Exit>,
    /// Cancels that are through, and what the last one did.
    cancels: u64,
    swept: Swept,
}

impl Operations {
    /// Starts an operation, or says again how it started if it is known.
    ///
    /// A reply that refuses (`failure`) is no error of this function.
    ///
    /// # Errors
    /// [`OperationError::Conflict`], or a supervisor that cannot be started.
    pub async fn start(
        &self,
        id: OperationId,
        request: StartRequest,
    ) -> Result<StartReply, OperationError> {
        if let Some(known) = self.lookup(id) {
            if known.request == request {
                return Ok(known.started.clone());
            }
            return Err(OperationError::Conflict);
        }
        let operation = match Operation::start(request).await? {
            Ok(operation) => Arc::new(operation),
            Err(refused) => return Ok(refused),
        };
        let started = operation.started.clone();
        self.lock().insert(id, operation);
        Ok(started)
    }

    /// The operation of that id.
    ///
    /// # Errors
    /// [`OperationError::Unknown`].
    pub fn find(&self, id: OperationId) -> Result<Arc<Operation>, OperationError> {
        self.lookup(id).ok_or(OperationError::Unknown)
    }

    /// Stops all operations, each with everything that descends from it.
    pub async fn stop_all(&self, grace: Duration) -> Swept {
        let all: Vec<_> = self.lock().drain().map(|(_, operation)| operation).collect();
        let stops = all.iter().map(|operation| operation.cancel(15, grace));
        let mut total = Swept::default();
        for swept in futures_util::future::join_all(stops).await.into_iter().flatten() {
            total.stopped += swept.stopped;
            total.survivors += swept.survivors;
        }
        total
    }

    fn lookup(&self, id: OperationId) -> Option<Arc<Operation>> {
        self.lock().get(&id).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<OperationId, Arc<Operation>>> {
        // The map is whole after any panic: each change is one call.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Operation {
    async fn start(request: StartRequest) -> Result<Result<Self, StartReply>, io::Error> {
        let (stdin_read, stdin_write) = wide_pipe()?;
        let (stdout_read, stdout_write) = wide_pipe()?;
        let (stderr_read, stderr_write) = wide_pipe()?;
        let (control, far) = std::os::unix::net::UnixStream::pair()?;
        spawn_supervisor(far.into(), stdin_read, stdout_write, stderr_write)?;
        control.set_nonblocking(true)?;
        let (mut from, mut to) = UnixStream::from_std(control)?.into_split();
        to.write_all(&Frame::Start(request.clone()).encode()).await?;
        let started = match Frame::read_async(&mut from).await? {
            Some(Frame::Started(reply)) => reply,
            _ => return Err(io::Error::other("the supervisor ended before it began")),
        };
        if started.failure() != StartFailure::StartOk {
            return Ok(Err(started));
        }
        let (tell, state) = watch::channel(State::default());
        tokio::spawn(follow(from, tell));
        let (send, receive) = mpsc::channel(FRAMES_WAITING_MAX);
        let stdout = pipe::Receiver::from_owned_fd(stdout_read)?;
        let stderr = pipe::Receiver::from_owned_fd(stderr_read)?;
        tokio::spawn(pump(stdout, stderr, send, state.clone()));
        Ok(Ok(Self {
            request,
            started,
            control: AsyncMutex::new(to),
            input: AsyncMutex::new(Some(pipe::Sender::from_owned_fd(stdin_write)?)),
            output: Arc::new(AsyncMutex::new(receive)),
            state,
        }))
    }

    /// The frames of its output; the last one has the exit. One reader at a time; what one reader
    /// did not take, the next one gets.
    pub fn output(&self) -> Arc<AsyncMutex<mpsc::Receiver<OutputFrame>>> {
        Arc::clone(&self.output)
    }

    /// Feeds standard input; returns false once the command does not read any more.
    ///
    /// # Errors
    /// If the pipe fails in another way.
    pub async fn feed(&self, data: &Bytes) -> io::Result<bool> {
        let mut input = self.input.lock().await;
        let Some(pipe) = input.as_mut() else { return Ok(false) };
        match pipe.write_all(data).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                *input = None;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Lets the command read end-of-file.
    pub async fn close_input(&self) {
        *self.input.lock().await = None;
    }

    /// Sends a signal to the command's process group.
    ///
    /// # Errors
    /// If the supervisor is gone.
    pub async fn signal(&self, signal: u32) -> io::Result<()> {
        self.control.lock().await.write_all(&Frame::Signal(signal).encode()).await
    }

    /// Stops the command and everything that descends from it.
    ///
    /// # Errors
    /// If the supervisor does not answer; then what survived is unknown.
    pub async fn cancel(&self, signal: u32, grace: Duration) -> io::Result<Swept> {
        let mut state = self.state.clone();
        let before = state.borrow_and_update().cancels;
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        let frame = Frame::Cancel { signal, grace_ms }.encode();
        if self.control.lock().await.write_all(&frame).await.is_err() {
            // The supervisor ends by itself only when nothing is left.
            return Ok(Swept::default());
        }
        let answer = state.wait_for(|state| state.cancels > before);
        match tokio::time::timeout(grace * 2 + CANCEL_SLACK, answer).await {
            Ok(Ok(state)) => Ok(state.swept),
            Ok(Err(_gone)) => Ok(Swept::default()),
            Err(_late) => Err(io::Error::other("the supervisor did not answer")),
        }
    }
}

fn wide_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    widen(&write);
    Ok((read, write))
}

/// Starts this binary again as a supervisor, with the command's own streams as its streams.
fn spawn_supervisor(
    control: OwnedFd,
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> io::Result<()> {
    // Every other descriptor closes on exec. The agent has one thread that starts processes, so
    // this one cannot leak into another child before it is closed here.
    rustix::io::fcntl_setfd(&control, rustix::io::FdFlags::empty())?;
    // Reaped with all other children: see `serve`.
    let _child = Command::new("/proc/self/exe")
        .arg0("skync-agent")
        .arg("supervise")
        .arg(control.as_raw_fd().to_string())
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr))
        .spawn()?;
    Ok(())
}

/// Follows the supervisor's frames until it goes away.
async fn follow(mut from: OwnedReadHalf, tell: watch::Sender<State>) {
    while let Ok(Some(frame)) = Frame::read_async(&mut from).await {
        tell.send_modify(|state| match frame {
            Frame::Exited(exit) => state.exit = Some(exit),
            Frame::Cancelled { stopped, survivors } => {
                state.cancels += 1;
                state.swept = Swept { stopped, survivors };
            }
            Frame::Start(_) | Frame::Started(_) | Frame::Signal(_) | Frame::Cancel { .. } => {}
        });
    }
    tell.send_modify(|state| {
        // Somebody killed the supervisor, and with it what it knew.
        state.exit.get_or_insert_with(|| Exit { signal: 9, ..Exit::default() });
    });
}

/// Carries both streams to the session and, when they are through, the exit.
async fn pump(
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
    send: mpsc::Sender<OutputFrame>,
    mut state: watch::Receiver<State>,
) {
    let mut streams = [Source::new(Stream::Stdout, stdout), Source::new(Stream::Stderr, stderr)];
    // When the command was seen to have ended, and where each stream was then.
    let mut ended: Option<(Instant, [u64; 2])> = None;
    loop {
        let [out, err] = &mut streams;
        if out.is_done() && err.is_done() {
            break;
        }
        let exited = state.borrow().exit.is_some();
        if exited && ended.is_none() {
            ended = Some((Instant::now(), [out.written(), err.written()]));
        }
        // Only once all that the command wrote has been taken may the streams be given up.
        let give_up = ended
            .filter(|(_, [o, e])| out.has_reached(*o) && err.has_reached(*e))
            .map(|(at, _)| (at + DRAIN_MAX).min(Instant::now() + DRAIN_QUIET));
        let frame = tokio::select! {
            frame = out.next(), if !out.is_done() => frame,
            frame = err.next(), if !err.is_done() => frame,
            () = until(give_up), if exited => break,
            _ = state.changed(), if !exited => continue,
        };
        if let Some(frame) = frame
            && send.send(frame).await.is_err()
        {
            return;
        }
    }
    let exit = match state.wait_for(|state| state.exit.is_some()).await {
        Ok(state) => state.exit,
        Err(_) => Some(Exit { signal: 9, ..Exit::default() }),
    };
    // Nobody listens any more: the operation is being forgotten.
    let _ = send.send(OutputFrame { exit, ..OutputFrame::default() }).await;
    // What the command left in the background may go on writing; it must not die of it.
    let [out, err] = &mut streams;
    while !(out.is_done() && err.is_done()) {
        tokio::select! {
            _ = out.next(), if !out.is_done() => {}
            _ = err.next(), if !err.is_done() => {}
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

/// One of the command's streams.
struct Source {
    stream: Stream,
    pipe: Option<pipe::Receiver>,
    offset: u64,
    buffer: BytesMut,
}

impl Source {
    fn new(stream: Stream, pipe: pipe::Receiver) -> Self {
        Self { stream, pipe: Some(pipe), offset: 0, buffer: BytesMut::new() }
    }

    /// How far the stream has been written: what was taken, and what is in the pipe.
    fn written(&self) -> u64 {
        let waiting = self.pipe.as_ref().and_then(|pipe| rustix::io::ioctl_fionread(pipe).ok());
        self.offset + waiting.unwrap_or(0)
    }

    fn has_reached(&self, offset: u64) -> bool {
        self.is_done() || self.offset >= offset
    }

    fn is_done(&self) -> bool {
        self.pipe.is_none()
    }

    /// The next piece; nothing at the stream's end. Safe to cancel: it holds no bytes across a
    /// wait.
    async fn next(&mut self) -> Option<OutputFrame> {
        self.buffer.reserve(OUTPUT_BYTES_MAX);
        let read = match self.pipe.as_mut() {
            Some(pipe) => pipe.read_buf(&mut self.buffer).await,
            None => Ok(0),
        };
        // A pipe that fails has ended as far as we are concerned.
        let (Ok(1..), data) = (read, self.buffer.split().freeze()) else {
            self.pipe = None;
            return None;
        };
        let offset = self.offset;
        self.offset += data.len() as u64;
        Some(OutputFrame { stream: self.stream.into(), offset, data, exit: None })
    }
}
