//! What the README says happens is what happens: its session is run line by line, and each promise of its
//! table has tests.

use std::path::Path;
use std::process::Stdio;

use skync::error::ExitCode;

use crate::support::sources::{files, root};
use crate::support::{Outcome, World};

/// Stands for anything in what is expected.
const ANYTHING: &str = "…";

fn readme() -> String {
    let path = root().join("README.md");
    std::fs::read_to_string(path).expect("a README")
}

/// The lines of the block behind the comment that begins so.
fn session(text: &str) -> Vec<&str> {
    let (_, rest) = text.split_once("<!-- session").expect("a session");
    let (_, rest) = rest.split_once("\n```\n").expect("a block");
    let (block, _) = rest.split_once("\n```\n").expect("its end");
    block.lines().collect()
}

fn matches(expected: &str, found: &str) -> bool {
    let mut parts = expected.split(ANYTHING);
    let Some(mut rest) = parts.next().and_then(|first| found.strip_prefix(first)) else {
        return false;
    };
    let mut is_open = false;
    for part in parts {
        is_open = part.is_empty();
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    is_open || rest.is_empty()
}

#[test]
fn the_session_of_the_readme_happens_as_it_is_told() {
    let text = readme();
    let expected = session(&text);
    let mut script = String::from("exec 2>&1\n");
    for line in expected.iter().filter_map(|line| line.strip_prefix("$ ")) {
        let quoted = line.replace('\'', r"'\''");
        script += &format!("printf '%s\\n' '$ {quoted}'\n{line}\n");
    }
    let world = World::new();
    let skync = Path::new(env!("CARGO_BIN_EXE_skync")).parent().expect("a directory");
    let path = std::env::var("PATH").expect("a path");
    let own = world.skync([""; 0]);
    let mut bash = std::process::Command::new("bash");
    bash.args(["-c", &script]).current_dir(world.project()).stdin(Stdio::null());
    bash.env("PATH", format!("{}:{path}", skync.display())).env_remove("NO_COLOR");
    for (name, value) in own.get_envs() {
        match value {
            Some(value) => bash.env(name, value),
            None => bash.env_remove(name),
        };
    }
    let outcome = Outcome::of(bash.output().expect("bash runs")).expect_code(0);
    let found: Vec<&str> = outcome.stdout.lines().collect();
    for (expected, found) in expected.iter().zip(&found) {
        assert!(matches(expected, found), "not `{expected}`, in:\n{}", outcome.stdout);
    }
    assert_eq!(expected.len(), found.len(), "{}", outcome.stdout);
}

#[test]
fn every_promise_has_tests_that_are_there() {
    let text = readme();
    let (_, rest) = text.split_once("## What you can rely on\n").expect("the table");
    let (table, rest) = rest.split_once("<!-- proved by").expect("the comment below it");
    let (proofs, _) = rest.split_once("-->").expect("its end");
    // Two lines of it are the head.
    let promises = table.lines().filter(|line| line.starts_with('|')).count() - 2;
    let proofs: Vec<&str> = proofs.lines().skip(1).collect();
    assert_eq!(promises, proofs.len(), "one line of tests for each row");
    let text = |path| std::fs::read_to_string(path).expect("text");
    let sources: String = files(&["tests/it"], "rs").into_iter().map(text).collect();
    for (number, line) in proofs.iter().enumerate() {
        let tests = line.strip_prefix(&format!("{}. ", number + 1)).expect("its number");
        for test in tests.split(", ") {
            assert!(sources.contains(&format!("fn {test}(")), "there is no test `{test}`");
        }
    }
}

#[test]
fn the_readme_knows_the_exit_codes_of_a_command() {
    let text = readme();
    let (_, rest) = text.split_once("**Exit codes of `exec`").expect("the paragraph");
    let (paragraph, _) = rest.split_once("**Ctrl-C**").expect("its end");
    for code in ExitCode::ALL.into_iter().filter(|code| code.is_of_a_command()) {
        let number = (code as u8).to_string();
        assert!(paragraph.contains(&number), "{number}: {}", code.meaning());
    }
}
