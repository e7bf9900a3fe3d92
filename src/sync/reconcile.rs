//! Decides what to change so that two trees become the same. Pure: no I/O, no clock, no log.
//!
//! The two trees and the ancestor are walked together, once, over sorted names. At each path:
//!
//! 1. Unreadable on a side: nothing is planned at or below it, and the ancestor stays.
//! 2. Nothing synchronised on either side: the ancestor forgets the path.
//! 3. The same on both sides: the ancestor takes it over, and the walk goes into directories. So
//!    the same change on both sides is no conflict, and the first contact of two equal trees is
//!    cheap.
//! 4. Different: the mode decides for everything at and below the path, see [`SyncMode`]:
//!
//! | since the ancestor | two-way-safe | two-way-resolved | one-way-safe | one-way-replica |
//! |---|---|---|---|---|
//! | only the host changed it | → sandbox | → sandbox | → sandbox | → sandbox |
//! | only the sandbox deleted it | → host | → host | → sandbox (back again) | → sandbox |
//! | only the sandbox changed it | → host | → host | conflict | → sandbox |
//! | only the sandbox created it | → host | → host | left alone | → sandbox (deleted) |
//! | host deleted, sandbox changed | → host, noted | → host, noted | left alone | → sandbox |
//! | sandbox deleted, host changed | → sandbox, noted | → sandbox, noted | → sandbox | → sandbox |
//! | both changed it, differently | conflict | → sandbox, noted | conflict | → sandbox |
//!
//! Choices that other synchronisers make otherwise:
//!
//! - **Deleted here, changed there: the change wins**, also in two-way-resolved, because a deletion
//!   can be repeated and lost work cannot. For a directory this brings back all of it.
//! - **What is excluded inside a directory that the other side deleted stays**, with the directory
//!   around it; what is tracked is deleted. The ancestor keeps the directory, so that it goes too
//!   once it is empty. Until then it counts as absent ([`super::tracked`]).
//! - **Something excluded, special or unreadable is never written over**: that is a conflict.
//! - **A directory with something unreadable in it is deleted only around that**; its parents stay.
//! - In one-way-safe a directory that the host deleted and the sandbox added to is a conflict: the
//!   new file cannot be told from the directory that it needs.
//!
//! With no ancestor nothing is ever deleted, except in one-way-replica, whose meaning it is.

use std::iter::Peekable;
use std::slice;

use skync_agent::entry::{Directory, Entry};
use skync_agent::path::{Name, SyncPath};

use super::decide::Decisions;
use super::dirty::Dirty;
use super::plan::{Change, ConflictKind, Note, NoteKind, Plan, Problem, Side};
use super::tracked::{holds_problem, holds_untracked, is_absent, shallow_tracked, tracked};
use crate::config::SyncMode;

mod decided;

#[cfg(test)]
mod tests;

/// Compares both sides with the ancestor and plans what makes them the same. Where that is a
/// conflict, and a person decided about just these two versions, the plan does what was decided.
///
/// The cost is linear in the size of the three trees, as far as they do not share their directories;
/// only what goes into the plan is copied.
pub fn reconcile(
    ancestor: Option<&Entry>,
    host: Option<&Entry>,
    sandbox: Option<&Entry>,
    mode: SyncMode,
    decisions: &Decisions,
) -> Plan {
    reconcile_within(ancestor, host, sandbox, mode, decisions, &Dirty::all())
}

/// As [`reconcile`], for nothing but the paths in `dirty` and what is below them.
///
/// Where only one side has a directory on the way to such a path, everything at and below that
/// point is decided, as it always is. The cost is linear in what is looked at.
pub fn reconcile_within<'a>(
    ancestor: Option<&'a Entry>,
    host: Option<&'a Entry>,
    sandbox: Option<&'a Entry>,
    mode: SyncMode,
    decisions: &'a Decisions,
    dirty: &'a Dirty,
) -> Plan {
    if dirty.is_empty() {
        return Plan::default();
    }
    let root = Trio { ancestor, host, sandbox, dirty };
    let mut walk = Walk { mode, decisions, root, trail: Vec::new(), plan: Plan::default() };
    let mut levels: Vec<_> = walk.visit(root).into_iter().collect();
    // A loop rather than a recursion: how deep the sandbox's tree is, is the sandbox's choice.
    while let Some(level) = levels.last_mut() {
        let Some((name, at)) = level.next() else {
            levels.pop();
            walk.trail.pop();
            continue;
        };
        walk.trail.push(name);
        match walk.visit(at) {
            Some(below) => levels.push(below),
            None => drop(walk.trail.pop()),
        }
    }
    walk.plan
}

