//! Reads: from what is cached, from what is on its way, and by asking for the rest.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use super::asking::Ask;
use super::batch::Wanted;
use super::file::{FileId, Outcome, Waiter};
use super::state::State;
use super::{Contents, FileHandle, Inner, NodeId, SMALL_BYTES_MAX, Tree};
use crate::source::{Answer, Attributes, FileKind, Handle, Source, SourceError, Urgency};

/// Bytes of the largest request.
const REQUEST_BYTES_MAX: u64 = 1024 * 1024;
/// What is asked for begins and ends at multiples of this, as the kernel's pages do.
const PAGE_BYTES: u64 = 4096;
/// How often a read begins again because of changes. Past it whatever comes is handed out.
const TRIES_COUNT_MAX: usize = 6;

/// A part of what is read.
enum Piece {
    Here(Bytes),
    Coming { outcome: Waiter, skip: u64, length: u64 },
}

/// What a read comes to, as far as can be said at once.
enum Plan {
    /// These, one after the other.
    Pieces(Vec<Piece>),
    /// What was written has to be in the source first.
    Settle,
    /// It is the content of a small file, which perhaps is not read alone.
    Small,
}

/// What is read, and by whom.
struct Wish<'a> {
    fh: FileHandle,
    offset: u64,
    end: u64,
    known: Option<&'a Attributes>,
}

impl Wish<'_> {
    fn small(&self) -> Option<u64> {
        let known = self.known.filter(|known| known.kind == FileKind::File)?;
        (known.size <= SMALL_BYTES_MAX && self.offset < known.size).then_some(known.size)
    }
}

/// While it lives, a node is being read.
struct Guard<'a, S: Source, T: Tree>(&'a Inner<S, T>, NodeId);

impl<S: Source, T: Tree> Drop for Guard<'_, S, T> {
    fn drop(&mut self) {
        self.0.state().end_reading(self.1);
    }
}

impl<S: Source, T: Tree> Contents<S, T> {
    /// Bytes of a file; fewer than asked for at its end only.
    pub(crate) async fn read(&self, fh: FileHandle, offset: u64, size: u32) -> Answer<Bytes> {
        let inner = &self.inner;
        let node = {
            let mut state = inner.state();
            let node = state.open(fh)?.1.node;
            state.begin_reading(node);
            node
        };
        let _guard = Guard(inner, node);
        let end = offset.saturating_add(size.into());
        let known = inner.tree.attributes(node).map(|seen| seen.what);
        if known.is_some_and(|known| known.size == 0) {
            return self.read_through(fh, offset, size).await;
        }
        let wish = Wish { fh, offset, end, known: known.as_ref() };
        inner.state().stream(fh, offset, size.into());
        let (mut beyond, mut alone) = (false, false);
        for attempt in 0..TRIES_COUNT_MAX {
            let mut asks = Vec::new();
            let plan = inner.state().plan(&wish, beyond, alone, &inner.limits, &mut asks)?;
            inner.ask(asks).await;
            let pieces = match plan {
                Plan::Pieces(pieces) => pieces,
                Plan::Settle => {
                    let until = if beyond { u64::MAX } else { end };
                    inner.settle_range(fh, offset, until).await?;
                    continue;
                }
                Plan::Small => {
                    inner.small(node, &wish);
                    alone = true;
                    continue;
                }
            };
            let is_last = attempt + 1 == TRIES_COUNT_MAX;
            match joined(pieces, is_last, &mut beyond).await? {
                Some(bytes) => return Ok(bytes),
                None => alone = true,
            }
        }
        self.read_through(fh, offset, size).await
    }

    /// Reads exactly that from the source: nothing of it is kept.
    async fn read_through(&self, fh: FileHandle, offset: u64, size: u32) -> Answer<Bytes> {
        let inner = &self.inner;
        inner.settle_range(fh, offset, u64::MAX).await?;
        let mut bytes = BytesMut::new();
        let mut at = offset;
        let end = offset.saturating_add(size.into());
        while at < end {
            let length = (end - at).min(REQUEST_BYTES_MAX);
            let (teller, mut outcome) = watch::channel(None);
            let (file, node, via) = {
                let mut state = inner.state();
                let (open, file) = state.open(fh)?;
                (open.file, file.node, open.handle.filter(|_| open.how.read))
            };
            let number = 0;
            let (urgency, whole) = (Urgency::Now, false);
            let settled = true;
            let ask =
                Ask { file, node, number, start: at, length, urgency, via, whole, settled, teller };
            inner.ask_one(ask).await;
            match outcome_of(&mut outcome).await {
                Outcome::Data { bytes: more, .. } => {
                    let is_end = (more.len() as u64) < length;
                    if is_end && bytes.is_empty() {
                        return Ok(more);
                    }
                    at += more.len() as u64;
                    bytes.extend_from_slice(&more);
                    if is_end {
                        break;
                    }
                }
                Outcome::Failed(error) => return Err(error),
                Outcome::Again => return Err(SourceError::Stale),
            }
        }
        Ok(bytes.freeze())
    }
}

async fn outcome_of(outcome: &mut Waiter) -> Outcome {
    match outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(Outcome::Again),
        // Its task ended with the runtime.
        Err(_) => Outcome::Again,
    }
}

