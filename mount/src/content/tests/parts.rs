//! The parts that decide and do nothing else.

use tokio::time::Instant;

use super::*;
use crate::content::cache::Cache;
use crate::content::file::FileId;
use crate::content::front::{Amount, Fronts};
use crate::content::stream::Stream;
use crate::content::writes::{Writer, Writes};
use crate::source::{Handle, SourceError};

const ROOM: u64 = 16 * MIB as u64;

fn writer(file: u64, append: bool) -> Writer {
    Writer { file: FileHandle(file), handle: Handle(file), append }
}

fn sends(writes: &mut Writes) -> Vec<(u64, u64, usize)> {
    let next = || writes.next_to_send().map(|send| (send.number, send.start, send.data.len()));
    std::iter::from_fn(next).collect()
}

#[test]
fn a_range_that_was_removed_leaves_what_is_beside_it() {
    let mut cache = Cache::new(MIB as u64);
    let file = FileId(1);
    cache.insert(file, 100, Bytes::from(pattern(100)));
    cache.insert(file, 300, Bytes::from(pattern(50)));
    cache.remove(file, 150, 160);
    assert_eq!(cache.slice(file, 100, 1000, false).expect("kept"), pattern(100)[..50]);
    assert_eq!(cache.slice(file, 155, 1000, false), None);
    assert_eq!(cache.slice(file, 170, 180, false).expect("kept"), pattern(100)[70..80]);
    assert_eq!(cache.gap(file, 155), (150, 160));
    assert_eq!(cache.gap(file, 250), (200, 300));
    assert_eq!(cache.gap(file, 400), (350, u64::MAX));
    assert_eq!(cache.end_of(file, 165), 200);
    cache.forget(file);
    assert!(!cache.has(file));
    assert_eq!(cache.bytes(), 0);
}

#[test]
fn what_was_handed_out_in_order_goes_before_what_was_not_used_for_longest() {
    let mut cache = Cache::new(320 * KIB as u64);
    let data = || Bytes::from(vec![0; 100 * KIB]);
    cache.insert(FileId(1), 0, data());
    cache.insert(FileId(2), 0, data());
    cache.insert(FileId(3), 0, data());
    cache.slice(FileId(1), 0, u64::MAX, false);
    cache.slice(FileId(3), 0, u64::MAX, true);
    assert_eq!(cache.insert(FileId(4), 0, data()), [FileId(3)]);
    assert_eq!(cache.insert(FileId(5), 0, data()), [FileId(2)]);
    assert!(cache.has(FileId(1)));
}

#[test]
fn a_window_grows_while_it_is_read_on_and_ends_with_a_jump() {
    let mut stream = Stream::default();
    let step = 128 * KIB as u64;
    let mut asked = step;
    for n in 0..400 {
        stream.read(n * step, step, ROOM);
        if let Some(ahead) = stream.ahead(1 << 40) {
            assert_eq!(ahead.from, asked, "no gap, nothing twice");
            assert_eq!(ahead.until % ahead.request, 0);
            asked = ahead.until;
        }
        assert!(asked >= (n + 1) * step);
    }
    assert_eq!(stream.window(), ROOM);
    // Back a little, forward a little.
    stream.read(395 * step, step, ROOM);
    stream.read(410 * step, step, ROOM);
    assert!(stream.is_in_order());
    stream.read(100 * step, step, ROOM);
    assert!(!stream.is_in_order());
    assert_eq!(stream.ahead(1 << 40), None);
    stream.read(101 * step, step, ROOM);
    assert!(stream.is_in_order());
}

#[test]
fn nothing_is_asked_for_beyond_the_end_or_twice() {
    let mut stream = Stream::default();
    let (step, size) = (128 * KIB as u64, 300 * KIB as u64);
    let mut asked = Vec::new();
    for n in 0..3 {
        stream.read(n * step, step, ROOM);
        asked.extend(stream.ahead(size).map(|ahead| (ahead.from, ahead.until)));
    }
    assert_eq!(asked, [(step, size)]);
}

