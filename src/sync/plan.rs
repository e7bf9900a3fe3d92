//! The plan: complete, immutable data that says what to change on either side and what not.
//!
//! Reconciling makes it and executors carry it out without a choice of their own. Nothing here
//! decides anything. A plan names every entry that it removes, so an executor can refuse to remove
//! what the plan did not know (invariants I4, I5).

use std::collections::HashSet;
use std::fmt;

use skync_agent::entry::{Digest, Directory, Entry};
use skync_agent::path::{Name, SyncPath};

use super::tracked::shallow_tracked;

#[cfg(test)]
mod tests;

/// One of the two ends of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The user's machine.
    Host,
    /// The place where commands run.
    Sandbox,
}

impl Side {
    /// The opposite side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Host => Self::Sandbox,
            Self::Sandbox => Self::Host,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Sandbox => "sandbox",
        })
    }
}

/// A change of everything at and below one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: SyncPath,
    /// What is there, as far as it is synchronised; what is excluded is never in it.
    pub old: Option<Entry>,
    /// What is to be there.
    pub new: Option<Entry>,
}

/// A change of one entry, without its children: one transition of an executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where.
    pub path: SyncPath,
    /// What must be there now, without children (invariant I4).
    pub expected: Option<Entry>,
    /// What is there afterwards, without children.
    pub new: Option<Entry>,
}

/// Why a path is in conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictKind {
    /// Both sides changed it, differently.
    BothChanged,
    /// One-way: the sandbox changed what the host would write over.
    SandboxChanged,
    /// Excluded, special or unreadable content on that side is in the way.
    Blocked(Side),
    /// The sandbox changed a path that it may not change on the host without a yes (I14).
    Guarded,
    /// The sandbox made a symbolic link that leads out of the project (I14).
    LeavesRoot,
}

impl ConflictKind {
    /// True if the sides do not disagree: what the sandbox did is held back until a person says yes.
    pub fn is_held(self) -> bool {
        match self {
            Self::Guarded | Self::LeavesRoot => true,
            Self::BothChanged | Self::SandboxChanged | Self::Blocked(_) => false,
        }
    }
}

impl fmt::Display for ConflictKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BothChanged => f.write_str("changed on both sides"),
            Self::SandboxChanged => f.write_str("changed in the sandbox, which only receives"),
            Self::Blocked(side) => {
                write!(f, "content on the {side} that is not synchronised is in the way")
            }
            Self::Guarded => f.write_str("guarded: the sandbox changed what may run on the host"),
            Self::LeavesRoot => f.write_str("guarded: a symbolic link out of the project"),
        }
    }
}

/// A path where the sides disagree and nothing may be written.
///
/// The three entries are without children, so a conflict costs the same whatever it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The highest path that the conflict covers.
    pub path: SyncPath,
    /// What the host has.
    pub host: Option<Entry>,
    /// What the sandbox has.
    pub sandbox: Option<Entry>,
    /// What both last agreed on.
    pub ancestor: Option<Entry>,
    /// Of the side that is a directory (never both are): a digest of what is in it, so that a
    /// decision about it does not cover what came later. See [`super::decide::contents`].
    pub contents: Option<Digest>,
    /// Why.
    pub kind: ConflictKind,
}

/// A path that is left out because it could not be read or must not be written; the rest goes on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it is in the way.
    pub side: Side,
    /// The path.
    pub path: SyncPath,
    /// Why, for a person to read.
    pub reason: String,
}

/// What a person should hear about a decision that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// Deleted on this side and changed on the other: the change was kept.
    ChangeKept {
        /// Where it had been deleted.
        deleted_on: Side,
    },
    /// Changed on both sides: the host's version replaces the sandbox's, as the mode says.
    HostWon,
    /// A directory was deleted on the other side and stays on this one, for something excluded is
    /// in it.
    RestKept {
        /// Where it stays.
        kept_on: Side,
    },
}

/// A decision that a person should hear about. It stands in the plan that acts on it, or comes out
/// of its execution, and in none after, so each is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The highest path that it covers.
    pub path: SyncPath,
    /// What was decided.
    pub kind: NoteKind,
}

/// What to do so that both sides become the same.
///
/// The paths in `host` and `sandbox` are apart from each other: none lies within another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Changes to the host.
    pub host: Vec<Change>,
    /// Changes to the sandbox.
    pub sandbox: Vec<Change>,
    /// Changes to the ancestor where both sides were seen to hold the same, to be made before the
    /// steps' outcomes are recorded (invariant I1). `old` and `new` are without children; `new`
    /// absent takes everything below with it.
    pub agreed: Vec<Change>,
    /// Where nothing was done because a person must decide.
    pub conflicts: Vec<Conflict>,
    /// Where nothing was done because it could not be.
    pub problems: Vec<Problem>,
    /// What was decided and may surprise.
    pub notes: Vec<Note>,
    /// Conflicts that a person's decision settles. A decision that is not among them, in a plan that
    /// looked at its path, is spent or void.
    pub decided: Vec<SyncPath>,
    /// What is to be kept beside a conflict's path, on the host only.
    pub copies: Vec<Copy>,
}

