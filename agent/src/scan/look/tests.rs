#![expect(clippy::disallowed_methods, reason = "tests make and change the trees they look at")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

use super::*;
use crate::entry::Digest;
use crate::rules::RuleSet;
use crate::scan::{FileRecord, scan};
use crate::watch::settle::{Dirt, Settle};

fn path(text: &str) -> SyncPath {
    SyncPath::parse(text.as_bytes()).expect("a path")
}

/// A directory on a disk that is quick whatever else runs, if there is one.
fn in_memory() -> tempfile::TempDir {
    let base = Path::new("/dev/shm");
    let base = if base.is_dir() { base.to_path_buf() } else { std::env::temp_dir() };
    tempfile::tempdir_in(base).expect("a directory")
}

/// A tree that follows its disk by events, in the simplest way that can be right.
struct Follower {
    /// Where it is on disk.
    top: tempfile::TempDir,
    root: Root,
    rules: Rules,
    watcher: Watcher,
    settle: Settle,
    tree: Entry,
    cache: Mutex<StatCache>,
    /// A copy of the cache that knows what the log tells and nothing else.
    saved: BTreeMap<SyncPath, FileRecord>,
}

impl Follower {
    fn new() -> Self {
        let top = in_memory();
        let root = Root::open(top.path()).expect("a root");
        let (rules, problems) = Rules::compile(&RuleSet::of_defaults());
        assert!(problems.is_empty());
        let watcher = Watcher::new(root.path()).expect("a watcher");
        let mut cache = StatCache::default();
        cache.start_log();
        let cache = Mutex::new(cache);
        let (settle, saved) = (Settle::default(), BTreeMap::new());
        let tree = Entry::Directory(crate::entry::Directory::default());
        let mut this = Self { top, root, rules, watcher, settle, tree, cache, saved };
        this.reread(&SyncPath::root());
        this
    }

