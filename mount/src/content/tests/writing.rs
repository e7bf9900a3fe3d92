//! Writing behind, and what becomes of it when it fails.

use super::*;
use crate::source::SourceError;

#[tokio::test(start_paused = true)]
async fn small_writes_are_put_together_and_are_there_at_close() {
    let bench = Bench::new().slow();
    let node = bench.file("a", b"").await;
    let content = pattern(3 * MIB);
    let fh = bench.open(node, WRITE).await;
    bench.source.forget_counts();
    for at in (0..content.len()).step_by(16 * KIB) {
        bench.write(fh, at, &content[at..at + 16 * KIB]).await.expect("taken");
    }
    bench.contents.flush(fh).await.expect("written");
    assert_eq!(bench.on_disk(node), content);
    assert_eq!(bench.count(Request::Write), 3);
    assert_eq!(bench.contents.dirty_bytes(), 0);
    assert_eq!(bench.tree.attributes(node).expect("a node").what.size, content.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn a_write_goes_on_its_way_when_it_is_quiet() {
    let bench = Bench::new().slow();
    let node = bench.file("a", b"").await;
    let fh = bench.open(node, WRITE).await;
    let mut attributes = bench.tree.attributes(node).expect("a node").what;
    bench.write(fh, 0, b"hello").await.expect("taken");
    assert!(bench.contents.adjust(node, &mut attributes));
    assert_eq!(attributes.size, 5);
    tokio::time::sleep(Duration::from_millis(19)).await;
    bench.write(fh, 5, b" world").await.expect("taken");
    assert_eq!(bench.count(Request::Write), 0);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(bench.count(Request::Write), 1);
    assert_eq!(bench.on_disk(node), b"hello world");
    assert!(!bench.contents.adjust(node, &mut attributes));
}

#[tokio::test(start_paused = true)]
async fn overlapping_writes_keep_their_order() {
    let bench = Bench::new();
    bench.source.behave(|to| to.jitter = Duration::from_millis(40));
    let node = bench.file("a", b"").await;
    let fh = bench.open(node, WRITE).await;
    let other = bench.open(node, WRITE).await;
    let mut expected = vec![0; 600 * KIB];
    for round in 0..40u8 {
        let fh = if round % 3 == 0 { other } else { fh };
        let at = usize::from(round) * 7919 % 300 * KIB;
        let data = vec![round + 1; 100 * KIB + usize::from(round)];
        expected[at..at + data.len()].copy_from_slice(&data);
        bench.write(fh, at, &data).await.expect("taken");
    }
    bench.contents.settle(node).await.expect("written");
    let on_disk = bench.on_disk(node);
    assert!(on_disk == expected[..on_disk.len()]);
    assert!(expected[on_disk.len()..].iter().all(|byte| *byte == 0));
}

#[tokio::test(start_paused = true)]
async fn writes_that_do_not_overlap_are_on_their_way_at_once_but_not_too_many() {
    let bench = Bench::new().slow();
    let node = bench.file("a", b"").await;
    let fh = bench.open(node, WRITE).await;
    for at in 0..40 {
        bench.write(fh, at * MIB, &pattern(MIB)).await.expect("taken");
    }
    bench.contents.flush(fh).await.expect("written");
    let at_once = bench.source.writes().iter().map(|write| write.at_once).max();
    assert_eq!(at_once, Some(8), "8 MiB on their way");
    bench.source.forget_counts();
    for at in 0..100 {
        bench.write(fh, at * 8 * KIB, &pattern(4 * KIB)).await.expect("taken");
    }
    bench.contents.flush(fh).await.expect("written");
    let at_once = bench.source.writes().iter().map(|write| write.at_once).max();
    assert_eq!(at_once, Some(16), "16 on their way");
}

#[tokio::test(start_paused = true)]
async fn an_error_is_told_once_to_each_file_that_wrote() {
    let bench = Bench::new().slow();
    let node = bench.file("a", b"").await;
    let (one, other) = (bench.open(node, WRITE).await, bench.open(node, WRITE).await);
    let reader = bench.open(node, READ).await;
    bench.write(other, 0, b"other").await.expect("taken");
    bench.contents.flush(other).await.expect("written");
    bench.source.fail_next(Request::Write, SourceError::NoSpace);
    bench.write(one, 10, b"one").await.expect("taken");
    assert_eq!(bench.contents.flush(one).await, Err(SourceError::NoSpace));
    assert_eq!(bench.contents.flush(one).await, Ok(()));
    assert_eq!(bench.contents.sync(other, false).await, Err(SourceError::NoSpace));
    assert_eq!(bench.contents.sync(other, false).await, Ok(()));
    assert_eq!(bench.contents.flush(reader).await, Ok(()));
    assert_eq!(bench.on_disk(node), b"other");
    assert_eq!(*bench.tree.doubted.lock().expect("a lock"), [node]);
    assert_eq!(bench.contents.dirty_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_error_between_is_told_by_the_next_write_which_is_not_taken() {
    let bench = Bench::new().slow();
    let node = bench.file("a", b"").await;
    let fh = bench.open(node, WRITE).await;
    bench.source.fail_next(Request::Write, SourceError::Quota);
    bench.write(fh, 0, b"lost").await.expect("taken");
    bench.rest().await;
    assert_eq!(bench.write(fh, 4, b"refused").await, Err(SourceError::Quota));
    bench.write(fh, 4, b"kept").await.expect("taken");
    bench.contents.flush(fh).await.expect("written");
    assert_eq!(bench.on_disk(node), b"\0\0\0\0kept");
}

#[tokio::test(start_paused = true)]
async fn appends_go_to_the_end_one_after_the_other() {
    let bench = Bench::new();
    bench.source.behave(|to| to.jitter = Duration::from_millis(40));
    let node = bench.file("a", b"start ").await;
    let fh = bench.open(node, APPEND).await;
    let other = bench.open(node, APPEND).await;
    let mut expected = b"start ".to_vec();
    for round in 0..30u8 {
        let fh = if round % 2 == 0 { fh } else { other };
        let data = vec![b'a' + round % 26; 1 + usize::from(round)];
        // The kernel's own idea of where that is does not count.
        bench.write(fh, 6, &data).await.expect("taken");
        expected.extend_from_slice(&data);
        if round % 5 == 0 {
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
    bench.contents.flush(fh).await.expect("written");
    bench.contents.flush(other).await.expect("written");
    assert_eq!(bench.on_disk(node), expected);
    assert!(bench.source.writes().iter().all(|write| write.at_once == 1));
}

#[tokio::test(start_paused = true)]
async fn who_writes_too_fast_waits() {
    let limits = Limits { dirty_bytes: 4 * MIB as u64, ..Limits::default() };
    let bench = Bench::with(limits).slow();
    let node = bench.file("a", b"").await;
    let fh = bench.open(node, WRITE).await;
    let begun = tokio::time::Instant::now();
    for at in 0..16 {
        bench.write(fh, at * MIB, &pattern(MIB)).await.expect("taken");
        assert!(bench.contents.dirty_bytes() <= limits.dirty_bytes);
    }
    assert!(begun.elapsed() >= Duration::from_millis(60));
    bench.contents.flush(fh).await.expect("written");
    assert_eq!(bench.on_disk(node).len(), 16 * MIB);
}

#[tokio::test(start_paused = true)]
async fn what_was_written_is_read_before_it_is_there() {
    let bench = Bench::new().slow();
    let node = bench.file("a", &[1; 100]).await;
    let fh = bench.open(node, WRITE).await;
    let reader = bench.open(node, READ).await;
    bench.write(fh, 50, b"new").await.expect("taken");
    bench.write(fh, 8000, b"far").await.expect("taken");
    let read = bench.read(reader, 0, 4096).await;
    assert_eq!(read[..50], [1; 50]);
    assert_eq!(&read[50..53], b"new");
    assert_eq!(read[53..100], [1; 47]);
    assert_eq!(read[100..], [0; 4096 - 100]);
    assert_eq!(bench.read(reader, 8000, 4096).await, b"far"[..]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_closed_without_flush_is_written_all_the_same() {
    let bench = Bench::new().slow();
    let node = bench.file("a", b"").await;
    let fh = bench.open(node, WRITE).await;
    bench.write(fh, 0, b"late").await.expect("taken");
    bench.contents.release(fh);
    assert_eq!(bench.contents.open_files(), 0);
    bench.contents.settle_all().await.expect("written");
    assert_eq!(bench.on_disk(node), b"late");
    bench.rest().await;
    assert_eq!(bench.source.open_handles(), 0);
}

#[tokio::test(start_paused = true)]
async fn settling_waits_for_what_was_written_and_says_what_failed() {
    let bench = Bench::new().slow();
    let node = bench.file("a", b"").await;
    let fh = bench.open(node, WRITE).await;
    bench.write(fh, 0, b"one").await.expect("taken");
    bench.contents.settle(node).await.expect("written");
    assert_eq!(bench.on_disk(node), b"one");
    bench.source.fail_next(Request::Write, SourceError::NoSpace);
    bench.write(fh, 3, b"two").await.expect("taken");
    assert_eq!(bench.contents.settle_all().await, Err(SourceError::NoSpace));
    assert_eq!(bench.contents.flush(fh).await, Err(SourceError::NoSpace));
    // Whoever wants to go on with the file need not care, but where it is not known what happened.
    for (error, settled) in
        [(SourceError::NoSpace, Ok(())), (SourceError::Unreachable, Err(SourceError::Unreachable))]
    {
        bench.source.fail_next(Request::Write, error);
        bench.write(fh, 3, b"two").await.expect("taken");
        assert_eq!(bench.contents.settle(node).await, settled);
        assert!(bench.contents.flush(fh).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_sync_asks_the_source_and_a_truncating_open_makes_it_empty() {
    let bench = Bench::new().slow();
    let node = bench.file("a", b"before").await;
    let fh = bench.open(node, WRITE).await;
    bench.write(fh, 0, b"BEF").await.expect("taken");
    bench.contents.sync(fh, true).await.expect("durable");
    assert_eq!(bench.count(Request::Sync), 1);
    assert_eq!(bench.read(fh, 0, 100).await, b"BEFore"[..]);
    bench.write(fh, 100, b"in the way").await.expect("taken");
    let other = bench.open(node, OpenHow { truncate: true, ..WRITE }).await;
    assert_eq!(bench.on_disk(node), b"");
    assert_eq!(bench.read(other, 0, 100).await, b""[..]);
    assert_eq!(bench.tree.attributes(node).expect("a node").what.size, 0);
}

#[tokio::test(start_paused = true)]
async fn another_source_loses_what_was_written_and_close_says_so() {
    let bench = Bench::new().slow();
    let node = bench.file("a", b"").await;
    let (fh, other) = (bench.open(node, WRITE).await, bench.open(node, WRITE).await);
    bench.write(fh, 0, b"lost").await.expect("taken");
    bench.contents.anew();
    assert_eq!(bench.contents.dirty_bytes(), 0);
    assert_eq!(bench.write(fh, 0, b"x").await, Err(SourceError::Stale));
    assert_eq!(bench.contents.flush(fh).await, Err(SourceError::Stale));
    assert_eq!(bench.contents.flush(fh).await, Ok(()));
    assert_eq!(bench.contents.flush(other).await, Ok(()));
    bench.contents.release(fh);
    bench.contents.release(other);
    assert_eq!(bench.contents.open_files(), 0);
    bench.contents.settle_all().await.expect("nothing is left");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_lost_for_good_gives_the_writer_an_error_in_time() {
    let bench = Bench::new();
    let node = bench.file("a", b"").await;
    let fh = bench.open(node, WRITE).await;
    bench.source.behave(|to| to.deadline = Duration::from_secs(3));
    bench.source.outage(true);
    bench.write(fh, 0, b"lost").await.expect("taken");
    let begun = tokio::time::Instant::now();
    assert_eq!(bench.contents.flush(fh).await, Err(SourceError::Unreachable));
    assert!(begun.elapsed() < Duration::from_secs(4));
    bench.source.outage(false);
    bench.write(fh, 0, b"kept").await.expect("taken");
    bench.contents.flush(fh).await.expect("written");
    assert_eq!(bench.on_disk(node), b"kept");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_created_is_written_by_the_handle_that_created_it() {
    let bench = Bench::new().slow();
    let root = bench.source.root().await.expect("the root").what.object;
    let root = Place { path: PathBuf::new(), object: root };
    let handle = bench.contents.new_handle();
    let owner = crate::source::Owner { mode: 0o600, ids: None };
    bench.source.create(root, "a".into(), handle, WRITE, owner).await.expect("created");
    bench.see(2, "a");
    let fh = bench.contents.created(2, handle, WRITE);
    assert_eq!(bench.contents.handle_of(fh), Some(handle));
    bench.write(fh, 0, b"hello").await.expect("taken");
    bench.contents.flush(fh).await.expect("written");
    assert_eq!(bench.on_disk(2), b"hello");
    bench.contents.release(fh);
    assert_eq!((bench.count(Request::Open), bench.source.open_handles()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_is_not_waited_for_goes_on() {
    let bench = Bench::new().slow();
    let node = bench.file("a", b"").await;
    let fh = bench.open(node, WRITE).await;
    bench.write(fh, 0, b"all of it").await.expect("taken");
    let before = bench.contents.arrived();
    let flush = bench.contents.flush(fh);
    assert!(tokio::time::timeout(Duration::from_millis(5), flush).await.is_err());
    assert_eq!((bench.contents.dirty_bytes(), bench.contents.arrived()), (9, before));
    assert_eq!(bench.contents.flush(fh).await, Ok(()));
    assert_eq!(bench.on_disk(node), b"all of it");
    assert_ne!(bench.contents.arrived(), before);
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_after_its_writer_is_gone_is_told_once_to_who_unmounts() {
    let bench = Bench::new().slow();
    let node = bench.file("a", b"").await;
    let fh = bench.open(node, WRITE).await;
    bench.source.fail_next(Request::Write, SourceError::NoSpace);
    bench.write(fh, 0, b"lost").await.expect("taken");
    bench.contents.release(fh);
    while bench.contents.dirty_bytes() > 0 {
        tokio::time::advance(Duration::from_millis(1)).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.contents.settle_all().await, Err(SourceError::NoSpace));
    assert_eq!(bench.contents.settle_all().await, Ok(()));
    // What its writer was told nobody else is.
    let fh = bench.open(node, WRITE).await;
    bench.source.fail_next(Request::Write, SourceError::NoSpace);
    bench.write(fh, 0, b"lost").await.expect("taken");
    assert_eq!(bench.contents.flush(fh).await, Err(SourceError::NoSpace));
    bench.contents.release(fh);
    assert_eq!(bench.contents.settle_all().await, Ok(()));
}
