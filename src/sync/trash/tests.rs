#![expect(clippy::disallowed_methods, reason = "tests write files of their own")]

use std::cell::Cell;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use skync_agent::transition::Loss;

use super::*;
use crate::sync::trees::{name, path};

thread_local! {
    /// The clock of this test.
    static NOW: Cell<i64> = const { Cell::new(1_700_000_000_000_000_000) };
}

fn now() -> i64 {
    NOW.get()
}

fn pass(time: Duration) {
    NOW.set(NOW.get() + nanoseconds(time));
}

struct Project {
    place: tempfile::TempDir,
}

impl Project {
    fn new() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(place.path().join("p")).expect("made");
        Self { place }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join("p").join(name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        std::fs::create_dir_all(self.at(name).parent().expect("a parent")).expect("made");
        std::fs::write(self.at(name), content).expect("written");
    }

    fn trash(&self, bytes: u64) -> Trash {
        self.trash_at(&self.place.path().join("trash"), bytes)
    }

    fn trash_at(&self, at: &Path, bytes: u64) -> Trash {
        Trash::with(at, Limits { age: AGE_MAX, bytes }, now).expect("a trash")
    }

    /// Has the trash keep what is at a path, as a transition does.
    fn lose(&self, trash: &Trash, at: &str, loss: Loss) -> Result<Kept, KeepError> {
        let root = skync_agent::disk::Root::open(&self.at("")).expect("opened");
        let (directory, name) = root.parent_of(&path(at)).expect("a parent");
        let meta = directory.stat(&name).expect("there");
        let (path, must_stay) = (path(at), false);
        let doomed = Doomed {
            path: &path,
            meta: &meta,
            directory: &directory,
            name: &name,
            loss,
            must_stay,
        };
        trash.keep(&doomed)
    }

    fn delete(&self, trash: &Trash, at: &str, content: &[u8]) {
        self.put(at, content);
        assert_eq!(self.lose(trash, at, Loss::Deleted), Ok(Kept::Moved));
    }
}

fn kept(trash: &Trash) -> Vec<(String, Loss, Vec<u8>)> {
    let mut kept: Vec<_> = trash
        .list()
        .expect("listed")
        .into_iter()
        .map(|lost| {
            let at = lost.shelf.join(lost.path.as_path());
            let content = match lost.meta.kind {
                Kind::Symlink => {
                    let target = std::fs::read_link(at).expect("a link");
                    target.into_os_string().into_encoded_bytes()
                }
                _ => std::fs::read(at).expect("read"),
            };
            (lost.path.to_string(), lost.loss, content)
        })
        .collect();
    kept.sort();
    kept
}

fn names(trash: &Trash) -> Vec<String> {
    kept(trash).into_iter().map(|(name, _, _)| name).collect()
}

#[test]
fn what_is_lost_is_kept_as_it_was() {
    let project = Project::new();
    let trash = project.trash(BYTES_MAX);
    project.put("a/b/secret", b"1");
    std::fs::set_permissions(project.at("a/b/secret"), PermissionsExt::from_mode(0o640))
        .expect("chmod");
    let before = std::fs::metadata(project.at("a/b/secret")).expect("there");
    project.put("x", b"22");
    symlink("a target", project.at("l")).expect("linked");
    for (at, loss) in
        [("a/b/secret", Loss::Deleted), ("x", Loss::Overwritten), ("l", Loss::Overwritten)]
    {
        assert_eq!(project.lose(&trash, at, loss), Ok(Kept::Moved));
        assert!(project.at(at).symlink_metadata().is_err());
    }
    let expected = [
        ("a/b/secret".to_owned(), Loss::Deleted, b"1".to_vec()),
        ("l".to_owned(), Loss::Overwritten, b"a target".to_vec()),
        ("x".to_owned(), Loss::Overwritten, b"22".to_vec()),
    ];
    // Another process finds the same: all of it is on the disk.
    assert_eq!(kept(&project.trash(BYTES_MAX)), expected);
    let list = trash.list().expect("listed");
    let secret = list.iter().find(|lost| lost.path == path("a/b/secret")).expect("kept");
    let meta = &secret.meta;
    assert_eq!((meta.mode, meta.inode), (0o640, before.ino()));
    let mtime = before.mtime() * 1_000_000_000 + before.mtime_nsec();
    assert_eq!((meta.size, meta.mtime_ns), (1, mtime));
    let private = std::fs::metadata(trash.path()).expect("there").permissions().mode();
    assert_eq!(private & 0o777, 0o700);
}

