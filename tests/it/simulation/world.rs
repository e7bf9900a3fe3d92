//! Two disks, their followers and appliers, the link, the session and the clock, under one seeded
//! scheduler that chooses every instant what happens next.

use std::collections::VecDeque;

use skync::config::SyncMode;
use skync_agent::entry::Entry;
use skync_agent::transition::Status;

use super::applier::{Applier, Done, Place};
use super::disk::{Content, Disk, Node, UNIQUE_FROM, rules};
use super::engine::{Engine, Message, Planned};
use super::follower::{Follower, Told};
use super::oracle::Ledger;
use super::users::{Desk, Users, tree};
use crate::support::random::Random;

mod accidents;
mod ending;

/// What the model breaks on purpose, to see that the oracle notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// What is planned is recorded before it is written, and only the loss counts (I2).
    RecordBeforeWrite,
    /// What is recorded is not made durable first (I2).
    RecordWithoutSync,
    /// A target is not compared with what was expected (I4).
    NoCompare,
    /// A creation takes the place of what is there (I6).
    CreationClobbers,
    /// A directory is removed with all that is in it (I5).
    RemovalTakesAll,
    /// A reading that began before a write counts after it (I3).
    LateReadingCounts,
    /// So does one that saw what a step swapped in and took back (I3).
    TransientContentCounts,
    /// Outcomes come before what the sandbox said earlier (I3).
    OutcomesOvertake,
    /// A replaced sandbox is taken for the old one (I9).
    AncestorOfAnotherSandbox,
    /// A session goes on with what it knows after the sandbox's machine lost power.
    CoreOutlivesCrash,
    /// Steps of which nothing is known count as done (I1).
    LostOutcomesAreApplied,
    /// Events are lost and nobody ever looks again.
    NoRescan,
    /// A changed path is judged by names beside it that the view does not have yet.
    RulesAskTheDisk,
    /// On a disk that does not tell cases apart, `A` is taken for `a`.
    TwinIsTheSame,
}

/// One side.
struct End {
    disk: Disk,
    follower: Follower,
    applier: Applier,
    users: Users,
    outbox: VecDeque<Message>,
    /// An older state of the disk, to go back to.
    backup: Node,
}

/// Instants of one history before everything is left to come to rest.
const INSTANTS: (usize, usize) = (40, 160);

/// A history.
pub struct World {
    random: Random,
    ends: [End; 2],
    engine: Engine,
    ledger: Ledger,
    mode: SyncMode,
    mutation: Option<Mutation>,
    fresh: Content,
    connected: bool,
    now_ns: u64,
    log: Option<Vec<String>>,
}

/// What may happen next.
#[derive(Clone, Copy, Debug)]
enum Choice {
    User(usize),
    Event(usize),
    Duplicate(usize),
    Drop(usize),
    Overflow(usize),
    Rescan(usize),
    Read(usize),
    Message(usize),
    Apply(usize),
    Plan,
    BeginToSave,
    Save,
    WriteBack(usize),
    Fill(usize),
    Deny(usize),
    Heal(usize),
    Cut,
    Connect,
    SessionDies,
    PowerCut(usize),
    Replace,
    Retry,
    Accept,
    Drain,
}

