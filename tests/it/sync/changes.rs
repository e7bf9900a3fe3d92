//! What a command changes arrives on the host, and nothing else does.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::tree::{agreed, assert_same};
use crate::support::{SPECKIT, World};

/// A project with something to delete, to move and to turn into something else.
fn populate(world: &World) {
    for name in ["delete", "move", "edit", "tree/a/b/c", "tree/a/d", "tree/e", "other/x", "run"] {
        world.write(name, format!("this is {name}"));
    }
    std::os::unix::fs::symlink("edit", world.project().join("link")).expect("linked");
}

/// Runs a command that changes things; what the sandbox has then must be what the host has.
#[track_caller]
fn the_host_follows(world: &World, command: &str) {
    let script = format!("set -e; {command}; d=$(mktemp -d); cp -a . $d; mv $d result");
    world.exec(&["sh", "-c", &script]).expect_code(0);
    let mut host = agreed(world.project());
    let result = agreed(&world.project().join("result"));
    host.retain(|name, _| name != "result" && !name.starts_with("result/"));
    assert_same(&host, &result);
}

const EVERYTHING: &str = "
    rm delete; mv move moved; echo more >> edit; chmod 755 run; chmod 600 other/x
    mv tree/a tree/renamed; mkdir -p new/empty; rm -r other; mkdir other; echo y > other/y
    ln -s ../edit new/link; printf '' > zero";

#[test]
fn deletions_renames_edits_and_modes_made_by_a_command_arrive() {
    let world = World::new();
    populate(&world);
    the_host_follows(&world, EVERYTHING);
    assert!(!world.project().join("delete").exists());
    assert_eq!(world.read("moved"), "this is move");
    assert_eq!(world.read("tree/renamed/b/c"), "this is tree/a/b/c");
    assert!(!world.project().join("tree/a").exists());
}

#[test]
fn deletions_renames_edits_and_modes_made_by_a_command_arrive_from_docker() {
    let Some(world) = World::with_docker(SPECKIT) else { return };
    populate(&world);
    the_host_follows(&world, EVERYTHING);
    assert_eq!(world.read("tree/renamed/b/c"), "this is tree/a/b/c");
}

#[test]
fn whole_trees_are_deleted_and_moved() {
    let world = World::new();
    populate(&world);
    the_host_follows(&world, "rm -r tree; mv other elsewhere");
    assert!(!world.project().join("tree").exists());
    assert_eq!(world.read("elsewhere/x"), "this is other/x");
}

#[test]
fn a_path_may_turn_from_any_kind_into_any_other() {
    // Each kind becomes each other, on either side, with something below the directory.
    const KINDS: [(&str, &str); 3] = [
        ("file", "echo content > $p"),
        ("directory", "mkdir -p $p/below; echo inside > $p/below/f"),
        ("link", "ln -s nowhere $p"),
    ];
    let world = World::new();
    let make = |label: &str, how: &[(&str, usize)]| -> String {
        let lines = how
            .iter()
            .map(|(name, kind)| format!("p={name}-{label}; rm -rf $p; {}; ", KINDS[*kind].1));
        lines.collect()
    };
    let pairs: Vec<(String, usize, usize)> = (0..3)
        .flat_map(|from| (0..3).map(move |to| (from, to)))
        .map(|(from, to)| (format!("{}-to-{}", KINDS[from].0, KINDS[to].0), from, to))
        .collect();
    let first: Vec<_> = pairs.iter().map(|(name, from, _)| (name.as_str(), *from)).collect();
    let second: Vec<_> = pairs.iter().map(|(name, _, to)| (name.as_str(), *to)).collect();
    let shell = |directory: &Path, script: &str| {
        let status =
            std::process::Command::new("sh").args(["-ec", script]).current_dir(directory).status();
        assert!(status.expect("a shell").success());
    };
    shell(world.project(), &(make("out", &first) + &make("in", &first)));
    let held = world.hold();
    assert_same(&agreed(world.project()), &agreed(held.sandbox()));
    shell(held.sandbox(), &make("out", &second));
    shell(world.project(), &make("in", &second));
    held.sync();
    assert_same(&agreed(world.project()), &agreed(held.sandbox()));
    for (name, kind) in &second {
        for label in ["in", "out"] {
            let path = world.project().join(format!("{name}-{label}"));
            let found = path.symlink_metadata().expect("there").file_type();
            let is = [found.is_file(), found.is_dir(), found.is_symlink()];
            assert!(is[*kind], "{name}-{label} is {found:?}");
        }
    }
    held.release();
}

#[test]
fn a_live_session_transfers_nothing_if_nothing_changed() {
    let world = World::new();
    populate(&world);
    let held = world.hold();
    let second = held.sync();
    let nothing = "synced: 0 files (0 bytes) in, 0 files (0 bytes) out, 0 removed";
    assert!(second.stderr.contains(nothing), "{}", second.stderr);
    world.write("edit", "another content");
    let third = held.sync();
    assert!(third.stderr.contains("synced: 1 files (15 bytes) in, 0 files"), "{}", third.stderr);
    held.release();
}

#[test]
fn a_file_that_is_always_being_appended_to_is_never_torn_in_the_sandbox() {
    const RECORD: usize = 32;
    let record = |number: usize| format!("{number:015}:{:015}\n", number ^ 0x5555);
    let world = World::new();
    let path = world.write("log", "");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("open");
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                file.write_all(record(number).as_bytes()).expect("written");
                number += 1;
                if number % 64 == 0 {
                    std::thread::yield_now();
                }
            }
        });
        let held = world.hold();
        for _ in 0..8 {
            held.sync();
            // It may be missing: a file that never rests is reported, not copied in pieces.
            let there = std::fs::read(held.sandbox().join("log")).unwrap_or_default();
            assert_eq!(there.len() % RECORD, 0, "a record is cut");
            for (number, found) in there.chunks(RECORD).enumerate() {
                assert_eq!(found, record(number).as_bytes(), "record {number}");
            }
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("the writer ends");
        held.sync();
        assert_same(&agreed(world.project()), &agreed(held.sandbox()));
        held.release();
    });
}
