//! What a synchronisation did, for a person and for whoever decides whether a sandbox may go.

use std::collections::BTreeSet;

use skync_agent::entry::Entry;
use skync_agent::path::SyncPath;
use skync_agent::transition::Status;

use super::core::{Batch, Core, Outcomes};
use super::plan::{Conflict, Note, NoteKind, Problem, Side, Step};
use super::transfer::needed;

/// Paths of one synchronisation that are named one by one; the rest is only counted.
pub const MOVED_MAX: usize = 1000;

/// One path that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where it was changed: the side that received it.
    pub side: Side,
    /// Which.
    pub path: SyncPath,
    /// Of the content that was needed for it; 0 for a removal, a link, a mode.
    pub bytes: u64,
    /// It was removed.
    pub removed: bool,
}

/// The sum of the rounds of one synchronisation.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Files and bytes of content that went to the sandbox.
    pub sent: (u64, u64),
    /// Files and bytes of content that came to the host.
    pub received: (u64, u64),
    /// Entries that were removed on the host and in the sandbox.
    pub removed: [u64; 2],
    /// Of the last round: where the sides disagree.
    pub conflicts: Vec<Conflict>,
    /// Of the last round: what was left out, and why.
    pub problems: BTreeSet<Problem>,
    /// Decisions that a person should hear about.
    pub notes: Vec<Note>,
    /// Of the last round: steps towards each side that were not carried out.
    pub open: [u64; 2],
    /// Of these: those that cannot be carried out, while the others were only overtaken.
    pub failed: [u64; 2],
    /// Of the last round: what could not be read in the sandbox.
    pub unreadable: u64,
    /// The file system of that side is full.
    pub no_space: [bool; 2],
    /// What the sandbox changes never comes home.
    pub is_one_way: bool,
    /// What was changed, path by path: at most [`MOVED_MAX`].
    pub moved: Vec<Moved>,
}

fn at(side: Side) -> usize {
    usize::from(side == Side::Sandbox)
}

impl Report {
    /// Adds what became of a batch.
    pub(super) fn add(&mut self, batch: &Batch, outcomes: &[Outcomes; 2]) {
        self.notes.extend(batch.plan.notes.iter().cloned());
        for side in [Side::Host, Side::Sandbox] {
            let done = || batch.steps[at(side)].iter().zip(&outcomes[at(side)]);
            let with =
                |wanted: Status| done().filter(move |(_, status)| **status == Some(wanted.clone()));
            for (step, _) in with(Status::Applied) {
                self.add_applied(side, step);
            }
            // Content that is not synchronised stays, and the directory with it: as it should.
            self.note_rests(side, with(Status::NotEmpty).map(|(step, _)| &step.path));
        }
    }

    /// Takes over what is open now.
    pub(super) fn stays_open(&mut self, core: &Core) {
        self.conflicts = core.conflicts().cloned().collect();
        self.problems = core.problems().collect();
        let in_sandbox = |problem: &&Problem| problem.side == Side::Sandbox;
        let open = core.open();
        self.open = open.map(|open| open.failed + open.overtaken);
        self.failed = open.map(|open| open.failed);
        self.no_space = open.map(|open| open.no_space);
        // Those that failed are problems, too.
        let problems = self.problems.iter().filter(in_sandbox).count() as u64;
        self.unreadable = problems.saturating_sub(open[at(Side::Sandbox)].failed);
    }

    /// Notes the directories that stay although the plan removed them: the highest of each tree.
    fn note_rests<'a>(&mut self, side: Side, kept: impl Iterator<Item = &'a SyncPath>) {
        let kept: BTreeSet<&SyncPath> = kept.collect();
        let is_below =
            |path: &SyncPath| path.split().is_some_and(|(above, _)| kept.contains(&above));
        for path in kept.iter().filter(|path| !is_below(path)) {
            let kind = NoteKind::RestKept { kept_on: side };
            self.notes.push(Note { path: (*path).clone(), kind });
        }
    }

    fn add_applied(&mut self, side: Side, step: &Step) {
        let is_directory = matches!(step.new, Some(Entry::Directory(_)));
        if self.moved.len() < MOVED_MAX && !is_directory {
            let bytes = needed(step).map_or(0, |file| file.size);
            let (path, removed) = (step.path.clone(), step.new.is_none());
            self.moved.push(Moved { side, path, bytes, removed });
        }
        if let Some(file) = needed(step) {
            let count = match side {
                Side::Host => &mut self.received,
                Side::Sandbox => &mut self.sent,
            };
            count.0 += 1;
            count.1 += file.size;
        }
        if step.new.is_none() {
            self.removed[at(side)] += 1;
        }
    }

    /// Why the sandbox must not be removed: something in it is not on the host. Nothing if it may.
    pub fn unsynced(&self) -> Option<String> {
        if self.is_one_way {
            return None;
        }
        if self.no_space[at(Side::Host)] {
            let open = changes(self.open[at(Side::Host)]);
            return Some(format!(
                "the host's disk is full: {open} of the sandbox could not be written"
            ));
        }
        let open = self.open[at(Side::Host)] + self.unreadable;
        let in_sandbox = |conflict: &&Conflict| conflict.sandbox.as_ref().is_some_and(holds_data);
        let conflicts = self.conflicts.iter().filter(in_sandbox).count();
        let open = (open > 0)
            .then(|| format!("{} of the sandbox could not be brought home", changes(open)));
        let conflicts = match conflicts {
            0 => None,
            1 => Some("1 path is in conflict".to_owned()),
            many => Some(format!("{many} paths are in conflict")),
        };
        let both: Vec<String> = open.into_iter().chain(conflicts).collect();
        (!both.is_empty()).then(|| both.join(" and "))
    }
}

/// So many changes, for a sentence.
pub fn changes(count: u64) -> String {
    if count == 1 { "1 change".to_owned() } else { format!("{count} changes") }
}

fn holds_data(entry: &Entry) -> bool {
    matches!(entry, Entry::Directory(_) | Entry::File(_) | Entry::Symlink(_))
}
