//! What programs can rely on, verb by verb: with `--json` one document, or one object per line, on stdout,
//! for errors too, and nothing on stderr.

use std::fs::OpenOptions;

use clap::CommandFactory;
use serde_json::Value;

use crate::support::{Outcome, World, with_input};

/// How a verb is tried, in this order in one world.
struct Verb {
    name: &'static str,
    /// It prints one object per line, each with an `event`.
    streams: bool,
    /// What works.
    works: &'static [&'static str],
    /// What does not, and with which code.
    fails: (&'static [&'static str], i32),
}

const fn verb(
    name: &'static str,
    works: &'static [&'static str],
    fails: (&'static [&'static str], i32),
) -> Verb {
    Verb { name, streams: false, works, fails }
}

const fn stream(
    name: &'static str,
    works: &'static [&'static str],
    fails: (&'static [&'static str], i32),
) -> Verb {
    Verb { name, streams: true, works, fails }
}

/// Where a file stands in the way of our state.
const NO_STATE: &str = "NO_STATE";

/// Every verb. What changes something stands behind what needs it as it was.
const VERBS: &[Verb] = &[
    verb("help", &["help", "exit-codes"], (&["help", "nosuch"], 5)),
    verb("completions", &["completions", "bash"], (&["completions", "nosuch"], 2)),
    verb("man", &["man"], (&["man", "--dir", "/dev/null/x"], 3)),
    verb(
        "profile add",
        &["profile", "add", "dev", "--driver", "directory"],
        (&["profile", "add", "x", "--driver", "nosuch"], 3),
    ),
    verb("profile list", &["profile", "list"], (&["profile", "list", "--nosuch"], 2)),
    verb("profile show", &["profile", "show"], (&["profile", "show", "nosuch"], 5)),
    verb("profile use", &["profile", "use", "dev"], (&["profile", "use", "nosuch"], 5)),
    verb("use", &["use", "dev"], (&["use", "nosuch"], 5)),
    verb("profile validate", &["profile", "validate"], (&["profile", "validate", "nosuch"], 5)),
    stream(
        "exec",
        &["exec", "--name", "one", "--", "sh", "-c", "echo out; echo err >&2"],
        (&["exec", "--profile", "nosuch", "--", "true"], 125),
    ),
    stream("exec", &["exec", "true"], (&["exec", "--", "/nosuch/program"], 127)),
    verb("ps", &["ps", "-a"], (&[NO_STATE, "ps"], 3)),
    stream("logs", &["logs", "one"], (&["logs", "nosuch"], 5)),
    stream("attach", &["attach", "one"], (&["attach", "nosuch"], 5)),
    verb("wait", &["wait", "one"], (&["wait", "nosuch"], 5)),
    verb("cancel", &["cancel", "one"], (&["cancel", "nosuch"], 5)),
    stream("up", &["up", "-d"], (&["up", "--profile", "local"], 2)),
    verb("status", &["status"], (&["status", "nosuch"], 5)),
    verb("flush", &["flush"], (&["flush", "--profile", "directory"], 5)),
    verb("pause", &["pause"], (&["pause", "--profile", "directory"], 5)),
    verb("resume", &["resume"], (&["resume", "--profile", "directory"], 5)),
    verb("conflicts", &["conflicts"], (&["conflicts", "--root", "/nosuch"], 5)),
    verb("resolve", &["resolve", "--all", "--host"], (&["resolve", "nosuch", "--host"], 5)),
    verb("undo", &["undo", "--list"], (&["undo", "--last"], 5)),
    verb("mount", &[], (&["mount", "--profile", "local"], 2)),
    verb("unmount", &["unmount", "--all"], (&["unmount", "--at", "/nosuch"], 5)),
    verb("down", &["down"], (&["down", "--root", "/nosuch"], 5)),
    verb("gc", &["gc"], (&[NO_STATE, "gc"], 3)),
    verb("config show", &["config", "show"], (&["config", "show", "nosuch"], 5)),
    verb("config path", &["config", "path"], (&["config", "path", "--nosuch"], 2)),
    verb("config schema", &["config", "schema"], (&["config", "schema", "--nosuch"], 2)),
    verb("trust", &["trust", "--list"], (&["trust"], 5)),
    verb("init", &["init", "--dry-run"], (&["init"], 2)),
    // What it finds is this machine's; see `doctor`.
    verb("doctor", &[], (&["doctor", "--nosuch"], 2)),
    // A login is this machine's, too; see `auth`.
    verb("auth login", &[], (&["auth", "login", "nosuch"], 5)),
    verb("auth logout", &[], (&["auth", "logout", "nosuch"], 5)),
    verb("auth status", &["auth", "status", "--offline"], (&["auth", "status", "nosuch"], 5)),
    verb("profile remove", &["profile", "remove", "dev"], (&["profile", "remove", "nosuch"], 5)),
];