impl World {
    /// The history of a seed, before its first instant.
    pub fn new(seed: u64, mutation: Option<Mutation>, is_logged: bool) -> Self {
        let mut random = Random::new(seed);
        let mode = random.of(&[
            SyncMode::TwoWaySafe,
            SyncMode::TwoWaySafe,
            SyncMode::TwoWayResolved,
            SyncMode::OneWaySafe,
            SyncMode::OneWayReplica,
        ]);
        let conditional = random.once_in(2);
        let folds_case = random.once_in(8);
        let twins = folds_case || random.once_in(8);
        let mut fresh = UNIQUE_FROM;
        // A host that does not tell cases apart cannot begin with names that differ only in case.
        let host = tree(&mut random, &mut fresh, twins && !folds_case);
        let sandbox = match random.below(3) {
            0 => host.clone(),
            1 => tree(&mut random, &mut fresh, twins),
            _ => Node::directory(),
        };
        let disks =
            [Disk::new(host, folds_case, conditional), Disk::new(sandbox, false, conditional)];
        let mut ledger = Ledger::new(mode, [&disks[0], &disks[1]]);
        ledger.trusts_records = mutation.is_some();
        let mut side = 0;
        let ends = disks.map(|disk| {
            side += 1;
            End::new(disk, Users::new(side - 1, twins), mutation)
        });
        let engine = Engine::new(mode, rules(conditional), folds_case, mutation);
        let log = is_logged.then(Vec::new);
        let mut world = Self {
            random,
            ends,
            engine,
            ledger,
            mode,
            mutation,
            fresh,
            connected: true,
            now_ns: 1,
            log,
        };
        world.note(|| format!("{mode:?}, conditional {conditional}, folds case {folds_case}"));
        world.tell_whole(0);
        world.tell_whole(1);
        world
    }

    /// Runs it to its end. What went wrong, if something did.
    pub fn run(&mut self) -> Option<String> {
        if self.random.once_in(2) {
            self.drain();
        }
        let instants = INSTANTS.0 + self.random.below(INSTANTS.1 - INSTANTS.0);
        for _ in 0..instants {
            if self.ledger.violation.is_some() {
                break;
            }
            let choice = self.choose();
            self.happen(choice);
        }
        if self.ledger.violation.is_none() {
            self.come_to_rest();
        }
        self.ledger.violation.take()
    }

