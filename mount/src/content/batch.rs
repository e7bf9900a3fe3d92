//! Small files that are fetched together, before they are asked for.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use super::file::{Coming, FileId, Outcome, Teller};
use super::front::{Amount, Batch};
use super::state::State;
use super::{Inner, NodeId, SMALL_BYTES_MAX, Tree};
use crate::source::{Answer, Attributes, FileKind, ObjectId, Place, Seen, Source, SourceError};

/// How often the tree is asked for more, if the kernel has what it named already.
const ROUNDS_COUNT_MAX: usize = 4;

/// A file that is needed, or will be.
pub(super) struct Wanted {
    pub(super) node: NodeId,
    pub(super) place: Place,
    pub(super) size: u64,
}

/// One that is on its way.
struct Fetching {
    file: FileId,
    node: NodeId,
    number: u64,
    place: Place,
    teller: Teller,
}

impl State {
    /// Notes down that a whole file is on its way, if nothing is known of its content yet.
    fn fetching(
        &mut self,
        wanted: Wanted,
        object: ObjectId,
        front: Option<u64>,
    ) -> Option<Fetching> {
        let file = self.file_for(wanted.node, Some(object));
        let number = self.next_number();
        let has = self.cache.has(file);
        let known = self.files.get_mut(&file)?;
        if has || !known.coming.is_empty() || !known.writes.is_empty() || known.mark.is_some() {
            return None;
        }
        let (teller, outcome) = watch::channel(None);
        known.coming.insert(0, Coming { end: u64::MAX, number, outcome });
        // What is open by now is needed, whoever asked for it first.
        if let Some(front) = front.filter(|_| known.opens == 0) {
            known.mark = Some(self.fronts.fetch(front, wanted.size));
        }
        let (node, place) = (wanted.node, wanted.place);
        Some(Fetching { file, node, number, place, teller })
    }
}

impl<S: Source, T: Tree> Inner<S, T> {
    /// A small file is needed and not there.
    pub(super) fn small_missed(self: &Arc<Self>, wanted: Wanted, object: ObjectId) {
        let directory = wanted.place.path.parent().unwrap_or(Path::new("")).to_owned();
        let mut state = self.state();
        if state.kept.contains(&wanted.node) {
            // The kernel let go of what it had.
            state.kept.clear();
        }
        let Some(batch) = state.fronts.miss(&directory, wanted.node, Instant::now()) else {
            return;
        };
        let first = state.fetching(wanted, object, None);
        drop(state);
        self.fetch(batch, first);
    }

    /// Fetches what follows.
    pub(super) fn fetch_more(self: &Arc<Self>, batch: Batch) {
        self.fetch(batch, None);
    }

    fn fetch(self: &Arc<Self>, batch: Batch, first: Option<Fetching>) {
        let inner = self.clone();
        self.runtime.spawn(async move {
            let mut all = Vec::from_iter(first);
            inner.gather(batch, &mut all);
            if !all.is_empty() {
                let places = all.iter().map(|one| one.place.clone()).collect();
                let mut answers = inner.source.fetch(places);
                let mut waiting: Vec<Option<Fetching>> = all.into_iter().map(Some).collect();
                while let Some(fetched) = answers.recv().await {
                    if let Some(one) = waiting.get_mut(fetched.index).and_then(Option::take) {
                        inner.fetched(one, fetched.content);
                    }
                }
                for one in waiting.into_iter().flatten() {
                    inner.fetched(one, Err(SourceError::NotFound));
                }
            }
            inner.state().fronts.arrived(batch.front);
        });
    }

    /// Finds the files of a batch.
    fn gather(&self, batch: Batch, all: &mut Vec<Fetching>) {
        let Amount { mut files, mut bytes } = batch.amount;
        let mut after = batch.after;
        let mut next = None;
        for _ in 0..ROUNDS_COUNT_MAX {
            if files == 0 || bytes == 0 {
                break;
            }
            let found = self.tree.following(after, files, bytes);
            next = found.last().map(|(node, _, _)| *node);
            let Some(last) = next else { break };
            after = last;
            let mut state = self.state();
            for (node, place, attributes) in found.into_iter().take(files) {
                let size = attributes.size;
                let is_small = (1..=SMALL_BYTES_MAX).contains(&size);
                if !is_small || attributes.kind != FileKind::File || state.kept.contains(&node) {
                    continue;
                }
                let wanted = Wanted { node, place, size };
                let front = Some(batch.front);
                if let Some(one) = state.fetching(wanted, attributes.object, front) {
                    all.push(one);
                    files -= 1;
                    bytes = bytes.saturating_sub(size);
                }
            }
        }
        let directory = all.last().and_then(|one| one.place.path.parent());
        self.state().fronts.sent(batch.front, next, directory);
    }

    /// Keeps a file that came, if it is what the tree knows, and gives it to the kernel.
    fn fetched(&self, one: Fetching, content: Answer<Seen<(Attributes, Bytes)>>) {
        let known = self.tree.attributes(one.node).map(|seen| seen.what);
        // Others read it one by one; that would take as long again here.
        let mut outcome = match content {
            Err(SourceError::Unreachable) => Outcome::Failed(SourceError::Unreachable),
            _ => Outcome::Again,
        };
        let content = content.ok().map(|seen| seen.what);
        let content = content.filter(|(attributes, bytes)| {
            known.is_some_and(|known| {
                known.object == attributes.object
                    && known.modified == attributes.modified
                    && known.size == attributes.size
                    && known.size == bytes.len() as u64
            })
        });
        let mut state = self.state();
        let is_reading = state.is_reading(one.node);
        let mut store = None;
        if let Some(file) = state.files.get_mut(&one.file)
            && file.coming.get(&0).is_some_and(|coming| coming.number == one.number)
        {
            file.coming.remove(&0);
            let is_current = file.writes.is_empty();
            if let Some((_, bytes)) = content.filter(|_| is_current) {
                file.ended = Some(bytes.len() as u64);
                outcome = Outcome::Data { bytes: bytes.clone(), sure: true };
                // Who reads it gets it as a reply; the kernel locks its pages until then.
                store = (!is_reading).then_some((file.version, bytes.clone()));
                state.keep(one.file, 0, bytes);
                state.kernel_has(one.node);
            }
        }
        let unused = state.tidy(one.file);
        drop(state);
        one.teller.send_replace(Some(outcome));
        if let Some((version, bytes)) = store {
            self.tree.store(one.node, super::ContentVersion(version), bytes);
        }
        if let Some(handle) = unused {
            self.source.close(handle);
        }
    }
}
