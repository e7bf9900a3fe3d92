//! One `skync exec`, in the session: sync in, run, stream, sync out, and the sandbox goes if nobody
//! else needs it.
//!
//! It runs as a task of its own, so that a client that dies takes nothing with it: its command is
//! cancelled, results still come home, and what nobody needs is removed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skync_agent::proto::agent_client::AgentClient;
use skync_agent::proto::{self as agent, StartFailure, StartRequest};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::channel::Channel;
use crate::driver::Progress;
use crate::error::{CliError, ExitCode};
use crate::link::Link;
use crate::session::events::{
    Events, exit_to_client, failure, progress_to_client, summary, tell_of,
};
use crate::session::lifecycle::User;
use crate::session::proto::exec_request::Request;
use crate::session::proto::session_event::Event;
use crate::session::proto::{self, Begin, ExecRequest};
use crate::session::sandbox::How;
use crate::session::server::Session;
use crate::sync::report::{Report, changes};

/// Time between the steps of a cancel.
const GRACE: Duration = Duration::from_secs(5);
/// Pieces of input that wait for the command.
const INPUT_WAITING_MAX: usize = 4;

/// What a client's death, TERM or hang-up mean for its command, so that it can end cleanly.
const SIGINT: u32 = 2;
const SIGTERM: u32 = 15;

/// What a client wants of its running command.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// Signals asked for so far.
    pub count: u32,
    /// The last one.
    pub signal: u32,
    /// Stop it, whatever it takes.
    pub cancel: bool,
}

/// The wishes of all running `Exec`s, by their ids.
pub type Wishes = HashMap<Vec<u8>, watch::Sender<Wish>>;

/// How an `Exec` ended.
enum End {
    /// It ran; what could not be brought home, if anything.
    Ran,
    /// It did not run, or its outcome is not known.
    Failed(CliError),
}

/// Runs one `Exec` from its first request to its last event.
pub async fn run(
    session: Arc<Session>,
    begin: Begin,
    requests: Streaming<ExecRequest>,
    wishes: watch::Receiver<Wish>,
    events: Events,
) {
    let clock = Clock::start();
    let mut exec =
        Exec { session: Arc::clone(&session), begin, wishes, events: events.clone(), clock };
    let (end, report) = exec.all(requests).await;
    if !exec.begin.exclude.is_empty() {
        // They were this command's; a mirror goes on with its own.
        session.restore_patterns().await;
    }
    let (left, gone) = session.leave(User::Command).await;
    exec.clock.timings.removal_us = exec.clock.lap();
    if let Err(error) = gone {
        events.note(format!("warning: {error}")).await;
    }
    let finished = proto::Finished {
        sync: report.as_ref().map(summary),
        ending: left.ending.clone(),
        kept: left.kept.unwrap_or_default(),
        timings: Some(exec.clock.timings),
        goes_on: left.goes_on,
    };
    match end {
        End::Ran => events.send(Event::Finished(finished)).await,
        End::Failed(error) => {
            events.send(failure(error)).await && events.send(Event::Finished(finished)).await
        }
    };
    session.forget_wish(&exec.begin.id);
    if !left.ending.is_empty() {
        events.read_to_the_end().await;
        session.end();
    }
}

struct Exec {
    session: Arc<Session>,
    begin: Begin,
    wishes: watch::Receiver<Wish>,
    events: Events,
    clock: Clock,
}

/// Where the time goes, phase by phase.
struct Clock {
    since: Instant,
    timings: proto::Timings,
}

impl Clock {
    fn start() -> Self {
        Self { since: Instant::now(), timings: proto::Timings::default() }
    }

    /// Microseconds since the phase before.
    fn lap(&mut self) -> u64 {
        let now = Instant::now();
        let lap = now - std::mem::replace(&mut self.since, now);
        u64::try_from(lap.as_micros()).unwrap_or(u64::MAX)
    }
}

