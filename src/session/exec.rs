//! One operation, in the session: sync in, run, sync out, and the sandbox goes if nobody else needs
//! it.
//!
//! It runs as a task of its own, so that a client that dies takes nothing with it: the command
//! goes on, results come home, and what nobody needs is removed. What the client sees of it is
//! in `attach`.

mod sync;

use std::sync::Arc;
use std::time::{Duration, Instant};

use skync_agent::proto::{self as agent, StartFailure, StartRequest, StateNumber};
use tokio::sync::{oneshot, watch};

use self::sync::{UsedLink, prepare, sync_out};
use crate::config::quantity::milliseconds;
use crate::driver::Sandbox;
use crate::error::{CliError, ExitCode};
use crate::operation::{ExitRecord, RecordState};
use crate::session::archive;
use crate::session::attach::{self, Joined};
use crate::session::events::{Events, exit_to_client, failure_of, summary};
use crate::session::lifecycle::User;
use crate::session::operations::{Operation, Over, Phase, Place};
use crate::session::proto::{self, OperationState};
use crate::session::server::{Session, now_ms};
use crate::session::supervise::{End, call, detach, to_the_end};
use crate::session::ways::Way;
use crate::session::wish::{Wish, given_up, interrupted};
use crate::sync::report::Report;

/// How long a lost link is waited for before results are left in the sandbox.
const HOME_PATIENCE: Duration = Duration::from_secs(600);
/// How long clients may take to hear of the end.
const GOODBYE: Duration = Duration::from_secs(2);

/// The client that asks for an operation.
pub(super) struct Creator {
    /// What it is told before its command starts.
    pub(super) events: Events,
    /// It is attached to the command as that starts.
    pub(super) joined: oneshot::Sender<Joined>,
}

/// How the first part of an operation ended.
enum Begun {
    /// It runs.
    Running(Place, Report),
    /// It did not start.
    Not(CliError, Option<Report>),
}

/// Runs one operation from its request to its end. `creator` is told of what comes before its start.
pub(super) async fn run(
    session: Arc<Session>,
    operation: Arc<Operation>,
    wishes: watch::Receiver<Wish>,
    creator: Creator,
) {
    let clock = Clock::start();
    let mut exec = Exec { session: Arc::clone(&session), operation, wishes, clock };
    let (over, report) = match Box::pin(exec.begin(creator)).await {
        Begun::Running(place, report) => exec.carry_through(place, report).await,
        Begun::Not(error, report) => {
            exec.write_down(RecordState::Refused, &error.to_string(), None);
            (Over { failure: Some(failure_of(error)), ..Over::default() }, report)
        }
    };
    exec.leave(over, report).await;
}

/// Goes on with an operation that an earlier process of the session started.
pub(super) async fn go_on(
    session: Arc<Session>,
    operation: Arc<Operation>,
    wishes: watch::Receiver<Wish>,
) {
    let Some(place) = operation.place() else { return };
    let clock = Clock::start();
    let mut exec = Exec { session, operation, wishes, clock };
    let (over, report) = exec.carry_through(place, Report::default()).await;
    exec.leave(over, report).await;
}

