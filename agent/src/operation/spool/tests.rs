use proptest::prelude::*;

use super::*;

/// A spool and what was put into it.
struct Model {
    spool: Spool,
    all: Vec<(Stream, u8)>,
    taken: u64,
}

#[derive(Debug, Clone)]
enum Step {
    Append(bool, usize, u64),
    Take(u64),
    Detach(bool),
    Read(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (any::<bool>(), 1..3000_usize, 0..100_u64).prop_map(|(s, n, t)| Step::Append(s, n, t)),
        2 => (0..40_000_u64).prop_map(Step::Take),
        1 => any::<bool>().prop_map(Step::Detach),
        3 => (0..40_000_u64).prop_map(Step::Read),
    ]
}

impl Model {
    fn append(&mut self, stream: Stream, length: usize, now_ms: u64) {
        if !self.spool.has_room() {
            return;
        }
        let begin = self.all.len();
        let byte = |index: usize| (index % 251) as u8 ^ (index / 251) as u8;
        let data: Vec<u8> = (begin..begin + length).map(byte).collect();
        self.all.extend(data.iter().map(|&byte| (stream, byte)));
        self.spool.append(stream, &mut BytesMut::from(&data[..]), now_ms);
    }

    /// Reads from an offset to the end: every byte is the one that was written, or in a gap.
    fn check(&self, from: u64) -> u64 {
        let mut cursor = Cursor::new(from);
        let (mut at, mut missing) = (from, 0);
        loop {
            match self.spool.read(&mut cursor) {
                Piece::Data(output) => {
                    assert_eq!(output.offset, at);
                    assert!(!output.data.is_empty());
                    for &byte in &output.data {
                        let written = self.all[usize::try_from(at).expect("small")];
                        assert_eq!((output.stream(), byte), written, "at {at}");
                        at += 1;
                    }
                }
                Piece::Gap { from, to } => {
                    assert!(from == at && to > from, "{from}..{to} at {at}");
                    assert_eq!(to, self.spool.floor());
                    missing += to - from;
                    at = to;
                }
                Piece::Nothing => break,
            }
            assert_eq!(cursor.offset(), at);
        }
        assert_eq!(at, self.spool.end());
        missing
    }
}

proptest! {
    #[test]
    fn every_byte_is_given_back_or_said_to_be_missing(
        steps in proptest::collection::vec(step(), 1..80),
        disk in prop_oneof![Just(0), Just(9000), Just(20_000), Just(1 << 20)],
        writable in any::<bool>(),
    ) {
        let place = tempfile::tempdir().expect("a directory");
        let gone = place.path().join("not there");
        let directory = if writable { place.path() } else { &gone };
        let spool = Spool::new(directory, 4096, disk);
        let mut model = Model { spool, all: Vec::new(), taken: 0 };
        let (mut now, mut ever_detached) = (1000, false);
        for step in steps {
            match step {
                Step::Append(error, length, later) => {
                    now += later;
                    let stream = if error { Stream::Stderr } else { Stream::Stdout };
                    model.append(stream, length, now);
                }
                Step::Take(offset) => {
                    model.taken = model.taken.max(offset.min(model.spool.end()));
                    model.spool.take(offset);
                }
                Step::Detach(detached) => {
                    ever_detached |= detached;
                    model.spool.set_detached(detached);
                }
                Step::Read(offset) => {
                    model.check(offset.min(model.spool.end()));
                }
            }
            prop_assert_eq!(model.spool.end(), model.all.len() as u64);
            let missing = model.check(model.taken);
            prop_assert!(ever_detached || missing == 0, "{} bytes are lost", missing);
            prop_assert!(model.spool.lost() >= missing);
        }
    }

    #[test]
    fn the_last_lines_are_those_of_tail(
        pieces in proptest::collection::vec(("[ab\n]{1,12}", any::<bool>()), 1..60),
        count in 0..12_u64,
    ) {
        let place = tempfile::tempdir().expect("a directory");
        let mut spool = Spool::new(place.path(), 256, 1 << 20);
        for (index, (text, error)) in pieces.iter().enumerate() {
            let stream = if *error { Stream::Stderr } else { Stream::Stdout };
            spool.append(stream, &mut BytesMut::from(text.as_bytes()), index as u64 * 40);
        }
        for only in [None, Some(Stream::Stdout), Some(Stream::Stderr)] {
            let wanted = |error: bool| only.is_none_or(|only| (only == Stream::Stderr) == error);
            let text: String =
                pieces.iter().filter(|(_, e)| wanted(*e)).map(|(text, _)| &text[..]).collect();
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            let skipped = lines.len().saturating_sub(usize::try_from(count).expect("small"));
            let mut found = String::new();
            let mut cursor = Cursor::new(spool.lines(count, only));
            while let Piece::Data(output) = spool.read(&mut cursor) {
                if only.is_none_or(|only| only == output.stream()) {
                    found.push_str(std::str::from_utf8(&output.data).expect("text"));
                }
            }
            prop_assert_eq!(found, lines[skipped..].concat());
        }
    }
}

#[test]
fn small_pieces_of_one_stream_are_one_record() {
    let place = tempfile::tempdir().expect("a directory");
    let mut spool = Spool::new(place.path(), 1 << 20, 0);
    for index in 0..10_000 {
        spool.append(Stream::Stdout, &mut BytesMut::from("x"), index / 1000);
    }
    let mut cursor = Cursor::new(0);
    let Piece::Data(output) = spool.read(&mut cursor) else { panic!("data") };
    assert_eq!((output.data.len(), output.time_ms), (10_000, 0));
    assert_eq!(spool.memory.len(), 1);
}

#[test]
fn what_is_taken_never_touches_the_disk() {
    let place = tempfile::tempdir().expect("a directory");
    let mut spool = Spool::new(place.path(), 1 << 20, 256 << 20);
    let piece = vec![7; 100_000];
    for _ in 0..1000 {
        assert!(spool.has_room());
        spool.append(Stream::Stdout, &mut BytesMut::from(&piece[..]), 0);
        spool.take(spool.end());
    }
    assert_eq!(std::fs::read_dir(place.path()).expect("there").count(), 0);
    assert!(spool.end() - spool.floor() >= 900_000, "the newest is there all the same");
}

#[test]
fn output_is_found_by_its_time() {
    let place = tempfile::tempdir().expect("a directory");
    let mut spool = Spool::new(place.path(), 1000, 1 << 20);
    for index in 0..100_u64 {
        let text = format!("{index:050}\n");
        spool.append(Stream::Stdout, &mut BytesMut::from(text.as_bytes()), 1000 + index * 100);
    }
    for (time, line) in [(0, 0), (1050, 0), (1051, 1), (3000, 20), (10_950, 99), (10_951, 100)] {
        assert_eq!(spool.since(time), line * 51, "{time}");
    }
}
