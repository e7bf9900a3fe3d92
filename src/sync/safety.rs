//! What stops a plan that looks like an accident (invariants I10, I12). Pure.
//!
//! A wrong mount, an emptied directory or a sandbox gone mad looks, to a three-way merge, just like
//! a wish to delete. These checks do not know better; they only ask before it is too late.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use icu_normalizer::DecomposingNormalizerBorrowed;
use skync_agent::entry::{Directory, Entry};
use skync_agent::path::{Name, SyncPath};

use super::plan::{Change, Plan, Problem, Side, Step};
use super::tracked::{count_files, is_absent};

#[cfg(test)]
mod tests;

/// Files of the host that the sandbox may delete or overwrite in one plan without a question,
/// whatever their share. Below this a person can look through them, and undo.
pub const HOST_FILES_LOST_MAX: u64 = 20;
/// Share of the host's files, in percent, that the sandbox may delete or overwrite in one plan.
pub const HOST_PERCENT_LOST_MAX: u64 = 50;
/// How long what the host lost counts as part of one accident, nanoseconds.
pub const RECENT_NS: u64 = 10_000_000_000;
/// Entries in the ancestor's root from which on an emptied root is suspicious. With a single one
/// it is everyday work: the only file was deleted.
pub const ROOT_ENTRIES_MIN: usize = 2;

/// What looks like an accident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HaltKind {
    /// The root is not there any more.
    RootGone,
    /// The root is there and nothing synchronised is in it; before, this many entries were.
    RootEmptied {
        /// Entries of the ancestor's root.
        entries: u64,
    },
    /// The root is not a directory.
    RootNotDirectory,
    /// The plan would delete or overwrite a large part of the host's files.
    BulkLoss {
        /// Files and links that it would delete or overwrite.
        lost: u64,
        /// Files and links on the host.
        total: u64,
    },
}

/// Why a plan was not carried out. A person may allow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    /// Where it looks like an accident.
    pub side: Side,
    /// What looks like one.
    pub kind: HaltKind,
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = self.side;
        let other = side.other();
        match self.kind {
            HaltKind::RootGone => write!(
                f,
                "the root on the {side} is gone; nothing was changed, so that the {other} is not emptied as well"
            ),
            HaltKind::RootEmptied { entries } => write!(
                f,
                "the root on the {side} is empty and held {entries} entries before; nothing was changed, so that the {other} is not emptied as well"
            ),
            HaltKind::RootNotDirectory => {
                write!(f, "the root on the {side} is not a directory; nothing was changed")
            }
            HaltKind::BulkLoss { lost, total } => write!(
                f,
                "the {other} would delete or overwrite {lost} of the {total} files on the {side}; nothing was changed"
            ),
        }
    }
}

impl std::error::Error for Halt {}

/// Says whether a plan may be carried out without asking.
///
/// # Errors
/// The first thing that looks like an accident.
pub fn check(
    ancestor: Option<&Entry>,
    host: Option<&Entry>,
    sandbox: Option<&Entry>,
    plan: &Plan,
    recent: &Recent,
) -> Result<(), Halt> {
    check_root(Side::Host, ancestor, host, plan)?;
    check_root(Side::Sandbox, ancestor, sandbox, plan)?;
    check_loss(host, plan, recent)
}

fn check_root(
    side: Side,
    ancestor: Option<&Entry>,
    root: Option<&Entry>,
    plan: &Plan,
) -> Result<(), Halt> {
    let halt = |kind| Err(Halt { side, kind });
    match (ancestor, root) {
        // Nothing is planned where the root could not be read.
        (_, Some(Entry::Problem(_))) | (None, None) => Ok(()),
        (Some(_), None) => halt(HaltKind::RootGone),
        (_, Some(Entry::File(_) | Entry::Symlink(_) | Entry::Untracked)) => {
            halt(HaltKind::RootNotDirectory)
        }
        (Some(Entry::Directory(before)), Some(Entry::Directory(now))) => {
            // In a one-way mode an emptied sandbox deletes nothing: it is filled again.
            let deletes = plan.changes(side.other()).iter().any(|change| change.new.is_none());
            if before.children.len() >= ROOT_ENTRIES_MIN && is_empty(now) && deletes {
                halt(HaltKind::RootEmptied { entries: before.children.len() as u64 })
            } else {
                Ok(())
            }
        }
        (_, Some(Entry::Directory(_))) => Ok(()),
    }
}