struct Exec {
    session: Arc<Session>,
    operation: Arc<Operation>,
    wishes: watch::Receiver<Wish>,
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
    /// Everything up to the command's start.
    async fn begin(&mut self, creator: Creator) -> Begun {
        let Creator { events, joined } = creator;
        let prepared = tokio::select! {
            prepared = prepare(&self.session, &self.operation, &events, &mut self.clock) => prepared,
            // Nothing has started: giving up is safe.
            () = given_up(self.wishes.clone()) => Err(interrupted("the command started")),
            () = events.gone() => Err(interrupted("the command started")),
        };
        let (sandbox, report) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Begun::Not(error.not_started(), None),
        };
        self.operation.record().sandbox.clone_from(&sandbox.name);
        // Whoever finds it written down must not start it once more.
        let record = self.operation.record().clone();
        if let Err(error) = self.session.store.begin(&record) {
            let error = crate::session::errors::state_error(&error).not_started();
            return Begun::Not(error, Some(report));
        }
        match self.start(&sandbox, joined).await {
            Ok(pid) => {
                let place = Place { pid, sandbox };
                self.operation.phase.send_replace(Phase::Running(place.clone()));
                Begun::Running(place, report)
            }
            Err(error) => {
                self.clock.timings.command_us = self.clock.lap();
                Begun::Not(error, Some(report))
            }
        }
    }

    /// Starts the command, with its client attached. Asked again after a reply that was lost it
    /// starts nothing.
    async fn start(
        &self,
        sandbox: &Sandbox,
        hand_over: oneshot::Sender<Joined>,
    ) -> Result<u32, CliError> {
        let request = self.start_request(&sandbox.root);
        let answer = call(&self.session, &sandbox.id, |mut client| {
            let request = request.clone();
            async move {
                if request.detached {
                    let reply = client.start(request).await?.into_inner();
                    return Ok(tonic::Response::new((reply, None)));
                }
                let (reply, joined) = attach::start(client, request).await?;
                Ok(tonic::Response::new((reply, Some(joined))))
            }
        });
        match answer.await {
            Some(Ok((reply, joined))) => {
                if let Some(error) = refused(&reply) {
                    return Err(error);
                }
                if let Some(joined) = joined {
                    // A client that has gone leaves with it.
                    let _ = hand_over.send(joined);
                }
                Ok(reply.pid)
            }
            Some(Err(status)) => {
                let message = format!("the agent failed: {}", status.message());
                Err(CliError::new(ExitCode::NotStarted, message).hint("it is safe to try again"))
            }
            None => Err(outcome_unknown("the sandbox went away while the command was started")),
        }
    }

    /// Everything from the command's start on.
    async fn carry_through(&mut self, place: Place, before: Report) -> (Over, Option<Report>) {
        let end = to_the_end(&self.session, &self.operation, &place, self.wishes.clone()).await;
        self.clock.timings.command_us = self.clock.lap();
        let (exit, told, lost) = match end {
            End::Exited(exit) => (Some(exit_to_client(exit)), exit.state, None),
            End::Lost(why) => (None, None, Some(why)),
        };
        self.operation.phase.send_replace(Phase::Ending(place, exit));
        // Results come home whatever the outcome.
        let mut notes = Vec::new();
        let out = tokio::select! {
            out = self.results_home(told, &mut notes) => out,
            () = self.operation.given_up() => Ok(Report::default()),
        };
        self.clock.timings.sync_out_us = self.clock.lap();
        if exit.is_some() {
            self.all_read().await;
        }
        archive::keep(&self.session, &self.operation).await;
        let (state, why) = match &lost {
            Some(why) => (RecordState::Lost, why.as_str()),
            None => (RecordState::Ended, ""),
        };
        self.write_down(state, why, exit.as_ref());
        if exit.is_some() {
            // Whoever comes back to it finds what is written down.
            archive::forget(&self.session, &self.operation);
        }
        let (failed, report) = match out {
            Ok(out) => (None, merged(before, out)),
            Err(error) => (Some(error), before),
        };
        let lost = lost.map(|why| {
            outcome_unknown(&format!("{why}; the command had started and its outcome is not known"))
                .hint("what it had written there is not on the host if the sandbox is gone")
        });
        let over =
            Over { exit, failure: lost.or(failed).map(failure_of), notes, ..Over::default() };
        (over, Some(report))
    }

    /// Returns when no client needs the spool in the sandbox any more. One may be behind: its link
    /// was lost, or it reads slowly.
    async fn all_read(&self) {
        let mut ways = self.session.ways.subscribe();
        tokio::select! {
            () = self.operation.all_read() => {}
            () = self.operation.given_up() => {}
            _ = ways.wait_for(|way| matches!(way, Way::None | Way::Gone(_))) => {}
        }
    }

    /// Brings results home, over the next link if the present one ends.
    async fn results_home(
        &self,
        told: Option<StateNumber>,
        notes: &mut Vec<String>,
    ) -> Result<Report, CliError> {
        let deadline = tokio::time::Instant::now() + HOME_PATIENCE;
        loop {
            let (events, collected) = Events::collecting();
            let used = UsedLink::of(&self.session);
            let done = sync_out(&self.session, told, &events).await;
            drop(events);
            let error = match done {
                Ok(report) => {
                    notes.extend(collected.notes().await);
                    return Ok(report);
                }
                Err(error) => error,
            };
            if !used.has_ended(&self.session).await {
                notes.extend(collected.notes().await);
                return Err(error);
            }
            if !self.session.ways.is_mended_until(deadline).await {
                return Err(error);
            }
        }
    }

    /// Leaves the session and tells the clients that are there; ends the session with its last user.
    async fn leave(mut self, mut over: Over, report: Option<Report>) {
        let (session, operation) = (Arc::clone(&self.session), Arc::clone(&self.operation));
        if !operation.begin.exclude.is_empty() {
            // They were this command's; a mirror goes on with its own.
            session.restore_patterns().await;
        }
        let (left, gone) = session.leave(User::Command).await;
        self.clock.timings.removal_us = self.clock.lap();
        if let Err(error) = gone {
            let hints = error.hints.iter().map(|hint| format!("; {hint}"));
            over.notes.push(format!("warning: {error}{}", hints.collect::<String>()));
        }
        over.state = match (&over.exit, &over.failure) {
            (Some(_), _) => OperationState::OperationEnded,
            (None, Some(failure)) if failure.code == ExitCode::OutcomeUnknown as u32 => {
                OperationState::OperationLost
            }
            (None, _) => OperationState::OperationNone,
        };
        over.finished = proto::Finished {
            sync: report.as_ref().map(summary),
            ending: left.ending.clone(),
            kept: left.kept.unwrap_or_default(),
            timings: Some(self.clock.timings),
            goes_on: left.goes_on,
            operation: over.state.into(),
            ..proto::Finished::default()
        };
        operation.phase.send_replace(Phase::Over(Arc::new(over)));
        let mut presence = operation.presence.subscribe();
        let heard = presence.wait_for(|presence| presence.clients == 0);
        if tokio::time::timeout(GOODBYE, heard).await.is_err() {
            tracing::info!("a client has not heard of the end of its operation");
        }
        session.forget_operation(operation.id);
        if !left.ending.is_empty() {
            session.end();
        }
    }

    fn write_down(&self, state: RecordState, why: &str, exit: Option<&proto::Exit>) {
        let mut record = self.operation.record();
        record.state = state;
        why.clone_into(&mut record.why);
        record.ended_ms = now_ms();
        record.exit = exit.map(ExitRecord::from);
        if state == RecordState::Refused && !self.session.store.knows(record.id) {
            // It never got so far that somebody would look for it.
            return;
        }
        let store = &self.session.store;
        let written = store.finish(&record).or_else(|error| {
            // How it ended is worth more than what it wrote, which may be what fills the disk.
            tracing::warn!(%error, "the output of an operation is given up for its record");
            store.remove(record.id).and_then(|()| store.finish(&record))
        });
        if let Err(error) = written {
            tracing::warn!(%error, "the end of an operation could not be written down");
        }
    }

    fn start_request(&self, root: &std::path::Path) -> StartRequest {
        use std::os::unix::ffi::OsStrExt;
        let begin = &self.operation.begin;
        let directory = if begin.sandbox_directory.is_empty() {
            root.join(std::ffi::OsStr::from_bytes(&begin.directory))
        } else {
            std::ffi::OsStr::from_bytes(&begin.sandbox_directory).into()
        };
        // A trailing slash, from joining nothing, would show in `pwd`.
        let directory: std::path::PathBuf = directory.components().collect();
        let profile = self.session.profile();
        let of_profile =
            profile.env.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let of_client = begin.environment.iter().map(|v| (&v.name[..], &v.value[..]));
        let environment = of_profile.chain(of_client).map(|(name, value)| agent::Variable {
            name: name.to_vec(),
            value: crate::session::paths::map(value, &self.session.root(), root),
        });
        let timeout_ms = match begin.timeout_ms {
            0 => profile.max_runtime.map_or(0, milliseconds),
            ms => ms,
        };
        let terminal = begin
            .terminal
            .map(|size| agent::TerminalSize { rows: size.rows, columns: size.columns });
        StartRequest {
            id: begin.id.clone(),
            argv: begin.argv.clone(),
            directory: directory.as_os_str().as_bytes().to_vec(),
            environment: environment.collect(),
            terminal,
            no_input: begin.no_input || begin.detach,
            detached: begin.detach,
            timeout_ms,
            grace_ms: if begin.grace_ms == 0 { GRACE_MS } else { begin.grace_ms },
            spool_bytes: begin.spool_bytes,
        }
    }
}

