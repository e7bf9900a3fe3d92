//! A disk in memory: a tree of files, links and directories, what of it would survive a power cut,
//! and the faults it has at the moment.
//!
//! Contents are numbers, so that a disk is small, quick to compare, and readable in a log.

use std::collections::{BTreeMap, BTreeSet};

use skync_agent::entry::{Digest, Directory, Entry, File};
use skync_agent::path::{Name, SyncPath};
use skync_agent::rules::{RuleSet, Rules};

use crate::support::random::Random;

/// What a file holds. A number from [`UNIQUE_FROM`] on was written once in a history.
pub type Content = u32;
/// What a file holds that was truncated, by a user or by a power cut. Nobody's work.
pub const EMPTY: Content = 0;
/// From here on every write has a number of its own; below are contents that come again.
pub const UNIQUE_FROM: Content = 100;

/// One object on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Node {
    /// A file.
    File {
        /// What it holds.
        content: Content,
        /// The owner may execute it.
        executable: bool,
    },
    /// A symbolic link to a name.
    Link(u8),
    /// A directory.
    Directory(BTreeMap<Name, Node>),
}

impl Node {
    /// A file that is not executable.
    pub fn file(content: Content) -> Self {
        Self::File { content, executable: false }
    }

    /// An empty directory.
    pub fn directory() -> Self {
        Self::Directory(BTreeMap::new())
    }

    /// What is in it, if it is a directory.
    pub fn children(&self) -> Option<&BTreeMap<Name, Self>> {
        match self {
            Self::Directory(children) => Some(children),
            Self::File { .. } | Self::Link(_) => None,
        }
    }

    /// What a plan says of it, without children.
    pub fn shallow(&self) -> Entry {
        match self {
            Self::File { content, executable } => {
                let mut digest = [0; 32];
                digest[..4].copy_from_slice(&content.to_le_bytes());
                let mode = if *executable { 0o755 } else { 0o644 };
                let size = u64::from(*content);
                Entry::File(File { digest: Digest(digest), size, mode, mtime_ns: 0 })
            }
            Self::Link(to) => Entry::Symlink(Box::new([b'a' + to])),
            Self::Directory(_) => {
                Entry::Directory(Directory { mode: 0o755, ..Directory::default() })
            }
        }
    }

    /// The object that a plan speaks of, without children.
    pub fn of(entry: &Entry) -> Option<Self> {
        match entry {
            Entry::File(file) => Some(Self::File {
                content: u32::try_from(file.size).ok()?,
                executable: file.is_executable(),
            }),
            Entry::Symlink(target) => Some(Self::Link(target[0] - b'a')),
            Entry::Directory(_) => Some(Self::directory()),
            Entry::Untracked | Entry::Problem(_) => None,
        }
    }

    /// Everything at or below that is no directory.
    pub fn leaves(&self, path: &SyncPath, sink: &mut impl FnMut(SyncPath, &Self)) {
        match self {
            Self::Directory(children) => {
                children.iter().for_each(|(name, child)| child.leaves(&path.join(name), sink));
            }
            Self::File { .. } | Self::Link(_) => sink(path.clone(), self),
        }
    }
}

/// The rules of all histories, the second with a pattern that looks beside it.
pub fn rules(conditional: bool) -> Rules {
    let mut patterns = vec!["*.o".to_owned(), "node_modules/".to_owned()];
    if conditional {
        patterns.push("target/ beside Cargo.toml".to_owned());
    }
    let set = RuleSet::new(patterns, Vec::new(), Vec::new(), Vec::new(), Vec::new());
    Rules::compile(&set).0
}

/// The same rules, written a second time: quicker, and what the oracle goes by.
pub fn is_excluded(name: &[u8], is_directory: bool, beside_cargo: bool) -> bool {
    name.ends_with(b".o")
        || is_directory && (name == b"node_modules" || name == b"target" && beside_cargo)
}

/// True if these names switch the pattern on that looks beside it.
pub fn has_cargo(children: &BTreeMap<Name, Node>) -> bool {
    children.contains_key(&b"Cargo.toml"[..])
}

/// True if one path is the other, or above or below it.
pub fn related(one: &SyncPath, other: &SyncPath) -> bool {
    one.names().zip(other.names()).all(|(one, other)| one == other)
}

/// A disk of one side.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The synchronised root, a directory.
    pub root: Node,
    /// What a power cut leaves for certain.
    durable: Node,
    /// It does not tell names apart that differ only in case.
    pub folds_case: bool,
    /// `target/` beside a `Cargo.toml` is excluded.
    pub conditional: bool,
    /// No room.
    pub full: bool,
    /// Can be neither read nor changed.
    pub denied: Option<SyncPath>,
}

impl Disk {
    /// A disk with something on it.
    pub fn new(root: Node, folds_case: bool, conditional: bool) -> Self {
        Self { durable: root.clone(), root, folds_case, conditional, full: false, denied: None }
    }

    fn key(&self, children: &BTreeMap<Name, Node>, name: &[u8]) -> Option<Name> {
        let same = |other: &&Name| match self.folds_case {
            true => other.as_bytes().eq_ignore_ascii_case(name),
            false => other.as_bytes() == name,
        };
        children.keys().find(same).cloned()
    }

    /// What is at a path.
    pub fn get(&self, path: &SyncPath) -> Option<&Node> {
        path.names().try_fold(&self.root, |node, name| {
            let children = node.children()?;
            children.get(&self.key(children, name)?)
        })
    }

