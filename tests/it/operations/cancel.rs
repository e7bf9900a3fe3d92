//! Stopping an operation leaves none of its processes, whatever they do to stay.

use super::*;
use crate::support::processes::{self, Kind};

/// 207 processes that do not want to end: deaf, in sessions of their own, half of them orphans.
const HOSTILE: &str = r#"
import os, signal, time
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
reader, writer = os.pipe()
def stay():
    os.write(writer, b".")
    while True:
        time.sleep(1000)
def child(what):
    if os.fork() == 0:
        os.setsid()
        what()
        os._exit(0)
def pair(orphan):
    child(stay)
    if orphan:
        child(stay)
    else:
        stay()
for number in range(103):
    child(lambda: pair(number % 2 == 0))
seen = 0
while seen < 206:
    seen += len(os.read(reader, 1000))
print("ready", flush=True)
while True:
    time.sleep(1000)
"#;

/// As root, in a directory and in a container, and as nobody in particular in a container.
fn hostile_worlds() -> Vec<World> {
    let mut worlds = worlds();
    if docker_is_there() {
        worlds.push(docker_with(&["--user", "1000:1000"]));
    }
    worlds
}

/// A world whose sandbox is a container of the image with python, with these settings.
fn docker_with(settings: &[&str]) -> World {
    let world = World::new();
    let add = ["profile", "add", "p", "--driver", "docker", "--image", SPECKIT];
    world.run(&[&add[..], &["--network", "none"], settings].concat()).expect_code(0);
    world
}

/// `skync exec` of the 207, with these options; its processes are marked.
fn hostile(world: &World, options: &[&str]) -> Command {
    let mark = mark(world);
    let start = ["exec", "-e", &mark];
    let all = [&start[..], options, &["--", "python3", "-c", HOSTILE]].concat();
    world.skync(all)
}

/// Processes in the sandbox that carry the mark of this world's commands.
fn alive(world: &World) -> usize {
    let look = format!("grep -laz '{}' /proc/[0-9]*/environ 2>/dev/null | wc -l", mark(world));
    let outcome = world.run(&["-q", "exec", "--", "sh", "-c", &look]).expect_code(0);
    // The shell and grep do not carry it in their environment, but as an argument.
    outcome.stdout.trim().parse().expect("a number")
}

#[test]
fn two_hundred_and_seven_hostile_processes_are_stopped_to_the_last() {
    for world in hostile_worlds() {
        let _kept = Kept::start(&world);
        let mut client = Client::start(hostile(&world, &[]).stderr(Stdio::piped()));
        assert_eq!(client.line(), "ready");
        assert_eq!(alive(&world), 207);
        client.signal(Signal::INT);
        // Two at the same moment are one, and a third leaves.
        std::thread::park_timeout(Duration::from_millis(500));
        client.signal(Signal::INT);
        let mut said = String::new();
        while !said.contains("stopped ") {
            let mut buffer = [0; 4096];
            let stderr = client.child.stderr.as_mut().expect("piped");
            let length = stderr.read(&mut buffer).expect("readable");
            assert!(length > 0, "it ended without a word of what was stopped: {said}");
            said.push_str(&text(&buffer[..length]));
        }
        assert!(said.contains("207") && said.contains("0 left"), "{said}");
        client.expect_code(137);
        assert_eq!(alive(&world), 0);
    }
}

#[test]
fn an_operation_is_cancelled_by_its_name_and_again_without_harm() {
    for world in hostile_worlds() {
        let _kept = Kept::start(&world);
        let started = hostile(&world, &["-d", "--name", "hostile"]).output().expect("it runs");
        Outcome::of(started).expect_code(0);
        wait_until("all of them are there", || alive(&world) == 207);
        // Two at the same time, and a third when all is over.
        let cancel = || world.run(&["cancel", "--grace", "1s", "hostile"]);
        let (one, two) = std::thread::scope(|scope| {
            let other = scope.spawn(cancel);
            (cancel(), other.join().expect("it ends"))
        });
        let said = [one.expect_code(0).stderr, two.expect_code(0).stderr].concat();
        assert!(said.contains("207") && said.contains("0 left"), "{said}");
        assert_eq!(alive(&world), 0);
        let again = cancel().expect_code(0);
        assert!(again.stderr.contains("ended"), "{}", again.stderr);
    }
}

