//! Carries out the steps of one side as `agent/src/transition` does: one after the other, each in
//! instants between which users work.
//!
//! What the real one guarantees is modelled as it is:
//! - a creation and a removal take one instant: the system refuses a name that is taken, and the
//!   last look before a removal comes right before it;
//! - a replacement compares, then swaps, then looks at what came out, and swaps back if it was not
//!   what was compared. Users work between these;
//! - content is asked for before all this, from the other side's disk.

use std::collections::VecDeque;

use skync::sync::plan::Step;
use skync_agent::entry::Entry;
use skync_agent::path::{Name, SyncPath};
use skync_agent::transition::Status;

use super::disk::{Disk, Node};
use super::oracle::Ledger;
use super::world::Mutation;
use crate::support::random::Random;

/// A step in the middle.
#[derive(Debug)]
enum Phase {
    /// Its content is here.
    Ready,
    /// What is there is what was expected.
    Compared,
    /// This came out.
    Swapped(Node),
}

/// What became of a step, and what follows from it.
#[derive(Debug)]
pub struct Done {
    /// Its number in the batch.
    pub index: usize,
    /// What was to be done.
    pub step: Step,
    /// What became of it.
    pub status: Status,
    /// The other side does not have the content any more.
    pub source_changed: bool,
}

/// The steps of one side that are on their way.
#[derive(Debug, Default)]
pub struct Applier {
    queue: VecDeque<(usize, Step)>,
    current: Option<(usize, Step, Phase)>,
}

/// Where steps are carried out.
pub struct Place<'a> {
    /// The side.
    pub side: usize,
    /// Its disk.
    pub disk: &'a mut Disk,
    /// The other disk, which content comes from.
    pub other: &'a Disk,
    /// The link is there.
    pub connected: bool,
    /// Who checks.
    pub ledger: &'a mut Ledger,
    /// What is broken on purpose.
    pub mutation: Option<Mutation>,
    /// Paths that changed, for the watcher.
    pub events: &'a mut Vec<SyncPath>,
}

impl Applier {
    /// Takes the steps of a batch.
    pub fn take(&mut self, steps: &[Step]) {
        self.queue = steps.iter().cloned().enumerate().collect();
    }

    /// Drops what has not begun.
    pub fn clear(&mut self) {
        self.queue.clear();
    }

    /// True if nothing is to be done.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.current.is_none()
    }

    /// True if a step is in the middle.
    pub fn is_busy(&self) -> bool {
        self.current.is_some()
    }

    /// Where a step is in the middle.
    pub fn busy_at(&self) -> Option<&SyncPath> {
        self.current.as_ref().map(|(_, step, _)| &step.path)
    }

    /// One instant. Returns what became of a step if it ended.
    pub fn advance(&mut self, place: &mut Place<'_>, random: &mut Random) -> Option<Done> {
        let Some((index, step, phase)) = self.current.take() else {
            let (index, step) = self.next(random)?;
            if place.has_content(&step, random) {
                self.current = Some((index, step, Phase::Ready));
                return None;
            }
            return Some(Done { index, step, status: Status::Stale, source_changed: true });
        };
        let next = match phase {
            Phase::Ready => place.begin(&step),
            Phase::Compared => place.swap(&step),
            Phase::Swapped(out) => Ok(place.verify(&step, out)),
        };
        match next {
            Err(phase) => {
                self.current = Some((index, step, phase));
                None
            }
            Ok(status) => Some(Done { index, step, status, source_changed: false }),
        }
    }

    /// The next step. Files that follow each other are written by several workers, in any order.
    fn next(&mut self, random: &mut Random) -> Option<(usize, Step)> {
        let is_file = |step: &Step| matches!(step.new, Some(Entry::File(_)));
        let files = self.queue.iter().take_while(|(_, step)| is_file(step)).count();
        let at = if files > 1 { random.below(files) } else { 0 };
        self.queue.remove(at)
    }
}

/// A step ended, or has more to do.
type Next = Result<Status, Phase>;

fn failed(problem: &str, no_space: bool) -> Next {
    Ok(Status::Failed { problem: problem.to_owned(), no_space })
}

