//! `skync up --mount`, and what a profile says of mounts.

use super::{arrives, put, read, world};
use crate::support::World;
use crate::support::client::Client;
use crate::support::processes::signal;
use crate::support::wait_until;

#[test]
fn it_is_there_as_long_as_the_mirror() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let up = world.start_up(&["--mount"]);
    let at = world.usual_place();
    up.says(&format!("the sandbox is mounted at {}", at.display()));
    assert_eq!(read(&at, "a"), "1");
    world.write("a", "22");
    arrives(&at, "a", "22");
    up.interrupt().expect_code(0);
    assert!(!world.is_mounted(&at));
    world.expect_nothing_left();
}

#[test]
fn ctrl_c_ends_it_also_under_who_sits_in_it_and_says_so() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let up = world.start_up(&["--mount", "--mount-rw"]);
    let at = world.usual_place();
    let mut command = std::process::Command::new("sh");
    let mut shell = Client::start(command.args(["-c", "echo in; read x"]).current_dir(&at));
    assert_eq!(shell.line(), "in");
    put(&at, "b", "2");
    let said = up.interrupt().expect_code(0).stderr;
    assert!(said.contains("was unmounted although it is in use: sh ("), "{said}");
    assert!(!world.is_mounted(&at));
    assert_eq!(world.read("b"), "2");
    drop(shell);
    world.wait_until_nothing_is_left();
}

#[test]
fn it_goes_with_its_mirror_also_if_the_session_died_meanwhile() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let up = world.start_up(&["--mount"]);
    let at = world.usual_place();
    signal("KILL", &[world.session()]);
    up.says("its successor goes on");
    arrives(&at, "a", "1");
    world.write("a", "22");
    arrives(&at, "a", "22");
    up.says("the sandbox is mounted already at");
    up.interrupt().expect_code(0);
    assert!(!world.is_mounted(&at));
    world.wait_until_nothing_is_left();
}

#[test]
fn a_mirror_whose_client_died_takes_it_along() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let up = world.start_up(&["--mount"]);
    assert!(world.is_mounted(&world.usual_place()));
    signal("KILL", &[up.pid()]);
    world.wait_until_nothing_is_left();
}

#[test]
fn a_mirror_in_the_background_keeps_it_until_down() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let outcome = world.run(&["up", "-d", "--mount", "--mount-at", "../home/box"]).expect_code(0);
    let at = world.base().join("home/box");
    assert!(outcome.stderr.contains("the sandbox is mounted at"), "{}", outcome.stderr);
    put(world.project(), "a", "22");
    arrives(&at, "a", "22");
    world.run(&["down"]).expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn the_mirror_goes_on_without_it() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let up = world.start_up(&["--mount"]);
    world.run(&["unmount"]).expect_code(0);
    put(world.project(), "a", "22");
    arrives(&world.sandbox(), "a", "22");
    up.interrupt().expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn a_mount_that_was_there_before_outlives_the_mirror() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&[]);
    let up = world.start_up(&["--mount"]);
    up.says("the sandbox is mounted already at");
    let said = up.interrupt().expect_code(0).stderr;
    let goes_on = format!("the sandbox is mounted at `{}`", at.display());
    assert!(said.contains(&goes_on), "{said}");
    assert_eq!(read(&at, "a"), "1");
    world.run(&["unmount"]).expect_code(0);
    world.expect_nothing_left();
}

/// A world whose profile says how to mount.
fn with_profile() -> Option<World> {
    let world = world()?;
    let place = world.base().join("home/place");
    let place = place.to_str().expect("text");
    let mount = ["--mount", "--mount-at", place, "--mount-root", "src", "--mount-timeout", "5s"];
    let add = ["profile", "add", "p", "--driver", "directory", "--mount-rw"];
    world.run(&[&add[..], &mount].concat()).expect_code(0);
    world.run(&["use", "p"]).expect_code(0);
    world.write("src/a", "1");
    Some(world)
}

#[test]
fn a_profile_says_how_and_flags_say_otherwise() {
    let Some(world) = with_profile() else { return };
    let place = world.base().join("home/place");
    let up = world.start_up(&[]);
    assert_eq!(read(&place, "a"), "1");
    put(&place, "b", "2");
    arrives(world.project(), "src/b", "2");
    up.interrupt().expect_code(0);
    let up = world.start_up(&["--no-mount"]);
    assert!(!world.is_mounted(&place));
    up.interrupt().expect_code(0);
    let at = world.mount(&["--ro", "--root", ".", "--at", "../home/flag"]);
    assert_eq!(at, world.base().join("home/flag"));
    assert_eq!(read(&at, "src/a"), "1");
    assert_eq!(super::number(std::fs::File::create(at.join("c"))), Some(super::READ_ONLY));
    world.run(&["unmount"]).expect_code(0);
    wait_until("nothing is left", || world.leftovers().is_empty());
}

#[test]
fn an_up_that_cannot_mount_does_not_begin() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    put(&world.base().join("home/full"), "x", "y");
    let refused = world.run(&["up", "-d", "--mount-at", "../home/full", "--mount"]).expect_code(2);
    assert!(refused.stderr.contains("is not empty"), "{}", refused.stderr);
    world.expect_nothing_left();
}
