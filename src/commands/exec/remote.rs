//! The command line's half of an `Exec`: terminal, streams, signals, exit code.

use std::io::{self, IsTerminal, Read, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::channel::Channel;
use crate::commands::Context;
use crate::error::{CliError, ExitCode};
use crate::session::Spec;
use crate::session::client::Connection;
use crate::session::proto::exec_request::Request;
use crate::session::proto::session_client::SessionClient;
use crate::session::proto::session_event::Event;
use crate::session::proto::{
    Begin, ControlRequest, ExecRequest, Exit, Failure, Finished, Input, Output, SessionEvent,
};
use crate::ui::progress::Progress;
use crate::ui::{render, say, visible};

/// Bytes of standard input that are read at a time.
const INPUT_BYTES: usize = 64 << 10;
/// Pieces of input or output that wait.
const PIECES_WAITING_MAX: usize = 4;
/// A second Ctrl-C within this time stops the command for good.
const AGAIN: Duration = Duration::from_secs(3);
/// A step that takes longer is told, also off a terminal.
const LONG: Duration = Duration::from_secs(2);
/// A session that is ending takes nobody; the next one is started as soon as it has gone.
/// Cancelled commands have 20 s to end before that.
const TRIES_MAX: u32 = 1500;

const SIGPIPE: u32 = 13;

/// Runs one command and returns its exit code.
pub(super) async fn run(context: &Context, spec: &Spec, begin: Begin) -> Result<u8, CliError> {
    for _ in 0..TRIES_MAX {
        let mut connection = Connection::find_or_start(&context.places, spec).await?;
        let (send, receive) = mpsc::channel(PIECES_WAITING_MAX);
        let (hang_up, hung_up) = oneshot::channel();
        let first = ExecRequest { request: Some(Request::Begin(begin.clone())) };
        // The channel is new and has room.
        let _ = send.try_send(first);
        let requests = ReceiverStream::new(receive).take_until(hung_up);
        match connection.client.exec(requests).await {
            Ok(events) => {
                let exec = Exec::new(context, &connection, &begin, send, hang_up);
                return exec.finish(events.into_inner(), connection).await;
            }
            Err(status) if status.code() == tonic::Code::Unavailable => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(status) => {
                let message = format!("the session failed: {}", status.message());
                return Err(CliError::new(ExitCode::Failed, message));
            }
        }
    }
    Err(CliError::new(ExitCode::Failed, "the session of this project is ending and does not end"))
}

struct Exec<'a> {
    context: &'a Context,
    client: SessionClient<Channel>,
    id: Vec<u8>,
    progress: Progress,
    /// Standard input goes here once the command has started.
    input: Option<mpsc::Sender<ExecRequest>>,
    /// Dropped, it ends the requests, although a thread may still read standard input: the session
    /// waits for that.
    hang_up: oneshot::Sender<()>,
    output: mpsc::Sender<Output>,
    /// A piece of output that the writer has no room for: nothing more is read until it has.
    waiting: Option<Output>,
    writer: Option<std::thread::JoinHandle<()>>,
    started: bool,
    /// Steps are told as they begin: on a terminal they vanish again, and with `-v` they are wanted.
    at_once: bool,
    exit: Option<Exit>,
    failure: Option<Failure>,
    /// When Ctrl-C was last pressed, and how often in a row.
    interrupts: (u32, Option<Instant>),
    /// A step that is told once it has taken long. Off a terminal stderr is the command's own, and
    /// a script that reads it should not find our talk there without need.
    pending: Option<(Instant, String)>,
}

/// What ended the event loop.
enum Over {
    Finished(Box<Finished>),
    /// The session went away.
    Lost,
    /// The user does not want to wait any longer.
    Left,
}

