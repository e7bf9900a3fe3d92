//! Finds out what of a file need not travel, because the receiver's version holds the same bytes.
//!
//! The receiver sends a signature: two checksums for each block of the version that it has. The
//! sender looks for those blocks in the new version, at any offset, and says for each stretch
//! either the bytes or where the receiver has them. The receiver writes both one after the other
//! and compares the digest of the whole, so nothing here has to be trusted: what is wrong costs a
//! second transfer and never content.
//!
//! It is rsync's way, written anew instead of taking `fast_rsync`, for four reasons. That one needs
//! the whole base in memory (or mapped, where a file that another process cuts off kills us); this
//! one goes through both files with a buffer of a few blocks, so that blocks are found wherever
//! they moved, not only near their old offset. A signature can be made there to take hours of
//! hashing; here failed looks have a budget. It gives one serialised patch that the receiver has to
//! parse; a stretch is a message of its own here, checked as any other chunk. And it looks at the
//! place where a block is to be expected first, so that what did not change costs one hash and no
//! search.
//!
//! Memory, at most, for a file of 4 GiB (131,072 blocks of 32 KiB): the signature 1.5 MiB on either
//! side, the sender's index of it 3.5 MiB, the sender's buffer one block and two reads. Blocks grow
//! with the file, so only the buffer does: 16 MiB at 1 TiB, beyond which there are no deltas.
//!
//! Pure: it reads nothing and is told what was read.

mod signature;
mod weak;

pub use signature::{BLOCK_COUNT_MAX, Signature, SignatureError, Signer, has_signature};

use signature::strong;
use weak::Weak;

/// A smaller file is not worth a signature.
pub const DELTA_BYTES_MIN: u64 = 64 << 10;
/// A larger file would need blocks that do not fit in memory.
pub const DELTA_BYTES_MAX: u64 = 1 << 40;
/// Stretches that are longer come in pieces, so that there is progress to see.
pub const COPY_BYTES_MAX: u64 = 8 << 20;
/// Literal bytes in one piece.
pub const LITERAL_BYTES_MAX: usize = 256 << 10;
/// After so many bytes it is decided anew whether looking pays.
const WINDOW_BYTES: u64 = 8 << 20;
/// Looking pays if less than this part of a window had to be sent, in percent.
const PAYING_PERCENT_MAX: u64 = 60;
/// Windows in a row that did not pay, after which blocks are looked for at their old offset only.
const LOST_WINDOWS_MAX: u32 = 2;
/// Bytes that may be hashed in one window for blocks that turned out to be others.
const WASTED_BYTES_MAX: u64 = 16 << 20;

/// A stretch of the new content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch<'a> {
    /// These bytes, at most [`LITERAL_BYTES_MAX`].
    Literal(&'a [u8]),
    /// What the receiver's version has there, at most [`COPY_BYTES_MAX`].
    Copy {
        /// Of the first byte in the receiver's version.
        offset: u64,
        /// Bytes, at least one.
        length: u64,
    },
}

/// Turns new content, as it is read, into stretches.
#[derive(Debug)]
pub struct Differ {
    signature: Signature,
    buffer: Vec<u8>,
    /// Where in the content the buffer begins.
    origin: u64,
    /// What is before this in the buffer was given out.
    given: usize,
    /// Where a block is looked for next; what is between is literal.
    here: usize,
    /// The checksum of the block at `here`, if it was moved there.
    rolling: Option<Weak>,
    /// The block that follows the last one found.
    expected: Option<usize>,
    copy: Option<(u64, u64)>,
    window: Window,
}

/// What looking has cost and brought since the last decision.
#[derive(Debug, Default)]
struct Window {
    bytes: u64,
    literal: u64,
    wasted: u64,
    lost_in_row: u32,
}

impl Window {
    fn is_searched(&self) -> bool {
        self.lost_in_row < LOST_WINDOWS_MAX && self.wasted < WASTED_BYTES_MAX
    }

    fn add(&mut self, bytes: u64, is_literal: bool) {
        self.bytes += bytes;
        if is_literal {
            self.literal += bytes;
        } else if self.lost_in_row >= LOST_WINDOWS_MAX {
            // Here the versions are alike again.
            self.lost_in_row = 0;
        }
        if self.bytes >= WINDOW_BYTES {
            let has_paid = self.literal * 100 < self.bytes * PAYING_PERCENT_MAX;
            let lost_in_row = if has_paid { 0 } else { self.lost_in_row + 1 };
            *self = Self { lost_in_row, ..Self::default() };
        }
    }
}

