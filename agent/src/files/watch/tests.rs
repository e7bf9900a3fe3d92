#![expect(clippy::disallowed_methods, reason = "the tests are the user whose files are watched")]

use std::fs;

use super::*;

fn path(text: &str) -> SyncPath {
    SyncPath::parse(text.as_bytes()).expect("a path")
}

struct Tree {
    base: tempfile::TempDir,
    root: Root,
    watch: Watch,
}

impl Tree {
    fn new(directories: &[&str]) -> Self {
        let base = tempfile::tempdir().expect("a directory");
        for directory in directories {
            fs::create_dir_all(base.path().join(directory)).expect("made");
        }
        let root = Root::open(base.path()).expect("a root");
        let watch = Watch::new(&root, Arc::new(Stamps::new())).expect("an instance");
        Self { base, root, watch }
    }

    fn add(&self, at: &str) -> bool {
        let directory = self.root.open_to_list(&path(at)).expect("opened");
        self.watch.add(&path(at), &directory)
    }

    fn write(&self, at: &str) {
        fs::write(self.base.path().join(at), "x").expect("written");
    }

    /// The paths that are marked, in order and once each.
    fn marked(&self) -> Vec<String> {
        let mut marked = Vec::new();
        let mut take = |mark| match mark {
            Mark::Name { directory, name, .. } => marked.push(directory.join(&name).to_string()),
            Mark::Below(path) => marked.push(format!("below {path}")),
        };
        self.watch.read(&mut take).expect("read");
        marked.dedup();
        marked
    }
}

#[test]
fn a_directory_at_two_paths_is_told_at_both() {
    let tree = Tree::new(&["a"]);
    assert!(tree.add("a"));
    if !std::path::Path::new("/proc/self").exists() {
        eprintln!("skipped: without /proc a directory is watched by its real path only");
        return;
    }
    // As if it were mounted there a second time.
    let directory = tree.root.open_to_list(&path("a")).expect("opened");
    assert!(tree.watch.add(&path("elsewhere"), &directory));
    tree.write("a/file");
    let mut marked = tree.marked();
    marked.sort();
    marked.dedup();
    assert_eq!(marked, ["a/file", "elsewhere/file"]);
    tree.watch.forget(&[b"elsewhere".to_vec()], u64::MAX);
    tree.write("a/file");
    assert_eq!(tree.marked(), ["a/file"]);
    tree.watch.forget(&[b"a".to_vec()], u64::MAX);
    tree.write("a/file");
    assert!(tree.marked().is_empty());
}

#[test]
fn what_was_added_later_is_not_forgotten() {
    let tree = Tree::new(&["a/b"]);
    let before = tree.watch.stamps.next();
    assert!(tree.add("a") && tree.add("a/b"));
    tree.watch.forget(&[b"a".to_vec()], before);
    tree.watch.prune(&path("a"), before);
    tree.write("a/b/file");
    assert_eq!(tree.marked(), ["a/b/file"]);
    tree.watch.prune(&path("a"), tree.watch.stamps.next());
    assert!(!tree.watch.is_watched("a") && !tree.watch.is_watched("a/b"));
    tree.write("a/b/file");
    assert!(tree.marked().is_empty());
}

#[test]
fn a_directory_that_is_removed_is_watched_no_more() {
    let tree = Tree::new(&["a"]);
    assert!(tree.add("") && tree.add("a"));
    fs::remove_dir(tree.base.path().join("a")).expect("removed");
    assert_eq!(tree.marked(), ["a"]);
    assert!(!tree.watch.is_watched("a"));
    assert_eq!(tree.watch.pairs().by_watch.len(), 1);
}

#[test]
fn half_of_what_the_user_may_watch_is_left_to_others() {
    let mut tree = Tree::new(&["a", "b"]);
    tree.watch.count_max = 1;
    assert!(tree.add("a"));
    assert!(!tree.add("b"));
}

#[test]
fn the_attributes_of_the_root_are_told_as_nothing_known() {
    let tree = Tree::new(&["a"]);
    assert!(tree.add(""));
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    fs::set_permissions(tree.base.path(), readable).expect("set");
    assert_eq!(tree.marked(), ["below ."]);
}
