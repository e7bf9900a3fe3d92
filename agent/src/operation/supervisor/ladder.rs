//! Stopping an operation: a signal, time, TERM, time, then SIGKILL until nothing is left.
//!
//! Everything here runs on the one thread there is, and what has ended is known from the kernel
//! without looking: when the last child is gone, so is everything.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::Instant;

use super::shared::Shared;
use crate::operation::processes::{
    KILL_PATIENCE, LOOK_INTERVAL, Process, Swept, descendants, kill_once, signal_all,
};

/// How a cancel goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// The first signal.
    signal: u32,
    /// Between the steps.
    grace: Duration,
}

/// The steps, the harder the higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rung {
    /// To the group that a terminal would send it to.
    First,
    /// TERM, to all.
    Term,
    /// KILL, to all.
    Kill,
}

impl Order {
    fn rung(self) -> Rung {
        match self.signal {
            9 => Rung::Kill,
            15 => Rung::Term,
            _ => Rung::First,
        }
    }

    fn or_harder(self, other: Self) -> Self {
        let signal = if other.rung() > self.rung() { other.signal } else { self.signal };
        Self { signal, grace: self.grace.min(other.grace) }
    }
}

/// Stops the operation and everything that descends from it; joins a cancel that goes on already.
pub(super) async fn cancel(shared: &Rc<Shared>, signal: u32, grace: Duration) -> Swept {
    let asked = Order { signal, grace };
    if shared.ended.get().is_none() {
        shared.cancelled.set(true);
    }
    match shared.order.get() {
        Some(order) => shared.order.set(Some(order.or_harder(asked))),
        None => {
            shared.order.set(Some(asked));
            shared.swept.set(Swept::default());
            tokio::task::spawn_local(climb(Rc::clone(shared)));
        }
    }
    shared.tell();
    shared.until(|shared| shared.order.get().is_none()).await;
    shared.swept.get()
}

/// Sends a signal to the group in the terminal's foreground, else to the leader's.
pub(super) fn signal(shared: &Shared, number: u32) {
    if let Some(signal) = signal_of(number) {
        for group in groups(shared, &living(shared)) {
            if kill_process_group(group, signal).is_ok() {
                return;
            }
        }
    }
}

async fn climb(shared: Rc<Shared>) {
    let mut seen = HashSet::new();
    let mut rung = Rung::First;
    while let Some(order) = shared.order.get() {
        rung = rung.max(order.rung());
        if rung == Rung::Kill || shared.alone.get() {
            break;
        }
        let living = living(&shared);
        seen.extend(living.iter().map(|process| process.pid));
        let sent = match rung {
            Rung::First => interrupt(&shared, &living, order.signal),
            Rung::Term | Rung::Kill => {
                signal_all(&living, Signal::TERM);
                true
            }
        };
        if sent {
            wait(&shared, rung).await;
        }
        rung = if rung == Rung::First { Rung::Term } else { Rung::Kill };
    }
    let swept = kill(&shared, seen).await;
    shared.swept.set(swept);
    shared.order.set(None);
    shared.tell();
}

/// Returns when nothing is left, the time is over, or something harder is asked for.
async fn wait(shared: &Shared, rung: Rung) {
    let since = Instant::now();
    let mut changes = shared.changes();
    while let Some(order) = shared.order.get()
        && order.rung() <= rung
        && !shared.alone.get()
    {
        if tokio::time::timeout_at(since + order.grace, changes.changed()).await.is_err() {
            return;
        }
    }
}

async fn kill(shared: &Shared, mut seen: HashSet<i32>) -> Swept {
    let deadline = Instant::now() + KILL_PATIENCE;
    loop {
        if shared.alone.get() {
            return Swept::of(&seen, 0);
        }
        let living = kill_once(rustix::process::getpid(), &HashSet::new());
        seen.extend(living.iter().map(|process| process.pid));
        if living.is_empty() {
            // Without `/proc` there is only this.
            let _ = kill_process_group(shared.leader, Signal::KILL);
        }
        if Instant::now() > deadline {
            return Swept::of(&seen, living.len());
        }
        let alone = shared.until(|shared| shared.alone.get());
        let _ = tokio::time::timeout(LOOK_INTERVAL, alone).await;
    }
}

/// Sends the first signal; false if there is no group to send it to.
fn interrupt(shared: &Shared, living: &[Process], number: u32) -> bool {
    let Some(signal) = signal_of(number) else { return false };
    let groups = groups(shared, living);
    let sent = groups.iter().find(|group| kill_process_group(**group, signal).is_ok());
    if let Some(group) = sent {
        // One that was stopped would not see it.
        let _ = kill_process_group(*group, Signal::CONT);
    }
    sent.is_some()
}

fn living(shared: &Shared) -> Vec<Process> {
    if shared.alone.get() {
        return Vec::new();
    }
    descendants(rustix::process::getpid(), &HashSet::new())
}

/// The groups to try, the best first. One in which nothing of ours lives may be somebody else's by
/// now.
fn groups(shared: &Shared, living: &[Process]) -> Vec<Pid> {
    let foreground = shared.terminal.as_ref().and_then(|terminal| terminal.foreground());
    let ours = |group: &Pid| {
        let group = group.as_raw_nonzero().get();
        living.iter().any(|process| process.group == group)
    };
    foreground.into_iter().chain([shared.leader]).filter(ours).collect()
}

fn signal_of(number: u32) -> Option<Signal> {
    i32::try_from(number).ok().and_then(Signal::from_named_raw)
}
