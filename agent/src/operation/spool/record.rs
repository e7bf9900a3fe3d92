//! How output is written to a file: a header, then records.
//!
//! The segments of a spool have this form, and so has the archive of an ended operation on the
//! host. Header: the eight magic bytes, the offset of the first record (u64, big endian). Record:
//! stream (u8), length of the data (u32, big endian), milliseconds since 1970 (u64, big endian),
//! the data. A record of stream 255 says that output is missing: its data is the number of bytes
//! (u64, big endian).
//!
//! A file that was cut off anywhere, as by a crash or a full disk, is read up to its last whole
//! record.

use std::io::{self, BufRead as _, BufReader, Read, Seek, Write};

use bytes::Bytes;

use crate::proto::Stream;

/// What such a file begins with.
const MAGIC: [u8; 8] = *b"SKYNCREC";
/// Bytes before the first record.
pub const HEADER_BYTES: u64 = 16;
/// Bytes of a record before its data.
pub const RECORD_HEADER_BYTES: u64 = 13;
/// Most bytes of data in one record; a longer one is no record of ours.
pub const DATA_BYTES_MAX: usize = 1 << 20;
/// In place of a stream: output is missing here.
const MISSING: u8 = 255;
/// Bytes read from the file at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// Begins a file whose first record has this offset.
///
/// # Errors
/// What the system says.
pub fn write_header(to: &mut impl Write, first: u64) -> io::Result<()> {
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(&MAGIC);
    header[8..].copy_from_slice(&first.to_be_bytes());
    to.write_all(&header)
}

/// Writes one record and returns its length in the file. `data` is at most [`DATA_BYTES_MAX`].
///
/// # Errors
/// What the system says; then a part of it may have been written.
pub fn write(to: &mut impl Write, stream: Stream, time_ms: u64, data: &[u8]) -> io::Result<u64> {
    write_parts(to, if stream == Stream::Stdout { 0 } else { 1 }, time_ms, data)
}

/// Writes that so many bytes of output are missing here, and returns the record's length.
///
/// # Errors
/// What the system says.
pub fn write_missing(to: &mut impl Write, bytes: u64) -> io::Result<u64> {
    write_parts(to, MISSING, 0, &bytes.to_be_bytes())
}

