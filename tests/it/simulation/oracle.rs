//! What must hold of every history, said without knowing how synchronising works.
//!
//! **Nothing disappears that nobody deleted.** A *token* is a path and a content that a user put
//! there, by writing, linking or renaming. A user *gives a token up* by replacing, removing or
//! moving away that content at that path on a disk where it is, whoever put it there: who does that
//! has seen it. Every change that synchronising makes to a disk is checked when it is made: what it
//! overwrites or removes must have been given up by a user of either side, before. The exceptions:
//!
//! - an empty file is nobody's work;
//! - in one-way-replica, anything in the sandbox; in two-way-resolved, what the sandbox has where
//!   the host has something too, or where its user was at work: the host wins;
//! - what a power cut or the end of a sandbox took is gone with it.
//!
//! The rule goes by content, not by moments: who replaces 1 by 2 and 2 by 1 has given both up. A
//! three-way merge cannot tell that either. Most writes have a content of their own, so little
//! hides behind this. That the host keeps a trash is no excuse here.
//!
//! **A replaced sandbox takes nothing from the host**: what the users of the old one gave up no
//! longer counts for what the host still has (invariant I9).
//!
//! **What is excluded is never touched**: its tokens are given up by its own side's user alone, and
//! nothing is ever made at an excluded path.
//!
//! **The record never leads** (I1, I2): what it says both sides hold, both did hold.

use std::collections::{BTreeSet, HashSet};

use skync::config::SyncMode;
use skync_agent::entry::Entry;
use skync_agent::path::SyncPath;

use super::disk::{Disk, EMPTY, Node, is_excluded, related};

/// A path and what was there.
pub type Token = (SyncPath, Node);

/// What happened so far, as far as it can excuse what happens next.
#[derive(Debug)]
pub struct Ledger {
    mode: SyncMode,
    /// Given up by the users of each side.
    given_up: [HashSet<Token>; 2],
    /// Put there by a user.
    put: BTreeSet<Token>,
    /// Gone with a power cut, a sandbox, or because the mode says so.
    excused: HashSet<Token>,
    /// Where the host's user was at work.
    host_worked_at: BTreeSet<SyncPath>,
    /// Everything that each disk ever held, without children.
    held: [HashSet<Token>; 2],
    /// Do not look at what is recorded; what comes of it must be seen.
    pub trusts_records: bool,
    /// The first thing that went wrong.
    pub violation: Option<String>,
}

impl Ledger {
    /// Begins with two disks.
    pub fn new(mode: SyncMode, disks: [&Disk; 2]) -> Self {
        let mut ledger = Self {
            mode,
            given_up: Default::default(),
            put: BTreeSet::new(),
            excused: HashSet::new(),
            host_worked_at: BTreeSet::new(),
            held: Default::default(),
            trusts_records: false,
            violation: None,
        };
        for (side, disk) in disks.into_iter().enumerate() {
            let mut leaves = Vec::new();
            disk.root
                .leaves(&SyncPath::root(), &mut |path, node| leaves.push((path, node.clone())));
            leaves.iter().for_each(|(path, node)| ledger.user_put(side, path, node));
            ledger.held(side, &SyncPath::root(), &disk.root);
        }
        ledger
    }

    /// Something is not as it must be. The first one counts.
    pub fn violated(&mut self, what: impl FnOnce() -> String) {
        self.violation.get_or_insert_with(what);
    }

    /// A user puts something at a path, with everything below.
    pub fn user_put(&mut self, side: usize, path: &SyncPath, node: &Node) {
        node.leaves(path, &mut |path, node| {
            self.put.insert((path, node.clone()));
        });
        self.held(side, path, node);
        if side == 0 {
            self.host_worked_at.insert(path.clone());
        }
    }

    /// A user gives up what is at a path, with everything below.
    pub fn user_gives_up(&mut self, side: usize, path: &SyncPath, node: &Node) {
        node.leaves(path, &mut |path, node| {
            self.given_up[side].insert((path, node.clone()));
        });
        if side == 0 {
            self.host_worked_at.insert(path.clone());
        }
    }

    /// A disk holds this now, with everything below.
    pub fn held(&mut self, side: usize, path: &SyncPath, node: &Node) {
        let shallow = if node.children().is_some() { Node::directory() } else { node.clone() };
        self.held[side].insert((path.clone(), shallow));
        for (name, child) in node.children().into_iter().flatten() {
            self.held(side, &path.join(name), child);
        }
    }