pub(super) const GRACE_MS: u32 = 5000;

/// Lets an operation go on although its client leaves, and writes that down.
pub(super) async fn let_go(session: &Session, operation: &Operation) {
    detach(session, operation).await;
    let record = operation.record().clone();
    if operation.place().is_some()
        && let Err(error) = session.store.begin(&record)
    {
        tracing::warn!(%error, "that an operation goes on could not be written down");
    }
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

/// It started, and nobody can say how it ended.
pub(super) fn outcome_unknown(why: &str) -> CliError {
    CliError::new(ExitCode::OutcomeUnknown, why)
}

/// Why the agent would not run the command, with the exit code that POSIX gives it.
fn refused(reply: &agent::StartReply) -> Option<CliError> {
    let error = match reply.failure() {
        StartFailure::StartOk => return None,
        StartFailure::StartNotFound => CliError::new(ExitCode::CommandNotFound, &reply.message)
            .hint(
                "`setup` in the profile installs programs; what is excluded (`.venv/`, `node_modules/`) \
                 is made in the sandbox",
            ),
        StartFailure::StartNotExecutable => CliError::new(ExitCode::NotExecutable, &reply.message)
            .hint("`skync exec ls -l FILE` shows what it is, and who may execute it"),
        StartFailure::StartNoDirectory => CliError::new(ExitCode::NotStarted, &reply.message)
            .hint("`--workdir DIR` names another directory of the sandbox"),
        StartFailure::StartFailed => CliError::new(ExitCode::NotStarted, &reply.message)
            .hint("`skync doctor` looks for what may be wrong; it is safe to try again"),
    };
    Some(error)
}