fn write_parts(to: &mut impl Write, stream: u8, time_ms: u64, data: &[u8]) -> io::Result<u64> {
    let length = u32::try_from(data.len()).ok().filter(|_| data.len() <= DATA_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("a record is too long"))?;
    let mut header = [0; RECORD_HEADER_BYTES as usize];
    header[0] = stream;
    header[1..5].copy_from_slice(&length.to_be_bytes());
    header[5..].copy_from_slice(&time_ms.to_be_bytes());
    // In one call if the system takes it: a record is often a few bytes.
    let mut rest = [io::IoSlice::new(&header), io::IoSlice::new(data)];
    let mut rest = &mut rest[..];
    while !rest.is_empty() {
        match to.write_vectored(rest) {
            Ok(0) if rest.iter().all(|part| part.is_empty()) => break,
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => io::IoSlice::advance_slices(&mut rest, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(RECORD_HEADER_BYTES + u64::from(length))
}

/// What a file holds next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Output.
    Data {
        /// Where it was written.
        stream: Stream,
        /// Of the first byte of `data`.
        offset: u64,
        /// When its first byte was read, milliseconds since 1970.
        time_ms: u64,
        /// Not empty.
        data: Bytes,
    },
    /// Output that is missing.
    Missing {
        /// Of the first byte that is missing.
        from: u64,
        /// Of the first byte that is there again.
        to: u64,
    },
}

/// Reads such a file from its beginning.
#[derive(Debug)]
pub struct Reader<R> {
    from: BufReader<R>,
    offset: u64,
}

impl<R: Read + Seek> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// If it is no such file, or cannot be read.
    pub fn new(from: R) -> io::Result<Self> {
        let mut from = BufReader::with_capacity(BUFFER_BYTES, from);
        let mut header = [0; HEADER_BYTES as usize];
        from.read_exact(&mut header)?;
        let (magic, first) = header.split_at(8);
        let first = first.try_into().map(u64::from_be_bytes);
        match first {
            Ok(offset) if magic == MAGIC => Ok(Self { from, offset }),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "no file of output records")),
        }
    }

    /// The offset that the next item begins at.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next item; nothing at the end, which is also where a record is not whole.
    ///
    /// # Errors
    /// What the system says.
    pub fn next_item(&mut self) -> io::Result<Option<Item>> {
        self.next_from(0)
    }

    /// The next item that reaches beyond `offset`, without what is below it.
    ///
    /// # Errors
    /// What the system says.
    pub fn next_from(&mut self, offset: u64) -> io::Result<Option<Item>> {
        loop {
            let Some((stream, length, time_ms)) = self.record_header()? else { return Ok(None) };
            let begin = self.offset;
            let end = begin + length as u64;
            if stream != MISSING && end <= offset {
                self.from.seek_relative(length as i64)?;
                self.offset = end;
                continue;
            }
            let Some(mut data) = self.data(length)? else { return Ok(None) };
            if stream == MISSING {
                let bytes = data.as_ref().try_into().map_or(0, u64::from_be_bytes);
                self.offset = begin.saturating_add(bytes);
                if self.offset <= offset {
                    continue;
                }
                return Ok(Some(Item::Missing { from: begin.max(offset), to: self.offset }));
            }
            self.offset = end;
            let skipped = offset.saturating_sub(begin);
            let data = data.split_off(usize::try_from(skipped).unwrap_or(usize::MAX));
            let stream = if stream == 0 { Stream::Stdout } else { Stream::Stderr };
            return Ok(Some(Item::Data { stream, offset: begin + skipped, time_ms, data }));
        }
    }

    fn record_header(&mut self) -> io::Result<Option<(u8, usize, u64)>> {
        let mut header = [0; RECORD_HEADER_BYTES as usize];
        if !self.fill(&mut header)? {
            return Ok(None);
        }
        let [stream, l0, l1, l2, l3, time @ ..] = header;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let known = matches!(stream, 0 | 1) || (stream == MISSING && length == 8);
        // Zeros and worse stand where a machine went down while the file grew.
        let whole = known && (1..=DATA_BYTES_MAX).contains(&length);
        Ok(whole.then_some((stream, length, u64::from_be_bytes(time))))
    }

    fn data(&mut self, length: usize) -> io::Result<Option<Bytes>> {
        let mut data = vec![0; length];
        Ok(self.fill(&mut data)?.then(|| data.into()))
    }

    /// Whether so much was there.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            let part = match self.from.fill_buf() {
                Ok([]) => return Ok(false),
                Ok(part) => part,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let count = part.len().min(buffer.len() - filled);
            buffer[filled..filled + count].copy_from_slice(&part[..count]);
            self.from.consume(count);
            filled += count;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(file: &[u8]) -> Vec<Item> {
        let mut reader = Reader::new(io::Cursor::new(file)).expect("a header");
        std::iter::from_fn(|| reader.next_item().expect("memory is read")).collect()
    }

    fn file() -> Vec<u8> {
        let mut file = Vec::new();
        write_header(&mut file, 100).expect("memory");
        write(&mut file, Stream::Stdout, 5, b"one").expect("memory");
        write_missing(&mut file, 1000).expect("memory");
        write(&mut file, Stream::Stderr, 6, b"two\n").expect("memory");
        file
    }

    #[test]
    fn records_come_back_with_their_offsets() {
        let expected = [
            Item::Data { stream: Stream::Stdout, offset: 100, time_ms: 5, data: "one".into() },
            Item::Missing { from: 103, to: 1103 },
            Item::Data { stream: Stream::Stderr, offset: 1103, time_ms: 6, data: "two\n".into() },
        ];
        assert_eq!(items(&file()), expected);
    }

    #[test]
    fn a_file_that_was_cut_off_is_read_up_to_its_last_whole_record() {
        let whole = file();
        for length in HEADER_BYTES as usize..whole.len() {
            let found = items(&whole[..length]);
            assert!(items(&whole).starts_with(&found) && found.len() < 3, "{length}: {found:?}");
        }
        // What a file system may leave of a write that it had not finished.
        let zeros = [&whole[..], &[0; 4096]].concat();
        assert_eq!(items(&zeros), items(&whole));
    }

    #[test]
    fn what_is_below_an_offset_is_skipped() {
        let file = file();
        let from = |offset| {
            let mut reader = Reader::new(io::Cursor::new(&file)).expect("a header");
            reader.next_from(offset).expect("memory is read")
        };
        let data = |offset, data: &'static str, stream, time_ms| {
            Some(Item::Data { stream, offset, time_ms, data: data.into() })
        };
        assert_eq!(from(102), data(102, "e", Stream::Stdout, 5));
        assert_eq!(from(500), Some(Item::Missing { from: 500, to: 1103 }));
        assert_eq!(from(1106), data(1106, "\n", Stream::Stderr, 6));
        assert_eq!(from(1107), None);
    }
}
