//! What a mount shows.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::{READ_ONLY, arrives, can_mount, names, number, put, read, world};
use crate::support::{SPECKIT, World, wait_until};

#[test]
fn the_project_in_the_sandbox_shows_with_what_is_not_synchronised() {
    let Some(world) = world() else { return };
    world.write("a", "of the host");
    world.write("src/deep/b", "below");
    let at = world.mount(&[]);
    assert_eq!(at, world.usual_place());
    put(&world.sandbox(), "node_modules/x/index.js", "made there");
    arrives(&at, "node_modules/x/index.js", "made there");
    assert_eq!(names(&at), ["a", "node_modules", "src"]);
    assert_eq!((read(&at, "a"), read(&at, "src/deep/b")), ("of the host".into(), "below".into()));
    assert!(!world.project().join("node_modules").exists(), "what is excluded stays there");
    let grep = Command::new("grep").args(["-rl", "made"]).arg(&at).output().expect("grep runs");
    let found = String::from_utf8_lossy(&grep.stdout).into_owned();
    assert_eq!(found.trim_end(), at.join("node_modules/x/index.js").display().to_string());
    world.run(&["unmount"]).expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn modes_sizes_times_and_large_files_are_those_of_the_sandbox() {
    let Some(world) = world() else { return };
    let large: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
    world.write("large", &large);
    let script = world.write("run.sh", "#!/bin/sh\necho ran\n");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("set");
    let at = world.mount(&[]);
    for name in ["large", "run.sh"] {
        let [here, there] = [&at, &world.sandbox()]
            .map(|side| side.join(name).metadata().unwrap_or_else(|e| panic!("{name}: {e}")));
        assert_eq!((here.len(), here.mode()), (there.len(), there.mode()), "{name}");
        assert_eq!((here.mtime(), here.mtime_nsec()), (there.mtime(), there.mtime_nsec()));
        assert_eq!(here.uid(), rustix::process::geteuid().as_raw(), "{name}");
    }
    assert_eq!(std::fs::read(at.join("large")).expect("read"), large);
    let ran = Command::new(at.join("run.sh")).output().expect("it is executable");
    assert_eq!(ran.stdout, b"ran\n");
}

#[test]
fn links_within_are_followed_and_those_that_lead_out_are_not() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&[]);
    let sandbox = world.sandbox();
    put(&sandbox, "dir/b", "2");
    symlink("dir/b", sandbox.join("relative")).expect("made");
    symlink(sandbox.join("dir/b"), sandbox.join("absolute")).expect("made");
    symlink("/etc/hostname", sandbox.join("out")).expect("made");
    for name in ["relative", "absolute"] {
        arrives(&at, name, "2");
    }
    wait_until("the link shows", || at.join("out").symlink_metadata().is_ok());
    assert_eq!(number(std::fs::read(at.join("out"))), Some(1), "operation not permitted");
    world.run(&["unmount"]).expect_code(0);
    // Who asks for it gets them as they are; where they lead to is on this side then.
    let at = world.mount(&["--raw-symlinks"]);
    let sandbox = world.sandbox();
    symlink("/etc/hostname", sandbox.join("out-again")).expect("made");
    wait_until("the link shows", || at.join("out-again").symlink_metadata().is_ok());
    let target = std::fs::read_link(at.join("out-again")).expect("a link");
    assert_eq!(target, Path::new("/etc/hostname"));
}

#[test]
fn nothing_can_be_changed_unless_that_was_asked_for() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    world.write("dir/b", "2");
    let at = world.mount(&[]);
    let file = || std::fs::OpenOptions::new().write(true).open(at.join("a"));
    let mode = PermissionsExt::from_mode(0o600);
    assert_eq!(number(file()), Some(READ_ONLY));
    assert_eq!(number(std::fs::File::create(at.join("new"))), Some(READ_ONLY));
    assert_eq!(number(std::fs::create_dir(at.join("new"))), Some(READ_ONLY));
    assert_eq!(number(std::fs::remove_dir(at.join("dir"))), Some(READ_ONLY));
    assert_eq!(number(std::fs::set_permissions(at.join("a"), mode)), Some(READ_ONLY));
    assert_eq!(number(symlink("a", at.join("link"))), Some(READ_ONLY));
    assert_eq!(number(std::fs::hard_link(at.join("a"), at.join("hard"))), Some(READ_ONLY));
    assert_eq!(names(&world.sandbox()), ["a", "dir"]);
}

