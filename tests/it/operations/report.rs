//! What a program is told of a command's end: whose the exit code is, and what was counted.

use serde_json::Value;

use super::*;

/// Runs `skync exec --report` with these words behind it, and says the code and the report.
#[track_caller]
fn report(world: &World, rest: &[&str]) -> (i32, Value) {
    let file = world.path("report.json");
    let name = file.to_str().expect("text");
    let outcome = world.run(&[&["exec", "--report", name], rest].concat());
    let read = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{e}: {outcome:?}"));
    (outcome.code, serde_json::from_str(&read).unwrap_or_else(|e| panic!("{e}: {read}")))
}

#[test]
fn a_report_says_whose_the_exit_code_is() {
    let world = World::new();
    let _kept = Kept::start(&world);
    for (command, code, origin) in [
        (&["--", "sh", "-c", "exit 125"][..], 125, "command"),
        (&["--", "sh", "-c", "kill -KILL $$"], 137, "signal"),
        (&["--", "nosuch"], 127, "skync"),
        (&["--workdir", "/no/such", "--", "true"], 125, "skync"),
        (&["--timeout", "200ms", "--", "sleep", "300"], 124, "skync"),
    ] {
        let (ended, found) = report(&world, command);
        assert_eq!(ended, code, "{found}");
        assert_eq!(found["origin"], origin, "{command:?}: {found}");
        assert_eq!(found["code"], code, "{command:?}: {found}");
    }
}

#[test]
fn a_report_counts_bytes_and_processes_and_has_the_times() {
    for world in worlds() {
        let (code, found) =
            report(&world, &["--", "sh", "-c", "head -c 70000 /dev/zero; echo err >&2; exit 3"]);
        assert_eq!((code, &found["code"]), (3, &3.into()));
        assert_eq!(found["output_bytes"], 70004, "{found}");
        assert_eq!(found["lost_bytes"], 0, "{found}");
        assert_eq!(found["signal"], Value::Null, "{found}");
        let at = |name: &str| found[name].as_u64().unwrap_or_else(|| panic!("{name}: {found}"));
        assert!(at("ended_ms") >= at("started_ms") && at("started_ms") > 0, "{found}");
        assert!(found["id"].as_str().is_some_and(|id| id.len() >= 16), "{found}");
    }
}

#[test]
fn as_json_each_event_is_a_line_and_the_last_one_is_the_report() {
    let world = World::new();
    let outcome = world.run(&["--json", "exec", "--", "sh", "-c", "echo out; exit 3"]);
    assert_eq!(outcome.code, 3);
    let events: Vec<Value> = outcome
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(names, ["started", "output", "finished"], "{outcome:?}");
    let last = events.last().expect("one");
    assert_eq!((&last["origin"], &last["code"]), (&"command".into(), &3.into()), "{last}");
}

#[test]
fn a_report_that_cannot_be_written_is_told_before_anything_runs() {
    let world = World::new();
    let all = ["exec", "--report", "/no/such/directory/x", "--", "sh", "-c", "echo > made"];
    let outcome = world.run(&all).expect_code(125);
    assert!(outcome.stderr.contains("`/no/such/directory/x`"), "{}", outcome.stderr);
    assert!(!world.project().join("made").exists());
}
