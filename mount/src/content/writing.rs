//! Writes on their way: taken, sent, waited for, and what became of them told.

use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime;
use tokio::time::Instant;

use super::file::{File, FileId};
use super::state::{OpenFile, State};
use super::writes::{PART_BYTES_MAX, Send, Writer};
use super::{Contents, FileHandle, Inner, NodeId, Tree};
use crate::source::{Answer, Attributes, Handle, Seen, Source, SourceError};

/// After so long without a further write what there is is sent: longer than what a program does
/// between two writes, and shorter than a person waits.
const QUIET_TIME: Duration = Duration::from_millis(20);

impl<S: Source, T: Tree> Contents<S, T> {
    /// Takes a write. Waits only if too much was written that is not in the source yet.
    ///
    /// # Errors
    /// What became of an earlier write, once; this one is not taken then.
    pub(crate) async fn write(&self, fh: FileHandle, offset: u64, data: Bytes) -> Answer<u32> {
        let length = data.len();
        let mut taken = 0;
        while taken < length {
            let part = data.slice(taken..length.min(taken + PART_BYTES_MAX));
            let bytes = part.len();
            self.write_part(fh, offset + taken as u64, part).await?;
            taken += bytes;
        }
        Ok(length as u32)
    }

    async fn write_part(&self, fh: FileHandle, offset: u64, data: Bytes) -> Answer<()> {
        let inner = &self.inner;
        loop {
            let room = inner.room.clone().notified_owned();
            let taken = inner.state().take(fh, offset, &data, inner.limits.dirty_bytes)?;
            let Some(taken) = taken else {
                room.await;
                continue;
            };
            if taken.starts_timer {
                let inner = inner.clone();
                self.inner.runtime.spawn(async move { inner.when_quiet(taken.file).await });
            }
            inner.send_all(taken.file, taken.sends);
            return Ok(());
        }
    }

    /// Waits until all that was written through this file is in the source (`close`).
    ///
    /// # Errors
    /// What became of the writes, once.
    pub(crate) async fn flush(&self, fh: FileHandle) -> Answer<()> {
        let inner = &self.inner;
        let waited = {
            let mut state = inner.state();
            if let Some(lost) = state.stale.get_mut(&fh) {
                return if std::mem::take(lost) { Err(SourceError::Stale) } else { Ok(()) };
            }
            let (open, file) = state.open(fh)?;
            if !open.wrote {
                return Ok(());
            }
            let (id, last) = (open.file, file.writes.last());
            file.writes.seal();
            (id, last, state.sends(id))
        };
        let (id, last, mut sends) = waited;
        // Most files are written with one part. It is sent right here: waking a thread for it takes
        // longer than a short way to the source and back.
        match (sends.pop(), sends.is_empty()) {
            (Some(send), true) => {
                let sender = inner.clone();
                let sent = async move { sender.send(id, send).await };
                Unhurried { runtime: &inner.runtime, future: Some(Box::pin(sent)) }.await;
            }
            (send, _) => inner.send_all(id, sends.into_iter().chain(send).collect()),
        }
        inner.wait_until(id, |file| !file.writes.is_left(last, Some(fh))).await;
        inner.told(fh)
    }

    /// Waits until all that was written to the file is in the source, and durable there.
    ///
    /// # Errors
    /// What became of the writes, once, or of making it durable.
    pub(crate) async fn sync(&self, fh: FileHandle, data_only: bool) -> Answer<()> {
        let inner = &self.inner;
        let (id, node) = {
            let mut state = inner.state();
            let (open, file) = state.open(fh)?;
            (open.file, file.node)
        };
        inner.settle_file(id).await;
        inner.told(fh)?;
        let handle = match self.handle_of(fh) {
            Some(handle) => Some(handle),
            None => inner.state().any_handle(id),
        };
        // What nobody has open in the source nobody has written through us.
        let Some(handle) = handle else { return Ok(()) };
        let seen = inner.source.sync(handle, data_only).await?;
        inner.tree.learn(node, seen);
        Ok(())
    }

    /// Waits until nothing that was written to the node by now is on its way. What failed is told
    /// to those who wrote it.
    ///
    /// # Errors
    /// [`SourceError::Unreachable`]: it may still come to the source, after what the caller wants
    /// to do next.
    pub(crate) async fn settle(&self, node: NodeId) -> Answer<()> {
        let inner = &self.inner;
        let id = inner.state().file_of(node).map(|(id, _)| id);
        let Some(id) = id else { return Ok(()) };
        match inner.settle_file(id).await {
            Some(SourceError::Unreachable) => Err(SourceError::Unreachable),
            _ => Ok(()),
        }
    }

