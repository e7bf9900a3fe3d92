//! `skync up` and what drives it: through the real binary, on directories, and once in Docker.
//!
//! Nothing here knows how soon a change arrives, only that it does.

mod broken;
mod churn;
mod rules;
pub(crate) mod running;
mod verbs;

use std::path::Path;

use serde_json::Value;

use crate::support::processes::{Kind, signal};
use crate::support::{SPECKIT, World, arrives, put, wait_until};

/// Waits until a file of either side is gone.
#[track_caller]
fn goes(side: &Path, name: &str) {
    let path = side.join(name);
    wait_until(&format!("`{name}` is gone"), || path.symlink_metadata().is_err());
}

#[track_caller]
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn what_changes_on_either_side_arrives_on_the_other() {
    let world = World::new();
    world.write("a", "first");
    world.write("src/b", "first");
    let up = world.start_up(&[]);
    let (host, sandbox) = (world.project(), world.sandbox());
    arrives(&sandbox, "src/b", "first");
    put(host, "a", "edited on the host");
    arrives(&sandbox, "a", "edited on the host");
    put(&sandbox, "new/deep/c", "made in the sandbox");
    arrives(host, "new/deep/c", "made in the sandbox");
    #[expect(clippy::disallowed_methods, reason = "a test's own files")]
    std::fs::rename(host.join("src"), host.join("moved")).expect("renamed");
    arrives(&sandbox, "moved/b", "first");
    goes(&sandbox, "src");
    let outcome = up.interrupt();
    outcome.expect_code(0);
}

#[test]
fn it_tells_what_moves_and_that_it_has_ended() {
    let world = World::new();
    world.write("a", "first");
    let up = world.start_up(&[]);
    put(world.project(), "a", "second");
    up.says("→ a (6 B) in ");
    put(&world.sandbox(), "out", "result");
    up.says("← out (6 B) in ");
    let said = up.interrupt().expect_code(0).stderr;
    assert!(said.contains("watching · 1 file · "), "{said}");
    assert!(said.contains("the mirror has ended and its sandbox is gone"), "{said}");
}

#[test]
fn ctrl_c_brings_results_home_and_leaves_nothing() {
    for name in ["INT", "TERM", "HUP"] {
        let world = World::new();
        world.write("a", "1");
        let up = world.start_up(&[]);
        // Not waited for: it comes home by the end at the latest.
        put(&world.sandbox(), "made", name);
        up.signal(name).expect_code(0);
        assert_eq!(world.read("made"), name);
        world.expect_nothing_left();
    }
}

