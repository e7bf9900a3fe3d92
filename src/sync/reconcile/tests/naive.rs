//! The rules once more, written from `sync.md` §3.2–3.3 and our choices with no thought for cost:
//! whole trees are copied, and the ancestor is updated path by path from a definition rather than
//! along the walk. What the real one plans must be the same.

use std::collections::BTreeSet;

use skync_agent::entry::{Directory, Entry};
use skync_agent::path::{Name, SyncPath};

use super::world::flat;
use crate::config::SyncMode;
use crate::sync::ancestor::Ancestor;
use crate::sync::plan::{Change, ConflictKind, Side};

#[derive(Default, Debug)]
pub(super) struct NaivePlan {
    pub(super) host: Vec<Change>,
    pub(super) sandbox: Vec<Change>,
    pub(super) conflicts: Vec<(SyncPath, ConflictKind)>,
    /// What the sandbox may keep for itself (one-way-safe).
    forgotten: Vec<SyncPath>,
}

type Tree = Option<Entry>;

fn children(tree: &Tree) -> Vec<(Name, Entry)> {
    tree.as_ref().and_then(Entry::as_directory).map_or_else(Vec::new, |d| d.children.to_vec())
}

fn child(tree: &Tree, name: &Name) -> Tree {
    tree.as_ref()?.as_directory()?.child(name.as_bytes()).cloned()
}

fn directory(children: Vec<(Name, Entry)>) -> Entry {
    Entry::Directory(Directory { mode: 0o755, only_excluded: false, children: children.into() })
}

fn is_dir(tree: &Tree) -> bool {
    matches!(tree, Some(Entry::Directory(_)))
}

fn is_problem(tree: &Tree) -> bool {
    matches!(tree, Some(Entry::Problem(_)))
}

/// sync(x): the tree without what is not synchronised.
fn clean(tree: &Tree) -> Tree {
    match tree {
        Some(Entry::Directory(d)) => {
            let kept: Vec<_> = d
                .children
                .iter()
                .filter_map(|(n, c)| Some((n.clone(), clean(&Some(c.clone()))?)))
                .collect();
            let unread = d.children.iter().any(|(_, c)| matches!(c, Entry::Problem(_)));
            let truly_empty = d.children.is_empty() && !d.only_excluded;
            (!kept.is_empty() || unread || truly_empty).then(|| directory(kept))
        }
        Some(Entry::Untracked | Entry::Problem(_)) => None,
        other => other.clone(),
    }
}

fn absent(tree: &Tree) -> bool {
    !is_problem(tree) && clean(tree).is_none()
}

/// The tree as far as it is known: as in the ancestor where it could not be read, and a directory
/// that only excluded content keeps is one if the ancestor has it.
fn seen(ancestor: &Tree, tree: &Tree) -> Tree {
    match tree {
        Some(Entry::Problem(_)) => ancestor.clone(),
        Some(Entry::Directory(d)) if is_dir(ancestor) || !absent(tree) => {
            let mut kept: Vec<_> = d
                .children
                .iter()
                .filter_map(|(n, c)| {
                    Some((n.clone(), seen(&child(ancestor, n), &Some(c.clone()))?))
                })
                .collect();
            kept.sort_by(|one, other| one.0.cmp(&other.0));
            Some(directory(kept))
        }
        Some(Entry::File(_) | Entry::Symlink(_)) => tree.clone(),
        Some(Entry::Directory(_) | Entry::Untracked) | None => None,
    }
}

/// diff(base, target): true for each change that is not a deletion.
fn diff(base: &Tree, target: &Tree) -> Vec<bool> {
    match (base, target) {
        (None, None) => vec![],
        (Some(one), Some(other)) if one.shallow_eq(other) => union(&[base, target])
            .iter()
            .flat_map(|n| diff(&child(base, n), &child(target, n)))
            .collect(),
        _ => vec![target.is_some()],
    }
}

fn union(trees: &[&Tree]) -> BTreeSet<Name> {
    trees.iter().flat_map(|tree| children(tree)).map(|(name, _)| name).collect()
}

/// True if writing here would destroy what is not synchronised.
fn guarded(tree: &Tree) -> bool {
    flat(tree.as_ref()).values().any(|entry| match entry {
        Entry::Untracked | Entry::Problem(_) => true,
        Entry::Directory(d) => d.only_excluded,
        _ => false,
    })
}