    /// Waits until nothing that was written by now is on its way.
    ///
    /// # Errors
    /// Something is lost: of what was written by now, or of what was written by somebody who had closed
    /// it before that was known. It is told once.
    pub(crate) async fn settle_all(&self) -> Answer<()> {
        let inner = &self.inner;
        let ids: Vec<FileId> = {
            let state = inner.state();
            let dirty = state.files.iter().filter(|(_, file)| !file.writes.is_empty());
            dirty.map(|(id, _)| *id).collect()
        };
        // All of them begin before the first is waited for.
        for id in &ids {
            inner.send_sealed(*id);
        }
        let mut result = Ok(());
        for id in ids {
            if let Some(error) = inner.settle_file(id).await {
                result = Err(error);
            }
        }
        let lost = inner.state().lost.take();
        result.and(lost.map_or(Ok(()), Err))
    }
}

/// What taking a write leads to.
struct Taken {
    file: FileId,
    sends: Vec<Send>,
    starts_timer: bool,
}

impl State {
    /// Takes a write, if there is room.
    fn take(
        &mut self,
        fh: FileHandle,
        offset: u64,
        data: &Bytes,
        dirty_max: u64,
    ) -> Answer<Option<Taken>> {
        let dirty = self.dirty;
        let (open, _) = self.open(fh)?;
        if let Some(error) = open.error.take() {
            return Err(error);
        }
        let handle = open.handle.filter(|_| open.how.write || open.how.append);
        let handle = handle.ok_or(SourceError::Invalid)?;
        let end = offset.checked_add(data.len() as u64).ok_or(SourceError::TooLarge)?;
        if dirty > 0 && dirty + data.len() as u64 > dirty_max {
            return Ok(None);
        }
        open.wrote = true;
        let (id, append) = (open.file, open.how.append);
        // Where an append goes is not known for sure.
        self.overwrite(id, offset, if append { u64::MAX } else { end });
        let (_, file) = self.open(fh)?;
        let writer = Writer { file: fh, handle, append };
        let (more, may_send) = file.writes.accept(writer, offset, data.clone());
        file.written = Some(Instant::now());
        let starts_timer = file.writes.is_filling() && !file.timed;
        file.timed |= starts_timer;
        self.dirty += more as u64;
        let sends = if may_send { self.sends(id) } else { Vec::new() };
        Ok(Some(Taken { file: id, sends, starts_timer }))
    }

    /// What of a file can be sent now.
    pub(super) fn sends(&mut self, id: FileId) -> Vec<Send> {
        let Some(file) = self.files.get_mut(&id) else { return Vec::new() };
        std::iter::from_fn(|| file.writes.next_to_send()).collect()
    }

    /// A handle of somebody else who has the file open in the source.
    fn any_handle(&self, id: FileId) -> Option<Handle> {
        self.opens.values().filter(|open| open.file == id).find_map(|open| open.handle)
    }

    /// A part is in the source or lost; says what to close for that, and if nobody is left to be
    /// told of the error.
    fn sent(
        &mut self,
        id: FileId,
        number: u64,
        by: FileHandle,
        error: Option<&SourceError>,
    ) -> (Vec<Handle>, bool) {
        let Some(file) = self.files.get_mut(&id) else { return (Vec::new(), false) };
        self.dirty -= file.writes.done(number, error.cloned()) as u64;
        file.progress.notify_waiters();
        let is_left = file.writes.is_left(u64::MAX, Some(by));
        let mut handles = Vec::new();
        let mut somebody = false;
        if let Some(error) = error {
            let wrote = |open: &&mut OpenFile| open.file == id && open.wrote && !open.released;
            for open in self.opens.values_mut().filter(wrote) {
                open.error.get_or_insert(error.clone());
                somebody = true;
            }
        }
        if !is_left && self.opens.get(&by).is_some_and(|open| open.released) {
            handles = self.remove_open(by);
        }
        handles.extend(self.tidy(id));
        let nobody = error.is_some() && !somebody;
        if nobody {
            self.lost = error.cloned();
        }
        (handles, nobody)
    }
}