    /// Something took what was on a disk and is not any more: no synchronising did.
    pub fn lost(&mut self, before: &Node, after: &Disk) {
        before.leaves(&SyncPath::root(), &mut |path, node| {
            if after.get(&path) != Some(node) {
                self.excused.insert((path, node.clone()));
            }
        });
    }

    /// The sandbox is another one: with this on its disk, beside the host as it is.
    pub fn replaced(&mut self, before: &Node, host: &Disk, now: &Disk) {
        self.lost(before, now);
        let there = |(path, node): &Token| host.get(path) == Some(node);
        self.given_up[1].retain(|token| !there(token));
        self.held[1].clear();
        self.held(1, &SyncPath::root(), &now.root);
    }

    /// Something was moved to another path because it changed while it was replaced.
    pub fn saved_beside(&mut self, path: &SyncPath, node: &Node) {
        self.excused.insert((path.clone(), node.clone()));
    }

    /// Synchronising makes `new` of `old` at a path of a side: is that allowed?
    pub fn change(
        &mut self,
        side: usize,
        path: &SyncPath,
        old: Option<&Node>,
        new: Option<&Node>,
        other: &Disk,
    ) {
        let name = if side == 0 { "host" } else { "sandbox" };
        if side == 0 && matches!(self.mode, SyncMode::OneWaySafe | SyncMode::OneWayReplica) {
            self.violated(|| format!("one-way, and the host was changed at {path}"));
        }
        if let Some(new) = new {
            let is_directory = new.children().is_some();
            let last = path.names().count();
            let excluded = path
                .names()
                .enumerate()
                .any(|(depth, name)| is_excluded(name, depth + 1 < last || is_directory, false));
            if excluded {
                self.violated(|| format!("{new:?} was made at {path}, which is excluded"));
            }
            self.held(side, path, new);
        }
        let mut taken = Vec::new();
        if let Some(old) = old {
            old.leaves(path, &mut |path, node| taken.push((path, node.clone())));
        }
        for token in taken {
            if matches!(token.1, Node::File { content: EMPTY, .. })
                || Some(&token.1) == new
                || self.given_up.iter().any(|given_up| given_up.contains(&token))
            {
                continue;
            }
            if side == 1 && self.host_wins(&token.0, other) {
                self.excused.insert(token);
                continue;
            }
            self.violated(|| {
                format!("lost: {:?} at {} on the {name}, which nobody gave up", token.1, token.0)
            });
        }
    }

    fn host_wins(&self, path: &SyncPath, host: &Disk) -> bool {
        let is_in_the_way = || {
            let mut above = std::iter::successors(path.split(), |(parent, _)| parent.split());
            host.get(path).is_some()
                || above.any(|(parent, _)| {
                    host.get(&parent).is_some_and(|node| node.children().is_none())
                })
        };
        match self.mode {
            SyncMode::TwoWaySafe | SyncMode::OneWaySafe => false,
            SyncMode::OneWayReplica => true,
            SyncMode::TwoWayResolved => {
                is_in_the_way() || self.host_worked_at.iter().any(|worked| related(worked, path))
            }
        }
    }

    /// The record will say that both sides hold this.
    pub fn recorded(&mut self, path: &SyncPath, entry: Option<&Entry>) {
        let Some(node) = entry.and_then(Node::of).filter(|_| !self.trusts_records) else { return };
        let token = (path.clone(), node);
        for (side, name) in ["host", "sandbox"].into_iter().enumerate() {
            if !self.held[side].contains(&token) {
                self.violated(|| {
                    format!("the record leads: {:?} at {path} was never on the {name}", token.1)
                });
            }
        }
    }

    /// At the end: everything that a user ever put somewhere is there, or its end is accounted for.
    pub fn settle(&mut self, disks: [&Disk; 2]) {
        let lost = self.put.iter().find(|token| {
            let (path, node) = token;
            disks.iter().all(|disk| disk.get(path) != Some(node))
                && !self.excused.contains(token)
                && !matches!(node, Node::File { content: EMPTY, .. })
                && !self.given_up.iter().any(|given_up| given_up.contains(*token))
        });
        if let Some((path, node)) = lost {
            let what = format!("at the end: {node:?} at {path} is nowhere, and nobody gave it up");
            self.violated(|| what);
        }
    }
}