impl Exec {
    async fn all(&mut self, requests: Streaming<ExecRequest>) -> (End, Option<Report>) {
        let prepared = tokio::select! {
            prepared = prepare(&self.session, &self.begin, &self.events, &mut self.clock) => prepared,
            // Nothing has started: giving up is safe.
            () = given_up(self.wishes.clone()) => Err(interrupted("the command started")),
            () = self.events.gone() => Err(interrupted("the command started")),
        };
        let (link, sandbox, report) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return (End::Failed(error.not_started()), None),
        };
        let end = self.operation(&link, &sandbox, requests).await;
        self.clock.timings.command_us = self.clock.lap();
        // Results come home whatever the outcome.
        let out = sync_out(&self.session, &self.events).await;
        self.clock.timings.sync_out_us = self.clock.lap();
        match out {
            Ok(out) => (end, Some(merged(report, out))),
            Err(error) => match end {
                End::Ran => (End::Failed(error), Some(report)),
                End::Failed(first) => (End::Failed(first), Some(report)),
            },
        }
    }

    /// Starts the command and carries its streams until it has ended.
    async fn operation(
        &mut self,
        link: &Link,
        sandbox: &crate::driver::Sandbox,
        requests: Streaming<ExecRequest>,
    ) -> End {
        let mut client = link.client.clone();
        let reply = match client.start(self.start_request(&sandbox.root)).await {
            Ok(reply) => reply.into_inner(),
            Err(status) => return End::Failed(agent_error(&status).not_started()),
        };
        if let Some(error) = refused(&reply) {
            return End::Failed(error);
        }
        let started = proto::Started { pid: reply.pid, sandbox: sandbox.name.clone() };
        self.events.send(Event::Started(started)).await;
        let input = tokio::spawn(feed(client.clone(), self.begin.id.clone(), requests));
        let exit = tokio::select! {
            exit = self.carry(&mut client) => exit,
            () = link.closed() => None,
        };
        input.abort();
        match exit {
            Some(exit) => {
                self.events.send(Event::Exit(exit)).await;
                End::Ran
            }
            None => End::Failed(self.lost(sandbox).await),
        }
    }

    /// The link ended under a running command.
    async fn lost(&self, sandbox: &crate::driver::Sandbox) -> CliError {
        let why = self.session.sandbox_lost(sandbox).await;
        CliError::new(
            ExitCode::OutcomeUnknown,
            format!("{why}; the command had started and its outcome is not known"),
        )
        .hint("what it had written is not on the host; run it again in a new sandbox")
    }

    /// Carries output to the client and wishes to the command; the exit, or nothing if the link
    /// broke.
    async fn carry(&mut self, client: &mut AgentClient<Channel>) -> Option<proto::Exit> {
        let id = self.begin.id.clone();
        let request = agent::OutputRequest { id: id.clone() };
        let mut frames = client.output(request).await.ok()?.into_inner();
        let events = self.events.clone();
        let output = async move {
            loop {
                let frame = frames.message().await.ok()??;
                if let Some(exit) = frame.exit {
                    return Some(exit);
                }
                let (stream, data) = (frame.stream.cast_unsigned(), frame.data);
                // If the client is gone the command's output is read and dropped, so that it can
                // end.
                events.send(Event::Output(proto::Output { stream, data })).await;
            }
        };
        let mut output = std::pin::pin!(output);
        let mut seen = Wish::default();
        let mut abandoned = false;
        loop {
            tokio::select! {
                exit = &mut output => return exit.map(exit_to_client),
                wish = next_wish(&mut self.wishes) => {
                    obey(client, &id, seen, wish).await;
                    seen = wish;
                }
                () = self.events.gone(), if !abandoned => {
                    abandoned = true;
                    cancel(client, &id, SIGINT);
                }
            }
        }
    }

    fn start_request(&self, root: &std::path::Path) -> StartRequest {
        use std::os::unix::ffi::OsStrExt;
        let directory = if self.begin.sandbox_directory.is_empty() {
            root.join(std::ffi::OsStr::from_bytes(&self.begin.directory))
        } else {
            std::ffi::OsStr::from_bytes(&self.begin.sandbox_directory).into()
        };
        // A trailing slash, from joining nothing, would show in `pwd`.
        let directory: std::path::PathBuf = directory.components().collect();
        let profile = self.session.profile().env.iter();
        let of_profile = profile.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let of_client = self.begin.environment.iter().map(|v| (&v.name[..], &v.value[..]));
        let environment = of_profile.chain(of_client).map(|(name, value)| agent::Variable {
            name: name.to_vec(),
            value: crate::session::paths::map(value, &self.session.root(), root),
        });
        StartRequest {
            id: self.begin.id.clone(),
            argv: self.begin.argv.clone(),
            directory: directory.as_os_str().as_bytes().to_vec(),
            environment: environment.collect(),
        }
    }
}

