//! A sandbox that lies: it can lose its own files, and nothing else.

mod delta;

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use skync::config::SyncMode;
use skync::sync::engine::SyncError;
use skync_agent::handshake::{HandshakeError, greet};
use skync_agent::proto::{Chunk, Kind, ScanEntry, Wanted};
use tokio::io::AsyncWriteExt;

use crate::support::fake_agent::{Deceived, FakeAgent, entry, file, link};
use crate::support::pair::Pair;
use crate::support::tree::{assert_same, untouched};
use crate::support::{PATIENCE, World};

fn root() -> ScanEntry {
    entry(0, b"", Kind::Directory)
}

/// A scan of these entries is refused as a whole, and nothing changes on the host.
#[track_caller]
fn refused(what: &str, entries: Vec<ScanEntry>) {
    let mut deceived = Deceived::new(FakeAgent::scanning(move |_| entries.clone()), &["d/f"]);
    let before = untouched(deceived.outside());
    let error = deceived.sync().expect_err(what);
    assert!(matches!(error, SyncError::Wire(_) | SyncError::Sandbox(_)), "{what}: {error:?}");
    assert_same(&before, &untouched(deceived.outside()));
}

#[test]
fn names_that_could_leave_the_project_are_refused() {
    for name in [&b".."[..], b".", b"", b"../x", b"/etc/x", b"a/b", b"a\0b", &[b'n'; 256]] {
        refused(&format!("{name:?}"), vec![root(), file(1, name, b"x")]);
        refused(&format!("{name:?}"), vec![root(), entry(1, name, Kind::Directory)]);
        let below = vec![root(), entry(1, b"d", Kind::Directory), file(2, name, b"x")];
        refused(&format!("d/{name:?}"), below);
    }
}

#[test]
fn trees_that_are_none_are_refused() {
    let without_entry = ScanEntry { depth: 1, name: b"x".to_vec(), entry: None };
    let mut short_digest = file(1, b"x", b"x");
    short_digest.entry.as_mut().expect("an entry").digest.pop();
    let mut of_no_kind = entry(1, b"x", Kind::File);
    of_no_kind.entry.as_mut().expect("an entry").kind = 99;
    for (what, entries) in [
        ("nothing at all", vec![]),
        ("two roots", vec![root(), root()]),
        ("no root", vec![file(1, b"x", b"x")]),
        ("the same name twice", vec![root(), file(1, b"x", b"x"), file(1, b"x", b"y")]),
        ("names out of order", vec![root(), file(1, b"y", b"x"), file(1, b"x", b"y")]),
        ("a file in a file", vec![root(), file(1, b"x", b"x"), file(2, b"y", b"y")]),
        ("a file in a link", vec![root(), link(1, b"l", b"/etc"), file(2, b"y", b"y")]),
        ("a level left out", vec![root(), file(2, b"x", b"x")]),
        ("no entry", vec![root(), without_entry]),
        ("a short digest", vec![root(), short_digest]),
        ("no kind", vec![root(), of_no_kind]),
        ("absence", vec![root(), entry(1, b"x", Kind::Absent)]),
        ("a link to nothing", vec![root(), link(1, b"l", b"")]),
        ("a link with a zero", vec![root(), link(1, b"l", b"a\0b")]),
        ("a link without end", vec![root(), link(1, b"l", &[b'x'; 5000])]),
        ("a message without end", vec![root(), entry(1, &vec![b'n'; 9 << 20], Kind::File)]),
    ] {
        refused(what, entries);
    }
}

#[test]
fn a_tree_without_a_bottom_is_refused_and_the_deepest_one_breaks_nothing() {
    // What a scan finds in the deepest directory that it reads.
    const LEVELS: u32 = skync_agent::scan::DEPTH_MAX as u32 + 1;
    let deep = |levels: u32| -> Vec<ScanEntry> {
        let below = (1..=levels).map(|depth| entry(depth, b"d", Kind::Directory));
        let anchor = file(1, b"anchor", b"");
        [root(), anchor].into_iter().chain(below).collect()
    };
    refused("a tree that is too deep", deep(LEVELS + 1));
    refused("a tree without a bottom", deep(100_000));
    let entries = deep(LEVELS);
    let mut deceived = Deceived::new(FakeAgent::scanning(move |_| entries.clone()), &[]);
    deceived.sync().expect("synchronised");
    assert!(deceived.host().join("d/d/d/d").is_dir());
    // The last level is one too many for a directory, and is a problem from now on.
    let report = deceived.sync().expect("synchronised");
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
}

