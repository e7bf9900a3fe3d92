//! What our own changes come to. The kernel knows of them: it is told nothing.

use std::time::Instant;

use super::directory::Child;
use super::hold::Hold;
use super::recent::Fate;
use super::{Name, NodeId, Nodes, Notice, Origin, ROOT};
use crate::source::{Attributes, Changed, Entry, Seen, Stamp};

/// An object whose name is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    /// Its number.
    pub(crate) node: NodeId,
    /// The object that had the number.
    pub(crate) generation: u64,
    /// As last seen.
    pub(crate) attributes: Attributes,
}

impl Nodes {
    /// A request of ours begins to change this.
    pub(crate) fn hold(&mut self, hold: Hold) {
        self.holds.begin(hold);
    }

    /// It is done, and its reply known: what was told meanwhile is applied.
    pub(crate) fn release(&mut self, hold: &Hold, now: Instant) -> Vec<Notice> {
        let held = self.holds.end(hold);
        held.into_iter().flat_map(|told| self.told(told, now)).collect()
    }

    /// We made something, or gave it one more name. Says which node it is.
    pub(crate) fn made(
        &mut self,
        directory: NodeId,
        name: &Name,
        seen: Seen<Changed>,
        target: Option<std::ffi::OsString>,
        now: Instant,
    ) -> (Option<NodeId>, Vec<Notice>) {
        let mut out = Vec::new();
        let Seen { stamp, what: changed } = seen;
        self.update(directory, changed.directory, stamp, Origin::Own, now, &mut out);
        let Some(attributes) = changed.object else { return (None, out) };
        let entry = Entry { name: name.to_os_string(), attributes, target };
        let how = (Origin::Own, false);
        let seen = Seen { stamp, what: entry };
        let named = self.set_name(directory, name, seen.clone(), how, now, &mut out);
        // The name may be gone again, or mean something else; it was made all the same.
        let node = named.or_else(|| self.adopt(&seen.what, stamp, Origin::Own, now, &mut out));
        if let Some(node) = node.and_then(|id| self.node_mut(id)) {
            node.wrote = Some(now);
        }
        (node, out)
    }

    /// We removed a name.
    pub(crate) fn removed(
        &mut self,
        directory: NodeId,
        name: &Name,
        seen: Seen<Changed>,
        now: Instant,
    ) -> Vec<Notice> {
        let mut out = Vec::new();
        let Seen { stamp, what: changed } = seen;
        self.update(directory, changed.directory, stamp, Origin::Own, now, &mut out);
        let child = self.directory(directory).and_then(|d| d.entries.get(name)).copied();
        self.tombstone(directory, name, stamp, now);
        let Some(child) = child.filter(|child| child.stamp <= stamp) else { return out };
        self.unlink(directory, name);
        self.lost_a_name(child.node, changed.object, stamp, now, &mut out);
        out
    }

    /// We gave an object another name.
    pub(crate) fn moved(
        &mut self,
        from: (NodeId, &Name),
        to: (NodeId, &Name),
        seen: Seen<Changed>,
        now: Instant,
    ) -> Vec<Notice> {
        let mut out = Vec::new();
        let Seen { stamp, what: changed } = seen;
        self.update(to.0, changed.directory, stamp, Origin::Own, now, &mut out);
        if let Some(before) = changed.before {
            self.update(from.0, before, stamp, Origin::Own, now, &mut out);
        }
        let Some(child) = self.directory(from.0).and_then(|d| d.entries.get(from.1)).copied()
        else {
            if let Some(attributes) = changed.object {
                let entry = Entry { name: to.1.to_os_string(), attributes, target: None };
                let how = (Origin::Own, false);
                let seen = Seen { stamp, what: entry };
                self.set_name(to.0, to.1, seen, how, now, &mut out);
            }
            return out;
        };
        let over = self.directory(to.0).and_then(|d| d.entries.get(to.1)).copied();
        if over.is_some_and(|over| over.node == child.node) {
            // Two names of one object: such a rename does nothing.
            return out;
        }
        self.tombstone(from.0, from.1, stamp, now);
        if over.is_some_and(|over| over.stamp > stamp) {
            self.unlink(from.0, from.1);
            self.reap(child.node);
            return out;
        }
        self.unlink(to.0, to.1);
        self.unlink(from.0, from.1);
        let child = Child { node: child.node, stamp };
        if let Some(directory) = self.directory_mut(to.0) {
            directory.take_absent(to.1);
        }
        self.put_own_name(to.0, to.1, child, &mut out);
        self.remember_child(to.0, to.1, child, now);
        if let Some(attributes) = changed.object {
            self.update(child.node, attributes, stamp, Origin::Own, now, &mut out);
        }
        if let Some(over) = over {
            self.lost_a_name(over.node, None, stamp, now, &mut out);
        }
        // The source's watches of a directory go with its old name.
        self.unfollow_below(child.node, &mut out);
        out
    }

    fn put_own_name(&mut self, id: NodeId, name: &Name, child: Child, out: &mut Vec<Notice>) {
        let Some(directory) = self.directory_mut(id) else { return };
        directory.entries.insert(name.clone(), child);
        let is_listed = directory.known.is_some();
        self.listed += usize::from(is_listed);
        self.name_node(id, name, child, out);
    }

    fn tombstone(&mut self, directory: NodeId, name: &Name, stamp: Stamp, now: Instant) {
        if let Some(path) = self.path(directory) {
            self.recent.put(path, name.clone(), Fate { stamp, entry: None }, now);
        }
    }

    /// An object has one name less, through us; `attributes` says what it is like now.
    fn lost_a_name(
        &mut self,
        id: NodeId,
        attributes: Option<Attributes>,
        stamp: Stamp,
        now: Instant,
        out: &mut Vec<Notice>,
    ) {
        match attributes {
            Some(attributes) => self.update(id, attributes, stamp, Origin::Own, now, out),
            None => {
                if let Some(node) = self.node_mut(id).filter(|_| id != ROOT) {
                    let links = node.attributes.links;
                    let is_directory = node.directory.is_some();
                    node.attributes.links = if is_directory { 0 } else { links.saturating_sub(1) };
                    node.is_unclear = true;
                    if node.names.is_empty() && node.attributes.links == 0 {
                        node.is_removed = true;
                        node.stamp = node.stamp.max(stamp);
                    }
                }
            }
        }
        self.reap(id);
    }
}
