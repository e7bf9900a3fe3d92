//! What breaks under a running mirror is mended, and costs the host nothing.

use std::path::Path;

use super::{arrives, put};
use crate::support::processes::{Kind, signal};
use crate::support::tree::{assert_same, untouched};
use crate::support::{World, wait_until};

/// Takes the sandbox away with all that is in it, at one stroke, and ends its agent.
#[expect(clippy::disallowed_methods, reason = "what goes wrong in these tests")]
fn remove_sandbox(world: &World, sandbox: &Path) {
    let place = sandbox.parent().and_then(Path::parent).expect("its place");
    let agent = world.process(Kind::Agent);
    std::fs::rename(place, world.path("taken")).expect("renamed");
    signal("KILL", &[agent]);
}

/// A world with a mirror and some files that are on both sides.
fn mirrored() -> (World, super::running::Up) {
    let world = World::new();
    for number in 0..30 {
        world.write(&format!("dir/{number}"), number.to_string());
    }
    let up = world.start_up(&[]);
    (world, up)
}

#[test]
fn a_sandbox_that_is_removed_is_made_anew_and_the_host_stays_as_it_was() {
    let (world, up) = mirrored();
    let before = untouched(world.project());
    let sandbox = world.sandbox();
    remove_sandbox(&world, &sandbox);
    up.says("making a new one");
    for number in 0..30 {
        arrives(&sandbox, &format!("dir/{number}"), &number.to_string());
    }
    assert_same(&before, &untouched(world.project()));
    put(&sandbox, "back", "1");
    arrives(world.project(), "back", "1");
    up.interrupt().expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn an_agent_that_dies_is_started_again_on_what_only_its_sandbox_has() {
    let (world, up) = mirrored();
    world.run(&["pause"]).expect_code(0);
    let sandbox = world.sandbox();
    put(&sandbox, "only-there", "1");
    put(&sandbox, "dir/7", "edited there");
    let agent = world.process(Kind::Agent);
    signal("KILL", &[agent]);
    wait_until("it is noticed", || world.status()["link"]["up"] == false);
    assert_eq!(world.read("dir/7"), "7");
    world.run(&["resume"]).expect_code(0);
    assert_eq!(world.read("only-there"), "1");
    assert_eq!(world.read("dir/7"), "edited there");
    assert_ne!(world.process(Kind::Agent), agent);
    up.interrupt().expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn a_link_that_breaks_is_opened_again_to_the_same_sandbox() {
    let (world, up) = mirrored();
    let (sandbox, agent) = (world.sandbox(), world.process(Kind::Agent));
    let name = world.status()["sandbox"].clone();
    // An agent that stands still does not answer; the session gives the link up.
    signal("STOP", &[agent]);
    wait_until("the link is given up", || {
        let status = world.status();
        status["state"] == "reconnecting" && status["link"]["up"] == false
    });
    put(world.project(), "dir/7", "edited meanwhile");
    put(&sandbox, "there", "meanwhile");
    signal("CONT", &[agent]);
    arrives(&sandbox, "dir/7", "edited meanwhile");
    arrives(world.project(), "there", "meanwhile");
    up.says("and is open again");
    assert_eq!((&world.status()["sandbox"], world.process(Kind::Agent)), (&name, agent));
    up.interrupt().expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn a_kept_session_whose_sandbox_goes_ends_by_itself() {
    let (world, up) = mirrored();
    let sandbox = world.sandbox();
    world.run(&["pause"]).expect_code(0);
    put(world.project(), "dir/7", "host");
    put(&sandbox, "dir/7", "sandbox");
    up.interrupt().expect_code(6);
    remove_sandbox(&world, &sandbox);
    world.wait_until_nothing_is_left();
    assert_eq!(world.read("dir/7"), "host");
}

#[test]
fn a_project_that_goes_away_does_not_empty_the_sandbox() {
    let (world, up) = mirrored();
    let sandbox = world.sandbox();
    // At one stroke: what is seen of a removal file by file is carried over as any other.
    #[expect(clippy::disallowed_methods, reason = "what goes wrong in this test")]
    std::fs::rename(world.project(), world.path("gone")).expect("renamed");
    up.says_one_of(&["halted: ", "waiting: "]);
    assert!(sandbox.join("dir/7").exists() && sandbox.join("dir/29").exists());
    // What is only in the sandbox is worth keeping.
    up.interrupt().expect_code(6);
    assert!(sandbox.join("dir/7").exists());
    std::fs::create_dir(world.project()).expect("made");
}
