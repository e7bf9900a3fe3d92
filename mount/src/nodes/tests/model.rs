//! Random histories of a source, whose listings, replies and changes arrive late and out of order:
//! once all has arrived, what is known is what is there.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::source::Changed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Thing {
    inode: u64,
    born: i64,
    is_directory: bool,
    size: u64,
}

impl Thing {
    fn attributes(self) -> Attributes {
        let kind = if self.is_directory { FileKind::Directory } else { FileKind::File };
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(self.size);
        let object = object(self.inode, self.born);
        Attributes { object, size: self.size, modified, ..attributes(kind, self.inode) }
    }
}

/// A tree, and what it has told that is still on its way.
struct Server {
    things: BTreeMap<PathBuf, Thing>,
    free: Vec<u64>,
    stamp: u64,
    next: u64,
    changes: VecDeque<Held>,
    listings: Vec<Seen<Listing>>,
}

impl Server {
    fn new() -> Self {
        let root = Thing { inode: 2, born: 1, is_directory: true, size: 0 };
        Self {
            things: BTreeMap::from([(PathBuf::new(), root)]),
            free: Vec::new(),
            stamp: 10,
            next: 100,
            changes: VecDeque::new(),
            listings: Vec::new(),
        }
    }

    fn stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    fn children(&self, path: &Path) -> Vec<Entry> {
        let below = self.things.iter().filter(|(at, _)| at.parent() == Some(path));
        below
            .map(|(at, thing)| Entry {
                name: at.file_name().unwrap().to_owned(),
                attributes: thing.attributes(),
                target: None,
            })
            .collect()
    }

    fn is_directory(&self, path: &Path) -> bool {
        self.things.get(path).is_some_and(|thing| thing.is_directory)
    }

    /// Tells what a name means now.
    fn tell(&mut self, path: &Path) {
        let stamp = Stamp(self.stamp());
        let directory = path.parent().unwrap().to_owned();
        let entry = self.children(&directory);
        let entry = entry.into_iter().find(|entry| path.file_name() == Some(&*entry.name));
        self.changes.push_back(Held {
            directory_attributes: self.things.get(&directory).map(|thing| thing.attributes()),
            directory,
            name: Name::from(path.file_name().unwrap()),
            entry,
            content: true,
            stamp,
        });
    }

    fn make(&mut self, path: &Path, is_directory: bool) -> bool {
        if self.things.contains_key(path) || !self.is_directory(path.parent().unwrap()) {
            return false;
        }
        self.next += 1;
        let inode = self.free.pop().unwrap_or(self.next);
        let born = i64::try_from(self.next).unwrap();
        self.things.insert(path.to_owned(), Thing { inode, born, is_directory, size: 1 });
        true
    }

