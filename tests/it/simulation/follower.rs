//! Keeps a view of a disk: a snapshot that lags behind it, as a watcher's events come in.
//!
//! One thread in a session: it takes a dirty path, reads what the disk has there *then*, and puts
//! that into the view. A directory is read name by name while others work on it. A reading that
//! overlaps a write of our own to the same place is thrown away and made again.

use std::collections::{BTreeSet, VecDeque};

use skync_agent::entry::{Entry, differences};
use skync_agent::path::{Name, SyncPath};

use super::disk::{Disk, Node, directory, has_cargo, is_excluded, related};
use crate::support::random::Random;

/// A path that is being read.
#[derive(Debug)]
struct Reading {
    path: SyncPath,
    /// What was found so far, and how many names there were.
    found: Found,
    /// Something of ours was written there meanwhile.
    overlapped: bool,
}

#[derive(Debug)]
enum Found {
    All(Option<Entry>),
    Part { todo: VecDeque<(Name, bool)>, done: Vec<(Name, Entry)>, excluded: usize, switched: bool },
}

/// The view of one disk, and what is known to be out of date in it.
#[derive(Debug)]
pub struct Follower {
    /// The view.
    view: Entry,
    /// The view as it was last told.
    told: Entry,
    /// What the watcher has to say, in any order.
    pub events: Vec<SyncPath>,
    dirty: BTreeSet<SyncPath>,
    /// To be told even if it is as it was.
    forced: BTreeSet<SyncPath>,
    reading: Option<Reading>,
    /// The watcher lost something and did not say so: only a rescan finds it.
    pub missed: bool,
    /// A mutation: readings that were overlapped count.
    pub keeps_overlapped: bool,
    /// A mutation: what is excluded is judged by names that the view does not have yet.
    pub asks_the_disk: bool,
}

/// A change of the view: what is at a path from now on, with everything below.
pub type Told = (SyncPath, Option<Entry>);

impl Follower {
    /// Reads the whole disk.
    pub fn new(disk: &Disk) -> Self {
        let view = disk.look(&SyncPath::root()).unwrap_or_else(|| directory(Vec::new(), 0));
        Self {
            told: view.clone(),
            view,
            events: Vec::new(),
            dirty: BTreeSet::new(),
            forced: BTreeSet::new(),
            reading: None,
            missed: false,
            keeps_overlapped: false,
            asks_the_disk: false,
        }
    }

    /// The whole view, for whoever has none.
    pub fn whole(&mut self) -> Entry {
        self.told = self.view.clone();
        self.view.clone()
    }

    /// True if the view is to its knowledge the disk.
    pub fn is_quiet(&self) -> bool {
        self.events.is_empty() && self.dirty.is_empty() && self.reading.is_none()
    }

    /// True if there is something to read.
    pub fn has_reading(&self) -> bool {
        !self.dirty.is_empty() || self.reading.is_some()
    }

    /// The watcher says that something happened at a path.
    pub fn event(&mut self, path: SyncPath) {
        // What switches a pattern on has the whole directory judged anew.
        let switch = path.split().is_some_and(|(_, name)| is_switch(&name));
        let path = path.split().filter(|_| switch).map_or(path, |(parent, _)| parent);
        self.dirty.insert(path);
    }

    /// Events were lost, or it is time for the periodic rescan.
    pub fn rescan(&mut self) {
        self.events.clear();
        self.missed = false;
        self.dirty.insert(SyncPath::root());
    }

    /// A path is to be read and told, whatever is there.
    pub fn force(&mut self, path: &SyncPath) {
        self.dirty.insert(path.clone());
        self.forced.insert(path.clone());
    }

    /// A step of ours is under way at a path, or just ended, however it did. What is read there
    /// meanwhile does not count: it may be new content that is taken back in the next instant.
    pub fn overlaps(&mut self, path: &SyncPath) {
        if let Some(reading) = &mut self.reading {
            reading.overlapped |= related(&reading.path, path);
        }
    }

    /// We made this of a path: the view has it at once.
    pub fn applied(&mut self, disk: &Disk, path: &SyncPath, new: Option<Entry>) -> Vec<Told> {
        if !self.view.put_shallow(path, new) {
            // The view does not know the directory. It must before anybody hears of the outcome:
            // what was made and is not in the view looks deleted.
            let above = self.highest(disk, path);
            let is_excluded = self.is_excluded(disk, &above);
            self.view.put(&above, disk.look(&above).filter(|_| !is_excluded));
        }
        // It was made where names that came meanwhile exclude it.
        let mut excluded = Some(path.clone());
        while let Some(at) = excluded.take_if(|at| self.is_excluded(disk, at)) {
            self.view.put(&at, None);
            excluded = at.split().map(|(parent, _)| parent);
        }
        self.tell(disk, path, false)
    }

    /// One step of reading. Returns what is new.
    pub fn read(&mut self, disk: &Disk, random: &mut Random) -> Vec<Told> {
        let Some(mut reading) = self.reading.take() else {
            return self.begin(disk, random);
        };
        if let Found::Part { todo, done, excluded, switched } = &mut reading.found {
            if let Some((name, is_directory)) = todo.pop_front() {
                let entry = disk.look(&reading.path.join(&name));
                // What became a directory since the names were read is judged when its event comes.
                let entry = entry.filter(|entry| entry.as_directory().is_none() || is_directory);
                done.extend(entry.map(|entry| (name, entry)));
                self.reading = Some(reading);
                return Vec::new();
            }
            // What switched a pattern on and is gone by now excluded names that nothing excludes:
            // the reading is no picture of any instant.
            reading.overlapped |= *switched && !done.iter().any(|(name, _)| is_switch(name));
            // A name that is gone by now counts neither way.
            let all = done.len() + *excluded;
            reading.found = Found::All(Some(directory(std::mem::take(done), all)));
        }
        let Found::All(entry) = reading.found else { return Vec::new() };
        if reading.overlapped && !self.keeps_overlapped {
            self.dirty.insert(reading.path);
            return Vec::new();
        }
        if !self.view.put(&reading.path, entry) {
            self.dirty.insert(reading.path.clone());
        }
        self.tell(disk, &reading.path, true)
    }