/// Announces a file with one content and answers with these chunks: the host gets nothing.
#[track_caller]
fn not_taken(what: &str, supplies: impl Fn(&Wanted) -> Vec<Chunk> + Send + Sync + 'static) {
    let content = vec![b'c'; 300_000];
    let scan = [root(), file(1, b"anchor", b""), file(1, b"f", &content)];
    let agent = FakeAgent::scanning(move |_| scan.to_vec());
    let mut deceived = Deceived::new(agent.supplying(supplies), &[]);
    let before = untouched(deceived.outside());
    // One file that does not come is no error of the whole, a broken stream is.
    if let Ok(report) = deceived.sync() {
        assert!(!report.problems.is_empty(), "{what}: taken");
        assert!(report.unsynced().is_some(), "{what}: the sandbox would go");
    }
    assert!(!deceived.host().join("f").exists(), "{what}: taken");
    let mut after = untouched(deceived.outside());
    // Of the project's directory only the time may have changed.
    let mut before = before;
    before.remove("project");
    after.remove("project");
    assert_same(&before, &after);
}

#[test]
fn content_that_is_not_what_was_announced_is_not_taken() {
    fn chunk(wanted: &Wanted, offset: u64, data: Vec<u8>, last: bool) -> Chunk {
        let (digest, data) = (wanted.digest.clone(), Bytes::from(data));
        Chunk { digest, offset, data, last, ..Chunk::default() }
    }
    not_taken("nothing", |_| Vec::new());
    not_taken("another content of that size", |w| vec![chunk(w, 0, vec![b'x'; 300_000], true)]);
    not_taken("too little", |w| vec![chunk(w, 0, vec![b'c'; 10], true)]);
    not_taken("no end", |w| vec![chunk(w, 0, vec![b'c'; 300_000], false)]);
    not_taken("too much", |w| vec![chunk(w, 0, vec![b'c'; 300_001], true)]);
    not_taken("too much, piece by piece", |w| {
        (0..8).map(|at| chunk(w, at * 100_000, vec![b'c'; 100_000], false)).collect()
    });
    not_taken("a gap", |w| {
        vec![chunk(w, 0, vec![b'c'; 100_000], false), chunk(w, 200_000, vec![b'c'; 100_000], true)]
    });
    not_taken("a piece again and again", |w| {
        (0..8).map(|_| chunk(w, 0, vec![b'c'; 100_000], false)).collect()
    });
    not_taken("a piece that is too large", |w| vec![chunk(w, 0, vec![b'c'; 2 << 20], true)]);
    not_taken("an offset past everything", |w| vec![chunk(w, u64::MAX, vec![b'c'; 9], true)]);
    not_taken("another digest", |w| {
        vec![Chunk { digest: vec![9; 32], ..chunk(w, 0, vec![b'c'; 300_000], true) }]
    });
    not_taken("no digest", |w| {
        vec![Chunk { digest: vec![], ..chunk(w, 0, vec![b'c'; 300_000], true) }]
    });
    not_taken("a problem", |w| {
        vec![Chunk { problem: "\u{1b}[2Jno".to_owned(), ..chunk(w, 0, vec![], true) }]
    });
}

#[test]
fn a_file_that_is_said_to_be_as_large_as_can_be_is_a_problem() {
    let mut huge = file(1, b"f", b"x");
    huge.entry.as_mut().expect("an entry").size = u64::MAX;
    let scan = [root(), file(1, b"anchor", b""), huge];
    let agent = FakeAgent::scanning(move |_| scan.to_vec());
    let mut deceived = Deceived::new(agent, &[]);
    if let Ok(report) = deceived.sync() {
        assert!(!report.problems.is_empty());
    }
    assert!(!deceived.host().join("f").exists());
}