    fn remove(&mut self, path: &Path) -> bool {
        if !self.children(path).is_empty() {
            return false;
        }
        let removed = self.things.remove(path);
        self.free.extend(removed.map(|thing| thing.inode));
        removed.is_some()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> bool {
        let possible = self.things.contains_key(from)
            && !self.things.contains_key(to)
            && !to.starts_with(from)
            && self.is_directory(to.parent().unwrap());
        if possible {
            let moved: Vec<PathBuf> =
                self.things.keys().filter(|at| at.starts_with(from)).cloned().collect();
            for at in moved {
                let thing = self.things.remove(&at).unwrap();
                let rest = at.strip_prefix(from).unwrap();
                let at = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
                self.things.insert(at, thing);
            }
        }
        possible
    }

    fn list(&mut self, path: &Path) {
        if self.is_directory(path) {
            let stamp = Stamp(self.stamp());
            let attributes = self.things[path].attributes();
            let entries = self.children(path);
            let what = Listing { path: path.to_owned(), attributes, entries, followed: true };
            self.listings.push(Seen { stamp, what });
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Make(usize, bool),
    Grow(usize),
    Remove(usize),
    Rename(usize, usize),
    /// By us: the reply arrives before, or after, everything that was told so far.
    OwnMake(usize, bool, bool),
    OwnRemove(usize, bool),
    OwnRename(usize, usize, bool),
    List(usize),
    ListingArrives(usize),
    ChangeArrives,
    Lookup(usize),
    Forget(usize),
    Absent(usize),
    Shrink(usize),
    Below(usize),
}

fn path(at: usize) -> PathBuf {
    ["a", "b", "a/a", "a/b", "b/a", "a/a/a", "a/a/b"][at].into()
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..7usize;
    prop_oneof![
        3 => (at(), any::<bool>()).prop_map(|(at, dir)| Step::Make(at, dir)),
        1 => at().prop_map(Step::Grow),
        2 => at().prop_map(Step::Remove),
        2 => (at(), at()).prop_map(|(from, to)| Step::Rename(from, to)),
        2 => (at(), any::<bool>(), any::<bool>()).prop_map(|(at, d, l)| Step::OwnMake(at, d, l)),
        1 => (at(), any::<bool>()).prop_map(|(at, late)| Step::OwnRemove(at, late)),
        1 => (at(), at(), any::<bool>()).prop_map(|(f, t, late)| Step::OwnRename(f, t, late)),
        3 => at().prop_map(Step::List),
        4 => at().prop_map(Step::ListingArrives),
        6 => Just(Step::ChangeArrives),
        2 => at().prop_map(Step::Lookup),
        1 => at().prop_map(Step::Forget),
        1 => at().prop_map(Step::Absent),
        1 => (0..20usize).prop_map(Step::Shrink),
        1 => at().prop_map(Step::Below),
    ]
}

struct World {
    server: Server,
    nodes: Nodes,
    now: Instant,
    /// What the kernel holds.
    lookups: BTreeMap<NodeId, u64>,
    listings: usize,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let mut nodes = Nodes::new(seen(1, directory(2)), now);
        nodes.listing_begins();
        let mut server = Server::new();
        server.list(Path::new(""));
        Self { server, nodes, now, lookups: BTreeMap::new(), listings: 1 }
    }

    /// Events keep what is gone until they are over.
    fn publish(&mut self, notices: Vec<Notice>) {
        for notice in notices {
            if let Notice::Event(Event::Gone(_, _, gone)) = notice {
                self.nodes.forget(gone.node, 1);
            }
        }
    }

    fn deliver_listing(&mut self, at: usize) {
        if !self.server.listings.is_empty() {
            let at = at % self.server.listings.len();
            let listing = self.server.listings.remove(at);
            let notices = self.nodes.list(listing, self.now);
            self.publish(notices);
            self.nodes.listing_ends();
        }
    }

    fn deliver_change(&mut self) {
        if let Some(change) = self.server.changes.pop_front() {
            let notices = self.nodes.told(change, self.now);
            self.publish(notices);
        }
    }

    fn deliver_changes(&mut self) {
        while !self.server.changes.is_empty() {
            self.deliver_change();
        }
    }

    /// A request of ours: its reply arrives at once, or after all that was told.
    fn own(&mut self, paths: &[&Path], late: bool, act: impl FnOnce(&mut Server) -> bool) {
        let known: Option<Vec<(NodeId, Name)>> = paths
            .iter()
            .map(|path| {
                let parent = self.nodes.resolve(path.parent()?)?;
                self.nodes.knows(parent).then(|| (parent, Name::from(path.file_name().unwrap())))
            })
            .collect();
        // The kernel looks names up before it changes them; else it is the same as from outside.
        let holds: Vec<Hold> = known
            .iter()
            .flatten()
            .map(|(parent, name)| Hold::Name(*parent, name.clone()))
            .collect();
        holds.iter().for_each(|hold| self.nodes.hold(hold.clone()));
        let stamp = self.server.stamp();
        let done = act(&mut self.server);
        if done {
            paths.iter().for_each(|path| self.server.tell(path));
        }
        if late {
            self.deliver_changes();
        }
        if let (true, Some(known)) = (done, &known) {
            self.reply(paths, known, stamp);
        }
        for hold in &holds {
            let notices = self.nodes.release(hold, self.now);
            self.publish(notices);
        }
    }

    fn reply(&mut self, paths: &[&Path], known: &[(NodeId, Name)], stamp: u64) {
        let of = |server: &Server, path: &Path| server.things.get(path).map(|t| t.attributes());
        let last = paths[paths.len() - 1];
        let directory = of(&self.server, last.parent().unwrap()).unwrap();
        let object = of(&self.server, last);
        let changed = seen(stamp, Changed { object, directory, before: None });
        let notices = match (paths.len(), object) {
            (2, _) => {
                let (from, to) = (&known[0], &known[1]);
                self.nodes.moved((from.0, &from.1), (to.0, &to.1), changed, self.now)
            }
            (_, Some(_)) => self.nodes.made(known[0].0, &known[0].1, changed, None, self.now).1,
            (_, None) => self.nodes.removed(known[0].0, &known[0].1, changed, self.now),
        };
        self.publish(notices);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Make(at, is_directory) => {
                if self.server.make(&path(*at), *is_directory) {
                    self.server.tell(&path(*at));
                }
            }
            Step::Grow(at) => {
                if let Some(thing) = self.server.things.get_mut(&path(*at)) {
                    thing.size += 1;
                    self.server.tell(&path(*at));
                }
            }
            Step::Remove(at) => {
                if self.server.remove(&path(*at)) {
                    self.server.tell(&path(*at));
                }
            }
            Step::Rename(from, to) => {
                if self.server.rename(&path(*from), &path(*to)) {
                    self.server.tell(&path(*from));
                    self.server.tell(&path(*to));
                }
            }
            Step::OwnMake(at, is_directory, late) => {
                let at = path(*at);
                self.own(&[&at], *late, |server| server.make(&at, *is_directory));
            }
            Step::OwnRemove(at, late) => {
                let at = path(*at);
                self.own(&[&at], *late, |server| server.remove(&at));
            }
            Step::OwnRename(from, to, late) => {
                let (from, to) = (path(*from), path(*to));
                self.own(&[&from, &to], *late, |server| server.rename(&from, &to));
            }
            Step::List(at) => {
                let before = self.server.listings.len();
                self.server.list(path(*at).parent().unwrap());
                self.server.list(&path(*at));
                let begun = self.server.listings.len() - before;
                (0..begun).for_each(|_| self.nodes.listing_begins());
                self.listings += begun;
            }
            Step::ListingArrives(at) => self.deliver_listing(*at),
            Step::ChangeArrives => self.deliver_change(),
            Step::Lookup(_)
            | Step::Forget(_)
            | Step::Absent(_)
            | Step::Shrink(_)
            | Step::Below(_) => self.kernel_step(step),
        }
    }

    fn kernel_step(&mut self, step: &Step) {
        match step {
            Step::Lookup(at) => {
                if let Some(id) = self.nodes.resolve(&path(*at)) {
                    self.nodes.looked_up(id);
                    *self.lookups.entry(id).or_default() += 1;
                }
            }
            Step::Forget(at) => {
                let held = self.lookups.keys().nth(*at).copied();
                if let Some(id) = held {
                    let count = self.lookups.remove(&id).unwrap();
                    self.nodes.forget(id, count);
                }
            }
            Step::Absent(at) => {
                let at = path(*at);
                if let Some(parent) = self.nodes.resolve(at.parent().unwrap())
                    && let Ok(directory) = self.nodes.used_directory(parent)
                {
                    directory.tell_absent(&Name::from(at.file_name().unwrap()));
                }
            }
            Step::Shrink(count) => {
                let unused = self.nodes.unused(*count).into_iter().map(|(id, _)| id);
                let unused: Vec<NodeId> = unused.collect();
                let notices = self.nodes.forget_directories(&unused);
                self.publish(notices);
            }
            Step::Below(at) => {
                let (_, notices) = self.nodes.below(&path(*at));
                self.publish(notices);
            }
            _ => {}
        }
    }
}

/// What holds at any time.
fn invariants(nodes: &Nodes) -> Result<(), TestCaseError> {
    let mut listed = 0;
    for (id, node) in &nodes.nodes {
        for (parent, name) in &node.names {
            let child = nodes.directory(*parent).and_then(|d| d.entries.get(name));
            prop_assert_eq!(child.map(|child| child.node), Some(*id), "{:?}", name);
        }
        if let Some(directory) = &node.directory {
            prop_assert!(node.names.len() <= 1);
            listed += directory.listed();
            for (name, child) in &directory.entries {
                let child = nodes.nodes.get(&child.node);
                let has = child.is_some_and(|child| child.names.contains(&(*id, name.clone())));
                prop_assert!(has, "{:?} in {}", name, id);
            }
        }
        // It ends, at the root or at a directory that is gone.
        nodes.path(*id);
    }
    prop_assert_eq!(listed, nodes.listed);
    Ok(())
}

/// What is known is what is there.
fn agreement(world: &World) -> Result<(), TestCaseError> {
    for (id, node) in &world.nodes.nodes {
        let Some(directory) = node.directory.as_ref().filter(|d| d.known.is_some()) else {
            continue;
        };
        let Some(path) = world.nodes.path(*id) else { continue };
        let known: BTreeMap<String, (u64, i64, u64)> = directory
            .entries
            .iter()
            .map(|(name, child)| {
                let attributes = world.nodes.nodes[&child.node].attributes;
                let (object, size) = (attributes.object, attributes.size);
                (name.to_string_lossy().into_owned(), (object.inode, object.born_ns, size))
            })
            .collect();
        let there: BTreeMap<String, (u64, i64, u64)> = world
            .server
            .children(&path)
            .into_iter()
            .map(|entry| {
                let (object, size) = (entry.attributes.object, entry.attributes.size);
                let name = entry.name.to_string_lossy().into_owned();
                (name, (object.inode, object.born_ns, size))
            })
            .collect();
        prop_assert_eq!(known, there, "{}", path.display());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_known_becomes_what_is_there(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            invariants(&world.nodes)?;
        }
        while !world.server.listings.is_empty() {
            world.deliver_listing(0);
        }
        world.deliver_changes();
        invariants(&world.nodes)?;
        agreement(&world)?;
    }
}