/// Brings the sandbox up if there is none, and everything of the host into it.
async fn prepare(
    session: &Arc<Session>,
    begin: &Begin,
    events: &Events,
    clock: &mut Clock,
) -> Result<(Link, crate::driver::Sandbox, Report), CliError> {
    if session.is_paused() {
        return Err(paused("its command would not see the files as they are"));
    }
    let tell = events.clone();
    let progress =
        move |progress: Progress| tell.offer(Event::Progress(progress_to_client(progress)));
    session.ensure_live(&begin.exclude, &progress).await?;
    clock.timings.sandbox_us = clock.lap();
    let (report, link, sandbox) = session.synchronise(Some(events), How::Whole).await?;
    clock.timings.sync_in_us = clock.lap();
    if report.no_space[1] {
        let open = changes(report.open[1]);
        return Err(CliError::new(
            ExitCode::Exhausted,
            format!("the sandbox's disk is full: no room for {open} of the host"),
        )
        .hint("give the sandbox more room, or exclude what it does not need (`--exclude`)")
        .hint("the profile's `root` puts the project elsewhere in it: `/dev/shm` is small there"));
    }
    tell_of(&report, events).await;
    Ok((link, sandbox, report))
}

async fn sync_out(session: &Arc<Session>, events: &Events) -> Result<Report, CliError> {
    if !session.is_live().await {
        // The sandbox is gone, and that has been said.
        return Ok(Report::default());
    }
    if session.is_paused() {
        return Err(paused("what the command wrote is still in the sandbox"));
    }
    let is_last = session.life(|life| life.is_last());
    let how = if is_last { How::Last } else { How::Whole };
    let (report, ..) = session.synchronise(Some(events), how).await.map_err(|error| {
        error.hint(
            "the sandbox is kept with what the command wrote; run any `skync exec` to try again",
        )
    })?;
    tell_of(&report, events).await;
    // A script must not go on without results that it was promised.
    if report.failed[0] > 0 && !report.is_one_way {
        let failed = changes(report.failed[0]);
        let (code, message) = if report.no_space[0] {
            let message = format!("the host's disk is full: no room for {failed} of the sandbox");
            (ExitCode::Exhausted, message)
        } else {
            let message = format!("{failed} of the sandbox could not be written on the host");
            (ExitCode::Failed, message)
        };
        return Err(CliError::new(code, message).hint(
            "the sandbox is kept: once there is room, or it may be written, run any `skync exec`",
        ));
    }
    Ok(report)
}

/// Paused means that nothing moves, and a command is ordered between two synchronisations: it
/// neither moves files behind the back of who paused, nor runs on files that are not those here.
fn paused(so: &str) -> CliError {
    CliError::new(ExitCode::Conflict, format!("the mirror is paused: {so}"))
        .hint("`skync resume` goes on")
}

