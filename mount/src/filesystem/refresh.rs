//! What the source tells, and what may have been missed.

use std::sync::{Arc, Weak};
use std::time::Instant;

use futures_util::{StreamExt, stream};

use super::{Filesystem, lock};
use crate::nodes::{Held, Name, NodeId, Notice, ROOT};
use crate::source::{Attributes, Change, Seen, Source};
use std::sync::atomic::Ordering;

/// Directories that are listed at once when everything is looked at again.
const RELIST_AT_ONCE: usize = 16;

impl<S: Source> Filesystem<S> {
    /// Hears of changes from now on.
    pub(super) fn follow(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        self.source.subscribe(Box::new(move |changes| {
            if let Some(filesystem) = Weak::upgrade(&weak) {
                filesystem.changed(changes);
            }
        }));
    }

    fn changed(self: &Arc<Self>, changes: Vec<Change>) {
        let mut notices = Vec::new();
        for change in changes {
            match change {
                Change::Entry { directory, directory_attributes, name, entry, content, stamp } => {
                    let name = Name::from(name);
                    let attributes = entry.as_ref().map(|entry| entry.attributes);
                    let told =
                        Held { directory, directory_attributes, name, entry, content, stamp };
                    notices.extend(self.told(told, attributes));
                }
                Change::Below(path) => {
                    let (budget, (top, more)) = {
                        let mut nodes = self.nodes();
                        (nodes.listed().max(1024), nodes.below(&path))
                    };
                    notices.extend(more);
                    if let Some(top) = top {
                        self.list_unasked(top, budget);
                    }
                }
                Change::Missed => self.missed(),
                Change::Anew(root) => notices.extend(self.anew(root)),
            }
        }
        self.publish(notices);
    }

    /// Something was told of a name. If what it means is being written here, it may be the echo of
    /// that.
    fn told(&self, told: Held, attributes: Option<Attributes>) -> Vec<Notice> {
        let now = Instant::now();
        let written = attributes
            .and_then(|attributes| Some((self.nodes().written(attributes.object)?, attributes)));
        let Some((id, mut attributes)) = written else { return self.nodes().told(told, now) };
        let is_writing = self.contents.adjust(id, &mut attributes);
        let mut notices = {
            let mut nodes = self.nodes();
            nodes.set_writing(id, is_writing);
            nodes.told(told, now)
        };
        // The last of it may have come into the source before the doubt was there.
        if is_writing && !self.contents.adjust(id, &mut attributes) {
            let mut nodes = self.nodes();
            if nodes.settled(id) {
                notices.extend(nodes.doubt(id));
            }
        }
        notices
    }

    /// It is another source.
    fn anew(&self, root: Seen<Attributes>) -> Vec<Notice> {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.contents.anew();
        // Open directories are those of the source before.
        lock(&self.directories).values().for_each(|directory| directory.end());
        self.nodes().anew(root, Instant::now())
    }

    /// Changes may have been missed: all that is known is listed again, and only what is different
    /// is told.
    fn missed(self: &Arc<Self>) {
        let filesystem = Arc::clone(self);
        let (doubtful, count) = {
            let mut nodes = self.nodes();
            (nodes.missed(), nodes.listed())
        };
        self.runtime.spawn(async move {
            if doubtful.first() == Some(&ROOT) {
                filesystem.relist(ROOT, count.saturating_add(1024)).await;
            }
            stream::iter(doubtful)
                .for_each_concurrent(RELIST_AT_ONCE, |id| filesystem.relist(id, 1))
                .await;
        });
    }

    async fn relist(&self, id: NodeId, budget: usize) {
        let place = {
            let nodes = self.nodes();
            if nodes.is_doubtful(id) { nodes.place(id) } else { None }
        };
        let Some(place) = place else { return };
        self.nodes().listing_begins();
        let listed = self.list(id, place, budget).await;
        self.nodes().listing_ends();
        if let Err(error) = listed {
            tracing::debug!(%error, "a directory cannot be listed again");
            let notices = self.nodes().unknown(id);
            self.publish(notices);
        }
    }
}
