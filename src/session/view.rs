//! What a session shows of itself: pure, and always at hand.
//!
//! It is kept beside the sandbox's state, so that `status` answers while something is being
//! synchronised. All of it is what goes to clients, so it is kept in the shape that goes to them.

use std::collections::VecDeque;
use std::time::Duration;

use crate::session::lifecycle::{Lifecycle, Mirror};
use crate::session::proto::{self, Moved, MovedBatch, State, StatusReply, Totals};
use crate::sync::engine::Overview;
use crate::sync::plan::Side;
use crate::sync::report::{Report, changes};

#[cfg(test)]
mod tests;

/// Conflicts and problems that are shown one by one; the rest is counted.
pub const LISTED_MAX: usize = 100;
/// Paths of a batch that are named one by one; the rest is counted.
pub const BATCH_MOVED_MAX: usize = 100;
/// Changes that are remembered.
const RECENT_MAX: usize = 50;
/// Batches whose lag is remembered.
const LAGS_MAX: usize = 50;

/// What is being done, whatever a pause or the lack of a mirror make of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Activity {
    /// Nothing has been synchronised yet.
    #[default]
    Starting,
    /// Both sides are as they should be, as far as is known.
    Settled,
    /// A person must say, and why.
    Halted(String),
    /// A side has no room: tried again in a while.
    Full(String),
    /// It failed, and why: tried again in a while.
    Failed(String),
    /// The link or the sandbox is gone, and what is being done about it.
    Reconnecting(String),
}

/// What a session shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// For clients; kept up to date by every change.
    pub reply: StatusReply,
    activity: Activity,
    mirror: Mirror,
    lags_us: VecDeque<u64>,
}

impl View {
    /// Of a session that has just started; only the constant facts are in it.
    pub fn new(reply: StatusReply) -> Self {
        Self { reply, ..Self::default() }
    }

    /// What is being done.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Users have come or gone.
    pub fn lived(&mut self, life: &Lifecycle) {
        self.reply.operations = life.commands();
        self.reply.ups = life.ups();
        self.reply.hold = life.is_held();
        self.reply.kept = life.kept().unwrap_or_default().to_owned();
        self.mirror = life.mirror();
        self.settle();
    }

    /// Something else is being done now.
    pub fn act(&mut self, activity: Activity) {
        self.activity = activity;
        self.settle();
    }

    /// How far a step is that takes a while; nothing when it is over.
    pub fn progress(&mut self, progress: Option<proto::Progress>) {
        self.reply.progress = progress;
        self.settle();
    }

    /// The sandbox and the link are these now. `now_ms` since 1970.
    pub fn linked(&mut self, sandbox: Option<&str>, up: bool, now_ms: u64) {
        sandbox.unwrap_or_default().clone_into(&mut self.reply.sandbox);
        if self.reply.link_up != up {
            (self.reply.link_up, self.reply.link_since_ms) = (up, now_ms);
        }
        self.settle();
    }

    /// A synchronisation is through; what it moved, if anything. `now_ms` since 1970, `took` since
    /// the change was seen.
    pub fn synchronised(
        &mut self,
        report: &Report,
        overview: &Overview,
        took: Duration,
        now_ms: u64,
    ) -> Option<MovedBatch> {
        self.look(overview);
        self.reply.synced_ms = now_ms;
        self.activity = match report.no_space {
            [false, false] => Activity::Settled,
            [true, _] => Activity::Full(full("host", report.open[0])),
            [false, true] => Activity::Full(full("sandbox", report.open[1])),
        };
        let batch = batch(report, took, now_ms);
        if let Some(batch) = &batch {
            add(self.reply.to_sandbox.get_or_insert_default(), batch.to_sandbox.as_ref());
            add(self.reply.to_host.get_or_insert_default(), batch.to_host.as_ref());
            push(&mut self.lags_us, LAGS_MAX, batch.took_us);
            self.reply.lag_us = batch.took_us;
            self.reply.lag_max_us = self.lags_us.iter().copied().max().unwrap_or(0);
            let recent = &mut self.reply.recent;
            recent.extend(batch.moved.iter().cloned());
            recent.drain(..recent.len().saturating_sub(RECENT_MAX));
        }
        self.settle();
        batch
    }

