#![expect(clippy::disallowed_methods, reason = "tests make and change the trees they scan")]

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::entry::{Digest, Directory, Entry};
use crate::path::{Name, SyncPath};
use crate::rules::{RuleSet, Rules};

fn path(text: &str) -> SyncPath {
    SyncPath::parse(text.as_bytes()).expect("a path")
}

fn put(root: &Path, name: &str, content: &[u8]) {
    let whole = root.join(name);
    std::fs::create_dir_all(whole.parent().expect("a parent")).expect("made");
    std::fs::write(whole, content).expect("written");
}

/// Makes a file's times old; the ctime cannot be set, so its record is made to look recorded late.
fn settle(cache: &StatCache) -> StatCache {
    cache
        .iter()
        .map(|(path, record)| {
            (
                path,
                FileRecord {
                    recorded_ns: record.ctime_ns.max(record.mtime_ns) + digest::RACY_NS,
                    ..*record
                },
            )
        })
        .collect()
}

fn defaults() -> Rules {
    Rules::compile(&RuleSet::of_defaults()).0
}

fn scan_with(root: &Path, rules: &Rules, cache: &StatCache) -> Snapshot {
    let root = Root::open(root).expect("a root");
    scan(&root, rules, cache, None, 2, &AtomicBool::new(false)).expect("scanned")
}

fn scanned(root: &Path) -> Snapshot {
    scan_with(root, &defaults(), &StatCache::default())
}

fn find<'a>(snapshot: &'a Snapshot, text: &str) -> Option<&'a Entry> {
    snapshot.root.as_ref().and_then(|root| root.find(&path(text)))
}

fn directory<'a>(snapshot: &'a Snapshot, text: &str) -> &'a Directory {
    find(snapshot, text).and_then(Entry::as_directory).expect("a directory")
}

#[test]
fn everything_that_can_be_there_is_seen_as_what_it_is() {
    let outside = tempfile::tempdir().expect("a directory");
    let root = outside.path();
    let large: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
    put(root, "empty", b"");
    put(root, "dir/large", &large);
    put(root, "dir/it's \"one\"", b"quotes");
    put(root, "dir/new\nline", b"newline");
    std::fs::create_dir(root.join("hollow")).expect("made");
    symlink("../nowhere", root.join("link")).expect("a link");
    symlink("dir", root.join("node_modules")).expect("a link is no directory");
    std::fs::write(root.join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), b"x").expect("written");
    std::fs::set_permissions(root.join("empty"), PermissionsExt::from_mode(0o4755)).expect("set");
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("fifo"), rustix::fs::Mode::RUSR).expect("made");
    put(root, ".skync-tmp-1", b"ours");
    put(root, "venv/x", b"excluded");
    let snapshot = scanned(root);
    assert_eq!(snapshot.problems, []);
    assert_eq!((snapshot.files, snapshot.hashed_files, snapshot.excluded), (5, 5, 1));
    assert_eq!(snapshot.bytes, large.len() as u64 + 6 + 7 + 1);
    assert_eq!(snapshot.temporaries, [path(".skync-tmp-1")]);
    let file = |text: &str| find(&snapshot, text).and_then(Entry::as_file).expect("a file");
    assert_eq!(file("dir/large").digest, Digest::of(&large));
    assert_eq!(file("empty").digest, Digest::of(b""));
    assert_eq!(file("empty").mode, 0o755, "nine bits");
    assert_eq!(file("dir/new\nline").size, 7);
    assert_eq!(find(&snapshot, "link"), Some(&Entry::Symlink((*b"../nowhere").into())));
    assert!(matches!(find(&snapshot, "node_modules"), Some(Entry::Symlink(_))));
    assert_eq!(find(&snapshot, "fifo"), Some(&Entry::Untracked));
    assert!(find(&snapshot, ".skync-tmp-1").is_none() && find(&snapshot, "venv").is_none());
    let top = directory(&snapshot, "");
    assert!(top.children.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!(top.child(b"\xff\xfe").is_some());
}

#[test]
fn directories_that_hold_only_what_is_left_out_say_so() {
    let outside = tempfile::tempdir().expect("a directory");
    put(outside.path(), "left/below/node_modules/x", b"x");
    put(outside.path(), "mixed/.venv/x", b"x");
    put(outside.path(), "mixed/file", b"x");
    std::fs::create_dir(outside.path().join("hollow")).expect("made");
    let snapshot = scanned(outside.path());
    for (text, is_so) in [("left", true), ("left/below", true), ("mixed", false), ("hollow", false)]
    {
        assert_eq!(directory(&snapshot, text).only_excluded, is_so, "{text}");
    }
}

