//! A session that runs: what an edit of the configuration means for it, and that it is reachable
//! whatever the configuration says by now.

use super::{remove, user};
use crate::support::{World, arrives, put, wait_until};

const EXCLUDES: &str =
    "profile = \"p\"\n[profiles.p]\ndriver = \"directory\"\nexclude = [\"secret/\"]\n";
const OPEN: &str = "profile = \"p\"\n[profiles.p]\ndriver = \"directory\"\nguarded = []\n";

/// A project with a secret that its own file leaves out.
fn mirrored(is_trusted: bool) -> World {
    let world = World::new();
    world.write("skync.toml", EXCLUDES);
    world.write("secret/key", "s3cret");
    if is_trusted {
        world.run(&["trust", "--yes"]).expect_code(0);
    }
    world.run(&["up", "-d"]).expect_code(0);
    assert!(!world.sandbox().join("secret").exists());
    world
}

/// Has the sandbox write a file that is guarded, and a person who says yes without looking.
fn brought_home(world: &World, name: &str, content: &str) {
    let before = world.read(name);
    put(&world.sandbox(), name, content);
    world.run(&["flush"]).expect_code(0);
    assert_eq!(world.read(name), before, "it came home unasked");
    world.run(&["resolve", name, "--sandbox"]).expect_code(0);
    arrives(world.project(), name, content);
}

fn log(world: &World) -> String {
    std::fs::read_to_string(world.path("s/skync/session.log")).unwrap_or_default()
}

#[test]
fn a_sandbox_that_edits_the_projects_file_gains_nothing() {
    for is_trusted in [false, true] {
        let world = mirrored(is_trusted);
        let sandbox = world.sandbox();
        brought_home(&world, "skync.toml", OPEN);
        wait_until("it is told", || log(&world).contains("this session ignores that"));
        // Both sides are looked at as a whole.
        world.write("after", "1");
        arrives(&sandbox, "after", "1");
        put(&sandbox, ".envrc", "export A=1\n");
        world.run(&["flush"]).expect_code(0);
        assert!(!sandbox.join("secret").exists(), "the sandbox let itself be sent a secret");
        assert!(!world.project().join(".envrc").exists(), "the sandbox took its guard away");
        remove(sandbox.join(".envrc"));
        // What it says now is the user's to let count; then it holds at once.
        world.run(&["trust", "--yes"]).expect_code(0);
        arrives(&sandbox, "secret/key", "s3cret");
        world.run(&["down"]).expect_code(0);
    }
}

#[test]
fn a_sandbox_does_not_take_out_of_a_rule_file_what_keeps_a_secret_from_it() {
    let world = World::new();
    world.write(".skyncignore", "d/\n");
    world.write("d/key", "s3cret");
    world.write(".env", "s3cret");
    let undo = "printf '!.env\\n!d/\\n' >.skyncignore; mkdir -p sub; echo '!x' >sub/.skyncignore";
    world.exec(&["sh", "-c", undo]);
    assert_eq!(world.read(".skyncignore"), "d/\n");
    assert!(!world.project().join("sub/.skyncignore").exists());
    let seen = world.exec(&["sh", "-c", "ls -A . d; true"]);
    assert!(!seen.stdout.contains("key") && !seen.stdout.contains(".env"), "{}", seen.stdout);
    world.run(&["resolve", "--all", "--host"]).expect_code(0);
    world.run(&["down", "--discard"]);
}

#[test]
fn an_edit_that_excludes_more_needs_no_trust() {
    let world = mirrored(false);
    let sandbox = world.sandbox();
    world.write("skync.toml", EXCLUDES.replace("\"secret/\"", "\"secret/\", \"dist/\""));
    wait_until("it is told", || log(&world).contains("this session ignores that"));
    // What is told was taken over before; a flush makes sure of it.
    world.run(&["flush"]).expect_code(0);
    world.write("dist/a", "1");
    world.write("after", "1");
    arrives(&sandbox, "after", "1");
    assert!(!sandbox.join("dist").exists() && !sandbox.join("secret").exists());
    world.run(&["down"]).expect_code(0);
}

#[test]
fn an_edit_of_the_users_own_file_holds_at_once() {
    let world = World::new();
    let text = "profile = \"p\"\n[profiles.p]\ndriver = \"directory\"\n";
    user(&world, &format!("{text}exclude = [\"dist/\"]\n"));
    world.write("dist/a", "1");
    world.run(&["up", "-d"]).expect_code(0);
    let sandbox = world.sandbox();
    assert!(!sandbox.join("dist").exists());
    user(&world, text);
    arrives(&sandbox, "dist/a", "1");
    world.run(&["down"]).expect_code(0);
}

#[test]
fn a_session_is_reachable_whatever_became_of_the_configuration() {
    let world = World::new();
    world.write("a", "1");
    world.run(&["up", "-d"]).expect_code(0);
    user(&world, "profile = \"x\nthis is [ no TOML");
    world.run(&["config", "show"]).expect_code(3);
    for arguments in [
        &["status"][..],
        &["ps"],
        &["flush"],
        &["pause"],
        &["resume"],
        &["conflicts"],
        &["undo", "--list"],
    ] {
        world.run(arguments).expect_code(0);
    }
    assert_eq!(world.status()["profile"], "directory");
    let down = world.run(&["down"]).expect_code(0);
    assert!(down.stderr.contains("its sandbox is gone"), "{}", down.stderr);
    for arguments in [&["flush"][..], &["pause"], &["conflicts"], &["unmount"]] {
        let none = world.run(arguments).expect_code(5);
        assert!(none.stderr.contains("no session of this project runs"), "{}", none.stderr);
    }
    let none = world.run(&["down"]).expect_code(0);
    assert!(none.stderr.contains("no session of this project runs"), "{}", none.stderr);
}

#[test]
fn a_session_ends_although_the_projects_file_is_not_trusted_any_more() {
    let world = mirrored(true);
    brought_home(&world, "skync.toml", OPEN);
    let refused = world.exec(&["true"]).expect_code(125);
    assert!(refused.stderr.contains("has changed since it was trusted"), "{}", refused.stderr);
    assert_eq!(world.status()["profile"], "p");
    world.run(&["down"]).expect_code(0);
    world.run(&["up", "-d"]).expect_code(3);
}

#[test]
fn a_switch_leaves_the_session_that_runs_alone_and_says_so() {
    let world = World::new();
    world.write("a", "1");
    world.run(&["up", "-d"]).expect_code(0);
    let sandbox = world.sandbox();
    let switched = world.run(&["use", "local"]).expect_code(0).stderr;
    let told = "the session of `directory`, which mirrors in the background, goes on; \
        `skync --profile directory down` ends it";
    assert!(switched.contains(told), "{switched}");
    world.write("b", "2");
    arrives(&sandbox, "b", "2");
    assert_eq!(world.status()["profile"], "directory");
    world.run(&["--profile", "directory", "down"]).expect_code(0);
}
