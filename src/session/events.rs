//! What a session tells a client: events, progress, and what a person should know.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skync_agent::proto as agent;
use tokio::sync::mpsc;
use tonic::Status;

use crate::driver::Progress;
use crate::error::CliError;
use crate::operation::ExitRecord;
use crate::session::proto::session_event::Event;
use crate::session::proto::{self, SessionEvent};
use crate::sync::plan::{NoteKind, Side};
use crate::sync::report::Report;
use crate::sync::transfer::Counters;

/// Between two looks at how far a transfer is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// How long a client may take to read the last event.
const GOODBYE: Duration = Duration::from_secs(2);
/// Events between who notes them and who gathers them.
const NOTES_WAITING_MAX: usize = 16;
/// Paths that are named one by one; the rest is counted.
const PATHS_SHOWN_MAX: usize = 20;

/// The events of one call, on their way to its client.
#[derive(Clone)]
pub struct Events {
    send: mpsc::Sender<Result<SessionEvent, Status>>,
    /// What has been noted: what holds before the command and after it is told once.
    noted: Arc<Mutex<HashSet<String>>>,
}

impl Events {
    /// Over a channel to the client.
    pub fn new(send: mpsc::Sender<Result<SessionEvent, Status>>) -> Self {
        Self { send, noted: Arc::default() }
    }

    /// Events that no client is told at once, and what is noted among them.
    pub(super) fn collecting() -> (Self, Collected) {
        let (send, mut receive) = mpsc::channel(NOTES_WAITING_MAX);
        let notes = tokio::spawn(async move {
            let mut notes = Vec::new();
            while let Some(told) = receive.recv().await {
                if let Ok(SessionEvent { event: Some(Event::Note(note)) }) = told {
                    notes.push(note);
                }
            }
            notes
        });
        (Self::new(send), Collected(notes))
    }

    /// Sends an event; false if the client is gone.
    pub async fn send(&self, event: Event) -> bool {
        self.send.send(Ok(SessionEvent { event: Some(event) })).await.is_ok()
    }

    /// Sends an event if there is room: for progress, of which any may be missed.
    pub(super) fn offer(&self, event: Event) {
        let _ = self.send.try_send(Ok(SessionEvent { event: Some(event) }));
    }

    pub(super) async fn note(&self, text: String) {
        // The set is whole after any panic: an insert is one call.
        if !self.noted.lock().unwrap_or_else(PoisonError::into_inner).insert(text.clone()) {
            return;
        }
        self.send(Event::Note(text)).await;
    }

    pub(super) async fn gone(&self) {
        self.send.closed().await;
    }

    /// Waits until the client has taken the last event and hung up: a session that ends before
    /// would take the event with it.
    pub async fn read_to_the_end(&self) {
        let _ = tokio::time::timeout(GOODBYE, self.gone()).await;
    }
}

/// What is noted for later.
pub(super) struct Collected(tokio::task::JoinHandle<Vec<String>>);

impl Collected {
    /// All of it, once there are no more events.
    pub(super) async fn notes(self) -> Vec<String> {
        self.0.await.unwrap_or_default()
    }
}

/// Tells a transfer's progress while `work` runs, if that takes a while.
pub(super) async fn with_progress<T>(
    counters: &Counters,
    tell: impl Fn(proto::Progress),
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    let now = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let Counters { files_total, files, bytes_total, bytes, .. } = counters;
    let before = [files_total, files, bytes_total, bytes].map(now);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(PROGRESS_INTERVAL) => {}
        }
        let after = [files_total, files, bytes_total, bytes].map(now);
        let [files_total, files, bytes_total, bytes] =
            std::array::from_fn(|at| after[at].saturating_sub(before[at]));
        if files_total > 0 {
            tell(proto::Progress {
                step: format!("syncing {files_total} files"),
                done: bytes,
                total: bytes_total,
                bytes: true,
                files,
                files_total,
            });
        }
    }
}

/// Notes what a person should know of a synchronisation.
pub(super) async fn tell_of(report: &Report, events: &Events) {
    let problems = report.problems.iter();
    let mut lines: Vec<String> = problems
        .map(|problem| {
            format!("warning: not synced: {} ({}): {}", problem.path, problem.side, problem.reason)
        })
        .collect();
    lines.extend(report.conflicts.iter().map(|conflict| {
        format!("warning: conflict: {}: {}; both versions are kept", conflict.path, conflict.kind)
    }));
    lines.extend(notes_of(report));
    tell_lines(lines, events).await;
}

