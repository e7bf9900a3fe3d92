//! `skync init` through the real binary: what it asks, what it writes, and that it works.

use serde_json::Value;

use crate::support::processes::signal;
use crate::support::{SPECKIT, World, docker_is_there};

impl World {
    /// The text of the user's configuration; empty if there is none.
    fn user_file(&self) -> String {
        std::fs::read_to_string(self.path("c/skync/config.toml")).unwrap_or_default()
    }
}

/// Where no engine answers, whatever machine this is.
fn alone() -> World {
    let mut world = World::new();
    let host = format!("unix://{}", world.path("none.sock").display());
    world.set("DOCKER_HOST", &host);
    world
}

#[test]
fn the_proposals_are_written_and_used() {
    let world = alone();
    let outcome = world.run(&["init", "--yes"]).expect_code(0);
    assert_eq!(
        world.user_file(),
        "profile = \"copy\"\n\n[profiles.copy]\ndriver = \"directory\"\n"
    );
    assert!(outcome.stderr.contains("wrote the profile `copy`"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("specify init --here --force"), "{}", outcome.stderr);
    world.exec(&["true"]).expect_code(0);
    let again = world.run(&["init", "--yes"]).expect_code(0);
    assert!(again.stderr.contains("already, with these settings"), "{}", again.stderr);
}

#[test]
fn every_answer_has_a_flag() {
    let world = alone();
    let outcome = world.run(&[
        "--json",
        "init",
        "--yes",
        "--driver",
        "docker",
        "--image",
        "node:22",
        "--name",
        "web",
        "--exclude",
        "data/",
        "--project",
    ]);
    let document: Value = serde_json::from_str(&outcome.expect_code(0).stdout).expect("one");
    assert_eq!((&document["written"], &document["place"]), (&true.into(), &"project".into()));
    assert_eq!(document["profile"]["image"], "node:22");
    insta::assert_snapshot!(world.read("skync.toml"), @r#"
    # How skync runs this project; `skync config schema` prints what may stand here.

    profile = "web"

    [profiles.web]
    driver = "docker"
    image = "node:22"
    exclude = ["data/"]
    "#);
    assert_eq!(document["text"], world.read("skync.toml"));
    let names = std::fs::read_dir(world.project()).expect("there").count();
    assert_eq!((names, world.user_file().as_str()), (1, ""), "and nothing else");
}

#[test]
fn what_was_written_works_with_docker() {
    if !docker_is_there() {
        return;
    }
    let world = World::new();
    world.run(&["init", "--yes", "--driver", "docker", "--image", SPECKIT]).expect_code(0);
    world.exec(&["true"]).expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn a_key_that_is_missing_is_told() {
    let world = alone();
    let outcome = world.run(&["--json", "init", "--yes", "--driver", "e2b"]).expect_code(0);
    let document: Value = serde_json::from_str(&outcome.stdout).expect("one");
    assert_eq!(document["missing_key"], "e2b");
    let next = document["next"][0].as_str().expect("text");
    assert!(next.starts_with("skync auth login e2b"), "{next}");
}

#[test]
fn without_a_terminal_or_a_yes_it_fails_at_once_and_names_the_flags() {
    let world = alone();
    for arguments in [&["init"][..], &["--json", "init"]] {
        let outcome = world.run(arguments).expect_code(2);
        let said = outcome.stdout + &outcome.stderr;
        for flag in ["--yes", "--driver", "--image", "--name", "--project"] {
            assert!(said.contains(flag), "{flag}: {said}");
        }
    }
    assert_eq!(world.user_file(), "");
}

#[test]
fn a_dry_run_shows_all_and_writes_nothing() {
    let world = alone();
    world.write("go.mod", "module x\n");
    for place in ["--user", "--project"] {
        let outcome = world.run(&["init", "--dry-run", "--driver", "docker", place]).expect_code(0);
        assert!(outcome.stdout.contains("image = \"golang:1\""), "{}", outcome.stdout);
    }
    assert_eq!(world.user_file(), "");
    assert!(!world.project().join("skync.toml").exists());
}

#[test]
fn what_is_there_already_stays() {
    let world = alone();
    let ours = "# ours\nprofile = \"mine\"\n\n[profiles.mine]\ndriver = \"directory\" # so\n";
    world.write("skync.toml", ours);
    world.run(&["init", "--yes", "--project", "--driver", "docker", "--image", "x"]).expect_code(0);
    let text = world.read("skync.toml");
    assert!(text.starts_with(ours) && text.contains("[profiles.docker]"), "{text}");
    let taken = ["init", "--yes", "--project", "--driver", "directory", "--name", "docker"];
    world.run(&taken).expect_code(3);
    assert_eq!(world.read("skync.toml"), text);
}

#[test]
fn the_wizard_asks_shows_and_writes_after_a_yes() {
    let world = alone();
    world.write("package.json", "{}");
    world.write(".devcontainer/devcontainer.json", "{\"image\": \"dev:1\", /* x */}");
    let terminal = world.terminal(&["init"]);
    terminal.expect("Where shall the code run?");
    terminal.keys("docker\r");
    terminal.expect("dev:1");
    terminal.keys("2\r");
    terminal.expect("Where is this to be kept?");
    terminal.keys("2\r");
    terminal.expect("Write it? [Y/n]");
    terminal.expect("image = \"node:22\"");
    assert!(!world.project().join("skync.toml").exists(), "not before the yes");
    terminal.keys("\r");
    terminal.expect_end(0);
    assert!(world.read("skync.toml").contains("image = \"node:22\""));
}

#[test]
fn the_end_of_the_input_ctrl_c_and_a_no_write_nothing() {
    for ctrl_c in [false, true] {
        let world = alone();
        let terminal = world.terminal(&["init"]);
        terminal.expect("Where shall the code run?");
        terminal.keys("4\r");
        terminal.expect("Where is this to be kept?");
        match ctrl_c {
            // The test's own shell would go with it.
            true => signal("INT", &[terminal.pid()]),
            false => terminal.keys("\u{4}"),
        }
        terminal.expect_end(130);
        assert_eq!(world.user_file(), "");
    }
    let world = alone();
    let terminal = world.terminal(&["init", "--user", "--driver", "directory"]);
    terminal.expect("Write it? [Y/n]");
    terminal.keys("n\r");
    terminal.expect_end(130);
    assert_eq!(world.user_file(), "");
}
