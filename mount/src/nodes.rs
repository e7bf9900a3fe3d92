//! What is known of the tree: objects, their names, and which directories are known whole.
//!
//! Pure: no I/O, no clock, no log. Whoever calls says what time it is and carries out the
//! [`Notice`]s that come of it.
//!
//! A *node* is an object of the source, whatever its names, under the number that the kernel knows
//! it by. A directory's names are all known, or only those of nodes that the kernel holds.
//!
//! What invariants hold here:
//! - A name's meaning, and an object's attributes, change only by what was looked at later (a higher
//!   [`Stamp`]).
//! - A directory has one name, and is not below itself: every way up ends at the root.
//! - A node stays as long as the kernel holds it, something is open, or a known directory has it.

mod apply;
mod directory;
mod following;
mod hold;
mod identity;
mod look;
mod own;
mod recent;
mod reset;
#[cfg(test)]
mod tests;
mod update;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::hash::BuildHasherDefault;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub(crate) use directory::Directory;
pub(crate) use hold::{Held, Hold};
pub(crate) use own::Gone;

use crate::source::{Attributes, FileKind, ObjectId, Place, Seen, Stamp};
use hold::Holds;
use identity::NumberHasher;
use recent::Recent;

/// The number of an object for the kernel, and what `stat` shows as its inode.
pub(crate) type NodeId = u64;

/// One name in a directory; shared between the tables that have it.
pub(crate) type Name = Arc<OsStr>;

/// The root directory's number: the kernel wants it so.
pub(crate) const ROOT: NodeId = 1;

/// Names on the way up from one object. More than a path can have (4,096 bytes): past it the tree
/// that a source told of makes no sense, and the object has no place.
const DEPTH_MAX: usize = 4096;

/// How long what was seen is believed where nobody tells of changes.
pub(crate) const UNFOLLOWED_FOR: Duration = Duration::from_secs(1);

/// How long the attributes of a file are believed that has names which are not known: it may be
/// changed through one of those, and nobody would tell. Such files are mostly in a store that
/// nobody writes to (as pnpm has it), and asking each second would cost a round trip per file.
pub(crate) const LINKED_FOR: Duration = Duration::from_secs(60);

/// What the kernel, or the content cache, has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The name means something else by now.
    Entry(NodeId, Name),
    /// The attributes are different.
    Attributes(NodeId),
    /// The content is different (of a symbolic link: its target), and with it the attributes.
    Content(NodeId),
    /// Whoever watches this should hear of it.
    Event(Event),
}

/// What somebody who watches files and directories should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// There is a new name.
    Appeared(NodeId, Name),
    /// There was this name. The node is kept until somebody says that the event is over: the kernel
    /// has to be shown it once more.
    Gone(NodeId, Name, Gone),
    /// The content is different.
    Modified(NodeId),
    /// The attributes are different.
    Touched(NodeId),
}

/// How something came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A reply to a request that only reads.
    Look,
    /// The reply to our own change: the kernel knows.
    Own,
    /// The source told of it; the content may be another, whatever the times say.
    Told {
        /// Whether it may.
        content: bool,
    },
}

/// One object.
#[derive(Debug)]
pub(crate) struct Node {
    /// Counts the objects that had this number.
    pub(crate) generation: u64,
    /// As last seen.
    pub(crate) attributes: Attributes,
    /// When that was, in the source's count.
    pub(crate) stamp: Stamp,
    /// When that was.
    pub(crate) checked: Instant,
    /// Of a symbolic link, once known.
    pub(crate) target: Option<Name>,
    /// Directories that have it, and under which names. One, but for hard links.
    pub(crate) names: Vec<(NodeId, Name)>,
    /// How often the kernel was told of it, less how often it forgot.
    pub(crate) lookups: u64,
    /// Open files and directories.
    pub(crate) handles: u32,
    /// Of these, files that may be written.
    pub(crate) writers: u32,
    /// The source became another one: it means nothing any more.
    pub(crate) is_stale: bool,
    /// We removed it for good: what has its number from now on is another object, even if it was made
    /// in the same tick of the source's clock.
    pub(crate) is_removed: bool,
    /// It changed, or may have, and nobody said what it is like now: it has to be looked at.
    pub(crate) is_unclear: bool,
    /// Something that was written here may be on its way still.
    pub(crate) is_writing: bool,
    /// What was told of a file meanwhile: (size, modified) that may be the echo of our own writes,
    /// whose replies are still to come.
    pub(crate) doubts: Vec<(u64, SystemTime)>,
    /// Our own last write, in the source's count and ours.
    pub(crate) wrote: Option<Instant>,
    /// Of a directory.
    pub(crate) directory: Option<Box<Directory>>,
}

/// All that is known.
#[derive(Debug)]
pub(crate) struct Nodes {
    nodes: HashMap<NodeId, Node, BuildHasherDefault<NumberHasher>>,
    /// Which node an object is, by device and inode.
    numbers: HashMap<(u64, u64), NodeId>,
    /// What happened to names lately.
    recent: Recent,
    /// Our own changes that are under way.
    holds: Holds,
    /// Names in known directories.
    listed: usize,
    /// Counts uses of directories, so that the one that was not used for longest can be told.
    uses: u64,
    /// Listings that are on the way.
    listings: usize,
}