/// What the three trees have at one path.
#[derive(Clone, Copy)]
struct Trio<'a> {
    ancestor: Option<&'a Entry>,
    host: Option<&'a Entry>,
    sandbox: Option<&'a Entry>,
    /// What is to be looked at here and below.
    dirty: &'a Dirty,
}

impl<'a> Trio<'a> {
    fn on(&self, side: Side) -> Option<&'a Entry> {
        match side {
            Side::Host => self.host,
            Side::Sandbox => self.sandbox,
        }
    }
}

/// The names of a directory that both sides have, and of what the ancestor has there, in order.
enum Level<'a> {
    /// All of them.
    Whole { ancestor: Children<'a>, host: Children<'a>, sandbox: Children<'a>, dirty: &'a Dirty },
    /// Those on the way to something dirty.
    Part {
        ancestor: Option<&'a Directory>,
        host: &'a Directory,
        sandbox: &'a Directory,
        names: Box<dyn Iterator<Item = (&'a Name, &'a Dirty)> + 'a>,
    },
}

impl<'a> Level<'a> {
    fn new(
        ancestor: Option<&'a Directory>,
        host: &'a Directory,
        sandbox: &'a Directory,
        dirty: &'a Dirty,
    ) -> Option<Self> {
        if !dirty.is_whole() {
            return Some(Self::Part { ancestor, host, sandbox, names: Box::new(dirty.names()) });
        }
        let shared = |known: &Directory| {
            known.children.is_shared_with(&host.children)
                && known.children.is_shared_with(&sandbox.children)
        };
        if ancestor.is_some_and(shared) {
            return None;
        }
        let known: &'a [(Name, Entry)] = ancestor.map_or(&[], |directory| &directory.children);
        Some(Self::Whole {
            ancestor: known.iter().peekable(),
            host: host.children.iter().peekable(),
            sandbox: sandbox.children.iter().peekable(),
            dirty,
        })
    }
}

impl<'a> Iterator for Level<'a> {
    type Item = (&'a Name, Trio<'a>);

    /// A name that only the ancestor has comes too: both sides deleted it.
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Whole { ancestor, host, sandbox, dirty } => {
                let heads = [&mut *ancestor, &mut *host, &mut *sandbox].map(peek_name);
                let name = heads.into_iter().flatten().min()?;
                let (ancestor, host) = (take(ancestor, name), take(host, name));
                let sandbox = take(sandbox, name);
                Some((name, Trio { ancestor, host, sandbox, dirty }))
            }
            Self::Part { ancestor, host, sandbox, names } => {
                let (name, dirty) = names.next()?;
                let ancestor = ancestor.and_then(|directory| directory.child(name.as_bytes()));
                let host = host.child(name.as_bytes());
                let sandbox = sandbox.child(name.as_bytes());
                Some((name, Trio { ancestor, host, sandbox, dirty }))
            }
        }
    }
}

/// How a side differs from the ancestor at and below a path.
#[derive(Clone, Copy, Default)]
struct Drift {
    /// Something is new or different.
    modified: bool,
    /// Something is gone.
    deleted: bool,
}

impl Drift {
    const DELETED: Self = Self { modified: false, deleted: true };
    const MODIFIED: Self = Self { modified: true, deleted: false };

    fn any(self) -> bool {
        self.modified || self.deleted
    }
}

struct Walk<'a> {
    mode: SyncMode,
    decisions: &'a Decisions,
    root: Trio<'a>,
    /// The names from the root to where the walk is. A path is built only where one is needed.
    trail: Vec<&'a Name>,
    plan: Plan,
}

