//! What dies beside an operation, and what becomes of it then.

use std::process::{Command, Stdio};

use super::runs;
use crate::support::client::{Client, Kept, digest, shell, text};
use crate::support::processes::{Kind, signal};
use crate::support::{Outcome, SPECKIT, World, containers_of, wait_until};

fn worlds() -> Vec<World> {
    [Some(World::new()), World::with_docker(SPECKIT)].into_iter().flatten().collect()
}

/// A conversation that counts how often it was begun.
const CONVERSATION: &str = "echo run >> runs; while read x; do echo \"<$x>\"; done; exit 5";

#[test]
fn a_command_outlives_its_agent() {
    let world = World::new();
    let mut client = Client::start(&mut shell(&world, CONVERSATION));
    for round in 0..3 {
        client.say(format!("{round} before\n").as_bytes());
        assert_eq!(client.line(), format!("<{round} before>"));
        let agent = world.process(Kind::Agent);
        signal("KILL", &[agent]);
        client.say(format!("{round} after\n").as_bytes());
        assert_eq!(client.line(), format!("<{round} after>"));
        assert_ne!(world.process(Kind::Agent), agent);
    }
    drop(client.child.stdin.take());
    assert_eq!(text(&client.rest()), "");
    client.expect_code(5);
    assert_eq!(runs(&world), 1);
    world.wait_until_nothing_is_left();
}

#[test]
fn a_lot_of_output_outlives_the_agent() {
    let world = World::new();
    let script = "echo run >> runs; f=$(mktemp) && head -c 30000000 /dev/urandom > $f && \
                  sha256sum < $f >&2; cat $f; rm $f; exit 5";
    let mut command = shell(&world, script);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let agent = world.process(Kind::Agent);
    // It has begun to speak once there is a first byte.
    let mut output = child.stdout.take().expect("piped");
    let mut first = [0; 1];
    std::io::Read::read_exact(&mut output, &mut first).expect("a byte");
    signal("KILL", &[agent]);
    let (length, found) = digest(std::io::Read::chain(&first[..], output));
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!((ended.status.code(), length), (Some(5), 30_000_000), "{}", text(&ended.stderr));
    assert!(text(&ended.stderr).contains(&found));
    assert_eq!(runs(&world), 1);
}

#[test]
fn a_command_outlives_its_session() {
    for world in worlds() {
        let mut client = Client::start(&mut shell(&world, CONVERSATION));
        client.say(b"before\n");
        assert_eq!(client.line(), "<before>");
        let session = world.process(Kind::Session);
        signal("KILL", &[session]);
        client.say(b"after\n");
        assert_eq!(client.line(), "<after>");
        assert_ne!(world.process(Kind::Session), session);
        drop(client.child.stdin.take());
        assert_eq!(text(&client.rest()), "");
        client.expect_code(5);
        assert_eq!(runs(&world), 1, "its results are home, and it ran once");
        world.wait_until_nothing_is_left();
    }
}

#[test]
fn a_lot_of_output_outlives_the_session() {
    for world in worlds() {
        let script = "echo run >> runs; f=$(mktemp) && head -c 30000000 /dev/urandom > $f && \
                      sha256sum < $f >&2; cat $f; rm $f; exit 5";
        let mut command = shell(&world, script);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        let session = world.process(Kind::Session);
        let mut output = child.stdout.take().expect("piped");
        let mut first = [0; 1];
        std::io::Read::read_exact(&mut output, &mut first).expect("a byte");
        signal("KILL", &[session]);
        let (length, found) = digest(std::io::Read::chain(&first[..], output));
        let ended = child.wait_with_output().expect("it ends");
        assert_eq!((ended.status.code(), length), (Some(5), 30_000_000), "{}", text(&ended.stderr));
        assert!(text(&ended.stderr).contains(&found));
        assert_eq!(runs(&world), 1);
        world.wait_until_nothing_is_left();
    }
}

#[test]
fn several_clients_go_on_with_the_same_successor() {
    let world = World::new();
    let mut clients: Vec<Client> =
        (0..4).map(|_| Client::start(&mut shell(&world, CONVERSATION))).collect();
    for client in &mut clients {
        client.say(b"before\n");
        assert_eq!(client.line(), "<before>");
    }
    signal("KILL", &[world.process(Kind::Session)]);
    for client in &mut clients {
        client.say(b"after\n");
        assert_eq!(client.line(), "<after>");
    }
    let sessions =
        || world.processes().into_iter().filter(|process| process.kind == Kind::Session).count();
    assert_eq!(sessions(), 1);
    for client in &mut clients {
        drop(client.child.stdin.take());
        client.expect_code(5);
    }
    assert_eq!(runs(&world), 4);
    world.wait_until_nothing_is_left();
}

