//! A checksum of a block that can be moved on by one byte at a time.
//!
//! Two sums as in rsync's, but of 32 bits each and mixed afterwards: with 16 bits each, blocks of
//! plain text share too many values.

/// Bytes that are summed at once, so that the compiler can do it with vectors.
const LANE_BYTES: usize = 64;

/// The sums of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weak {
    /// Of the bytes.
    sum: u32,
    /// Of the bytes, the first times the length of the block, the last once.
    weighted: u32,
}

impl Weak {
    /// The sums of this block.
    pub(super) fn of(block: &[u8]) -> Self {
        let (mut sum, mut weighted) = (0u32, 0u32);
        let (lanes, rest) = block.as_chunks::<LANE_BYTES>();
        for lane in lanes {
            let (mut lane_sum, mut lane_weighted, mut weight) = (0u32, 0u32, LANE_BYTES as u32);
            for &byte in lane {
                lane_sum += u32::from(byte);
                lane_weighted += u32::from(byte) * weight;
                weight -= 1;
            }
            weighted = weighted
                .wrapping_add(sum.wrapping_mul(LANE_BYTES as u32))
                .wrapping_add(lane_weighted);
            sum = sum.wrapping_add(lane_sum);
        }
        for &byte in rest {
            sum = sum.wrapping_add(u32::from(byte));
            weighted = weighted.wrapping_add(sum);
        }
        Self { sum, weighted }
    }

    /// The sums of the block of `length` bytes that begins one byte later.
    pub(super) fn moved(self, length: usize, out: u8, into: u8) -> Self {
        let sum = self.sum.wrapping_sub(u32::from(out)).wrapping_add(u32::from(into));
        // Only the low bits of the length take part, as of everything here.
        let gone = (length as u32).wrapping_mul(u32::from(out));
        Self { sum, weighted: self.weighted.wrapping_sub(gone).wrapping_add(sum) }
    }

    /// What a signature holds.
    pub(super) fn value(self) -> u32 {
        self.weighted.wrapping_mul(0x9E37_79B1) ^ self.sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn moving_gives_the_sums_of_the_next_block(
            data in proptest::collection::vec(any::<u8>(), 2..400),
            length in 1usize..400,
        ) {
            let length = length.min(data.len() - 1);
            let mut moved = Weak::of(&data[..length]);
            for at in 1..=data.len() - length {
                moved = moved.moved(length, data[at - 1], data[at - 1 + length]);
                prop_assert_eq!(moved, Weak::of(&data[at..at + length]));
            }
        }
    }
}
