//! What others change in the source is seen on the mount.

use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::io::Errno;
use skync_mount::source::Change;
use skync_mount::testing::Request;

use crate::support::{World, names, read, wait_for, within};

fn plain(root: &Path) {
    std::fs::create_dir(root.join("d")).unwrap();
    std::fs::write(root.join("d/f"), "old").unwrap();
    std::fs::write(root.join("g"), "g").unwrap();
}

#[test]
fn a_new_content_is_read() {
    let Some(world) = World::new(plain) else { return };
    assert_eq!(read(world.at("d/f")).unwrap(), "old");
    world.outside(&["d/f"], |root| std::fs::write(root.join("d/f"), "new and longer").unwrap());
    assert_eq!(read(world.at("d/f")).unwrap(), "new and longer");
    // The same size, and times that may well be the same, too.
    world.outside(&["d/f"], |root| std::fs::write(root.join("d/f"), "new and shorts").unwrap());
    assert_eq!(read(world.at("d/f")).unwrap(), "new and shorts");
    world.outside(&["d/f"], |root| std::fs::write(root.join("d/f"), "").unwrap());
    assert_eq!(read(world.at("d/f")).unwrap(), "");
}

#[test]
fn a_new_content_is_read_by_who_has_the_file_open() {
    let Some(world) = World::new(plain) else { return };
    let path = world.at("d/f");
    let file = within(move || {
        let file = std::fs::File::open(path).unwrap();
        let mut bytes = [0; 16];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 3);
        file
    });
    world.outside(&["d/f"], |root| std::fs::write(root.join("d/f"), "NEW").unwrap());
    let read = within(move || {
        let mut bytes = [0; 16];
        let count = file.read_at(&mut bytes, 0).unwrap();
        (file.metadata().unwrap().len(), bytes[..count].to_vec())
    });
    assert_eq!(read, (3, b"NEW".to_vec()));
}

#[test]
fn names_come_and_go() {
    let Some(world) = World::new(plain) else { return };
    assert_eq!(names(world.at("d")), ["f"]);
    assert!(read(world.at("d/h")).is_err());
    world.outside(&["d/h"], |root| std::fs::write(root.join("d/h"), "h").unwrap());
    assert_eq!(names(world.at("d")), ["f", "h"]);
    assert_eq!(read(world.at("d/h")).unwrap(), "h");
    world.outside(&["d/f"], |root| std::fs::remove_file(root.join("d/f")).unwrap());
    assert_eq!(names(world.at("d")), ["h"]);
    assert!(read(world.at("d/f")).is_err());
    world.outside(&["e"], |root| std::fs::create_dir_all(root.join("e/e/e")).unwrap());
    assert_eq!(names(world.at("e/e")), ["e"]);
}

#[test]
fn attributes_change() {
    let Some(world) = World::new(plain) else { return };
    let mode = |world: &World| {
        let path = world.at("g");
        within(move || std::fs::metadata(path).unwrap().mode() & 0o7777)
    };
    let chmod = |mode| {
        move |root: &Path| {
            std::fs::set_permissions(root.join("g"), PermissionsExt::from_mode(mode)).unwrap();
        }
    };
    world.outside(&["g"], chmod(0o600));
    assert_eq!(mode(&world), 0o600);
    world.outside(&["g"], chmod(0o755));
    assert_eq!(mode(&world), 0o755);
}

#[test]
fn a_file_is_replaced_by_another() {
    let Some(world) = World::new(plain) else { return };
    let number = |world: &World| {
        let path = world.at("g");
        within(move || std::fs::metadata(path).unwrap().ino())
    };
    let before = number(&world);
    for content in ["one", "two", "three"] {
        world.outside(&["g.tmp", "g"], |root| {
            std::fs::write(root.join("g.tmp"), content).unwrap();
            std::fs::rename(root.join("g.tmp"), root.join("g")).unwrap();
        });
        assert_eq!(read(world.at("g")).unwrap(), content);
    }
    assert_ne!(number(&world), before);
}

#[test]
fn a_directory_moves_with_all_that_is_in_it() {
    let Some(world) = World::new(plain) else { return };
    assert_eq!(read(world.at("d/f")).unwrap(), "old");
    world.outside(&["d", "moved"], |root| {
        std::fs::rename(root.join("d"), root.join("moved")).unwrap();
    });
    assert!(read(world.at("d/f")).is_err());
    assert_eq!(read(world.at("moved/f")).unwrap(), "old");
    world.outside(&["moved/f"], |root| std::fs::write(root.join("moved/f"), "newer").unwrap());
    assert_eq!(read(world.at("moved/f")).unwrap(), "newer");
}

#[test]
fn a_link_leads_to_somewhere_else() {
    let fill = |root: &Path| {
        plain(root);
        symlink("g", root.join("l")).unwrap();
    };
    let Some(world) = World::new(fill) else { return };
    assert_eq!(read(world.at("l")).unwrap(), "g");
    world.outside(&["l"], |root| {
        std::fs::remove_file(root.join("l")).unwrap();
        symlink("d/f", root.join("l")).unwrap();
    });
    assert_eq!(read(world.at("l")).unwrap(), "old");
}

