//! Keys that are in no keychain: of a command, of the file, of the command line that must not have any.

use std::os::unix::fs::PermissionsExt;

use super::{KEY, log_in, status, world};
use crate::support::World;

/// Gives the profile this command for its key.
fn set_command(world: &World, command: &[&str]) {
    let add = ["profile", "add", "cloud", "--driver", "e2b", "--force", "--credential-command"];
    world.run(&[&add, command].concat()).expect_code(0);
}

#[test]
fn a_command_gives_the_key() {
    let Some(world) = world() else { return };
    set_command(&world, &["echo", KEY]);
    assert_eq!(status(&world, 0)["source"], "credential_command");
    world.exec(&["true"]).expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn a_command_that_gives_none_is_an_error_with_its_own_words() {
    let Some(world) = world() else { return };
    for (script, why) in [
        ("echo 'no such \"entry\"' >&2; exit 1", "no such"),
        ("echo this is no key", "prints no key"),
        ("true", "prints no key"),
    ] {
        set_script(&world, script);
        let row = status(&world, 4);
        assert!(row["problem"].as_str().is_some_and(|said| said.contains(why)), "{script}: {row}");
    }
}

fn set_script(world: &World, script: &str) {
    crate::support::put(&world.path(""), "key.sh", script);
    let file = world.path("key.sh").display().to_string();
    set_command(world, &["sh", &file]);
}

#[test]
fn the_file_is_used_only_if_it_is_this_users_alone() {
    let Some(world) = world() else { return };
    let outcome = log_in(&world, &["cloud", "--insecure-storage"], KEY).expect_code(0);
    assert!(outcome.stderr.contains("in plain text"), "{outcome:?}");
    assert_eq!(status(&world, 0)["source"], "file");
    let file = world.path("s/skync/credentials.toml");
    let mode = file.metadata().expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("set");
    let row = status(&world, 4);
    assert!(row["problem"].as_str().is_some_and(|why| why.contains("other users")), "{row}");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("set");
    world.run(&["auth", "logout", "cloud"]).expect_code(0);
    assert!(!file.exists());
}

#[test]
fn a_key_is_no_argument_and_is_asked_for_on_a_terminal_only() {
    let Some(world) = world() else { return };
    world.run(&["auth", "login", "e2b", "--token", KEY]).expect_code(2);
    world.run(&["auth", "login", "e2b", KEY]).expect_code(2);
    let outcome = world.run(&["auth", "login", "e2b"]).expect_code(2);
    assert!(outcome.stderr.contains("--with-token"), "{outcome:?}");
    let outcome = log_in(&world, &["directory"], KEY).expect_code(2);
    assert!(outcome.stderr.contains("needs no key"), "{outcome:?}");
    let outcome = log_in(&world, &["e2b"], "dtn_0123456789abcdef0123").expect_code(4);
    assert!(outcome.stderr.contains("a key for Daytona"), "{outcome:?}");
    assert!(!outcome.stderr.contains("dtn_0123"), "{outcome:?}");
}
