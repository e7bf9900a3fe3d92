//! Open files.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Filesystem, lock};
use crate::content::FileHandle;
use crate::nodes::{Hold, NodeId};
use crate::source::{
    Allocate, Answer, Attributes, FileKind, Handle, OpenHow, Place, Reading, Seek, Source,
    SourceError,
};

/// An open file for the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    /// Its handle.
    pub(crate) handle: FileHandle,
    /// What the kernel has cached of it is good.
    pub(crate) keeps_cache: bool,
    /// Its size means nothing: the kernel must not cache it.
    pub(crate) is_volatile: bool,
}

impl<S: Source> Filesystem<S> {
    /// Opens a file.
    pub(crate) async fn open(self: &Arc<Self>, id: NodeId, how: OpenHow) -> Answer<Opened> {
        if how.write || how.truncate || how.append {
            self.may_change()?;
        }
        let (is_volatile, unsure) = {
            let nodes = self.nodes();
            let node = nodes.node(id).ok_or(SourceError::Stale)?;
            let is_unsure = nodes.believed(id, Instant::now()) == Some(Duration::ZERO);
            let unsure = nodes.place(id).filter(|_| is_unsure);
            match node.attributes.kind {
                FileKind::Directory => return Err(SourceError::IsDirectory),
                FileKind::File => {}
                _ => return Err(SourceError::Nothing),
            }
            // Such as in /proc: nothing is known of its size until it is read.
            let is_followed = node.names.iter().any(|(parent, _)| nodes.follows(*parent));
            (node.attributes.size == 0 && !is_followed && !node.names.is_empty(), unsure)
        };
        if let Some(place) = unsure {
            // Whoever opens a file finds what was there when it was opened.
            self.getattr_from_source(id, Some(place)).await?;
        }
        // From now on nothing is put into the kernel's cache: it would undo what is written.
        let counted = Counted::new(self, id, how.write);
        self.tree.outbox().wait_for_store(how.write).await;
        // It is made empty, and that is told as well.
        let _holding = how.truncate.then(|| self.hold(vec![Hold::Node(id)]));
        let handle = self.contents.open(id, how).await?;
        counted.keep();
        lock(&self.files).entry(id).or_default().push(handle);
        let keeps_cache = !self.tree.outbox().is_waiting(id);
        Ok(Opened { handle, keeps_cache, is_volatile })
    }

    /// Reads from an open file.
    pub(crate) async fn read(&self, fh: FileHandle, offset: u64, size: u32) -> Answer<Bytes> {
        self.contents.read(fh, offset, size).await
    }

    /// Writes to an open file.
    pub(crate) async fn write(&self, fh: FileHandle, offset: u64, data: Bytes) -> Answer<u32> {
        self.contents.write(fh, offset, data).await
    }

    /// A file descriptor is closed: whatever was written is in the source afterwards.
    pub(crate) async fn flush(&self, fh: FileHandle) -> Answer<()> {
        self.contents.flush(fh).await
    }

    /// Makes durable what was written.
    pub(crate) async fn fsync(&self, fh: FileHandle, data_only: bool) -> Answer<()> {
        self.contents.sync(fh, data_only).await
    }

    /// A file is not open any more.
    pub(crate) fn release(&self, id: NodeId, fh: FileHandle, writes: bool) {
        {
            let mut files = lock(&self.files);
            if let Some(open) = files.get_mut(&id) {
                open.retain(|other| *other != fh);
                if open.is_empty() {
                    files.remove(&id);
                }
            }
        }
        self.contents.release(fh);
        self.closed(id, writes);
    }

    pub(super) fn closed(&self, id: NodeId, writes: bool) {
        let is_doubtful = self.nodes().closed(id, writes);
        if is_doubtful {
            let notices = self.nodes().doubt(id);
            self.publish(notices);
        }
    }

    /// Makes room in a file, or takes it away.
    pub(crate) async fn allocate(
        &self,
        id: NodeId,
        fh: FileHandle,
        how: Allocate,
        offset: u64,
        length: u64,
    ) -> Answer<()> {
        self.may_change()?;
        self.contents.settle(id).await?;
        let handle = self.contents.handle_of(fh).ok_or(SourceError::Stale)?;
        let epoch = self.epoch();
        let _holding = self.hold(vec![Hold::Node(id)]);
        let seen = self.source.allocate(handle, how, offset, length).await?;
        self.still(epoch)?;
        let notices = self.nodes().learn(id, seen, Instant::now());
        self.publish(notices);
        self.contents.changed(id);
        Ok(())
    }

    /// Where the next data, or hole, of a file is.
    pub(crate) async fn seek(
        &self,
        id: NodeId,
        fh: FileHandle,
        offset: u64,
        what: Seek,
    ) -> Answer<u64> {
        self.contents.settle(id).await?;
        let file = match self.contents.handle_of(fh) {
            Some(handle) => Reading::Open(handle),
            None => Reading::At(self.nodes().place(id).ok_or(SourceError::Stale)?),
        };
        self.source.seek(file, offset, what).await
    }

    /// A handle of the source for a file that has no name any more, the caller's own if there is
    /// one, and what stands for its place.
    pub(super) fn nameless(
        &self,
        id: NodeId,
        attributes: &Attributes,
        own: Option<Handle>,
    ) -> Answer<(Place, Option<Handle>)> {
        let open = lock(&self.files).get(&id).cloned().unwrap_or_default();
        let handle = own.or_else(|| open.iter().find_map(|fh| self.contents.handle_of(*fh)));
        let place = Place { path: std::path::PathBuf::new(), object: attributes.object };
        Ok((place, Some(handle.ok_or(SourceError::Stale)?)))
    }

    /// Remembers an open file.
    pub(super) fn keep_open(&self, id: NodeId, fh: FileHandle) {
        lock(&self.files).entry(id).or_default().push(fh);
    }

    /// Whether anything may be changed.
    pub(super) fn may_change(&self) -> Answer<()> {
        if self.policy.writable { Ok(()) } else { Err(SourceError::ReadOnly) }
    }
}

/// A file that counts as open, until it is clear that it is not.
struct Counted<'a, S: Source> {
    filesystem: &'a Filesystem<S>,
    id: NodeId,
    writes: bool,
    is_kept: bool,
}

impl<'a, S: Source> Counted<'a, S> {
    fn new(filesystem: &'a Filesystem<S>, id: NodeId, writes: bool) -> Self {
        filesystem.nodes().opened(id, writes);
        Self { filesystem, id, writes, is_kept: false }
    }

    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl<S: Source> Drop for Counted<'_, S> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.filesystem.closed(self.id, self.writes);
        }
    }
}