#[test]
fn a_sandbox_that_claims_to_have_everything_and_then_nothing_empties_no_project() {
    // First everything is new to it and it says that all is written; then it is empty.
    let names: Vec<String> = (0..40).map(|number| format!("d{}/f{number}", number % 3)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut deceived = Deceived::new(FakeAgent::scanning(|_| vec![root()]), &names);
    let before = untouched(deceived.outside());
    deceived.sync().expect("it is believed");
    let error = deceived.sync().expect_err("halted");
    assert!(matches!(error, SyncError::Halted(_)), "{error:?}");
    assert_same(&before, &untouched(deceived.outside()));
    // Nor if it keeps one.
    let mut kept =
        Deceived::new(FakeAgent::scanning(|_| vec![root(), file(1, b"anchor", b"")]), &names);
    let before = untouched(kept.outside());
    kept.sync().expect("it is believed");
    assert!(matches!(kept.sync(), Err(SyncError::Halted(_))));
    assert_same(&before, &untouched(kept.outside()));
}

#[test]
fn a_directory_that_turns_into_a_link_while_results_come_home_leads_nowhere() {
    const ROUNDS: usize = 30;
    let mut pair = Pair::new(SyncMode::TwoWaySafe);
    let (host, sandbox) = (pair.host().to_owned(), pair.sandbox().to_owned());
    let outside = host.with_file_name("outside");
    for directory in [&outside, &host.join("d"), &sandbox.join("d")] {
        std::fs::create_dir(directory).expect("made");
    }
    for at in [&outside, &sandbox.join("d")] {
        for number in 0..20 {
            put(&at.join(format!("f{number}")), "precious");
        }
    }
    put(&host.join("anchor"), "x");
    put(&host.join(".skyncignore"), "/aside\n");
    let before = untouched(&outside);
    let mut written = 0;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (directory, aside) = (host.join("d"), host.join("aside"));
            symlink(&outside, &aside).expect("linked");
            while !stop.load(Ordering::Relaxed) {
                // The directory and the link to the outside take turns.
                swap(&directory, &aside);
                std::thread::yield_now();
                swap(&directory, &aside);
                std::thread::yield_now();
            }
        });
        let deadline = Instant::now() + PATIENCE;
        for round in 0.. {
            // Until something was in danger, or nothing ever will be.
            if (round >= ROUNDS && written > 0) || Instant::now() > deadline {
                break;
            }
            for number in 0..20 {
                let path = sandbox.join(format!("d/f{number}"));
                if (number + round) % 3 == 0 {
                    remove(&path);
                } else {
                    put(&path, &format!("overwritten {round}"));
                }
            }
            // It may well find that nothing holds still.
            written += pair.sync().map_or(0, |report| report.received.0);
            // As a link the sandbox has it too, and a command may make it a directory again.
            if sandbox.join("d").symlink_metadata().is_ok_and(|m| m.is_symlink()) {
                remove(&sandbox.join("d"));
            }
            let _ = std::fs::create_dir(sandbox.join("d"));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(written > 0, "nothing came home, so nothing was in danger");
    assert_same(&before, &untouched(&outside));
}

/// Exchanges two paths in one step.
fn swap(one: &Path, other: &Path) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let _ = renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
}

fn put(path: &Path, content: &str) {
    let file = std::fs::File::create(path);
    let _ = file.map(|mut file| file.write_all(content.as_bytes()));
}

#[expect(clippy::disallowed_methods, reason = "a test's own files")]
fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
}

#[test]
fn names_and_messages_of_a_sandbox_do_not_command_the_terminal() {
    let world = World::new();
    world.write("known", "x");
    let held = world.hold();
    let name = "\u{1b}]0;owned\u{7}\u{1b}[31m\r\nwarning: all is well\u{202e}";
    for side in [world.project(), held.sandbox()] {
        put(&side.join(name), &format!("not the same: {}", side.display()));
    }
    // As a name in a conflict, as a program that is not there, as one that cannot be executed.
    let outcomes = [
        world.exec(&["true"]).expect_code(0),
        world.exec(&[name]).expect_code(127),
        world.exec(&[&format!("./{name}")]).expect_code(126),
    ];
    for outcome in &outcomes {
        let raw =
            outcome.stderr.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(raw, None, "{:?}", outcome.stderr);
        assert!(!outcome.stderr.contains("\nwarning: all is well"), "{:?}", outcome.stderr);
    }
    assert!(outcomes[0].stderr.contains("conflict: "), "{:?}", outcomes[0].stderr);
    remove(&held.sandbox().join(name));
    held.release();
}

#[test]
fn a_handshake_that_is_too_large_or_never_ends_is_refused_unread() {
    let meet = |said: Vec<u8>| {
        let runtime = crate::support::pair::runtime();
        runtime.block_on(async move {
            let (mut near, mut far) = tokio::io::duplex(64 << 10);
            far.write_all(&said).await.expect("written");
            greet(&mut near, &[7; 32], 1).await.expect_err("refused")
        })
    };
    let magic = b"SKYNC\r\n\0";
    for length in [u32::MAX, 1 << 20, 4097] {
        let error = meet([&magic[..], &length.to_be_bytes()].concat());
        assert!(matches!(error, HandshakeError::Malformed), "{error}");
    }
    let noise = meet(b"\x1b[2J\x1b]0;owned\x07 and so on".to_vec());
    assert!(!noise.to_string().contains('\u{1b}'), "{noise}");
    let nothing_in_it = meet([&magic[..], &[0, 0, 0, 4], b"\xff\xff\xff\xff"].concat());
    assert!(matches!(nothing_in_it, HandshakeError::Malformed), "{nothing_in_it}");
}
