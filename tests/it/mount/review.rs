//! What a review found: ends that leave nothing, places that are none, words that are true.

use std::process::Command;

use super::life::sitting_in;
use super::{arrives, put, read, world};
use crate::support::processes::{Kind, signal};
use crate::support::wait_until;

#[test]
fn what_is_written_comes_home_without_an_up() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&["--rw"]);
    put(&at, "b", "written there");
    arrives(world.project(), "b", "written there");
    put(world.project(), "a", "written here");
    arrives(&at, "a", "written here");
    assert_eq!(world.status()["state"], "watching");
    world.run(&["unmount"]).expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn a_mount_that_only_shows_mirrors_nothing() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    world.mount(&[]);
    assert_eq!(world.status()["state"], "idle");
}

#[test]
fn an_up_that_dies_as_soon_as_its_mount_is_there_leaves_nothing() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let mut command = world.skync(["up", "--mount", "--mount-rw"]);
    let mut up = command.spawn().expect("skync runs");
    let at = world.usual_place();
    wait_until("it is mounted", || world.is_mounted(&at));
    signal("KILL", &[up.id()]);
    up.wait().expect("it has ended");
    world.wait_until_nothing_is_left();
}

#[test]
fn a_mount_of_an_up_stays_if_it_is_asked_for_by_itself() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let up = world.start_up(&["--mount"]);
    let at = world.mount(&[]);
    up.interrupt().expect_code(0);
    assert_eq!(read(&at, "a"), "1");
    world.run(&["unmount"]).expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn an_up_under_a_pause_says_that_nothing_is_mounted() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    world.run(&["up", "-d"]).expect_code(0);
    world.run(&["pause"]).expect_code(0);
    let said = world.run(&["up", "-d", "--mount"]).expect_code(0).stderr;
    assert!(said.contains("nothing is mounted: `skync mount` does so"), "{said}");
    assert!(!world.is_mounted(&world.usual_place()));
    let at = world.mount(&[]);
    let said = world.run(&["up", "-d", "--mount"]).expect_code(0).stderr;
    assert!(!said.contains("nothing is mounted"), "{said}");
    assert_eq!(read(&at, "a"), "1");
    world.run(&["down", "--discard"]).expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn no_mount_is_in_a_project_and_no_project_around_a_mount() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let other = world.base().join("other");
    put(&other, "b", "2");
    let path = other.to_str().expect("text");
    world.mount(&[path, "--at", "../home/second"]);
    let refused = world.run(&["mount", "--at", "../other/box"]).expect_code(2);
    assert!(refused.stderr.contains("which would mirror the mount"), "{}", refused.stderr);
    let around = world.base().join("around");
    put(&around, "c", "3");
    world.mount(&["--at", "../around/box"]);
    let path = around.to_str().expect("text");
    for arguments in [&["up", "-d", "--root", path][..], &["mount", path]] {
        let refused = world.run(arguments).expect_code(2);
        assert!(refused.stderr.contains("a sandbox is mounted in it"), "{}", refused.stderr);
    }
    world.run(&["unmount", "--all"]).expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn nobody_waits_for_a_lost_link_for_an_hour() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let refused = world.run(&["mount", "--timeout", "1h"]).expect_code(2);
    assert!(refused.stderr.contains("for at most 10 minutes"), "{}", refused.stderr);
    world.expect_nothing_left();
}

#[test]
fn what_went_is_told_also_if_another_one_stays() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let first = world.mount(&[]);
    let second = world.mount(&["--at", "../home/second"]);
    let shell = sitting_in(&second);
    let refused = world.run(&["unmount"]).expect_code(6);
    let gone = format!("`{}` is not mounted any more", first.display());
    assert!(refused.stderr.contains(&gone), "{}", refused.stderr);
    assert!(refused.stderr.contains("is in use: sh ("), "{}", refused.stderr);
    drop(shell);
}

#[test]
fn to_unmount_what_is_gone_already_is_an_error_and_forgets_it() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&[]);
    let both = [world.process(Kind::Keeper), world.session()];
    both.iter().for_each(|pid| signal("KILL", &[*pid]));
    wait_until("both are gone", || {
        world.processes().iter().all(|process| !both.contains(&process.pid))
    });
    if world.is_mounted(&at) {
        let umount = Command::new("umount").arg("-l").arg(&at).status().expect("umount runs");
        assert!(umount.success() || !world.is_mounted(&at));
    }
    let place = at.to_str().expect("text");
    let none = world.run(&["unmount", place]).expect_code(5);
    assert!(none.stderr.contains("nothing was mounted there any more"), "{}", none.stderr);
    let none = world.run(&["unmount", place]).expect_code(5);
    assert!(none.stderr.contains("no sandbox is mounted at"), "{}", none.stderr);
    world.exec(&["true"]).expect_code(0);
    assert!(!world.is_mounted(&at), "its successor knows nothing of it");
    world.wait_until_nothing_is_left();
}
