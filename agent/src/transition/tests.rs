#![expect(clippy::disallowed_methods, reason = "tests change trees behind the applier's back")]

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::*;
use crate::disk::DirFd;
use crate::entry::{Directory, File};
use crate::path::Name;
use crate::rules::Rules;
use crate::scan::{Snapshot, scan};
use crate::staging::INLINE_BYTES_MAX;

mod arriving;
mod bulk;
mod keeping;
mod races;
mod reading;

/// A root with a staging directory beside it.
struct World {
    _outside: tempfile::TempDir,
    outside: PathBuf,
    root: Root,
    staging: Staging,
    cache: Mutex<StatCache>,
}

impl World {
    fn new() -> Self {
        Self::in_directory(&std::env::temp_dir())
    }

    fn in_directory(base: &Path) -> Self {
        let guard = tempfile::tempdir_in(base).expect("a directory");
        let staging = guard.path().join("staging");
        Self::with_staging(guard, &staging)
    }

    fn with_staging(guard: tempfile::TempDir, staging: &Path) -> Self {
        let outside = guard.path().to_path_buf();
        let (root, _) = Root::create(&outside.join("root")).expect("a root");
        let root = root.with_umask(0o022);
        let staging = Staging::open(staging, &root).expect("a staging directory");
        Self { _outside: guard, outside, root, staging, cache: Mutex::default() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        let whole = self.at(name);
        std::fs::create_dir_all(whole.parent().expect("a parent")).expect("made");
        std::fs::write(whole, content).expect("written");
    }

    fn apply(&self, steps: impl IntoIterator<Item = Step>) -> Vec<Status> {
        let mut outcomes = Vec::new();
        Applier::new(&self.root, &self.staging, &self.cache, 2)
            .apply(steps, |outcome| outcomes.push(outcome));
        outcomes.sort_by_key(|outcome| outcome.index);
        for (at, outcome) in outcomes.iter().enumerate() {
            assert_eq!(outcome.index, at as u64, "each transition is reported once");
        }
        outcomes.into_iter().map(|outcome| outcome.status).collect()
    }

    fn scan(&self) -> Snapshot {
        let (rules, go) = (Rules::default(), AtomicBool::new(false));
        scan(&self.root, &rules, &StatCache::default(), None, 1, &go).expect("scanned")
    }

    /// Nothing of ours is left in the tree or unfinished in the staging directory.
    fn assert_clean(&self) {
        assert_eq!(self.scan().temporaries, []);
        let left = std::fs::read_dir(self.outside.join("staging")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "the staging directory is not empty");
    }
}

fn path(text: &str) -> SyncPath {
    SyncPath::parse(text.as_bytes()).expect("a path")
}

fn file(content: &[u8], mode: u16) -> Entry {
    let mtime_ns = 1_500_000_000_123_456_789;
    Entry::File(File { digest: Digest::of(content), size: content.len() as u64, mode, mtime_ns })
}

fn directory() -> Entry {
    Entry::Directory(Directory { mode: 0o755, ..Directory::default() })
}

fn link(target: &str) -> Entry {
    Entry::Symlink(target.as_bytes().into())
}

fn step(at: &str, expected: Option<Entry>, new: Option<Entry>) -> Vec<Step> {
    vec![Step::Transition(Transition { path: path(at), expected, new })]
}

/// The content in pieces, then the transition.
fn with_content(
    at: &str,
    expected: Option<Entry>,
    content: &[u8],
    mode: u16,
    piece: usize,
) -> Vec<Step> {
    let digest = Digest::of(content);
    let count = content.len().div_ceil(piece).max(1);
    let mut steps: Vec<Step> = (0..count)
        .map(|i| {
            let from = i * piece;
            let data = Bytes::copy_from_slice(&content[from..(from + piece).min(content.len())]);
            Step::Chunk(Chunk {
                digest,
                offset: from as u64,
                piece: Piece::Data(data),
                last: i + 1 == count,
            })
        })
        .collect();
    steps.extend(step(at, expected, Some(file(content, mode))));
    steps
}

fn small(at: &str, expected: Option<Entry>, content: &[u8], mode: u16) -> Vec<Step> {
    with_content(at, expected, content, mode, INLINE_BYTES_MAX)
}

fn problem(status: &Status) -> &str {
    match status {
        Status::Failed { problem, .. } => problem,
        other => panic!("it should have failed: {other:?}"),
    }
}

#[test]
fn everything_that_can_be_made_is_made_as_sent() {
    let world = World::new();
    let large: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut steps = Vec::new();
    steps.extend(step("dir", None, Some(directory())));
    steps.extend(step("dir/hollow", None, Some(directory())));
    steps.extend(small("dir/empty", None, b"", 0o644));
    steps.extend(small("dir/it's \"one\"\n", None, b"script", 0o755));
    steps.extend(small("private", None, b"secret", 0o600));
    steps.extend(small("wide", None, b"wide", 0o666));
    steps.extend(with_content("large", None, &large, 0o4750, 200_000));
    steps.extend(step("link", None, Some(link("../no where"))));
    let odd = SyncPath::parse(b"dir/\xff\xfe").expect("a path");
    steps.push(Step::Transition(Transition { path: odd, expected: None, new: Some(link("x")) }));
    let count = 9;
    assert_eq!(world.apply(steps.clone()), vec![Status::Applied; count]);
    let mode = |name: &str| std::fs::metadata(world.at(name)).expect("there").mode() & 0o7777;
    assert_eq!(mode("dir/it's \"one\"\n"), 0o755);
    assert_eq!(mode("private"), 0o600);
    assert_eq!(mode("wide"), 0o644, "less the umask");
    assert_eq!(mode("large"), 0o750, "no setuid");
    assert_eq!(std::fs::read(world.at("large")).expect("there"), large);
    let meta = std::fs::metadata(world.at("private")).expect("there");
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_500_000_000, 123_456_789));
    world.assert_clean();
    let first = world.scan().root;
    assert_eq!(world.apply(steps), vec![Status::Applied; count], "a repeat changes nothing");
    assert_eq!(world.scan().root, first);
}