#[test]
fn the_number_of_a_removed_file_may_be_used_again() {
    let Some(world) = World::new(plain) else { return };
    for round in 0..20 {
        let content = format!("round {round}");
        world.outside(&["d/f"], |root| {
            std::fs::remove_file(root.join("d/f")).unwrap();
            std::fs::write(root.join("d/f"), &content).unwrap();
        });
        assert_eq!(read(world.at("d/f")).unwrap(), content);
    }
}

#[test]
fn what_could_not_be_told_is_seen_by_looking_again() {
    let Some(world) = World::new(plain) else { return };
    assert_eq!(read(world.at("d/f")).unwrap(), "old");
    assert!(read(world.at("d/new")).is_err());
    std::fs::write(world.under("d/f"), "changed").unwrap();
    std::fs::write(world.under("d/new"), "new").unwrap();
    std::fs::remove_file(world.under("g")).unwrap();
    world.source.tell(Change::Below("".into()));
    world.told();
    assert_eq!(read(world.at("d/f")).unwrap(), "changed");
    assert_eq!(read(world.at("d/new")).unwrap(), "new");
    wait_for("a file that is gone", || read(world.at("g")).is_err());
}

#[test]
fn after_an_outage_only_what_is_different_is_told() {
    let Some(world) = World::new(plain) else { return };
    world.source.behave(|behaviour| behaviour.deadline = std::time::Duration::from_millis(50));
    assert_eq!(read(world.at("d/f")).unwrap(), "old");
    assert_eq!(read(world.at("g")).unwrap(), "g");
    world.source.outage(true);
    std::fs::write(world.under("d/f"), "changed meanwhile").unwrap();
    std::fs::write(world.under("d/more"), "more").unwrap();
    // What is known serves.
    assert_eq!(names(world.at("d")), ["f"]);
    assert_eq!(read(world.at("d/f")).unwrap(), "old");
    world.source.outage(false);
    wait_for("what changed meanwhile", || read(world.at("d/f")).unwrap() == "changed meanwhile");
    wait_for("what is new", || names(world.at("d")) == ["f", "more"]);
    world.source.forget_counts();
    assert_eq!(read(world.at("g")).unwrap(), "g");
    assert_eq!(world.source.count(Request::Read), 0, "the kernel had it");
}

#[test]
fn a_request_fails_in_time_while_the_source_is_out_of_reach() {
    let Some(world) = World::new(|root| std::fs::write(root.join("f"), "x").unwrap()) else {
        return;
    };
    assert_eq!(names(world.at("")), ["f"]);
    world.source.behave(|behaviour| behaviour.deadline = std::time::Duration::from_millis(50));
    world.source.outage(true);
    let error = read(world.at("f")).unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::IO));
    let path = world.at("new");
    let error = within(move || std::fs::write(path, "x").unwrap_err());
    assert_eq!(Errno::from_io_error(&error), Some(Errno::IO));
    world.source.outage(false);
    assert_eq!(read(world.at("f")).unwrap(), "x");
}

#[test]
fn another_source_makes_what_is_open_stale_and_shows_what_is_there() {
    let Some(world) = World::new(plain) else { return };
    let other = world.beside("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("g"), "of the other").unwrap();
    let path = world.at("d/f");
    let file = within(move || {
        let file = std::fs::File::open(path).unwrap();
        file.read_at(&mut [0; 3], 0).unwrap();
        file
    });
    let path = world.at("g");
    let appended = within(move || std::fs::OpenOptions::new().append(true).open(path).unwrap());
    world.source.become_another(&other).unwrap();
    world.told();
    let (read_error, write_error) = within(move || {
        use std::io::Write;
        let read = file.read_at(&mut [0; 3], 0).unwrap_err();
        let write = (&appended).write_all(b"more").unwrap_err();
        (read, write)
    });
    for error in [read_error, write_error] {
        let is_stale =
            [Some(Errno::STALE), Some(Errno::IO)].contains(&Errno::from_io_error(&error));
        assert!(is_stale, "{error}");
    }
    assert_eq!(names(world.at("")), ["g"]);
    assert_eq!(read(world.at("g")).unwrap(), "of the other");
    assert!(read(world.at("d/f")).is_err());
    world.outside(&["h"], |root| std::fs::write(root.join("h"), "h").unwrap());
    assert_eq!(names(world.at("")), ["g", "h"]);
}

#[test]
fn what_is_not_followed_is_looked_at_again() {
    let fill = |root: &Path| std::fs::write(root.join("f"), "one").unwrap();
    let Some(mut world) = World::new(fill) else { return };
    world.unmount();
    world.source.behave(|behaviour| behaviour.followed = false);
    world.mount(|_| {});
    assert_eq!(read(world.at("f")).unwrap(), "one");
    assert!(read(world.at("later")).is_err());
    std::fs::write(world.under("f"), "two, longer").unwrap();
    std::fs::write(world.under("later"), "later").unwrap();
    wait_for("a new content", || read(world.at("f")).unwrap() == "two, longer");
    wait_for("a new name", || read(world.at("later")).is_ok_and(|content| content == "later"));
    wait_for("both names", || names(world.at("")) == ["f", "later"]);
}
