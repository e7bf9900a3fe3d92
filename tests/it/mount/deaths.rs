//! What dies under a mount, and what becomes of it then.

use std::path::Path;

use super::{NOT_CONNECTED, arrives, number, put, read, world};
use crate::support::processes::{Kind, signal};
use crate::support::{World, wait_until};

/// Waits until nobody answers at a mount. The `gc` of another test may have taken it away by then.
#[track_caller]
fn is_dead(world: &World, at: &Path) {
    wait_until("nobody answers", || {
        number(std::fs::read_dir(at)) == Some(NOT_CONNECTED) || !world.is_mounted(at)
    });
}

/// Kills keeper and session, in this order: nobody is there to clean up.
fn kill_all_of_ours(world: &World) {
    let both = [world.process(Kind::Keeper), world.session()];
    both.iter().for_each(|pid| signal("KILL", &[*pid]));
    wait_until("both are gone", || both.iter().all(|pid| has_ended(*pid)));
}

/// True once no thread of a process lives: the last one gives up its files, and what they lock.
fn has_ended(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let ends = |thread: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        state.is_none_or(|state| matches!(state, 'Z' | 'X'))
    };
    threads.into_iter().all(ends)
}

#[test]
fn the_death_of_the_session_is_healed_by_its_successor() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&["--rw"]);
    put(&at, "b", "2");
    let session = world.session();
    signal("KILL", &[session]);
    wait_until("another session has taken over", || {
        let mut all = world.processes().into_iter();
        all.any(|process| process.kind == Kind::Session && process.pid != session)
    });
    arrives(&at, "a", "1");
    assert_eq!(read(&at, "b"), "2");
    put(&at, "c", "3");
    assert_eq!(read(&world.sandbox(), "c"), "3");
    assert_eq!(world.status()["mounts"][0]["writable"], true);
    world.run(&["unmount"]).expect_code(0);
    assert_eq!((world.read("b"), world.read("c")), ("2".into(), "3".into()));
    world.wait_until_nothing_is_left();
}

#[test]
fn a_session_that_dies_with_its_sandbox_leaves_no_mount() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&[]);
    signal("KILL", &[world.process(Kind::Agent), world.session()]);
    wait_until("it is gone, or back", || !world.is_mounted(&at) || std::fs::read_dir(&at).is_ok());
    let _ = world.run(&["unmount", "--all", "--force"]);
    let _ = world.run(&["down", "--discard"]);
    world.wait_until_nothing_is_left();
}

#[test]
fn what_a_crash_left_is_replaced() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&[]);
    kill_all_of_ours(&world);
    is_dead(&world, &at);
    assert_eq!(world.mount(&[]), at);
    assert_eq!(read(&at, "a"), "1");
    world.run(&["unmount"]).expect_code(0);
    world.wait_until_nothing_is_left();
}

#[test]
fn the_next_command_of_the_project_mounts_it_again() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&["--rw"]);
    kill_all_of_ours(&world);
    is_dead(&world, &at);
    // It takes over what was there: the sandbox and its mount.
    world.exec(&["true"]).expect_code(0);
    arrives(&at, "a", "1");
    world.run(&["unmount"]).expect_code(0);
    world.wait_until_nothing_is_left();
}

#[test]
fn gc_takes_away_what_a_crash_left() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&[]);
    kill_all_of_ours(&world);
    is_dead(&world, &at);
    let said = world.run(&["gc"]).expect_code(0);
    assert!(!world.is_mounted(&at));
    assert!(!world.path("home/.remote").exists(), "{said:?}");
    world.wait_until_nothing_is_left();
}

#[test]
fn unmount_takes_away_what_a_crash_left() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&[]);
    kill_all_of_ours(&world);
    is_dead(&world, &at);
    world.run(&["unmount", at.to_str().expect("text")]).expect_code(0);
    assert!(!world.is_mounted(&at));
    world.run(&["gc"]).expect_code(0);
    world.wait_until_nothing_is_left();
}

#[test]
fn the_death_of_the_agent_is_healed() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&["--rw"]);
    assert_eq!(read(&at, "a"), "1");
    let agent = world.process(Kind::Agent);
    signal("KILL", &[agent]);
    wait_until("there is another one", || {
        let mut all = world.processes().into_iter();
        all.any(|process| process.kind == Kind::Agent && process.pid != agent)
    });
    put(&world.sandbox(), "b", "2");
    arrives(&at, "b", "2");
    wait_until("it can be written again", || {
        std::fs::File::create(at.join("c"))
            .and_then(|mut file| std::io::Write::write_all(&mut file, b"3"))
            .is_ok()
    });
    assert_eq!(read(&world.sandbox(), "c"), "3");
    world.run(&["unmount"]).expect_code(0);
    world.wait_until_nothing_is_left();
}
