//! Both sides change while a session lives: what arrives, what wins, what is a conflict.

use std::path::Path;

use crate::support::tree::{agreed, assert_same};
use crate::support::{Outcome, World, put};

#[expect(clippy::disallowed_methods, reason = "a test's own files")]
fn delete(side: &Path, name: &str) {
    let path = side.join(name);
    if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
        .expect("deleted");
}

#[track_caller]
fn assert_content(side: &Path, name: &str, content: &str) {
    let found = std::fs::read_to_string(side.join(name));
    assert_eq!(found.unwrap_or_else(|error| error.to_string()), content, "{name}");
}

#[track_caller]
fn assert_gone(side: &Path, name: &str) {
    assert!(side.join(name).symlink_metadata().is_err(), "{name} is still there");
}

#[track_caller]
fn assert_says(outcome: &Outcome, line: &str) {
    assert!(outcome.stderr.contains(line), "no `{line}` in:\n{}", outcome.stderr);
}

fn world_with(mode: &str, names: &[&str]) -> World {
    let world = World::new();
    world.run(&["profile", "add", "p", "--driver", "directory", "--mode", mode]).expect_code(0);
    for name in names {
        world.write(name, "first");
    }
    world
}

#[test]
fn changes_of_either_side_arrive_on_the_other() {
    let world = world_with("two-way-safe", &["h", "s", "hd", "sd", "both-d", "same", "t/a", "t/b"]);
    let held = world.hold();
    let (host, sandbox) = (world.project(), held.sandbox());
    put(host, "h", "edited on the host");
    put(sandbox, "s", "edited in the sandbox");
    put(host, "new/on-host", "1");
    put(sandbox, "new/in-sandbox", "2");
    delete(host, "hd");
    delete(sandbox, "sd");
    delete(host, "both-d");
    delete(sandbox, "both-d");
    put(host, "same", "the same change");
    put(sandbox, "same", "the same change");
    put(host, "t/a", "host");
    put(sandbox, "t/b", "sandbox");
    let outcome = held.sync();
    assert_eq!(outcome.stderr.matches("conflict").count(), 0, "{}", outcome.stderr);
    assert_same(&agreed(host), &agreed(sandbox));
    for (name, content) in [
        ("h", "edited on the host"),
        ("s", "edited in the sandbox"),
        ("new/on-host", "1"),
        ("new/in-sandbox", "2"),
        ("same", "the same change"),
        ("t/a", "host"),
        ("t/b", "sandbox"),
    ] {
        assert_content(host, name, content);
    }
    for name in ["hd", "sd", "both-d"] {
        assert_gone(host, name);
    }
    held.release();
    assert_content(host, "s", "edited in the sandbox");
}

#[test]
fn a_change_wins_over_a_deletion_and_is_told() {
    let world = world_with("two-way-safe", &["a", "b", "t/x", "t/y", "stay"]);
    let held = world.hold();
    let (host, sandbox) = (world.project(), held.sandbox());
    delete(host, "a");
    put(sandbox, "a", "changed in the sandbox");
    put(host, "b", "changed on the host");
    delete(sandbox, "b");
    delete(host, "t");
    put(sandbox, "t/x", "changed below");
    let outcome = held.sync();
    assert_says(&outcome, "note: a was deleted on the host and changed in the sandbox: kept");
    assert_says(&outcome, "note: b was deleted in the sandbox and changed on the host: kept");
    assert_says(&outcome, "note: t was deleted on the host and changed in the sandbox: kept");
    assert_content(host, "a", "changed in the sandbox");
    assert_content(sandbox, "b", "changed on the host");
    assert_content(host, "t/x", "changed below");
    assert_same(&agreed(host), &agreed(sandbox));
    held.release();
}