    fn at(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    fn look(&self, at: &SyncPath) -> Look {
        let has = |directory: &SyncPath, name: &[u8]| {
            let directory = self.tree.find(directory).and_then(Entry::as_directory);
            directory.is_some_and(|directory| directory.child(name).is_some())
        };
        let (cache, watcher) = (&self.cache, Some(&self.watcher));
        let go = AtomicBool::new(false);
        scan_at(&self.root, &self.rules, cache, at, &has, watcher, 2, &go).expect("read")
    }

    fn reread(&mut self, at: &SyncPath) {
        let look = self.look(at);
        assert_eq!(look.unwatched, None);
        put(&mut self.tree, at, look.entry);
    }

    /// Takes all events and reads what they are about.
    fn follow(&mut self) {
        let mut events = Vec::new();
        self.watcher.read(&mut |event| events.push(event)).expect("read");
        let mut beside = BTreeSet::new();
        for event in events {
            let is_known = event.path().is_some_and(|path| self.tree.find(path).is_some());
            // By the event and not by what is read: a listing may have seen such a name that was
            // gone when it was looked at.
            if let Some((directory, name)) = event.path().and_then(SyncPath::split)
                && matches!(name.as_bytes(), b"Cargo.toml" | b"pom.xml")
            {
                beside.insert(directory);
            }
            self.settle.event(event, is_known, 0);
        }
        for path in beside {
            self.settle.mark(Dirt { path, below: true });
        }
        for Dirt { path, .. } in self.settle.all() {
            self.reread(&path);
        }
        let mut cache = self.cache.lock().expect("whole");
        for path in cache.take_log() {
            match cache.get(&path) {
                Some(record) => self.saved.insert(path, *record),
                None => self.saved.remove(&path),
            };
        }
    }

    /// Compares with a scan that knows nothing.
    fn check(&self) {
        let (none, go) = (StatCache::default(), AtomicBool::new(false));
        let fresh = scan(&self.root, &self.rules, &none, None, 1, &go).expect("scanned");
        let fresh = fresh.root.expect("a tree");
        assert_eq!(self.tree, fresh);
        let mut files = BTreeMap::new();
        let mut directories = 0;
        gather(&fresh, &SyncPath::root(), &mut files, &mut directories);
        let cache = self.cache.lock().expect("whole");
        let cached: BTreeMap<_, _> = cache.iter().map(|(at, record)| (at, *record)).collect();
        assert_eq!(cached, self.saved, "the log tells all");
        let cached: BTreeMap<_, _> =
            cached.into_iter().map(|(at, record)| (at, record.digest)).collect();
        assert_eq!(cached, files, "the files of the tree and no others");
        assert_eq!(self.watcher.count(), directories, "the directories of the tree and no others");
    }
}

fn gather(
    entry: &Entry,
    at: &SyncPath,
    files: &mut BTreeMap<SyncPath, Digest>,
    directories: &mut usize,
) {
    if let Entry::File(file) = entry {
        files.insert(at.clone(), file.digest);
    }
    if let Entry::Directory(directory) = entry {
        *directories += 1;
        for (name, child) in &directory.children {
            gather(child, &at.join(name), files, directories);
        }
    }
}

/// Makes the entry at a path that one; a path whose directory is not there is left alone.
fn put(tree: &mut Entry, at: &SyncPath, entry: Option<Entry>) {
    let Some((above, name)) = at.split() else {
        *tree = entry.expect("a root");
        return;
    };
    let mut directory = tree;
    for part in above.names() {
        let Entry::Directory(here) = directory else { return };
        let found = here.children.iter().position(|(name, _)| name.as_bytes() == part);
        let Some(found) = found else { return };
        directory = &mut here.children[found].1;
    }
    let Entry::Directory(directory) = directory else { return };
    let found = directory.children.binary_search_by(|(other, _)| other.cmp(&name));
    match (found, entry) {
        (Ok(found), Some(entry)) => directory.children[found].1 = entry,
        (Ok(found), None) => drop(directory.children.remove(found)),
        (Err(found), Some(entry)) => directory.children.insert(found, (name, entry)),
        (Err(_), None) => {}
    }
}

/// A small generator, so that a failure is repeated from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    fn path(&mut self, top: &Path) -> PathBuf {
        const DIRECTORIES: [&str; 6] = ["a", "b", "target", "node_modules", "src", "f"];
        const NAMES: [&str; 9] =
            ["f", "g", "a", "target", "Cargo.toml", ".env", "x.pyc", "pom.xml", ".skync-tmp-1"];
        let mut path = top.to_path_buf();
        for _ in 0..self.below(4) {
            path.push(DIRECTORIES[self.below(DIRECTORIES.len())]);
        }
        path.join(NAMES[self.below(NAMES.len())])
    }
}

fn remove(at: &Path) {
    match std::fs::symlink_metadata(at) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(at).expect("removed"),
        Ok(_) => std::fs::remove_file(at).expect("removed"),
        Err(_) => {}
    }
}

/// Makes the directories above a path, in the place of whatever is there.
fn make_way(top: &Path, at: &Path) {
    let above = at.parent().expect("a parent");
    for part in above.ancestors().filter(|part| part.starts_with(top)) {
        if std::fs::symlink_metadata(part).is_ok_and(|meta| !meta.is_dir()) {
            remove(part);
        }
    }
    std::fs::create_dir_all(above).expect("made");
}

/// One random change. Moves that cannot be are left out.
fn change(random: &mut Random, top: &Path) {
    let (at, to) = (random.path(top), random.path(top));
    match random.below(12) {
        0..=3 => {
            make_way(top, &at);
            if !at.is_dir() {
                remove(&at);
                let size = random.below(40);
                std::fs::write(&at, vec![b'x'; size]).expect("written");
            }
        }
        4 => {
            make_way(top, &at);
            remove(&at);
            symlink(["f", "a/f", "nowhere"][random.below(3)], &at).expect("a link");
        }
        5 => {
            let nested = at.join("b/a/new");
            make_way(top, &nested);
            remove(&nested);
            std::fs::write(nested, b"nested").expect("written");
        }
        6 | 7 => {
            make_way(top, &to);
            let _ = std::fs::rename(&at, &to);
        }
        8 => {
            let _ = rustix::fs::renameat_with(CWD, &at, CWD, &to, RenameFlags::EXCHANGE);
        }
        9 => {
            if let Ok(meta) = std::fs::metadata(&at) {
                let mode =
                    if meta.is_dir() { 0o700 } else { [0o600, 0o644, 0o755][random.below(3)] };
                let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
                std::fs::set_permissions(&at, mode).expect("set");
            }
        }
        _ => remove(&at),
    }
}