fn is_empty(directory: &Directory) -> bool {
    directory.children.iter().all(|(_, child)| is_absent(Some(child)))
}

/// What the host lost a short while ago. An accident that takes its time comes in many plans, none of
/// which looks like one.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    /// When, and whether the path was deleted rather than overwritten.
    lost: BTreeMap<SyncPath, (u64, bool)>,
}

impl Recent {
    /// Files and links that were lost at `now_ns`: those of steps for the host that were done.
    pub fn add(&mut self, step: &Step, now_ns: u64) {
        if lost_files(step.expected.as_ref(), step.new.as_ref()) > 0 {
            self.lost.insert(step.path.clone(), (now_ns, step.new.is_none()));
        }
    }

    /// Forgets what was lost longer ago than [`RECENT_NS`].
    pub fn forget_before(&mut self, now_ns: u64) {
        self.lost.retain(|_, (at, _)| now_ns.saturating_sub(*at) < RECENT_NS);
    }

    /// A person has seen it and said that it is right.
    pub fn clear(&mut self) {
        self.lost.clear();
    }
}

fn check_loss(host: Option<&Entry>, plan: &Plan, recent: &Recent) -> Result<(), Halt> {
    if plan.host.is_empty() {
        return Ok(());
    }
    let now: u64 =
        plan.host.iter().map(|change| lost_files(change.old.as_ref(), change.new.as_ref())).sum();
    // What was lost a moment ago and is to be lost again counts once: a file that is written over
    // and over is no accident.
    let is_again = |path: &&SyncPath| {
        plan.host.iter().any(|change| change.path == **path || path.is_below(&change.path))
    };
    let before = recent.lost.len() as u64;
    // The host's files are counted only when there may be too many.
    if now == 0 || now + before <= HOST_FILES_LOST_MAX {
        return Ok(());
    }
    let lost = now + before - recent.lost.keys().filter(is_again).count() as u64;
    let deleted = recent.lost.values().filter(|(_, deleted)| *deleted).count() as u64;
    let total = count_files(host) + deleted;
    let is_much = lost.saturating_mul(100) > total.saturating_mul(HOST_PERCENT_LOST_MAX);
    if lost > HOST_FILES_LOST_MAX && is_much {
        return Err(Halt { side: Side::Host, kind: HaltKind::BulkLoss { lost, total } });
    }
    Ok(())
}

/// Files and links of `old` whose content is not at the same path in `new`. A moved file counts: at
/// this path it is gone.
fn lost_files(old: Option<&Entry>, new: Option<&Entry>) -> u64 {
    match (old, new) {
        (Some(Entry::Directory(old)), Some(Entry::Directory(new))) => old
            .children
            .iter()
            .map(|(name, child)| lost_files(Some(child), new.child(name.as_bytes())))
            .sum(),
        (Some(Entry::File(old)), Some(Entry::File(new))) => u64::from(!old.same_content(new)),
        (Some(old), Some(new)) if old == new => 0,
        (old, _) => count_files(old),
    }
}

/// What a side does not tell apart in names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folds {
    /// `a` and `A`; whoever folds case folds Unicode's forms, too.
    pub case: bool,
    /// Unicode's ways to write one letter: `é` as one character, or as an `e` and an accent.
    pub form: bool,
}

