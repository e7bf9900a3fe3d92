//! What was seen becomes what is known.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::directory::{Child, Known};
use super::hold::{Held, Hold};
use super::own::Gone;
use super::recent::Fate;
use super::{Event, Name, Node, NodeId, Nodes, Notice, Origin, ROOT, identity, key};
use crate::source::{Attributes, Entry, FileKind, Listing, ObjectId, Seen, Stamp};

impl Nodes {
    /// A listing is on the way: what is told of directories that are not known is kept for it.
    pub(crate) fn listing_begins(&mut self) {
        self.listings += 1;
    }

    /// It is complete, or failed.
    pub(crate) fn listing_ends(&mut self) {
        self.listings = self.listings.saturating_sub(1);
    }

    /// All names of a directory were seen. It counts only where it was asked for: at its path there
    /// is the object that was listed.
    pub(crate) fn list(&mut self, seen: Seen<Listing>, now: Instant) -> Vec<Notice> {
        let mut out = Vec::new();
        let Seen { stamp, what: listing } = seen;
        let Some(id) = self.resolve(&listing.path) else { return out };
        let Some(node) = self.node(id) else { return out };
        let Some(directory) = &node.directory else { return out };
        let is_other = !is_same(node.attributes.object, listing.attributes.object);
        let is_older = directory.newest.max(directory.named) > stamp;
        if is_other || is_older {
            return out;
        }
        let was_known = directory.known.is_some();
        self.update(id, listing.attributes, stamp, Origin::Look, now, &mut out);
        let lost = self.recent.lost_since(stamp);
        let names = self.with_recent(&listing.path, listing.entries, stamp);
        let gone: Vec<Name> = match self.directory(id) {
            Some(directory) => directory
                .entries
                .iter()
                .filter(|(name, child)| child.stamp <= stamp && !names.contains_key(*name))
                .map(|(name, _)| name.clone())
                .collect(),
            None => return out,
        };
        for name in gone {
            self.remove_name(id, &name, was_known, &mut out);
        }
        for (name, fate) in names {
            if let Some(entry) = fate.entry {
                self.set_name(
                    id,
                    &name,
                    Seen { stamp: fate.stamp, what: entry },
                    (Origin::Look, was_known),
                    now,
                    &mut out,
                );
            }
        }
        // It is not used by that: whoever needs it says so.
        if let Some(directory) = self.directory_mut(id) {
            let before = directory.listed();
            let seen =
                if lost { now.checked_sub(super::UNFOLLOWED_FOR).unwrap_or(now) } else { now };
            let followed = listing.followed && !lost;
            directory.newest = directory.newest.max(stamp);
            directory.known = Some(Known { followed, seen, is_doubtful: false });
            let after = directory.entries.len();
            self.listed = self.listed - before + after;
        }
        out
    }

    /// The names of a listing, with what became of them since it was made.
    fn with_recent(
        &self,
        path: &Path,
        entries: Vec<Entry>,
        stamp: Stamp,
    ) -> std::collections::BTreeMap<Name, Fate> {
        let mut names: std::collections::BTreeMap<Name, Fate> = entries
            .into_iter()
            .filter(|entry| is_name(&entry.name))
            .map(|entry| (Arc::from(entry.name.as_os_str()), Fate { stamp, entry: Some(entry) }))
            .collect();
        for (name, fate) in self.recent.of(path).into_iter().flatten() {
            if fate.stamp > stamp {
                names.insert(name.clone(), fate.clone());
            }
        }
        names
    }

