//! What a person says about conflicts and guarded paths, and what comes back after a loss: through
//! the real binary.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::support::{World, put};

fn read(side: &Path, name: &str) -> String {
    std::fs::read_to_string(side.join(name)).unwrap_or_else(|error| error.to_string())
}

fn json(world: &World, arguments: &[&str]) -> serde_json::Value {
    let outcome = world.run(&[&["--json"], arguments].concat()).expect_code(0);
    serde_json::from_str(&outcome.stdout).expect("one document")
}

/// Paths and kinds of what is in conflict.
fn conflicts(world: &World) -> Vec<(String, String)> {
    let document = json(world, &["conflicts"]);
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let list = document["conflicts"].as_array().expect("a list");
    list.iter().map(|c| (text(&c["path"]), text(&c["kind"]))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(path, kind)| ((*path).to_owned(), (*kind).to_owned())).collect()
}

#[test]
fn a_conflict_is_listed_and_decided_for_one_side() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        world.write(name, "first");
    }
    world.run(&["conflicts"]).expect_code(0);
    let held = world.hold();
    let (host, sandbox) = (world.project(), held.sandbox().to_owned());
    for name in ["a", "b", "c"] {
        put(host, name, "of the host");
        put(&sandbox, name, "of the sandbox");
    }
    held.sync();
    let expected = [("a", "both-changed"), ("b", "both-changed"), ("c", "both-changed")];
    assert_eq!(conflicts(&world), pairs(&expected));
    let table = world.run(&["conflicts"]).expect_code(0);
    assert!(table.stdout.contains("\na     both changed  11 B, "), "{}", table.stdout);
    assert!(table.stderr.contains("skync resolve PATH --host"), "{}", table.stderr);
    world.run(&["resolve", "a", "--host"]).expect_code(0);
    world.run(&["resolve", "b", "--sandbox"]).expect_code(0);
    let unknown = world.run(&["resolve", "x/c", "--host"]).expect_code(5);
    assert!(unknown.stderr.contains("did you mean `c`?"), "{}", unknown.stderr);
    let unasked = world.run(&["resolve"]).expect_code(2);
    assert!(unasked.stderr.contains("`--host`, `--sandbox` or `--both`"), "{}", unasked.stderr);
    held.sync();
    assert_eq!(
        (read(host, "a"), read(&sandbox, "a")),
        ("of the host".into(), "of the host".into())
    );
    let of_sandbox = "of the sandbox";
    assert_eq!((read(host, "b").as_str(), read(&sandbox, "b").as_str()), (of_sandbox, of_sandbox));
    assert_eq!(read(host, "c"), "of the host");
    assert_eq!(conflicts(&world), pairs(&expected[2..]));
    // What the sandbox's version replaced can be brought back.
    world.run(&["undo", "b"]).expect_code(0);
    assert_eq!(read(host, "b"), "of the host");
    world.run(&["resolve", "--all", "--sandbox"]).expect_code(0);
    held.sync();
    assert_eq!(read(host, "c"), of_sandbox);
    assert_eq!(read(&sandbox, "b"), "of the host", "an undo is an edit like any other");
    assert_eq!(conflicts(&world), []);
    held.release();
}

#[test]
fn a_decision_is_void_once_a_version_has_changed() {
    let world = World::new();
    world.write("a", "first");
    let held = world.hold();
    let (host, sandbox) = (world.project(), held.sandbox().to_owned());
    put(host, "a", "of the host");
    put(&sandbox, "a", "of the sandbox");
    held.sync();
    put(&sandbox, "a", "of the sandbox, and later");
    // It is about what the person was shown, which is not there any more.
    world.run(&["resolve", "a", "--host"]).expect_code(0);
    held.sync();
    assert_eq!(read(&sandbox, "a"), "of the sandbox, and later");
    assert_eq!(conflicts(&world), pairs(&[("a", "both-changed")]));
    world.run(&["resolve", "a", "--host"]).expect_code(0);
    held.sync();
    assert_eq!(read(&sandbox, "a"), "of the host");
    held.release();
}

