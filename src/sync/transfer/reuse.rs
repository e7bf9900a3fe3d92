//! Finds content that the receiver of a plan holds already, under another path.
//!
//! What a step takes away that a later step needs (two files that changed places, logs that moved on
//! by one) is staged before that step.
//!
//! Pure: it looks at the steps and at the receiver's tree. Whether the content is really there is
//! seen when it is copied.

use std::collections::HashMap;

use bytes::Bytes;
use skync_agent::entry::{Digest, Directory, Entry};
use skync_agent::path::SyncPath;
use skync_agent::staging::INLINE_BYTES_MAX;
use skync_agent::transition::{Chunk, Piece};

use super::needed;
use crate::sync::plan::Step;

/// A plan that needs less is not worth a walk through the receiver's tree, bytes.
const WALK_BYTES_MIN: u64 = 1 << 20;

/// What is known of the receiver before anything is sent.
#[derive(Debug, Default)]
pub struct Reuse {
    /// For the steps whose content is there, by number.
    sources: HashMap<usize, Source>,
    /// Contents that a step of that number takes away and a later one needs.
    rescues: HashMap<usize, Vec<Rescue>>,
    /// It has nothing yet: there is no point in asking.
    pub(super) receiver_is_empty: bool,
}

/// Where the receiver has a content when the step's turn comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// At this path.
    Path(SyncPath),
    /// In its staging store, from before an earlier step.
    Rescued,
}

/// A content that has to be staged before its path is changed.
#[derive(Debug, PartialEq, Eq)]
struct Rescue {
    path: SyncPath,
    digest: Digest,
    size: u64,
}

impl Reuse {
    /// Where the receiver has the content that this step needs.
    pub(super) fn source(&self, step: usize) -> Option<&Source> {
        self.sources.get(&step)
    }

    /// What is to be staged before this step.
    pub(super) fn before(&self, step: usize) -> impl Iterator<Item = Chunk> {
        // In two pieces: a small content in one piece would stay in memory, for the next
        // transition only.
        self.rescues.get(&step).into_iter().flatten().flat_map(|rescue| {
            let Rescue { path, digest, size } = rescue;
            let copy = Piece::Copy { from: path.clone(), offset: 0, length: *size };
            let chunk = |offset, piece, last| Chunk { digest: *digest, offset, piece, last };
            [chunk(0, copy, false), chunk(*size, Piece::Data(Bytes::new()), true)]
        })
    }
}

/// A path that holds a content until the step of that number.
struct Candidate {
    until: usize,
    path: SyncPath,
}

/// Finds what of the content that the steps need is in the receiver's tree: at paths that the steps
/// replace or remove later, at any path if much is needed, and at paths that they made before.
///
/// The steps are carried out in this order. Small contents that are made by the steps themselves
/// are no candidates: they may still be on their way when a later step needs them.
pub fn reusable(steps: &[Step], receiver: Option<&Entry>) -> Reuse {
    let has_nothing = |directory: &Directory| directory.children.is_empty();
    let receiver_is_empty = receiver.and_then(Entry::as_directory).is_none_or(has_nothing);
    let mut wanted = HashMap::new();
    let mut bytes = 0u64;
    for file in steps.iter().filter_map(needed).filter(|file| file.size > 0) {
        wanted.insert(file.digest, None);
        bytes = bytes.saturating_add(file.size);
    }
    if wanted.is_empty() {
        return Reuse { receiver_is_empty, ..Reuse::default() };
    }
    let mut search = Search { wanted, changed: HashMap::new() };
    for (number, step) in steps.iter().enumerate() {
        if step.new.is_none() || needed(step).is_some() {
            search.changed.entry(&step.path).or_insert(number);
        }
    }
    for step in steps {
        if let Some(file) = step.expected.as_ref().and_then(Entry::as_file) {
            search.offer(&file.digest, || step.path.clone());
        }
    }
    if let Some(receiver) = receiver.filter(|_| bytes >= WALK_BYTES_MIN) {
        search.walk(&SyncPath::root(), receiver);
    }
    let (sources, rescues) = search.sources(steps);
    Reuse { sources, rescues, receiver_is_empty }
}

struct Search<'a> {
    wanted: HashMap<Digest, Option<Candidate>>,
    /// The first step that takes the content of a path away.
    changed: HashMap<&'a SyncPath, usize>,
}

impl Search<'_> {
    fn offer(&mut self, digest: &Digest, path: impl FnOnce() -> SyncPath) {
        let Some(best) = self.wanted.get_mut(digest) else { return };
        if best.as_ref().is_some_and(|best| best.until == usize::MAX) {
            return;
        }
        let path = path();
        let until = self.changed.get(&path).copied().unwrap_or(usize::MAX);
        if best.as_ref().is_none_or(|best| best.until < until) {
            *best = Some(Candidate { until, path });
        }
    }

    fn walk(&mut self, path: &SyncPath, entry: &Entry) {
        let Some(directory) = entry.as_directory() else { return };
        for (name, child) in &directory.children {
            match child {
                Entry::File(file) => self.offer(&file.digest, || path.join(name)),
                Entry::Directory(_) => self.walk(&path.join(name), child),
                Entry::Symlink(_) | Entry::Untracked | Entry::Problem(_) => {}
            }
        }
    }

    fn sources(mut self, steps: &[Step]) -> (HashMap<usize, Source>, HashMap<usize, Vec<Rescue>>) {
        let (mut sources, mut rescues) = (HashMap::new(), HashMap::new());
        for (number, step) in steps.iter().enumerate() {
            let Some(file) = needed(step) else { continue };
            let Some(best) = self.wanted.get_mut(&file.digest) else { continue };
            match best.take() {
                Some(candidate) if candidate.until > number => {
                    sources.insert(number, Source::Path(candidate.path.clone()));
                    *best = Some(candidate);
                }
                Some(Candidate { until, path }) => {
                    sources.insert(number, Source::Rescued);
                    let (digest, size) = (file.digest, file.size);
                    let rescue = Rescue { path, digest, size };
                    rescues.entry(until).or_insert_with(Vec::new).push(rescue);
                }
                None => {}
            }
            let is_lasting = best.as_ref().is_some_and(|best| best.until == usize::MAX);
            if file.size > INLINE_BYTES_MAX as u64 && !is_lasting {
                // From now on it is there, and no step takes away what a step made.
                *best = Some(Candidate { until: usize::MAX, path: step.path.clone() });
            }
        }
        (sources, rescues)
    }
}

#[cfg(test)]
mod tests;