impl<'a> Walk<'a> {
    /// Decides about one path. Returns what is to be visited below it.
    fn visit(&mut self, at: Trio<'a>) -> Option<Level<'a>> {
        if self.report_unreadable(at) {
            return None;
        }
        match (at.host, at.sandbox) {
            (Some(Entry::Directory(host)), Some(Entry::Directory(sandbox))) => {
                let ancestor = at.ancestor.and_then(Entry::as_directory);
                if ancestor.is_none() {
                    self.agree(at.ancestor, at.host);
                }
                return Level::new(ancestor, host, sandbox, at.dirty);
            }
            (host, sandbox) if is_absent(host) && is_absent(sandbox) => self.forget(at),
            (Some(host), Some(sandbox)) if host.shallow_eq(sandbox) => {
                if at.ancestor.is_none_or(|ancestor| !ancestor.shallow_eq(host)) {
                    self.agree(at.ancestor, at.host);
                }
            }
            _ => self.settle_difference(at),
        }
        None
    }

    /// Records what could not be read at this very path, and says whether there was something.
    fn report_unreadable(&mut self, at: Trio<'a>) -> bool {
        let mut found = false;
        for side in [Side::Host, Side::Sandbox] {
            if let Some(Entry::Problem(reason)) = at.on(side) {
                let (path, reason) = (self.path(), reason.clone());
                self.plan.problems.push(Problem { side, path, reason });
                found = true;
            }
        }
        found
    }

    /// Records what could not be read below this path on one side.
    fn report_unreadable_below(&mut self, side: Side, entry: Option<&'a Entry>) {
        let Some(Entry::Directory(directory)) = entry else {
            return;
        };
        for (name, child) in &directory.children {
            self.trail.push(name);
            if let Entry::Problem(reason) = child {
                let (path, reason) = (self.path(), reason.clone());
                self.plan.problems.push(Problem { side, path, reason });
            }
            self.report_unreadable_below(side, Some(child));
            self.trail.pop();
        }
    }

    /// Both sides have nothing here that is synchronised.
    ///
    /// Where a husk is left of a directory, the ancestor keeps the directory and forgets what was
    /// in it: once the excluded content goes too, the empty directory is still known as deleted
    /// and does not come back as a new one.
    fn forget(&mut self, at: Trio<'a>) {
        let husk = [at.host, at.sandbox].into_iter().flatten().find_map(Entry::as_directory);
        match (at.ancestor, husk) {
            (None, _) => {}
            (Some(Entry::Directory(ancestor)), Some(husk)) => {
                self.forget_below(ancestor, Some(husk));
            }
            (Some(_), _) => self.agree(at.ancestor, None),
        }
    }

    /// Takes from the ancestor what neither side has any more below a path where at most one side
    /// has a directory.
    ///
    /// Were such a path remembered, making the same file again would look like its deletion on the
    /// other side.
    fn forget_below(&mut self, ancestor: &'a Directory, directory: Option<&'a Directory>) {
        for (name, known) in &ancestor.children {
            let found = directory.and_then(|directory| directory.child(name.as_bytes()));
            self.trail.push(name);
            match (known, found) {
                (_, Some(Entry::Problem(_))) => {}
                (Entry::Directory(known), Some(Entry::Directory(found))) => {
                    self.forget_below(known, Some(found));
                }
                (_, found) if is_absent(found) => self.agree(Some(known), None),
                (Entry::Directory(known), _) => self.forget_below(known, None),
                (_, _) => {}
            }
            self.trail.pop();
        }
    }

    /// The sides differ, and at most one of them has a directory here.
    fn settle_difference(&mut self, at: Trio<'a>) {
        self.report_unreadable_below(Side::Host, at.host);
        self.report_unreadable_below(Side::Sandbox, at.sandbox);
        if let Some(Entry::Directory(ancestor)) = at.ancestor {
            let sides = [at.host, at.sandbox].into_iter().flatten();
            self.forget_below(ancestor, sides.filter_map(Entry::as_directory).next());
        }
        match self.mode {
            SyncMode::TwoWaySafe | SyncMode::TwoWayResolved => self.settle_two_way(at),
            SyncMode::OneWaySafe => self.settle_one_way_safe(at),
            SyncMode::OneWayReplica => self.write(Side::Sandbox, at),
        }
    }

    fn settle_two_way(&mut self, at: Trio<'a>) {
        let host = drift(at.ancestor, at.host);
        let sandbox = drift(at.ancestor, at.sandbox);
        if !sandbox.any() {
            return self.write(Side::Sandbox, at);
        }
        if !host.any() {
            return self.write(Side::Host, at);
        }
        match (host.modified, sandbox.modified) {
            // Both only deleted, one of them everything: nothing of it is wanted any more.
            (false, false) => {
                let rest = if is_absent(at.host) { Side::Sandbox } else { Side::Host };
                self.delete(rest, at.on(rest));
            }
            (true, false) => self.keep_change(Side::Sandbox, at),
            (false, true) => self.keep_change(Side::Host, at),
            (true, true) if self.mode == SyncMode::TwoWayResolved => {
                if self.write_unless_blocked(Side::Sandbox, at) {
                    self.note(NoteKind::HostWon);
                }
            }
            (true, true) => self.conflict(at, ConflictKind::BothChanged),
        }
    }

    fn settle_one_way_safe(&mut self, at: Trio<'a>) {
        if !drift(at.ancestor, at.sandbox).modified {
            return self.write(Side::Sandbox, at);
        }
        let directory = |entry: Option<&Entry>| matches!(entry, Some(Entry::Directory(_)));
        if !is_absent(at.host) {
            let host_changed = drift(at.ancestor, at.host).modified;
            let kind = match host_changed {
                true => ConflictKind::BothChanged,
                false => ConflictKind::SandboxChanged,
            };
            self.conflict(at, kind);
        } else if directory(at.ancestor) && directory(at.sandbox) {
            self.conflict(at, ConflictKind::SandboxChanged);
        } else if at.ancestor.is_some() {
            // It is the sandbox's own from now on.
            self.agree(at.ancestor, None);
        }
    }

    /// One side only deleted, the other changed: the change goes where it was deleted.
    fn keep_change(&mut self, deleted_on: Side, at: Trio<'a>) {
        if self.write_unless_blocked(deleted_on, at) {
            self.note(NoteKind::ChangeKept { deleted_on });
        }
    }

    fn write(&mut self, to: Side, at: Trio<'a>) {
        self.write_unless_blocked(to, at);
    }

    /// Plans that `to` becomes what the other side is. False if that is a conflict because of
    /// something on `to` that is never written over.
    fn write_unless_blocked(&mut self, to: Side, at: Trio<'a>) -> bool {
        let written = self.try_write(to, at);
        if !written {
            self.conflict(at, ConflictKind::Blocked(to));
        }
        written
    }

    /// As [`Walk::write_unless_blocked`], without a conflict.
    fn try_write(&mut self, to: Side, at: Trio<'a>) -> bool {
        let target = at.on(to);
        let source = at.on(to.other()).filter(|source| !is_absent(Some(source)));
        let Some(new) = source.and_then(tracked) else {
            self.delete(to, target);
            return true;
        };
        if target.is_some_and(holds_untracked) {
            return false;
        }
        self.change(to, target.and_then(tracked), Some(new));
        true
    }

    /// Plans the deletion of what is tracked; around something unreadable, of as much as possible.
    fn delete(&mut self, side: Side, target: Option<&'a Entry>) {
        let Some(target) = target else { return };
        match target {
            Entry::Directory(directory) if holds_problem(target) => {
                for (name, child) in &directory.children {
                    self.trail.push(name);
                    self.delete(side, Some(child));
                    self.trail.pop();
                }
            }
            _ => {
                if let Some(old) = tracked(target) {
                    self.change(side, Some(old), None);
                }
            }
        }
    }

    fn change(&mut self, side: Side, old: Option<Entry>, new: Option<Entry>) {
        let change = Change { path: self.path(), old, new };
        match side {
            Side::Host => self.plan.host.push(change),
            Side::Sandbox => self.plan.sandbox.push(change),
        }
    }

    fn agree(&mut self, old: Option<&Entry>, new: Option<&Entry>) {
        let path = self.path();
        let (old, new) = (old.and_then(shallow_tracked), new.and_then(shallow_tracked));
        self.plan.agreed.push(Change { path, old, new });
    }

    fn note(&mut self, kind: NoteKind) {
        let path = self.path();
        self.plan.notes.push(Note { path, kind });
    }

    fn path(&self) -> SyncPath {
        self.trail.iter().fold(SyncPath::root(), |path, name| path.join(name))
    }
}

type Children<'a> = Peekable<slice::Iter<'a, (Name, Entry)>>;

fn peek_name<'a>(children: &mut Children<'a>) -> Option<&'a Name> {
    children.peek().map(|(name, _)| name)
}

