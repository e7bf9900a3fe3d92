//! The verbs beside `up`, and what they say to programs.

use serde_json::Value;

use super::{arrives, json, put};
use crate::support::{World, wait_until};

#[test]
fn a_pause_lets_nothing_move_until_it_is_resumed() {
    let world = World::new();
    world.write("a", "1");
    let up = world.start_up(&[]);
    let (host, sandbox) = (world.project(), world.sandbox());
    world.run(&["pause"]).expect_code(0);
    up.says("paused: nothing moves until `skync resume`");
    assert_eq!(world.status()["state"], "paused");
    put(host, "a", "2");
    put(&sandbox, "b", "3");
    let exec = world.exec(&["touch", "ran"]).expect_code(125);
    assert!(exec.stderr.contains("error: the mirror is paused"), "{}", exec.stderr);
    assert!(exec.stderr.contains("hint: `skync resume` goes on"), "{}", exec.stderr);
    let flush = world.run(&["flush"]).expect_code(6);
    assert!(flush.stderr.contains("error: the mirror is paused"), "{}", flush.stderr);
    assert_eq!(std::fs::read_to_string(sandbox.join("a")).expect("there"), "1");
    assert!(!host.join("b").exists() && !sandbox.join("ran").exists());
    world.run(&["resume"]).expect_code(0);
    // `resume` returns when both sides are the same.
    assert_eq!(std::fs::read_to_string(sandbox.join("a")).expect("there"), "2");
    assert_eq!(world.read("b"), "3");
    put(host, "a", "4");
    arrives(&sandbox, "a", "4");
    up.interrupt().expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn the_end_of_a_paused_mirror_brings_results_home() {
    let world = World::new();
    world.write("a", "1");
    let up = world.start_up(&[]);
    world.run(&["pause"]).expect_code(0);
    put(&world.sandbox(), "b", "2");
    up.interrupt().expect_code(0);
    assert_eq!(world.read("b"), "2");
    world.expect_nothing_left();
}

#[test]
fn results_of_a_command_that_a_pause_overtook_stay_in_the_sandbox_until_it_ends() {
    let world = World::new();
    world.write("a", "1");
    let up = world.start_up(&[]);
    let script = "echo ready; while ! test -e go; do sleep 0.05; done; echo 2 > made";
    let mut command = world.start_exec(&[], &["sh", "-c", script]);
    command.wait_for("ready");
    world.run(&["pause"]).expect_code(0);
    put(&world.sandbox(), "go", "");
    let outcome = command.finish().expect_code(1);
    let why = "the mirror is paused: what the command wrote is still in the sandbox";
    assert!(outcome.stderr.contains(why), "{}", outcome.stderr);
    assert!(!world.project().join("made").exists());
    world.run(&["resume"]).expect_code(0);
    assert_eq!(world.read("made"), "2\n");
    up.interrupt().expect_code(0);
}

#[test]
fn verbs_without_a_mirror_say_what_is_missing() {
    let world = World::new();
    for verb in ["flush", "pause", "resume"] {
        let outcome = world.run(&[verb]).expect_code(5);
        assert!(outcome.stderr.contains("no session of this project runs"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("hint: `skync up`"), "{}", outcome.stderr);
    }
    let held = world.hold();
    for verb in ["pause", "resume"] {
        let outcome = world.run(&[verb]).expect_code(5);
        assert!(outcome.stderr.contains("nothing is mirrored"), "{}", outcome.stderr);
    }
    // A command's own session can be flushed.
    put(held.sandbox(), "made", "1");
    world.run(&["flush"]).expect_code(0);
    assert_eq!(world.read("made"), "1");
    held.release();
    world.run(&["use", "local"]).expect_code(0);
    let outcome = world.run(&["up"]).expect_code(2);
    assert!(outcome.stderr.contains("nothing to mirror"), "{}", outcome.stderr);
}

#[test]
fn status_for_programs_has_the_facts() {
    let world = World::new();
    world.write("a", "12345");
    let up = world.start_up(&[]);
    put(&world.sandbox(), "out/b", "123");
    arrives(world.project(), "out/b", "123");
    wait_until("it is counted", || world.status()["to_host"]["files"] == 1);
    let status = world.status();
    for (field, value) in [
        ("state", Value::from("watching")),
        ("why", "".into()),
        ("alive", true.into()),
        ("ups", 1.into()),
        ("hold", false.into()),
        ("operations", 0.into()),
        ("files", 2.into()),
        ("conflict_count", 0.into()),
        ("conflicts", Value::Array(Vec::new())),
        ("problem_count", 0.into()),
        ("problems", Value::Array(Vec::new())),
        ("profile", "directory".into()),
    ] {
        assert_eq!(status[field], value, "{field} of {status}");
    }
    assert_eq!(status["link"]["up"], true);
    assert_eq!(status["to_sandbox"]["bytes"], 5);
    assert_eq!(status["to_host"]["bytes"], 3);
    for field in ["pid", "lag_us", "lag_max_us", "synced_ms"] {
        assert!(status[field].as_u64().is_some_and(|number| number > 0), "{field} of {status}");
    }
    let last = status["recent"].as_array().and_then(|recent| recent.last()).expect("one");
    assert_eq!((&last["path"], &last["to"]), (&"out/b".into(), &"host".into()));
    up.interrupt().expect_code(0);
}

#[test]
fn a_program_is_told_one_object_per_line() {
    let world = World::new();
    world.write("a", "1");
    let up = world.spawn_up(&["--json"]);
    let lines = |text: &str| text.lines().map(json).collect::<Vec<Value>>();
    let has = |event: &str, field: &str, value: &str| {
        let text = up.stdout();
        // The last line may be half written.
        let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
        lines(whole).iter().any(|line| line["event"] == event && line[field] == value)
    };
    wait_until("it watches", || has("status", "state", "watching"));
    put(world.project(), "b", "22");
    wait_until("it moved", || {
        lines(up.stdout().trim_end_matches(|c| c != '\n')).iter().any(|line| {
            line["event"] == "moved"
                && line["moved"][0]["path"] == "b"
                && line["to_sandbox"]["bytes"] == 2
        })
    });
    let outcome = up.interrupt().expect_code(0);
    let lines = lines(&outcome.stdout);
    assert!(lines.iter().all(|line| line["schema_version"] == 1), "{}", outcome.stdout);
    let last = lines.last().expect("a line");
    assert_eq!((&last["event"], &last["ended"]), (&"finished".into(), &true.into()));
    assert_eq!(outcome.stderr, "");
}

#[test]
fn a_watched_status_follows_the_session_to_its_end() {
    let world = World::new();
    world.write("a", "1");
    world.run(&["up", "-d"]).expect_code(0);
    let out = world.path("watched");
    let file = std::fs::File::create(&out).expect("a file");
    let mut watch = world.skync(["status", "--watch"]).stdout(file).spawn().expect("skync runs");
    let said = || std::fs::read_to_string(&out).expect("output");
    wait_until("it shows the mirror", || said().contains("watching · 1 file"));
    put(world.project(), "b", "2");
    wait_until("it shows the change", || said().contains("watching · 2 files"));
    world.run(&["pause"]).expect_code(0);
    wait_until("it shows the pause", || said().contains("paused · 2 files"));
    world.run(&["down"]).expect_code(0);
    let mut status = None;
    wait_until("it ends with the session", || {
        status = watch.try_wait().expect("waited");
        status.is_some()
    });
    assert!(status.is_some_and(|status| status.success()));
    assert_eq!(world.run(&["status"]).expect_code(0).stdout, "no sessions\n");
}

#[test]
fn what_looks_like_an_accident_waits_for_a_persons_word() {
    let world = World::new();
    for number in 0..30 {
        world.write(&format!("file{number:02}"), "x");
    }
    let up = world.start_up(&[]);
    let (host, sandbox) = (world.project(), world.sandbox());
    for number in 0..30 {
        #[expect(clippy::disallowed_methods, reason = "a test's own files")]
        std::fs::remove_file(sandbox.join(format!("file{number:02}"))).expect("removed");
    }
    up.says("halted: ");
    up.says("`skync resume --accept` carries it out");
    wait_until("status says so", || world.status()["state"] == "halted");
    let flush = world.run(&["flush"]).expect_code(6);
    assert!(
        flush.stderr.contains("hint: if it is meant, `skync resume --accept`"),
        "{}",
        flush.stderr
    );
    assert!(host.join("file00").exists() && host.join("file29").exists());
    let kept = up.interrupt().expect_code(6);
    assert!(kept.stderr.contains("the sandbox is kept: "), "{}", kept.stderr);
    assert!(host.join("file29").exists());
    let up = world.spawn_up(&[]);
    up.says("halted: ");
    world.run(&["resume", "--accept"]).expect_code(0);
    assert!(!host.join("file00").exists() && !host.join("file29").exists());
    up.says("watching again");
    up.interrupt().expect_code(0);
    world.expect_nothing_left();
}