/// The layers together: watcher, settling, partial scans and the log of the cache.
#[test]
fn a_tree_that_is_read_by_path_is_the_tree_of_a_whole_scan() {
    for seed in 1..=3_u64 {
        eprintln!("seed {seed}");
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut follower = Follower::new();
        for round in 0..100 {
            eprintln!("round {round}");
            for _ in 0..=random.below(8) {
                let top = follower.top.path().to_path_buf();
                change(&mut random, &top);
            }
            follower.follow();
            follower.check();
        }
    }
}

/// Nothing falls between a listing and its watch.
#[test]
fn files_of_fresh_directories_are_not_lost_while_they_are_made() {
    let mut follower = Follower::new();
    let top = follower.top.path().to_path_buf();
    std::thread::scope(|scope| {
        let changes = scope.spawn(move || {
            for at in 0..60 {
                let directory = top.join(format!("d{at}/e/f"));
                std::fs::create_dir_all(&directory).expect("made");
                for name in 0..60 {
                    std::fs::File::create(directory.join(name.to_string())).expect("made");
                }
            }
        });
        while !changes.is_finished() {
            follower.follow();
        }
    });
    follower.follow();
    follower.check();
}

#[test]
fn a_tree_that_is_read_while_it_changes_is_right_in_the_end() {
    for seed in 11..=20_u64 {
        eprintln!("seed {seed}");
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut follower = Follower::new();
        let top = follower.top.path().to_path_buf();
        std::thread::scope(|scope| {
            let changes = scope.spawn(move || {
                for _ in 0..150 {
                    change(&mut random, &top);
                }
            });
            while !changes.is_finished() {
                follower.follow();
            }
        });
        follower.follow();
        follower.check();
    }
}

#[test]
fn what_is_at_a_path_is_seen_as_what_it_is() {
    let mut follower = Follower::new();
    std::fs::create_dir_all(follower.at("d/e")).expect("made");
    std::fs::write(follower.at("d/e/f"), b"f").expect("written");
    std::fs::write(follower.at("d/.skync-tmp-1"), b"ours").expect("written");
    symlink("e", follower.at("d/link")).expect("a link");
    follower.follow();
    let look = follower.look(&path("d/e/f"));
    assert_eq!(look.entry.and_then(|e| e.as_file().map(|f| f.digest)), Some(Digest::of(b"f")));
    assert_eq!(follower.look(&path("d/link")).entry, Some(Entry::Symlink((*b"e").into())));
    let look = follower.look(&path("d"));
    assert_eq!(look.entry.map(|entry| entry.count()), Some(4));
    assert_eq!(look.temporaries, [path("d/.skync-tmp-1")]);
    let look = follower.look(&path("d/.skync-tmp-1"));
    assert_eq!((look.entry, look.temporaries), (None, vec![path("d/.skync-tmp-1")]));
    for nothing in ["d/x", "x/y", "d/e/f/x", "d/link/f"] {
        let look = follower.look(&path(nothing));
        assert!(look.entry.is_none() && !look.excluded, "{nothing}");
    }
    std::fs::create_dir(follower.at("d/node_modules")).expect("made");
    let look = follower.look(&path("d/node_modules"));
    assert!(look.entry.is_none() && look.excluded);
    let below = follower.look(&path("d/node_modules/x"));
    assert!(below.entry.is_none() && !below.excluded, "it is not there");
    let long = path("d").join(&Name::parse(&[b'x'; 255]).expect("a name"));
    assert_eq!(follower.look(&long).entry, None);
    rustix::fs::mkfifoat(CWD, follower.at("fifo"), rustix::fs::Mode::RUSR).expect("made");
    assert_eq!(follower.look(&path("fifo")).entry, Some(Entry::Untracked));
}

