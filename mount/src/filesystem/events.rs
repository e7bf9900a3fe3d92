//! What watchers of the mount hear of, and what is known at once for the thread that tells them.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use super::show::{shown, ttl};
use super::{Filesystem, Shown};
use crate::nodes::{Event, Gone, Node, NodeId};
use crate::notify::{Act, Replay, Task};
use crate::source::{Attributes, FileKind, Source};

/// The number of what stands for an object that has none any more. No object has it: those of
/// another file system have the highest bit set, and others have numbers as they are on a disk.
const STAND_IN: NodeId = (1 << 63) - 1;

impl<S: Source> Filesystem<S> {
    /// What a name means, if that is known; it is counted as looked up.
    pub(crate) fn show_known(&self, parent: NodeId, name: &OsStr) -> Option<Shown> {
        let mut nodes = self.nodes();
        let now = Instant::now();
        let id = nodes.child(parent, name)?;
        let mut shown = shown(&nodes, id, now).ok()?;
        shown.entry_ttl = nodes
            .used_directory(parent)
            .map_or(Duration::ZERO, |directory| ttl(directory.believed(now)));
        nodes.looked_up(id);
        drop(nodes);
        Some(self.finish(shown))
    }

    /// A node, if it is known.
    pub(crate) fn show_node(&self, id: NodeId) -> Option<Shown> {
        let shown = shown(&self.nodes(), id, Instant::now()).ok()?;
        Some(self.finish(shown))
    }

    /// An object whose name is gone. If its number is another's by now, something else stands for
    /// it: the name is what is removed. It is counted as looked up.
    pub(crate) fn show_gone(&self, gone: &Gone) -> Shown {
        let mut nodes = self.nodes();
        let generation = nodes.node(gone.node).map(|node| node.generation);
        // What moved, or has other names, is there still: the kernel must not take it for removed.
        // Of a directory the name may be on its way still.
        let is_directory = gone.attributes.kind == FileKind::Directory;
        let is_there = is_directory || nodes.node(gone.node).is_some_and(Node::has_name);
        let node = if generation == Some(gone.generation) && !is_there {
            nodes.looked_up(gone.node);
            gone.node
        } else {
            STAND_IN
        };
        drop(nodes);
        self.finish(Shown::of_gone(node, gone))
    }

    /// What has to be done on the mount so that watchers hear of an event.
    pub(crate) fn replay_of(&self, event: &Event) -> Option<Replay> {
        let nodes = self.nodes();
        let of = |attributes: Attributes, path, act| {
            let (kind, mode, size) = (attributes.kind, attributes.mode & 0o7777, attributes.size);
            Some(Replay { path, kind, mode, size, act })
        };
        let known = |id: NodeId| nodes.node(id).map(|node| node.attributes);
        match event {
            Event::Appeared(parent, name) => {
                let id = nodes.child(*parent, name)?;
                let path = nodes.path(*parent)?.join(&**name);
                of(known(id)?, path, Act::Task(Task::Make(*parent, name.clone())))
            }
            Event::Gone(parent, name, gone) => {
                // It may be there again.
                if nodes.child(*parent, name).is_some() {
                    return None;
                }
                let path = nodes.path(*parent)?.join(&**name);
                let task = Task::Remove(*parent, name.clone(), *gone);
                of(gone.attributes, path, Act::Task(task))
            }
            Event::Modified(id) => of(known(*id)?, nodes.path(*id)?, Act::Modify),
            Event::Touched(id) => of(known(*id)?, nodes.path(*id)?, Act::Touch),
        }
    }

    /// An event has happened, or will not.
    pub(crate) fn event_is_over(&self, gone: Option<&Gone>) {
        if let Some(gone) = gone {
            // It was kept for this.
            self.nodes().forget(gone.node, 1);
        }
    }
}