/// Tells lines, as many as a person would read.
pub(super) async fn tell_lines(mut lines: Vec<String>, events: &Events) {
    let more = lines.len().saturating_sub(PATHS_SHOWN_MAX);
    lines.truncate(PATHS_SHOWN_MAX);
    for line in lines {
        events.note(line).await;
    }
    if more > 0 {
        events.note(format!("… and {more} more")).await;
    }
}

/// The decisions of a synchronisation that a person should hear about, one line each.
pub(super) fn notes_of(report: &Report) -> Vec<String> {
    let lines = report.notes.iter().map(|note| match note.kind {
        NoteKind::ChangeKept { deleted_on: Side::Host } => {
            format!("note: {} was deleted on the host and changed in the sandbox: kept", note.path)
        }
        NoteKind::ChangeKept { deleted_on: Side::Sandbox } => {
            format!("note: {} was deleted in the sandbox and changed on the host: kept", note.path)
        }
        NoteKind::HostWon => {
            format!("note: {}: the host's version replaced the sandbox's", note.path)
        }
        NoteKind::RestKept { kept_on: Side::Host } => format!(
            "note: {} was deleted in the sandbox and stays on the host, with what is excluded",
            note.path
        ),
        NoteKind::RestKept { kept_on: Side::Sandbox } => format!(
            "note: {} was deleted on the host and stays in the sandbox, with what is excluded",
            note.path
        ),
    });
    lines.collect()
}

pub(super) fn summary(report: &Report) -> proto::SyncSummary {
    proto::SyncSummary {
        files_sent: report.sent.0,
        bytes_sent: report.sent.1,
        files_received: report.received.0,
        bytes_received: report.received.1,
        removed_in_sandbox: report.removed[1],
        removed_on_host: report.removed[0],
        conflicts: report.conflicts.iter().map(|conflict| conflict.path.to_string()).collect(),
        problems: report.problems.iter().map(|p| format!("{}: {}", p.path, p.reason)).collect(),
    }
}

/// What went wrong, on the side of skync.
pub(super) fn failure(error: CliError) -> Event {
    Event::Failure(failure_of(error))
}

/// The same without the event.
pub(super) fn failure_of(error: CliError) -> proto::Failure {
    let (code, message) = (error.code as u32, error.to_string());
    proto::Failure { code, message, hints: error.hints, details: error.details }
}

pub(super) fn exit_to_client(exit: agent::Exit) -> proto::Exit {
    proto::Exit {
        code: exit.code,
        signal: exit.signal,
        out_of_memory: exit.out_of_memory,
        memory_limit: exit.memory_limit,
        stopped: exit.stopped,
        survivors: exit.survivors,
        timed_out: exit.timed_out,
        cancelled: exit.cancelled,
        started_ms: exit.started_ms,
        ended_ms: exit.ended_ms,
        output_bytes: exit.output_bytes,
        lost_bytes: exit.lost_bytes,
        input_bytes: exit.input_bytes,
    }
}

impl From<&proto::Exit> for ExitRecord {
    fn from(exit: &proto::Exit) -> Self {
        Self {
            code: exit.code,
            signal: exit.signal,
            out_of_memory: exit.out_of_memory,
            memory_limit: exit.memory_limit,
            stopped: exit.stopped,
            survivors: exit.survivors,
            timed_out: exit.timed_out,
            cancelled: exit.cancelled,
            started_ms: exit.started_ms,
            ended_ms: exit.ended_ms,
            output_bytes: exit.output_bytes,
            lost_bytes: exit.lost_bytes,
            input_bytes: exit.input_bytes,
        }
    }
}

impl From<&ExitRecord> for proto::Exit {
    fn from(exit: &ExitRecord) -> Self {
        Self {
            code: exit.code,
            signal: exit.signal,
            out_of_memory: exit.out_of_memory,
            memory_limit: exit.memory_limit,
            stopped: exit.stopped,
            survivors: exit.survivors,
            timed_out: exit.timed_out,
            cancelled: exit.cancelled,
            started_ms: exit.started_ms,
            ended_ms: exit.ended_ms,
            output_bytes: exit.output_bytes,
            lost_bytes: exit.lost_bytes,
            input_bytes: exit.input_bytes,
        }
    }
}

pub(super) fn progress_to_client(progress: Progress) -> proto::Progress {
    match progress {
        Progress::Step(step) => proto::Progress { step, ..proto::Progress::default() },
        Progress::Bytes { done, total } => {
            let total = total.unwrap_or(0);
            proto::Progress { done, total, bytes: true, ..proto::Progress::default() }
        }
    }
}
