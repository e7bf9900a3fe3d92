//! A key that is looked for everywhere, after everything was done with it.

use std::process::Command;

use super::{KEY, log_in, world};
use crate::support::client::{Client, shell};
use crate::support::keychain::Keychain;
use crate::support::{Outcome, World};

/// Fails the test if the key stands in what was said.
#[track_caller]
fn unseen(outcome: Outcome) -> Outcome {
    for said in [&outcome.stdout, &outcome.stderr] {
        assert!(!said.contains(KEY), "the key is shown: {said}");
    }
    outcome
}

/// Runs a verb three times: plainly, with all of the log, and for a program.
#[track_caller]
fn run(world: &World, arguments: &[&str]) {
    for flags in [&[][..], &["-vv"], &["-vv", "--json"]] {
        unseen(world.run(&[flags, arguments].concat()));
    }
}

/// The processes of this world, by what they were started with: argument lists, or environments.
fn of_processes(world: &World, what: &str) -> Vec<u8> {
    let all = world.processes();
    assert!(!all.is_empty(), "a session runs");
    let read = |pid: u32| std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
    all.into_iter().flat_map(|process| read(process.pid)).collect()
}

/// Where the key stands below the world's directory; `but` may have it.
fn files_with_key(world: &World, but: &[&str]) -> Vec<String> {
    let base = world.path("");
    let output = Command::new("grep").args(["-rlaF", "-e", KEY]).arg(&base).output();
    let text = String::from_utf8_lossy(&output.expect("grep runs").stdout).into_owned();
    let is_allowed = |line: &str| but.iter().any(|name| line.ends_with(name));
    text.lines().filter(|line| !is_allowed(line)).map(str::to_owned).collect()
}

/// Everything that has to do with a provider, with `KEY` where `log_in` has put it.
fn everything(world: &World, but: &[&str]) {
    run(world, &["auth", "status"]);
    run(world, &["profile", "show"]);
    run(world, &["profile", "validate"]);
    unseen(world.run(&["-vv", "up", "-d"]).expect_code(0));
    let mut client = Client::start(&mut shell(world, "echo up; env; cat"));
    for verb in [&["status"][..], &["ps"], &["gc"], &["flush"], &["conflicts"]] {
        run(world, verb);
    }
    let outcome = unseen(world.run(&["-vv", "exec", "env"]).expect_code(0));
    assert!(!outcome.stdout.contains("E2B_API_KEY"), "{}", outcome.stdout);
    for what in ["cmdline", "environ"] {
        let all = String::from_utf8_lossy(&of_processes(world, what)).into_owned();
        assert!(!all.contains(KEY), "the key is in the {what} of a process");
    }
    let container = world.e2b().sandboxes()[0].container.clone();
    // In two parts, so that the search does not find itself.
    let (begin, end) = KEY.split_at(KEY.len() - 1);
    let script = format!(
        "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | grep -ac '{begin}[{end}]'; \
         grep -rlaF -e '{begin}''{end}' / --exclude-dir=proc --exclude-dir=sys 2>/dev/null"
    );
    let looked = Command::new("docker").args(["exec", &container, "sh", "-c", &script]).output();
    let looked = String::from_utf8_lossy(&looked.expect("docker runs").stdout).into_owned();
    assert_eq!(looked.trim(), "0", "the key is in the sandbox");
    // A provider that fails, and repeats what it was told.
    let body = format!(r#"{{"code":500,"message":"bad key {KEY} of Bearer {KEY}"}}"#);
    world.e2b().quirks().fail_next("GET /v2/sandboxes", 500, vec![], body.clone(), 1);
    run(world, &["profile", "validate"]);
    world.e2b().quirks().fail_next("GET /v2/sandboxes", 401, vec![], body, 1);
    run(world, &["profile", "validate"]);
    assert_eq!(files_with_key(world, but), [""; 0]);
    drop(client.child.stdin.take());
    client.expect_code(0);
    unseen(world.run(&["-vv", "--json", "down"]).expect_code(0));
    run(world, &["gc"]);
    assert_eq!(files_with_key(world, but), [""; 0]);
    let log = std::fs::read_to_string(world.path("s/skync/session.log")).expect("a log");
    assert!(!log.contains(KEY));
}

#[test]
fn a_key_of_the_keychain_stands_nowhere_else() {
    let Some(mut world) = world() else { return };
    let Some(keychain) = Keychain::open(&mut world) else { return };
    world.set("SKYNC_LOG", "trace");
    unseen(log_in(&world, &["-vv", "cloud"], KEY).expect_code(0));
    unseen(log_in(&world, &["--json", "e2b"], KEY).expect_code(0));
    everything(&world, &[]);
    unseen(world.run(&["-vv", "auth", "logout", "--all"]).expect_code(0));
    drop(keychain);
    world.expect_nothing_left();
}

#[test]
fn a_key_of_the_file_stands_nowhere_else() {
    let Some(world) = world() else { return };
    unseen(log_in(&world, &["-vv", "cloud", "--insecure-storage"], KEY).expect_code(0));
    everything(&world, &["s/skync/credentials.toml"]);
    unseen(world.run(&["auth", "logout", "--all"]).expect_code(0));
    assert_eq!(files_with_key(&world, &[]), [""; 0]);
    world.expect_nothing_left();
}

#[test]
fn a_key_of_the_environment_does_not_reach_a_sandbox_on_this_machine() {
    let mut world = World::new();
    world.set("SKYNC_E2B_TOKEN", KEY);
    world.set("E2B_API_KEY", KEY);
    let script = "env; tr '\\0' '\\n' < /proc/$PPID/environ";
    let outcome = unseen(world.exec(&["sh", "-c", script]).expect_code(0));
    assert!(outcome.stdout.contains("PATH="), "{}", outcome.stdout);
    assert_eq!(files_with_key(&world, &[]), [""; 0]);
}