/// Waits for all pieces and joins them; nothing: it has to be read again, `beyond`: after all that
/// was written up to the end of the file.
async fn joined(pieces: Vec<Piece>, is_last: bool, beyond: &mut bool) -> Answer<Option<Bytes>> {
    let mut parts = Vec::with_capacity(pieces.len());
    let (mut all_sure, mut at_end) = (true, false);
    for piece in pieces {
        let (mut outcome, skip, length) = match piece {
            Piece::Here(bytes) => {
                parts.push(bytes);
                continue;
            }
            Piece::Coming { outcome, skip, length } => (outcome, skip, length),
        };
        match outcome_of(&mut outcome).await {
            Outcome::Failed(error) => return Err(error),
            Outcome::Again => return Ok(None),
            Outcome::Data { bytes, sure } => {
                let from = bytes.len().min(skip as usize);
                let until = bytes.len().min((skip + length) as usize);
                parts.push(bytes.slice(from..until));
                all_sure &= sure;
                if ((until - from) as u64) < length {
                    at_end = true;
                    break;
                }
            }
        }
    }
    if !all_sure && !is_last && (parts.len() > 1 || at_end) {
        *beyond |= at_end;
        return Ok(None);
    }
    if parts.len() == 1 {
        return Ok(parts.pop());
    }
    let mut bytes = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    Ok(Some(bytes.freeze()))
}

impl State {
    /// Finds out what of a read is there, on its way, and to be asked for.
    fn plan(
        &mut self,
        wish: &Wish<'_>,
        beyond: bool,
        alone: bool,
        limits: &super::Limits,
        asks: &mut Vec<Ask>,
    ) -> Answer<Plan> {
        let (open, file) = self.open(wish.fh)?;
        let until = if beyond { u64::MAX } else { wish.end };
        if file.writes.overlaps(wish.offset, until) {
            return Ok(Plan::Settle);
        }
        let id = open.file;
        let in_order = open.stream.is_in_order();
        let via = open.handle.filter(|_| open.how.read);
        let small = wish.small();
        let mut pieces = Vec::with_capacity(2);
        let mut at = wish.offset;
        while at < wish.end {
            let file = self.files.get_mut(&id).ok_or(SourceError::Stale)?;
            if file.ended.is_some_and(|ended| at >= ended) {
                break;
            }
            if let Some(bytes) = self.cache.slice(id, at, wish.end, in_order) {
                at += bytes.len() as u64;
                pieces.push(Piece::Here(bytes));
                continue;
            }
            if let Some((start, coming)) = file.coming_at(at) {
                let length = coming.end.min(wish.end) - at;
                let outcome = coming.outcome.clone();
                pieces.push(Piece::Coming { outcome, skip: at - start, length });
                at += length;
                continue;
            }
            let is_untouched = file.coming.is_empty() && !self.cache.has(id);
            if small.is_some() && is_untouched && !alone && via.is_none() {
                return Ok(Plan::Small);
            }
            let (low, high) = self.gap(id, at);
            let whole = small.filter(|_| is_untouched);
            let (from, to) = match whole {
                Some(size) => (0, size.max(wish.end).next_multiple_of(PAGE_BYTES)),
                None => {
                    let end = wish.end.checked_next_multiple_of(PAGE_BYTES).unwrap_or(wish.end);
                    ((at - at % PAGE_BYTES).max(low), end.min(high))
                }
            };
            // Beside what is read something may have been written that is not there yet.
            let is_written = self.files.get(&id).is_some_and(|file| file.writes.overlaps(from, to));
            let (from, to) = if is_written { (at, wish.end.min(high)) } else { (from, to) };
            let whole = whole.filter(|_| !is_written);
            let to = to.min(from + REQUEST_BYTES_MAX);
            let request = self.note_ask(id, from..to, Urgency::Now, via);
            asks.extend(request.map(|ask| Ask { whole: whole.is_some(), ..ask }));
        }
        if in_order {
            self.ask_ahead(wish, id, via, limits, asks);
        }
        Ok(Plan::Pieces(pieces))
    }

    fn gap(&self, id: FileId, at: u64) -> (u64, u64) {
        let (low, high) = self.cache.gap(id, at);
        let coming = self.files.get(&id).map_or((0, u64::MAX), |file| file.gap(at));
        (low.max(coming.0), high.min(coming.1))
    }

    /// Asks for what a reader who goes on will need.
    fn ask_ahead(
        &mut self,
        wish: &Wish<'_>,
        id: FileId,
        via: Option<Handle>,
        limits: &super::Limits,
        asks: &mut Vec<Ask>,
    ) {
        // Of a page more than the file has, so that a read finds its end with it.
        let size = wish.known.map_or(0, |known| known.size).next_multiple_of(PAGE_BYTES);
        let Some(open) = self.opens.get_mut(&wish.fh) else { return };
        let Some(ahead) = open.stream.ahead(size) else { return };
        let mut at = ahead.from;
        while at < ahead.until {
            let Some(file) = self.files.get(&id) else { return };
            if file.ended.is_some_and(|ended| at >= ended) {
                return;
            }
            let coming = file.coming_at(at).map_or(at, |(_, coming)| coming.end);
            let there = coming.max(self.cache.end_of(id, at));
            if there > at {
                at = there;
                continue;
            }
            let request = at - at % ahead.request + ahead.request;
            let end = request.min(ahead.until).min(self.gap(id, at).1);
            if self.ahead + (end - at) > limits.ahead_bytes {
                if let Some(open) = self.opens.get_mut(&wish.fh) {
                    open.stream.stop_at(at);
                }
                return;
            }
            let written = self.files.get(&id).is_some_and(|file| file.writes.overlaps(at, end));
            if !written {
                asks.extend(self.note_ask(id, at..end, Urgency::Ahead, via));
            }
            at = end;
        }
    }
}

impl<S: Source, T: Tree> Inner<S, T> {
    /// A small file is needed: asks for it, perhaps with what follows it.
    fn small(self: &Arc<Self>, node: NodeId, wish: &Wish<'_>) {
        let (Some(place), Some(known)) = (self.tree.place(node), wish.known) else { return };
        let wanted = Wanted { node, place, size: known.size };
        self.small_missed(wanted, known.object);
    }
}
