//! Attributes as the kernel is told them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{FOLLOWED_TTL, Filesystem, Owners};
use crate::nodes::{Gone, NodeId, Nodes};
use crate::source::{Answer, Attributes, FileKind, Place, Source, SourceError};

/// A node as the kernel is told of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    /// Its number.
    pub(crate) node: NodeId,
    /// Which of the objects that had the number.
    pub(crate) generation: u64,
    /// What `stat` shows.
    pub(crate) attributes: Attributes,
    /// How long the kernel may remember the attributes.
    pub(crate) attributes_ttl: Duration,
    /// How long the kernel may remember what the name means.
    pub(crate) entry_ttl: Duration,
    /// Somebody may be writing it here: what is not written yet counts as well.
    is_written: bool,
}

impl Shown {
    /// An object whose name is gone: nothing of it may be remembered.
    pub(super) fn of_gone(node: NodeId, gone: &Gone) -> Self {
        Self {
            node,
            generation: gone.generation,
            attributes: gone.attributes,
            attributes_ttl: Duration::ZERO,
            entry_ttl: Duration::ZERO,
            is_written: false,
        }
    }
}

/// How often attributes are looked at again that change meanwhile. Past it the kernel is told not to
/// remember what it gets.
const PENDING_RETRY_COUNT_MAX: usize = 8;

/// How long the kernel may remember what can be believed for that long.
pub(super) fn ttl(believed: Option<Duration>) -> Duration {
    believed.unwrap_or(FOLLOWED_TTL)
}

/// A node as it is known.
pub(super) fn shown(nodes: &Nodes, id: NodeId, now: Instant) -> Answer<Shown> {
    let Some(node) = nodes.node(id) else {
        return Err(if nodes.is_stale(id) { SourceError::Stale } else { SourceError::NotFound });
    };
    Ok(Shown {
        node: id,
        generation: node.generation,
        attributes: node.attributes,
        attributes_ttl: ttl(nodes.believed(id, now)),
        entry_ttl: Duration::ZERO,
        is_written: node.writers > 0 || node.wrote.is_some(),
    })
}

impl<S: Source> Filesystem<S> {
    /// Adds what is written but not in the source yet, and says whose it is.
    pub(super) fn finish(&self, mut shown: Shown) -> Shown {
        if shown.attributes.kind == FileKind::File && shown.is_written {
            self.add_pending(&mut shown);
        }
        let attributes = &mut shown.attributes;
        if self.policy.owners == Owners::Mine {
            (attributes.uid, attributes.gid) = self.policy.me;
        }
        shown
    }

    /// Adds what is written but not in the source yet.
    fn add_pending(&self, shown: &mut Shown) {
        for _ in 0..PENDING_RETRY_COUNT_MAX {
            let mut attributes = shown.attributes;
            let is_pending = self.contents.adjust(shown.node, &mut attributes);
            // Something may have come into the source between the two looks: then it is pending no
            // longer, and what was known before lacks it. The tree learns of it first.
            let known = self.nodes().node(shown.node).map(|node| node.attributes);
            if let Some(known) = known.filter(|known| *known != shown.attributes) {
                shown.attributes = known;
                continue;
            }
            shown.attributes = attributes;
            if is_pending {
                // Its times are the source's matter, and still to come.
                shown.attributes_ttl = Duration::ZERO;
            }
            return;
        }
        self.contents.adjust(shown.node, &mut shown.attributes);
        shown.attributes_ttl = Duration::ZERO;
    }

    /// What `stat` shows.
    pub(crate) async fn getattr(self: &Arc<Self>, id: NodeId) -> Answer<Shown> {
        let known = {
            let nodes = self.nodes();
            let shown = shown(&nodes, id, Instant::now())?;
            if shown.attributes_ttl > Duration::ZERO { Ok(shown) } else { Err(nodes.place(id)) }
        };
        match known {
            Ok(shown) => Ok(self.finish(shown)),
            Err(place) => self.getattr_from_source(id, place).await,
        }
    }

    /// What `stat` shows, after the source was asked; not of what has no place any more.
    pub(super) async fn getattr_from_source(
        &self,
        id: NodeId,
        place: Option<Place>,
    ) -> Answer<Shown> {
        let epoch = self.epoch();
        if let Some(place) = place {
            let seen = self.source.attributes(place, None).await?;
            self.still(epoch)?;
            self.saw(id, seen);
        }
        let shown = shown(&self.nodes(), id, Instant::now())?;
        Ok(self.finish(shown))
    }
}
