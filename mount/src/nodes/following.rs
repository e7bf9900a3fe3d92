//! What a recursive reader comes to next: in each directory name by name, into directories at once.

use std::ops::Bound;

use super::{Name, NodeId, Nodes, ROOT};
use crate::content::SMALL_BYTES_MAX;
use crate::source::{Attributes, FileKind, Place};

/// Names that are looked at in one search, as a multiple of what is searched for: where nearly
/// nothing fits, looking on would hold up everybody else.
const LOOK_FACTOR: usize = 8;

impl Nodes {
    /// Small regular files after `node`, in the order in which a recursive reader comes to them, as
    /// far as directories are known: at most `count`, and until they have `bytes` in all.
    pub(crate) fn following(
        &self,
        node: NodeId,
        count: usize,
        bytes: u64,
    ) -> Vec<(NodeId, Place, Attributes)> {
        let mut found = Vec::new();
        let mut sum = 0u64;
        let mut steps = count.saturating_mul(LOOK_FACTOR).saturating_add(1024);
        self.walk_after(node, |id| {
            steps = steps.saturating_sub(1);
            if steps == 0 || found.len() >= count || sum >= bytes {
                return false;
            }
            let Some(node) = self.node(id) else { return true };
            let is_small = (1..=SMALL_BYTES_MAX).contains(&node.attributes.size);
            if node.attributes.kind == FileKind::File
                && is_small
                && let Some(place) = self.place(id)
            {
                sum = sum.saturating_add(node.attributes.size);
                found.push((id, place, node.attributes));
            }
            true
        });
        found
    }

    /// Directories that are not known, after `node` in the same order, at most `count`.
    pub(crate) fn unknown_after(&self, node: NodeId, count: usize) -> Vec<NodeId> {
        let device = self.node(node).map(|node| node.attributes.object.device);
        let mut found = Vec::new();
        let mut steps = count.saturating_mul(LOOK_FACTOR).saturating_add(1024);
        self.walk_after(node, |id| {
            steps = steps.saturating_sub(1);
            let is_near = self.node(id).map(|node| node.attributes.object.device) == device;
            if is_near && self.directory(id).is_some_and(|directory| directory.known.is_none()) {
                found.push(id);
            }
            steps > 0 && found.len() < count
        });
        found
    }

    /// Calls `visit` with each node after this one, until it says no.
    fn walk_after(&self, node: NodeId, mut visit: impl FnMut(NodeId) -> bool) {
        let Some((mut directory, name)) = self.node(node).and_then(|n| n.names.last().cloned())
        else {
            return;
        };
        let mut after: Option<Name> = Some(name);
        // Names that are left by on the way down, to come back to.
        let mut below: Vec<(NodeId, Option<Name>)> = Vec::new();
        loop {
            match self.next_in(directory, after.as_ref()) {
                Some((name, id)) => {
                    if !visit(id) {
                        return;
                    }
                    let is_known = self.knows(id);
                    if is_known && below.len() < super::DEPTH_MAX {
                        below.push((directory, Some(name)));
                        (directory, after) = (id, None);
                    } else {
                        after = Some(name);
                    }
                }
                None => match below.pop() {
                    Some(back) => (directory, after) = back,
                    None if directory == ROOT => return,
                    None => match self.node(directory).and_then(|n| n.names.last().cloned()) {
                        Some((parent, name)) => (directory, after) = (parent, Some(name)),
                        None => return,
                    },
                },
            }
        }
    }

    fn next_in(&self, directory: NodeId, after: Option<&Name>) -> Option<(Name, NodeId)> {
        let entries = &self.directory(directory).filter(|d| d.known.is_some())?.entries;
        let (name, child) = match after {
            Some(after) => entries
                .range::<std::ffi::OsStr, _>((Bound::Excluded(&**after), Bound::Unbounded))
                .next(),
            None => entries.iter().next(),
        }?;
        Some((name.clone(), child.node))
    }
}
