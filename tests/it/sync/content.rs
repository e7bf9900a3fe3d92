//! Every kind of content, name, mode and link arrives as it was.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::support::tree::{Tree, agreed, assert_same, carried, carried_but_times, untouched};
use crate::support::{ALPINE_LIKE, SPECKIT, World};

/// A tree with one of everything that is carried. Its name is `tree`.
fn populate(world: &World) -> PathBuf {
    let all: Vec<u8> = (0..=255).collect();
    world.write("tree/bytes", &all);
    world.write("tree/crlf", "one\r\ntwo\r\n\r\nno end");
    world.write("tree/empty", "");
    world.write("tree/large", all.repeat(4096));
    for name in names() {
        let path = world.project().join("tree/names").join(OsStr::from_bytes(&name));
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::File::create(&path).expect("a file system that takes every name");
    }
    for mode in [0o644, 0o755, 0o600, 0o700, 0o444, 0o400] {
        let path = world.write(&format!("tree/modes/{mode:o}"), format!("{mode:o}"));
        set_mode(&path, mode);
    }
    for mode in [0o755, 0o750, 0o700] {
        world.write(&format!("tree/directories/{mode:o}/inside"), "x");
        set_mode(&world.project().join(format!("tree/directories/{mode:o}")), mode);
    }
    std::fs::create_dir_all(world.project().join("tree/hollow/inside")).expect("made");
    let deep = (0..200).map(|level| format!("{}", level % 10)).collect::<Vec<_>>().join("/");
    world.write(&format!("tree/deep/{deep}/end"), "the end");
    for (name, target) in [
        ("relative", "../bytes"),
        ("dangling", "nowhere/at all"),
        ("directory", "../names"),
        ("self", "self"),
    ] {
        let link = world.project().join("tree/links").join(name);
        std::fs::create_dir_all(link.parent().expect("a parent")).expect("made");
        symlink(target, link).expect("linked");
    }
    world.project().join("tree")
}

fn names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        "caf\u{e9}",
        "cafe\u{301}",
        "日本語",
        "with space",
        " leading",
        "trailing ",
        "it's",
        "\"quoted\"",
        "new\nline",
        "tab\there",
        "-rf",
        "--",
        "$(x)",
        "`x`",
        "a\\b",
        "*",
        "?",
        "[a]",
        "!bang",
        "#hash",
        ".hidden",
        "...",
        "\u{1b}[31mred",
        "UPPER",
        "upper",
    ]
    .iter()
    .map(|name| name.as_bytes().to_vec())
    .collect();
    names.push(vec![b'n'; 255]);
    names.push(b"\xff\xfe not utf-8 \x80".to_vec());
    names
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
}

/// In by the first synchronisation, then copied in the sandbox and out by the second.
fn everything_comes_through(world: &World, describe: fn(&Path) -> Tree) {
    let tree = populate(world);
    let before = untouched(&tree);
    // The copy is made outside of the project first, so that `cp` does not copy its own copy.
    let copy = "d=$(mktemp -d) && cp -a tree \"$d/tree\" && mv \"$d/tree\" copy";
    let outcome = world.exec(&["sh", "-c", copy]).expect_code(0);
    assert_eq!(outcome.stderr.matches("warning").count(), 0, "{}", outcome.stderr);
    assert_same(&describe(&tree), &describe(&world.project().join("copy")));
    assert_same(&before, &untouched(&tree));
}

#[test]
fn every_kind_of_content_name_mode_and_link_comes_through_both_ways() {
    everything_comes_through(&World::new(), carried);
}

#[test]
fn every_kind_of_content_name_mode_and_link_comes_through_both_ways_in_docker() {
    let Some(world) = World::with_docker(SPECKIT) else { return };
    everything_comes_through(&world, carried);
}

#[test]
fn every_kind_of_content_name_mode_and_link_comes_through_both_ways_with_musl() {
    let Some(world) = World::with_docker(ALPINE_LIKE) else { return };
    // Its `cp -a` cuts times to seconds.
    everything_comes_through(&world, carried_but_times);
}

#[test]
fn the_sandbox_holds_what_the_host_does_and_a_command_without_changes_touches_nothing() {
    let world = World::new();
    populate(&world);
    // The host's own links go wherever they lead; what of the sandbox's comes home: `safety`.
    symlink("/etc/hostname", world.project().join("absolute")).expect("linked");
    let before = untouched(world.project());
    let held = world.hold();
    assert_same(&carried(world.project()), &carried(held.sandbox()));
    held.release();
    assert_same(&before, &untouched(world.project()));
}

#[test]
fn a_command_without_changes_touches_nothing_on_the_host_in_docker() {
    let Some(world) = World::with_docker(SPECKIT) else { return };
    populate(&world);
    let before = untouched(world.project());
    world.exec(&["true"]).expect_code(0);
    assert_same(&before, &untouched(world.project()));
}

