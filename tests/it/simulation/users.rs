//! What the users of a side do to its disk: everything that editors, compilers and git do, with few
//! names and few contents, so that both sides meet.

use std::sync::LazyLock;

use skync_agent::path::{Name, SyncPath};

use super::disk::{Content, Disk, EMPTY, Node, UNIQUE_FROM};
use super::oracle::Ledger;
use crate::support::random::Random;

/// Names; what comes more often stands more often. The last are used on some disks only.
const NAMES: [&str; 15] = [
    "a",
    "a",
    "a",
    "b",
    "b",
    "b",
    "d",
    "d",
    "x.o",
    "node_modules",
    "target",
    "Cargo.toml",
    "A",
    "A",
    "B",
];
/// How many of them are twins of others.
const TWINS: usize = 3;

static PARSED: LazyLock<Vec<Name>> = LazyLock::new(|| {
    NAMES.iter().map(|name| Name::parse(name.as_bytes()).expect("a name")).collect()
});

/// What an editor still has to do to save a file.
#[derive(Clone, Debug)]
enum Saving {
    /// It was truncated.
    Write(SyncPath, Node),
    /// The new version is written beside it.
    RenameOver(SyncPath, SyncPath),
}

/// The users of one side.
#[derive(Debug)]
pub struct Users {
    side: usize,
    /// The names used have twins that differ in case.
    twins: bool,
    saving: Option<Saving>,
}

/// Where a user works: the disk, what is written down of it, and who is to hear of it.
pub struct Desk<'a> {
    /// The disk.
    pub disk: &'a mut Disk,
    /// What must be told to the oracle.
    pub ledger: &'a mut Ledger,
    /// Paths that changed, for the watcher.
    pub events: &'a mut Vec<SyncPath>,
    /// The last content that was like no other.
    pub fresh: &'a mut Content,
    /// Where synchronising is at work: users get in its way more often than chance has it.
    pub busy: Option<SyncPath>,
}

impl Users {
    /// The users of a side.
    pub fn new(side: usize, twins: bool) -> Self {
        Self { side, twins, saving: None }
    }

    /// What they were about to do is off: their machine is gone.
    pub fn forget(&mut self) {
        self.saving = None;
    }

    /// One action. Returns what was done, for a log.
    pub fn act(&mut self, desk: &mut Desk<'_>, random: &mut Random) -> String {
        if random.once_in(2)
            && let Some(saving) = self.saving.take()
        {
            return self.go_on(desk, saving);
        }
        let path = match desk.busy.take().filter(|_| !random.once_in(3)) {
            Some(busy) => busy,
            None => self.path(random),
        };
        match random.below(20) {
            0..=6 => {
                self.make_parent(desk, &path, random);
                let node = Node::File { content: content(desk, random), executable: false };
                self.write(desk, &path, node)
            }
            7..=9 => self.put(desk, &path, None),
            10 => {
                self.make_parent(desk, &path, random);
                self.put(desk, &path, Some(Node::directory()))
            }
            11..=13 => self.rename(desk, &path, &self.path(random)),
            14 => self.change_mode(desk, &path),
            15 => self.put(desk, &path, Some(Node::Link(u8::from(random.once_in(2))))),
            16 => self.swap_kind(desk, &path, random),
            17 | 18 => self.save(desk, path, random),
            _ => {
                let count = 2 + random.below(5);
                let done: Vec<_> = (0..count).map(|_| self.check_out(desk, random)).collect();
                done.join(", ")
            }
        }
    }

    fn path(&self, random: &mut Random) -> SyncPath {
        let names = NAMES.len() - if self.twins { 0 } else { TWINS };
        let depth = [1, 1, 2, 2, 3][random.below(5)];
        (0..depth).fold(SyncPath::root(), |path, _| path.join(&PARSED[random.below(names)]))
    }

    fn make_parent(&self, desk: &mut Desk<'_>, path: &SyncPath, random: &mut Random) {
        let Some((parent, _)) = path.split().filter(|(parent, _)| !parent.is_root()) else {
            return;
        };
        if random.once_in(4) || desk.disk.get(&parent).is_some() {
            return;
        }
        self.make_parent(desk, &parent, random);
        self.put(desk, &parent, Some(Node::directory()));
    }

    /// Puts something at a path, over whatever is there, or takes that away.
    fn put(&self, desk: &mut Desk<'_>, path: &SyncPath, new: Option<Node>) -> String {
        let Some((parent, _)) = path.split() else { return String::new() };
        if desk.disk.get(&parent).and_then(Node::children).is_none() {
            return format!("nothing at {path}");
        }
        let path = &self.real(desk.disk, path);
        if desk.disk.get(path) == new.as_ref() {
            return format!("the same at {path}");
        }
        if let Some(old) = desk.disk.put(path, new.clone()) {
            desk.ledger.user_gives_up(self.side, path, &old);
        }
        if let Some(new) = &new {
            desk.ledger.user_put(self.side, path, new);
        }
        desk.events.push(path.clone());
        match new {
            Some(new) => format!("{path} = {new:?}"),
            None => format!("rm {path}"),
        }
    }