#[test]
fn adjacent_and_overlapping_writes_become_one() {
    let mut writes = Writes::default();
    let one = writer(1, false);
    assert_eq!(writes.accept(one, 10, Bytes::from_static(b"abcdef")), (6, false));
    assert_eq!(writes.accept(one, 16, Bytes::from_static(b"gh")), (2, false));
    assert_eq!(writes.accept(one, 12, Bytes::from_static(b"XY")), (0, false));
    assert_eq!(writes.accept(one, 17, Bytes::from_static(b"HIJ")), (2, false));
    assert!(writes.next_to_send().is_none());
    assert_eq!(writes.end(), Some(20));
    writes.seal();
    let send = writes.next_to_send().expect("one");
    assert_eq!((send.start, &send.data[..]), (10, &b"abXYefgHIJ"[..]));
    // It is on its way: what comes now is another.
    assert_eq!(writes.accept(one, 20, Bytes::from_static(b"k")), (1, true));
    assert_eq!(writes.done(send.number, None), 10);
    writes.seal();
    assert_eq!(sends(&mut writes), [(2, 20, 1)]);
}

#[test]
fn what_overlaps_waits_and_what_does_not_goes_first() {
    let mut writes = Writes::default();
    let (one, other) = (writer(1, false), writer(2, false));
    writes.accept(one, 0, Bytes::from_static(b"aaaa"));
    writes.accept(other, 2, Bytes::from_static(b"bbbb"));
    writes.accept(one, 100, Bytes::from_static(b"cccc"));
    writes.accept(other, 5, Bytes::from_static(b"dddd"));
    writes.seal();
    assert_eq!(sends(&mut writes), [(1, 0, 4), (3, 100, 4)]);
    writes.done(3, None);
    assert_eq!(sends(&mut writes), []);
    writes.done(1, Some(SourceError::NoSpace));
    assert_eq!(sends(&mut writes), [(2, 2, 4)]);
    assert!(writes.is_left(4, Some(FileHandle(2))) && !writes.is_left(4, Some(FileHandle(1))));
    writes.done(2, None);
    assert_eq!(sends(&mut writes), [(4, 5, 4)]);
    assert_eq!(writes.failed_after(0), Some(SourceError::NoSpace));
    assert_eq!(writes.failed_after(1), None);
    writes.done(4, None);
    assert!(writes.is_empty());
}

#[test]
fn an_append_goes_alone() {
    let mut writes = Writes::default();
    writes.accept(writer(1, false), 0, Bytes::from_static(b"aaaa"));
    writes.accept(writer(2, true), 4, Bytes::from_static(b"bbbb"));
    writes.accept(writer(1, false), 100, Bytes::from_static(b"cccc"));
    writes.seal();
    for number in 1..=3 {
        let sent: Vec<u64> = sends(&mut writes).into_iter().map(|send| send.0).collect();
        assert_eq!(sent, [number]);
        writes.done(number, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_front_begins_with_the_second_file_nearby_within_a_second() {
    let mut fronts = Fronts::new(Amount { files: 4096, bytes: 16 * MIB as u64 });
    let miss = |fronts: &mut Fronts, at: &str| fronts.miss(Path::new(at), 7, Instant::now());
    assert_eq!(miss(&mut fronts, "a/b/c"), None);
    assert_eq!(miss(&mut fronts, "x/y/z/w"), None);
    tokio::time::advance(Duration::from_millis(1100)).await;
    assert_eq!(miss(&mut fronts, "a/b/c"), None);
    assert_eq!(miss(&mut fronts, "somewhere/else/far/away"), None);
    let batch = miss(&mut fronts, "a/b/d").expect("a neighbour");
    assert_eq!((batch.after, batch.amount.files), (7, 256));
    // While that is on its way nothing else is fetched around there.
    assert_eq!(miss(&mut fronts, "a/b/d"), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_fetched_and_not_used_is_bounded_over_all_fronts() {
    let max = Amount { files: 400, bytes: MIB as u64 };
    let mut fronts = Fronts::new(max);
    let mut files = 0;
    for at in ["a/b/c", "d/e/f", "g/h/i"] {
        let at = Path::new(at);
        assert_eq!(fronts.miss(at, 1, Instant::now()), None);
        let Some(batch) = fronts.miss(at, 2, Instant::now()) else { continue };
        for _ in 0..batch.amount.files {
            fronts.fetch(batch.front, 1000);
        }
        fronts.sent(batch.front, Some(9), None);
        fronts.arrived(batch.front);
        files += batch.amount.files;
    }
    assert_eq!(files, 400);
}