    /// Everything that happened.
    pub fn log(&self) -> &[String] {
        self.log.as_deref().unwrap_or_default()
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(what());
        }
    }

    /// Chooses among what is possible, by weight.
    fn choose(&mut self) -> Choice {
        let mut possible: Vec<(usize, Choice)> = Vec::with_capacity(32);
        let mut may = |is_possible: bool, weight: usize, choice: Choice| {
            if is_possible {
                possible.push((weight, choice));
            }
        };
        for (side, end) in self.ends.iter().enumerate() {
            let has_event = !end.follower.events.is_empty();
            may(true, 40, Choice::User(side));
            // In the instants of a step more is seen than chance has it.
            let haste = if end.applier.busy_at().is_some() { 3 } else { 1 };
            may(has_event, 60 * haste, Choice::Event(side));
            may(has_event, 3, Choice::Duplicate(side));
            may(has_event, 2, Choice::Drop(side));
            may(has_event, 2, Choice::Overflow(side));
            may(true, 2, Choice::Rescan(side));
            may(end.follower.has_reading(), 100 * haste, Choice::Read(side));
            may(!end.outbox.is_empty() && (side == 0 || self.connected), 90, Choice::Message(side));
            may(!end.applier.is_idle(), 100, Choice::Apply(side));
            may(true, 4, Choice::WriteBack(side));
            may(true, 2, Choice::Fill(side));
            may(true, 2, Choice::Deny(side));
            may(end.disk.full || end.disk.denied.is_some(), 15, Choice::Heal(side));
            may(true, 2, Choice::PowerCut(side));
        }
        may(self.engine.is_ready(), 40, Choice::Plan);
        may(self.engine.has_unsaved() && self.connected, 15, Choice::BeginToSave);
        may(self.engine.is_saving(), 30, Choice::Save);
        may(self.connected, 4, Choice::Cut);
        may(!self.connected, 40, Choice::Connect);
        may(true, 4, Choice::SessionDies);
        may(true, 3, Choice::Replace);
        may(true, 4, Choice::Retry);
        may(self.engine.is_halted(), 30, Choice::Accept);
        may(true, 6, Choice::Drain);
        let sum = possible.iter().map(|(weight, _)| weight).sum();
        let mut at = self.random.below(sum);
        for (weight, choice) in possible {
            if at < weight {
                return choice;
            }
            at -= weight;
        }
        Choice::Plan
    }

    fn happen(&mut self, choice: Choice) {
        self.now_ns += 1_000_000;
        match choice {
            Choice::User(side) => self.user(side),
            Choice::Event(side) => self.event(side, true),
            Choice::Duplicate(side) => self.event(side, false),
            Choice::Drop(side) => self.drop_event(side),
            Choice::Overflow(side) | Choice::Rescan(side) => {
                self.note(|| format!("{side}: {choice:?}"));
                self.ends[side].follower.rescan();
            }
            Choice::Read(side) => self.read(side),
            Choice::Message(side) => self.message(side),
            Choice::Apply(side) => self.apply(side),
            Choice::Plan => drop(self.plan()),
            Choice::BeginToSave => self.begin_to_save(),
            Choice::Save => {
                self.note(|| "recorded".to_owned());
                self.engine.save(&mut self.ledger);
            }
            Choice::WriteBack(side) => self.ends[side].disk.sync(),
            Choice::Fill(side) => self.ends[side].disk.full = true,
            Choice::Deny(side) => self.deny(side),
            Choice::Heal(side) => self.heal(side),
            Choice::Cut => self.cut(),
            Choice::Connect => self.connect(),
            Choice::SessionDies => self.session_dies(),
            Choice::PowerCut(side) => self.power_cut(side),
            Choice::Replace => self.replace(),
            Choice::Retry => self.engine.retry(),
            Choice::Accept => {
                self.note(|| "a person accepts".to_owned());
                self.engine.accept();
            }
            Choice::Drain => self.drain(),
        }
    }

    fn user(&mut self, side: usize) {
        let End { disk, follower, users, applier, .. } = &mut self.ends[side];
        let mut desk = Desk {
            busy: applier.busy_at().cloned(),
            disk,
            ledger: &mut self.ledger,
            events: &mut follower.events,
            fresh: &mut self.fresh,
        };
        let done = users.act(&mut desk, &mut self.random);
        self.note(|| format!("user {side}: {done}"));
    }

    fn event(&mut self, side: usize, is_taken: bool) {
        let follower = &mut self.ends[side].follower;
        let at = self.random.below(follower.events.len());
        let path = match is_taken {
            true => follower.events.swap_remove(at),
            false => follower.events[at].clone(),
        };
        follower.event(path.clone());
        self.note(|| format!("event {side}: {path}"));
    }

    fn drop_event(&mut self, side: usize) {
        let follower = &mut self.ends[side].follower;
        let at = self.random.below(follower.events.len());
        let path = follower.events.swap_remove(at);
        follower.missed = true;
        self.note(|| format!("event {side} lost: {path}"));
    }

    fn read(&mut self, side: usize) {
        let misses_stale = self.mutation == Some(Mutation::TransientContentCounts);
        let End { disk, follower, applier, .. } = &mut self.ends[side];
        if let Some(busy) = applier.busy_at().filter(|_| !misses_stale) {
            follower.overlaps(busy);
        }
        let told = follower.read(disk, &mut self.random);
        self.tell(side, told);
    }

    fn tell(&mut self, side: usize, told: Vec<Told>) {
        for (path, entry) in told {
            self.note(|| format!("view {side}: {path} = {}", show(entry.as_ref())));
            self.ends[side].outbox.push_back(Message::Change((path, entry)));
        }
    }

    fn tell_whole(&mut self, side: usize) {
        let whole = self.ends[side].follower.whole();
        self.note(|| format!("view {side}: {}", show(Some(&whole))));
        self.ends[side].outbox.push_back(Message::Whole(whole));
    }

    fn message(&mut self, side: usize) {
        let outbox = &mut self.ends[side].outbox;
        let overtakes = self.mutation == Some(Mutation::OutcomesOvertake);
        let is_outcome = |message: &Message| matches!(message, Message::Outcome(..));
        let first = outbox.iter().position(is_outcome).filter(|_| overtakes).unwrap_or(0);
        let Some(message) = outbox.remove(first) else { return };
        self.engine.take(side, message, self.now_ns, &mut self.ledger);
    }

    fn plan(&mut self) -> bool {
        match self.engine.plan(self.now_ns, &mut self.ledger) {
            Planned::Nothing => false,
            Planned::Halted(halt) => {
                self.note(|| format!("halted: {halt}"));
                true
            }
            Planned::Steps(steps) => {
                for (side, steps) in steps.iter().enumerate() {
                    for step in steps {
                        let [old, new] = [&step.expected, &step.new].map(|e| show(e.as_ref()));
                        self.note(|| format!("plan {side}: {}: {old} -> {new}", step.path));
                    }
                    self.ends[side].applier.take(steps);
                }
                true
            }
        }
    }

    fn apply(&mut self, side: usize) {
        let [host, sandbox] = &mut self.ends;
        let (end, other) = if side == 0 { (host, &sandbox.disk) } else { (sandbox, &host.disk) };
        let mut place = Place {
            side,
            disk: &mut end.disk,
            other,
            connected: self.connected,
            ledger: &mut self.ledger,
            mutation: self.mutation,
            events: &mut end.follower.events,
        };
        if let Some(done) = end.applier.advance(&mut place, &mut self.random) {
            self.done(side, done);
        }
    }

    fn done(&mut self, side: usize, done: Done) {
        let Done { index, step, status, source_changed } = done;
        self.note(|| format!("apply {side}: {} {status:?}", step.path));
        let End { disk, follower, .. } = &mut self.ends[side];
        let misses_stale = self.mutation == Some(Mutation::TransientContentCounts);
        if status == Status::Applied || !misses_stale {
            follower.overlaps(&step.path);
        }
        match status {
            Status::Applied => {
                let told = follower.applied(disk, &step.path, step.new);
                self.tell(side, told);
            }
            Status::Stale if source_changed => self.ends[1 - side].follower.force(&step.path),
            Status::Stale => follower.force(&step.path),
            Status::NotEmpty | Status::Failed { .. } => {}
        }
        self.ends[side].outbox.push_back(Message::Outcome(index, status));
    }

    fn begin_to_save(&mut self) {
        self.note(|| "the disks are made durable".to_owned());
        if self.mutation != Some(Mutation::RecordWithoutSync) {
            self.ends.iter_mut().for_each(|end| end.disk.sync());
        }
        self.engine.begin_to_save();
    }
}