impl<S: Source, T: Tree> Inner<S, T> {
    /// The error that a file has not been told yet.
    fn told(&self, fh: FileHandle) -> Answer<()> {
        let mut state = self.state();
        if let Some(lost) = state.stale.get_mut(&fh) {
            *lost = false;
            return Err(SourceError::Stale);
        }
        match state.open(fh)?.0.error.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    pub(super) fn log_lost(&self, node: NodeId, error: &SourceError) {
        let path = self.tree.place(node).map(|place| place.path).unwrap_or_default();
        tracing::warn!(node, path = %path.display(), %error, "what was written to a file is lost");
    }

    async fn wait_until(&self, id: FileId, is_so: impl Fn(&File) -> bool) {
        loop {
            let progress = {
                let state = self.state();
                let Some(file) = state.files.get(&id) else { return };
                if is_so(file) {
                    return;
                }
                file.progress.clone().notified_owned()
            };
            progress.await;
        }
    }

    fn send_sealed(self: &Arc<Self>, id: FileId) {
        let sends = {
            let mut state = self.state();
            let Some(file) = state.files.get_mut(&id) else { return };
            file.writes.seal();
            state.sends(id)
        };
        self.send_all(id, sends);
    }

    /// Waits for all that was written to a file by now; says what of it failed.
    async fn settle_file(self: &Arc<Self>, id: FileId) -> Option<SourceError> {
        let (before, last) = {
            let state = self.state();
            let writes = &state.files.get(&id)?.writes;
            if writes.is_empty() {
                return None;
            }
            (writes.settled(), writes.last())
        };
        self.send_sealed(id);
        self.wait_until(id, |file| !file.writes.is_left(last, None)).await;
        self.state().files.get(&id)?.writes.failed_after(before)
    }

    /// Waits until what was written between the two by now is in the source.
    pub(super) async fn settle_range(
        self: &Arc<Self>,
        fh: FileHandle,
        from: u64,
        until: u64,
    ) -> Answer<()> {
        let id = {
            let mut state = self.state();
            let (open, file) = state.open(fh)?;
            if !file.writes.overlaps(from, until) {
                return Ok(());
            }
            open.file
        };
        // What fails is told to whoever wrote it.
        let _ = self.settle_file(id).await;
        Ok(())
    }

    /// Sends what is being filled once nothing came to it for a while.
    async fn when_quiet(self: Arc<Self>, id: FileId) {
        loop {
            let due = {
                let mut state = self.state();
                let Some(file) = state.files.get_mut(&id) else { return };
                let due = file.written.filter(|_| file.writes.is_filling());
                let due = due.map(|written| written + QUIET_TIME);
                match due.filter(|due| *due > Instant::now()) {
                    Some(due) => due,
                    None => {
                        file.timed = false;
                        break;
                    }
                }
            };
            tokio::time::sleep_until(due).await;
        }
        self.send_sealed(id);
    }

    pub(super) fn send_all(self: &Arc<Self>, id: FileId, sends: Vec<Send>) {
        for send in sends {
            let inner = self.clone();
            self.runtime.spawn(async move { inner.send(id, send).await });
        }
    }

    async fn send(self: &Arc<Self>, id: FileId, send: Send) {
        let end = send.start + send.data.len() as u64;
        let sending = Sending { inner: self, id, number: send.number, writer: send.writer, end };
        let answer = self.source.write(send.writer.handle, send.start, send.data).await;
        sending.ended(answer);
    }

    /// A part is in the source, or lost.
    fn sent(self: &Arc<Self>, sending: &Sending<'_, S, T>, answer: Answer<Seen<Attributes>>) {
        let (id, writer) = (sending.id, sending.writer);
        let node = self.state().files.get(&id).map(|file| file.node);
        let Some(node) = node else { return };
        let error = match answer {
            Ok(seen) => {
                self.arrived.fetch_add(1, Ordering::AcqRel);
                // An append that did not end where it was thought to: somebody else writes as
                // well. The change that will be told is not our own then, for the tree.
                let is_ours = !writer.append || seen.what.size == sending.end;
                let is_current = self.state().current.get(&node) == Some(&id);
                if is_ours && is_current {
                    // Before it stops being pending: its size must not shrink in between.
                    self.tree.learn(node, seen);
                } else if is_current {
                    self.tree.doubt(node);
                }
                None
            }
            Err(error) => Some(error),
        };
        let (handles, nobody, sends, is_settled) = {
            let mut state = self.state();
            let (handles, nobody) = state.sent(id, sending.number, writer.file, error.as_ref());
            let is_settled = state.files.get(&id).is_none_or(|file| file.writes.is_empty());
            (handles, nobody, state.sends(id), is_settled)
        };
        if is_settled && self.tree.settled(node) {
            self.state().changed(node);
            self.tree.doubt(node);
        }
        self.room.notify_waiters();
        if let Some(error) = error {
            self.log_lost(node, &error);
            self.tree.doubt(node);
            if nobody {
                tracing::warn!(node, "and the program that wrote it could not be told");
            }
        }
        handles.into_iter().for_each(|handle| self.source.close(handle));
        self.send_all(id, sends);
    }
}

/// Something that goes on as a task if nobody waits for it any more.
struct Unhurried<'a> {
    runtime: &'a runtime::Handle,
    future: Option<Pin<Box<dyn Future<Output = ()> + std::marker::Send>>>,
}

impl Future for Unhurried<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(future) = &mut self.future else { return Poll::Ready(()) };
        let polled = future.as_mut().poll(context);
        if polled.is_ready() {
            self.future = None;
        }
        polled
    }
}

impl Drop for Unhurried<'_> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            self.runtime.spawn(future);
        }
    }
}

/// A part on its way. If nobody waits for the reply any more, it is not known what became of it.
struct Sending<'a, S: Source, T: Tree> {
    inner: &'a Arc<Inner<S, T>>,
    id: FileId,
    number: u64,
    writer: Writer,
    end: u64,
}

impl<S: Source, T: Tree> Sending<'_, S, T> {
    fn ended(self, answer: Answer<Seen<Attributes>>) {
        let sending = ManuallyDrop::new(self);
        sending.inner.sent(&sending, answer);
    }
}

impl<S: Source, T: Tree> Drop for Sending<'_, S, T> {
    fn drop(&mut self) {
        self.inner.sent(self, Err(SourceError::Unreachable));
    }
}