#[test]
fn times_are_kept_so_that_make_builds_only_what_is_out_of_date() {
    let world = World::new();
    let old = SystemTime::now() - Duration::from_secs(1000);
    for (name, age) in [("source", 30), ("built", 20), ("stale-source", 10), ("stale", 15)] {
        let file = std::fs::File::open(world.write(name, name)).expect("open");
        file.set_modified(old - Duration::from_secs(age)).expect("set");
    }
    let newer = "[ built -nt source ] && [ stale-source -nt stale ]";
    world.exec(&["sh", "-c", newer]).expect_code(0);
    // What a command makes has its own time on the host.
    world.exec(&["sh", "-c", "touch -d @1000000000 made"]).expect_code(0);
    let made = world.project().join("made").metadata().expect("made");
    assert_eq!(made.mtime(), 1_000_000_000);
}

#[test]
fn hard_links_become_copies() {
    let world = World::new();
    let one = world.write("one", "shared");
    std::fs::hard_link(&one, world.project().join("two")).expect("linked");
    world.exec(&["sh", "-c", "echo changed > one; ln one three"]).expect_code(0);
    assert_eq!(world.read("one"), "changed\n");
    assert_eq!(world.read("two"), "shared");
    assert_eq!(world.read("three"), "changed\n");
    let links = |name: &str| world.project().join(name).metadata().expect("there").nlink();
    assert_eq!([links("one"), links("two"), links("three")], [1, 1, 1]);
}

#[test]
fn pipes_sockets_and_devices_are_left_out_on_both_sides_without_waiting_for_them() {
    let world = World::new();
    world.write("plain", "x");
    world.write("d/plain", "x");
    make_specials(world.project());
    let _socket =
        std::os::unix::net::UnixListener::bind(world.project().join("d/socket")).expect("bound");
    let before = untouched(world.project());
    let held = world.hold();
    let expected = ["d", "d/plain", "plain"].map(str::to_owned);
    assert_eq!(agreed(held.sandbox()).into_keys().collect::<Vec<_>>(), expected);
    assert_same(&before, &untouched(world.project()));
    // The same the other way.
    let theirs = held.sandbox().join("theirs");
    std::fs::create_dir(&theirs).expect("made");
    make_specials(&theirs);
    std::fs::File::create(theirs.join("plain")).expect("made");
    held.sync();
    let there = std::fs::read_dir(world.project().join("theirs")).expect("there");
    let names: Vec<_> = there.map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names, ["plain"]);
    held.release();
}

fn make_specials(directory: &Path) {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let make =
        |name: &str, kind, device| mknodat(CWD, directory.join(name), kind, Mode::RWXU, device);
    make("fifo", FileType::Fifo, 0).expect("a fifo");
    // Only root may make devices, and not in every sandbox of a test.
    if make("device", FileType::CharacterDevice, makedev(1, 3)).is_err() {
        eprintln!("left out: a device, which this user may not make");
    }
}

#[test]
fn setuid_setgid_and_sticky_bits_do_not_reach_the_host() {
    let world = World::new();
    world.write("known", "x");
    let command = "echo y > fresh; chmod 6755 fresh; chmod 6755 known; mkdir d; chmod 1777 d; \
                   echo z > d/f";
    world.exec(&["sh", "-c", command]).expect_code(0);
    for name in ["fresh", "known", "d"] {
        let mode = world.project().join(name).metadata().expect("there").mode();
        assert_eq!(mode & 0o7000, 0, "{name}: {mode:o}");
        assert_eq!(mode & 0o100, 0o100, "{name}: {mode:o}");
    }
}

#[test]
fn what_cannot_be_read_is_named_and_stays_and_the_rest_comes_through() {
    use std::os::unix::process::CommandExt;
    let world = World::new();
    world.write("readable", "x");
    world.write("closed/secret", "x");
    set_mode(&world.write("unreadable", "x"), 0o000);
    set_mode(&world.project().join("closed"), 0o000);
    let mut command = world.skync(["exec", "--", "sh", "-c", "cat readable; echo made > made"]);
    if rustix::process::geteuid().is_root() {
        // Nothing is unreadable for root: somebody else runs it.
        const NOBODY: u32 = 65_534;
        for entry in [world.path("")].into_iter().chain(
            ["c", "s", "r", "home", "project", "project/readable"].map(|name| world.path(name)),
        ) {
            std::os::unix::fs::chown(entry, Some(NOBODY), Some(NOBODY)).expect("given away");
        }
        command.uid(NOBODY).gid(NOBODY);
    }
    let outcome = crate::support::Outcome::of(command.output().expect("skync runs"));
    let outcome = outcome.expect_code(0);
    assert_eq!(outcome.stdout, "x");
    assert_eq!(world.read("made"), "made\n");
    for name in ["unreadable", "closed"] {
        let line = format!("warning: not synced: {name} (host): ");
        assert!(outcome.stderr.contains(&line), "{}", outcome.stderr);
        set_mode(&world.project().join(name), 0o700);
    }
    assert_eq!(world.read("closed/secret"), "x");
    assert_eq!(world.read("unreadable"), "x");
}
