//! Reading directories.
//!
//! An open directory has a snapshot of its names, taken when it is read from the beginning, so that
//! what is read goes on where it ended, whatever happens meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::lookup::LIST_RETRY_COUNT_MAX;
use super::show::{shown, ttl};
use super::{Filesystem, Shown, lock};
use crate::nodes::{Name, NodeId, ROOT};
use crate::source::{Answer, Source, SourceError};

/// Names that are prepared at once for a reader. More of them than fit into a reply cost time, fewer
/// cost locks.
const ROWS_AT_ONCE: usize = 64;

type Snapshot = Arc<Vec<Name>>;

/// An open directory.
pub(super) struct DirectoryHandle {
    node: NodeId,
    snapshot: Mutex<Option<Snapshot>>,
    is_stale: AtomicBool,
}

impl DirectoryHandle {
    /// It is another source.
    pub(super) fn end(&self) {
        self.is_stale.store(true, Ordering::Relaxed);
    }
}

/// One name for a reader.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Where to read on after it.
    pub(crate) offset: u64,
    /// The name.
    pub(crate) name: Name,
    /// What it means.
    pub(crate) shown: Shown,
}

impl Row {
    /// Whether the kernel counts it as looked up.
    fn is_counted(&self) -> bool {
        self.offset > 2
    }
}

impl<S: Source> Filesystem<S> {
    /// Opens a directory.
    pub(crate) async fn opendir(self: &Arc<Self>, id: NodeId) -> Answer<u64> {
        self.known(id).await?;
        self.nodes().opened(id, false);
        let handle = self.next_directory.fetch_add(1, Ordering::Relaxed);
        let directory = DirectoryHandle {
            node: id,
            snapshot: Mutex::default(),
            is_stale: AtomicBool::new(false),
        };
        lock(&self.directories).insert(handle, Arc::new(directory));
        Ok(handle)
    }

    /// Closes a directory.
    pub(crate) fn releasedir(&self, handle: u64) {
        if let Some(directory) = lock(&self.directories).remove(&handle) {
            self.nodes().closed(directory.node, false);
        }
    }

    /// Reads names from an offset on: each is given to `take`, which says whether there was room for
    /// it. What was taken counts as looked up if `plus`.
    pub(crate) async fn readdir(
        self: &Arc<Self>,
        handle: u64,
        mut offset: u64,
        plus: bool,
        mut take: impl FnMut(&Row) -> bool,
    ) -> Answer<()> {
        let directory = lock(&self.directories).get(&handle).cloned();
        let directory = directory.ok_or(SourceError::Stale)?;
        if directory.is_stale.load(Ordering::Relaxed) {
            return Err(SourceError::Stale);
        }
        let snapshot = self.snapshot(&directory, offset == 0).await?;
        loop {
            let rows = self.rows(directory.node, &snapshot, offset, plus);
            let Some(last) = rows.last() else { return Ok(()) };
            offset = last.offset;
            let taken = rows.iter().take_while(|row| take(row)).count();
            if taken < rows.len() {
                if plus {
                    let left = rows[taken..].iter().filter(|row| row.is_counted());
                    self.forget(left.map(|row| (row.shown.node, 1)));
                }
                return Ok(());
            }
        }
    }

    /// The names for a reader: all, or an error.
    async fn snapshot(
        self: &Arc<Self>,
        directory: &DirectoryHandle,
        mut anew: bool,
    ) -> Answer<Snapshot> {
        for _ in 0..LIST_RETRY_COUNT_MAX {
            if anew {
                self.known(directory.node).await?;
            }
            if let Some(snapshot) = self.snapshot_of_known(directory, anew)? {
                return Ok(snapshot);
            }
            anew = true;
        }
        // It moves, or is forgotten, as soon as it was listed.
        Err(SourceError::Stale)
    }

    /// Nothing: the names are not all known.
    pub(super) fn snapshot_of_known(
        &self,
        directory: &DirectoryHandle,
        anew: bool,
    ) -> Answer<Option<Snapshot>> {
        let mut snapshot = lock(&directory.snapshot);
        if let Some(snapshot) = snapshot.as_ref().filter(|_| !anew) {
            return Ok(Some(Arc::clone(snapshot)));
        }
        let mut nodes = self.nodes();
        // One that is gone has no names, and gets none.
        let is_gone = nodes.place(directory.node).is_none();
        let known = nodes.used_directory(directory.node)?;
        if known.known.is_none() && !is_gone {
            return Ok(None);
        }
        let names = known.entries.keys().cloned().collect();
        Ok(Some(Arc::clone(snapshot.insert(Arc::new(names)))))
    }

    /// The next names. 1 and 2 are the offsets after `.` and `..`.
    fn rows(&self, id: NodeId, snapshot: &Snapshot, offset: u64, plus: bool) -> Vec<Row> {
        let now = Instant::now();
        let mut rows = Vec::with_capacity(ROWS_AT_ONCE);
        let mut nodes = self.nodes();
        let dots = [(1, ".", Some(id)), (2, "..", nodes.node(id).map(|n| parent_of(&n.names)))];
        for (at, name, node) in dots {
            if at > offset
                && let Some(Ok(shown)) = node.map(|node| shown(&nodes, node, now))
            {
                let name = Name::from(std::ffi::OsStr::new(name));
                rows.push(Row { offset: at, name, shown });
            }
        }
        let entry_ttl = match nodes.used_directory(id) {
            Ok(directory) => ttl(directory.believed(now)),
            Err(_) => Duration::ZERO,
        };
        let first = usize::try_from(offset.saturating_sub(2)).unwrap_or(usize::MAX);
        for (index, name) in snapshot.iter().enumerate().skip(first) {
            // A name that is gone by now has no row.
            let Some(child) = nodes.child(id, name) else { continue };
            let Ok(mut shown) = shown(&nodes, child, now) else { continue };
            shown.entry_ttl = entry_ttl;
            if plus {
                nodes.looked_up(child);
            }
            rows.push(Row { offset: index as u64 + 3, name: name.clone(), shown });
            if rows.len() >= ROWS_AT_ONCE {
                break;
            }
        }
        drop(nodes);
        for row in &mut rows {
            row.shown = self.finish(row.shown);
        }
        rows
    }
}

fn parent_of(names: &[(NodeId, Name)]) -> NodeId {
    names.last().map_or(ROOT, |(parent, _)| *parent)
}
