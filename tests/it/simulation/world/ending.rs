//! How a history comes to rest, and what is looked at then.

use skync_agent::path::SyncPath;

use super::{Choice, Mutation, World};
use crate::simulation::rest;

/// Rounds in which a history must come to rest, and instants in one of them.
const ROUNDS_MAX: usize = 40;
const DRAIN_MAX: usize = 4000;

impl World {
    /// Everything that is on its way arrives, in some order, and nobody does anything else.
    pub(super) fn drain(&mut self) {
        self.note(|| "drain".to_owned());
        self.ends[1].backup = self.ends[1].disk.root.clone();
        if !self.connected {
            self.connect();
        }
        for _ in 0..DRAIN_MAX {
            if self.ledger.violation.is_some() || !self.drain_once() {
                return;
            }
        }
        self.ledger.violated(|| "it never comes to rest".to_owned());
    }

    /// One of the things that are on their way; false if there is none.
    fn drain_once(&mut self) -> bool {
        let mut possible = Vec::with_capacity(8);
        for (side, end) in self.ends.iter().enumerate() {
            let all = [
                (!end.follower.events.is_empty(), Choice::Event(side)),
                (end.follower.has_reading(), Choice::Read(side)),
                (!end.outbox.is_empty(), Choice::Message(side)),
                (!end.applier.is_idle(), Choice::Apply(side)),
            ];
            possible.extend(all.into_iter().filter(|(is, _)| *is).map(|(_, choice)| choice));
        }
        let can_plan = self.engine.is_ready() && !self.engine.is_halted();
        if possible.is_empty() {
            self.now_ns += 1_000_000;
            return can_plan && self.plan() && !self.engine.is_halted();
        }
        if can_plan && self.random.once_in(4) {
            self.plan();
            return true;
        }
        let choice = possible[self.random.below(possible.len())];
        self.happen(choice);
        true
    }

    /// No more edits and faults: both sides become the same, apart from what is reported.
    pub(super) fn come_to_rest(&mut self) {
        self.note(|| "come to rest".to_owned());
        for side in 0..2 {
            self.heal(side);
            let follower = &mut self.ends[side].follower;
            if follower.missed && self.mutation != Some(Mutation::NoRescan) {
                follower.rescan();
            }
        }
        for round in 0..=ROUNDS_MAX {
            self.drain();
            if self.ledger.violation.is_some() {
                return;
            }
            if round == 0 {
                // What failed before there was room.
                self.engine.retry();
            } else if self.engine.is_halted() {
                self.engine.accept();
            } else if let Some(due) = self.engine.next_due_ns() {
                self.now_ns = self.now_ns.max(due);
            } else {
                break;
            }
        }
        self.check();
    }

    fn check(&mut self) {
        let (conflicts, problems) = (self.engine.conflicts(), self.engine.problems());
        for conflict in &conflicts {
            self.note(|| format!("conflict: {}: {}", conflict.path, conflict.kind));
        }
        for problem in &problems {
            self.note(|| format!("problem: {}: {}", problem.path, problem.reason));
        }
        let Self { ends, ledger, engine, .. } = self;
        for (side, end) in ends.iter().enumerate() {
            let is_quiet = end.follower.is_quiet() && end.applier.is_idle();
            if !is_quiet || !end.follower.is_right(&end.disk) {
                ledger.violated(|| format!("the view of side {side} is not its disk"));
            }
        }
        let trees = [0, 1].map(|side| ends[side].disk.look(&SyncPath::root()));
        rest::check(
            self.mode,
            trees.each_ref().map(Option::as_ref),
            &conflicts,
            &problems,
            [&ends[0].disk, &ends[1].disk],
            ledger,
        );
        ledger.settle([&ends[0].disk, &ends[1].disk]);
        let left = engine.what_is_left(self.now_ns, ledger);
        if !left.is_empty() {
            ledger.violated(|| format!("it is never done: {left:?}"));
        }
    }
}
