#![expect(clippy::disallowed_methods, reason = "tests change the trees they watch")]

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Instant;

use super::*;
use crate::disk::Root;

fn path(text: &str) -> SyncPath {
    SyncPath::parse(text.as_bytes()).expect("a path")
}

fn appeared(at: &str, is_directory: bool, moved: bool) -> Event {
    Event::Appeared { path: path(at), is_directory, moved }
}

fn gone(at: &str, is_directory: bool) -> Event {
    Event::Gone { path: path(at), is_directory }
}

/// A watched tree on disk.
struct Tree {
    outside: tempfile::TempDir,
    root: Root,
    watcher: Watcher,
}

impl Tree {
    /// An empty one, and its root watched.
    fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    fn below(base: &Path) -> Self {
        let outside = tempfile::tempdir_in(base).expect("a directory");
        let (root, _) = Root::create(&outside.path().join("root")).expect("a root");
        let watcher = Watcher::new(root.path()).expect("a watcher");
        let tree = Self { outside, root, watcher };
        tree.add("");
        tree
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn add(&self, at: &str) {
        let directory = self.root.open_directory(&path(at)).expect("opened");
        self.watcher.add(&path(at), &directory).expect("watched");
    }

    /// Makes a directory and watches it; its event is read.
    fn make(&self, at: &str) {
        std::fs::create_dir(self.at(at)).expect("made");
        self.add(at);
        assert_eq!(self.read(), [appeared(at, true, false)]);
    }

    fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.at(from), self.at(to)).expect("renamed");
    }

    fn read(&self) -> Vec<Event> {
        let mut events = Vec::new();
        self.watcher.read(&mut |event| events.push(event)).expect("read");
        events
    }
}

#[test]
fn every_change_is_told_as_what_it_is() {
    let tree = Tree::new();
    std::fs::write(tree.at("a"), b"x").expect("written");
    let written =
        [appeared("a", false, false), Event::Writing(path("a")), Event::Written(path("a"))];
    assert_eq!(tree.read(), written);
    std::fs::read(tree.at("a")).expect("read");
    assert_eq!(tree.read(), [], "reading is no event");
    std::fs::set_permissions(tree.at("a"), PermissionsExt::from_mode(0o700)).expect("set");
    assert_eq!(tree.read(), [Event::Attributes(path("a"))]);
    tree.make("d");
    tree.rename("a", "d/b");
    assert_eq!(tree.read(), [gone("a", false), appeared("d/b", false, true)]);
    symlink("nowhere", tree.at("d/link")).expect("a link");
    std::fs::hard_link(tree.at("d/b"), tree.at("d/hard")).expect("a link");
    let linked = [appeared("d/link", false, false), appeared("d/hard", false, false)];
    assert_eq!(tree.read(), linked);
    std::fs::remove_dir_all(tree.at("d")).expect("removed");
    let mut removed = tree.read();
    assert_eq!(removed.pop(), Some(gone("d", true)));
    assert!(removed.iter().all(|event| matches!(event, Event::Gone { is_directory: false, .. })));
    assert_eq!((removed.len(), tree.watcher.count()), (3, 1));
}

/// What a flush stands on: see the module's documentation.
#[test]
fn a_change_is_in_the_queue_when_its_call_returns() {
    let tree = Tree::new();
    let mut file = File::create(tree.at("a")).expect("made");
    tree.read();
    for at in 0..1000 {
        file.write_all(b"x").expect("written");
        assert_eq!(tree.read(), [Event::Writing(path("a"))], "write {at}");
        std::fs::write(tree.at("b"), b"x").expect("written");
        assert_eq!(tree.read().last(), Some(&Event::Written(path("b"))), "close {at}");
        tree.rename("b", "c");
        assert_eq!(tree.read(), [gone("b", false), appeared("c", false, true)], "rename {at}");
    }
}

