//! What a finished operation wrote, as a file: the offset of its first byte (u64, big-endian), then
//! records of stream (u8), length (u32), time in milliseconds since 1970 (u64) and so many bytes.
//!
//! The agent's spool has the same records. Here one more kind of stream stands for a gap, whose
//! eight bytes say how long it is. A file that ends in the middle of a record has been written by a
//! process that was killed: what is whole of it counts.

use std::io::{self, Read, Write};

/// The stream of a record that stands for output that was not kept.
const GAP: u8 = 0xff;
/// Bytes of a record before its data.
const HEAD_BYTES: usize = 13;
/// Most data of one record; more is cut into several. A longer one is not ours.
const DATA_BYTES_MAX: usize = 1 << 20;

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// 0 standard output, 1 standard error.
    pub stream: u8,
    /// Of the first byte in the output, both streams together.
    pub offset: u64,
    /// When it was written, milliseconds since 1970.
    pub time_ms: u64,
    /// The bytes.
    pub data: Vec<u8>,
}

/// Writes the output of an operation. Buffer what it writes to.
pub struct OutputWriter<W: Write> {
    out: W,
    /// The offset behind the last byte; none before the first.
    next: Option<u64>,
}

impl<W: Write> OutputWriter<W> {
    /// Writes to an empty file.
    pub fn new(out: W) -> Self {
        Self { out, next: None }
    }

    /// Adds a piece. What was added before is left out, so a piece may come twice; what is missing
    /// before it is written down as a gap.
    ///
    /// # Errors
    /// If it cannot be written; the file ends in the middle of a record then.
    pub fn append(&mut self, stream: u8, offset: u64, time_ms: u64, data: &[u8]) -> io::Result<()> {
        let next = match self.next {
            Some(next) => next,
            None => {
                self.out.write_all(&offset.to_be_bytes())?;
                offset
            }
        };
        if let Some(missing) = offset.checked_sub(next).filter(|missing| *missing > 0) {
            self.record(GAP, time_ms, &missing.to_be_bytes())?;
        }
        let known = usize::try_from(next.saturating_sub(offset)).unwrap_or(usize::MAX);
        let new = data.get(known..).unwrap_or_default();
        for part in new.chunks(DATA_BYTES_MAX) {
            self.record(stream, time_ms, part)?;
        }
        self.next = Some(next.max(offset + data.len() as u64));
        Ok(())
    }

    /// The offset behind the last byte.
    pub fn next_offset(&self) -> u64 {
        self.next.unwrap_or(0)
    }

    /// Sends what is buffered on its way.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn record(&mut self, stream: u8, time_ms: u64, data: &[u8]) -> io::Result<()> {
        let length = u32::try_from(data.len()).expect("at most DATA_BYTES_MAX");
        let mut head = [0; HEAD_BYTES];
        head[0] = stream;
        head[1..5].copy_from_slice(&length.to_be_bytes());
        head[5..].copy_from_slice(&time_ms.to_be_bytes());
        self.out.write_all(&head)?;
        self.out.write_all(data)
    }
}

/// Reads the output of an operation, piece by piece. A gap is a jump of the offset.
pub struct OutputReader<R: Read> {
    from: R,
    /// The offset of the next byte; none before the file's first bytes were read.
    next: Option<u64>,
    over: bool,
}

impl<R: Read> OutputReader<R> {
    /// Reads from the start of a file. Buffer what it reads from.
    pub fn new(from: R) -> Self {
        Self { from, next: None, over: false }
    }

    fn read(&mut self) -> io::Result<Option<Piece>> {
        let mut next = match self.next {
            Some(next) => next,
            None => {
                let mut offset = [0; 8];
                if !whole(&mut self.from, &mut offset)? {
                    return Ok(None);
                }
                u64::from_be_bytes(offset)
            }
        };
        loop {
            let mut head = [0; HEAD_BYTES];
            if !whole(&mut self.from, &mut head)? {
                return Ok(None);
            }
            let [stream, l0, l1, l2, l3, time @ ..] = head;
            let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
            if length > DATA_BYTES_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it is damaged: a record is too long",
                ));
            }
            let mut data = vec![0; length];
            if !whole(&mut self.from, &mut data)? {
                return Ok(None);
            }
            if stream == GAP {
                let missing = data.try_into().map_or(0, u64::from_be_bytes);
                next = next.saturating_add(missing);
                continue;
            }
            self.next = Some(next.saturating_add(length as u64));
            let time_ms = u64::from_be_bytes(time);
            return Ok(Some(Piece { stream, offset: next, time_ms, data }));
        }
    }
}

impl<R: Read> Iterator for OutputReader<R> {
    type Item = io::Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let read = self.read().transpose();
        self.over = !matches!(read, Some(Ok(_)));
        read
    }
}

/// Fills the buffer; false if the file ends before it is full.
fn whole(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        other => other.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<(u8, u64, Vec<u8>)> {
        let pieces = OutputReader::new(bytes).map(|piece| piece.expect("readable"));
        pieces.map(|piece| (piece.stream, piece.offset, piece.data)).collect()
    }

    fn written(pieces: &[(u8, u64, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = OutputWriter::new(&mut bytes);
        for (stream, offset, data) in pieces {
            writer.append(*stream, *offset, 7, data).expect("memory has room");
        }
        bytes
    }

    #[test]
    fn pieces_come_back_with_their_offsets() {
        let bytes = written(&[(0, 5, b"abc"), (1, 8, b"d"), (0, 9, b"")]);
        assert_eq!(read(&bytes), [(0, 5, b"abc".to_vec()), (1, 8, b"d".to_vec())]);
        assert_eq!(read(&[]), []);
    }

    #[test]
    fn a_piece_that_comes_twice_is_there_once() {
        let bytes = written(&[(0, 0, b"abc"), (0, 0, b"abc"), (0, 1, b"bcde")]);
        assert_eq!(read(&bytes), [(0, 0, b"abc".to_vec()), (0, 3, b"de".to_vec())]);
    }

    #[test]
    fn a_gap_is_a_jump_of_the_offset() {
        let bytes = written(&[(0, 0, b"abc"), (1, 10, b"d")]);
        assert_eq!(read(&bytes), [(0, 0, b"abc".to_vec()), (1, 10, b"d".to_vec())]);
    }

    #[test]
    fn what_is_whole_before_a_torn_tail_counts() {
        let bytes = written(&[(0, 0, b"abc"), (0, 3, b"defg")]);
        let first = 8 + HEAD_BYTES + 3;
        for length in 0..bytes.len() {
            let expected = usize::from(length >= first);
            assert_eq!(read(&bytes[..length]).len(), expected, "{length} bytes");
        }
    }

    #[test]
    fn a_long_piece_is_cut_and_a_record_that_is_too_long_is_damage() {
        let long = vec![1; DATA_BYTES_MAX + 1];
        let bytes = written(&[(0, 0, &long)]);
        let pieces = read(&bytes);
        assert_eq!((pieces.len(), pieces[1].1), (2, DATA_BYTES_MAX as u64));
        let mut damaged = bytes;
        damaged[9] = 0xff;
        assert!(OutputReader::new(&damaged[..]).any(|piece| piece.is_err()));
        assert_eq!(OutputReader::new(&damaged[..]).count(), 1);
    }
}
