//! A world to carry plans out in: two disks of few names and few contents, so that collisions are
//! common. It knows what a scan cannot see, and refuses what an executor refuses.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use skync_agent::entry::{Directory, Entry};
use skync_agent::path::SyncPath;

use crate::config::SyncMode;
use crate::sync::ancestor::Ancestor;
use crate::sync::decide::Decisions;
use crate::sync::plan::{Plan, Side, Step, flatten};
use crate::sync::reconcile::reconcile;
use crate::sync::tracked::tracked;
use crate::sync::trees::{dir_of, file, link, script, show};

/// Something on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// A directory; what is called `x` in it is excluded on both sides.
    Dir(BTreeMap<String, Node>),
    /// What a scan reads as this entry: a file, a link, a socket, something unreadable.
    Leaf(Entry),
    /// Content that no scan shows.
    Excluded,
}

/// The disk that a scan reads as that.
pub(super) fn node(entry: &Entry) -> Node {
    match entry {
        Entry::Directory(directory) => {
            let children = directory.children.iter();
            Node::Dir(children.map(|(name, child)| (name.to_string(), node(child))).collect())
        }
        leaf => Node::Leaf(leaf.clone()),
    }
}

/// What a scan finds.
pub(super) fn scan(node: &Node) -> Option<Entry> {
    match node {
        Node::Excluded => None,
        Node::Leaf(entry) => Some(entry.clone()),
        Node::Dir(children) => {
            let found =
                children.iter().filter_map(|(name, child)| Some((name.clone(), scan(child)?)));
            let Entry::Directory(mut directory) = dir_of(found) else {
                return None;
            };
            let hidden =
                |child: &Node| matches!(child, Node::Excluded | Node::Leaf(Entry::Untracked));
            directory.only_excluded = !children.is_empty() && children.values().all(hidden);
            Some(Entry::Directory(directory))
        }
    }
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Applied,
    Stale,
    NotEmpty,
}

/// Carries out one step as an executor does.
pub(super) fn apply(disk: &mut Option<Node>, step: &Step) -> Outcome {
    let Some(place) = find_place(disk, &step.path) else {
        return Outcome::Stale;
    };
    let found = match &place {
        Some(Node::Excluded) => return Outcome::Stale,
        Some(node) => scan(node),
        None => None,
    };
    let same = match (&found, &step.expected) {
        (None, None) => true,
        (Some(found), Some(expected)) => found.shallow_eq(expected),
        _ => false,
    };
    if !same {
        return Outcome::Stale;
    }
    if let (Some(Node::Dir(children)), None) = (&place, &step.new)
        && !children.is_empty()
    {
        return Outcome::NotEmpty;
    }
    let new = step.new.as_ref().map(|entry| match entry {
        Entry::Directory(_) => Node::Dir(BTreeMap::new()),
        leaf => Node::Leaf(leaf.clone()),
    });
    put_at(disk, &step.path, new);
    Outcome::Applied
}

/// What is at a path; the outer option says whether it could be anything at all.
#[expect(
    clippy::option_option,
    reason = "no directory there, and nothing in the directory, differ"
)]
fn find_place(disk: &Option<Node>, path: &SyncPath) -> Option<Option<Node>> {
    let Some((parent, name)) = path.split() else {
        return Some(disk.clone());
    };
    match find_place(disk, &parent)?? {
        Node::Dir(children) => Some(children.get(&name.to_string()).cloned()),
        Node::Leaf(_) | Node::Excluded => None,
    }
}

/// Puts something at a path if its directory is there.
pub(super) fn put_at(disk: &mut Option<Node>, path: &SyncPath, new: Option<Node>) {
    let Some((_, name)) = path.split() else {
        *disk = new;
        return;
    };
    let mut at = disk.as_mut();
    let names: Vec<_> =
        path.names().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    for name in &names[..names.len() - 1] {
        at = match at {
            Some(Node::Dir(children)) => children.get_mut(name),
            _ => None,
        };
    }
    if let Some(Node::Dir(children)) = at {
        match new {
            Some(node) => drop(children.insert(name.to_string(), node)),
            None => drop(children.remove(&name.to_string())),
        }
    }
}

/// Two disks and what they last agreed on.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) ancestor: Ancestor,
    pub(super) host: Option<Node>,
    pub(super) sandbox: Option<Node>,
}

impl World {
    pub(super) fn scan(&self, side: Side) -> Option<Entry> {
        match side {
            Side::Host => self.host.as_ref().and_then(scan),
            Side::Sandbox => self.sandbox.as_ref().and_then(scan),
        }
    }

    pub(super) fn plan(&self, mode: SyncMode) -> Plan {
        self.plan_with(mode, &Decisions::none())
    }

    pub(super) fn plan_with(&self, mode: SyncMode, decisions: &Decisions) -> Plan {
        let (host, sandbox) = (self.scan(Side::Host), self.scan(Side::Sandbox));
        reconcile(self.ancestor.root(), host.as_ref(), sandbox.as_ref(), mode, decisions)
    }