/// A version of the sandbox that comes to the host under a new name, so that another can take its
/// path. Carried out like a change to the host, with two differences: the content is at
/// `conflict.path` in the sandbox, see [`Copy::source_of`]; and its steps are never recorded in the
/// ancestor, for the sandbox does not have the new path (it would count as deleted there).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The conflict that it settles in part; it is among [`Plan::decided`].
    pub conflict: Conflict,
    /// What is made on the host; `old` is what an earlier try made of it.
    pub change: Change,
}

impl Copy {
    /// Where the sandbox has what a step of this copy makes at `path`.
    pub fn source_of(&self, path: &SyncPath) -> SyncPath {
        let depth = self.change.path.names().count();
        path.names().skip(depth).fold(self.conflict.path.clone(), |path, name| {
            Name::parse(name).map_or_else(|_| path.clone(), |name| path.join(&name))
        })
    }
}

impl Plan {
    /// True if nothing is to be changed: neither side, nor the ancestor.
    pub fn is_empty(&self) -> bool {
        let is_still = self.host.is_empty() && self.sandbox.is_empty() && self.copies.is_empty();
        is_still && self.agreed.is_empty()
    }

    /// The changes to one side.
    pub fn changes(&self, side: Side) -> &[Change] {
        match side {
            Side::Host => &self.host,
            Side::Sandbox => &self.sandbox,
        }
    }
}

/// Turns changes into single steps in an order that can be executed.
///
/// First everything that goes, a directory after what is in it; then everything that comes or is
/// replaced, a directory before what is in it. Removals of all changes come first so that on a disk
/// that does not tell `a` from `A` a new name never meets the old one. What is the same in `old`
/// and `new` gives no step. A file becomes another file in one step, and so does a symbolic link;
/// anything else that changes its kind is removed and made anew.
pub fn flatten(changes: &[Change]) -> Vec<Step> {
    let mut steps = Vec::new();
    for change in changes {
        remove(&mut steps, &change.path, change.old.as_ref(), change.new.as_ref());
    }
    for change in changes {
        create(&mut steps, &change.path, change.old.as_ref(), change.new.as_ref());
    }
    steps
}

/// Puts what comes before what goes, wherever the two do not depend on each other.
///
/// A file that was moved is a removal and a creation. If the connection breaks between them, the
/// side that is being changed must be left with both copies, never with none.
#[must_use]
pub fn creations_first(steps: Vec<Step>) -> Vec<Step> {
    let removed: HashSet<SyncPath> =
        steps.iter().filter(|step| step.new.is_none()).map(|step| step.path.clone()).collect();
    // What takes the place of something else, or goes into it, has to wait for the removal.
    let waits = |path: &SyncPath| {
        std::iter::successors(Some(path.clone()), |path| path.split().map(|(parent, _)| parent))
            .any(|path| removed.contains(&path))
    };
    let (removals, creations): (Vec<_>, Vec<_>) =
        steps.into_iter().partition(|step| step.new.is_none());
    let (late, mut ordered): (Vec<_>, Vec<_>) =
        creations.into_iter().partition(|step| !removed.is_empty() && waits(&step.path));
    ordered.extend(removals);
    ordered.extend(late);
    ordered
}

/// Adds the removal of what is in `old` and has no entry of the same kind in `new`.
fn remove(steps: &mut Vec<Step>, path: &SyncPath, old: Option<&Entry>, new: Option<&Entry>) {
    let Some(old) = old else { return };
    let new = new.filter(|new| same_kind(old, new));
    if let Entry::Directory(directory) = old {
        let replacement = new.and_then(Entry::as_directory);
        for (name, child) in &directory.children {
            remove(steps, &path.join(name), Some(child), child_of(replacement, name));
        }
    }
    // What is not synchronised never gets a step, even if a caller put it into a change.
    if let (None, Some(expected)) = (new, shallow_tracked(old)) {
        steps.push(Step { path: path.clone(), expected: Some(expected), new: None });
    }
}

/// Adds the creation or replacement of what is in `new` and not the same in `old`.
fn create(steps: &mut Vec<Step>, path: &SyncPath, old: Option<&Entry>, new: Option<&Entry>) {
    let Some(new) = new else { return };
    // What was of another kind is gone by now.
    let old = old.filter(|old| same_kind(old, new));
    let same = old.is_some_and(|old| old.shallow_eq(new));
    if let (false, Some(entry)) = (same, shallow_tracked(new)) {
        let expected = old.and_then(shallow_tracked);
        steps.push(Step { path: path.clone(), expected, new: Some(entry) });
    }
    if let Entry::Directory(directory) = new {
        let previous = old.and_then(Entry::as_directory);
        for (name, child) in &directory.children {
            create(steps, &path.join(name), child_of(previous, name), Some(child));
        }
    }
}

fn child_of<'a>(directory: Option<&'a Directory>, name: &Name) -> Option<&'a Entry> {
    directory.and_then(|directory| directory.child(name.as_bytes()))
}

fn same_kind(one: &Entry, other: &Entry) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}