#[test]
fn a_conflict_keeps_both_versions_and_the_sandbox_with_them() {
    let world = world_with("two-way-safe", &["file", "other"]);
    let held = world.hold();
    let sandbox = held.sandbox().to_owned();
    put(world.project(), "file", "of the host");
    put(&sandbox, "file", "of the sandbox");
    put(world.project(), "created", "of the host");
    put(&sandbox, "created", "of the sandbox");
    put(&sandbox, "other", "goes on");
    let outcome = held.sync();
    for name in ["file", "created"] {
        assert_says(&outcome, &format!("warning: conflict: {name}: "));
        assert_content(world.project(), name, "of the host");
        assert_content(&sandbox, name, "of the sandbox");
    }
    assert_content(world.project(), "other", "goes on");
    held.release();
    // Nobody uses it any more, and still it stays: it has what the host has not.
    assert_content(&sandbox, "file", "of the sandbox");
    // Once they agree there is no conflict, and nothing to keep it for.
    put(world.project(), "file", "of the sandbox");
    put(world.project(), "created", "of the sandbox");
    world.exec(&["true"]).expect_code(0);
    assert!(!sandbox.exists(), "the sandbox is still there");
}

#[test]
fn in_two_way_resolved_the_host_wins() {
    let world = world_with("two-way-resolved", &["both", "s", "hd"]);
    let held = world.hold();
    let (host, sandbox) = (world.project(), held.sandbox());
    put(host, "both", "of the host");
    put(sandbox, "both", "of the sandbox");
    put(sandbox, "s", "only in the sandbox");
    delete(host, "hd");
    put(sandbox, "hd", "changed");
    let outcome = held.sync();
    assert_says(&outcome, "note: both: the host's version replaced the sandbox's");
    assert_content(sandbox, "both", "of the host");
    assert_content(host, "s", "only in the sandbox");
    assert_content(host, "hd", "changed");
    assert_same(&agreed(host), &agreed(sandbox));
    held.release();
}

#[test]
fn in_one_way_safe_nothing_comes_home_and_nothing_of_the_sandbox_is_lost() {
    let world = world_with("one-way-safe", &["h", "s", "sd", "both", "hd"]);
    let held = world.hold();
    let (host, sandbox) = (world.project(), held.sandbox());
    put(host, "h", "new on the host");
    put(sandbox, "s", "changed in the sandbox");
    delete(sandbox, "sd");
    delete(host, "hd");
    put(host, "both", "of the host");
    put(sandbox, "both", "of the sandbox");
    put(sandbox, "made", "in the sandbox");
    let outcome = held.sync();
    assert_says(&outcome, "warning: conflict: s: ");
    assert_says(&outcome, "warning: conflict: both: ");
    assert_content(sandbox, "h", "new on the host");
    assert_content(sandbox, "s", "changed in the sandbox");
    assert_content(sandbox, "sd", "first");
    assert_content(sandbox, "both", "of the sandbox");
    assert_content(sandbox, "made", "in the sandbox");
    assert_gone(sandbox, "hd");
    assert_content(host, "s", "first");
    assert_content(host, "both", "of the host");
    assert_gone(host, "made");
    let place = sandbox.to_owned();
    held.release();
    // What never comes home is no reason to keep a sandbox.
    assert!(!place.exists(), "the sandbox is still there");
}

#[test]
fn in_one_way_replica_the_sandbox_becomes_what_the_host_is() {
    let world = world_with("one-way-replica", &["h", "s", "sd", "both", "t/x"]);
    let held = world.hold();
    let (host, sandbox) = (world.project(), held.sandbox());
    let before = {
        put(host, "h", "new on the host");
        put(host, "both", "of the host");
        agreed(host)
    };
    put(sandbox, "s", "changed in the sandbox");
    delete(sandbox, "sd");
    put(sandbox, "both", "of the sandbox");
    put(sandbox, "made/here", "in the sandbox");
    delete(sandbox, "t");
    put(sandbox, "t", "a file now");
    held.sync();
    assert_same(&before, &agreed(host));
    assert_same(&before, &agreed(sandbox));
    held.release();
    assert_same(&before, &agreed(host));
}