    /// Carries a plan out. `fails` says of each step in turn whether it fails for no reason of ours;
    /// steps after the last answer succeed. Returns the steps with how they ended.
    pub(super) fn carry_out(&mut self, plan: &Plan, fails: &[bool]) -> Vec<(Step, Outcome)> {
        let mut fails = fails.iter().copied();
        for copy in &plan.copies {
            for step in flatten(std::slice::from_ref(&copy.change)) {
                if !fails.next().unwrap_or(false) {
                    let source = copy.source_of(&step.path);
                    let found = self.scan(Side::Sandbox).and_then(|t| t.find(&source).cloned());
                    assert!(found.zip(step.new.as_ref()).is_some_and(|(f, n)| f.shallow_eq(n)));
                    apply(&mut self.host, &step);
                }
            }
        }
        let mut done = Vec::new();
        for side in [Side::Host, Side::Sandbox] {
            for step in flatten(plan.changes(side)) {
                let disk = match side {
                    Side::Host => &mut self.host,
                    Side::Sandbox => &mut self.sandbox,
                };
                let failed = fails.next().unwrap_or(false);
                let outcome = if failed { Outcome::Stale } else { apply(disk, &step) };
                done.push((step, outcome));
            }
        }
        let outcomes = done.iter().map(|(step, outcome)| (step, *outcome == Outcome::Applied));
        self.ancestor.advance(&plan.agreed, outcomes);
        done
    }

    pub(super) fn show(&self) -> String {
        let (host, sandbox) = (self.scan(Side::Host), self.scan(Side::Sandbox));
        let ancestor = show(self.ancestor.root());
        format!("{ancestor} | {} | {}", show(host.as_ref()), show(sandbox.as_ref()))
    }
}

fn leaf() -> impl Strategy<Value = Node> {
    prop_oneof![
        4 => (0..3u8).prop_map(|content| file(&content.to_string())),
        1 => (0..2u8).prop_map(|content| script(&content.to_string())),
        1 => (0..2u8).prop_map(|target| link(&target.to_string())),
    ]
    .prop_map(Node::Leaf)
}

fn odd() -> impl Strategy<Value = Node> {
    let unreadable = Entry::Problem("no permission".to_owned());
    let husk = Node::Dir(BTreeMap::from([("x".to_owned(), Node::Excluded)]));
    prop_oneof![
        1 => Just(Node::Leaf(Entry::Untracked)),
        1 => Just(Node::Leaf(unreadable)),
        2 => Just(husk),
    ]
}

/// Mostly the same name, so that edits of both sides meet.
fn names() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just("a"), 2 => Just("b"), 1 => Just("c")].prop_map(str::to_owned)
}

/// A directory of at most three levels; with odd content only if asked.
fn tree(with_odd: bool) -> BoxedStrategy<Node> {
    let bottom =
        if with_odd { prop_oneof![5 => leaf(), 1 => odd()].boxed() } else { leaf().boxed() };
    bottom
        .prop_recursive(2, 12, 3, move |inner| {
            (btree_map(names(), inner, 0..4), prop::bool::weighted(0.15)).prop_map(
                move |(mut children, hidden)| {
                    if hidden && with_odd {
                        children.insert("x".to_owned(), Node::Excluded);
                    }
                    Node::Dir(children)
                },
            )
        })
        .boxed()
}

fn paths() -> impl Strategy<Value = SyncPath> {
    vec(names(), 1..4)
        .prop_map(|names| SyncPath::parse(names.join("/").as_bytes()).expect("a path"))
}

/// What a person or a program does to a disk: something new at a path, or its removal; or excluded
/// content appears in the directory.
fn edits() -> impl Strategy<Value = Vec<(SyncPath, Option<Node>)>> {
    let excluded = paths().prop_map(|path| {
        let path = path.join(&crate::sync::trees::name("x"));
        (path, Some(Node::Excluded))
    });
    let edit = prop_oneof![
        3 => (paths(), leaf().prop_map(Some)),
        2 => (paths(), Just(None)),
        2 => (paths(), tree(true).prop_map(Some)),
        2 => (paths(), odd().prop_map(Some)),
        2 => excluded,
    ];
    vec(edit, 0..6)
}

/// One tree, changed on each side independently, as after a time offline.
pub(super) fn worlds() -> impl Strategy<Value = World> {
    let base = btree_map(names(), tree(false), 0..4).prop_map(Node::Dir);
    (base, edits(), edits()).prop_map(|(base, host_edits, sandbox_edits)| {
        let ancestor = scan(&base).as_ref().and_then(tracked);
        let ancestor = Ancestor::from_tree(ancestor).expect("a valid ancestor");
        let changed = |edits: Vec<_>| {
            let mut disk = Some(base.clone());
            for (path, new) in edits {
                put_at(&mut disk, &path, new);
            }
            disk
        };
        World { ancestor, host: changed(host_edits), sandbox: changed(sandbox_edits) }
    })
}

/// Paths to forget.
pub(super) fn forgotten() -> impl Strategy<Value = Vec<SyncPath>> {
    vec(paths(), 0..4)
}

/// Every entry of a tree with its path, without children.
pub(super) fn flat(entry: Option<&Entry>) -> BTreeMap<SyncPath, Entry> {
    fn walk(path: &SyncPath, entry: &Entry, into: &mut BTreeMap<SyncPath, Entry>) {
        if let Entry::Directory(Directory { children, .. }) = entry {
            for (name, child) in children {
                walk(&path.join(name), child, into);
            }
        }
        into.insert(path.clone(), entry.shallow());
    }
    let mut found = BTreeMap::new();
    if let Some(entry) = entry {
        walk(&SyncPath::root(), entry, &mut found);
    }
    found
}