#[test]
fn what_the_host_would_run_comes_home_after_a_yes_only() {
    let world = World::new();
    world.write(".git/config", "[core]\n");
    world.write(".git/hooks/pre-push", "of the user\n");
    let held = world.hold();
    let (host, sandbox) = (world.project(), held.sandbox().to_owned());
    put(&sandbox, ".git/config", "[core]\n\tfsmonitor = evil\n");
    put(&sandbox, ".git/hooks/post-checkout", "evil\n");
    put(&sandbox, ".git/HEAD", "ref: refs/heads/new\n");
    put(&sandbox, "sub/.git/config", "evil\n");
    put(&sandbox, "sub/.git/HEAD", "ref: refs/heads/main\n");
    put(&sandbox, ".envrc", "evil\n");
    held.sync();
    assert_eq!(read(host, ".git/HEAD"), "ref: refs/heads/new\n");
    assert_eq!(read(host, "sub/.git/HEAD"), "ref: refs/heads/main\n");
    assert_eq!(read(host, ".git/config"), "[core]\n");
    for name in [".git/hooks/post-checkout", "sub/.git/config", ".envrc"] {
        assert!(!host.join(name).exists(), "{name} came home");
    }
    let guarded = [
        (".envrc", "guarded"),
        (".git/config", "guarded"),
        (".git/hooks/post-checkout", "guarded"),
        ("sub/.git/config", "guarded"),
    ];
    let mut found = conflicts(&world);
    found.sort();
    assert_eq!(found, pairs(&guarded));
    world.run(&["resolve", ".git/hooks", "sub", "--sandbox"]).expect_code(0);
    world.run(&["resolve", ".git/config", ".envrc", "--host"]).expect_code(0);
    held.sync();
    assert_eq!(read(host, ".git/hooks/post-checkout"), "evil\n");
    assert_eq!(read(host, "sub/.git/config"), "evil\n");
    assert_eq!(read(&sandbox, ".git/config"), "[core]\n");
    assert!(!sandbox.join(".envrc").exists(), "it was discarded");
    assert_eq!(conflicts(&world), []);
    held.release();
}

#[test]
fn a_sandbox_cannot_let_itself_be_sent_what_a_gitignore_file_keeps_from_it() {
    let world = World::new();
    world.run(&["profile", "add", "g", "--driver", "directory", "--gitignore"]).expect_code(0);
    world.write(".gitignore", "secret\n");
    world.write("secret", "of the user");
    let held = world.hold();
    let sandbox = held.sandbox().to_owned();
    assert!(!sandbox.join("secret").exists());
    put(&sandbox, ".gitignore", "# nothing\n");
    put(&sandbox, "sub/.gitignore", "!/../secret\n");
    held.sync();
    assert_eq!(read(world.project(), ".gitignore"), "secret\n");
    let mut found = conflicts(&world);
    found.sort();
    assert_eq!(found, pairs(&[(".gitignore", "guarded"), ("sub/.gitignore", "guarded")]));
    held.release();
    world.exec(&["sh", "-c", "test ! -e secret"]).expect_code(0);
    let document = json(&world, &["conflicts"]);
    assert!(document["conflicts"].as_array().is_some_and(|list| !list.is_empty()), "{document}");
    world.run(&["resolve", "--all", "--host"]).expect_code(0);
    world.exec(&["sh", "-c", "test ! -e secret && test ! -e sub/.gitignore"]).expect_code(0);
}

#[test]
fn links_that_stay_in_the_project_come_home_and_others_are_held() {
    let world = World::new();
    world.write("d/a", "1");
    let held = world.hold();
    let (host, sandbox) = (world.project(), held.sandbox().to_owned());
    let inside_host = host.join("d/a");
    let links = [
        ("d/relative", "../d/a"),
        ("dangling", "nowhere/at/all"),
        ("absolute-inside", inside_host.to_str().expect("text")),
        ("d/out", "../../secret"),
        ("passwd", "/etc/passwd"),
        ("sneaky", "d/../../secret"),
    ];
    for (name, target) in links {
        symlink(target, sandbox.join(name)).expect("linked");
    }
    held.sync();
    for (name, target) in &links[..3] {
        let found = std::fs::read_link(host.join(name)).expect(name);
        assert_eq!(found, Path::new(target));
    }
    for (name, _) in &links[3..] {
        assert!(host.join(name).symlink_metadata().is_err(), "{name} came home");
    }
    let kind = "guarded-link";
    assert_eq!(conflicts(&world), pairs(&[("d/out", kind), ("passwd", kind), ("sneaky", kind)]));
    world.run(&["resolve", "--all", "--host"]).expect_code(0);
    held.sync();
    assert!(sandbox.join("passwd").symlink_metadata().is_err(), "it was discarded");
    held.release();
}