impl<'a> Exec<'a> {
    fn new(
        context: &'a Context,
        connection: &Connection,
        begin: &Begin,
        input: mpsc::Sender<ExecRequest>,
        hang_up: oneshot::Sender<()>,
    ) -> Self {
        let (output, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let client = connection.client.clone();
        let broken = tell_broken_pipe(client.clone(), begin.id.clone());
        // A thread of its own: a terminal that is stopped must not stop the signals.
        let writer = Some(std::thread::spawn(move || write_out(pieces, &broken)));
        Self {
            context,
            client,
            id: begin.id.clone(),
            progress: Progress::new(context),
            input: Some(input),
            hang_up,
            output,
            waiting: None,
            writer,
            started: false,
            at_once: io::stderr().is_terminal() || context.verbose > 0,
            exit: None,
            failure: None,
            interrupts: (0, None),
            pending: None,
        }
    }

    async fn finish(
        mut self,
        mut events: Streaming<SessionEvent>,
        connection: Connection,
    ) -> Result<u8, CliError> {
        let over = self.follow(&mut events).await?;
        self.progress.clear();
        // All that the command wrote is out before anything else is said.
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.output, closed));
        if let Some(writer) = self.writer.take().filter(|_| !matches!(over, Over::Left)) {
            tokio::select! {
                _ = tokio::task::spawn_blocking(move || writer.join()) => {}
                // The command is through; only who reads its output is not.
                () = told_to_go() => {}
            }
        }
        let finished = match over {
            Over::Finished(finished) => finished,
            Over::Lost => return Err(self.lost()),
            Over::Left => return Ok(ExitCode::Interrupted as u8),
        };
        drop(events);
        let (hang_up, _) = oneshot::channel();
        drop(std::mem::replace(&mut self.hang_up, hang_up));
        self.say(&finished);
        connection.goodbye(&finished.ending).await;
        self.code()
    }

    async fn follow(&mut self, events: &mut Streaming<SessionEvent>) -> Result<Over, CliError> {
        let failed = |error: io::Error| {
            CliError::new(ExitCode::Failed, "cannot handle signals").because(&error)
        };
        let on = |kind| signal(kind).map_err(failed);
        let (mut int, mut term) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
        let (mut hup, mut quit) = (on(SignalKind::hangup())?, on(SignalKind::quit())?);
        let (mut usr1, mut usr2) =
            (on(SignalKind::user_defined1())?, on(SignalKind::user_defined2())?);
        loop {
            let pending = self.pending.as_ref().map(|(at, _)| *at);
            let (room, full) = (self.output.clone(), self.waiting.is_some());
            tokio::select! {
                // Signals first: output may never pause, and its reader may have stopped.
                biased;
                _ = int.recv() => if self.interrupt().await { return Ok(Over::Left) },
                // A workflow pauses cleanly on INT and never on TERM: INT first, then the ladder.
                _ = term.recv() => self.control(15, true).await,
                _ = hup.recv() => self.control(1, true).await,
                _ = quit.recv() => self.control(3, false).await,
                _ = usr1.recv() => self.control(10, false).await,
                _ = usr2.recv() => self.control(12, false).await,
                // The writer ends only with the pipe that it writes to.
                permit = room.reserve(), if full => {
                    if let (Ok(permit), Some(output)) = (permit, self.waiting.take()) {
                        permit.send(output);
                    }
                }
                event = events.message(), if !full => {
                    match event.map(|event| event.and_then(|e| e.event)) {
                        Ok(Some(Event::Finished(finished))) => return Ok(Over::Finished(Box::new(finished))),
                        Ok(Some(event)) => self.handle(event),
                        Ok(None) | Err(_) => return Ok(Over::Lost),
                    }
                }
                () = until(pending) => self.tell_pending(),
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Progress(progress) => {
                if !progress.step.is_empty() {
                    let at = Instant::now() + if self.at_once { Duration::ZERO } else { LONG };
                    let known = self.pending.as_ref().is_some_and(|(_, s)| *s == progress.step);
                    if !known {
                        self.pending = Some((at, progress.step));
                    }
                }
                if progress.total > 0 || progress.done > 0 {
                    let total = (progress.total > 0).then_some(progress.total);
                    self.progress.bytes(progress.done, total);
                }
            }
            Event::Started(_) => {
                self.pending = None;
                self.progress.clear();
                self.started = true;
                if let Some(input) = self.input.take() {
                    std::thread::spawn(move || read_in(&input));
                }
            }
            Event::Output(output) => {
                if let Err(TrySendError::Full(output)) = self.output.try_send(output) {
                    self.waiting = Some(output);
                }
            }
            Event::Exit(exit) => self.exit = Some(exit),
            Event::Failure(failure) => self.failure = Some(failure),
            Event::Note(text) if self.context.quiet < 2 => {
                self.progress.clear();
                say(&visible(&text));
            }
            Event::Note(_) | Event::Finished(_) | Event::Status(_) | Event::Moved(_) => {}
        }
    }

    fn tell_pending(&mut self) {
        if let Some((_, step)) = self.pending.take() {
            self.progress.step(&step);
        }
    }

    /// Ctrl-C: the first goes to the command, the second stops it for good, the third leaves.
    async fn interrupt(&mut self) -> bool {
        let (count, last) = self.interrupts;
        let again = last.is_some_and(|last| last.elapsed() < AGAIN);
        // Late, it is the command's again; but once it is being stopped, every one is for us.
        let count = if again || count >= 2 { count + 1 } else { 1 };
        self.interrupts = (count, Some(Instant::now()));
        match count {
            1 => self.control(2, false).await,
            2 => self.control(0, true).await,
            _ => return true,
        }
        if count == 1 && self.started && io::stderr().is_terminal() && self.context.quiet == 0 {
            self.progress.note("interrupted; Ctrl-C again to stop it for good");
        }
        false
    }

    async fn control(&mut self, signal: u32, cancel: bool) {
        let request = ControlRequest { id: self.id.clone(), signal, cancel };
        // A session that is gone shows in its events.
        let _ = self.client.control(request).await;
    }

    fn lost(&self) -> CliError {
        if !self.started {
            return CliError::new(
                ExitCode::NotStarted,
                "the session ended before the command started",
            )
            .hint("it is safe to try again");
        }
        let message = "the session ended while the command was running; its outcome is not known";
        CliError::new(ExitCode::OutcomeUnknown, message)
            .hint("what it had not brought home is lost with the sandbox; run the command again")
    }

    fn say(&self, finished: &Finished) {
        let warn = |text: &str| {
            if self.context.quiet < 2 {
                render::warning(&visible(text), self.context.style);
            }
        };
        if let Some(exit) = &self.exit {
            if exit.out_of_memory {
                let limit = match exit.memory_limit {
                    0 => String::new(),
                    limit => format!(" of {} MiB", limit >> 20),
                };
                warn(&format!(
                    "the command was killed: it reached the sandbox's memory limit{limit}"
                ));
            }
            if exit.survivors > 0 {
                warn(&format!("{} processes of the command could not be stopped", exit.survivors));
            }
        }
        if !finished.kept.is_empty() {
            warn(&format!("the sandbox is kept: {}", finished.kept));
            warn("the next `skync exec` tries again; `skync down --discard` gives it up");
        }
        if let Some(sync) = finished.sync.as_ref().filter(|_| self.context.verbose > 0) {
            let removed = sync.removed_in_sandbox + sync.removed_on_host;
            self.context.tell(&format!(
                "synced: {} files ({} bytes) in, {} files ({} bytes) out, {removed} removed",
                sync.files_sent, sync.bytes_sent, sync.files_received, sync.bytes_received
            ));
        }
        if let Some(timings) = finished.timings.filter(|_| self.context.verbose > 0) {
            let ms = |us: u64| format!("{}.{} ms", us / 1000, us / 100 % 10);
            self.context.tell(&format!(
                "took: sandbox {}, sync in {}, command {}, sync out {}, removal {}",
                ms(timings.sandbox_us),
                ms(timings.sync_in_us),
                ms(timings.command_us),
                ms(timings.sync_out_us),
                ms(timings.removal_us)
            ));
        }
    }

    fn code(&self) -> Result<u8, CliError> {
        let code = self.exit.as_ref().map(|exit| match exit.signal {
            0 => u8::try_from(exit.code).unwrap_or(u8::MAX),
            signal => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        });
        let failure = self.failure.as_ref().map(|failure| {
            let code = ExitCode::from_number(failure.code);
            let mut error = CliError::new(code, visible(&failure.message));
            error.hints.clone_from(&failure.hints);
            error
        });
        match (code, failure) {
            (None, Some(error)) => Err(error),
            (None, None) => Err(self.lost()),
            (Some(code), None) => Ok(code),
            (Some(code), Some(error)) => {
                // It ran, so no code may say that it did not; but it is no success either.
                render::error(&error, self.context.json, self.context.style);
                Ok(code.max(ExitCode::Failed as u8))
            }
        }
    }
}

