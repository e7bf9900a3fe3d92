//! Reading: what is asked of the source, and when.

use super::*;
use crate::source::{SourceError, Urgency};
use crate::testing::ReadAsked;

fn ranges(reads: &[ReadAsked]) -> Vec<(u64, u32)> {
    reads.iter().map(|read| (read.offset, read.length)).collect()
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_for_an_open_to_read_or_for_what_is_cached() {
    let bench = Bench::new().slow();
    let content = pattern(100 * KIB);
    let node = bench.file("a", &content).await;
    let fh = bench.open(node, READ).await;
    assert_eq!(bench.source.round_trips(), 0);
    assert_eq!(bench.read(fh, 0, 128 * KIB).await, content);
    bench.rest().await;
    let asked = bench.source.round_trips();
    for at in [0, 4 * KIB, 99 * KIB, 100 * KIB, 200 * KIB] {
        let until = content.len().min(at + 8 * KIB);
        assert_eq!(bench.read(fh, at, 8 * KIB).await, content[at.min(until)..until]);
    }
    let other = bench.open(node, READ).await;
    assert_eq!(bench.read(other, 0, 100 * KIB).await, content);
    assert_eq!(bench.source.round_trips(), asked);
}

#[tokio::test(start_paused = true)]
async fn while_a_read_is_answered_its_node_is_being_read() {
    let bench = Bench::new().slow();
    let node = bench.file("a", &pattern(MIB)).await;
    let fh = bench.open(node, READ).await;
    assert!(!bench.contents.is_reading(node));
    let ((), _) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert!(bench.contents.is_reading(node));
            // Somebody who gives up reads no more.
            let given_up = bench.contents.read(fh, 512 * KIB as u64, 1);
            assert!(tokio::time::timeout(Duration::from_millis(1), given_up).await.is_err());
        },
        bench.read(fh, 4 * KIB, 4 * KIB),
    );
    assert!(!bench.contents.is_reading(node));
}

#[tokio::test(start_paused = true)]
async fn random_reads_ask_for_exactly_what_they_need() {
    let bench = Bench::new().slow();
    let content = pattern(MIB);
    let node = bench.file("a", &content).await;
    let fh = bench.open(node, READ).await;
    for at in [700 * KIB, 40 * KIB, 300 * KIB + 1] {
        assert_eq!(bench.read(fh, at, 4 * KIB).await, content[at..at + 4 * KIB]);
    }
    bench.rest().await;
    let expected = [
        (700 * KIB as u64, 4 * KIB as u32),
        (40 * KIB as u64, 4 * KIB as u32),
        (300 * KIB as u64, 8 * KIB as u32),
    ];
    assert_eq!(ranges(&bench.source.reads()), expected);
}

#[tokio::test(start_paused = true)]
async fn a_range_that_several_read_at_once_is_asked_for_once() {
    let bench = Bench::new().slow();
    let content = pattern(MIB);
    let node = bench.file("a", &content).await;
    let (one, other) = (bench.open(node, READ).await, bench.open(node, READ).await);
    let reads = tokio::join!(
        bench.read(one, 512 * KIB, 64 * KIB),
        bench.read(other, 512 * KIB, 64 * KIB),
        bench.read(other, 540 * KIB, 4 * KIB),
        bench.read(one, 560 * KIB, 32 * KIB),
    );
    assert_eq!(reads.0, content[512 * KIB..576 * KIB]);
    assert_eq!(reads.1, reads.0);
    assert_eq!(reads.2, content[540 * KIB..544 * KIB]);
    assert_eq!(reads.3, content[560 * KIB..592 * KIB]);
    let mut asked = ranges(&bench.source.reads());
    asked.sort_unstable();
    let expected = [(512 * KIB, 64 * KIB), (576 * KIB, 16 * KIB)];
    assert_eq!(asked, expected.map(|(offset, length)| (offset as u64, length as u32)));
}

#[tokio::test(start_paused = true)]
async fn a_sequential_reader_is_read_ahead_for_until_the_way_is_full() {
    let bench = Bench::new().slow();
    let content = pattern(48 * MIB);
    let node = bench.file("a", &content).await;
    let fh = bench.open(node, READ).await;
    for at in (0..content.len()).step_by(128 * KIB) {
        assert_eq!(bench.read(fh, at, 128 * KIB).await, content[at..at + 128 * KIB]);
    }
    let reads = bench.source.reads();
    let mut asked = ranges(&reads);
    asked.sort_unstable();
    let mut end = 0;
    for (offset, length) in asked {
        assert_eq!(offset, end, "asked twice, or not at all");
        end = offset + u64::from(length);
    }
    assert_eq!(end, content.len() as u64);
    // The window is reached: so many bytes are on their way at once.
    let at_once = reads.iter().map(|read| read.at_once).max().expect("reads");
    assert!(at_once >= 14, "{at_once} at once");
    let waited_for = reads.iter().filter(|read| read.urgency == Urgency::Now).count();
    assert_eq!(waited_for, 1);
    assert!(reads.len() < 120, "{} requests", reads.len());
    assert!(bench.contents.cached_bytes() <= Limits::default().cache_bytes);
}