#[test]
fn a_path_can_be_lost_again_and_as_something_else() {
    let project = Project::new();
    let trash = project.trash(BYTES_MAX);
    project.delete(&trash, "a", b"1");
    project.delete(&trash, "a", b"2");
    // A file in the place of a directory, and the reverse.
    project.delete(&trash, "a/b", b"3");
    std::fs::remove_dir(project.at("a")).expect("removed");
    project.delete(&trash, "a", b"4");
    let contents: Vec<_> = kept(&trash).into_iter().map(|(name, _, c)| (name, c)).collect();
    let expected = [("a", "1"), ("a", "2"), ("a", "4"), ("a/b", "3")];
    let expected = expected.map(|(name, c)| (name.to_owned(), c.as_bytes().to_vec()));
    assert_eq!(contents, expected);
    let batches: std::collections::BTreeSet<_> =
        trash.list().expect("listed").into_iter().map(|lost| lost.batch_ns).collect();
    assert_eq!(batches.len(), 1);
}

#[test]
fn a_burst_is_one_batch_and_the_next_is_another() {
    let project = Project::new();
    let trash = project.trash(BYTES_MAX);
    let batches = || {
        let list = trash.list().expect("listed");
        list.iter().map(|lost| lost.batch_ns).collect::<std::collections::BTreeSet<_>>().len()
    };
    for at in ["a", "b", "c"] {
        project.delete(&trash, at, b"1");
        pass(BURST_QUIET);
    }
    assert_eq!(batches(), 1);
    pass(Duration::from_nanos(1));
    project.delete(&trash, "d", b"1");
    assert_eq!(batches(), 2);
    // One that never rests is cut in time.
    for count in 0..200 {
        pass(Duration::from_secs(4));
        project.delete(&trash, &format!("e{count}"), b"1");
    }
    assert_eq!(batches(), 3);
    assert_eq!(trash.list().expect("listed")[0].path, path("e199"), "the newest is first");
}

#[test]
fn the_oldest_go_when_there_is_too_much() {
    let project = Project::new();
    let trash = project.trash(100);
    for (at, size) in [("a", 40), ("b", 40), ("c", 15), ("d", 20)] {
        project.delete(&trash, at, &vec![0; size]);
        pass(Duration::from_secs(6));
    }
    // Room is made when a batch begins: a, b and c fitted, with d it is too much.
    assert_eq!(names(&trash), ["a", "b", "c", "d"]);
    project.delete(&trash, "e", b"1");
    assert_eq!(names(&trash), ["b", "c", "d", "e"]);
    // Another process measures what it did not keep itself.
    pass(Duration::from_secs(6));
    let other = project.trash(30);
    project.delete(&other, "f", b"1");
    assert_eq!(names(&other), ["d", "e", "f"]);
}

#[test]
fn one_that_is_larger_than_the_limit_is_kept_until_the_next() {
    let project = Project::new();
    let trash = project.trash(10);
    project.delete(&trash, "small", b"1");
    pass(Duration::from_secs(6));
    project.delete(&trash, "large", &[0; 50]);
    pass(Duration::from_secs(6));
    project.delete(&trash, "next", b"1");
    assert_eq!(names(&trash), ["large", "next"]);
    pass(Duration::from_secs(6));
    project.delete(&trash, "last", b"1");
    assert_eq!(names(&trash), ["last", "next"]);
}

#[test]
fn what_is_too_old_goes_whatever_its_size() {
    let project = Project::new();
    let trash = project.trash(BYTES_MAX);
    project.delete(&trash, "a", b"1");
    pass(AGE_MAX - Duration::from_secs(10));
    project.delete(&trash, "b", b"1");
    pass(Duration::from_secs(20));
    project.delete(&trash, "c", b"1");
    assert_eq!(names(&trash), ["b", "c"]);
    // A clock that was set back removes nothing.
    NOW.set(NOW.get() - nanoseconds(AGE_MAX));
    project.delete(&project.trash(BYTES_MAX), "d", b"1");
    assert_eq!(names(&trash), ["b", "c", "d"]);
}