#[test]
fn a_file_is_read_again_only_if_it_may_have_changed() {
    let outside = tempfile::tempdir().expect("a directory");
    for name in ["a/1", "a/2", "b/3", "b/c/4"] {
        put(outside.path(), name, name.as_bytes());
    }
    let first = scanned(outside.path());
    assert_eq!(first.hashed_files, 4);
    let racy = scan_with(outside.path(), &defaults(), &first.cache);
    assert_eq!(racy.hashed_files, 4, "records of this very second are not trusted");
    let cache = settle(&first.cache);
    let second = scan_with(outside.path(), &defaults(), &cache);
    assert_eq!((second.hashed_files, second.files), (0, 4));
    assert_eq!(second.root, first.root);
    assert_eq!(second.cache.changed_since(&cache), (vec![], vec![]));
    put(outside.path(), "a/2", b"xxx");
    std::fs::remove_file(outside.path().join("b/c/4")).expect("removed");
    let third = scan_with(outside.path(), &defaults(), &second.cache);
    assert_eq!(third.hashed_files, 1);
    let (upserts, removals) = third.cache.changed_since(&second.cache);
    assert_eq!(upserts.iter().map(|(p, _)| p).collect::<Vec<_>>(), [&path("a/2")]);
    assert_eq!(removals, [path("b/c/4")]);
    // The same size and mtime do not deceive: the ctime moves.
    let before = std::fs::metadata(outside.path().join("a/1")).expect("there").modified();
    put(outside.path(), "a/1", b"A/1");
    let open = std::fs::File::options().write(true).open(outside.path().join("a/1"));
    open.expect("opened").set_modified(before.expect("a time")).expect("set");
    let fourth = scan_with(outside.path(), &defaults(), &settle(&third.cache));
    assert_eq!(
        find(&fourth, "a/1").and_then(Entry::as_file).map(|f| f.digest),
        Some(Digest::of(b"A/1"))
    );
}

#[test]
fn a_file_that_keeps_changing_is_a_problem_and_stops_nothing() {
    let outside = tempfile::tempdir().expect("a directory");
    put(outside.path(), "still", b"x");
    let noisy = outside.path().join("noisy");
    std::fs::write(&noisy, vec![0; 16 * 1024 * 1024]).expect("written");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = std::fs::File::options().append(true).open(&noisy).expect("opened");
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                std::io::Write::write_all(&mut &file, b"more").expect("written");
            }
        });
        // Now and then a reading may fall into a pause of the writer.
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut snapshot = scanned(outside.path());
        while snapshot.problems.is_empty() && Instant::now() < deadline {
            snapshot = scanned(outside.path());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let problem = "it changes while it is read".to_owned();
        assert_eq!(snapshot.problems, [(path("noisy"), problem.clone())]);
        assert_eq!(find(&snapshot, "noisy"), Some(&Entry::Problem(problem)));
        assert!(find(&snapshot, "still").and_then(Entry::as_file).is_some());
    });
}

#[test]
fn a_tree_that_is_too_deep_is_a_problem_where_it_is() {
    let outside = tempfile::tempdir().expect("a directory");
    let mut current = crate::disk::DirFd::open(outside.path()).expect("opened");
    let name = Name::parse(b"d").expect("a name");
    for _ in 0..DEPTH_MAX + 5 {
        current.make_directory(&name, 0o755).expect("made");
        current = current.open_directory(&name).expect("opened");
    }
    let snapshot = scanned(outside.path());
    assert_eq!(snapshot.problems.len(), 1);
    assert!(snapshot.problems[0].1.contains("levels deep"), "{:?}", snapshot.problems);
}

#[test]
fn directories_that_are_listed_are_watched_and_no_others() {
    let outside = tempfile::tempdir().expect("a directory");
    for name in ["a/b/f", "a/node_modules/x/y", "venv/x", "c/f"] {
        put(outside.path(), name, b"");
    }
    let root = Root::open(outside.path()).expect("a root");
    let watcher = Watcher::new(root.path()).expect("a watcher");
    let (rules, cache, go) = (defaults(), StatCache::default(), AtomicBool::new(false));
    let watched = |rules: &Rules| {
        let snapshot = scan(&root, rules, &cache, Some(&watcher), 2, &go).expect("scanned");
        assert_eq!(snapshot.unwatched, None);
        watcher.count()
    };
    assert_eq!(watched(&defaults()), 4, "the root, a, a/b and c");
    assert_eq!(watched(&Rules::default()), 7, "and a/node_modules, x in it, and venv");
    assert_eq!(watched(&rules), 4, "what is excluded by now is forgotten");
    std::fs::remove_dir_all(outside.path().join("a")).expect("removed");
    assert_eq!(watched(&rules), 2, "and what is gone, whether or not its events were read");
}

