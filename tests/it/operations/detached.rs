//! Operations that nobody waits for: seen, read, joined, waited for and stopped from anywhere.

use serde_json::Value;

use super::*;
use crate::support::processes;

/// Starts a detached operation of that name, and says its id.
#[track_caller]
fn start(world: &World, name: &str, script: &str) -> String {
    let all = ["exec", "-d", "--name", name, "--", "sh", "-c", script];
    let outcome = world.run(&all).expect_code(0);
    let id = outcome.stdout.trim().to_owned();
    assert!(id.len() >= 8 && id.lines().count() == 1, "{outcome:?}");
    id
}

#[track_caller]
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What `skync ps` says of all operations, by their names.
#[track_caller]
fn ps(world: &World, options: &[&str]) -> std::collections::BTreeMap<String, Value> {
    let outcome = world.run(&[&["ps", "--json"], options].concat()).expect_code(0);
    let document = json(&outcome.stdout);
    let all = document["operations"].as_array().expect("a list").clone();
    all.into_iter().map(|one| (one["name"].as_str().unwrap_or("").to_owned(), one)).collect()
}

fn state(operation: &Value) -> &str {
    operation["state"].as_str().unwrap_or("none")
}

#[test]
fn a_detached_command_goes_on_and_its_results_come_home() {
    for world in worlds() {
        world.write("in", "1\n");
        let script = "cat in; echo err >&2; while [ ! -e go ]; do sleep 0.05; done; \
                      echo done; echo result > result; exit 5";
        let id = start(&world, "job", script);
        let found = ps(&world, &[]);
        assert_eq!(state(&found["job"]), "running", "{found:?}");
        assert!(found["job"]["id"].as_str().is_some_and(|long| long.starts_with(&id)), "{found:?}");
        let words = world.run(&["ps"]).expect_code(0);
        assert!(words.stdout.contains("job") && words.stdout.contains("running"), "{words:?}");
        let status = world.run(&["status", "job"]).expect_code(0);
        assert!(status.stdout.contains("running"), "{status:?}");
        // It goes on although nobody is there; another command of the same sandbox lets it end.
        world.exec(&["touch", "go"]).expect_code(0);
        let waited = world.run(&["wait", "job"]);
        assert_eq!((waited.code, waited.stdout.as_str()), (5, ""), "{waited:?}");
        assert_eq!(world.read("result"), "result\n");
        world.wait_until_nothing_is_left();
        // What it said is kept, although its sandbox is gone.
        let logs = world.run(&["logs", &id]).expect_code(0);
        assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("1\ndone\n", "err\n"));
        let found = ps(&world, &["-a"]);
        assert_eq!(
            (state(&found["job"]), &found["job"]["exit"]["code"]),
            ("ended", &5.into()),
            "{found:?}"
        );
        assert_eq!(ps(&world, &[]).len(), 0, "only what runs");
    }
}

#[test]
fn what_ended_can_still_be_waited_for_joined_and_read() {
    let world = World::new();
    let id = start(&world, "quick", "echo out; echo err >&2; printf last; exit 3");
    assert_eq!(world.run(&["wait", &id]).code, 3);
    world.wait_until_nothing_is_left();
    for verb in ["wait", "attach", "logs"] {
        for what in [id.as_str(), "quick", &id[..8]] {
            let outcome = world.run(&[verb, what]);
            assert_eq!(
                outcome.code,
                if verb == "logs" { 0 } else { 3 },
                "{verb} {what}: {outcome:?}"
            );
            assert!(verb == "wait" || outcome.stdout == "out\nlast", "{verb} {what}: {outcome:?}");
        }
    }
    let unknown = world.run(&["attach", "nosuch"]);
    assert_ne!(unknown.code, 0);
    assert!(unknown.stderr.contains("`nosuch`"), "{unknown:?}");
    assert_eq!(world.run(&["cancel", "quick"]).code, 0);
}

#[test]
fn logs_are_read_from_where_one_likes() {
    let world = World::new();
    let script = "for n in 1 2 3 4 5; do echo out $n; echo err $n >&2; sleep 0.01; done; \
                  while [ ! -e go ]; do sleep 0.05; done; printf end";
    start(&world, "talk", script);
    let logs = |options: &[&str]| {
        let outcome = world.run(&[&["logs"], options, &["talk"]].concat()).expect_code(0);
        (outcome.stdout, outcome.stderr)
    };
    wait_until("all is written", || logs(&[]).1.contains("err 5"));
    assert_eq!(logs(&["--tail", "2", "--stream", "stdout"]).0, "out 4\nout 5\n");
    assert_eq!(logs(&["--tail", "2", "--stream", "stderr"]).1, "err 4\nerr 5\n");
    let (out, err) = logs(&["--tail", "4"]);
    assert_eq!((out.as_str(), err.as_str()), ("out 4\nout 5\n", "err 4\nerr 5\n"));
    assert_eq!(logs(&["--since", "1h"]).0.lines().count(), 5);

    // One that follows ends with the command.
    let follow = ["logs", "-f", "--tail", "1", "--stream", "stdout", "talk"];
    let mut follow = Client::start(&mut world.skync(follow));
    assert_eq!(follow.line(), "out 5");
    world.exec(&["touch", "go"]).expect_code(0);
    assert_eq!(text(&follow.rest()), "end");
    follow.expect_code(0);
    world.wait_until_nothing_is_left();
}