#[test]
fn what_changed_since_it_was_compared_goes_back() {
    let project = Project::new();
    let trash = project.trash(BYTES_MAX);
    project.put("a", b"1");
    let directory = DirFd::open(&project.at("")).expect("opened");
    let meta = directory.stat(&name("a")).expect("there");
    project.put("a", b"more");
    let (path, name) = (path("a"), name("a"));
    for must_stay in [false, true] {
        let directory = &directory;
        let (path, name, meta, loss) = (&path, &name, &meta, Loss::Deleted);
        let kept = trash.keep(&Doomed { path, meta, directory, name, loss, must_stay });
        // With a second name the caller looks again.
        assert_eq!(kept, if must_stay { Ok(Kept::Copied) } else { Err(KeepError::Changed) });
        assert_eq!(std::fs::read(project.at("a")).expect("read"), b"more");
    }
    assert_eq!(trash.list().expect("listed").len(), 1);
}

#[test]
fn what_has_another_name_in_use_is_copied() {
    let project = Project::new();
    let trash = project.trash(BYTES_MAX);
    project.put("a", b"1");
    std::fs::hard_link(project.at("a"), project.at("b")).expect("linked");
    assert_eq!(project.lose(&trash, "a", Loss::Deleted), Ok(Kept::Copied));
    project.put("b", b"changed in place");
    assert_eq!(kept(&trash), [("a".to_owned(), Loss::Deleted, b"1".to_vec())]);
}

#[test]
fn on_another_file_system_a_copy_is_kept() {
    let project = Project::new();
    let other = tempfile::tempdir_in("/dev/shm").expect("a directory on another file system");
    let device = |path: &Path| std::fs::metadata(path).expect("there").dev();
    if device(other.path()) == device(project.place.path()) {
        eprintln!("skipped: /dev/shm is on the file system of the other temporary files");
        return;
    }
    let trash = project.trash_at(&other.path().join("trash"), BYTES_MAX);
    let large = vec![7; WINDOWS];
    project.put("d/a", &large);
    std::fs::set_permissions(project.at("d/a"), PermissionsExt::from_mode(0o604)).expect("chmod");
    symlink("t", project.at("d/l")).expect("linked");
    for at in ["d/a", "d/l"] {
        assert_eq!(project.lose(&trash, at, Loss::Deleted), Ok(Kept::Copied));
        assert!(project.at(at).symlink_metadata().is_ok(), "it is the caller's to remove");
    }
    let expected = [
        ("d/a".to_owned(), Loss::Deleted, large),
        ("d/l".to_owned(), Loss::Deleted, b"t".to_vec()),
    ];
    assert_eq!(kept(&trash), expected);
    let list = trash.list().expect("listed");
    let copy = &list.iter().find(|lost| lost.path == path("d/a")).expect("kept").meta;
    let mtime = std::fs::metadata(project.at("d/a")).expect("there");
    let mtime = mtime.mtime() * 1_000_000_000 + mtime.mtime_nsec();
    assert_eq!((copy.mode, copy.mtime_ns), (0o604, mtime));
}

/// More than one window of a copy, and no whole number of them.
const WINDOWS: usize = (256 << 10) * 2 + 3;

#[test]
fn a_batch_that_another_process_removed_is_begun_again() {
    let project = Project::new();
    let trash = project.trash(BYTES_MAX);
    project.delete(&trash, "d/a", b"1");
    let batch = trash.list().expect("listed")[0].shelf.clone();
    std::fs::remove_dir_all(batch.parent().expect("a batch")).expect("removed");
    project.delete(&trash, "e/b", b"2");
    assert_eq!(names(&trash), ["e/b"]);
    let batch = trash.list().expect("listed")[0].shelf.clone();
    std::fs::remove_dir_all(batch.parent().expect("a batch")).expect("removed");
    // Its directory is open still: the loss is refused, and the next try succeeds.
    project.put("e/c", b"3");
    assert_eq!(project.lose(&trash, "e/c", Loss::Deleted), Err(KeepError::Changed));
    assert_eq!(project.lose(&trash, "e/c", Loss::Deleted), Ok(Kept::Moved));
    assert_eq!(names(&trash), ["e/c"]);
}

#[test]
fn without_a_trash_nothing_is_lost() {
    let project = Project::new();
    let trash = project.trash(BYTES_MAX);
    project.put("a", b"1");
    std::fs::remove_dir(trash.path()).expect("removed");
    let refused = project.lose(&trash, "a", Loss::Deleted);
    assert!(matches!(refused, Err(KeepError::Failed { no_space: false, .. })), "{refused:?}");
    assert_eq!(std::fs::read(project.at("a")).expect("read"), b"1");
}