    /// Something was told of a name.
    pub(crate) fn told(&mut self, told: Held, now: Instant) -> Vec<Notice> {
        let mut out = Vec::new();
        if !is_name(&told.name) {
            return out;
        }
        let Some(id) = self.resolve(&told.directory) else {
            self.remember(told, now);
            return out;
        };
        if !self.holds.is_empty()
            && let Some(hold) = self.hold_for(id, &told)
        {
            self.holds.keep(&hold, told);
            return out;
        }
        if let Some(attributes) = told.directory_attributes
            && self.node(id).is_some_and(|n| is_same(n.attributes.object, attributes.object))
        {
            // The kernel asks for them again after each of our own changes there, by itself.
            let is_quiet = self.holds.has_name_in(id);
            let origin = if is_quiet { Origin::Own } else { Origin::Told { content: false } };
            self.update(id, attributes, told.stamp, origin, now, &mut out);
        }
        let is_known = self.knows(id);
        if !is_known {
            self.remember(told.clone(), now);
        }
        let Held { name, entry, content, stamp, .. } = told;
        match entry {
            Some(entry) => {
                let has_name = self.directory(id).is_some_and(|d| d.entries.contains_key(&name));
                if is_known || has_name {
                    let how = (Origin::Told { content }, is_known);
                    let seen = Seen { stamp, what: entry };
                    self.set_name(id, &name, seen, how, now, &mut out);
                } else if self.directory_mut(id).is_some_and(|d| d.take_absent(&name)) {
                    out.push(Notice::Entry(id, name));
                }
            }
            None => self.name_gone(id, &name, stamp, is_known, now, &mut out),
        }
        out
    }

    fn remember(&mut self, told: Held, now: Instant) {
        if self.listings > 0 {
            let fate = Fate { stamp: told.stamp, entry: told.entry };
            self.recent.put(told.directory, told.name, fate, now);
        }
    }

    /// What a name means is newer than a listing that is on the way: that may be without it, and by
    /// the time it arrives the name may be forgotten here.
    pub(super) fn remember_child(&mut self, id: NodeId, name: &Name, child: Child, now: Instant) {
        if self.listings == 0 {
            return;
        }
        let (Some(path), Some(node)) = (self.path(id), self.node(child.node)) else { return };
        let target = node.target.as_ref().map(|target| target.to_os_string());
        let entry = Entry { name: name.to_os_string(), attributes: node.attributes, target };
        self.recent.put(path, name.clone(), Fate { stamp: child.stamp, entry: Some(entry) }, now);
    }

    /// Which request of ours is changing what was told of.
    fn hold_for(&self, id: NodeId, told: &Held) -> Option<Hold> {
        let by_name = Hold::Name(id, told.name.clone());
        if self.holds.has(&by_name) {
            return Some(by_name);
        }
        let object = told.entry.as_ref()?.attributes.object;
        let node = Hold::Node(*self.numbers.get(&key(object))?);
        self.holds.has(&node).then_some(node)
    }

    /// A name is gone, unless something newer is known of it.
    pub(super) fn name_gone(
        &mut self,
        id: NodeId,
        name: &Name,
        stamp: Stamp,
        is_event: bool,
        now: Instant,
        out: &mut Vec<Notice>,
    ) {
        if let Some(path) = self.path(id) {
            self.recent.put(path, name.clone(), Fate { stamp, entry: None }, now);
        }
        let child = self.directory(id).and_then(|d| d.entries.get(name));
        if child.is_some_and(|child| child.stamp <= stamp) {
            self.remove_name(id, name, is_event, out);
        }
    }

    /// Takes a name away, and tells the kernel.
    pub(super) fn remove_name(
        &mut self,
        id: NodeId,
        name: &Name,
        is_event: bool,
        out: &mut Vec<Notice>,
    ) {
        let Some(child) = self.directory(id).and_then(|d| d.entries.get(name)) else { return };
        let node = child.node;
        let is_held = self.is_held(node);
        if is_held {
            out.push(Notice::Entry(id, name.clone()));
            if self.node(node).is_some_and(|node| node.names.len() > 1) {
                out.push(Notice::Attributes(node));
            }
        }
        if is_event
            && self.is_held(id)
            && let Some(gone) = self.gone(node)
        {
            // It stays until the event is over.
            self.looked_up(node);
            out.push(Notice::Event(Event::Gone(id, name.clone(), gone)));
        }
        self.unlink(id, name);
        // The watch of what is below a directory went with its name.
        if self.node(node).is_some_and(|node| node.directory.is_some()) {
            self.unfollow_below(node, out);
        }
        self.reap(node);
    }

    pub(crate) fn gone(&self, id: NodeId) -> Option<Gone> {
        let node = self.node(id)?;
        Some(Gone { node: id, generation: node.generation, attributes: node.attributes })
    }

