//! What the receiver tells of its version of a file: two checksums of every whole block.

use super::weak::Weak;
use super::{DELTA_BYTES_MAX, DELTA_BYTES_MIN};

/// Blocks of the largest signature: 1.5 MiB on the wire, 4 MiB when it is indexed. A file with
/// more has larger blocks.
pub const BLOCK_COUNT_MAX: u64 = 1 << 17;
/// Bytes of one block in a signature: four of the weak checksum, eight of BLAKE3.
const BLOCK_SIGNATURE_BYTES: usize = 12;
/// Files up to this size have small blocks.
const SMALL_FILE_BYTES_MAX: u64 = 64 << 20;
/// Different blocks in one slot of the index; more are left out. A signature that is made to fill
/// one slot must not make every look-up a long one.
const SLOT_BLOCK_COUNT_MAX: usize = 8;
/// No block.
const NONE: u32 = u32::MAX;

/// A signature that does not belong to a file of that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a signature is not one of a file of {0} bytes")]
pub struct SignatureError(u64);

/// Bytes of a block in a file of that size. Both ends compute it, so it does not travel.
pub(super) fn block_bytes(size: u64) -> usize {
    let mut block = if size <= SMALL_FILE_BYTES_MAX { 4 << 10 } else { 16 << 10 };
    while size / block > BLOCK_COUNT_MAX {
        block *= 2;
    }
    usize::try_from(block).unwrap_or(usize::MAX)
}

/// Whether a file of that size has a signature.
pub fn has_signature(size: u64) -> bool {
    (DELTA_BYTES_MIN..=DELTA_BYTES_MAX).contains(&size)
}

pub(super) fn strong(block: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(block).as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Makes the signature of a file that is read from its beginning.
#[derive(Debug)]
pub struct Signer {
    block: usize,
    /// The block that has begun.
    begun: Vec<u8>,
    made: Vec<u8>,
}

impl Signer {
    /// For a file of `size` bytes, for which [`has_signature`].
    pub fn new(size: u64) -> Self {
        Self { block: block_bytes(size), begun: Vec::new(), made: Vec::new() }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, mut data: &[u8]) {
        if !self.begun.is_empty() {
            let (head, rest) = data.split_at(data.len().min(self.block - self.begun.len()));
            self.begun.extend_from_slice(head);
            data = rest;
            if self.begun.len() < self.block {
                return;
            }
            sign(&self.begun, &mut self.made);
            self.begun.clear();
        }
        let blocks = data.chunks_exact(self.block);
        self.begun.extend_from_slice(blocks.remainder());
        blocks.for_each(|block| sign(block, &mut self.made));
    }

    /// The signature. A last block that is not whole is not in it.
    pub fn finish(self) -> Vec<u8> {
        self.made
    }
}

fn sign(block: &[u8], made: &mut Vec<u8>) {
    made.extend_from_slice(&Weak::of(block).value().to_be_bytes());
    made.extend_from_slice(&strong(block).to_be_bytes());
}

/// A signature in which blocks can be looked up.
#[derive(Debug)]
pub struct Signature {
    pub(super) block: usize,
    weak: Vec<u32>,
    strong: Vec<u64>,
    /// The first block of each slot; a power of two of them.
    slots: Vec<u32>,
    /// The next block in the slot of each block.
    next: Vec<u32>,
}

impl Signature {
    /// Takes a signature of a file of `size` bytes from the other end.
    ///
    /// # Errors
    /// If it has not the length that such a file's has: it says nothing else that could be wrong
    /// and not be found by the digest of what is made with it.
    pub fn parse(bytes: &[u8], size: u64) -> Result<Self, SignatureError> {
        let block = block_bytes(size);
        let (blocks, rest) = bytes.as_chunks::<BLOCK_SIGNATURE_BYTES>();
        let fits =
            has_signature(size) && rest.is_empty() && blocks.len() as u64 == size / block as u64;
        if !fits {
            return Err(SignatureError(size));
        }
        let (mut weak, mut strong) = (Vec::new(), Vec::new());
        for [a, b, c, d, hash @ ..] in blocks {
            weak.push(u32::from_be_bytes([*a, *b, *c, *d]));
            strong.push(u64::from_be_bytes(*hash));
        }
        let slots = vec![NONE; (2 * blocks.len()).next_power_of_two()];
        let next = vec![NONE; blocks.len()];
        let mut made = Self { block, weak, strong, slots, next };
        // Backwards, so that the first of the blocks of a slot is found first.
        (0..blocks.len()).rev().for_each(|at| made.insert(at));
        Ok(made)
    }

    fn insert(&mut self, block: usize) {
        let mut length = 0;
        for other in self.in_slot(self.weak[block]) {
            length += 1;
            let is_same =
                (self.weak[other], self.strong[other]) == (self.weak[block], self.strong[block]);
            if is_same || length == SLOT_BLOCK_COUNT_MAX {
                return;
            }
        }
        let slot = self.slot(self.weak[block]);
        self.next[block] = self.slots[slot];
        // At most BLOCK_COUNT_MAX.
        self.slots[slot] = block as u32;
    }

    fn slot(&self, weak: u32) -> usize {
        (weak.wrapping_mul(0x85EB_CA6B) >> (32 - self.slots.len().trailing_zeros())) as usize
    }

    fn in_slot(&self, weak: u32) -> impl Iterator<Item = usize> + use<'_> {
        let found = |at: u32| (at != NONE).then_some(at as usize);
        std::iter::successors(found(self.slots[self.slot(weak)]), move |at| found(self.next[*at]))
    }

    /// The blocks with that weak checksum.
    pub(super) fn with_weak(&self, weak: u32) -> impl Iterator<Item = usize> + use<'_> {
        self.in_slot(weak).filter(move |block| self.weak[*block] == weak)
    }

    /// Whether that block is there and has this content.
    pub(super) fn is_strong(&self, block: usize, hash: u64) -> bool {
        self.strong.get(block) == Some(&hash)
    }

    pub(super) fn holds(&self, block: usize) -> bool {
        block < self.strong.len()
    }
}