/// Takes out of the changes to one side what that side could not tell apart from something else,
/// and reports it (invariant I12).
///
/// Names are compared by Unicode's canonical form if the side does not tell forms apart, and by lower
/// case too if it does not tell cases apart; otherwise nothing collides. Of a new name and one that stays, the new one is taken out; of two new names, both.
/// `tree` is what the side has.
pub fn take_out_collisions(
    side: Side,
    changes: Vec<Change>,
    tree: Option<&Entry>,
    folds: Folds,
) -> (Vec<Change>, Vec<Problem>) {
    if folds == Folds::default() {
        return (changes, Vec::new());
    }
    let mut problems = Vec::new();
    let colliding = colliding_changes(side, &changes, tree, folds, &mut problems);
    let mut kept = Vec::with_capacity(changes.len());
    for (at, mut change) in changes.into_iter().enumerate() {
        if colliding.contains(&at) {
            continue;
        }
        if let Some(Entry::Directory(new)) = &mut change.new {
            take_out_twins(side, &change.path, new, folds, &mut problems);
        }
        kept.push(change);
    }
    (kept, problems)
}

/// Finds the changes that create a name beside one that it collides with.
fn colliding_changes(
    side: Side,
    changes: &[Change],
    tree: Option<&Entry>,
    folds: Folds,
    problems: &mut Vec<Problem>,
) -> BTreeSet<usize> {
    let mut by_directory: BTreeMap<SyncPath, Vec<(usize, Name)>> = BTreeMap::new();
    for (at, change) in changes.iter().enumerate() {
        if let Some((directory, name)) = change.path.split() {
            by_directory.entry(directory).or_default().push((at, name));
        }
    }
    let mut colliding = BTreeSet::new();
    for (directory, members) in by_directory {
        let creates = |at: usize| changes[at].old.is_none() && changes[at].new.is_some();
        if !members.iter().any(|(at, _)| creates(*at)) {
            continue;
        }
        let gone: BTreeSet<&Name> = members
            .iter()
            .filter(|(at, _)| changes[*at].new.is_none())
            .map(|(_, name)| name)
            .collect();
        let there = tree.and_then(|tree| tree.find(&directory)).and_then(Entry::as_directory);
        let there = there.into_iter().flat_map(|directory| &directory.children);
        let staying = there.map(|(name, _)| name).filter(|name| !gone.contains(name));
        let created = members.iter().filter(|(at, _)| creates(*at)).map(|(_, name)| name);
        let mut twins: HashMap<String, Vec<&Name>> = HashMap::new();
        for name in staying.chain(created) {
            twins.entry(folds.folded(name)).or_default().push(name);
        }
        for (at, name) in members.iter().filter(|(at, _)| creates(*at)) {
            if let Some(other) = twins[&folds.folded(name)].iter().find(|other| **other != name) {
                problems.push(collision(side, directory.join(name), other));
                colliding.insert(*at);
            }
        }
    }
    colliding
}

/// Takes out of a new directory the names that collide with each other.
fn take_out_twins(
    side: Side,
    path: &SyncPath,
    directory: &mut Directory,
    folds: Folds,
    problems: &mut Vec<Problem>,
) {
    let mut twins: HashMap<String, Vec<Name>> = HashMap::new();
    for (name, _) in &directory.children {
        twins.entry(folds.folded(name)).or_default().push(name.clone());
    }
    directory.children.retain_mut(|(name, child)| {
        let path = path.join(name);
        if let Some(other) = twins[&folds.folded(name)].iter().find(|other| *other != name) {
            problems.push(collision(side, path, other));
            return false;
        }
        if let Entry::Directory(child) = child {
            take_out_twins(side, &path, child, folds, problems);
        }
        true
    });
}

fn collision(side: Side, path: SyncPath, other: &Name) -> Problem {
    let name = path.names().last().unwrap_or_default();
    let by_case = |name: &[u8]| String::from_utf8_lossy(name).to_lowercase();
    let how = if by_case(name) == by_case(other.as_bytes()) { "case" } else { "its Unicode form" };
    let reason =
        format!("the {side} does not tell it apart from `{other}`, which differs in {how}");
    Problem { side, path, reason }
}

impl Folds {
    /// What names have in common that this side does not tell apart. Names that are not UTF-8 have no
    /// case; replacement characters make them collide at worst, which is reported.
    fn folded(self, name: &Name) -> String {
        let text = String::from_utf8_lossy(name.as_bytes());
        let text = if self.case { text.to_lowercase().into() } else { text };
        DecomposingNormalizerBorrowed::new_nfd().normalize(&text).into_owned()
    }
}