#[test]
fn replacing_keeps_this_sides_permissions_and_the_present_time() {
    let world = World::new();
    world.put("a", b"old");
    std::fs::set_permissions(world.at("a"), PermissionsExt::from_mode(0o640)).expect("set");
    let old = || Some(file(b"old", 0o644));
    assert_eq!(world.apply(small("a", old(), b"newer", 0o755)), [Status::Applied]);
    let meta = std::fs::metadata(world.at("a")).expect("there");
    assert_eq!(meta.mode() & 0o7777, 0o750);
    assert!(meta.mtime() > 1_500_000_000, "a build must see the change");
    assert_eq!(std::fs::read(world.at("a")).expect("there"), b"newer");
    let inode = meta.ino();
    let steps = step("a", Some(file(b"newer", 0o755)), Some(file(b"newer", 0o600)));
    assert_eq!(world.apply(steps), [Status::Applied], "no content is needed for a mode");
    let meta = std::fs::metadata(world.at("a")).expect("there");
    assert_eq!((meta.mode() & 0o7777, meta.ino()), (0o600, inode));
    world.assert_clean();
}

#[test]
fn links_and_files_replace_each_other() {
    let world = World::new();
    symlink("one", world.at("a")).expect("a link");
    let steps = step("a", Some(link("one")), Some(link("two")));
    assert_eq!(world.apply(steps), [Status::Applied]);
    assert_eq!(world.apply(small("a", Some(link("two")), b"file", 0o644)), [Status::Applied]);
    let steps = step("a", Some(file(b"file", 0o644)), Some(link("three")));
    assert_eq!(world.apply(steps), [Status::Applied]);
    assert_eq!(std::fs::read_link(world.at("a")).expect("a link"), Path::new("three"));
    world.assert_clean();
}

#[test]
fn what_is_not_as_expected_stays_untouched() {
    let world = World::new();
    world.put("file", b"theirs");
    world.put("dir/inner", b"x");
    symlink("theirs", world.at("link")).expect("a link");
    let before = world.scan().root;
    let old = || Some(file(b"ours", 0o644));
    let mut steps = small("file", old(), b"new", 0o644);
    steps.extend(step("file", old(), None));
    steps.extend(step("file", Some(file(b"theirs", 0o755)), None));
    steps.extend(step("file", Some(link("x")), None));
    steps.extend(step("file", Some(directory()), None));
    steps.extend(step("link", Some(link("ours")), Some(link("new"))));
    steps.extend(step("link", Some(link("ours")), None));
    steps.extend(step("dir", old(), None));
    steps.extend(small("gone", old(), b"new", 0o644));
    assert_eq!(world.apply(steps), vec![Status::Stale; 9]);
    assert_eq!(world.scan().root, before);
    world.assert_clean();
}