    /// Takes a name away.
    pub(super) fn unlink(&mut self, id: NodeId, name: &Name) {
        let Some(directory) = self.directory_mut(id) else { return };
        let Some(child) = directory.entries.remove(name) else { return };
        let was_listed = directory.known.is_some();
        self.listed -= usize::from(was_listed);
        if let Some(node) = self.nodes.get_mut(&child.node) {
            node.names.retain(|(parent, at)| *parent != id || at != name);
        }
    }

    /// A name means this, unless something newer is known of it. `how`: how that is known, and
    /// whether somebody who watches the directory should hear of a name that is new.
    pub(super) fn set_name(
        &mut self,
        id: NodeId,
        name: &Name,
        seen: Seen<Entry>,
        how: (Origin, bool),
        now: Instant,
        out: &mut Vec<Notice>,
    ) -> Option<NodeId> {
        let Seen { stamp, what: entry } = seen;
        let (origin, is_event) = how;
        let before = self.directory(id)?.entries.get(name).copied();
        if let Some(child) = before.filter(|child| child.stamp > stamp) {
            self.told_late(child.node, &entry.attributes, origin, now, out);
            return None;
        }
        if before.is_none()
            && !self.recent.is_empty()
            && self.path(id).is_some_and(|path| self.recent.after(&path, name, stamp).is_some())
        {
            return None;
        }
        let node = self.adopt(&entry, stamp, origin, now, out)?;
        // If another object had its number, that has lost its names.
        let before = before.and_then(|_| self.directory(id)?.entries.get(name).copied());
        if node == ROOT || node == id || !self.may_be_in(node, id) {
            return None;
        }
        if let Some(child) = before
            && child.node == node
        {
            let directory = self.directory_mut(id)?;
            if let Some(child) = directory.entries.get_mut(name) {
                child.stamp = stamp;
            }
            if origin != Origin::Look {
                self.remember_child(id, name, Child { node, stamp }, now);
            }
            return Some(node);
        }
        let tells = origin != Origin::Own;
        if before.is_some() {
            if tells {
                self.remove_name(id, name, is_event, out);
            } else {
                self.unlink(id, name);
            }
        }
        let was_absent = self.directory_mut(id)?.take_absent(name);
        if was_absent && tells {
            out.push(Notice::Entry(id, name.clone()));
        }
        self.put_name(id, name, Child { node, stamp }, tells, out);
        if origin != Origin::Look {
            self.remember_child(id, name, Child { node, stamp }, now);
        }
        if let Some(child) = before {
            self.reap(child.node);
        }
        if is_event && tells && self.is_held(id) {
            out.push(Notice::Event(Event::Appeared(id, name.clone())));
        }
        Some(node)
    }

    /// Gives a node one more name; a directory has only this one then.
    fn put_name(
        &mut self,
        id: NodeId,
        name: &Name,
        child: Child,
        tells: bool,
        out: &mut Vec<Notice>,
    ) {
        let others = match self.nodes.get(&child.node) {
            Some(node) if node.directory.is_some() => node.names.clone(),
            _ => Vec::new(),
        };
        for (parent, other) in others {
            if tells && self.is_held(child.node) {
                out.push(Notice::Entry(parent, other.clone()));
            }
            self.unlink(parent, &other);
        }
        let Some(directory) = self.directory_mut(id) else { return };
        directory.entries.insert(name.clone(), child);
        let is_listed = directory.known.is_some();
        self.listed += usize::from(is_listed);
        self.name_node(id, name, child, out);
    }

    /// Whether a node may be in a directory: that must not be the node itself, or below it.
    fn may_be_in(&self, node: NodeId, directory: NodeId) -> bool {
        if self.node(node).is_none_or(|node| node.directory.is_none()) {
            return true;
        }
        let mut at = directory;
        for _ in 0..super::DEPTH_MAX {
            if at == node {
                return false;
            }
            match self.node(at).and_then(|n| n.names.last()) {
                Some((parent, _)) => at = *parent,
                None => return true,
            }
        }
        false
    }