impl Place<'_> {
    /// True if the content that a step needs is on the other side, or somewhere on this one.
    fn has_content(&self, step: &Step, random: &mut Random) -> bool {
        let Some(Entry::File(file)) = &step.new else { return true };
        if step.expected.as_ref().and_then(Entry::as_file).is_some_and(|old| old.same_content(file))
        {
            return true;
        }
        let is_it =
            |node: &Node| node.shallow().as_file().is_some_and(|there| there.same_content(file));
        if random.once_in(2) {
            let mut found = false;
            self.disk.root.leaves(&SyncPath::root(), &mut |_, node| found |= is_it(node));
            if found {
                return true;
            }
        }
        self.connected
            && !self.other.denies(&step.path)
            && self.other.get(&step.path).is_some_and(is_it)
    }

    fn begin(&mut self, step: &Step) -> Next {
        let path = &step.path;
        let parent = path.split().map(|(parent, _)| parent).unwrap_or_default();
        match self.disk.get(&parent) {
            _ if self.disk.denies(path) => return failed("denied", false),
            Some(Node::Directory(_)) => {}
            Some(_) => return failed("not a directory", false),
            None if step.new.is_none() && self.is_missing(&parent) => return Ok(Status::Applied),
            None => return failed("the directory where it belongs is not there", false),
        }
        if self.mutation != Some(Mutation::TwinIsTheSame) && self.disk.has_twin_of(path) {
            return Ok(Status::Stale);
        }
        let there = self.disk.get(path).cloned();
        let is = |entry: Option<&Entry>| match (&there, entry) {
            (None, None) => true,
            (Some(node), Some(entry)) => node.shallow().shallow_eq(entry),
            (None, Some(_)) | (Some(_), None) => false,
        };
        if is(step.new.as_ref()) {
            return Ok(Status::Applied);
        }
        let unchecked = self.mutation == Some(Mutation::NoCompare)
            || step.expected.is_none() && self.mutation == Some(Mutation::CreationClobbers);
        if !is(step.expected.as_ref()) && !unchecked {
            return Ok(Status::Stale);
        }
        match (there, &step.new) {
            (None, None) => Ok(Status::Applied),
            (_, Some(_)) if self.disk.full => failed("no space", true),
            (None, Some(new)) => {
                self.make(path, Node::of(new));
                Ok(Status::Applied)
            }
            (Some(there), None) => self.remove(path, &there),
            // Only a mutation comes here with nothing expected.
            (Some(_), Some(new)) if step.expected.is_none() => {
                self.make(path, Node::of(new));
                Ok(Status::Applied)
            }
            (Some(_), Some(_)) => Err(Phase::Compared),
        }
    }

    /// True unless something above is in the way that is no directory.
    fn is_missing(&self, parent: &SyncPath) -> bool {
        let above = std::iter::successors(Some(parent.clone()), |path| path.split().map(|p| p.0));
        let found = above.filter_map(|path| self.disk.get(&path)).next();
        found.is_none_or(|node| node.children().is_some())
    }

    fn remove(&mut self, path: &SyncPath, there: &Node) -> Next {
        let is_empty = there.children().is_none_or(|children| children.is_empty());
        if !is_empty && self.mutation != Some(Mutation::RemovalTakesAll) {
            return Ok(Status::NotEmpty);
        }
        self.make(path, None);
        Ok(Status::Applied)
    }

    /// Changes the disk, and has it checked.
    fn make(&mut self, path: &SyncPath, new: Option<Node>) {
        let old = self.disk.put(path, new.clone());
        self.ledger.change(self.side, path, old.as_ref(), new.as_ref(), self.other);
        self.events.push(path.clone());
    }

    fn swap(&mut self, step: &Step) -> Next {
        let Some(new) = step.new.as_ref().and_then(Node::of) else {
            return failed("the plan is not one", false);
        };
        let path = &step.path;
        let Some(out) = self.disk.get(path).cloned() else { return Ok(Status::Stale) };
        let parent_is_there = path.split().and_then(|(parent, _)| self.disk.get(&parent)).is_some();
        if self.mutation == Some(Mutation::NoCompare) || !parent_is_there {
            self.make(path, Some(new));
            return Ok(Status::Applied);
        }
        self.disk.put(path, Some(new));
        self.events.push(path.clone());
        Err(Phase::Swapped(out))
    }

    /// Looks at what came out, and swaps it back if it should not have.
    fn verify(&mut self, step: &Step, out: Node) -> Status {
        let (path, new) = (&step.path, step.new.as_ref().and_then(Node::of));
        let expected = step
            .expected
            .as_ref()
            .is_some_and(|entry| out.children().is_none() && out.shallow().shallow_eq(entry));
        if expected {
            self.ledger.change(self.side, path, Some(&out), new.as_ref(), self.other);
            return Status::Applied;
        }
        let there = self.disk.get(path).cloned();
        let parent = path.split().and_then(|(parent, _)| self.disk.get(&parent));
        let has_parent = parent.is_some_and(|node| node.children().is_some());
        if has_parent && (there.is_none() || there == new) {
            self.disk.put(path, Some(out));
            self.events.push(path.clone());
            return Status::Stale;
        }
        self.save_beside(path, out)
    }

    /// Somebody was at it once more: theirs stays, and what is in our hands goes beside it.
    fn save_beside(&mut self, path: &SyncPath, out: Node) -> Status {
        let mut beside = path.clone();
        while self.disk.get(&beside).is_some() {
            let Some((parent, name)) = beside.split() else { break };
            let saved = [name.as_bytes(), b".saved"].concat();
            match Name::parse(&saved) {
                Ok(name) => beside = parent.join(&name),
                Err(_) => break,
            }
        }
        out.leaves(path, &mut |path, node| self.ledger.saved_beside(&path, node));
        self.ledger.held(self.side, &beside, &out);
        self.disk.put(&beside, Some(out));
        self.events.push(beside);
        Status::Failed { problem: "it kept changing".to_owned(), no_space: false }
    }
}
