//! What is written to a mount.

use std::io::{Seek, SeekFrom, Write};
use std::process::Command;

use super::{arrives, can_mount, names, put, read, world};
use crate::support::{SPECKIT, World, wait_until};

#[test]
fn what_is_written_is_in_the_sandbox_when_the_file_is_closed_and_comes_home_at_the_end() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&["--rw"]);
    put(&at, "made/here", "through the mount");
    put(&at, "a", "changed");
    let sandbox = world.sandbox();
    assert_eq!(read(&sandbox, "made/here"), "through the mount");
    assert_eq!(read(&sandbox, "a"), "changed");
    world.run(&["unmount"]).expect_code(0);
    assert_eq!(
        (world.read("made/here"), world.read("a")),
        ("through the mount".into(), "changed".into())
    );
    world.expect_nothing_left();
}

#[test]
fn a_mirror_brings_it_home_at_once_and_once() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let up = world.start_up(&["--mount", "--mount-rw"]);
    let at = world.usual_place();
    put(&at, "b", "written there");
    arrives(world.project(), "b", "written there");
    up.says("← b");
    wait_until("it is counted", || world.status()["to_host"]["bytes"] == 13);
    world.write("a", "written here");
    arrives(&at, "a", "written here");
    assert_eq!(world.status()["to_host"]["bytes"], 13, "it came once");
    up.interrupt().expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn an_editor_saves_and_git_works_there() {
    let Some(world) = world() else { return };
    world.write("notes.md", "first\n");
    let at = world.mount(&["--rw"]);
    // As editors do: a new file, over the old one.
    put(&at, ".notes.swp", "second\n");
    #[expect(clippy::disallowed_methods, reason = "a test's own files")]
    std::fs::rename(at.join(".notes.swp"), at.join("notes.md")).expect("renamed");
    assert_eq!(names(&at), ["notes.md"]);
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=T", "-c", "user.email=t@example.org"]).args(arguments);
        let output = git.current_dir(&at).output().expect("git runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    git(&["init", "-q", "."]);
    git(&["add", "."]);
    git(&["commit", "-qm", "one"]);
    assert_eq!(git(&["status", "--short"]), "");
    let told = world.exec(&["git", "log", "--format=%s"]).expect_code(0);
    assert_eq!(told.stdout, "one\n");
    world.run(&["unmount"]).expect_code(0);
    assert_eq!(world.read("notes.md"), "second\n");
}

#[test]
fn writing_in_the_middle_at_the_end_and_cutting_off_work() {
    let Some(world) = world() else { return };
    world.write("a", "0123456789");
    let at = world.mount(&["--rw"]);
    let open = || std::fs::OpenOptions::new().read(true).write(true).open(at.join("a"));
    let mut file = open().expect("opened");
    file.seek(SeekFrom::Start(3)).expect("a file");
    file.write_all(b"xyz").expect("written");
    drop(file);
    let mut end = std::fs::OpenOptions::new().append(true).open(at.join("a")).expect("opened");
    end.write_all(b"!").expect("written");
    drop(end);
    assert_eq!(read(&world.sandbox(), "a"), "012xyz6789!");
    open().expect("opened").set_len(5).expect("cut off");
    assert_eq!((read(&world.sandbox(), "a"), read(&at, "a")), ("012xy".into(), "012xy".into()));
}

#[test]
fn a_command_sees_what_was_just_written_and_the_mount_what_it_wrote() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&["--rw"]);
    for round in 0..5 {
        put(&at, "in", format!("{round}\n"));
        let seen = world.exec(&["sh", "-c", "cat in; cat in > out"]).expect_code(0);
        assert_eq!(seen.stdout, format!("{round}\n"));
        arrives(&at, "out", &seen.stdout);
    }
}

#[test]
fn a_container_is_written_too() {
    if !can_mount() {
        return;
    }
    let Some(world) = World::with_docker(SPECKIT) else { return };
    world.write("a", "1");
    let at = world.mount(&["--rw"]);
    put(&at, "dir/made", "through the mount");
    let seen = world.exec(&["cat", "dir/made"]).expect_code(0);
    assert_eq!(seen.stdout, "through the mount");
    assert_eq!(world.read("dir/made"), "through the mount");
    world.run(&["unmount"]).expect_code(0);
    world.expect_nothing_left();
}