fn merged(first: Report, second: Report) -> Report {
    Report {
        sent: (first.sent.0 + second.sent.0, first.sent.1 + second.sent.1),
        received: (first.received.0 + second.received.0, first.received.1 + second.received.1),
        removed: [first.removed[0] + second.removed[0], first.removed[1] + second.removed[1]],
        moved: Vec::new(),
        ..second
    }
}

/// Takes the client's input to the command; ends with either.
async fn feed(mut client: AgentClient<Channel>, id: Vec<u8>, mut requests: Streaming<ExecRequest>) {
    let (send, receive) = mpsc::channel(INPUT_WAITING_MAX);
    let forward = async move {
        let mut offset = 0;
        while let Ok(Some(request)) = requests.message().await {
            let Some(Request::Input(input)) = request.request else { continue };
            let (data, eof) = (input.data, input.eof);
            let length = data.len() as u64;
            let frame = agent::InputFrame { id: id.clone(), offset, data, eof };
            offset += length;
            if send.send(frame).await.is_err() || eof {
                return;
            }
        }
    };
    let (_, _) = tokio::join!(forward, client.input(ReceiverStream::new(receive)));
}

/// The client's next wish; never, once it cannot have one any more.
async fn next_wish(wishes: &mut watch::Receiver<Wish>) -> Wish {
    if wishes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    *wishes.borrow_and_update()
}

/// Returns when the client has any wish: before a command has started, they all mean to give up.
pub(super) async fn given_up(mut wishes: watch::Receiver<Wish>) {
    next_wish(&mut wishes).await;
}

async fn obey(client: &mut AgentClient<Channel>, id: &[u8], seen: Wish, wish: Wish) {
    if wish.cancel && !seen.cancel {
        // TERM and hang-up of the client are told as INT first, so that the command can end
        // cleanly. A second Ctrl-C has no signal of its own: INT has been tried.
        let told = wish.count > seen.count;
        cancel(client, id, if told { SIGINT } else { SIGTERM });
    } else if wish.count > seen.count {
        let request = agent::SignalRequest { id: id.to_vec(), signal: wish.signal };
        if let Err(error) = client.signal(request).await {
            tracing::warn!(%error, "a signal did not reach the command");
        }
    }
}

/// Cancels beside the output that is being carried: it takes as long as the command's grace.
fn cancel(client: &AgentClient<Channel>, id: &[u8], signal: u32) {
    let mut client = client.clone();
    let grace_ms = u32::try_from(GRACE.as_millis()).unwrap_or(u32::MAX);
    let request = agent::CancelRequest { id: id.to_vec(), signal, grace_ms };
    tokio::spawn(async move {
        match client.cancel(request).await {
            Ok(reply) => tracing::info!(stopped = reply.get_ref().stopped, "cancelled"),
            Err(error) => tracing::warn!(%error, "the cancel did not get through"),
        }
    });
}

/// Why the agent would not run the command, with the exit code that POSIX gives it.
fn refused(reply: &agent::StartReply) -> Option<CliError> {
    let error = match reply.failure() {
        StartFailure::StartOk => return None,
        StartFailure::StartNotFound => CliError::new(ExitCode::CommandNotFound, &reply.message),
        StartFailure::StartNotExecutable => CliError::new(ExitCode::NotExecutable, &reply.message),
        StartFailure::StartNoDirectory => CliError::new(ExitCode::NotStarted, &reply.message)
            .hint("`--workdir DIR` names another directory of the sandbox"),
        StartFailure::StartFailed => CliError::new(ExitCode::NotStarted, &reply.message),
    };
    Some(error)
}

fn agent_error(status: &Status) -> CliError {
    CliError::new(ExitCode::Failed, format!("the agent failed: {}", status.message()))
}

/// Interrupted before that.
pub(super) fn interrupted(before: &str) -> CliError {
    CliError::new(ExitCode::Interrupted, format!("interrupted before {before}"))
}
