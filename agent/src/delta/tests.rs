use proptest::prelude::*;

use super::*;

fn signature(base: &[u8], piece: usize) -> Vec<u8> {
    let mut signer = Signer::new(base.len() as u64);
    base.chunks(piece).for_each(|data| signer.feed(data));
    signer.finish()
}

/// The new content as the receiver puts it together, and how many of its bytes had to be sent.
fn restore_from(signature: &[u8], base: &[u8], target: &[u8], piece: usize) -> (Vec<u8>, usize) {
    restore_after(signature, base, target, piece, 0)
}

fn restore_after(
    signature: &[u8],
    base: &[u8],
    target: &[u8],
    piece: usize,
    origin: usize,
) -> (Vec<u8>, usize) {
    let signature = Signature::parse(signature, base.len() as u64).expect("a signature");
    let mut differ = Differ::new(signature, origin as u64);
    let (mut made, mut sent) = (target[..origin].to_vec(), 0);
    let mut give = |stretch: Stretch<'_>| {
        match stretch {
            Stretch::Literal(data) => {
                assert!((1..=LITERAL_BYTES_MAX).contains(&data.len()));
                sent += data.len();
                made.extend_from_slice(data);
            }
            Stretch::Copy { offset, length } => {
                assert!((1..=COPY_BYTES_MAX).contains(&length));
                let offset = usize::try_from(offset).expect("small");
                made.extend_from_slice(&base[offset..][..usize::try_from(length).expect("small")]);
            }
        }
        Ok::<(), ()>(())
    };
    target[origin..].chunks(piece).for_each(|data| differ.feed(data, &mut give).expect("taken"));
    differ.finish(&mut give).expect("taken");
    (made, sent)
}

#[track_caller]
fn sent(base: &[u8], target: &[u8]) -> usize {
    let (made, sent) = restore_from(&signature(base, 256 << 10), base, target, 256 << 10);
    assert!(made == target, "the receiver has another content");
    sent
}

/// Bytes that look like nothing.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn what_did_not_change_is_not_sent() {
    let base = noise(1, 3_000_000);
    let tail = base.len() % 4096;
    assert_eq!(sent(&base, &base), tail);
    assert_eq!(sent(&base, &base[..2_000_000 / 4096 * 4096]), 0);
    let longer = [&base[..], &noise(2, 1000)].concat();
    assert_eq!(sent(&base, &longer), tail + 1000);
}

#[test]
fn a_change_costs_the_blocks_it_touches() {
    let base = noise(1, 4 << 20);
    let mut target = base.clone();
    for at in [0, 9_000, 2_000_000, (4 << 20) - 1] {
        target[at] ^= 1;
    }
    assert_eq!(sent(&base, &target), 4 * 4096);
}

#[test]
fn what_moved_is_found_however_far() {
    let base = noise(1, 20 << 20);
    let target = [&noise(2, 1 << 20), &base[(9 << 20) + 5..], &base[..9 << 20]].concat();
    let sent = sent(&base, &target);
    assert!(sent < (1 << 20) + 3 * 4096, "{sent} bytes");
}

#[test]
fn blocks_that_are_all_the_same_are_found_and_cost_no_search() {
    let base = vec![0; 8 << 20];
    let target = [&noise(1, 100)[..], &base].concat();
    assert!(sent(&base, &target) < 100 + 4096);
}

#[test]
fn a_file_that_is_another_after_a_while_is_given_up_and_taken_up_again() {
    let base = noise(1, 40 << 20);
    let other = noise(2, 24 << 20);
    let target = [&other, &base[24 << 20..]].concat();
    let signature = Signature::parse(&signature(&base, 1 << 20), base.len() as u64);
    let mut differ = Differ::new(signature.expect("a signature"), 0);
    let mut give = |_: Stretch<'_>| Ok::<(), ()>(());
    differ.feed(&target[..20 << 20], &mut give).expect("taken");
    assert!(!differ.window.is_searched(), "nothing was found in 20 MiB");
    differ.feed(&target[20 << 20..30 << 20], &mut give).expect("taken");
    assert!(differ.window.is_searched(), "it is alike again");
    assert_eq!(sent(&base, &target), 24 << 20);
}

