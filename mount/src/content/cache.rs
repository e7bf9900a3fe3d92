//! Ranges of content that are kept, up to a bound. It knows no files but by number, and decides
//! only what goes first.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::file::FileId;

/// What a chunk, and a file with it, costs beside its bytes: very many very small ones are bounded
/// as well.
const CHUNK_BYTES_EXTRA: u64 = 1024;
/// A chunk that is smaller than this is copied: it may be a part of a large reply, which it would
/// keep as long as it is kept itself.
const COPY_BYTES_MAX: usize = 64 * 1024;

/// The order in which chunks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Handed out to a reader who goes on; since when.
    Read(u64),
    /// Since when it was not used.
    Kept(u64),
}

struct Chunk {
    data: Bytes,
    rank: Rank,
}

/// See the module's text.
pub(super) struct Cache {
    bytes_max: u64,
    bytes: u64,
    tick: u64,
    /// By where they begin; they do not overlap, and none is empty.
    files: HashMap<FileId, BTreeMap<u64, Chunk>>,
    order: BTreeMap<Rank, (FileId, u64)>,
}

impl Cache {
    pub(super) fn new(bytes_max: u64) -> Self {
        let (files, order) = (HashMap::new(), BTreeMap::new());
        Self { bytes_max, bytes: 0, tick: 0, files, order }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn has(&self, file: FileId) -> bool {
        self.files.contains_key(&file)
    }

    /// What is there from `at` on, without a gap or a seam, at most until `end`. With `in_order`
    /// a chunk that was handed out to its end is the next to go.
    pub(super) fn slice(
        &mut self,
        file: FileId,
        at: u64,
        end: u64,
        in_order: bool,
    ) -> Option<Bytes> {
        let (start, chunk) = self.files.get_mut(&file)?.range_mut(..=at).next_back()?;
        let from = (at - *start) as usize;
        if from >= chunk.data.len() {
            return None;
        }
        let until = chunk.data.len().min((end - *start) as usize);
        self.tick += 1;
        let rank = match in_order && until == chunk.data.len() {
            true => Rank::Read(self.tick),
            false => Rank::Kept(self.tick),
        };
        self.order.remove(&chunk.rank);
        self.order.insert(rank, (file, *start));
        chunk.rank = rank;
        Some(chunk.data.slice(from..until))
    }

    /// Where the gap around `at` begins and ends: at the chunks before and after it.
    pub(super) fn gap(&self, file: FileId, at: u64) -> (u64, u64) {
        let Some(chunks) = self.files.get(&file) else { return (0, u64::MAX) };
        let before = chunks.range(..=at).next_back();
        let after = chunks.range(at..).next();
        let low = before.map_or(0, |(start, chunk)| start + chunk.data.len() as u64);
        (low.min(at), after.map_or(u64::MAX, |(start, _)| *start))
    }

    /// Where what is there from `at` on ends; `at` itself if nothing is.
    pub(super) fn end_of(&self, file: FileId, at: u64) -> u64 {
        let before = self.files.get(&file).and_then(|chunks| chunks.range(..=at).next_back());
        before.map_or(at, |(start, chunk)| at.max(start + chunk.data.len() as u64))
    }

    /// Keeps a range; returns whose chunks had to go for it.
    pub(super) fn insert(&mut self, file: FileId, start: u64, data: Bytes) -> Vec<FileId> {
        if data.is_empty() {
            return Vec::new();
        }
        self.remove(file, start, start + data.len() as u64);
        let data = match data.len() < COPY_BYTES_MAX {
            true => Bytes::copy_from_slice(&data),
            false => data,
        };
        self.keep(file, start, data);
        let mut gone = Vec::new();
        while self.bytes > self.bytes_max {
            let Some((_, (file, start))) = self.order.pop_first() else { break };
            self.drop_chunk(file, start);
            gone.push(file);
        }
        gone
    }

    fn keep(&mut self, file: FileId, start: u64, data: Bytes) {
        self.tick += 1;
        let rank = Rank::Kept(self.tick);
        self.bytes += data.len() as u64 + CHUNK_BYTES_EXTRA;
        self.order.insert(rank, (file, start));
        self.files.entry(file).or_default().insert(start, Chunk { data, rank });
    }

    fn drop_chunk(&mut self, file: FileId, start: u64) -> Option<Bytes> {
        let chunks = self.files.get_mut(&file)?;
        let chunk = chunks.remove(&start)?;
        if chunks.is_empty() {
            self.files.remove(&file);
        }
        self.order.remove(&chunk.rank);
        self.bytes -= chunk.data.len() as u64 + CHUNK_BYTES_EXTRA;
        Some(chunk.data)
    }

    /// Drops what is between `from` and `until`; what is left and right of it stays.
    pub(super) fn remove(&mut self, file: FileId, from: u64, until: u64) {
        loop {
            let Some(chunks) = self.files.get(&file) else { return };
            let last = chunks.range(..until).next_back();
            let Some((&start, chunk)) = last else { return };
            let end = start + chunk.data.len() as u64;
            if end <= from {
                return;
            }
            let Some(data) = self.drop_chunk(file, start) else { return };
            if end > until {
                self.keep(file, until, data.slice((until - start) as usize..));
            }
            if start < from {
                self.keep(file, start, data.slice(..(from - start) as usize));
                return;
            }
        }
    }

    /// Drops everything of a file.
    pub(super) fn forget(&mut self, file: FileId) {
        self.remove(file, 0, u64::MAX);
    }
}
