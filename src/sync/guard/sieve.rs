//! Finds in one change what must not come home unasked. Pure.
//!
//! A loop with a list of what is still to be looked at, not a recursion: how deep the sandbox's tree
//! is, is the sandbox's choice.

use std::collections::BTreeMap;

use skync_agent::entry::{Directory, Entry};
use skync_agent::path::SyncPath;

use super::{Guards, keep};
use crate::sync::decide::{Choice, Decisions, contents};
use crate::sync::plan::{Change, Conflict, ConflictKind};

/// What came of a change.
#[derive(Default)]
pub(super) struct Found {
    /// Where the host stays as it is: none lies within another.
    pub(super) held: Vec<SyncPath>,
    /// What nobody decided about; each is held.
    pub(super) conflicts: Vec<Conflict>,
    /// What somebody decided about.
    pub(super) decided: Vec<SyncPath>,
    /// What brings the host's state back to the sandbox where that was decided.
    pub(super) back: Vec<Change>,
}

/// Looks through a change to the host.
pub(super) fn sift(change: &Change, guards: &Guards, decisions: &Decisions) -> Found {
    let parent = change.path.split().map(|(parent, _)| parent);
    let is_below_guarded = parent.is_some_and(|parent| guards.covers(&parent, true));
    let mut sieve = Sieve { guards, decisions, found: Found::default(), lost: BTreeMap::new() };
    let first = Place {
        path: change.path.clone(),
        old: change.old.as_ref(),
        new: change.new.as_ref(),
        above: if is_below_guarded { Above::Guarded } else { Above::Open },
        gone: None,
    };
    let mut waiting = vec![first];
    while let Some(place) = waiting.pop() {
        sieve.look(place, &mut waiting);
    }
    for (path, wanted) in std::mem::take(&mut sieve.lost) {
        let old = change.old.as_ref().and_then(|old| below(old, &change.path, &path));
        let mut new = None;
        wanted.iter().for_each(|at| keep(&path, old, &mut new, at));
        sieve.found.back.push(Change { path, old: None, new });
    }
    sieve.found
}

/// The entry at `path` of a tree whose root is at `root`.
fn below<'a>(entry: &'a Entry, root: &SyncPath, path: &SyncPath) -> Option<&'a Entry> {
    let mut names = path.names().skip(root.names().count());
    names.try_fold(entry, |entry, name| entry.as_directory()?.child(name))
}

/// What holds for everything below a directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Above {
    /// Each path by itself.
    Open,
    /// All of it is guarded.
    Guarded,
    /// A person said yes to all of it, apart from links that leave the project.
    Allowed,
}

/// A path to look at.
struct Place<'a> {
    path: SyncPath,
    old: Option<&'a Entry>,
    new: Option<&'a Entry>,
    above: Above,
    /// The highest directory around it that the sandbox does not have any more.
    gone: Option<SyncPath>,
}

struct Sieve<'a> {
    guards: &'a Guards,
    decisions: &'a Decisions,
    found: Found,
    /// What the sandbox gets back of directories that it does not have any more, by these.
    lost: BTreeMap<SyncPath, Vec<SyncPath>>,
}