/// The verbs that clap knows, without those that only have verbs of their own, and those for ourselves.
fn verbs() -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![(String::new(), skync::cli::Cli::command())];
    while let Some((above, command)) = waiting.pop() {
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let name = format!("{above} {}", verb.get_name()).trim().to_owned();
            if verb.has_subcommands() {
                waiting.push((name, verb.clone()));
            } else {
                found.push(name);
            }
        }
    }
    found
}

#[track_caller]
fn objects(arguments: &[&str], outcome: &Outcome) -> Vec<Value> {
    assert_eq!(outcome.stderr, "", "{arguments:?}: a program got talk");
    let parsed = outcome.stdout.lines().map(|line| {
        let object: Value = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", outcome.stdout));
        assert_eq!(object["schema_version"], 1, "{arguments:?}: {object}");
        object
    });
    parsed.collect()
}

#[track_caller]
fn expect_error(arguments: &[&str], document: &Value, code: i32) {
    assert_eq!(document["ok"], false, "{arguments:?}: {document}");
    assert_eq!(document["event"], "error", "{arguments:?}: {document}");
    let error = &document["error"];
    assert_eq!(error["code"], code, "{arguments:?}: {document}");
    let kind = error["kind"].as_str().expect("a kind");
    assert!(kind.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{kind}");
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{document}");
    let hints = error["hints"].as_array().expect("hints");
    assert_eq!(error["hint"], hints.first().cloned().unwrap_or(Value::Null), "{document}");
    assert!(!hints.is_empty(), "{arguments:?}: no way forward: {document}");
    assert!(error["causes"].is_array() && error["details"].is_array(), "{document}");
    assert!(error["retryable"].is_boolean(), "{document}");
}

fn run(world: &World, arguments: &[&str]) -> Outcome {
    let (arguments, without_state) = match arguments.strip_prefix(&[NO_STATE]) {
        Some(rest) => (rest, true),
        None => (arguments, false),
    };
    // In front, for what stands behind the words of `exec` is not ours.
    let mut command = world.skync([&["--json"], arguments].concat());
    if without_state {
        command.env("XDG_STATE_HOME", world.path("project/file"));
    }
    Outcome::of(command.output().expect("skync runs"))
}

#[test]
fn every_verb_is_known_here() {
    let known: Vec<&str> = VERBS.iter().map(|verb| verb.name).collect();
    let missing: Vec<String> =
        verbs().into_iter().filter(|verb| !known.contains(&verb.as_str())).collect();
    assert!(missing.is_empty(), "say in VERBS how these work and fail with --json: {missing:?}");
    let all = verbs();
    let gone: Vec<&&str> =
        known.iter().filter(|name| !all.contains(&(**name).to_owned())).collect();
    assert!(gone.is_empty(), "there are no such verbs: {gone:?}");
}

#[test]
fn every_verb_speaks_json_when_it_works_and_when_it_fails() {
    let world = World::new();
    world.write("file", "content");
    for verb in VERBS {
        if !verb.works.is_empty() {
            let outcome = run(&world, verb.works).expect_code(0);
            let found = objects(verb.works, &outcome);
            if verb.streams {
                let named = found.iter().all(|object| object["event"].is_string());
                // Of `exec -d` and `up -d`, and of what has written nothing, there may be none.
                assert!(named, "{:?}: {}", verb.works, outcome.stdout);
            } else {
                assert_eq!(found.len(), 1, "{:?}: {}", verb.works, outcome.stdout);
                assert_eq!(found[0]["ok"], true, "{}", outcome.stdout);
            }
        }
        let (arguments, code) = verb.fails;
        let outcome = run(&world, arguments).expect_code(code);
        let found = objects(arguments, &outcome);
        expect_error(arguments, found.last().expect("an object"), code);
        assert!(found.len() == 1 || verb.streams, "{arguments:?}: {}", outcome.stdout);
        let named = found.iter().all(|object| object["event"].is_string());
        assert!(named, "{arguments:?}: {}", outcome.stdout);
    }
}

#[test]
fn a_command_line_that_is_not_understood_is_a_document_for_every_verb() {
    let world = World::new();
    for name in verbs() {
        let words: Vec<&str> = name.split(' ').collect();
        let arguments = [words.as_slice(), &["--no-such-flag"]].concat();
        let code = if name == "exec" { 125 } else { 2 };
        let outcome = run(&world, &arguments).expect_code(code);
        let found = objects(&arguments, &outcome);
        assert_eq!(found.len(), 1, "{}", outcome.stdout);
        expect_error(&arguments, &found[0], code);
    }
    for (arguments, message) in [
        (&[][..], "a command is missing"),
        (&["profile"], "a command is missing"),
        (&["statsu"], "unrecognized subcommand 'statsu'"),
    ] {
        let outcome = run(&world, arguments).expect_code(2);
        let document = &objects(arguments, &outcome)[0];
        expect_error(arguments, document, 2);
        assert_eq!(document["error"]["message"], message);
    }
    let hints = run(&world, &["statsu"]).stdout;
    assert!(hints.contains("'status'"), "what may have been meant: {hints}");
}

#[test]
fn help_and_version_are_documents_too() {
    let world = World::new();
    for arguments in [&["--help"][..], &["--version"], &["exec", "--help"], &["profile", "-h"]] {
        let outcome = run(&world, arguments).expect_code(0);
        let found = objects(arguments, &outcome);
        assert_eq!(found.len(), 1, "{}", outcome.stdout);
        assert_eq!(found[0]["ok"], true);
        let text = found[0]["help"].as_str().expect("a text");
        assert!(text.contains("skync") && !text.contains('\u{1b}'), "{text}");
    }
}

#[test]
fn a_program_whose_document_cannot_be_written_finds_the_error_on_the_other_stream() {
    let world = World::new();
    for arguments in [&["profile", "list"][..], &["--help"], &["ps"], &["help"], &["man"]] {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("opened");
        let mut command = world.skync([&["--json"], arguments].concat());
        let output = command.stdout(full).output().expect("skync runs");
        let outcome = Outcome::of(output).expect_code(1);
        let document: Value = serde_json::from_str(&outcome.stderr)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", outcome.stderr));
        assert_eq!(document["error"]["kind"], "failed");
        assert_eq!(document["error"]["message"], "cannot write to stdout");
    }
}

#[test]
fn nobody_is_asked_under_json_nor_without_a_terminal() {
    let world = World::new();
    world.write("file", "content");
    let held = world.hold();
    held.sync();
    crate::support::put(held.sandbox(), "file", "theirs");
    world.write("file", "ours");
    held.sync();
    for json in [false, true] {
        let mut command = world.skync(if json { &["--json", "resolve"][..] } else { &["resolve"] });
        // An answer that nobody gave must not be taken for one.
        let outcome = Outcome::of(with_input(&mut command, b"s\n")).expect_code(2);
        let said = if json { &outcome.stdout } else { &outcome.stderr };
        assert!(said.contains("nobody can be asked"), "{said}");
    }
    let terminal = world.terminal(&["--json", "resolve"]);
    assert_eq!(terminal.ended(), 2);
    assert!(terminal.written().contains("nobody can be asked"));
    assert_eq!(world.read("file"), "ours");
    world.run(&["resolve", "--all", "--host"]).expect_code(0);
    held.release();
}
