//! The output of an operation between the program and whoever reads it: the newest in memory, what
//! is older on the disk, each byte with its offset.
//!
//! It has two manners. While somebody is *attached*, output is kept until the client that has the
//! input has taken it, and when there is no room for more the command waits, as at a pipe. When
//! the operation is *detached*, everything is kept up to the cap; then the oldest goes, and a
//! reader is told exactly what is missing. A disk that cannot be written to is a smaller cap.
//!
//! It does no waiting: whoever owns it asks [`Spool::has_room`] before it reads more.

pub mod record;
mod segments;

use std::collections::VecDeque;
use std::path::Path;

use bytes::{Bytes, BytesMut};

use self::segments::{Open, Read, Segments};
use crate::proto::{OutputFrame, Stream};

/// Output that stays in memory, in bytes.
pub const MEMORY_BYTES_MAX: usize = 1 << 20;
/// Output that stays on the disk beside it if nothing else is asked for, in bytes.
pub const DISK_BYTES_DEFAULT: u64 = 256 << 20;
/// Pieces below this are joined: a program that writes byte by byte would fill the memory with
/// what is around the bytes …
const JOINED_PIECE_BYTES_MAX: usize = 16 << 10;
/// … up to so many in one record …
const JOINED_BYTES_MAX: usize = 64 << 10;
/// … and while they are so close in time that one time is true for all of them.
const JOINED_MS_MAX: u64 = 50;
/// What a record costs beside its data, in bytes.
const RECORD_COST: usize = 64;

/// The spool of one operation.
#[derive(Debug)]
pub struct Spool {
    memory: VecDeque<Record>,
    /// What `memory` costs.
    memory_bytes: usize,
    /// What stays of what was taken.
    memory_bytes_kept: usize,
    /// What there may be before the disk is used.
    memory_bytes_max: usize,
    segments: Segments,
    end: u64,
    taken: u64,
    lost: u64,
    detached: bool,
    last_ms: u64,
}

#[derive(Debug)]
struct Record {
    stream: Stream,
    offset: u64,
    time_ms: u64,
    data: Data,
}

/// Only the last record grows.
#[derive(Debug)]
enum Data {
    Whole(Bytes),
    Growing(BytesMut),
}

impl Record {
    fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Whole(bytes) => bytes,
            Data::Growing(bytes) => bytes,
        }
    }

    fn end(&self) -> u64 {
        self.offset + self.bytes().len() as u64
    }

    /// What is there from an offset on. Of one that grows it is a copy, so that it can grow on.
    fn from(&self, offset: u64) -> Bytes {
        let skipped = usize::try_from(offset - self.offset).unwrap_or(usize::MAX);
        match &self.data {
            Data::Whole(bytes) => bytes.slice(skipped..),
            Data::Growing(bytes) => Bytes::copy_from_slice(&bytes[skipped..]),
        }
    }

    fn cost(&self) -> usize {
        self.bytes().len() + RECORD_COST
    }
}

/// A place in a spool that somebody reads at.
#[derive(Debug)]
pub struct Cursor {
    offset: u64,
    open: Option<Open>,
}

impl Cursor {
    /// A reader that begins at an offset.
    pub fn new(offset: u64) -> Self {
        Self { offset, open: None }
    }

    /// Of the next byte that it reads.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

/// What is next for a reader.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Output.
    Data(OutputFrame),
    /// Output that is gone.
    Gap {
        /// Of the first byte that is missing.
        from: u64,
        /// Of the first byte that is there again.
        to: u64,
    },
    /// It has read everything so far.
    Nothing,
}

impl Spool {
    /// An empty spool that keeps `memory_bytes` in memory and `disk_bytes_max` in `directory`.
    pub fn new(directory: &Path, memory_bytes: usize, disk_bytes_max: u64) -> Self {
        Self {
            memory: VecDeque::new(),
            memory_bytes: 0,
            memory_bytes_kept: memory_bytes,
            memory_bytes_max: memory_bytes,
            segments: Segments::new(directory, disk_bytes_max),
            end: 0,
            taken: 0,
            lost: 0,
            detached: false,
            last_ms: 0,
        }
    }

    /// Bytes of output so far.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The offset of the oldest byte that is there.
    pub fn floor(&self) -> u64 {
        self.segments.first().unwrap_or_else(|| self.memory_first())
    }

    /// The offset of the oldest byte that is in memory.
    pub fn memory_first(&self) -> u64 {
        self.memory.front().map_or(self.end, |record| record.offset)
    }

    /// Where the client that has the input took the output to.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes that nobody took and that are not there any more.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether it is kept for nobody in particular.
    pub fn is_detached(&self) -> bool {
        self.detached
    }

    /// Sets its manner.
    pub fn set_detached(&mut self, detached: bool) {
        self.detached = detached;
        self.evict();
    }

    /// Sets how much may be in memory before the disk is used, if that is more than what stays
    /// there anyway: for output that is on its way to somebody who keeps up.
    pub fn set_memory_bytes_max(&mut self, bytes: usize) {
        self.memory_bytes_max = bytes.max(self.memory_bytes_kept);
    }

    /// Everything below this offset is where it belongs.
    pub fn take(&mut self, offset: u64) {
        self.taken = self.taken.max(offset.min(self.end));
        if !self.detached {
            self.segments.drop_below(self.taken);
        }
        self.evict();
    }

    /// Whether more may be appended. It tries the disk again if that is what it takes.
    pub fn has_room(&mut self) -> bool {
        self.evict();
        self.memory_bytes <= self.memory_bytes_max
    }