#[test]
fn a_directory_that_moved_is_at_its_new_path_in_whatever_order_that_is_learnt() {
    for learnt_first in [true, false] {
        let tree = Tree::new();
        tree.make("a");
        tree.make("a/below");
        tree.rename("a", "b");
        let moved = [gone("a", true), appeared("b", true, true)];
        if learnt_first {
            assert_eq!(tree.read(), moved);
            assert_eq!(tree.watcher.count(), 1, "what moved is forgotten");
        }
        tree.add("b");
        tree.add("b/below");
        std::fs::write(tree.at("b/below/file"), b"").expect("written");
        let told = tree.read();
        let new = [appeared("b/below/file", false, false), Event::Written(path("b/below/file"))];
        assert_eq!(told, if learnt_first { new.to_vec() } else { [&moved[..], &new].concat() });
        assert_eq!(tree.watcher.count(), 3);
        // Another that takes the old name is another.
        tree.make("a");
        std::fs::write(tree.at("a/x"), b"").expect("written");
        assert_eq!(tree.read()[0], appeared("a/x", false, false));
        std::fs::write(tree.at("b/x"), b"").expect("written");
        assert_eq!(tree.read()[0], appeared("b/x", false, false));
    }
}

#[test]
fn a_directory_that_is_replaced_before_that_is_read_is_watched_in_the_end() {
    let tree = Tree::new();
    tree.make("a");
    tree.rename("a", "b");
    std::fs::create_dir(tree.at("a")).expect("made");
    tree.add("a");
    let told = tree.read();
    assert_eq!(told, [gone("a", true), appeared("b", true, true), appeared("a", true, false)]);
    // Whoever is told that directories appeared reads them.
    tree.add("a");
    tree.add("b");
    for name in ["a/x", "b/x"] {
        File::create(tree.at(name)).expect("made");
        assert_eq!(tree.read()[0], appeared(name, false, false));
    }
}

#[test]
fn our_own_writing_is_one_event() {
    let tree = Tree::new();
    let temp = format!("{TEMP_PREFIX}1");
    std::fs::write(tree.at(&temp), b"x").expect("written");
    std::fs::set_permissions(tree.at(&temp), PermissionsExt::from_mode(0o700)).expect("set");
    tree.rename(&temp, "a");
    assert_eq!(tree.read(), [appeared("a", false, true)]);
}

#[test]
fn what_is_forgotten_tells_nothing() {
    let tree = Tree::new();
    for name in ["a", "a/b", "a/b/c", "a-b", "ab"] {
        tree.make(name);
    }
    tree.watcher.forget(&path("a/b"));
    assert_eq!(tree.watcher.count(), 4);
    File::create(tree.at("a/b/x")).expect("made");
    File::create(tree.at("a/b/c/x")).expect("made");
    File::create(tree.at("a/x")).expect("made");
    assert_eq!(tree.read()[0], appeared("a/x", false, false));
    tree.add("a/b");
    File::create(tree.at("a/b/y")).expect("made");
    assert_eq!(tree.read()[0], appeared("a/b/y", false, false));
    let round = tree.watcher.begin();
    tree.add("a");
    tree.watcher.finish(&path("a"), round);
    assert_eq!(tree.watcher.count(), 4, "the root, a, a-b, ab");
    // Its descriptor is known to the kernel alone: the first event ends that.
    let watches = std::mem::take(&mut *tree.watcher.watches());
    File::create(tree.at("a/z")).expect("made");
    File::create(tree.at("a/z")).expect("made");
    assert_eq!(tree.read(), []);
    *tree.watcher.watches() = watches;
    File::create(tree.at("a/z")).expect("made");
    assert_eq!((tree.read(), tree.watcher.count()), (vec![], 3));
}

#[test]
fn a_root_that_is_removed_moved_or_replaced_is_told_while_it_is_held_open() {
    let tree = Tree::new();
    std::fs::remove_dir(tree.root.path()).expect("removed");
    assert_eq!(tree.read(), [Event::RootGone]);
    let tree = Tree::new();
    std::fs::rename(tree.root.path(), tree.outside.path().join("away")).expect("renamed");
    assert!(tree.read().contains(&Event::RootGone));
    let tree = Tree::new();
    let other = tree.outside.path().join("other");
    std::fs::create_dir(&other).expect("made");
    std::fs::rename(other, tree.root.path()).expect("renamed");
    assert!(tree.read().contains(&Event::RootGone));
    let tree = Tree::new();
    File::create(tree.outside.path().join("beside")).expect("made");
    std::fs::remove_file(tree.outside.path().join("beside")).expect("removed");
    assert_eq!(tree.read(), []);
}