#[test]
fn what_changes_in_the_sandbox_shows() {
    let Some(world) = world() else { return };
    world.write("a", "first");
    world.write("old/b", "1");
    let at = world.mount(&[]);
    assert_eq!(read(&at, "a"), "first");
    assert!(!at.join("new").exists());
    let script =
        "echo 'and longer' > a; echo new > new; mkdir -p x/y && echo z > x/y/z; mv old moved";
    world.exec(&["sh", "-c", script]).expect_code(0);
    arrives(&at, "a", "and longer\n");
    arrives(&at, "new", "new\n");
    arrives(&at, "x/y/z", "z\n");
    arrives(&at, "moved/b", "1");
    wait_until("the old name is gone", || !at.join("old").exists());
    // And what changes here, once a command has carried it there.
    world.write("a", "edited here");
    world.exec(&["true"]).expect_code(0);
    arrives(&at, "a", "edited here");
}

#[test]
fn who_watches_the_mount_is_told_of_changes_in_the_sandbox() {
    use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags};
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&[]);
    let watcher = rustix::fs::inotify::init(CreateFlags::NONBLOCK).expect("a watcher");
    let wanted = WatchFlags::CREATE | WatchFlags::CLOSE_WRITE | WatchFlags::DELETE;
    rustix::fs::inotify::add_watch(&watcher, &at, wanted).expect("watched");
    assert_eq!(names(&at), ["a"]);
    let mut told: Vec<(String, ReadFlags)> = Vec::new();
    let mut is_told = |what: ReadFlags, name: &str| {
        let mut buffer = [const { std::mem::MaybeUninit::uninit() }; 4096];
        let mut events = Reader::new(&watcher, &mut buffer);
        while let Ok(event) = events.next() {
            let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
            told.push((name.unwrap_or_default(), event.events()));
        }
        told.iter().any(|(told, events)| told == name && events.contains(what))
    };
    world.exec(&["sh", "-c", "echo new > new; echo more >> a"]).expect_code(0);
    for (what, name) in [(ReadFlags::CREATE, "new"), (ReadFlags::CLOSE_WRITE, "a")] {
        wait_until(&format!("{what:?} of `{name}` is told"), || is_told(what, name));
    }
    world.exec(&["rm", "new"]).expect_code(0);
    wait_until("its end is told", || is_told(ReadFlags::DELETE, "new"));
}

#[test]
fn another_directory_of_the_sandbox_can_be_shown() {
    let Some(world) = world() else { return };
    world.write("src/deep/b", "below");
    let at = world.mount(&["--root", "src"]);
    assert_eq!(read(&at, "deep/b"), "below");
    world.run(&["unmount"]).expect_code(0);
    world.run(&["up", "-d"]).expect_code(0);
    let outside = world.sandbox().parent().expect("it has one").to_owned();
    put(&outside, "beside", "not of the project");
    let root = outside.to_str().expect("text");
    let at = world.mount(&["--root", root, "--at", "../home/box"]);
    assert_eq!(at, world.base().join("home/box"));
    assert_eq!(read(&at, "beside"), "not of the project");
    assert_eq!(read(&at, "project/src/deep/b"), "below");
}

#[test]
fn a_directory_that_the_sandbox_does_not_have_is_told_and_nothing_stays() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let outcome = world.run(&["mount", "--root", "nosuch"]).expect_code(5);
    let root = "/root/project/nosuch` in the sandbox";
    assert!(outcome.stderr.contains(root), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("hint: `--root DIR`"), "{}", outcome.stderr);
    world.expect_nothing_left();
}

#[test]
fn all_of_a_container_can_be_shown() {
    if !can_mount() {
        return;
    }
    let Some(world) = World::with_docker(SPECKIT) else { return };
    world.write("a", "of the project");
    let at = world.mount(&["--root", "/"]);
    assert_eq!(at, world.base().join("home/.remote/docker"));
    assert!(read(&at, "etc/os-release").contains("NAME="));
    let project = world.project().strip_prefix("/").expect("absolute");
    assert_eq!(read(&at, project.join("a").to_str().expect("text")), "of the project");
    world.exec(&["sh", "-c", "echo there > /tmp/made"]).expect_code(0);
    arrives(&at, "tmp/made", "there\n");
    // Where the kernel makes files up as they are read.
    assert!(read(&at, "proc/version").starts_with("Linux version"));
    world.run(&["unmount"]).expect_code(0);
    world.expect_nothing_left();
}