impl End {
    fn new(disk: Disk, users: Users, mutation: Option<Mutation>) -> Self {
        let follower = follower(&disk, mutation);
        let backup = disk.root.clone();
        let (applier, outbox) = (Applier::default(), VecDeque::new());
        Self { disk, follower, applier, users, outbox, backup }
    }
}

fn follower(disk: &Disk, mutation: Option<Mutation>) -> Follower {
    let mut follower = Follower::new(disk);
    follower.keeps_overlapped = mutation == Some(Mutation::LateReadingCounts);
    follower.asks_the_disk = mutation == Some(Mutation::RulesAskTheDisk);
    follower
}

/// An entry for a log.
pub fn show(entry: Option<&Entry>) -> String {
    match entry {
        None => "nothing".to_owned(),
        Some(Entry::Directory(directory)) => {
            let below: Vec<_> = directory
                .children
                .iter()
                .map(|(name, child)| format!("{name}: {}", show(Some(child))))
                .collect();
            let husk = if directory.only_excluded { "husk " } else { "" };
            format!("{husk}{{{}}}", below.join(", "))
        }
        Some(entry) => match Node::of(entry) {
            Some(Node::File { content, executable: false }) => content.to_string(),
            Some(Node::File { content, executable: true }) => format!("{content}*"),
            Some(Node::Link(to)) => format!("@{to}"),
            Some(Node::Directory(_)) | None => "unreadable".to_owned(),
        },
    }
}