    fn begin(&mut self, disk: &Disk, random: &mut Random) -> Vec<Told> {
        let at = random.below(self.dirty.len().max(1));
        let Some(dirty) = self.dirty.iter().nth(at).cloned() else {
            return Vec::new();
        };
        self.dirty.remove(&dirty);
        let path = self.highest(disk, &dirty);
        let names = disk.exact(&path).and_then(Node::children).filter(|_| !disk.denies(&path));
        let is_excluded = self.is_excluded(disk, &path);
        let found = match names.filter(|_| !is_excluded) {
            None => Found::All(disk.look(&path).filter(|_| !is_excluded)),
            // Names are listed, and judged by each other, in one instant.
            Some(children) => {
                let todo: VecDeque<_> = children
                    .iter()
                    .filter(|(name, child)| !disk.excludes(children, name, child))
                    .map(|(name, child)| (name.clone(), child.children().is_some()))
                    .collect();
                let excluded = children.len() - todo.len();
                let switched = todo.iter().any(|(name, _)| is_switch(name));
                Found::Part { todo, done: Vec::new(), excluded, switched }
            }
        };
        self.reading = Some(Reading { path, found, overlapped: false });
        Vec::new()
    }

    /// True if the path is excluded. What looks beside it is asked about the names in the *view*: a
    /// name that the view does not have yet must not take others out of it.
    fn is_excluded(&self, disk: &Disk, path: &SyncPath) -> bool {
        let Some((parent, name)) = path.split() else { return false };
        let is_directory = disk.exact(path).is_some_and(|node| node.children().is_some());
        let view = self.view.find(&parent).and_then(Entry::as_directory);
        let cargo = match self.asks_the_disk {
            true => disk.exact(&parent).and_then(Node::children).is_some_and(has_cargo),
            false => view.is_some_and(|view| view.child(b"Cargo.toml").is_some()),
        };
        is_excluded(name.as_bytes(), is_directory, disk.conditional && cargo)
            || self.is_excluded(disk, &parent)
    }

    /// The path itself, or what above it the view does not know as a directory that can be read.
    fn highest(&self, disk: &Disk, path: &SyncPath) -> SyncPath {
        let mut at = SyncPath::root();
        for name in path.names() {
            let known = self.view.find(&at).is_some_and(|entry| entry.as_directory().is_some());
            let there = disk.exact(&at).is_some_and(|node| node.children().is_some());
            if !known || !there || disk.denies(&at) {
                break;
            }
            match Name::parse(name) {
                Ok(name) => at = at.join(&name),
                Err(_) => break,
            }
        }
        at
    }

    /// What is different since it was last told; after a reading also what was asked for.
    fn tell(&mut self, disk: &Disk, path: &SyncPath, is_read: bool) -> Vec<Told> {
        self.judge_directories(disk, path);
        let mut paths = Vec::new();
        differences(&SyncPath::root(), Some(&self.told), Some(&self.view), &mut paths);
        if is_read {
            let due = |forced: &SyncPath| {
                related(forced, path)
                    && path.names().count() <= forced.names().count()
                    && !self.dirty.contains(forced)
            };
            let (due, waiting) = std::mem::take(&mut self.forced).into_iter().partition(due);
            self.forced = waiting;
            paths.extend::<BTreeSet<_>>(due);
        }
        self.told = self.view.clone();
        paths.into_iter().map(|path| (path.clone(), self.view.find(&path).cloned())).collect()
    }

    /// Says anew of the directories above a path whether only what is excluded is in them.
    fn judge_directories(&mut self, disk: &Disk, path: &SyncPath) {
        let mut at = path.clone();
        loop {
            self.judge(disk, &at);
            match at.split() {
                Some((parent, _)) => at = parent,
                None => break,
            }
        }
    }

    fn judge(&mut self, disk: &Disk, at: &SyncPath) {
        let Some(Entry::Directory(known)) = self.view.find(at) else { return };
        let Some(there) = disk.exact(at).and_then(Node::children) else { return };
        let excluded = there.iter().any(|(name, child)| disk.excludes(there, name, child));
        let tracked = known.children.to_vec();
        let all = tracked.len() + usize::from(excluded);
        let only_excluded =
            matches!(directory(tracked, all), Entry::Directory(d) if d.only_excluded);
        if known.only_excluded != only_excluded
            && let Some(directory) = self.view.directory_mut(at)
        {
            directory.only_excluded = only_excluded;
        }
    }

    /// True if the view is the disk. Only to be asked when it is quiet.
    pub fn is_right(&self, disk: &Disk) -> bool {
        let mut different = Vec::new();
        let there = disk.look(&SyncPath::root());
        differences(&SyncPath::root(), Some(&self.view), there.as_ref(), &mut different);
        different.is_empty()
    }
}

/// True if the name switches a pattern on for the names beside it.
fn is_switch(name: &Name) -> bool {
    name.as_bytes() == b"Cargo.toml"
}