#[test]
fn a_full_queue_is_told_and_a_scan_corrects_what_was_missed() {
    let tree = Tree::new();
    for name in ["gone", "moved", "stays"] {
        tree.make(name);
    }
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("a limit");
    let limit: usize = limit.trim().parse().expect("a number");
    let files = ["x", "y"].map(|name| File::create(tree.at(name)).expect("made"));
    for at in 0..limit {
        // The kernel makes one of two that are the same and adjacent.
        (&files[at % 2]).write_all(b"x").expect("written");
    }
    std::fs::remove_dir(tree.at("gone")).expect("removed");
    std::fs::rename(tree.at("moved"), tree.outside.path().join("moved")).expect("moved");
    let told = tree.read();
    assert!(told.len() <= limit + 1);
    assert_eq!(told.last(), Some(&Event::Overflow));
    assert_eq!(tree.watcher.count(), 4, "nothing tells that two are gone");
    let round = tree.watcher.begin();
    tree.add("");
    tree.add("stays");
    tree.watcher.finish(&SyncPath::root(), round);
    assert_eq!(tree.watcher.count(), 2);
    File::create(tree.at("stays/x")).expect("made");
    assert_eq!(tree.read()[0], appeared("stays/x", false, false));
}

#[test]
fn waiting_ends_with_an_event_a_wake_or_the_time() {
    let tree = Tree::new();
    let (wake, waker) = rustix::pipe::pipe().expect("a pipe");
    tree.watcher.wait(wake.as_fd(), Some(Duration::from_millis(1))).expect("waited");
    std::thread::scope(|scope| {
        scope.spawn(|| File::create(tree.at("a")).expect("made"));
        while tree.read().is_empty() {
            tree.watcher.wait(wake.as_fd(), None).expect("waited");
        }
    });
    tree.read();
    std::thread::scope(|scope| {
        scope.spawn(|| rustix::io::write(&waker, b"x").expect("written"));
        tree.watcher.wait(wake.as_fd(), None).expect("waited");
    });
}

#[test]
fn an_exhausted_limit_says_which_sysctl_to_raise() {
    let text = WatchError::Watches.to_string();
    assert!(text.contains("`fs.inotify.max_user_watches` (now "), "{text}");
    let text = WatchError::Instances.to_string();
    assert!(text.contains("`fs.inotify.max_user_instances` (now "), "{text}");
    assert_eq!(WatchError::Other(Errno::ACCESS).to_string(), "permission denied");
}

/// Prints what a watch costs.
#[test]
fn many_directories_are_watched_by_two_threads_and_their_cost_printed() {
    const COUNT: usize = if cfg!(debug_assertions) { 1_000 } else { 10_000 };
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    let tree = Tree::below(&base);
    let names: Vec<Name> =
        (0..COUNT).map(|at| Name::parse(format!("d{at}").as_bytes()).expect("a name")).collect();
    let top = tree.root.open_directory(&SyncPath::root()).expect("opened");
    for name in &names {
        top.make_directory(name, 0o755).expect("made");
    }
    let add = |names: &[Name]| {
        let mut spent = Duration::ZERO;
        for name in names {
            let directory = top.open_directory(name).expect("opened");
            let path = SyncPath::root().join(name);
            let start = Instant::now();
            tree.watcher.add(&path, &directory).expect("watched");
            spent += start.elapsed();
        }
        spent / u32::try_from(names.len()).expect("not that many")
    };
    std::thread::scope(|scope| {
        let (left, right) = names.split_at(COUNT / 2);
        let first = scope.spawn(move || add(left));
        let second = add(right);
        println!("two threads: {:?} and {second:?} a directory", first.join().expect("added"));
    });
    assert_eq!(tree.watcher.count(), COUNT + 1);
    println!("again: {:?} a directory", add(&names));
    let start = Instant::now();
    tree.watcher.forget(&SyncPath::root());
    println!("forgetting all: {:?}", start.elapsed());
    println!("anew: {:?} a directory", add(&names));
    assert_eq!(tree.watcher.count(), COUNT);
}