    /// What the engine knows of its two sides.
    fn look(&mut self, overview: &Overview) {
        let reply = &mut self.reply;
        reply.files = overview.files;
        let conflicts = overview.conflicts.iter().take(LISTED_MAX).map(|conflict| {
            let (path, reason) = (conflict.path.to_string(), conflict.kind.to_string());
            proto::Conflict { path, reason, guarded: conflict.kind.is_held() }
        });
        reply.conflicts = conflicts.collect();
        reply.conflict_count = overview.conflicts.len() as u64;
        let problems = overview.problems.iter().take(LISTED_MAX).map(|problem| {
            let (path, reason) = (problem.path.to_string(), problem.reason.clone());
            proto::Problem { path, side: side(problem.side).into(), reason }
        });
        reply.problems = problems.collect();
        reply.problem_count = overview.problems.len() as u64;
        let [host, sandbox] = &overview.watching;
        reply.watching_host = host.clone().unwrap_or_default();
        reply.watching_sandbox = sandbox.clone().unwrap_or_default();
    }

    /// Makes the state that is told fit everything else.
    fn settle(&mut self) {
        let (state, why) = match (&self.activity, self.mirror) {
            (Activity::Halted(why), _) => (State::Halted, why.as_str()),
            (Activity::Reconnecting(why), _) => (State::Reconnecting, why.as_str()),
            (_, Mirror::Paused) => (State::Paused, ""),
            (Activity::Full(why) | Activity::Failed(why), _) => (State::Waiting, why.as_str()),
            (Activity::Starting, Mirror::On) => (State::Starting, ""),
            (Activity::Starting, Mirror::Off) if self.reply.ups > 0 => (State::Starting, ""),
            (_, _) if self.reply.progress.is_some() => (State::Syncing, ""),
            (Activity::Settled, Mirror::On) => (State::Watching, ""),
            (Activity::Starting | Activity::Settled, Mirror::Off) => (State::Idle, ""),
        };
        let why = why.to_owned();
        self.reply.set_state(state);
        self.reply.why = why;
    }
}

fn full(side: &str, open: u64) -> String {
    format!("disk full on the {side}: no room for {}", changes(open))
}

fn push<T>(ring: &mut VecDeque<T>, max: usize, value: T) {
    if ring.len() == max {
        ring.pop_front();
    }
    ring.push_back(value);
}

fn add(total: &mut Totals, more: Option<&Totals>) {
    let Some(more) = more else { return };
    total.files += more.files;
    total.bytes += more.bytes;
    total.removed += more.removed;
    total.paths += more.paths;
}

/// What a synchronisation moved; nothing if it moved nothing.
fn batch(report: &Report, took: Duration, now_ms: u64) -> Option<MovedBatch> {
    let paths = |side| {
        let named = report.moved.iter().filter(|moved| moved.side == side).count() as u64;
        let (files, removed) = match side {
            Side::Host => (report.received.0, report.removed[0]),
            Side::Sandbox => (report.sent.0, report.removed[1]),
        };
        // Only the first thousand are named in a report.
        named.max(files + removed)
    };
    let totals =
        |side, (files, bytes), removed| Totals { files, bytes, removed, paths: paths(side) };
    let to_host = totals(Side::Host, report.received, report.removed[0]);
    let to_sandbox = totals(Side::Sandbox, report.sent, report.removed[1]);
    if to_host.paths + to_sandbox.paths == 0 {
        return None;
    }
    let moved = report.moved.iter().take(BATCH_MOVED_MAX).map(|moved| Moved {
        at_ms: now_ms,
        side: side(moved.side).into(),
        path: moved.path.to_string(),
        bytes: moved.bytes,
        removed: moved.removed,
    });
    let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let (to_sandbox, to_host) = (Some(to_sandbox), Some(to_host));
    Some(MovedBatch { moved: moved.collect(), to_sandbox, to_host, took_us })
}

fn side(side: Side) -> proto::Side {
    match side {
        Side::Host => proto::Side::Host,
        Side::Sandbox => proto::Side::Sandbox,
    }
}