#[test]
fn a_second_up_shows_the_same_mirror_and_leaves_it_alone() {
    let world = World::new();
    world.write("a", "1");
    let first = world.start_up(&[]);
    let sandbox = world.sandbox();
    let second = world.start_up(&[]);
    assert_eq!(world.sandbox(), sandbox);
    put(world.project(), "a", "22");
    for up in [&first, &second] {
        up.says("→ a (2 B) in ");
    }
    let status = world.status();
    assert_eq!((&status["ups"], &status["hold"]), (&2.into(), &false.into()));
    let said = second.interrupt().expect_code(0).stderr;
    assert!(said.contains("another `skync up` still mirrors"), "{said}");
    put(world.project(), "a", "333");
    arrives(&sandbox, "a", "333");
    first.interrupt().expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn a_mirror_in_the_background_goes_on_until_down() {
    let world = World::new();
    world.write("a", "1");
    let outcome = world.run(&["up", "-d"]).expect_code(0);
    let goes_on = "it mirrors in the background until `skync down`";
    assert!(outcome.stderr.contains(goes_on), "{}", outcome.stderr);
    let sandbox = world.sandbox();
    // The first synchronisation was waited for.
    assert_eq!(std::fs::read_to_string(sandbox.join("a")).expect("there"), "1");
    put(world.project(), "a", "2");
    arrives(&sandbox, "a", "2");
    put(&sandbox, "made", "3");
    world.run(&["flush"]).expect_code(0);
    assert_eq!(world.read("made"), "3");
    put(&sandbox, "last", "4");
    let down = world.run(&["down"]).expect_code(0);
    assert!(down.stderr.contains("its sandbox is gone"), "{}", down.stderr);
    assert_eq!(world.read("last"), "4");
    world.expect_nothing_left();
}

#[test]
fn a_hold_outlives_the_foreground_up_that_it_was_added_to() {
    let world = World::new();
    world.write("a", "1");
    let up = world.start_up(&[]);
    world.run(&["up", "--detach"]).expect_code(0);
    let refused = world.run(&["down"]).expect_code(6);
    assert!(refused.stderr.contains("`skync up` is running in a terminal"), "{}", refused.stderr);
    let said = up.interrupt().expect_code(0).stderr;
    assert!(said.contains("in the background until `skync down`"), "{said}");
    put(world.project(), "a", "2");
    arrives(&world.sandbox(), "a", "2");
    world.run(&["down"]).expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn a_command_uses_the_sandbox_of_the_mirror_and_leaves_it_there() {
    let world = World::new();
    world.write("a", "1");
    let up = world.start_up(&[]);
    let sandbox = world.sandbox();
    put(world.project(), "a", "just now");
    let outcome = world.exec(&["sh", "-c", "pwd; cat a; echo result > made"]).expect_code(0);
    assert_eq!(outcome.stdout, format!("{}\njust now", sandbox.display()));
    assert_eq!(world.read("made"), "result\n");
    put(world.project(), "a", "2");
    arrives(&sandbox, "a", "2");
    up.interrupt().expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn patterns_of_up_hold_for_its_commands_and_those_of_a_command_end_with_it() {
    let world = World::new();
    world.write("big", "1");
    world.write("odd", "1");
    let up = world.start_up(&["--exclude", "big"]);
    let sandbox = world.sandbox();
    world.run(&["exec", "--exclude", "odd", "--", "sh", "-c", "echo x > odd"]).expect_code(0);
    put(world.project(), "marker", "1");
    arrives(&sandbox, "marker", "1");
    assert!(!sandbox.join("big").exists(), "an excluded file went over");
    up.says("warning: conflict: odd: changed on both sides");
    assert_eq!(world.read("odd"), "1");
    put(&sandbox, "odd", "1");
    up.says("no conflict any more: odd");
    up.interrupt().expect_code(0);
}

#[test]
fn a_conflict_is_told_when_it_comes_and_when_it_goes_and_keeps_the_sandbox() {
    let world = World::new();
    world.write("a", "first");
    world.run(&["up", "-d"]).expect_code(0);
    let (host, sandbox) = (world.project(), world.sandbox());
    world.run(&["pause"]).expect_code(0);
    put(host, "a", "host");
    put(&sandbox, "a", "sandbox");
    let resumed = world.run(&["resume"]).expect_code(0);
    assert!(resumed.stderr.contains("warning: conflict: a: "), "{}", resumed.stderr);
    assert!(resumed.stderr.contains("the same, but for 1 path"), "{}", resumed.stderr);
    let status = world.status();
    assert_eq!(status["conflict_count"], 1);
    assert_eq!(status["conflicts"][0]["path"], "a");
    let up = world.start_up(&[]);
    up.says("warning: conflict: a: changed on both sides");
    let down = world.run(&["down"]).expect_code(6);
    assert!(down.stderr.contains("running in a terminal"), "{}", down.stderr);
    put(host, "a", "sandbox");
    up.says("no conflict any more: a");
    up.interrupt().expect_code(0);
    world.run(&["down"]).expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn an_interrupted_mirror_with_a_conflict_keeps_its_sandbox_and_says_so() {
    let world = World::new();
    world.write("a", "first");
    let up = world.start_up(&[]);
    let (host, sandbox) = (world.project(), world.sandbox());
    world.run(&["pause"]).expect_code(0);
    put(host, "a", "host");
    put(&sandbox, "a", "sandbox");
    let said = up.interrupt().expect_code(6).stderr;
    assert!(said.contains("the sandbox is kept: 1 path is in conflict"), "{said}");
    assert_eq!(world.read("a"), "host");
    arrives(&sandbox, "a", "sandbox");
    let status = world.status();
    assert_eq!(
        (&status["state"], &status["kept"]),
        (&"idle".into(), &"1 path is in conflict".into())
    );
    // The next one finds it as it was.
    let up = world.start_up(&[]);
    up.says("warning: conflict: a: ");
    put(host, "a", "sandbox");
    up.says("no conflict any more: a");
    up.interrupt().expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn the_death_of_the_client_ends_the_mirror() {
    let world = World::new();
    world.write("a", "1");
    let up = world.start_up(&[]);
    put(&world.sandbox(), "made", "2");
    signal("KILL", &[up.pid()]);
    world.wait_until_nothing_is_left();
    assert_eq!(world.read("made"), "2");
}

#[test]
fn a_session_that_is_terminated_ends_its_mirrors() {
    for arguments in [&["up"][..], &["up", "-d"]] {
        let world = World::new();
        world.write("a", "1");
        let up = (arguments.len() == 1).then(|| world.start_up(&[]));
        if up.is_none() {
            world.run(arguments).expect_code(0);
        }
        put(&world.sandbox(), "made", "2");
        signal("TERM", &[world.process(Kind::Session)]);
        if let Some(up) = up {
            up.finish().expect_code(0);
        }
        world.wait_until_nothing_is_left();
        assert_eq!(world.read("made"), "2");
    }
}

#[test]
fn a_mirror_in_docker_goes_both_ways_and_outlives_its_container() {
    let Some(world) = World::with_docker(SPECKIT) else { return };
    world.write("a", "first");
    let up = world.start_up(&[]);
    put(world.project(), "a", "edited");
    up.says("→ a (6 B) in ");
    let seen = world.exec(&["sh", "-c", "cat a; echo made > b"]).expect_code(0);
    assert_eq!(seen.stdout, "edited");
    assert_eq!(world.read("b"), "made\n");
    let before = crate::support::containers_of(&world);
    let removed = std::process::Command::new("docker").args(["rm", "-f"]).args(&before).output();
    assert!(removed.expect("docker runs").status.success());
    up.says("; making a new one");
    put(world.project(), "a", "much later");
    assert_eq!(world.exec(&["cat", "a"]).expect_code(0).stdout, "much later");
    assert_eq!(world.read("b"), "made\n");
    let after = crate::support::containers_of(&world);
    assert!(after.len() == 1 && after != before, "{before:?}, then {after:?}");
    up.interrupt().expect_code(0);
    world.expect_nothing_left();
}