    /// The node of an object, made if there is none. Nothing: what is known of that number is newer,
    /// and about another object.
    pub(super) fn adopt(
        &mut self,
        entry: &Entry,
        stamp: Stamp,
        origin: Origin,
        now: Instant,
        out: &mut Vec<Notice>,
    ) -> Option<NodeId> {
        let object = entry.attributes.object;
        let target = entry.target.as_deref().map(Name::from);
        let id = match self.numbers.get(&key(object)).copied() {
            Some(id) => {
                let node = self.nodes.get(&id)?;
                let is_known = is_same(node.attributes.object, object)
                    && node.attributes.kind == entry.attributes.kind
                    && !node.is_removed;
                if is_known {
                    self.update(id, entry.attributes, stamp, origin, now, out);
                } else if id == ROOT || !is_later(object, stamp, node) {
                    return None;
                } else {
                    self.replace(id, entry.attributes, stamp, now, out);
                }
                id
            }
            None => self.insert(entry.attributes, stamp, now),
        };
        let node = self.nodes.get_mut(&id)?;
        if node.attributes.kind == FileKind::Symlink && target.is_some() && node.stamp <= stamp {
            node.target = target;
        }
        Some(id)
    }

    /// A new node.
    fn insert(&mut self, attributes: Attributes, stamp: Stamp, now: Instant) -> NodeId {
        let root_device = self.nodes.get(&ROOT).map_or(0, |root| root.attributes.object.device);
        let mut id = identity::number(attributes.object, root_device);
        let mut generation = 0;
        while let Some(node) = self.nodes.get(&id) {
            if node.is_stale {
                // The kernel still holds what had this number in the source before.
                generation = node.generation + 1;
                break;
            }
            id = identity::next(id);
        }
        let mut node = Node::new(attributes, stamp, now);
        node.generation = generation;
        if let Some(old) = self.nodes.remove(&id) {
            node.lookups = old.lookups;
        }
        self.numbers.insert(key(attributes.object), id);
        self.nodes.insert(id, node);
        id
    }

    /// The number was used again: another object has it. What had it before is gone, with all its
    /// names.
    fn replace(
        &mut self,
        id: NodeId,
        attributes: Attributes,
        stamp: Stamp,
        now: Instant,
        out: &mut Vec<Notice>,
    ) {
        let Some(names) = self.nodes.get(&id).map(|node| node.names.clone()) else { return };
        let is_held = self.is_held(id);
        if self.nodes.get(&id).is_some_and(|node| node.directory.is_some()) {
            self.empty(id, out);
        }
        for (parent, name) in names {
            if is_held {
                out.push(Notice::Entry(parent, name.clone()));
            }
            self.unlink(parent, &name);
        }
        out.push(Notice::Content(id));
        let mut node = Node::new(attributes, stamp, now);
        if let Some(old) = self.nodes.get(&id) {
            node.generation = old.generation + 1;
            node.lookups = old.lookups;
            node.handles = old.handles;
            node.writers = old.writers;
        }
        self.nodes.insert(id, node);
    }

    /// Reads the file's content as changed by others, whatever is known of it.
    pub(crate) fn doubt(&self, id: NodeId) -> Vec<Notice> {
        vec![Notice::Content(id)]
    }
}

/// Whether an object has its number after the one that is known to have it. Both were looked at, but
/// a look can be late: which was made later is the better proof.
fn is_later(object: ObjectId, stamp: Stamp, known: &Node) -> bool {
    let before = known.attributes.object.born_ns;
    match object.born_ns.cmp(&before) {
        _ if object.born_ns == 0 || before == 0 => stamp >= known.stamp,
        std::cmp::Ordering::Equal => stamp >= known.stamp,
        order => order == std::cmp::Ordering::Greater,
    }
}

/// The same object, as far as that can be told.
pub(crate) fn is_same(one: ObjectId, other: ObjectId) -> bool {
    let born = one.born_ns == other.born_ns || one.born_ns == 0 || other.born_ns == 0;
    key(one) == key(other) && born
}

/// Whether a source may say that something has this name.
fn is_name(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    let is_plain = !bytes.is_empty() && bytes.len() <= 255 && bytes != b"." && bytes != b"..";
    is_plain && !bytes.contains(&b'/') && !bytes.contains(&0)
}
