//! Everything that is known of contents, under one lock: look-ups, and what a change ends.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use tokio::time::Instant;

use super::cache::Cache;
use super::file::{File, FileId, Reader};
use super::front::{Amount, Batch, Fronts};
use super::stream::{Stream, WINDOW_BYTES_MIN};
use super::{ContentVersion, FileHandle, Limits, NodeId};
use crate::source::{Answer, Attributes, Handle, ObjectId, OpenHow, SourceError};

/// Nodes of which it is remembered that the kernel has their content. Past it all are forgotten,
/// which costs fetching them again at most.
const KEPT_COUNT_MAX: usize = 256 * 1024;

/// A file that the kernel has open.
pub(super) struct OpenFile {
    /// Its content.
    pub(super) file: FileId,
    /// How it was opened.
    pub(super) how: OpenHow,
    /// Open in the source for it alone: it may be written.
    pub(super) handle: Option<Handle>,
    /// Who reads it.
    pub(super) stream: Stream,
    /// It was written to.
    pub(super) wrote: bool,
    /// What became of that, if nobody was told yet.
    pub(super) error: Option<SourceError>,
    /// The kernel is done with it; what it wrote is not all in the source yet.
    pub(super) released: bool,
}

pub(super) struct State {
    limits: Limits,
    pub(super) opens: HashMap<FileHandle, OpenFile>,
    pub(super) files: HashMap<FileId, File>,
    pub(super) current: HashMap<NodeId, FileId>,
    pub(super) cache: Cache,
    pub(super) fronts: Fronts,
    /// Small files that the kernel was given: they are not fetched again for nothing.
    pub(super) kept: HashSet<NodeId>,
    /// Bytes that were written and are not in the source.
    pub(super) dirty: u64,
    /// Bytes that are on their way before they are needed.
    pub(super) ahead: u64,
    /// Bytes of all windows that are larger than the smallest.
    pub(super) windows: u64,
    /// Files of another source that are still open; true: something that was written is lost, and
    /// nobody was told.
    pub(super) stale: HashMap<FileHandle, bool>,
    /// Something that was written is lost, and nobody was told: whoever wrote it had closed it.
    pub(super) lost: Option<SourceError>,
    reading: HashMap<NodeId, usize>,
    number: u64,
}

