//! When less is known than before: changes were not told, memory is short, it is another source.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Event, Name, NodeId, Nodes, Notice, Origin, ROOT, key};
use crate::source::{Attributes, FileKind, Seen};

impl Nodes {
    /// Nothing is known of what is at or below a path any more. Says which known directory is next
    /// to be listed, so that the kernel hears of what is different.
    pub(crate) fn below(&mut self, path: &Path) -> (Option<NodeId>, Vec<Notice>) {
        let mut out = Vec::new();
        let Some(top) = self.resolve(path) else { return (None, out) };
        let was_known = self.knows(top);
        self.unfollow_below(top, &mut out);
        (was_known.then_some(top), out)
    }

    /// Nobody tells of changes at or below a directory any more: it is not known.
    ///
    /// The kernel forgets attributes, and what does not exist. Names it keeps: taking them away would
    /// leave whoever works in such a directory without one. They are compared when it is listed.
    pub(super) fn unfollow_below(&mut self, top: NodeId, out: &mut Vec<Notice>) {
        let mut visited = Vec::new();
        let mut waiting = vec![top];
        while let Some(id) = waiting.pop() {
            let Some(directory) = self.directory_mut(id) else { continue };
            let absent = directory.take_all_absent();
            let was_listed = directory.listed();
            directory.known = None;
            let children: Vec<NodeId> = directory.entries.values().map(|c| c.node).collect();
            self.listed -= was_listed;
            visited.push(id);
            if let Some(node) = self.node_mut(id) {
                node.is_unclear = true;
            }
            out.extend(absent.into_iter().map(|name| Notice::Entry(id, name)));
            for child in children {
                let Some(node) = self.node_mut(child) else { continue };
                node.is_unclear = true;
                if node.directory.is_some() {
                    waiting.push(child);
                }
                if node.lookups > 0 {
                    // What a link may point to depends on where it is, and that may be about to
                    // change.
                    let is_link = node.attributes.kind == FileKind::Symlink;
                    let notice = if is_link { Notice::Content } else { Notice::Attributes };
                    out.push(notice(child));
                }
                if self.node(child).is_some_and(|node| node.directory.is_none()) {
                    self.reap(child);
                }
            }
        }
        // From below, so that a directory is empty by the time it is looked at.
        for id in visited.into_iter().rev() {
            self.reap(id);
        }
    }

    /// Takes all names out of a directory that is gone.
    pub(super) fn empty(&mut self, id: NodeId, out: &mut Vec<Notice>) {
        self.unfollow_below(id, out);
        let names: Vec<Name> = match self.directory(id) {
            Some(directory) => directory.entries.keys().cloned().collect(),
            None => return,
        };
        for name in names {
            self.remove_name(id, &name, false, out);
        }
    }

    /// The directories that were not used for longest, of which the names have to be forgotten so
    /// that no more than `count` are listed.
    pub(crate) fn unused(&self, count: usize) -> Vec<(NodeId, PathBuf)> {
        let mut left = self.listed;
        if left <= count {
            return Vec::new();
        }
        let mut known: Vec<(u64, NodeId, usize)> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.handles == 0)
            .filter_map(|(id, node)| {
                let directory = node.directory.as_ref().filter(|d| d.known.is_some())?;
                Some((directory.used, *id, directory.listed()))
            })
            .collect();
        known.sort_unstable();
        let mut unused = Vec::new();
        for (_, id, listed) in known {
            if left <= count {
                break;
            }
            left -= listed;
            unused.extend(self.path(id).map(|path| (id, path)));
        }
        unused
    }

    /// Forgets the names of directories, which are not followed any more.
    pub(crate) fn forget_directories(&mut self, ids: &[NodeId]) -> Vec<Notice> {
        let mut out = Vec::new();
        for id in ids {
            if self.knows(*id) {
                self.forget_names(*id, &mut out);
            }
        }
        out
    }

    fn forget_names(&mut self, id: NodeId, out: &mut Vec<Notice>) {
        let Some(directory) = self.directory_mut(id) else { return };
        let absent = directory.take_all_absent();
        let was_listed = directory.listed();
        directory.known = None;
        let children: Vec<(Name, NodeId)> =
            directory.entries.iter().map(|(name, c)| (name.clone(), c.node)).collect();
        self.listed -= was_listed;
        out.extend(absent.into_iter().map(|name| Notice::Entry(id, name)));
        for (name, child) in children {
            if self.is_held(child) {
                out.push(Notice::Entry(id, name));
                out.push(Notice::Attributes(child));
            }
            self.reap(child);
        }
        self.reap(id);
    }

    /// The source was out of reach: what is known serves until it was listed again. Says which
    /// directories those are, the root first.
    pub(crate) fn missed(&mut self) -> Vec<NodeId> {
        let mut doubtful = Vec::new();
        for (id, node) in &mut self.nodes {
            if let Some(known) = node.directory.as_mut().and_then(|d| d.known.as_mut()) {
                known.is_doubtful = true;
                doubtful.push(*id);
            }
        }
        doubtful.sort_unstable();
        doubtful
    }

    /// Whether a directory has not been listed again since the source was out of reach.
    pub(crate) fn is_doubtful(&self, id: NodeId) -> bool {
        self.directory(id).and_then(|d| d.known).is_some_and(|known| known.is_doubtful)
    }

    /// A directory could not be listed again: it is not known any more.
    pub(crate) fn unknown(&mut self, id: NodeId) -> Vec<Notice> {
        let mut out = Vec::new();
        if self.knows(id) {
            self.unfollow_below(id, &mut out);
        }
        out
    }

    /// It is another source.
    pub(crate) fn anew(&mut self, root: Seen<Attributes>, now: Instant) -> Vec<Notice> {
        let mut out = Vec::new();
        for (id, node) in &mut self.nodes {
            if let Some(directory) = node.directory.as_mut() {
                let absent = directory.take_all_absent();
                out.extend(absent.into_iter().map(|name| Notice::Entry(*id, name)));
            }
            if node.lookups > 0 || node.handles > 0 {
                out.extend(node.names.iter().map(|(at, name)| Notice::Entry(*at, name.clone())));
                out.push(Notice::Content(*id));
            }
            node.names.clear();
            node.directory = node.directory.take().map(|_| Box::default());
            node.is_stale = *id != ROOT;
        }
        self.nodes.retain(|id, node| *id == ROOT || node.lookups > 0 || node.handles > 0);
        self.numbers.clear();
        self.recent.clear();
        self.listed = 0;
        if let Some(node) = self.nodes.get_mut(&ROOT) {
            node.attributes = root.what;
            node.attributes.kind = FileKind::Directory;
            node.stamp = root.stamp;
            node.checked = now;
        }
        self.numbers.insert(key(root.what.object), ROOT);
        out.push(Notice::Attributes(ROOT));
        out.push(Notice::Event(Event::Touched(ROOT)));
        out
    }

    /// Attributes came with a reply to a request that only reads.
    pub(crate) fn seen(&mut self, id: NodeId, seen: Seen<Attributes>, now: Instant) -> Vec<Notice> {
        let mut out = Vec::new();
        self.update(id, seen.what, seen.stamp, Origin::Look, now, &mut out);
        out
    }

    /// Attributes came with a reply to a request of ours that changed something.
    pub(crate) fn learn(
        &mut self,
        id: NodeId,
        seen: Seen<Attributes>,
        now: Instant,
    ) -> Vec<Notice> {
        let mut out = Vec::new();
        self.update(id, seen.what, seen.stamp, Origin::Own, now, &mut out);
        out
    }
}