/// Returns at that time; never, if there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Returns when a signal says that nobody wants to wait any longer.
async fn told_to_go() {
    let of = |kind| async move {
        match signal(kind) {
            Ok(mut signals) => signals.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = of(SignalKind::interrupt()) => {}
        _ = of(SignalKind::terminate()) => {}
        _ = of(SignalKind::hangup()) => {}
    }
}

/// Reads standard input until its end, or until nobody wants it.
fn read_in(send: &mpsc::Sender<ExecRequest>) {
    let mut stdin = io::stdin().lock();
    let mut buffer = vec![0; INPUT_BYTES];
    loop {
        let count = match stdin.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A terminal that is gone, a closed descriptor: there is no more.
            Err(_) => 0,
        };
        let data = Bytes::copy_from_slice(&buffer[..count]);
        let input = Input { data, eof: count == 0 };
        let request = ExecRequest { request: Some(Request::Input(input)) };
        if send.blocking_send(request).is_err() || count == 0 {
            return;
        }
    }
}

/// Writes the command's output until there is no more, each piece as soon as it is there.
fn write_out(mut pieces: mpsc::Receiver<Output>, broken: &mpsc::Sender<()>) {
    let mut open = [true; 2];
    while let Some(output) = pieces.blocking_recv() {
        let stream = usize::from(output.stream != 0);
        if !open[stream] {
            continue;
        }
        let written = if stream == 0 {
            let mut stdout = io::stdout().lock();
            stdout.write_all(&output.data).and_then(|()| stdout.flush())
        } else {
            io::stderr().lock().write_all(&output.data)
        };
        if written.is_err() {
            // `| head` has what it wants: the command is told as a pipe would tell it.
            open[stream] = false;
            let _ = broken.blocking_send(());
        }
    }
}

/// Sends SIGPIPE to the command when told to.
fn tell_broken_pipe(mut client: SessionClient<Channel>, id: Vec<u8>) -> mpsc::Sender<()> {
    let (send, mut receive) = mpsc::channel(1);
    tokio::spawn(async move {
        while receive.recv().await.is_some() {
            let request = ControlRequest { id: id.clone(), signal: SIGPIPE, cancel: false };
            let _ = client.control(request).await;
        }
    });
    send
}