#[test]
fn setuid_bits_do_not_come_home() {
    let world = World::new();
    world.write("old", "1");
    world.exec(&["sh", "-c", "echo 2 > old; echo 1 > new; chmod 6755 old new"]).expect_code(0);
    for name in ["old", "new"] {
        let mode = std::fs::metadata(world.project().join(name)).expect(name).permissions().mode();
        assert_eq!(mode & 0o7777, 0o755, "{name}");
    }
}

#[test]
fn what_a_command_overwrote_or_deleted_can_be_brought_back() {
    let world = World::new();
    world.write("kept", "kept");
    world.write("over", "before");
    world.write("d/gone", "gone");
    world.write("d/e/gone too", "gone too");
    let script = world.write("d/script", "#!/bin/sh\n");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("chmod");
    assert_eq!(json(&world, &["undo", "--list"])["lost"], serde_json::json!([]));
    let nothing = world.run(&["undo", "--last"]).expect_code(5);
    assert!(nothing.stderr.contains("there is nothing to bring back"), "{}", nothing.stderr);
    world.exec(&["sh", "-c", "echo after > over; rm -r d; echo new > new"]).expect_code(0);
    assert_eq!(read(world.project(), "over"), "after\n");
    assert!(!world.project().join("d").exists());

    let list = json(&world, &["undo", "--list"]);
    let mut lost: Vec<_> = list["lost"].as_array().expect("a list").iter().collect();
    lost.sort_by_key(|lost| lost["path"].to_string());
    let facts: Vec<_> = lost.iter().map(|l| (l["path"].clone(), l["what"].clone())).collect();
    let expected = [
        ("d/e/gone too", "deleted"),
        ("d/gone", "deleted"),
        ("d/script", "deleted"),
        ("over", "overwritten"),
    ];
    assert_eq!(facts, expected.map(|(path, what)| (path.into(), what.into())));
    let table = world.run(&["undo", "--list"]).expect_code(0).stdout;
    assert!(table.contains("over          6 B   overwritten"), "{table}");

    let typo = world.run(&["undo", "ovr"]).expect_code(5);
    assert!(typo.stderr.contains("did you mean `over`?"), "{}", typo.stderr);
    world.run(&["undo", "d"]).expect_code(0);
    assert_eq!(read(world.project(), "d/gone"), "gone");
    assert_eq!(read(world.project(), "d/e/gone too"), "gone too");
    let mode = std::fs::metadata(&script).expect("back").permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    assert_eq!(read(world.project(), "over"), "after\n", "it was not meant");
    world.run(&["undo", "over"]).expect_code(0);
    assert_eq!(read(world.project(), "over"), "before");
    // What is replaced by an undo is kept as well.
    world.run(&["undo", "over"]).expect_code(0);
    assert_eq!(read(world.project(), "over"), "after\n");
    assert_eq!(
        (read(world.project(), "kept"), read(world.project(), "new")),
        ("kept".into(), "new\n".into())
    );
}

#[test]
fn the_last_loss_is_brought_back_as_a_whole_and_sent_to_a_sandbox_that_lives() {
    let world = World::new();
    world.write("kept", "kept");
    for name in ["a", "d/b", "d/c"] {
        world.write(name, name);
    }
    let held = world.hold();
    let sandbox = held.sandbox().to_owned();
    world.exec(&["sh", "-c", "rm -r a d"]).expect_code(0);
    assert!(!world.project().join("d").exists() && !world.project().join("a").exists());
    let outcome = world.run(&["undo", "--last"]).expect_code(0);
    assert!(outcome.stderr.contains("d/b is back"), "{}", outcome.stderr);
    held.sync();
    for name in ["a", "d/b", "d/c"] {
        assert_eq!((read(world.project(), name), read(&sandbox, name)), (name.into(), name.into()));
    }
    held.release();
}
