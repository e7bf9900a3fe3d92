use proptest::prelude::*;

use super::*;
use crate::proto::{Chunk, SupplyReply};

fn message(data: Vec<u8>) -> SupplyReply {
    let chunk = Chunk { data: data.into(), ..Chunk::default() };
    SupplyReply { chunks: vec![chunk], ..SupplyReply::default() }
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn slow() -> Packer {
    Packer { pace: Pace { is_slow: true, ..Pace::default() }, ..Packer::default() }
}

/// Whether a link that takes so many bytes at once in so many milliseconds is slow, if the sender
/// needs so many itself.
fn is_slow(bytes: u64, link_ms: u64, own_ms: u64) -> bool {
    let mut pace = Pace::default();
    let mut now = Instant::now();
    for _ in 0..100 {
        now += Duration::from_millis(own_ms);
        let begun = now;
        now += Duration::from_millis(link_ms);
        pace.sent(bytes, begun, now);
    }
    pace.is_slow
}

#[test]
fn a_link_is_slow_if_the_sender_waits_for_it() {
    assert!(is_slow(256 << 10, 20, 1), "12 MiB/s");
    assert!(is_slow(1 << 20, 1000, 0), "1 MiB/s");
    assert!(!is_slow(256 << 10, 0, 1), "it never waits");
    assert!(!is_slow(256 << 10, 2, 20), "the sender itself is slow");
    assert!(!is_slow(1 << 20, 4, 0), "250 MiB/s");
}

#[test]
fn nothing_is_packed_before_the_link_was_seen_to_be_slow() {
    let mut packer = Packer::default();
    assert_eq!(packer.pack(&message(vec![0; 100_000])), None);
    let packed = slow().pack(&message(vec![0; 100_000])).expect("it gets smaller");
    assert!(packed.data.len() < 1000);
}

#[test]
fn what_does_not_get_smaller_goes_as_it_is_and_is_tried_less_and_less() {
    let mut packer = slow();
    let dense = message(noise(100_000));
    let mut tries = 0;
    for _ in 0..200 {
        tries += u32::from(packer.skip == 0);
        assert_eq!(packer.pack(&dense), None);
    }
    assert!((5..20).contains(&tries), "{tries}");
    let sparse = message(vec![1; 100_000]);
    assert!((0..=SKIPPED_MAX).any(|_| packer.pack(&sparse).is_some()), "it is tried again");
    assert!(packer.pack(&sparse).is_some(), "and every time from then on");
}

#[test]
fn a_bomb_is_refused() {
    let huge = vec![0; 64 << 20];
    let mut data = vec![0; 1 << 20];
    let length = zstd_safe::compress(&mut data[..], &huge, 1).expect("it is small");
    data.truncate(length);
    for size in [u32::MAX, 64 << 20, 4 << 20, 1 << 20, 0] {
        let packed = Packed { data: data.clone().into(), size };
        assert_eq!(unpack::<SupplyReply>(&packed), Err(WireError::Packed));
    }
    let honest = slow().pack(&message(vec![0; 100_000])).expect("it gets smaller");
    for size in [honest.size - 1, honest.size + 1] {
        let lie = Packed { size, ..honest.clone() };
        assert_eq!(unpack::<SupplyReply>(&lie), Err(WireError::Packed));
    }
}

proptest! {
    #[test]
    fn what_is_packed_is_what_comes_out(data in proptest::collection::vec(0u8..4, 2000..50_000)) {
        let message = message(data);
        let packed = slow().pack(&message).expect("it gets smaller");
        prop_assert_eq!(unpack::<SupplyReply>(&packed), Ok(message));
    }

    #[test]
    fn anything_else_is_refused(data in proptest::collection::vec(any::<u8>(), 0..300), size: u32) {
        let packed = Packed { data: data.into(), size };
        let _ = unpack::<SupplyReply>(&packed);
    }
}
