//! Tests of our own files: private, atomic, locked.
#![expect(clippy::disallowed_methods, reason = "fixtures below a temporary directory")]

use std::os::unix::fs::symlink;

use super::*;

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn runtime_directory_is_made_private() {
    let home = tempfile::tempdir().unwrap();
    let places = Places::below(home.path());
    assert_eq!(mode(places.runtime_dir().unwrap()), 0o700);
    places.runtime_dir().unwrap();
}

#[test]
fn runtime_directory_that_is_a_link_a_file_or_open_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let reason = |path: &Path| match make_private_directory(path) {
        Err(StateError::Unsafe { reason, .. }) => reason,
        other => panic!("unexpected: {other:?}"),
    };
    let (link, file, open) =
        (home.path().join("link"), home.path().join("file"), home.path().join("open"));
    symlink(home.path(), &link).unwrap();
    std::fs::write(&file, "").unwrap();
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(reason(&link), "it is a symbolic link");
    assert_eq!(reason(&file), "it is not a directory");
    assert_eq!(reason(&open), "other users can enter it");
}

#[test]
fn directory_of_another_user_is_refused() {
    let home = tempfile::tempdir().unwrap();
    std::fs::set_permissions(home.path(), Permissions::from_mode(0o700)).unwrap();
    let found = std::fs::symlink_metadata(home.path()).unwrap();
    assert_eq!(unsafe_because(&found, found.uid()), None);
    assert_eq!(unsafe_because(&found, found.uid() + 1), Some("it belongs to another user"));
}

#[test]
fn runtime_directory_too_long_for_a_socket_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let places = Places::below(&home.path().join("x".repeat(80)));
    assert!(matches!(places.runtime_dir(), Err(StateError::TooLong { .. })));
}

#[test]
fn written_file_has_its_mode_and_leaves_no_temporary() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("file");
    write_atomic(&path, b"one", 0o600).unwrap();
    write_atomic(&path, b"two", 0o640).unwrap();
    assert_eq!(read(&path, 10).unwrap().as_deref(), Some(&b"two"[..]));
    assert_eq!(mode(&path), 0o640);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn write_that_fails_leaves_the_old_content_and_no_temporary() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("taken");
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(write_atomic(&path, b"x", 0o600), Err(StateError::Io { .. })));
    assert!(path.is_dir());
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn reading_refuses_what_is_too_long_or_no_file() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("file");
    assert!(read(&path, 10).unwrap().is_none());
    std::fs::write(&path, "0123456789").unwrap();
    assert_eq!(read(&path, 10).unwrap().map(|bytes| bytes.len()), Some(10));
    assert!(read(&path, 9).is_err());
    assert!(read(home.path(), 9).is_err());
    let fifo = home.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert!(read(&fifo, 9).is_err());
}

#[test]
fn a_lock_excludes_until_it_is_dropped() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("lock");
    let held = try_lock(&path).unwrap().unwrap();
    assert!(try_lock(&path).unwrap().is_none());
    drop(held);
    assert!(try_lock(&path).unwrap().is_some());
}

#[test]
fn a_removed_lock_does_not_let_two_in() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("lock");
    let first = try_lock(&path).unwrap().unwrap();
    first.remove().unwrap();
    assert!(!path.exists());
    let second = lock(&path).unwrap();
    assert!(second.holds().unwrap());
    assert!(try_lock(&path).unwrap().is_none());
}

#[test]
fn a_lock_does_not_follow_a_link() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("lock");
    symlink(home.path().join("elsewhere"), &path).unwrap();
    assert!(try_lock(&path).is_err());
    assert!(!home.path().join("elsewhere").exists());
}

#[test]
fn removing_a_tree_opens_closed_directories_and_follows_no_link() {
    let home = tempfile::tempdir().unwrap();
    let (outside, tree) = (home.path().join("outside"), home.path().join("tree"));
    std::fs::create_dir_all(tree.join("closed/below")).unwrap();
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("kept"), "").unwrap();
    symlink(&outside, tree.join("link")).unwrap();
    std::fs::set_permissions(tree.join("closed"), Permissions::from_mode(0o500)).unwrap();
    remove_tree(&tree).unwrap();
    remove_tree(&tree).unwrap();
    assert!(!tree.exists() && outside.join("kept").exists());
}

#[test]
fn removing_a_tree_refuses_links_and_paths_that_cannot_be_ours() {
    let home = tempfile::tempdir().unwrap();
    let link = home.path().join("link");
    symlink(home.path(), &link).unwrap();
    for path in [link.as_path(), Path::new("/"), Path::new("/tmp"), Path::new("a/b/c")] {
        assert!(matches!(remove_tree(path), Err(StateError::Unsafe { .. })), "{path:?}");
    }
    let climbing = home.path().join("..");
    assert!(matches!(remove_tree(&climbing), Err(StateError::Unsafe { .. })));
}