impl NaivePlan {
    pub(super) fn make(a: &Tree, h: &Tree, s: &Tree, mode: SyncMode) -> Self {
        let mut plan = Self::default();
        plan.visit(&SyncPath::root(), a, h, s, mode);
        plan
    }

    fn visit(&mut self, p: &SyncPath, a: &Tree, h: &Tree, s: &Tree, mode: SyncMode) {
        if is_problem(h) || is_problem(s) {
            return;
        }
        let same = matches!((h, s), (Some(h), Some(s)) if h.shallow_eq(s));
        if same {
            let a = if is_dir(a) && is_dir(h) { a.clone() } else { None };
            for n in union(&[&a, h, s]) {
                self.visit(&p.join(&n), &child(&a, &n), &child(h, &n), &child(s, &n), mode);
            }
            return;
        }
        if absent(h) && absent(s) {
            return;
        }
        let (dh, ds) = (diff(a, &seen(a, h)), diff(a, &seen(a, s)));
        let (nh, ns) = (dh.contains(&true), ds.contains(&true));
        match mode {
            SyncMode::OneWayReplica => self.write(Side::Sandbox, p, s, h),
            SyncMode::OneWaySafe if !ns => self.write(Side::Sandbox, p, s, h),
            SyncMode::OneWaySafe if absent(h) && !(is_dir(a) && is_dir(s)) => {
                self.forgotten.push(p.clone());
            }
            SyncMode::OneWaySafe if nh && !absent(h) => {
                self.conflicts.push((p.clone(), ConflictKind::BothChanged));
            }
            SyncMode::OneWaySafe => {
                self.conflicts.push((p.clone(), ConflictKind::SandboxChanged));
            }
            _ if ds.is_empty() => self.write(Side::Sandbox, p, s, h),
            _ if dh.is_empty() => self.write(Side::Host, p, h, s),
            _ if !nh && !ns => {
                self.write(Side::Sandbox, p, s, &None);
                self.write(Side::Host, p, h, &None);
            }
            _ if !ns => self.write(Side::Sandbox, p, s, h),
            _ if !nh => self.write(Side::Host, p, h, s),
            SyncMode::TwoWayResolved => self.write(Side::Sandbox, p, s, h),
            SyncMode::TwoWaySafe => self.conflicts.push((p.clone(), ConflictKind::BothChanged)),
        }
    }

    fn write(&mut self, side: Side, p: &SyncPath, target: &Tree, source: &Tree) {
        let new = clean(source);
        if new.is_some() && guarded(target) {
            self.conflicts.push((p.clone(), ConflictKind::Blocked(side)));
            return;
        }
        let unread = flat(target.as_ref()).values().any(|e| matches!(e, Entry::Problem(_)));
        if unread && !is_problem(target) {
            for (name, below) in children(target) {
                self.write(side, &p.join(&name), &Some(below), &None);
            }
            return;
        }
        let old = clean(target);
        if old.is_some() || new.is_some() {
            let change = Change { path: p.clone(), old, new };
            match side {
                Side::Host => self.host.push(change),
                Side::Sandbox => self.sandbox.push(change),
            }
        }
    }

    /// The ancestor after what both sides hold already, before any step.
    pub(super) fn agreed(&self, a: &Tree, h: &Tree, s: &Tree) -> Ancestor {
        let mut after = Ancestor::from_tree(a.clone()).expect("a valid ancestor");
        let at = |tree: &Tree, p: &SyncPath| tree.as_ref().and_then(|tree| tree.find(p)).cloned();
        let above = |p: &SyncPath| {
            std::iter::successors(Some(p.clone()), |p| p.split().map(|(parent, _)| parent))
        };
        let unread =
            |p: &SyncPath| above(p).any(|q| is_problem(&at(h, &q)) || is_problem(&at(s, &q)));
        for p in flat(a.as_ref()).keys() {
            let kept_by_husk = is_dir(&at(a, p)) && (is_dir(&at(h, p)) || is_dir(&at(s, p)));
            if absent(&at(h, p)) && absent(&at(s, p)) && !kept_by_husk && !unread(p) {
                after.set(p, None);
            }
        }
        for p in flat(h.as_ref()).keys() {
            let same = |q: SyncPath| match (at(h, &q), at(s, &q)) {
                (Some(h), Some(s)) => h.shallow_eq(&s) && h != Entry::Untracked,
                _ => false,
            };
            if above(p).all(same) && !unread(p) {
                after.set(p, at(h, p).as_ref());
            }
        }
        for p in &self.forgotten {
            after.set(p, None);
        }
        after
    }
}
