//! Opening and closing.

use super::asking;
use super::file::{FileId, Reader};
use super::state::{OpenFile, State};
use super::stream::Stream;
use super::{Contents, FileHandle, NodeId, Tree};
use crate::source::{Answer, Handle, ObjectId, OpenHow, Source, SourceError};

/// A file that is being opened in the source; closed again if nobody waits for that any more.
struct Opening<'a, S: Source> {
    source: &'a S,
    handle: Option<Handle>,
}

impl<S: Source> Drop for Opening<'_, S> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle {
            self.source.close(handle);
        }
    }
}

impl<S: Source, T: Tree> Contents<S, T> {
    /// Opens a file that is there. To read it nobody is asked: that is done when something has to
    /// be read.
    pub(crate) async fn open(&self, node: NodeId, how: OpenHow) -> Answer<FileHandle> {
        let inner = &self.inner;
        if !(how.write || how.append || how.truncate) {
            let object = inner.tree.attributes(node).map(|seen| seen.what.object);
            let fh = FileHandle(inner.number());
            let more = {
                let mut state = inner.state();
                let file = state.add_open(fh, node, object, how, None);
                state.needed(file)
            };
            if let Some(batch) = more {
                inner.fetch_more(batch);
            }
            return Ok(fh);
        }
        if how.truncate {
            // What fails now is told to whoever wrote it.
            let _ = self.settle(node).await;
        }
        let place = inner.tree.place(node).ok_or(SourceError::Stale)?;
        let handle = self.new_handle();
        let mut opening = Opening { source: &*inner.source, handle: Some(handle) };
        let seen = inner.source.open(place, handle, how).await?;
        opening.handle = None;
        let fh = FileHandle(inner.number());
        {
            let mut state = inner.state();
            if how.truncate {
                state.changed(node);
            }
            state.add_open(fh, node, Some(seen.what.object), how, Some(handle));
        }
        inner.tree.learn(node, seen);
        Ok(fh)
    }

    /// A file that was just created, and is open in the source with this handle.
    pub(crate) fn created(&self, node: NodeId, handle: Handle, how: OpenHow) -> FileHandle {
        let inner = &self.inner;
        let object = inner.tree.attributes(node).map(|seen| seen.what.object);
        let fh = FileHandle(inner.number());
        let mut state = inner.state();
        if how.truncate {
            state.changed(node);
        }
        state.add_open(fh, node, object, how, Some(handle));
        fh
    }

    /// The kernel is done with it. What was written and not flushed goes on its way; if it fails,
    /// nobody can be told any more, and it is logged.
    pub(crate) fn release(&self, fh: FileHandle) {
        let inner = &self.inner;
        let mut state = inner.state();
        if state.stale.remove(&fh) == Some(true) {
            state.lost = Some(SourceError::Stale);
        }
        let Ok((open, file)) = state.open(fh) else { return };
        open.released = true;
        let (id, is_left) = (open.file, file.writes.is_left(u64::MAX, Some(fh)));
        if is_left {
            file.writes.seal();
            let sends = state.sends(id);
            drop(state);
            inner.send_all(id, sends);
            return;
        }
        let error = open.error.take();
        let node = file.node;
        if error.is_some() {
            state.lost.clone_from(&error);
        }
        let handles = state.remove_open(fh);
        drop(state);
        if let Some(error) = error {
            inner.log_lost(node, &error);
        }
        handles.into_iter().for_each(|handle| inner.source.close(handle));
    }

    /// The last name of a node is about to be removed: files that are open get hold of it.
    pub(crate) async fn pin(&self, node: NodeId) -> Answer<()> {
        let inner = &self.inner;
        let handle = self.new_handle();
        let id = loop {
            let waiting = {
                let mut state = inner.state();
                let Some((id, file)) = state.file_of(node) else { return Ok(()) };
                match file.reader {
                    Reader::Open(_) => return Ok(()),
                    Reader::Opening(_) => file.progress.clone().notified_owned(),
                    Reader::None => {
                        let reads = |open: &OpenFile| open.file == id && open.handle.is_none();
                        if !state.opens.values().any(reads) {
                            return Ok(());
                        }
                        if let Some(file) = state.files.get_mut(&id) {
                            file.reader = Reader::Opening(handle);
                        }
                        break id;
                    }
                }
            };
            waiting.await;
        };
        let opening = asking::Opening::new(inner, id, handle);
        let place = inner.tree.place(node).ok_or(SourceError::Stale)?;
        let how = OpenHow { read: true, ..OpenHow::default() };
        inner.source.open(place, handle, how).await?;
        opening.ended(true);
        Ok(())
    }

    /// By what it is open in the source, if it is.
    pub(crate) fn handle_of(&self, fh: FileHandle) -> Option<Handle> {
        let mut state = self.inner.state();
        let (open, file) = state.open(fh).ok()?;
        match (open.handle, file.reader) {
            (Some(handle), _) | (None, Reader::Open(handle)) => Some(handle),
            (None, Reader::None | Reader::Opening(_)) => None,
        }
    }
}

impl State {
    fn add_open(
        &mut self,
        fh: FileHandle,
        node: NodeId,
        object: Option<ObjectId>,
        how: OpenHow,
        handle: Option<Handle>,
    ) -> FileId {
        let file = self.file_for(node, object);
        if let Some(known) = self.files.get_mut(&file) {
            known.opens += 1;
        }
        let (stream, wrote, error, released) = (Stream::default(), false, None, false);
        self.opens.insert(fh, OpenFile { file, how, handle, stream, wrote, error, released });
        file
    }
}