#[test]
fn killing_does_not_ask() {
    let world = World::new();
    let _kept = Kept::start(&world);
    let script = "trap 'echo int >> told' INT; trap 'echo term >> told' TERM; echo ready; \
                  while :; do sleep 0.05; done";
    let mut client = Client::start(&mut world.skync(["exec", "--name", "x", "sh", "-c", script]));
    assert_eq!(client.line(), "ready");
    let begun = Instant::now();
    world.run(&["cancel", "--kill", "x"]).expect_code(0);
    assert!(begun.elapsed() < Duration::from_secs(4), "it took {:?}", begun.elapsed());
    client.expect_code(137);
    assert!(!world.project().join("told").exists());
}

#[test]
fn a_command_that_forks_for_ever_is_stopped_and_the_agent_lives() {
    if !docker_is_there() {
        return;
    }
    for user in [&[][..], &["--user", "1000:1000"]] {
        let world = docker_with(&[&["--pids", "128"], user].concat());
        world.run(&["up", "-d"]).expect_code(0);
        let bomb = "f() { f | f & }; echo ready; f; sleep 1000";
        let mut client =
            Client::start(&mut world.skync(["exec", "--name", "bomb", "bash", "-c", bomb]));
        assert_eq!(client.line(), "ready");
        let cancelled = world.run(&["cancel", "--grace", "1s", "bomb"]).expect_code(0);
        assert!(cancelled.stderr.contains("0 left"), "{}", cancelled.stderr);
        assert!(client.ended().0.code().is_some_and(|code| code > 128));
        let outcome = world.exec(&["echo", "alive"]).expect_code(0);
        assert_eq!(outcome.stdout, "alive\n");
        world.run(&["down"]).expect_code(0);
    }
}

#[test]
fn a_command_that_takes_too_long_is_interrupted_and_brings_its_results_home() {
    for world in worlds() {
        let script = "trap 'echo paused > state; exit 0' INT; (setsid sleep 300 &); \
                      echo ready; while :; do sleep 0.05; done";
        let all = ["exec", "-e", &mark(&world), "--timeout", "1s", "--", "sh", "-c", script];
        let begun = Instant::now();
        let outcome = world.run(&all).expect_code(124);
        assert!(begun.elapsed() < Duration::from_secs(15), "it took {:?}", begun.elapsed());
        assert!(outcome.stderr.contains("longer than it may"), "{}", outcome.stderr);
        assert_eq!(world.read("state"), "paused\n");
        assert_eq!(marked(&world), Vec::<u32>::new());
        world.expect_nothing_left();
    }
}

#[test]
fn a_deaf_command_that_takes_too_long_is_killed() {
    let world = World::new();
    let all = [&["--timeout", "1s", "--grace", "1s"][..]].concat();
    let outcome = Outcome::of(hostile(&world, &all).output().expect("it ends"));
    let outcome = outcome.expect_code(124);
    assert!(outcome.stderr.contains("0 left"), "{}", outcome.stderr);
    assert_eq!(marked(&world), Vec::<u32>::new());
}

#[test]
fn the_end_of_the_session_by_a_signal_stops_its_operations() {
    let world = World::new();
    let started = hostile(&world, &["-d"]).output().expect("it runs");
    Outcome::of(started).expect_code(0);
    wait_until("all of them are there", || marked(&world).len() == 207);
    processes::signal("TERM", &[world.process(Kind::Session)]);
    world.wait_until_nothing_is_left();
    assert_eq!(marked(&world), Vec::<u32>::new());
}