    /// Adds all of `data`, which is empty afterwards and keeps what room it has.
    pub fn append(&mut self, stream: Stream, data: &mut BytesMut, now_ms: u64) {
        if data.is_empty() {
            return;
        }
        // A clock that is set back does not make the times fall.
        let time_ms = now_ms.max(self.last_ms);
        self.last_ms = time_ms;
        let offset = self.end;
        self.end += data.len() as u64;
        if let Some(last) = self.memory.back_mut()
            && let Data::Growing(grown) = &mut last.data
        {
            let joins = last.stream == stream
                && time_ms - last.time_ms <= JOINED_MS_MAX
                && grown.len() + data.len() <= JOINED_BYTES_MAX;
            if joins {
                grown.extend_from_slice(data);
                self.memory_bytes += data.len();
                data.clear();
                self.evict();
                return;
            }
            last.data = Data::Whole(std::mem::take(grown).freeze());
        }
        let data = if data.len() < JOINED_PIECE_BYTES_MAX {
            let copy = BytesMut::from(&data[..]);
            data.clear();
            Data::Growing(copy)
        } else {
            Data::Whole(data.split().freeze())
        };
        let record = Record { stream, offset, time_ms, data };
        self.memory_bytes += record.cost();
        self.memory.push_back(record);
        self.evict();
    }

    /// Drops everything that is there.
    pub fn clear(&mut self) {
        self.memory.clear();
        self.memory_bytes = 0;
        self.segments.drop_below(self.end);
    }

    /// Makes the memory what it may be, as far as that is possible.
    fn evict(&mut self) {
        while self.memory_bytes > self.memory_bytes_kept {
            let Some(oldest) = self.memory.front() else { return };
            if !self.detached && oldest.end() <= self.taken {
                self.forget_oldest();
                // What is older was taken too: nothing may be missing in between.
                self.segments.drop_below(self.taken);
                continue;
            }
            if self.memory_bytes <= self.memory_bytes_max {
                return;
            }
            let (stream, offset, time_ms) = (oldest.stream, oldest.offset, oldest.time_ms);
            if self.segments.push(stream, offset, time_ms, oldest.bytes()) {
                self.forget_oldest();
                continue;
            }
            if !self.detached {
                return;
            }
            let (first, end) = match self.segments.drop_oldest() {
                Some(dropped) => dropped,
                None => self.forget_oldest(),
            };
            self.lost += end.saturating_sub(first.max(self.taken));
        }
    }

    fn forget_oldest(&mut self) -> (u64, u64) {
        let Some(oldest) = self.memory.pop_front() else { return (self.end, self.end) };
        self.memory_bytes -= oldest.cost();
        (oldest.offset, oldest.end())
    }

    /// What is next for a reader.
    pub fn read(&self, cursor: &mut Cursor) -> Piece {
        let floor = self.floor();
        if cursor.offset < floor {
            return cursor.skip(floor);
        }
        if cursor.offset < self.memory_first() {
            match self.segments.read(&mut cursor.open, cursor.offset) {
                Ok(Read::Data(stream, time_ms, data)) => return cursor.take(stream, time_ms, data),
                Ok(Read::NotHere) => return Piece::Nothing,
                // The disk does not give it back.
                Err(end) => return cursor.skip(end),
            }
        }
        cursor.open = None;
        let index = self.memory.partition_point(|record| record.end() <= cursor.offset);
        match self.memory.get(index) {
            Some(record) => {
                let data = record.from(cursor.offset);
                cursor.take(record.stream, record.time_ms, data)
            }
            None => Piece::Nothing,
        }
    }

    /// Where the last `count` lines begin, of one stream or of both. A last line that has no end
    /// yet is a line.
    pub fn lines(&self, count: u64, only: Option<Stream>) -> u64 {
        let mut search = LineSearch { count, only, begun: false };
        if count == 0 {
            return self.end;
        }
        for record in self.memory.iter().rev() {
            if let Some(found) = search.look(record.stream, record.offset, record.bytes()) {
                return found;
            }
        }
        for records in self.segments.backwards() {
            for record in records.iter().rev() {
                if let Some(found) = search.look(record.stream, record.offset, &record.data) {
                    return found;
                }
            }
        }
        self.floor()
    }

    /// Where the output begins that was written at that time or later; a little of what was written
    /// just before is there too if it may be in one record with it.
    pub fn since(&self, time_ms: u64) -> u64 {
        let time_ms = time_ms.saturating_sub(JOINED_MS_MAX);
        self.segments.since(time_ms).unwrap_or_else(|| {
            let index = self.memory.partition_point(|record| record.time_ms < time_ms);
            self.memory.get(index).map_or(self.end, |record| record.offset)
        })
    }
}

impl Cursor {
    fn take(&mut self, stream: Stream, time_ms: u64, data: Bytes) -> Piece {
        let offset = self.offset;
        self.offset += data.len() as u64;
        Piece::Data(OutputFrame { stream: stream.into(), offset, data, time_ms })
    }

    fn skip(&mut self, to: u64) -> Piece {
        let from = std::mem::replace(&mut self.offset, to);
        self.open = None;
        Piece::Gap { from, to }
    }
}

/// A search for the beginning of a line, from the end backwards.
struct LineSearch {
    /// Lines that are still to be found.
    count: u64,
    only: Option<Stream>,
    /// The newest byte has been seen.
    begun: bool,
}

impl LineSearch {
    fn look(&mut self, stream: Stream, offset: u64, data: &[u8]) -> Option<u64> {
        if self.only.is_some_and(|only| only != stream) {
            return None;
        }
        for (index, &byte) in data.iter().enumerate().rev() {
            // The newest byte ends the last line and begins none.
            let newest = !std::mem::replace(&mut self.begun, true);
            if byte == b'\n' && !newest {
                self.count -= 1;
                if self.count == 0 {
                    return Some(offset + index as u64 + 1);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