impl Nodes {
    /// Nothing but the root.
    pub(crate) fn new(root: Seen<Attributes>, now: Instant) -> Self {
        let mut nodes = Self {
            nodes: HashMap::default(),
            numbers: HashMap::new(),
            recent: Recent::default(),
            holds: Holds::default(),
            listed: 0,
            uses: 0,
            listings: 0,
        };
        let mut node = Node::new(root.what, root.stamp, now);
        // The kernel never forgets the root.
        node.lookups = 1;
        node.attributes.kind = FileKind::Directory;
        node.directory.get_or_insert_default();
        nodes.numbers.insert(key(root.what.object), ROOT);
        nodes.nodes.insert(ROOT, node);
        nodes
    }

    /// The node, if it means anything.
    pub(crate) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id).filter(|node| !node.is_stale)
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(&id).filter(|node| !node.is_stale)
    }

    /// Whether there was a node that means nothing any more.
    pub(crate) fn is_stale(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.is_stale)
    }

    fn directory(&self, id: NodeId) -> Option<&Directory> {
        self.node(id)?.directory.as_deref()
    }

    fn directory_mut(&mut self, id: NodeId) -> Option<&mut Directory> {
        self.node_mut(id)?.directory.as_deref_mut()
    }

    /// Nodes in all.
    pub(crate) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Names in known directories.
    pub(crate) fn listed(&self) -> usize {
        self.listed
    }

    /// Where a node is. Nothing: it has no name (any more).
    pub(crate) fn place(&self, id: NodeId) -> Option<Place> {
        let object = self.node(id)?.attributes.object;
        Some(Place { path: self.path(id)?, object })
    }

    /// Below the root.
    pub(crate) fn path(&self, id: NodeId) -> Option<PathBuf> {
        if id == ROOT {
            return Some(PathBuf::new());
        }
        let mut names: Vec<&OsStr> = Vec::new();
        let mut at = id;
        while at != ROOT {
            let (parent, name) = self.node(at)?.names.last()?;
            names.push(name);
            at = *parent;
            if names.len() > DEPTH_MAX {
                return None;
            }
        }
        let bytes = names.iter().map(|name| name.len() + 1).sum();
        let mut path = OsString::with_capacity(bytes);
        for name in names.iter().rev() {
            if !path.is_empty() {
                path.push("/");
            }
            path.push(name);
        }
        Some(path.into())
    }

    /// What is at a path, as far as that is known.
    pub(crate) fn resolve(&self, path: &Path) -> Option<NodeId> {
        path.components().try_fold(ROOT, |at, part| match part {
            Component::Normal(name) => self.directory(at)?.entries.get(name).map(|c| c.node),
            _ => None,
        })
    }

    /// The kernel got to know a node once more.
    pub(crate) fn looked_up(&mut self, id: NodeId) {
        if id != ROOT
            && let Some(node) = self.nodes.get_mut(&id)
        {
            node.lookups += 1;
        }
    }

    /// The kernel forgot a node, as often as it says.
    pub(crate) fn forget(&mut self, id: NodeId, count: u64) {
        if id != ROOT
            && let Some(node) = self.nodes.get_mut(&id)
        {
            node.lookups = node.lookups.saturating_sub(count);
            self.reap(id);
        }
    }

    /// A file or directory is open once more.
    pub(crate) fn opened(&mut self, id: NodeId, writes: bool) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.handles += 1;
            node.writers += u32::from(writes);
        }
    }

    /// An open file or directory was closed. Says whether its content has to be doubted: while it
    /// was written here, others may have written it too.
    pub(crate) fn closed(&mut self, id: NodeId, writes: bool) -> bool {
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        node.handles = node.handles.saturating_sub(1);
        node.writers = node.writers.saturating_sub(u32::from(writes));
        let doubtful = writes && node.writers == 0 && !node.doubts.is_empty();
        if doubtful {
            node.doubts = Vec::new();
        }
        let is_read = node.handles > 0;
        if !is_read && !self.knows(id) {
            let children = self.directory(id).into_iter().flat_map(|d| d.entries.values());
            let children: Vec<NodeId> = children.map(|child| child.node).collect();
            children.into_iter().for_each(|child| self.reap(child));
        }
        self.reap(id);
        doubtful
    }

    /// Drops a node that nobody needs, and what only it needed.
    fn reap(&mut self, id: NodeId) {
        let mut waiting = vec![id];
        while let Some(id) = waiting.pop() {
            let Some(node) = self.nodes.get(&id) else { continue };
            let is_needed = id == ROOT
                || node.lookups > 0
                || node.handles > 0
                || node
                    .directory
                    .as_ref()
                    .is_some_and(|d| !d.entries.is_empty() && node.has_name())
                || node.names.iter().any(|(parent, _)| self.keeps_names(*parent));
            if is_needed {
                continue;
            }
            let Some(node) = self.nodes.remove(&id) else { continue };
            let number = key(node.attributes.object);
            if self.numbers.get(&number) == Some(&id) {
                self.numbers.remove(&number);
            }
            for (parent, name) in node.names {
                if let Some(directory) = self.directory_mut(parent) {
                    directory.entries.remove(&name);
                    waiting.push(parent);
                }
            }
            if let Some(directory) = node.directory {
                self.listed -= directory.listed();
                for (name, child) in directory.entries {
                    if let Some(node) = self.nodes.get_mut(&child.node) {
                        node.names.retain(|(parent, at)| *parent != id || *at != name);
                        waiting.push(child.node);
                    }
                }
            }
        }
    }

    /// Whether the names of a directory have to stay: it is known, or somebody is reading it.
    fn keeps_names(&self, id: NodeId) -> bool {
        self.knows(id) || self.node(id).is_some_and(|node| node.handles > 0)
    }

    /// What a name means, as far as that is known.
    pub(crate) fn child(&self, id: NodeId, name: &OsStr) -> Option<NodeId> {
        self.directory(id)?.entries.get(name).map(|child| child.node)
    }

    /// Whether all names of a directory are known.
    pub(crate) fn knows(&self, id: NodeId) -> bool {
        self.directory(id).is_some_and(|directory| directory.known.is_some())
    }

    /// Whether all names of a directory are known and changes in it are told.
    pub(crate) fn follows(&self, id: NodeId) -> bool {
        self.directory(id).and_then(|d| d.known.as_ref()).is_some_and(|known| known.followed)
    }

    /// How long the attributes of a node can be believed from now on; nothing: for as long as nobody
    /// tells of a change.
    pub(crate) fn believed(&self, id: NodeId, now: Instant) -> Option<Duration> {
        let Some(node) = self.node(id) else { return Some(Duration::ZERO) };
        if node.is_unclear && (node.has_name() || id == ROOT) {
            return Some(Duration::ZERO);
        }
        let is_told = |limit: Duration| Some((node.checked + limit).saturating_duration_since(now));
        if node.directory.is_some() {
            // Its own times and links change with its names: only whoever follows those hears of it.
            return if self.follows(id) { None } else { is_told(UNFOLLOWED_FOR) };
        }
        let followed = node.names.iter().filter(|(parent, _)| self.follows(*parent)).count();
        match followed {
            // Open, and without a name: nobody but us can change it.
            0 if node.names.is_empty() => None,
            0 => is_told(UNFOLLOWED_FOR),
            _ if node.attributes.links as usize > node.names.len() => is_told(LINKED_FOR),
            _ => None,
        }
    }

    /// Whether somebody may watch a node: itself, or a directory that it is in.
    fn is_watched(&self, id: NodeId) -> bool {
        let parents = || self.node(id).into_iter().flat_map(|node| &node.names);
        self.is_held(id) || parents().any(|(parent, _)| self.is_held(*parent))
    }

    /// A node has one more name.
    fn name_node(
        &mut self,
        parent: NodeId,
        name: &Name,
        child: directory::Child,
        out: &mut Vec<Notice>,
    ) {
        let Some(node) = self.nodes.get_mut(&child.node) else { return };
        node.names.reserve_exact(1);
        node.names.push((parent, name.clone()));
        if let Some(directory) = node.directory.as_deref_mut() {
            directory.named = child.stamp;
        }
        self.retarget(child.node, out);
    }

    /// A node is at another place, or at one more: what a symbolic link may lead to depends on where
    /// it is, so the kernel must not go by what it has of those at or below it.
    ///
    /// The link itself is another one for whoever finds it from now on: the kernel may be told of the
    /// new name before it hears that its target is not good any more.
    fn retarget(&mut self, top: NodeId, out: &mut Vec<Notice>) {
        let mut waiting = vec![top];
        while let Some(id) = waiting.pop() {
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            if node.attributes.kind == FileKind::Symlink && node.lookups > 0 {
                node.generation += u64::from(id == top);
                out.push(Notice::Content(id));
            }
            let below = node.directory.iter().flat_map(|directory| directory.entries.values());
            waiting.extend(below.map(|child| child.node));
        }
    }

    /// Whether somebody may watch a directory, or have its names cached.
    fn is_held(&self, id: NodeId) -> bool {
        self.node(id).is_some_and(|node| node.lookups > 0)
    }
}

impl Node {
    fn new(attributes: Attributes, stamp: Stamp, now: Instant) -> Self {
        let is_directory = attributes.kind == FileKind::Directory;
        Self {
            generation: 0,
            attributes,
            stamp,
            checked: now,
            target: None,
            names: Vec::new(),
            lookups: 0,
            handles: 0,
            writers: 0,
            is_stale: false,
            is_removed: false,
            is_unclear: false,
            is_writing: false,
            doubts: Vec::new(),
            wrote: None,
            directory: is_directory.then(Box::default),
        }
    }

    pub(crate) fn has_name(&self) -> bool {
        !self.names.is_empty()
    }
}

/// What tells objects apart, but for numbers that are used again.
fn key(object: ObjectId) -> (u64, u64) {
    (object.device, object.inode)
}