    /// The path with the names that are on the disk, where it does not tell cases apart.
    fn real(&self, disk: &Disk, path: &SyncPath) -> SyncPath {
        if !disk.folds_case {
            return path.clone();
        }
        path.names().fold(SyncPath::root(), |real, name| {
            let there = disk.get(&real).and_then(Node::children).and_then(|children| {
                children.keys().find(|other| other.as_bytes().eq_ignore_ascii_case(name))
            });
            match there.cloned().or_else(|| Name::parse(name).ok()) {
                Some(name) => real.join(&name),
                None => real,
            }
        })
    }

    /// As [`Users::put`], but a directory is not written over.
    fn write(&self, desk: &mut Desk<'_>, path: &SyncPath, node: Node) -> String {
        if desk.disk.get(path).is_some_and(|node| node.children().is_some()) {
            return format!("{path} is a directory");
        }
        self.put(desk, path, Some(node))
    }

    fn rename(&self, desk: &mut Desk<'_>, from: &SyncPath, to: &SyncPath) -> String {
        let (from, to) = (&self.real(desk.disk, from), &self.real(desk.disk, to));
        let Some((parent, _)) = to.split() else { return String::new() };
        let fits = desk.disk.get(&parent).is_some_and(|node| node.children().is_some());
        let inside = to.names().zip(from.names()).all(|(one, other)| one == other);
        let Some(node) = desk.disk.get(from).filter(|_| fits && !inside).cloned() else {
            return format!("no mv {from} {to}");
        };
        self.put(desk, from, None);
        self.put(desk, to, Some(node));
        format!("mv {from} {to}")
    }

    fn change_mode(&self, desk: &mut Desk<'_>, path: &SyncPath) -> String {
        match desk.disk.get(path) {
            Some(Node::File { content, executable }) => {
                let node = Node::File { content: *content, executable: !executable };
                self.put(desk, path, Some(node))
            }
            _ => format!("no chmod {path}"),
        }
    }

    /// A directory with something in it for a file, and a file for a directory.
    fn swap_kind(&self, desk: &mut Desk<'_>, path: &SyncPath, random: &mut Random) -> String {
        let file = Node::file(content(desk, random));
        match desk.disk.get(path) {
            Some(Node::Directory(_)) => self.put(desk, path, Some(file)),
            _ => {
                let done = self.put(desk, path, Some(Node::directory()));
                let child = PARSED[random.below(4)].clone();
                done + ", " + &self.put(desk, &path.join(&child), Some(file))
            }
        }
    }

    /// Begins to save a file as an editor does.
    fn save(&mut self, desk: &mut Desk<'_>, path: SyncPath, random: &mut Random) -> String {
        let Some(Node::File { executable, .. }) = desk.disk.get(&path).cloned() else {
            return format!("no file {path}");
        };
        let new = Node::File { content: content(desk, random), executable };
        if random.once_in(2) {
            let done = self.put(desk, &path, Some(Node::File { content: EMPTY, executable }));
            self.saving = Some(Saving::Write(path, new));
            return done;
        }
        let Some((parent, name)) = path.split() else { return String::new() };
        let beside = [name.as_bytes(), b"~"].concat();
        let beside = Name::parse(&beside).map_or(path.clone(), |name| parent.join(&name));
        let done = self.put(desk, &beside, Some(new));
        self.saving = Some(Saving::RenameOver(beside, path));
        done
    }

    fn go_on(&self, desk: &mut Desk<'_>, saving: Saving) -> String {
        match saving {
            Saving::Write(path, node) => self.write(desk, &path, node),
            Saving::RenameOver(from, to) => {
                if desk.disk.get(&to).is_some_and(|node| node.children().is_some()) {
                    return format!("{to} is a directory");
                }
                self.rename(desk, &from, &to)
            }
        }
    }

    /// One file of those that another branch has otherwise.
    fn check_out(&self, desk: &mut Desk<'_>, random: &mut Random) -> String {
        let path = self.path(random);
        if random.once_in(3) {
            return self.put(desk, &path, None);
        }
        self.make_parent(desk, &path, random);
        let node = Node::file(content(desk, random));
        self.write(desk, &path, node)
    }
}

/// A tree to begin with.
pub fn tree(random: &mut Random, fresh: &mut Content, twins: bool) -> Node {
    let mut disk = Disk::new(Node::directory(), false, false);
    let users = Users::new(0, twins);
    for _ in 0..random.below(9) {
        let path = users.path(random);
        let mut above: Vec<SyncPath> =
            std::iter::successors(path.split(), |(parent, _)| parent.split())
                .map(|(parent, _)| parent)
                .collect();
        while let Some(parent) = above.pop() {
            if !parent.is_root() && disk.get(&parent).is_none() {
                disk.put(&parent, Some(Node::directory()));
            }
        }
        if disk.get(&path).is_none() {
            *fresh += 1;
            disk.put(&path, Some(Node::file(*fresh)));
        }
    }
    disk.root
}

fn content(desk: &mut Desk<'_>, random: &mut Random) -> Content {
    if random.once_in(3) {
        return 1 + u32::from(random.once_in(2));
    }
    *desk.fresh += 1;
    debug_assert!(*desk.fresh > UNIQUE_FROM);
    *desk.fresh
}
