//! Requests for ranges of files: made, answered, kept.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use tokio::sync::watch;

use super::file::{Coming, FileId, Outcome, Reader, Teller};
use super::state::State;
use super::{Inner, NodeId, Tree};
use crate::source::{Answer, Handle, Place, Reading, Source, SourceError, Urgency};

/// How often a request is made that fails because the file is not there any more.
const TRIES_COUNT_MAX: usize = 3;

/// A request that is to be made.
pub(super) struct Ask {
    pub(super) file: FileId,
    pub(super) node: NodeId,
    pub(super) number: u64,
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) urgency: Urgency,
    /// Open in the source already, for the reader alone.
    pub(super) via: Option<Handle>,
    /// The whole file at once: it need not be opened for that.
    pub(super) whole: bool,
    /// Nothing that was written was still on its way then: where it ends is the end.
    pub(super) settled: bool,
    pub(super) teller: Teller,
}

/// A request that was noted down. If nobody waits for its reply any more, others who do ask again.
struct Asked<'a, S: Source, T: Tree> {
    inner: &'a Inner<S, T>,
    ask: Option<Ask>,
}

impl<S: Source, T: Tree> Drop for Asked<'_, S, T> {
    fn drop(&mut self) {
        if let Some(ask) = self.ask.take() {
            self.inner.arrived(ask, None);
        }
    }
}

/// A file that is being opened to be read; if that is not heard to the end, it is not open.
pub(super) struct Opening<'a, S: Source, T: Tree> {
    inner: &'a Inner<S, T>,
    file: FileId,
    handle: Option<Handle>,
}

impl<'a, S: Source, T: Tree> Opening<'a, S, T> {
    pub(super) fn new(inner: &'a Inner<S, T>, file: FileId, handle: Handle) -> Self {
        Self { inner, file, handle: Some(handle) }
    }

    pub(super) fn ended(mut self, worked: bool) {
        if let Some(handle) = self.handle.take() {
            self.inner.opened(self.file, handle, worked);
        }
    }
}

impl<S: Source, T: Tree> Drop for Opening<'_, S, T> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.inner.opened(self.file, handle, false);
        }
    }
}

impl<S: Source, T: Tree> Inner<S, T> {
    /// Makes requests; each has a task that ends with the reply, whoever waits for it.
    fn ask_all(self: &Arc<Self>, asks: Vec<Ask>) {
        for ask in asks {
            let inner = self.clone();
            self.runtime.spawn(async move { inner.ask_one(ask).await });
        }
    }

    /// Makes requests. If somebody waits for just one of them, it is made right here, and first:
    /// waking a thread for it takes longer than a short way to the source and back.
    pub(super) async fn ask(self: &Arc<Self>, mut asks: Vec<Ask>) {
        let mut now = asks.iter().enumerate().filter(|(_, ask)| ask.urgency == Urgency::Now);
        let (Some((at, _)), None) = (now.next(), now.next()) else {
            self.ask_all(asks);
            return;
        };
        let mut here = pin!(self.ask_one(asks.remove(at)));
        let begun = poll_fn(|context| Poll::Ready(here.as_mut().poll(context))).await;
        self.ask_all(asks);
        if begun.is_pending() {
            here.await;
        }
    }

    pub(super) async fn ask_one(&self, ask: Ask) {
        let mut asked = Asked { inner: self, ask: Some(ask) };
        let answer = match &asked.ask {
            Some(ask) => self.answer(ask).await,
            None => return,
        };
        if let Some(ask) = asked.ask.take() {
            self.arrived(ask, Some(answer));
        }
    }

    async fn answer(&self, ask: &Ask) -> Answer<Bytes> {
        for _ in 1..TRIES_COUNT_MAX {
            let (reading, place) = self.reading(ask)?;
            let by_handle = matches!(reading, Reading::Open(_));
            let answer = self.answer_once(ask, reading).await;
            let is_lost = matches!(answer, Err(SourceError::Stale | SourceError::NotFound));
            if !is_lost || ask.via.is_some() {
                return answer;
            }
            // The source forgot the handle, or the file was moved meanwhile: once more, if the tree
            // knows another place by now.
            if by_handle {
                self.forget_reader(ask.file);
            } else if self.tree.place(ask.node) == place {
                return answer;
            }
        }
        let (reading, _) = self.reading(ask)?;
        self.answer_once(ask, reading).await
    }

    async fn answer_once(&self, ask: &Ask, reading: Reading) -> Answer<Bytes> {
        let opening = match &reading {
            Reading::OpenAs(handle, _) => Some(Opening::new(self, ask.file, *handle)),
            Reading::Open(_) | Reading::At(_) => None,
        };
        let answer = self.source.read(reading, ask.start, ask.length as u32, ask.urgency).await;
        if let Some(opening) = opening {
            opening.ended(answer.is_ok());
        }
        answer
    }

