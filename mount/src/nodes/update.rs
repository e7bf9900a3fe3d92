//! What an object is like after its attributes were seen, and whether its content is another.

use std::time::{Duration, Instant, SystemTime};

use super::apply::is_same;
use super::{Event, Node, NodeId, Nodes, Notice, Origin, key};
use crate::source::{Attributes, FileKind, ObjectId, Stamp};

/// How long after our own write something that is told may be the echo of it.
const ECHO_FOR: Duration = Duration::from_secs(5);

/// States of a file, told while it was written here, that are kept to be compared with the replies
/// to our writes. Past it the file counts as changed by others.
const DOUBTS_COUNT_MAX: usize = 16;

impl Nodes {
    /// Attributes were seen.
    pub(crate) fn update(
        &mut self,
        id: NodeId,
        attributes: Attributes,
        stamp: Stamp,
        origin: Origin,
        now: Instant,
        out: &mut Vec<Notice>,
    ) {
        let Some(node) = self.node_mut(id) else { return };
        let before = node.attributes;
        if origin == Origin::Own && before.kind == FileKind::File {
            node.wrote = Some(now);
            node.doubts.retain(|doubt| *doubt != state(&attributes));
        }
        // Another object, or another kind of it, is no matter of attributes.
        if !is_same(before.object, attributes.object) || before.kind != attributes.kind {
            return;
        }
        // What was told with a higher stamp may still have been looked at before our own change was
        // done: the time of the last change tells.
        let is_overtaken = origin == Origin::Own && attributes.changed > before.changed;
        if node.stamp > stamp && !is_overtaken {
            self.told_late(id, &attributes, origin, now, out);
            return;
        }
        node.stamp = node.stamp.max(stamp);
        node.checked = now;
        node.is_unclear = false;
        node.attributes = attributes;
        // A birth that was not known stays known.
        if attributes.object.born_ns == 0 {
            node.attributes.object = before.object;
        }
        // One more name, which may not be known: it leads to somewhere else from there.
        if before.kind == FileKind::Symlink && before.links < attributes.links {
            self.retarget(id, out);
        }
        if origin != Origin::Own {
            self.tell_difference(id, &before, origin, now, out);
        }
    }

    /// Tells what is different now, through others.
    fn tell_difference(
        &mut self,
        id: NodeId,
        before: &Attributes,
        origin: Origin,
        now: Instant,
        out: &mut Vec<Notice>,
    ) {
        let Some(node) = self.node_mut(id) else { return };
        let after = node.attributes;
        let differs = state(before) != state(&after);
        let is_content = matches!(before.kind, FileKind::File | FileKind::Symlink)
            && (differs || is_rewritten(node, origin, before, now));
        if is_content {
            if node.is_writing && node.doubts.len() < DOUBTS_COUNT_MAX {
                if !node.doubts.contains(&state(&after)) {
                    node.doubts.push(state(&after));
                }
                // The kernel knows what we write; only the times may be others.
                out.push(Notice::Attributes(id));
                return;
            }
            if differs && before.kind == FileKind::Symlink {
                node.target = None;
            }
            out.push(Notice::Content(id));
            if self.is_watched(id) {
                // Who looks cannot tell a new mode from a new content by the time of the change.
                let is_mode = has_other_mode(before, &after);
                let is_sure = differs || origin != Origin::Look || !is_mode;
                out.extend(is_sure.then_some(Notice::Event(Event::Modified(id))));
                out.extend(is_mode.then_some(Notice::Event(Event::Touched(id))));
            }
        } else if is_visible(before, &after) && self.is_watched(id) {
            out.push(Notice::Attributes(id));
            if is_touched(before, &after) {
                out.push(Notice::Event(Event::Touched(id)));
            }
        }
    }

    /// What was told was looked at before what is known of the node. That has the same size and
    /// time, perhaps, but its content may be another all the same.
    pub(super) fn told_late(
        &self,
        id: NodeId,
        attributes: &Attributes,
        origin: Origin,
        now: Instant,
        out: &mut Vec<Notice>,
    ) {
        let Some(node) = self.node(id) else { return };
        let is_news = origin == Origin::Told { content: true }
            && node.attributes.kind == FileKind::File
            && is_same(node.attributes.object, attributes.object)
            && !node.is_ours(now);
        if is_news {
            out.push(Notice::Content(id));
            if self.is_watched(id) {
                out.push(Notice::Event(Event::Modified(id)));
            }
        }
    }

    /// The node of an object, if it may be that something that was written to it here is still on
    /// its way.
    pub(crate) fn written(&self, object: ObjectId) -> Option<NodeId> {
        let id = *self.numbers.get(&key(object))?;
        self.node(id).filter(|node| node.writers > 0 || node.wrote.is_some()).map(|_| id)
    }

    /// Says whether something that was written to a file here is still on its way: what is told of
    /// it meanwhile may be the echo of that.
    pub(crate) fn set_writing(&mut self, id: NodeId, is_writing: bool) {
        if let Some(node) = self.node_mut(id) {
            node.is_writing = is_writing;
        }
    }

    /// All that was written to a file here is in the source. Says whether something was told
    /// meanwhile that was not the echo of it.
    pub(crate) fn settled(&mut self, id: NodeId) -> bool {
        self.set_writing(id, false);
        self.node_mut(id).is_some_and(|node| !std::mem::take(&mut node.doubts).is_empty())
    }
}

impl Node {
    /// Whether what is told of it may be the echo of what we did.
    fn is_ours(&self, now: Instant) -> bool {
        self.is_writing || self.wrote.is_some_and(|at| now < at + ECHO_FOR)
    }
}

fn state(attributes: &Attributes) -> (u64, SystemTime) {
    (attributes.size, attributes.modified)
}

/// Whether the content of a file is another although size and time are the same: it is said to be, or
/// something was changed there. Our own writes are told of, too: soon after one, the same times mean
/// the same content.
fn is_rewritten(node: &Node, origin: Origin, before: &Attributes, now: Instant) -> bool {
    let is_changed = node.attributes.changed != before.changed;
    before.kind == FileKind::File
        && match origin {
            Origin::Own | Origin::Told { content: false } => false,
            Origin::Told { content: true } => is_changed || !node.is_ours(now),
            Origin::Look => is_changed && !node.is_ours(now),
        }
}

/// Whether `stat` shows a difference, apart from the time of the last read.
fn is_visible(before: &Attributes, after: &Attributes) -> bool {
    let accessed = after.accessed;
    Attributes { accessed, ..*before } != *after
}

fn has_other_mode(before: &Attributes, after: &Attributes) -> bool {
    let of = |a: &Attributes| -> (u16, u32, u32) { (a.mode, a.uid, a.gid) };
    of(before) != of(after)
}

/// Whether somebody changed the attributes themselves, which a watcher hears of.
fn is_touched(before: &Attributes, after: &Attributes) -> bool {
    let more = |a: &Attributes| -> (u32, SystemTime) { (a.links, a.changed) };
    // Those of a directory change with its names.
    let is_directory = before.kind == FileKind::Directory;
    has_other_mode(before, after) || (!is_directory && more(before) != more(after))
}