fn take<'a>(children: &mut Children<'a>, name: &Name) -> Option<&'a Entry> {
    children.next_if(|(other, _)| other == name).map(|(_, entry)| entry)
}

/// How `entry` differs from the ancestor. What could not be read counts as unchanged.
fn drift(ancestor: Option<&Entry>, entry: Option<&Entry>) -> Drift {
    match (ancestor, entry) {
        (_, Some(Entry::Problem(_))) => Drift::default(),
        (Some(Entry::Directory(ancestor)), Some(Entry::Directory(directory))) => {
            drift_below(ancestor, directory)
        }
        (None, entry) if is_absent(entry) => Drift::default(),
        (None, _) => Drift::MODIFIED,
        (Some(_), entry) if is_absent(entry) => Drift::DELETED,
        (Some(ancestor), Some(entry)) if ancestor.shallow_eq(entry) => Drift::default(),
        (Some(_), _) => Drift::MODIFIED,
    }
}

fn drift_below(ancestor: &Directory, directory: &Directory) -> Drift {
    let mut known = ancestor.children.iter().peekable();
    let mut found = directory.children.iter().peekable();
    let mut sum = Drift::default();
    while !(sum.modified && sum.deleted) {
        let names = [peek_name(&mut known), peek_name(&mut found)];
        let Some(name) = names.into_iter().flatten().min() else {
            break;
        };
        let one = drift(take(&mut known, name), take(&mut found, name));
        sum.modified |= one.modified;
        sum.deleted |= one.deleted;
    }
    sum
}
