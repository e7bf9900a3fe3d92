mod model;
mod parts;
mod reading;
mod small;
mod writing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;

use super::{ContentVersion, Contents, FileHandle, Limits, NodeId, Tree};
use crate::source::{Answer, Attributes, OpenHow, Place, Seen, SetAttributes, Source};
use crate::testing::{DirectorySource, Request};

const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;
const READ: OpenHow =
    OpenHow { read: true, write: false, append: false, truncate: false, exclusive: false };
const WRITE: OpenHow =
    OpenHow { read: true, write: true, append: false, truncate: false, exclusive: false };
const APPEND: OpenHow =
    OpenHow { read: false, write: true, append: true, truncate: false, exclusive: false };

/// What the tree knows of a node.
#[derive(Clone)]
struct Known {
    path: Option<PathBuf>,
    seen: Seen<Attributes>,
}

/// A tree without directories: it knows what it was told.
#[derive(Default)]
struct FakeTree {
    nodes: Mutex<BTreeMap<NodeId, Known>>,
    stored: Mutex<BTreeMap<NodeId, (ContentVersion, Bytes)>>,
    doubted: Mutex<Vec<NodeId>>,
}

impl FakeTree {
    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Known>> {
        self.nodes.lock().expect("a lock")
    }

    fn has_stored(&self, node: NodeId) -> bool {
        self.stored.lock().expect("a lock").contains_key(&node)
    }
}

impl Tree for FakeTree {
    fn place(&self, node: NodeId) -> Option<Place> {
        let known = self.nodes().get(&node).cloned()?;
        Some(Place { path: known.path?, object: known.seen.what.object })
    }

    fn attributes(&self, node: NodeId) -> Option<Seen<Attributes>> {
        self.nodes().get(&node).map(|known| known.seen)
    }

    fn learn(&self, node: NodeId, seen: Seen<Attributes>) {
        if let Some(known) = self.nodes().get_mut(&node)
            && known.seen.stamp <= seen.stamp
        {
            known.seen = seen;
        }
    }

    fn following(
        &self,
        node: NodeId,
        count: usize,
        bytes: u64,
    ) -> Vec<(NodeId, Place, Attributes)> {
        let mut sum = 0;
        let mut found = Vec::new();
        for (node, known) in self.nodes().range(node + 1..) {
            if found.len() >= count || sum >= bytes {
                break;
            }
            let Some(path) = known.path.clone() else { continue };
            sum += known.seen.what.size;
            let place = Place { path, object: known.seen.what.object };
            found.push((*node, place, known.seen.what));
        }
        found
    }

    fn store(&self, node: NodeId, version: ContentVersion, data: Bytes) {
        self.stored.lock().expect("a lock").insert(node, (version, data));
    }

    fn doubt(&self, node: NodeId) {
        self.doubted.lock().expect("a lock").push(node);
    }
}

/// Contents over a directory.
struct Bench {
    directory: tempfile::TempDir,
    source: DirectorySource,
    tree: Arc<FakeTree>,
    contents: Contents<DirectorySource, FakeTree>,
}

/// Bytes of which no two places look alike.
fn pattern(length: usize) -> Vec<u8> {
    let word = |at: u32| at.wrapping_mul(0x9e37_79b1).to_le_bytes();
    (0..length.div_ceil(4) as u32).flat_map(word).take(length).collect()
}

impl Bench {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let source = DirectorySource::new(directory.path()).expect("a source");
        let tree = Arc::new(FakeTree::default());
        let runtime = tokio::runtime::Handle::current();
        let contents = Contents::new(Arc::new(source.clone()), tree.clone(), limits, runtime);
        Self { directory, source, tree, contents }
    }

    fn slow(self) -> Self {
        self.source.behave(|to| to.latency = Duration::from_millis(20));
        self
    }

    fn path(&self, node: NodeId) -> PathBuf {
        let path = self.tree.nodes()[&node].path.clone().expect("a name");
        self.directory.path().join(path)
    }

    /// Makes a file and lets the tree know it.
    async fn file(&self, path: &str, content: &[u8]) -> NodeId {
        self.source.outside(&[], |root| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            put(&path, content);
        });
        let node = 2 + self.tree.nodes().len() as NodeId;
        self.see(node, path);
        node
    }

    /// Lets the tree see what is there.
    fn see(&self, node: NodeId, path: &str) {
        let seen = self.source.see(Path::new(path)).expect("a file");
        self.tree.nodes().insert(node, Known { path: Some(path.into()), seen });
    }

    /// Somebody else changes a file, and the tree hears of it.
    fn change(&self, node: NodeId, act: impl FnOnce(&Path)) {
        act(&self.path(node));
        let path = self.tree.nodes()[&node].path.clone().expect("a name");
        self.see(node, path.to_str().expect("text"));
        self.contents.changed(node);
    }

    async fn open(&self, node: NodeId, how: OpenHow) -> FileHandle {
        self.contents.open(node, how).await.expect("open")
    }

    async fn read(&self, fh: FileHandle, offset: usize, size: usize) -> Bytes {
        self.contents.read(fh, offset as u64, size as u32).await.expect("read")
    }

    async fn write(&self, fh: FileHandle, offset: usize, data: &[u8]) -> Answer<u32> {
        self.contents.write(fh, offset as u64, Bytes::copy_from_slice(data)).await
    }

    /// Truncates as the tree does.
    async fn cut(&self, node: NodeId, size: usize) {
        let _ = self.contents.settle(node).await;
        let to = SetAttributes { size: Some(size as u64), ..SetAttributes::default() };
        let place = self.tree.place(node).expect("a place");
        let seen = self.source.set_attributes(place, None, to).await.expect("cut");
        self.contents.changed(node);
        self.tree.learn(node, seen);
    }

    fn on_disk(&self, node: NodeId) -> Vec<u8> {
        std::fs::read(self.path(node)).expect("a file")
    }

    /// Waits until no request is on its way: time stands still but for the source's own.
    async fn rest(&self) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    fn count(&self, request: Request) -> u64 {
        self.source.count(request)
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own files")]
fn put(path: &Path, content: &[u8]) {
    std::fs::write(path, content).expect("a file");
}