impl State {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            opens: HashMap::new(),
            files: HashMap::new(),
            current: HashMap::new(),
            cache: Cache::new(limits.cache_bytes),
            fronts: Fronts::new(Amount { files: limits.batch_files, bytes: limits.batch_bytes }),
            kept: HashSet::new(),
            dirty: 0,
            ahead: 0,
            windows: 0,
            stale: HashMap::new(),
            lost: None,
            reading: HashMap::new(),
            number: 0,
        }
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    pub(super) fn open_files(&self) -> usize {
        self.stale.len() + self.opens.values().filter(|open| !open.released).count()
    }

    /// A file that is open and what is known of it.
    pub(super) fn open(&mut self, fh: FileHandle) -> Answer<(&mut OpenFile, &mut File)> {
        let open = self.opens.get_mut(&fh).filter(|open| !open.released);
        let open = open.ok_or(SourceError::Stale)?;
        let file = self.files.get_mut(&open.file).ok_or(SourceError::Stale)?;
        Ok((open, file))
    }

    pub(super) fn file_of(&mut self, node: NodeId) -> Option<(FileId, &mut File)> {
        let id = *self.current.get(&node)?;
        Some((id, self.files.get_mut(&id)?))
    }

    /// What is known of the content of a node that is this object; begins to know it.
    pub(super) fn file_for(&mut self, node: NodeId, object: Option<ObjectId>) -> FileId {
        if let Some((id, file)) = self.file_of(node) {
            if object.is_none_or(|object| file.is_of(object)) {
                file.object = object.or(file.object);
                return id;
            }
            // The number means another object by now. The old one lives on for those that have it
            // open.
            self.drop_cached(id);
            self.current.remove(&node);
            self.tidy(id);
        }
        let id = FileId(self.next_number());
        let version = self.next_number();
        self.files.insert(id, File::new(node, object, version));
        self.current.insert(node, id);
        id
    }

    /// Forgets a file of which nothing is open, cached or on its way; says what to close for that.
    pub(super) fn tidy(&mut self, id: FileId) -> Option<Handle> {
        let file = self.files.get_mut(&id)?;
        if file.opens > 0 {
            return None;
        }
        let reader = match file.reader {
            Reader::Open(handle) => {
                file.reader = Reader::None;
                Some(handle)
            }
            Reader::None | Reader::Opening(_) => None,
        };
        let is_opening = file.reader != Reader::None;
        if is_opening || !file.coming.is_empty() || !file.writes.is_empty() || self.cache.has(id) {
            return reader;
        }
        let node = file.node;
        if let Some(mark) = file.mark.take() {
            self.fronts.lost(mark);
        }
        self.files.remove(&id);
        if self.current.get(&node) == Some(&id) {
            self.current.remove(&node);
        }
        reader
    }

    /// A file is opened: if it was fetched before, that was good for something, and perhaps more is
    /// to be fetched.
    pub(super) fn needed(&mut self, id: FileId) -> Option<Batch> {
        let mark = self.files.get_mut(&id)?.mark.take()?;
        self.fronts.used(mark, Instant::now())
    }

    /// Keeps a range of a file, and forgets what has to go for it.
    pub(super) fn keep(&mut self, id: FileId, start: u64, data: bytes::Bytes) {
        for gone in self.cache.insert(id, start, data) {
            if gone != id {
                // It has no reader then that would have to be closed.
                let _ = self.tidy(gone);
            }
        }
    }

    fn drop_cached(&mut self, id: FileId) {
        let version = self.next_number();
        self.cache.forget(id);
        let Some(file) = self.files.get_mut(&id) else { return };
        file.version = version;
        file.ended = None;
        file.coming.clear();
        self.kept.remove(&file.node);
        if let Some(mark) = file.mark.take() {
            self.fronts.lost(mark);
        }
    }

    pub(super) fn changed(&mut self, node: NodeId) {
        self.kept.remove(&node);
        if let Some(id) = self.current.get(&node).copied() {
            self.drop_cached(id);
            // Of a file that is closed there is nothing left, and so nothing to close.
            let _ = self.tidy(id);
        }
    }

    /// A range of a file is written now: what is known of it counts no more.
    pub(super) fn overwrite(&mut self, id: FileId, from: u64, until: u64) {
        let version = self.next_number();
        self.cache.remove(id, from, until);
        if let Some(file) = self.files.get_mut(&id) {
            file.spoil(from, until);
            file.version = version;
            file.ended = None;
        }
    }

    pub(super) fn anew(&mut self) {
        for (fh, open) in std::mem::take(&mut self.opens) {
            self.windows -= window_of(&open.stream);
            let writes = self.files.get(&open.file).map(|file| &file.writes);
            let is_left = writes.is_some_and(|writes| writes.is_left(u64::MAX, Some(fh)));
            if !open.released {
                self.stale.insert(fh, is_left || open.error.is_some());
            } else if is_left {
                self.lost = Some(SourceError::Stale);
            }
        }
        let ids: Vec<FileId> = self.files.keys().copied().collect();
        for id in ids {
            self.drop_cached(id);
            if let Some(file) = self.files.get_mut(&id) {
                let gone = file.writes.abandon() as u64;
                if gone > 0 {
                    // Where it was cannot be asked here: the tree may have called.
                    let node = file.node;
                    tracing::warn!(node, bytes = gone, "it is another source: writes are lost");
                }
                self.dirty -= gone;
                file.opens = 0;
                file.reader = Reader::None;
                file.progress.notify_waiters();
            }
            self.tidy(id);
        }
        self.current.clear();
        self.kept.clear();
    }

    pub(super) fn version(&self, node: NodeId) -> ContentVersion {
        let file = self.current.get(&node).and_then(|id| self.files.get(id));
        ContentVersion(file.map_or(0, |file| file.version))
    }

    pub(super) fn is_reading(&self, node: NodeId) -> bool {
        self.reading.contains_key(&node)
    }

    pub(super) fn begin_reading(&mut self, node: NodeId) {
        *self.reading.entry(node).or_default() += 1;
    }

    pub(super) fn end_reading(&mut self, node: NodeId) {
        if let Some(count) = self.reading.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                self.reading.remove(&node);
            }
        }
    }

    /// Remembers that the kernel has the content of a small file.
    pub(super) fn kernel_has(&mut self, node: NodeId) {
        if self.kept.len() >= KEPT_COUNT_MAX {
            self.kept.clear();
        }
        self.kept.insert(node);
    }

    pub(super) fn adjust(&mut self, node: NodeId, attributes: &mut Attributes) -> bool {
        let Some((_, file)) = self.file_of(node) else { return false };
        let Some(end) = file.writes.end() else { return false };
        attributes.size = attributes.size.max(end);
        if let Some(written) = file.written {
            let time = SystemTime::now() - written.elapsed();
            attributes.modified = attributes.modified.max(time);
            attributes.changed = attributes.changed.max(time);
        }
        true
    }

    /// Takes a read of an open file into account, and how large its window may become.
    pub(super) fn stream(&mut self, fh: FileHandle, offset: u64, size: u64) {
        let (window_max, all) = (self.limits.window_bytes, self.limits.cache_bytes / 2);
        let Some(open) = self.opens.get_mut(&fh) else { return };
        let others = self.windows - window_of(&open.stream);
        let room = all.saturating_sub(others).clamp(WINDOW_BYTES_MIN, window_max);
        open.stream.read(offset, size, room);
        self.windows = others + window_of(&open.stream);
    }

    /// The kernel is done with it for good; says what to close in the source.
    pub(super) fn remove_open(&mut self, fh: FileHandle) -> Vec<Handle> {
        let Some(open) = self.opens.remove(&fh) else { return Vec::new() };
        self.windows -= window_of(&open.stream);
        if let Some(file) = self.files.get_mut(&open.file) {
            file.opens -= 1;
        }
        open.handle.into_iter().chain(self.tidy(open.file)).collect()
    }
}

fn window_of(stream: &Stream) -> u64 {
    stream.window().saturating_sub(WINDOW_BYTES_MIN)
}
