//! What is in files, with a way to the source that takes its time.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::io::Errno;
use skync_mount::SourceError;
use skync_mount::testing::Request;

use crate::support::{World, names, read, within};

const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;

fn slow(world: &World) {
    world.source.behave(|to| to.latency = Duration::from_millis(20));
}

/// Bytes of which no two places look alike.
fn pattern(length: usize) -> Vec<u8> {
    let word = |at: u32| at.wrapping_mul(0x9e37_79b1).to_le_bytes();
    (0..length.div_ceil(4) as u32).flat_map(word).take(length).collect()
}

#[test]
fn a_recursive_reader_of_small_files_waits_a_few_times_only() {
    let fill = |root: &Path| {
        for directory in 0..20 {
            let path = root.join(format!("d{directory:02}"));
            std::fs::create_dir(&path).unwrap();
            for file in 0..50 {
                let content = format!("{directory} {file}").repeat(100);
                std::fs::write(path.join(format!("f{file:02}")), content).unwrap();
            }
        }
    };
    let Some(world) = World::new(fill) else { return };
    slow(&world);
    for directory in names(world.at("")) {
        for file in names(world.at(&directory)) {
            let number = |name: &str| name[1..].parse::<u32>().unwrap();
            let expected = format!("{} {}", number(&directory), number(&file)).repeat(100);
            assert_eq!(read(world.at(&directory).join(&file)).unwrap(), expected);
        }
    }
    let asked = world.source.counts();
    let reads = world.source.count(Request::Read) + world.source.count(Request::Fetch);
    assert!(reads < 40, "{asked:?}");
    assert_eq!(world.source.count(Request::Open), 0);
    // It is all there now: once more costs nothing.
    world.told();
    world.source.forget_counts();
    for directory in names(world.at("")) {
        for file in names(world.at(&directory)) {
            read(world.at(&directory).join(&file)).unwrap();
        }
    }
    assert_eq!(world.source.round_trips(), 0, "{:?}", world.source.counts());
}

#[test]
fn a_sequential_reader_has_many_requests_on_their_way() {
    let content = pattern(40 * MIB);
    let expected = content.clone();
    let fill = move |root: &Path| std::fs::write(root.join("large"), content).unwrap();
    let Some(world) = World::new(fill) else { return };
    slow(&world);
    let path = world.at("large");
    assert!(within(move || std::fs::read(path).unwrap()) == expected);
    let reads = world.source.reads();
    let at_once = reads.iter().map(|read| read.at_once).max();
    assert!(at_once >= Some(8), "{at_once:?}");
    let bytes: u64 = reads.iter().map(|read| u64::from(read.length)).sum();
    assert!(bytes <= 41 * MIB as u64, "{bytes} asked for");
}

#[test]
fn a_write_that_fails_is_told_at_close_and_is_not_read_afterwards() {
    let Some(world) = World::new(|root| std::fs::write(root.join("a"), "before").unwrap()) else {
        return;
    };
    assert_eq!(read(world.at("a")).unwrap(), "before");
    world.source.fail_next(Request::Write, SourceError::NoSpace);
    // A program that looks at what `close` says.
    let to = format!("of={}", world.at("a").display());
    let written = within(move || {
        Command::new("dd")
            .args(["if=/dev/zero", &to, "bs=40", "count=1", "conv=notrunc"])
            .output()
            .unwrap()
    });
    let said = String::from_utf8_lossy(&written.stderr);
    assert!(!written.status.success() && said.contains("No space left"), "{said}");
    world.told();
    assert_eq!(read(world.at("a")).unwrap(), "before");
    let (one, other) = (world.at("a"), world.under("a"));
    let sizes = within(move || [one, other].map(|path| path.metadata().unwrap().len()));
    assert_eq!(sizes, [6, 6]);
}

#[test]
fn a_sync_tells_what_failed_once() {
    let Some(world) = World::new(|_| {}) else { return };
    let path = world.at("a");
    world.source.fail_next(Request::Write, SourceError::Quota);
    let results = within(move || {
        let mut file = File::create(path).unwrap();
        file.write_all(b"lost").unwrap();
        let first = file.sync_all().map_err(|e| Errno::from_io_error(&e).unwrap());
        file.write_all(b"kept").unwrap();
        (first, file.sync_all().is_ok())
    });
    assert_eq!(results, (Err(Errno::DQUOT), true));
    assert_eq!(std::fs::read(world.under("a")).unwrap(), b"\0\0\0\0kept");
}

#[test]
fn appends_go_to_where_the_end_is_by_then() {
    let Some(world) = World::new(|root| std::fs::write(root.join("log"), "1 here\n").unwrap())
    else {
        return;
    };
    let path = world.at("log");
    let mut file = within(move || File::options().append(true).open(path).unwrap());
    // The kernel does not know of it yet.
    let under = world.under("log");
    let mut outside = File::options().append(true).open(&under).unwrap();
    outside.write_all(b"2 there\n").unwrap();
    within(move || {
        file.write_all(b"3 here\n").unwrap();
        file.sync_all().unwrap();
    });
    assert_eq!(std::fs::read_to_string(&under).unwrap(), "1 here\n2 there\n3 here\n");
    world.source.notice("log", true);
    world.told();
    assert_eq!(read(world.at("log")).unwrap(), "1 here\n2 there\n3 here\n");
}

#[test]
fn small_writes_are_put_together_and_read_at_once() {
    let Some(world) = World::new(|_| {}) else { return };
    slow(&world);
    let path = world.at("a");
    let expected = pattern(3 * MIB);
    let content = expected.clone();
    let back = within(move || {
        let mut file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        for part in content.chunks(4 * KIB) {
            file.write_all(part).unwrap();
        }
        assert_eq!(file.metadata().unwrap().len(), 3 * MIB as u64);
        let mut back = vec![0; MIB];
        file.read_exact_at(&mut back, MIB as u64).unwrap();
        back
    });
    assert!(back == expected[MIB..2 * MIB]);
    assert!(std::fs::read(world.under("a")).unwrap() == expected);
    let writes = world.source.count(Request::Write);
    assert!(writes <= 30, "{writes} writes");
}

#[test]
fn a_file_that_was_removed_while_open_is_read_and_written_on() {
    let content = pattern(2 * MIB);
    let expected = content.clone();
    let fill = move |root: &Path| std::fs::write(root.join("a"), content).unwrap();
    let Some(world) = World::new(fill) else { return };
    let path = world.at("a");
    within(move || {
        let mut reader = File::open(&path).unwrap();
        let writer = File::options().write(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        writer.write_all_at(b"new", 0).unwrap();
        let mut back = Vec::new();
        reader.read_to_end(&mut back).unwrap();
        assert_eq!(&back[..3], b"new");
        assert!(back[3..] == expected[3..]);
    });
}

#[test]
fn what_was_just_written_is_read_without_asking() {
    let Some(world) = World::new(|_| {}) else { return };
    // A new file, and the same once more.
    for round in 1..3 {
        let content = pattern(100 * KIB * round);
        let (path, written) = (world.at("a"), content.clone());
        within(move || std::fs::write(path, written).unwrap());
        world.told();
        world.source.forget_counts();
        let path = world.at("a");
        assert!(within(move || std::fs::read(path).unwrap()) == content);
        assert_eq!(world.source.round_trips(), 0, "{round}: {:?}", world.source.counts());
    }
}