#[test]
fn a_command_whose_client_was_killed_goes_on_and_the_rest_is_for_the_next() {
    for world in worlds() {
        let script = "echo run >> runs; i=0; while [ $i -lt 200 ]; do echo $i; i=$((i+1)); \
                      sleep 0.01; done; while [ ! -e go ]; do sleep 0.05; done; echo end; exit 6";
        let all = ["-q", "exec", "--name", "job", "--", "sh", "-c", script];
        let mut client = Client::start(&mut world.skync(all));
        let mut seen: Vec<String> = (0..20).map(|_| client.line()).collect();
        signal("KILL", &[client.child.id()]);
        seen.extend(text(&client.rest()).lines().map(str::to_owned));
        client.ended();
        let found = world.run(&["ps"]).expect_code(0);
        assert!(found.stdout.contains("running"), "{found:?}");
        world.exec(&["touch", "go"]).expect_code(0);
        let attached = world.run(&["-q", "attach", "job"]).expect_code(6);
        let rest: Vec<&str> = attached.stdout.lines().collect();
        // What was written and not yet acknowledged may come again; nothing may be missing.
        let all: Vec<String> =
            (0..200).map(|number| number.to_string()).chain(["end".to_owned()]).collect();
        assert!(all.starts_with(&seen), "{seen:?}");
        assert!(
            all.ends_with(&rest.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>()),
            "{rest:?}"
        );
        assert!(seen.len() + rest.len() >= all.len(), "lost: {} and {}", seen.len(), rest.len());
        assert_eq!(runs(&world), 1);
    }
}

#[test]
fn a_command_that_is_to_end_with_its_client_does() {
    for world in worlds() {
        let _kept = Kept::start(&world);
        let script = "trap 'echo told > told; exit 1' INT; echo up; while :; do sleep 0.05; done";
        let all = ["-q", "exec", "--on-disconnect", "cancel", "--", "sh", "-c", script];
        let mut client = Client::start(&mut world.skync(all));
        assert_eq!(client.line(), "up");
        signal("KILL", &[client.child.id()]);
        wait_until("it was told", || world.project().join("told").exists());
        wait_until("it is over", || !world.run(&["ps"]).stdout.contains("told"));
    }
}

#[test]
fn a_command_whose_client_does_not_come_back_in_time_is_stopped() {
    let world = World::new();
    let script = "echo made > made; (setsid sleep 300 &); echo up; sleep 300";
    let all = ["-q", "exec", "--on-disconnect", "2s", "--", "sh", "-c", script];
    let mut client = Client::start(&mut world.skync(all));
    assert_eq!(client.line(), "up");
    signal("KILL", &[client.child.id()]);
    world.wait_until_nothing_is_left();
    assert_eq!(world.read("made"), "made\n");
}

#[test]
fn a_paused_container_is_an_outage_and_no_more() {
    let Some(world) = World::with_docker(SPECKIT) else { return };
    let script =
        "echo run >> runs; i=0; while [ $i -lt 30 ]; do echo $i; i=$((i+1)); sleep 0.1; done";
    let mut client = Client::start(&mut shell(&world, script));
    let first: Vec<String> = (0..5).map(|_| client.line()).collect();
    let [container] = &containers_of(&world)[..] else { panic!("one container") };
    let docker = |verb: &str| {
        let status = Command::new("docker").args([verb, container]).stdout(Stdio::null()).status();
        assert!(status.expect("docker runs").success());
    };
    docker("pause");
    wait_until("the link is given up", || {
        let status = world.run(&["status", "--json"]).stdout;
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        status["sessions"][0]["link"]["up"] == false
    });
    docker("unpause");
    let all = [first, text(&client.rest()).lines().map(str::to_owned).collect()].concat();
    assert_eq!(all, (0..30).map(|number| number.to_string()).collect::<Vec<_>>());
    client.expect_code(0);
    assert_eq!(runs(&world), 1);
    world.wait_until_nothing_is_left();
}

#[test]
fn a_container_that_is_removed_takes_its_command_along_and_that_is_told() {
    let Some(world) = World::with_docker(SPECKIT) else { return };
    world.write("kept", "as it was");
    let running = {
        let mut running = world.start_exec(&[], &["sh", "-c", "echo ready; sleep 300"]);
        running.wait_for("ready");
        running
    };
    let [container] = &containers_of(&world)[..] else { panic!("one container") };
    let removed = Command::new("docker").args(["rm", "-f", container]).output();
    Outcome::of(removed.expect("docker runs")).expect_code(0);
    let outcome = running.finish().expect_code(123);
    assert!(outcome.stderr.contains("not known"), "{}", outcome.stderr);
    world.wait_until_nothing_is_left();
    assert_eq!(world.read("kept"), "as it was");
}

#[test]
fn a_supervisor_that_is_killed_takes_its_command_along_and_that_is_told() {
    let world = World::new();
    let running = {
        let mut running = world.start_exec(&[], &["sh", "-c", "echo ready; sleep 300"]);
        running.wait_for("ready");
        running
    };
    signal("KILL", &[world.process(Kind::Supervisor)]);
    let outcome = running.finish().expect_code(123);
    assert!(outcome.stderr.contains("not known"), "{}", outcome.stderr);
    world.wait_until_nothing_is_left();
}

#[test]
fn a_detached_command_outlives_its_session_too() {
    let world = World::new();
    let script =
        "echo one; while [ ! -e go ]; do sleep 0.05; done; echo two; echo 1 > result; exit 3";
    world.run(&["exec", "-d", "--name", "job", "--", "sh", "-c", script]).expect_code(0);
    signal("KILL", &[world.process(Kind::Session)]);
    // Whoever asks first starts the next session, which takes the sandbox over.
    world.exec(&["touch", "go"]).expect_code(0);
    assert_eq!(world.run(&["wait", "job"]).code, 3);
    assert_eq!(world.read("result"), "1\n");
    assert_eq!(world.run(&["logs", "job"]).stdout, "one\ntwo\n");
    world.wait_until_nothing_is_left();
}
