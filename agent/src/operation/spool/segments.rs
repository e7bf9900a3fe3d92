//! The part of a spool that is on the disk: files that follow each other without a gap.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::record::{self, Item, Reader};
use crate::own;
use crate::proto::Stream;

/// Bytes of a full segment: the least that is dropped at a time.
const SEGMENT_BYTES_MAX: u64 = 8 << 20;
/// A small disk part has so many segments at least, so that not all of it is dropped at once.
const SEGMENT_COUNT_MIN: u64 = 4;

/// Segments, the oldest first.
#[derive(Debug)]
pub(super) struct Segments {
    directory: PathBuf,
    bytes_max: u64,
    segment_bytes_max: u64,
    all: VecDeque<Segment>,
    /// In all files together.
    bytes: u64,
    /// The newest, while it can be written to.
    newest: Option<File>,
}

#[derive(Debug)]
struct Segment {
    first: u64,
    end: u64,
    first_ms: u64,
    /// Of the file, without what a failed write left.
    bytes: u64,
}

/// A segment that is being read.
#[derive(Debug)]
pub(super) struct Open {
    first: u64,
    reader: Reader<File>,
}

impl Segments {
    pub(super) fn new(directory: &Path, bytes_max: u64) -> Self {
        Self {
            directory: directory.to_owned(),
            bytes_max,
            segment_bytes_max: SEGMENT_BYTES_MAX.min(bytes_max / SEGMENT_COUNT_MIN),
            all: VecDeque::new(),
            bytes: 0,
            newest: None,
        }
    }

    /// The offset of the oldest byte.
    pub(super) fn first(&self) -> Option<u64> {
        self.all.front().map(|segment| segment.first)
    }

    /// Adds a record at the end; false if there is no room for it.
    pub(super) fn push(&mut self, stream: Stream, offset: u64, time_ms: u64, data: &[u8]) -> bool {
        let length = record::RECORD_HEADER_BYTES + data.len() as u64;
        if self.bytes + record::HEADER_BYTES + length > self.bytes_max {
            return false;
        }
        let fits = |segment: &Segment| segment.bytes + length <= self.segment_bytes_max;
        if self.newest.is_none() || !self.all.back().is_some_and(fits) {
            self.newest = None;
            if self.begin(offset, time_ms).is_err() {
                return false;
            }
        }
        let (Some(file), Some(segment)) = (&mut self.newest, self.all.back_mut()) else {
            return false;
        };
        if record::write(file, stream, time_ms, data).is_err() {
            self.take_back();
            return false;
        }
        segment.bytes += length;
        segment.end = offset + data.len() as u64;
        self.bytes += length;
        true
    }

    fn begin(&mut self, first: u64, first_ms: u64) -> io::Result<()> {
        let path = self.path(first);
        let mut file = File::create(&path)?;
        if let Err(error) = record::write_header(&mut file, first) {
            let _ = own::remove_file(&path);
            return Err(error);
        }
        let bytes = record::HEADER_BYTES;
        self.all.push_back(Segment { first, end: first, first_ms, bytes });
        self.bytes += bytes;
        self.newest = Some(file);
        Ok(())
    }

    /// Takes a record back that could not be written whole.
    fn take_back(&mut self) {
        let Some(segment) = self.all.back() else { return };
        if segment.end == segment.first {
            self.remove_newest();
            return;
        }
        let length = segment.bytes;
        let cut = self.newest.as_mut().map(|file| {
            file.set_len(length)?;
            file.seek(SeekFrom::Start(length))
        });
        if !matches!(cut, Some(Ok(_))) {
            // Nothing more is written to it, and a reader stops before what is not whole.
            self.newest = None;
        }
    }

    fn remove_newest(&mut self) {
        self.newest = None;
        if let Some(segment) = self.all.pop_back() {
            self.removed(&segment);
        }
    }

    fn removed(&mut self, segment: &Segment) {
        self.bytes -= segment.bytes;
        // One that cannot be removed goes with the directory.
        let _ = own::remove_file(&self.path(segment.first));
    }

    /// Drops the oldest segment and returns where it began and ended.
    pub(super) fn drop_oldest(&mut self) -> Option<(u64, u64)> {
        let oldest = self.all.pop_front()?;
        if self.all.is_empty() {
            self.newest = None;
        }
        self.removed(&oldest);
        Some((oldest.first, oldest.end))
    }

    /// Drops the segments that are wholly below an offset.
    pub(super) fn drop_below(&mut self, offset: u64) {
        while self.all.front().is_some_and(|segment| segment.end <= offset) {
            self.drop_oldest();
        }
    }

    /// Reads on at an offset; nothing if it is not there. An error says where to go on.
    pub(super) fn read(&self, open: &mut Option<Open>, offset: u64) -> Result<Read, u64> {
        let index = self.all.partition_point(|segment| segment.end <= offset);
        let Some(segment) = self.all.get(index) else { return Ok(Read::NotHere) };
        let read = || -> io::Result<Option<Item>> {
            let open = match open {
                Some(known) if known.first == segment.first => known,
                other => {
                    let reader = Reader::new(File::open(self.path(segment.first))?)?;
                    other.insert(Open { first: segment.first, reader })
                }
            };
            open.reader.next_from(offset)
        };
        match read() {
            Ok(Some(Item::Data { stream, offset: at, time_ms, data })) if at == offset => {
                Ok(Read::Data(stream, time_ms, data))
            }
            Ok(_) | Err(_) => Err(segment.end),
        }
    }

    /// The offset of the first record that was written at that time or later.
    pub(super) fn since(&self, time_ms: u64) -> Option<u64> {
        let after = self.all.partition_point(|segment| segment.first_ms < time_ms);
        // It may be inside the last one that began before.
        let last_before = after.checked_sub(1).map(|index| &self.all[index]);
        let inside = last_before.and_then(|segment| {
            let records = self.records(segment);
            records.into_iter().find(|record| record.time_ms >= time_ms).map(|found| found.offset)
        });
        inside.or_else(|| self.all.get(after).map(|segment| segment.first))
    }

    /// The records of each segment, the newest segment first.
    pub(super) fn backwards(&self) -> impl Iterator<Item = Vec<Stored>> {
        self.all.iter().rev().map(|segment| self.records(segment))
    }

    fn records(&self, segment: &Segment) -> Vec<Stored> {
        let mut found = Vec::new();
        let file = File::open(self.path(segment.first)).and_then(Reader::new);
        let Ok(mut reader) = file else { return found };
        while let Ok(Some(item)) = reader.next_item() {
            if let Item::Data { stream, offset, time_ms, data } = item {
                found.push(Stored { stream, offset, time_ms, data });
            }
        }
        found
    }

    fn path(&self, first: u64) -> PathBuf {
        self.directory.join(format!("output-{first:016x}"))
    }
}

/// What was read.
pub(super) enum Read {
    Data(Stream, u64, Bytes),
    /// It is in memory, or not yet anywhere.
    NotHere,
}

/// A record as it was stored.
pub(super) struct Stored {
    pub(super) stream: Stream,
    pub(super) offset: u64,
    pub(super) time_ms: u64,
    pub(super) data: Bytes,
}