#[test]
fn a_file_is_read_only_if_the_cache_does_not_hold() {
    let mut follower = Follower::new();
    std::fs::write(follower.at("f"), b"f").expect("written");
    follower.follow();
    let record = *follower.cache.lock().expect("whole").get(&path("f")).expect("a record");
    // As if it had been read later than it was changed, and found to be something else.
    let digest = Digest::of(b"what the cache says");
    let recorded_ns = record.recorded_ns + 10 * crate::scan::digest::RACY_NS;
    let record = FileRecord { digest, recorded_ns, ..record };
    follower.cache.lock().expect("whole").insert(&path("f"), record);
    let digest_of = |look: Look| look.entry.and_then(|entry| entry.as_file().map(|f| f.digest));
    assert_eq!(digest_of(follower.look(&path("f"))), Some(digest));
    std::fs::write(follower.at("f"), b"g").expect("written");
    assert_eq!(digest_of(follower.look(&path("f"))), Some(Digest::of(b"g")));
}

#[test]
fn a_root_that_went_away_is_an_error_and_not_a_path_that_is_gone() {
    let mut follower = Follower::new();
    std::fs::create_dir(follower.at("d")).expect("made");
    std::fs::write(follower.at("d/f"), b"f").expect("written");
    follower.follow();
    let away = in_memory();
    std::fs::rename(follower.top.path(), away.path().join("away")).expect("moved");
    std::fs::remove_dir_all(away.path().join("away")).expect("removed");
    for at in ["", "d", "d/f", "x"] {
        let (cache, go) = (&follower.cache, AtomicBool::new(false));
        let (root, rules) = (&follower.root, &follower.rules);
        let look = scan_at(root, rules, cache, &path(at), &|_, _| false, None, 1, &go);
        assert!(matches!(look, Err(ScanError::Root(_))), "{at}");
    }
}

#[test]
fn a_path_that_is_too_deep_is_a_problem_and_a_cancel_ends_the_look() {
    let follower = Follower::new();
    let mut directory = DirFd::open(follower.top.path()).expect("opened");
    let (name, mut at) = (Name::parse(b"d").expect("a name"), SyncPath::root());
    for _ in 0..=DEPTH_MAX {
        directory.make_directory(&name, 0o755).expect("made");
        directory = directory.open_directory(&name).expect("opened");
        at = at.join(&name);
    }
    assert_eq!(follower.look(&at).entry, Some(Entry::Problem(too_deep())));
    std::fs::write(follower.at("f"), b"f").expect("written");
    let stop = AtomicBool::new(true);
    for at in ["f", "d"] {
        let (cache, at) = (&follower.cache, path(at));
        let look =
            scan_at(&follower.root, &follower.rules, cache, &at, &|_, _| false, None, 1, &stop);
        assert!(matches!(look, Err(ScanError::Cancelled)), "{at}");
    }
}

/// Prints what it costs to read one path again.
#[test]
fn a_path_of_a_large_tree_is_read_and_its_cost_printed() {
    let count = if cfg!(debug_assertions) { 2_000 } else { 100_000 };
    let top = in_memory();
    for at in 0..count {
        let file = top.path().join(format!("d{}/e{}/f{at}", at / 1000, at / 50));
        std::fs::create_dir_all(file.parent().expect("a parent")).expect("made");
        std::fs::write(file, b"content").expect("written");
    }
    let root = Root::open(top.path()).expect("a root");
    let (rules, _) = Rules::compile(&RuleSet::of_defaults());
    let watcher = Watcher::new(root.path()).expect("a watcher");
    let (cache, go) = (Mutex::default(), AtomicBool::new(false));
    let timed = |at: &str, watcher| {
        let start = std::time::Instant::now();
        let look = scan_at(&root, &rules, &cache, &path(at), &|_, _| false, watcher, 2, &go)
            .expect("read");
        println!("{count} files, `{at}`: {:?}", start.elapsed());
        look.entry.expect("there").count()
    };
    let all = timed("", Some(&watcher));
    assert_eq!(timed("", Some(&watcher)), all);
    assert_eq!(timed("d1/e20/f1000", Some(&watcher)), 1);
    assert_eq!(timed("d1/e20/f1001", Some(&watcher)), 1);
    assert_eq!(timed("d1/e20", Some(&watcher)), 51);
    assert_eq!(timed("d1/e20", None), 51);
}