impl Differ {
    /// For content of which the receiver has the first `origin` bytes already.
    pub fn new(signature: Signature, origin: u64) -> Self {
        let block = signature.block as u64;
        let expected =
            usize::try_from(origin / block).ok().filter(|_| origin.is_multiple_of(block));
        Self {
            signature,
            buffer: Vec::new(),
            origin,
            given: 0,
            here: 0,
            rolling: None,
            expected,
            copy: None,
            window: Window::default(),
        }
    }

    /// Takes the next bytes and gives what is decided. An error of `give` ends it and is returned.
    ///
    /// # Errors
    /// Those of `give`.
    pub fn feed<E>(
        &mut self,
        data: &[u8],
        give: &mut impl FnMut(Stretch<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.buffer.extend_from_slice(data);
        let block = self.signature.block;
        while self.buffer.len() - self.here >= block {
            if let Some(found) = self.look() {
                self.take(found, give)?;
            } else if !self.advance() {
                break;
            }
            if self.here - self.given >= LITERAL_BYTES_MAX {
                self.literal(self.here, give)?;
            }
        }
        self.buffer.drain(..self.given);
        self.origin += self.given as u64;
        self.here -= self.given;
        self.given = 0;
        Ok(())
    }

    /// Gives the rest.
    ///
    /// # Errors
    /// Those of `give`.
    pub fn finish<E>(
        mut self,
        give: &mut impl FnMut(Stretch<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.literal(self.buffer.len(), give)?;
        self.flush(give)
    }

    /// The block of the receiver's version that is here.
    fn look(&mut self) -> Option<usize> {
        let block = self.signature.block;
        let data = &self.buffer[self.here..self.here + block];
        if self.rolling.is_none()
            && let Some(expected) = self.expected
            && self.signature.is_strong(expected, strong(data))
        {
            return Some(expected);
        }
        if !self.window.is_searched() {
            return None;
        }
        let weak = *self.rolling.get_or_insert_with(|| Weak::of(data));
        let mut hash = None;
        for candidate in self.signature.with_weak(weak.value()) {
            let hash = *hash.get_or_insert_with(|| strong(data));
            if self.signature.is_strong(candidate, hash) {
                return Some(candidate);
            }
        }
        if hash.is_some() {
            self.window.wasted += block as u64;
        }
        None
    }

    /// Goes on to where a block may be next; false if the bytes for that are not there yet.
    fn advance(&mut self) -> bool {
        let block = self.signature.block;
        if let (true, Some(weak)) = (self.window.is_searched(), self.rolling) {
            let Some(&into) = self.buffer.get(self.here + block) else { return false };
            self.rolling = Some(weak.moved(block, self.buffer[self.here], into));
            self.here += 1;
            return true;
        }
        // To the next place where the receiver's version has a block.
        let position = self.origin + self.here as u64;
        let next = position / block as u64 + 1;
        let skip = next * block as u64 - position;
        let expected = usize::try_from(next).ok().filter(|next| self.signature.holds(*next));
        // A skip is at most a block, and a block is here.
        self.here += usize::try_from(skip).unwrap_or(block).min(block);
        (self.rolling, self.expected) = (None, expected);
        true
    }

    fn take<E>(
        &mut self,
        found: usize,
        give: &mut impl FnMut(Stretch<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.literal(self.here, give)?;
        let block = self.signature.block;
        let (offset, length) = (found as u64 * block as u64, block as u64);
        self.window.add(length, false);
        match &mut self.copy {
            Some((from, so_far))
                if *from + *so_far == offset && *so_far + length <= COPY_BYTES_MAX =>
            {
                *so_far += length;
            }
            _ => {
                self.flush(give)?;
                self.copy = Some((offset, length));
            }
        }
        self.here += block;
        self.given = self.here;
        (self.rolling, self.expected) = (None, Some(found + 1));
        Ok(())
    }

    /// Gives the bytes up to `end`.
    fn literal<E>(
        &mut self,
        end: usize,
        give: &mut impl FnMut(Stretch<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if end > self.given {
            self.flush(give)?;
        }
        for piece in self.buffer[self.given..end].chunks(LITERAL_BYTES_MAX) {
            self.window.add(piece.len() as u64, true);
            give(Stretch::Literal(piece))?;
        }
        self.given = end;
        Ok(())
    }

    fn flush<E>(&mut self, give: &mut impl FnMut(Stretch<'_>) -> Result<(), E>) -> Result<(), E> {
        match self.copy.take() {
            Some((offset, length)) => give(Stretch::Copy { offset, length }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
