//! The tree as the content cache sees it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;

use super::lock;
use crate::content::{self, ContentVersion};
use crate::nodes::{NodeId, Nodes, Notice};
use crate::notify::Outbox;
use crate::source::{Attributes, Place, Seen};

/// What is known of the tree, shared between the filesystem and the content cache.
pub(crate) struct Tree {
    /// Requests come from several threads of the kernel's library and from tasks; each holds it for
    /// a few look-ups.
    nodes: Mutex<Nodes>,
    outbox: Arc<Outbox>,
}

impl Tree {
    pub(crate) fn new(nodes: Nodes, outbox: Arc<Outbox>) -> Self {
        Self { nodes: Mutex::new(nodes), outbox }
    }

    pub(crate) fn nodes(&self) -> MutexGuard<'_, Nodes> {
        lock(&self.nodes)
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }
}

impl content::Tree for Tree {
    fn place(&self, node: NodeId) -> Option<Place> {
        self.nodes().place(node)
    }

    fn attributes(&self, node: NodeId) -> Option<Seen<Attributes>> {
        let nodes = self.nodes();
        let node = nodes.node(node)?;
        Some(Seen { stamp: node.stamp, what: node.attributes })
    }

    fn learn(&self, node: NodeId, seen: Seen<Attributes>) {
        let notices = self.nodes().learn(node, seen, Instant::now());
        if !notices.is_empty() {
            self.outbox.send(notices);
        }
    }

    fn following(
        &self,
        node: NodeId,
        count: usize,
        bytes: u64,
    ) -> Vec<(NodeId, Place, Attributes)> {
        self.nodes().following(node, count, bytes)
    }

    fn store(&self, node: NodeId, version: ContentVersion, data: Bytes) {
        self.outbox.store(node, version, data);
    }

    fn settled(&self, node: NodeId) -> bool {
        self.nodes().settled(node)
    }

    fn doubt(&self, node: NodeId) {
        self.outbox.send(vec![Notice::Content(node)]);
    }
}