#[tokio::test(start_paused = true)]
async fn read_ahead_out_of_order_is_still_reading_on() {
    let bench = Bench::new().slow();
    let content = pattern(8 * MIB);
    let node = bench.file("a", &content).await;
    let fh = bench.open(node, READ).await;
    let step = 128 * KIB;
    for pair in 0..content.len() / step / 2 {
        for at in [2 * pair + 1, 2 * pair].map(|at| at * step) {
            assert_eq!(bench.read(fh, at, step).await, content[at..at + step]);
        }
    }
    let waited_for = bench.source.reads().iter().filter(|r| r.urgency == Urgency::Now).count();
    assert!(waited_for <= 4, "{waited_for} waited for");
}

#[tokio::test(start_paused = true)]
async fn what_changed_is_never_handed_out_from_before() {
    let bench = Bench::new().slow();
    let node = bench.file("a", &pattern(300 * KIB)).await;
    let fh = bench.open(node, READ).await;
    bench.read(fh, 0, 128 * KIB).await;
    // The rest is on its way ahead, and must not be taken for what comes now.
    tokio::time::sleep(Duration::from_millis(15)).await;
    let version = bench.contents.version(node);
    bench.change(node, |path| put(path, &[7; 300 * KIB]));
    assert_ne!(bench.contents.version(node), version);
    for at in [128 * KIB, 0, 256 * KIB] {
        let until = (at + 128 * KIB).min(300 * KIB);
        assert!(bench.read(fh, at, 128 * KIB).await == vec![7; until - at], "at {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_across_a_change_is_not_half_of_each() {
    let bench = Bench::new().slow();
    let node = bench.file("a", &[1; 200 * KIB]).await;
    let fh = bench.open(node, READ).await;
    bench.read(fh, 100 * KIB, 4 * KIB).await;
    let read = bench.read(fh, 96 * KIB, 16 * KIB);
    let changed = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        bench.change(node, |path| put(path, &[2; 200 * KIB]));
    };
    let (read, ()) = tokio::join!(read, changed);
    assert_eq!(read, vec![2; 16 * KIB]);
}

#[tokio::test(start_paused = true)]
async fn a_file_is_opened_once_for_all_that_read_it_and_closed_with_the_last() {
    let bench = Bench::new().slow();
    let node = bench.file("a", &pattern(MIB)).await;
    let (one, other) = (bench.open(node, READ).await, bench.open(node, READ).await);
    tokio::join!(bench.read(one, 512 * KIB, 4 * KIB), bench.read(other, 100 * KIB, 4 * KIB));
    assert_eq!(bench.source.open_handles(), 1);
    bench.contents.release(one);
    bench.read(other, 300 * KIB, 4 * KIB).await;
    assert_eq!(bench.source.open_handles(), 1);
    bench.contents.release(other);
    assert_eq!(bench.source.open_handles(), 0);
    assert_eq!(bench.contents.open_files(), 0);
    assert_eq!(bench.contents.read(other, 0, 1).await, Err(SourceError::Stale));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_removed_through_us_can_be_read_on() {
    let bench = Bench::new().slow();
    let content = pattern(MIB);
    let node = bench.file("a", &content).await;
    let fh = bench.open(node, READ).await;
    bench.contents.pin(node).await.expect("pinned");
    rustix::fs::unlink(bench.path(node)).expect("removed");
    bench.tree.nodes().get_mut(&node).expect("a node").path = None;
    assert_eq!(bench.read(fh, 512 * KIB, 4 * KIB).await, content[512 * KIB..516 * KIB]);
    bench.contents.release(fh);
    assert_eq!(bench.source.open_handles(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_moved_on_its_way_is_read_where_it_is_now() {
    let bench = Bench::new().slow();
    let content = pattern(MIB);
    let node = bench.file("a", &content).await;
    let fh = bench.open(node, READ).await;
    let moved = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let to = bench.directory.path().join("b");
        rustix::fs::rename(bench.path(node), to).expect("moved");
        bench.see(node, "b");
    };
    let (read, ()) = tokio::join!(bench.read(fh, 512 * KIB, 4 * KIB), moved);
    assert_eq!(read, content[512 * KIB..516 * KIB]);
}

#[tokio::test(start_paused = true)]
async fn errors_are_for_the_read_that_met_them() {
    let bench = Bench::new().slow();
    let content = pattern(MIB);
    let node = bench.file("a", &content).await;
    let fh = bench.open(node, READ).await;
    bench.source.fail_next(Request::Read, SourceError::Denied);
    let failed = bench.contents.read(fh, 512 * KIB as u64, 4096).await;
    assert_eq!(failed, Err(SourceError::Denied));
    assert_eq!(bench.read(fh, 512 * KIB, 4096).await, content[512 * KIB..516 * KIB]);
    // One that nobody waited for is asked for again by whoever needs it.
    bench.source.forget_counts();
    bench.read(fh, 0, 128 * KIB).await;
    bench.source.fail_next(Request::Read, SourceError::Denied);
    bench.rest().await;
    assert_eq!(bench.read(fh, 128 * KIB, 128 * KIB).await, content[128 * KIB..256 * KIB]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_became_another_makes_open_files_stale() {
    let bench = Bench::new().slow();
    let node = bench.file("a", &pattern(MIB)).await;
    let fh = bench.open(node, READ).await;
    bench.read(fh, 0, 128 * KIB).await;
    bench.contents.anew();
    assert_eq!(bench.contents.read(fh, 0, 4096).await, Err(SourceError::Stale));
    assert_eq!(bench.contents.flush(fh).await, Ok(()));
    assert_eq!(bench.contents.open_files(), 1);
    bench.contents.release(fh);
    bench.rest().await;
    assert_eq!((bench.contents.open_files(), bench.contents.cached_bytes()), (0, 0));
    let fh = bench.open(node, READ).await;
    assert_eq!(bench.read(fh, 0, 4096).await, pattern(4096));
}

#[tokio::test(start_paused = true)]
async fn another_object_by_the_same_number_is_another_file() {
    let bench = Bench::new().slow();
    let node = bench.file("a", &[1; 512 * KIB]).await;
    bench.file("b", &[2; 512 * KIB]).await;
    let old = bench.open(node, READ).await;
    bench.read(old, 0, 4096).await;
    bench.see(node, "b");
    let new = bench.open(node, READ).await;
    assert_eq!(bench.read(new, 0, 4096).await, vec![2; 4096]);
    assert_eq!(bench.read(old, 256 * KIB, 4096).await, vec![1; 4096]);
    bench.contents.release(old);
    bench.contents.release(new);
    bench.rest().await;
    assert_eq!(bench.source.open_handles(), 0);
}

#[tokio::test(start_paused = true)]
async fn files_that_say_they_are_empty_are_read_each_time() {
    let bench = Bench::new().slow();
    let node = bench.file("a", b"").await;
    let fh = bench.open(node, READ).await;
    put(&bench.path(node), b"one");
    assert_eq!(bench.read(fh, 0, 4096).await, b"one"[..]);
    put(&bench.path(node), b"two, longer");
    assert_eq!(bench.read(fh, 0, 4096).await, b"two, longer"[..]);
    assert_eq!(bench.read(fh, 5, 4096).await, b"longer"[..]);
}

#[tokio::test(start_paused = true)]
async fn the_cache_is_bounded_and_what_was_handed_out_goes_first() {
    let limits = Limits { cache_bytes: 2 * MIB as u64, ..Limits::default() };
    let bench = Bench::with(limits).slow();
    let kept = bench.file("kept", &pattern(512 * KIB)).await;
    let large = bench.file("large", &pattern(8 * MIB)).await;
    let of_kept = bench.open(kept, READ).await;
    bench.read(of_kept, 256 * KIB, 64 * KIB).await;
    let of_large = bench.open(large, READ).await;
    for at in (0..8 * MIB).step_by(128 * KIB) {
        bench.read(of_large, at, 128 * KIB).await;
        assert!(bench.contents.cached_bytes() <= limits.cache_bytes);
    }
    bench.source.forget_counts();
    bench.read(of_kept, 256 * KIB, 64 * KIB).await;
    assert_eq!(bench.source.round_trips(), 0);
}

#[tokio::test(start_paused = true)]
async fn reads_wait_for_the_link_only_as_long_as_the_source_does() {
    let bench = Bench::new();
    let content = pattern(MIB);
    let node = bench.file("a", &content).await;
    let fh = bench.open(node, READ).await;
    bench.read(fh, 512 * KIB, 4096).await;
    bench.source.behave(|to| to.deadline = Duration::from_secs(3));
    bench.source.outage(true);
    // What is cached is there all the same.
    assert_eq!(bench.read(fh, 512 * KIB, 4096).await, content[512 * KIB..516 * KIB]);
    let begun = tokio::time::Instant::now();
    assert_eq!(bench.contents.read(fh, 0, 4096).await, Err(SourceError::Unreachable));
    assert!(begun.elapsed() < Duration::from_secs(4));
    bench.source.outage(false);
    assert_eq!(bench.read(fh, 0, 4096).await, content[..4096]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_gives_up_does_not_keep_others_from_reading() {
    let bench = Bench::new().slow();
    let content = pattern(MIB);
    let node = bench.file("a", &content).await;
    let (one, other) = (bench.open(node, READ).await, bench.open(node, READ).await);
    let given_up = async {
        let read = bench.contents.read(one, 512 * KIB as u64, 4096);
        assert!(tokio::time::timeout(Duration::from_millis(5), read).await.is_err());
    };
    let ((), read) = tokio::join!(given_up, bench.read(other, 512 * KIB, 4096));
    assert_eq!(read, content[512 * KIB..516 * KIB]);
    bench.contents.release(one);
    bench.contents.release(other);
    bench.rest().await;
    assert_eq!(bench.source.open_handles(), 0);
}
