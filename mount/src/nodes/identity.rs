//! Which number an object has for the kernel.
//!
//! The number is also what `stat` shows, and has to be the same after the next mount: git reads
//! every file again whose inode number is another. So it is made from the object alone.

use std::hash::Hasher;

use super::{NodeId, ROOT};
use crate::source::ObjectId;

/// Set in numbers that are no inode numbers of the root's file system.
const FOREIGN: u64 = 1 << 63;

/// The number of an object, if no other has it: its inode, on the file system of the root.
pub(super) fn number(object: ObjectId, root_device: u64) -> NodeId {
    let is_plain = object.inode > ROOT && object.inode & FOREIGN == 0;
    if object.device == root_device && is_plain {
        return object.inode;
    }
    let mixed = mix(mix(object.device).wrapping_add(object.inode));
    mixed | FOREIGN
}

/// The number to try after this one.
pub(super) fn next(number: NodeId) -> NodeId {
    number.wrapping_add(1) | FOREIGN
}

/// Spreads the bits of a number (the end of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Hashes node numbers: they are looked up several times in each request.
#[derive(Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = mix(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }
}
