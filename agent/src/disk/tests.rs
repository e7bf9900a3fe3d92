use std::os::unix::fs::symlink;

use super::*;

fn path(text: &str) -> SyncPath {
    SyncPath::parse(text.as_bytes()).expect("a path")
}

fn roots(directory: &Path) -> [Root; 2] {
    [
        Root::open(directory).expect("a root"),
        Root::open(directory).expect("a root").without_openat2(),
    ]
}

#[test]
fn a_root_that_is_missing_or_no_directory_is_told_apart() {
    let outside = tempfile::tempdir().expect("a directory");
    let error = Root::open(&outside.path().join("nothing")).expect_err("there is nothing");
    assert_eq!(error.kind(), DiskErrorKind::Missing);
    let file = outside.path().join("file");
    File::create(&file).expect("a file");
    let error = Root::open(&file).expect_err("it is a file");
    assert_eq!(error.kind(), DiskErrorKind::NotADirectory);
    assert!(error.to_string().contains("a part of the path is not a directory"), "{error}");
}

#[test]
fn creating_a_root_makes_its_parents_and_says_so_once() {
    let outside = tempfile::tempdir().expect("a directory");
    let deep = outside.path().join("a/b/c");
    assert!(Root::create(&deep).expect("it is made").1);
    assert!(!Root::create(&deep).expect("it is there").1);
}

#[test]
fn a_symbolic_link_on_the_way_or_at_the_end_is_refused() {
    let outside = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(outside.path().join("root/a/b")).expect("directories");
    std::fs::create_dir_all(outside.path().join("secret/b")).expect("directories");
    File::create(outside.path().join("secret/b/file")).expect("a file");
    let inside = outside.path().join("root");
    symlink("../secret", inside.join("link")).expect("a link");
    symlink("a", inside.join("inner")).expect("a link");
    for root in roots(&inside) {
        root.open_directory(&path("a/b")).expect("no link on the way");
        for bad in ["link", "link/b", "inner", "inner/b"] {
            root.open_directory(&path(bad)).expect_err(bad);
        }
        root.open_file(&path("link/b/file")).expect_err("it leads outside");
        root.parent_of(&path("link/b/new")).expect_err("it leads outside");
        root.parent_of(&path("link/new")).expect_err("it leads outside");
        root.parent_of(&path("link")).expect("the link itself may be changed");
        root.parent_of(&SyncPath::root()).expect_err("the root has no parent");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn to_look_at_a_directory_or_a_file_is_no_access_to_it() {
    let outside = tempfile::tempdir().expect("a directory");
    let (directory, file) = (outside.path().join("d"), outside.path().join("d/file"));
    std::fs::create_dir(&directory).expect("a directory");
    let mut made = File::create(&file).expect("a file");
    std::io::Write::write_all(&mut made, b"content").expect("written");
    drop(made);
    let at = |seconds| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    let accessed = |path: &Path| path.metadata().and_then(|meta| meta.accessed()).expect("a time");
    for path in [&file, &directory] {
        // Older than the last change: the next access is recorded also where most are not.
        let times = std::fs::FileTimes::new().set_accessed(at(1)).set_modified(at(2));
        File::open(path).and_then(|open| open.set_times(times)).expect("set");
    }
    for root in roots(outside.path()) {
        let (mut buffer, mut content) = (Vec::new(), String::new());
        let name = Name::parse(b"file").expect("a name");
        let listed = root.open_directory(&path("d")).expect("open");
        assert_eq!(listed.list(&mut buffer).expect("a list").len(), 1);
        let again = root.open_directory(&SyncPath::root()).expect("open");
        let again = again.open_directory(&Name::parse(b"d").expect("a name")).expect("open");
        assert_eq!(again.list(&mut buffer).expect("a list").len(), 1);
        for mut open in
            [root.open_file(&path("d/file")).expect("open"), again.open_file(&name).expect("open")]
        {
            std::io::Read::read_to_string(&mut open, &mut content).expect("read");
        }
        assert_eq!((accessed(&directory), accessed(&file)), (at(1), at(1)));
    }
    // And the system does record them here, or this would show nothing.
    assert_eq!(std::fs::read(&file).expect("read"), b"content");
    assert_ne!(accessed(&file), at(1));
}

#[test]
fn a_root_that_was_replaced_is_noticed() {
    let outside = tempfile::tempdir().expect("a directory");
    let (root, _) = Root::create(&outside.path().join("root")).expect("a root");
    root.check_in_place().expect("it is there");
    let (parent, name) = (DirFd::open(outside.path()).expect("open"), Name::parse(b"root"));
    let name = name.expect("a name");
    parent.rename_new(&name, &parent, &Name::parse(b"moved").expect("a name")).expect("moved");
    let error = root.check_in_place().expect_err("it is gone");
    assert_eq!(error.kind(), DiskErrorKind::Missing);
    parent.make_directory(&name, 0o755).expect("another");
    root.check_in_place().expect_err("it is another");
}

#[test]
fn renaming_to_a_taken_name_is_refused() {
    let outside = tempfile::tempdir().expect("a directory");
    let directory = DirFd::open(outside.path()).expect("open");
    let [a, b] = [b"a", b"b"].map(|n| Name::parse(n).expect("a name"));
    directory.create_file(&a, 0o644).expect("a file");
    directory.create_file(&b, 0o644).expect("a file");
    assert_eq!(directory.rename_new(&a, &directory, &b), Err(Errno::EXIST));
    assert_eq!(directory.exchange(&a, &directory, &b), Ok(true));
}

#[test]
fn removing_a_tree_does_not_follow_links() {
    let outside = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(outside.path().join("keep")).expect("directories");
    File::create(outside.path().join("keep/file")).expect("a file");
    std::fs::create_dir_all(outside.path().join("tree/a/b")).expect("directories");
    symlink("../../keep", outside.path().join("tree/a/link")).expect("a link");
    crate::own::removal::remove(&outside.path().join("tree"), "").expect("removed");
    crate::own::removal::remove(&outside.path().join("tree"), "")
        .expect("nothing to remove is no error");
    assert!(!outside.path().join("tree").exists());
    assert!(outside.path().join("keep/file").exists());
}

#[test]
fn a_file_system_that_minds_case_is_seen_as_such() {
    let outside = tempfile::tempdir().expect("a directory");
    File::create(outside.path().join("Name")).expect("a file");
    let root = Root::open(outside.path()).expect("a root");
    assert!(!root.is_case_insensitive().expect("listed"));
    assert!(root.free_bytes().expect("measured") > 0);
    root.syncfs().expect("synced");
}

#[test]
fn a_full_disk_is_recognised_and_worded() {
    let error = DiskError::new("write", &path("a"), Errno::DQUOT);
    assert!(error.is_no_space());
    assert_eq!(error.to_string(), "cannot write `a`: the disk quota is used up");
}
