//! What single names were seen to mean.

use std::time::Instant;

use super::{Directory, Name, NodeId, Nodes, Notice, Origin};
use crate::source::{Answer, Entry, Seen, SourceError};

impl Nodes {
    /// A directory, which is used now.
    pub(crate) fn used_directory(&mut self, id: NodeId) -> Answer<&mut Directory> {
        self.uses += 1;
        let uses = self.uses;
        let is_stale = self.is_stale(id);
        let Some(node) = self.node_mut(id) else {
            return Err(if is_stale { SourceError::Stale } else { SourceError::NotFound });
        };
        let directory = node.directory.as_deref_mut().ok_or(SourceError::NotDirectory)?;
        directory.used = uses;
        Ok(directory)
    }

    /// The source was asked for one name.
    pub(crate) fn looked(
        &mut self,
        parent: NodeId,
        name: &Name,
        seen: Seen<Entry>,
        now: Instant,
    ) -> (Option<NodeId>, Vec<Notice>) {
        let mut out = Vec::new();
        let how = (Origin::Look, false);
        let stamp = seen.stamp;
        let set = self.set_name(parent, name, seen, how, now, &mut out);
        if let Some(node) = set {
            self.remember_child(parent, name, super::directory::Child { node, stamp }, now);
        }
        let known = || self.directory(parent)?.entries.get(name).map(|child| child.node);
        (set.or_else(known), out)
    }

    /// The source was asked for one name, and there is none.
    pub(crate) fn looked_in_vain(&mut self, parent: NodeId, name: &Name) -> Vec<Notice> {
        let mut out = Vec::new();
        self.remove_name(parent, name, false, &mut out);
        out
    }

    /// The source may have more to tell of a directory than what is known.
    pub(crate) fn needs_listing(&mut self, id: NodeId, now: Instant) -> Answer<bool> {
        let directory = self.used_directory(id)?;
        Ok(directory.believed(now) == Some(std::time::Duration::ZERO))
    }
}