    /// Puts something at a path, or takes it away; gives back what was there. Nothing happens
    /// where there is no directory for it.
    pub fn put(&mut self, path: &SyncPath, new: Option<Node>) -> Option<Node> {
        let (parent, name) = path.split()?;
        let key = self.key(self.get(&parent)?.children()?, name.as_bytes()).unwrap_or(name);
        let folded: Vec<Name> = self.keys_of(&parent)?;
        let mut node = &mut self.root;
        for name in &folded {
            let Node::Directory(children) = node else { return None };
            node = children.get_mut(name)?;
        }
        let Node::Directory(children) = node else { return None };
        match new {
            Some(new) => children.insert(key, new),
            None => children.remove(&key),
        }
    }

    fn keys_of(&self, path: &SyncPath) -> Option<Vec<Name>> {
        let mut node = &self.root;
        let mut keys = Vec::new();
        for name in path.names() {
            let children = node.children()?;
            let key = self.key(children, name)?;
            node = children.get(&key)?;
            keys.push(key);
        }
        Some(keys)
    }

    /// True if the disk would find something there under a name that differs in case.
    pub fn has_twin_of(&self, path: &SyncPath) -> bool {
        let mut at = SyncPath::root();
        path.names().any(|name| {
            let children = self.get(&at).and_then(Node::children);
            let key = children.and_then(|children| self.key(children, name));
            at = key.as_ref().map_or(at.clone(), |key| at.join(key));
            key.is_some_and(|key| key.as_bytes() != name)
        })
    }

    /// True if reading or changing the path is refused.
    pub fn denies(&self, path: &SyncPath) -> bool {
        self.denied.as_ref().is_some_and(|denied| {
            related(denied, path) && denied.names().count() <= path.names().count()
        })
    }

    /// What a scan of one path finds, with everything below. Whether the path is excluded is the
    /// caller's business.
    pub fn look(&self, path: &SyncPath) -> Option<Entry> {
        Some(self.entry(path, self.exact(path)?))
    }

    /// What is at a path of exactly these names, also where the disk would find others.
    pub fn exact(&self, path: &SyncPath) -> Option<&Node> {
        path.names().try_fold(&self.root, |node, name| node.children()?.get(name))
    }

    /// True if that child of a directory with these children is excluded.
    pub fn excludes(&self, beside: &BTreeMap<Name, Node>, name: &Name, child: &Node) -> bool {
        let cargo = self.conditional && has_cargo(beside);
        is_excluded(name.as_bytes(), child.children().is_some(), cargo)
    }

    fn entry(&self, path: &SyncPath, node: &Node) -> Entry {
        if self.denies(path) {
            return Entry::Problem("denied".to_owned());
        }
        let Node::Directory(children) = node else { return node.shallow() };
        let tracked: Vec<_> = children
            .iter()
            .filter(|(name, child)| !self.excludes(children, name, child))
            .map(|(name, child)| (name.clone(), self.entry(&path.join(name), child)))
            .collect();
        directory(tracked, children.len())
    }

    /// Everything is on the platters.
    pub fn sync(&mut self) {
        self.durable = self.root.clone();
    }

    /// The power fails: of what was not synced each name is as it was, or as it is, or torn.
    pub fn crash(&mut self, random: &mut Random) {
        let now = std::mem::replace(&mut self.root, Node::directory());
        self.root = torn(&self.durable, now, random);
        self.durable = self.root.clone();
    }
}

/// A directory as a scan sees it; `all` counts what is excluded as well.
pub fn directory(tracked: Vec<(Name, Entry)>, all: usize) -> Entry {
    let holds_nothing = tracked
        .iter()
        .all(|(_, entry)| matches!(entry, Entry::Directory(below) if below.only_excluded));
    let only_excluded = holds_nothing && all > 0;
    Entry::Directory(Directory { mode: 0o755, only_excluded, children: tracked.into() })
}

fn torn(old: &Node, new: Node, random: &mut Random) -> Node {
    match (old, new) {
        (Node::Directory(old), Node::Directory(mut new)) => {
            let names: BTreeSet<Name> = old.keys().chain(new.keys()).cloned().collect();
            for name in names {
                match (old.get(&name), new.remove(&name)) {
                    (Some(one), Some(other)) => drop(new.insert(name, torn(one, other, random))),
                    (one, other) => {
                        let kept = other.or_else(|| one.cloned());
                        new.extend(kept.filter(|_| random.once_in(2)).map(|node| (name, node)));
                    }
                }
            }
            Node::Directory(new)
        }
        (old, new) if *old == new => new,
        (_, Node::File { executable, .. }) if random.once_in(8) => {
            Node::File { content: EMPTY, executable }
        }
        (old, new) => match random.once_in(2) {
            true => old.clone(),
            false => new,
        },
    }
}

#[test]
fn the_rules_of_the_model_are_the_rules() {
    let compiled = rules(true);
    for cargo in [false, true] {
        let mut here = compiled.root();
        compiled.with_names(&mut here, |name| cargo && name == b"Cargo.toml");
        for name in ["a", "x.o", "node_modules", "target", "Cargo.toml", "a.o.b"] {
            for is_directory in [false, true] {
                let judged = compiled.is_excluded_in(&here, name.as_bytes(), is_directory);
                let ours = is_excluded(name.as_bytes(), is_directory, cargo);
                assert_eq!(ours, judged, "{name} {is_directory} {cargo}");
            }
        }
    }
}