impl Sieve<'_> {
    fn look<'a>(&mut self, mut place: Place<'a>, waiting: &mut Vec<Place<'a>>) {
        if place.old == place.new {
            return;
        }
        let directories = [place.old, place.new].map(|e| e.and_then(Entry::as_directory));
        if let [Some(_), Some(_)] = directories {
            place.above = self.state(&place, true);
            return expand(&place, directories, waiting);
        }
        let is_guarded = [place.old, place.new]
            .into_iter()
            .flatten()
            .any(|entry| self.state(&place, entry.as_directory().is_some()) == Above::Guarded);
        let leaves = match place.new {
            Some(Entry::Symlink(target)) => self.guards.leaves_root(&place.path, target),
            _ => false,
        };
        // There is no half of a file in the place of a directory.
        let replaces_guarded = place.above == Above::Open
            && place.new.is_some()
            && directories[0].is_some_and(|old| self.holds_guarded(&place.path, old));
        let kind = match (is_guarded || replaces_guarded, leaves) {
            (true, _) => Some(ConflictKind::Guarded),
            (false, true) => Some(ConflictKind::LeavesRoot),
            (false, false) => None,
        };
        if let Some(kind) = kind {
            match self.ask(&place, kind) {
                Some(Choice::Sandbox) => place.above = Above::Allowed,
                answer => return self.hold(place, answer),
            }
        }
        if place.new.is_none() && place.gone.is_none() {
            place.gone = Some(place.path.clone());
        }
        match directories {
            // What a file takes the place of was looked through.
            [Some(_), None] if place.new.is_some() => {}
            directories => expand(&place, directories, waiting),
        }
    }

    /// What holds at a path, as a directory or as something else.
    fn state(&self, place: &Place<'_>, is_directory: bool) -> Above {
        match place.above {
            Above::Open if self.guards.matches(&place.path, is_directory) => Above::Guarded,
            above => above,
        }
    }

    /// True if something in a directory, none of which is guarded from above, is guarded.
    fn holds_guarded(&self, path: &SyncPath, directory: &Directory) -> bool {
        let mut waiting = vec![(path.clone(), directory)];
        while let Some((path, directory)) = waiting.pop() {
            for (name, child) in &directory.children {
                let (path, below) = (path.join(name), child.as_directory());
                if self.guards.matches(&path, below.is_some()) {
                    return true;
                }
                waiting.extend(below.map(|below| (path, below)));
            }
        }
        false
    }

    /// Asks what was decided; if nothing was, that is a conflict.
    fn ask(&mut self, place: &Place<'_>, kind: ConflictKind) -> Option<Choice> {
        let directory = [place.old, place.new].into_iter().flatten().find_map(Entry::as_directory);
        let conflict = Conflict {
            path: place.path.clone(),
            host: place.old.map(Entry::shallow),
            sandbox: place.new.map(Entry::shallow),
            ancestor: None,
            contents: directory.map(contents),
            kind,
        };
        let choice = self.decisions.choice(&conflict).filter(|choice| *choice != Choice::Both);
        match choice {
            Some(_) => self.found.decided.push(conflict.path),
            None => self.found.conflicts.push(conflict),
        }
        choice
    }

    /// The host stays as it is; if a person said so, the sandbox becomes that too.
    fn hold(&mut self, place: Place<'_>, answer: Option<Choice>) {
        let Place { path, old, new, gone, .. } = place;
        self.found.held.push(path.clone());
        match (answer, gone) {
            (Some(Choice::Host), Some(gone)) => self.lost.entry(gone).or_default().push(path),
            (Some(Choice::Host), None) => {
                let (old, new) = (new.cloned(), old.cloned());
                self.found.back.push(Change { path, old, new });
            }
            (Some(Choice::Sandbox | Choice::Both) | None, _) => {}
        }
    }
}

/// Puts what is in directories on the list, so that the first name is looked at first.
fn expand<'a>(
    place: &Place<'a>,
    [old, new]: [Option<&'a Directory>; 2],
    waiting: &mut Vec<Place<'a>>,
) {
    let from = waiting.len();
    let mut add = |name: &skync_agent::path::Name, old, new| {
        let (path, gone) = (place.path.join(name), place.gone.clone());
        waiting.push(Place { path, old, new, above: place.above, gone });
    };
    for (name, child) in old.into_iter().flat_map(|old| &old.children) {
        add(name, Some(child), new.and_then(|new| new.child(name.as_bytes())));
    }
    for (name, child) in new.into_iter().flat_map(|new| &new.children) {
        if old.is_none_or(|old| old.child(name.as_bytes()).is_none()) {
            add(name, None, Some(child));
        }
    }
    waiting[from..].sort_by(|one, other| other.path.cmp(&one.path));
}
