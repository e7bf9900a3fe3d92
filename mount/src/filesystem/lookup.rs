//! What a name means.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::show::{Shown, shown, ttl};
use super::{Filesystem, symlinks};
use crate::nodes::{Name, NodeId, Nodes};
use crate::source::{Answer, FileKind, Place, Source, SourceError};

/// Bytes of the longest name.
pub(super) const NAME_BYTES_MAX: usize = 255;

/// How often a directory is listed for one request, in case that it is forgotten again at once.
pub(super) const LIST_RETRY_COUNT_MAX: usize = 3;

/// What a name means.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    /// This. The kernel counts it as looked up.
    Node(Shown),
    /// Nothing, and how long the kernel may remember that.
    Absent(Duration),
}

/// What is known of a name.
enum Known {
    Found(Found),
    /// The directory has to be listed.
    NotListed,
    /// It is not followed, and what is known is too old.
    Old(Place),
}

impl<S: Source> Filesystem<S> {
    /// What a name in a directory means.
    pub(crate) async fn lookup(self: &Arc<Self>, parent: NodeId, name: &OsStr) -> Answer<Found> {
        if name.len() > NAME_BYTES_MAX {
            return Err(SourceError::NameTooLong);
        }
        for _ in 0..LIST_RETRY_COUNT_MAX {
            let known = find(&mut self.nodes(), parent, name)?;
            match known {
                Known::Found(Found::Node(shown)) => return Ok(Found::Node(self.finish(shown))),
                Known::Found(absent) => return Ok(absent),
                Known::NotListed => self.known(parent).await?,
                Known::Old(place) => return self.look(parent, place, name).await,
            }
        }
        // It moves, or is forgotten, as soon as it was listed: the kernel looks for it once more.
        Err(SourceError::Stale)
    }

    /// Asks the source what a name means.
    async fn look(&self, parent: NodeId, place: Place, name: &OsStr) -> Answer<Found> {
        let epoch = self.epoch();
        let answer = self.source.look(place, name.to_owned()).await;
        self.still(epoch)?;
        let now = Instant::now();
        let name = Name::from(name);
        match answer {
            Ok(seen) => {
                let (found, notices) = {
                    let mut nodes = self.nodes();
                    let (node, notices) = nodes.looked(parent, &name, seen, now);
                    let found = match node {
                        Some(id) => shown(&nodes, id, now).inspect(|_| nodes.looked_up(id)),
                        None => Err(SourceError::Stale),
                    };
                    (found, notices)
                };
                self.publish(notices);
                let mut shown = self.finish(found?);
                shown.entry_ttl = shown.attributes_ttl;
                Ok(Found::Node(shown))
            }
            Err(SourceError::NotFound) => {
                let notices = self.nodes().looked_in_vain(parent, &name);
                self.publish(notices);
                Ok(Found::Absent(Duration::ZERO))
            }
            Err(error) => Err(error),
        }
    }

    /// Where a symbolic link leads to.
    pub(crate) async fn readlink(self: &Arc<Self>, id: NodeId) -> Answer<OsString> {
        let (target, place) = {
            let nodes = self.nodes();
            let node = nodes.node(id).ok_or(SourceError::Stale)?;
            if node.attributes.kind != FileKind::Symlink {
                return Err(SourceError::Invalid);
            }
            (node.target.clone(), node.names.last().cloned())
        };
        let (parent, name) = place.ok_or(SourceError::Stale)?;
        if target.is_none() {
            let place = self.nodes().place(parent).ok_or(SourceError::Stale)?;
            // It is counted as looked up, which the kernel did not ask for.
            if let Found::Node(shown) = self.look(parent, place, &name).await? {
                self.nodes().forget(shown.node, 1);
            }
        }
        let nodes = self.nodes();
        let node = nodes.node(id).ok_or(SourceError::Stale)?;
        let target = node.target.clone().ok_or(SourceError::Denied)?;
        if self.policy.raw_symlinks {
            return Ok(target.to_os_string());
        }
        let directories: Option<Vec<_>> =
            node.names.iter().map(|(parent, _)| nodes.path(*parent)).collect();
        let directories = directories.filter(|all| !all.is_empty()).ok_or(SourceError::Stale)?;
        let is_linked = node.attributes.links > 1 || directories.len() > 1;
        if is_linked && symlinks::depends_on_place(&target) {
            return Err(SourceError::NotPermitted);
        }
        symlinks::contained_in_all(&directories, &target, &self.policy.source_root)
            .ok_or(SourceError::NotPermitted)
    }

    /// The kernel forgot nodes.
    pub(crate) fn forget(&self, nodes_and_counts: impl Iterator<Item = (NodeId, u64)>) {
        let mut nodes = self.nodes();
        for (node, count) in nodes_and_counts {
            nodes.forget(node, count);
        }
    }
}

/// What is known of a name; what is found is counted as looked up.
fn find(nodes: &mut Nodes, parent: NodeId, name: &OsStr) -> Answer<Known> {
    let now = Instant::now();
    let directory = nodes.used_directory(parent)?;
    let believed = directory.believed(now);
    if directory.known.is_none() {
        let is_gone = nodes.place(parent).is_none();
        let absent = Known::Found(Found::Absent(Duration::ZERO));
        return Ok(if is_gone { absent } else { Known::NotListed });
    }
    if believed == Some(Duration::ZERO) {
        let place = nodes.place(parent).ok_or(SourceError::Stale)?;
        return Ok(Known::Old(place));
    }
    let Some(child) = directory.entries.get(name).copied() else {
        let may_remember = believed.is_none() && directory.tell_absent(&Name::from(name));
        let remembered = if may_remember { ttl(None) } else { Duration::ZERO };
        return Ok(Known::Found(Found::Absent(remembered)));
    };
    let mut shown = shown(nodes, child.node, now)?;
    shown.entry_ttl = ttl(believed);
    nodes.looked_up(child.node);
    Ok(Known::Found(Found::Node(shown)))
}