#[test]
fn a_signature_that_promises_blocks_and_holds_none_costs_little() {
    // The weak checksum of every block of zeros with hashes of something else.
    let size = 64 << 20;
    let one = [&Weak::of(&vec![0; 4096]).value().to_be_bytes()[..], &[7; 8]].concat();
    let lie = one.repeat(size / 4096);
    let mut differ = Differ::new(Signature::parse(&lie, size as u64).expect("its length"), 0);
    let zeros = vec![0; 4 << 20];
    let mut sent = 0;
    let mut give = |stretch: Stretch<'_>| match stretch {
        Stretch::Literal(data) => {
            sent += data.len();
            Ok(())
        }
        Stretch::Copy { .. } => Err("found"),
    };
    differ.feed(&zeros, &mut give).expect("nothing is found");
    assert!(differ.window.wasted <= WASTED_BYTES_MAX, "{}", differ.window.wasted);
    differ.finish(&mut give).expect("nothing is found");
    assert_eq!(sent, zeros.len());
}

#[test]
fn signatures_of_another_length_are_refused() {
    let made = signature(&noise(1, 100_000), 100_000);
    assert!(Signature::parse(&made, 100_000).is_ok());
    for (bytes, size) in [
        (&made[..], 104_000),
        (&made[..], 65_535),
        (&made[..], u64::MAX),
        (&made[..made.len() - 1], 100_000),
        (&made[..made.len() - 12], 100_000),
        (&[], 100_000),
        (&[], 0),
    ] {
        assert!(Signature::parse(bytes, size).is_err(), "{size}");
    }
}

#[test]
fn no_file_has_a_larger_signature_than_the_largest() {
    for size in [DELTA_BYTES_MIN, 64 << 20, (64 << 20) + 1, 1 << 30, 4 << 30, DELTA_BYTES_MAX] {
        let blocks = size / signature::block_bytes(size) as u64;
        assert!((16..=BLOCK_COUNT_MAX).contains(&blocks), "{blocks} blocks of {size} bytes");
    }
    assert_eq!(signature::block_bytes(4 << 30), 32 << 10);
}

#[test]
fn whoever_takes_the_stretches_can_end_it() {
    let base = noise(1, 1 << 20);
    let signature = Signature::parse(&signature(&base, 1 << 20), 1 << 20).expect("a signature");
    let mut differ = Differ::new(signature, 0);
    assert_eq!(differ.feed(&noise(2, 1 << 20), &mut |_| Err("stop")), Err("stop"));
}

/// An edit of a file: where, how much goes, what comes.
fn edits() -> impl Strategy<Value = Vec<(usize, usize, usize, u64)>> {
    proptest::collection::vec((0usize..400_000, 0usize..50_000, 0usize..50_000, any::<u64>()), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_edit_of_any_file_is_restored(
        seed: u64,
        length in 65_536usize..300_000,
        is_dull: bool,
        edits in edits(),
        pieces in (1usize..70_000, 1usize..70_000),
        origin in 0usize..100_000,
    ) {
        let mut base = noise(seed, length);
        if is_dull {
            // Long runs and few values, where blocks are alike.
            base.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at / 10_000) as u8 & 3);
        }
        let mut target = base.clone();
        for (at, gone, come, seed) in edits {
            let at = at.min(target.len());
            let end = (at + gone).min(target.len());
            target.splice(at..end, noise(seed, come));
        }
        let signed = signature(&base, pieces.0);
        prop_assert_eq!(&signed, &signature(&base, length), "pieces make no difference");
        let origin = origin.min(target.len());
        let (made, _) = restore_after(&signed, &base, &target, pieces.1, origin);
        prop_assert!(made == target);
    }

    #[test]
    fn a_signature_of_anything_gives_no_stretch_outside_of_the_base(
        lie in proptest::collection::vec(any::<u8>(), 12 * 16..=12 * 16),
        target in proptest::collection::vec(0u8..2, 0..40_000),
    ) {
        let size = DELTA_BYTES_MIN;
        let mut differ = Differ::new(Signature::parse(&lie, size).expect("its length"), 0);
        let mut length = 0;
        let mut give = |stretch: Stretch<'_>| {
            match stretch {
                Stretch::Literal(data) => length += data.len() as u64,
                Stretch::Copy { offset, length: bytes } => {
                    assert!(offset + bytes <= size);
                    length += bytes;
                }
            }
            Ok::<(), ()>(())
        };
        differ.feed(&target, &mut give).expect("taken");
        differ.finish(&mut give).expect("taken");
        prop_assert_eq!(length, target.len() as u64);
    }
}