#[test]
fn creation_never_clobbers() {
    let world = World::new();
    world.put("file", b"theirs");
    world.put("dir/inner", b"x");
    symlink("theirs", world.at("link")).expect("a link");
    let before = world.scan().root;
    let mut steps = Vec::new();
    for at in ["file", "dir", "link"] {
        steps.extend(small(at, None, b"ours", 0o644));
        steps.extend(step(at, None, Some(link("ours"))));
    }
    steps.extend(step("file", None, Some(directory())));
    assert_eq!(world.apply(steps), vec![Status::Stale; 7]);
    let mut same = small("file", None, b"theirs", 0o644);
    same.extend(step("link", None, Some(link("theirs"))));
    same.extend(step("dir", None, Some(directory())));
    assert_eq!(world.apply(same), vec![Status::Applied; 3], "it is there already");
    assert_eq!(world.scan().root, before);
    world.assert_clean();
}

#[test]
fn removal_takes_only_what_is_named() {
    let world = World::new();
    world.put("dir/known", b"x");
    world.put("dir/unknown", b"y");
    let mut steps = step("dir/known", Some(file(b"x", 0o644)), None);
    steps.extend(step("dir", Some(directory()), None));
    steps.extend(step("gone", Some(file(b"x", 0o644)), None));
    steps.extend(step("gone/below", Some(directory()), None));
    let wanted = [Status::Applied, Status::NotEmpty, Status::Applied, Status::Applied];
    assert_eq!(world.apply(steps), wanted);
    assert!(world.at("dir/unknown").exists() && !world.at("dir/known").exists());
    let mut steps = step("dir/unknown", Some(file(b"y", 0o644)), None);
    steps.extend(step("dir", Some(directory()), None));
    steps.extend(small("dir", None, b"a file now", 0o644));
    steps.extend(step("dir", Some(file(b"a file now", 0o644)), None));
    steps.extend(step("dir", None, Some(directory())));
    assert_eq!(world.apply(steps), vec![Status::Applied; 5]);
    assert!(world.at("dir").is_dir());
}

#[test]
fn content_that_is_not_what_was_announced_is_never_used() {
    let world = World::new();
    let large = vec![1; INLINE_BYTES_MAX + 1];
    let wrong = |content: &[u8], piece: usize| {
        let mut steps = with_content("a", None, content, 0o644, piece);
        if let Some(Step::Chunk(chunk)) = steps.first_mut() {
            let Piece::Data(data) = &chunk.piece else { panic!("a copy") };
            let mut data = data.to_vec();
            data[0] ^= 1;
            chunk.piece = Piece::Data(data.into());
        }
        steps
    };
    assert!(problem(&world.apply(wrong(b"small", 10))[0]).contains("not what was announced"));
    assert!(problem(&world.apply(wrong(&large, 1000))[0]).contains("another hash"));
    let mut gap = with_content("a", None, &large, 0o644, 1000);
    gap.remove(3);
    assert_eq!(world.apply(gap), [Status::Stale]);
    let mut cut = with_content("a", None, &large, 0o644, 1000);
    cut.remove(cut.len() - 2);
    assert_eq!(world.apply(cut), [Status::Stale]);
    let none = step("a", None, Some(file(b"x", 0o644)));
    assert_eq!(world.apply(none), [Status::Stale]);
    let orphan = small("no/where", None, b"x", 0o644);
    assert_eq!(
        problem(&world.apply(orphan)[0]),
        "the directory `no`, where it belongs, is not there"
    );
    assert_eq!(world.scan().root.map_or(0, |root| root.count()), 1);
    world.assert_clean();
}

#[test]
fn content_of_an_interrupted_run_is_used_without_coming_again() {
    let world = World::new();
    let large = vec![5; 200_000];
    let mut steps = with_content("a", None, &large, 0o644, 50_000);
    let transition = steps.pop().expect("the transition comes last");
    assert_eq!(world.apply(steps), []);
    assert_eq!(world.apply([transition]), [Status::Applied]);
    assert_eq!(std::fs::read(world.at("a")).expect("there"), large);
    world.assert_clean();
}