#[test]
fn a_scan_goes_on_where_no_more_can_be_watched() {
    let outside = tempfile::tempdir().expect("a directory");
    for name in ["a/f", "b/f", "c/f", "d/e/f"] {
        put(outside.path(), name, b"");
    }
    let root = Root::open(outside.path()).expect("a root");
    let mut watcher = Watcher::new(root.path()).expect("a watcher");
    watcher.watch_count_max = 3;
    let (rules, cache, go) = (defaults(), StatCache::default(), AtomicBool::new(false));
    for _ in 0..2 {
        let snapshot = scan(&root, &rules, &cache, Some(&watcher), 2, &go).expect("scanned");
        assert_eq!(snapshot.unwatched, Some(WatchError::Watches));
        assert_eq!((snapshot.files, watcher.count()), (4, 3), "what is watched stays so");
    }
    let cache = std::sync::Mutex::new(cache);
    let look = scan_at(&root, &rules, &cache, &path("d"), &|_, _| false, Some(&watcher), 1, &go);
    let look = look.expect("read");
    assert_eq!(look.unwatched, Some(WatchError::Watches));
    assert_eq!(look.entry.map(|entry| entry.count()), Some(3));
}

#[test]
fn too_many_entries_and_a_cancel_end_the_scan() {
    let outside = tempfile::tempdir().expect("a directory");
    for at in 0..20 {
        put(outside.path(), &format!("{at}/{at}"), b"");
    }
    let root = Root::open(outside.path()).expect("a root");
    let (rules, cache) = (defaults(), StatCache::default());
    let go = AtomicBool::new(false);
    let reader = Reader {
        root: &root,
        rules: &rules,
        watcher: None,
        threads: 2,
        cancelled: &go,
        entry_count_max: 30,
    };
    let many = reader.read_all(&cache).expect_err("41 entries");
    assert_eq!(many, ScanError::TooManyEntries(30));
    let cancelled = scan(&root, &rules, &cache, None, 2, &AtomicBool::new(true));
    let cancelled = cancelled.expect_err("cancelled");
    assert_eq!(cancelled, ScanError::Cancelled);
}

#[test]
fn a_root_that_went_away_is_an_error_and_not_an_empty_tree() {
    let outside = tempfile::tempdir().expect("a directory");
    let (root, _) = Root::create(&outside.path().join("root")).expect("a root");
    std::fs::remove_dir(outside.path().join("root")).expect("removed");
    let gone = scan(&root, &defaults(), &StatCache::default(), None, 1, &AtomicBool::new(false));
    assert!(matches!(gone, Err(ScanError::Root(_))));
}

/// Prints what the scan costs; run it in release with `--nocapture` to compare with the targets.
#[test]
fn a_large_tree_is_scanned_and_its_cost_printed() {
    let count: usize = if cfg!(debug_assertions) { 2_000 } else { 100_000 };
    let base = Path::new("/dev/shm");
    let base = if base.is_dir() { base.to_path_buf() } else { std::env::temp_dir() };
    let outside = tempfile::tempdir_in(base).expect("a directory");
    for at in 0..count {
        let size = if at % 5 == 0 { 1024 + at * 37 % 7168 } else { 16 };
        put(outside.path(), &format!("d{}/e{}/f{at}", at / 1000, at / 50), &vec![at as u8; size]);
    }
    let root = Root::open(outside.path()).expect("a root");
    let (rules, go) = (defaults(), AtomicBool::new(false));
    let timed = |cache: &StatCache, threads| {
        let start = SystemTime::now();
        let snapshot = scan(&root, &rules, cache, None, threads, &go).expect("scanned");
        println!(
            "{} files, {threads} threads: {} hashed, {:?}",
            snapshot.files,
            snapshot.hashed_files,
            start.elapsed().unwrap_or_default()
        );
        snapshot
    };
    let cold = timed(&StatCache::default(), 2);
    let cache = settle(&cold.cache);
    for threads in [1, 2, 2, 2] {
        let warm = timed(&cache, threads);
        assert_eq!((warm.files, warm.hashed_files), (count as u64, 0));
        assert_eq!(warm.root, cold.root);
    }
}