    /// By what a file is read: a handle if there is one, else its place, perhaps to open it there.
    fn reading(&self, ask: &Ask) -> Answer<(Reading, Option<Place>)> {
        if let Some(handle) = ask.via {
            return Ok((Reading::Open(handle), None));
        }
        if let Some(Reader::Open(handle)) = self.state().files.get(&ask.file).map(|f| f.reader) {
            return Ok((Reading::Open(handle), None));
        }
        let place = self.tree.place(ask.node).ok_or(SourceError::Stale)?;
        let handle = Handle(self.number());
        let mut state = self.state();
        let Some(file) = state.files.get_mut(&ask.file) else { return Err(SourceError::Stale) };
        if !file.is_of(place.object) {
            return Err(SourceError::Stale);
        }
        let reading = match file.reader {
            Reader::Open(handle) => Reading::Open(handle),
            Reader::None if !ask.whole && file.opens > 0 => {
                file.reader = Reader::Opening(handle);
                Reading::OpenAs(handle, place.clone())
            }
            Reader::None | Reader::Opening(_) => Reading::At(place.clone()),
        };
        Ok((reading, Some(place)))
    }

    fn opened(&self, id: FileId, handle: Handle, worked: bool) {
        let unused = {
            let mut state = self.state();
            let file = state.files.get_mut(&id).filter(|f| f.reader == Reader::Opening(handle));
            match file {
                Some(file) if worked => {
                    file.reader = Reader::Open(handle);
                    file.progress.notify_waiters();
                    state.tidy(id)
                }
                Some(file) => {
                    file.reader = Reader::None;
                    file.progress.notify_waiters();
                    // Whether it was opened is not known.
                    state.tidy(id).or(Some(handle))
                }
                None => Some(handle),
            }
        };
        if let Some(handle) = unused {
            self.source.close(handle);
        }
    }

    fn forget_reader(&self, id: FileId) {
        if let Some(file) = self.state().files.get_mut(&id)
            && matches!(file.reader, Reader::Open(_))
        {
            file.reader = Reader::None;
        }
    }

    /// Keeps what came, if nothing changed meanwhile, and tells those who wait.
    fn arrived(&self, ask: Ask, answer: Option<Answer<Bytes>>) {
        let mut state = self.state();
        if ask.urgency == Urgency::Ahead {
            state.ahead -= ask.length;
        }
        let listed = state.files.get_mut(&ask.file).is_some_and(|file| {
            let is_it = file.coming.get(&ask.start).is_some_and(|c| c.number == ask.number);
            is_it && file.coming.remove(&ask.start).is_some()
        });
        let outcome = match answer {
            None => Outcome::Again,
            Some(Ok(bytes)) => {
                let bytes = bytes.slice(..bytes.len().min(ask.length as usize));
                let sure = listed && state.keep_arrived(&ask, &bytes);
                Outcome::Data { bytes, sure: sure || ask.number == 0 }
            }
            Some(Err(SourceError::Unreachable)) => Outcome::Failed(SourceError::Unreachable),
            // Whoever needs it asks for itself.
            Some(Err(_)) if ask.urgency == Urgency::Ahead => Outcome::Again,
            Some(Err(error)) => Outcome::Failed(error),
        };
        let unused = state.tidy(ask.file);
        drop(state);
        ask.teller.send_replace(Some(outcome));
        if let Some(handle) = unused {
            self.source.close(handle);
        }
    }
}

impl State {
    /// Notes down a request for a range in which nothing is.
    pub(super) fn note_ask(
        &mut self,
        id: FileId,
        range: std::ops::Range<u64>,
        urgency: Urgency,
        via: Option<Handle>,
    ) -> Option<Ask> {
        let number = self.next_number();
        let (start, length) = (range.start, range.end - range.start);
        let file = self.files.get_mut(&id)?;
        let (teller, outcome) = watch::channel(None);
        file.coming.insert(start, Coming { end: range.end, number, outcome });
        if urgency == Urgency::Ahead {
            self.ahead += length;
        }
        let (node, whole, settled) = (file.node, false, file.writes.is_empty());
        Some(Ask { file: id, node, number, start, length, urgency, via, whole, settled, teller })
    }

    /// Keeps what came; false if it is short and may not be at the end of the file all the same.
    fn keep_arrived(&mut self, ask: &Ask, bytes: &Bytes) -> bool {
        let Some(file) = self.files.get_mut(&ask.file) else { return false };
        let is_short = (bytes.len() as u64) < ask.length;
        // A request gets its number and a change its version from one count.
        let is_end = is_short && ask.settled && file.version < ask.number;
        if is_end {
            let end = ask.start + bytes.len() as u64;
            file.ended = Some(file.ended.map_or(end, |ended| ended.min(end)));
        }
        self.keep(ask.file, ask.start, bytes.clone());
        !is_short || is_end
    }
}