#[test]
fn several_at_once_have_names_and_do_not_mix() {
    let world = World::new();
    let script = |name: &str| {
        format!("echo {name}; while [ ! -e go ]; do sleep 0.05; done; echo {name} > {name}.out")
    };
    for name in ["a", "b", "c", "d"] {
        start(&world, name, &script(name));
    }
    let again = world.run(&["exec", "-d", "--name", "a", "--", "true"]);
    assert_eq!(again.code, 125, "{again:?}");
    assert!(again.stderr.contains("name"), "{}", again.stderr);
    let found = ps(&world, &[]);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    // From another directory.
    let mut elsewhere = world.skync(["ps", "--json"]);
    let elsewhere = Outcome::of(elsewhere.current_dir("/").output().expect("it runs"));
    assert_eq!(
        json(&elsewhere.expect_code(0).stdout)["operations"].as_array().map(Vec::len),
        Some(4)
    );
    world.run(&["cancel", "d"]).expect_code(0);
    world.exec(&["touch", "go"]).expect_code(0);
    for name in ["a", "b", "c"] {
        assert_eq!(world.run(&["wait", name]).code, 0);
        assert_eq!(world.read(&format!("{name}.out")), format!("{name}\n"));
        assert_eq!(world.run(&["logs", name]).stdout, format!("{name}\n"));
    }
    assert!(!world.project().join("d.out").exists());
    // A name that no living one has can be had again.
    start(&world, "a", "echo second");
    assert_eq!(world.run(&["wait", "a"]).code, 0);
    assert_eq!(world.run(&["logs", "a"]).stdout, "second\n");
}

#[test]
fn the_second_who_attaches_has_the_input() {
    for world in worlds() {
        let script = "while read x; do echo \"<$x>\"; done; exit 4";
        let all = ["exec", "--name", "loop", "--", "sh", "-c", script];
        let mut first = Client::start(&mut world.skync(all));
        first.say(b"one\n");
        assert_eq!(first.line(), "<one>");
        let mut second = Client::start(&mut world.skync(["attach", "loop"]));
        // What was taken is not shown again to the one who takes over; both see what comes.
        second.say(b"two\n");
        let mut line = second.line();
        if line == "<one>" {
            line = second.line();
        }
        assert_eq!(line, "<two>");
        assert_eq!(first.line(), "<two>");
        // Nobody's input any more, and no harm.
        let _ = first.child.stdin.as_mut().expect("piped").write_all(b"evicted\n");
        drop(first.child.stdin.take());
        second.say(b"three\n");
        assert_eq!(second.line(), "<three>");
        drop(second.child.stdin.take());
        second.expect_code(4);
        first.expect_code(4);
        assert_eq!(text(&first.rest()), "<three>\n");
    }
}

#[test]
fn an_attached_command_is_left_and_goes_on() {
    let world = World::new();
    start(&world, "job", "echo one; while [ ! -e go ]; do sleep 0.05; done; echo two");
    let mut client = Client::start(&mut world.skync(["attach", "job"]));
    assert_eq!(client.line(), "one");
    processes::signal("KILL", &[client.child.id()]);
    client.ended();
    assert_eq!(state(&ps(&world, &[])["job"]), "running");
    world.exec(&["touch", "go"]).expect_code(0);
    assert_eq!(world.run(&["wait", "job"]).code, 0);
    assert_eq!(world.run(&["logs", "job"]).stdout, "one\ntwo\n");
}

#[test]
fn without_a_session_there_is_nothing_to_list_or_stop() {
    let world = World::new();
    assert_eq!(ps(&world, &[]).len(), 0);
    assert_eq!(ps(&world, &["-a"]).len(), 0);
    for verb in ["attach", "wait", "logs", "cancel"] {
        let outcome = world.run(&[verb, "nosuch"]);
        assert!(outcome.code != 0 && outcome.stderr.contains("`nosuch`"), "{verb}: {outcome:?}");
    }
    world.expect_nothing_left();
}

#[test]
fn what_a_running_command_uses_is_shown() {
    for world in worlds() {
        let script = "head -c 100000 /dev/zero; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; \
                      while [ ! -e go ]; do sleep 0.05; done";
        start(&world, "busy", script);
        let mut seen = Value::Null;
        wait_until("processor time is counted", || {
            seen = json(&world.run(&["status", "busy", "--json"]).expect_code(0).stdout);
            let text = seen.to_string();
            text.contains("\"cpu_ms\":") && !text.contains("\"cpu_ms\":0,")
        });
        let text = seen.to_string();
        assert!(text.contains("\"output_bytes\":100000"), "{text}");
        assert!(text.contains("memory_bytes"), "{text}");
        world.run(&["cancel", "busy"]).expect_code(0);
    }
}
