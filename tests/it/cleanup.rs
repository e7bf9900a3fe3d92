//! Nothing of ours is left: after each end of a command, and after `kill -9` of whatever part.

use serde_json::Value;

use crate::support::processes::{Kind, Running, signal};
use crate::support::{SPECKIT, World, containers_of, wait_until};

/// Says `ready` once it runs with a grandchild in a session of its own, and then never ends.
const ENDLESS: [&str; 3] =
    ["sh", "-c", "setsid sleep 300 & sleep 300 & echo made > made; echo ready; wait"];

fn directory() -> Option<World> {
    Some(World::new())
}

fn docker() -> Option<World> {
    World::with_docker(SPECKIT)
}

/// A world where [`ENDLESS`] runs.
fn busy(world: &World) -> Running {
    let mut running = world.start_exec(&[], &ENDLESS);
    running.wait_for("ready");
    running
}

/// The same test for both drivers, under two names.
macro_rules! with_both_drivers {
    ($($name:ident)*) => {
        mod in_a_directory {
            $(#[test] fn $name() { if let Some(world) = super::directory() { super::$name(&world); } })*
        }
        mod in_docker {
            $(#[test] fn $name() { if let Some(world) = super::docker() { super::$name(&world); } })*
        }
    };
}

with_both_drivers! {
    nothing_is_left_when_a_command_has_succeeded
    nothing_is_left_when_a_command_has_failed
    nothing_is_left_when_there_is_no_such_command
    nothing_is_left_when_a_command_was_interrupted
    what_a_command_left_in_the_background_goes_with_the_sandbox
    the_death_of_the_command_line_leaves_its_command_running_until_it_is_cancelled
    the_death_of_the_session_costs_nothing_and_all_goes_at_the_end
    the_death_of_command_line_and_session_leaves_nothing
    the_death_of_all_on_the_host_leaves_nothing_after_the_lease
    a_session_that_is_terminated_brings_results_home
    a_running_command_is_not_taken_down
    gc_leaves_a_living_session_alone
    after_a_reboot_gc_removes_what_was_left
}

fn nothing_is_left_when_a_command_has_succeeded(world: &World) {
    world.write("a", "1");
    world.exec(&["sh", "-c", "echo 2 > b"]).expect_code(0);
    world.expect_nothing_left();
    assert_eq!(world.read("b"), "2\n");
}

fn nothing_is_left_when_a_command_has_failed(world: &World) {
    world.exec(&["sh", "-c", "echo 2 > b; exit 7"]).expect_code(7);
    world.expect_nothing_left();
    assert_eq!(world.read("b"), "2\n");
}

fn nothing_is_left_when_there_is_no_such_command(world: &World) {
    let outcome = world.exec(&["nosuch"]).expect_code(127);
    assert!(outcome.stderr.contains("nosuch"), "{}", outcome.stderr);
    world.expect_nothing_left();
}

fn nothing_is_left_when_a_command_was_interrupted(world: &World) {
    // A shell's background jobs ignore INT, so they are what must be swept.
    let running = busy(world);
    signal("INT", &[running.pid()]);
    running.finish().expect_code(130);
    world.expect_nothing_left();
    assert_eq!(world.read("made"), "made\n");
}

fn what_a_command_left_in_the_background_goes_with_the_sandbox(world: &World) {
    let command = ["sh", "-c", "setsid sleep 300 > /dev/null 2>&1 & echo ready"];
    world.start_exec(&[], &command).finish().expect_code(0);
    world.expect_nothing_left();
}

fn the_death_of_the_command_line_leaves_its_command_running_until_it_is_cancelled(world: &World) {
    let running = busy(world);
    signal("KILL", &[running.pid()]);
    running.finish();
    let ps = json(&world.run(&["ps", "--json"]).expect_code(0).stdout);
    assert_eq!(ps["operations"].as_array().map(Vec::len), Some(1), "{ps}");
    let operation = &ps["operations"][0];
    assert_eq!(operation["state"], "running", "{ps}");
    world.run(&["cancel", operation["id"].as_str().expect("an id")]).expect_code(0);
    world.wait_until_nothing_is_left();
    // What the command wrote came home.
    assert_eq!(world.read("made"), "made\n");
}

fn the_death_of_the_session_costs_nothing_and_all_goes_at_the_end(world: &World) {
    world.write("kept", "as it was");
    let running = busy(world);
    let session = world.process(Kind::Session);
    signal("KILL", &[session]);
    wait_until("another session has taken over", || {
        let mut all = world.processes().into_iter();
        all.any(|process| process.kind == Kind::Session && process.pid != session)
    });
    signal("INT", &[running.pid()]);
    running.finish().expect_code(130);
    world.wait_until_nothing_is_left();
    assert_eq!((world.read("kept"), world.read("made")), ("as it was".into(), "made\n".into()));
    world.exec(&["true"]).expect_code(0);
}

fn the_death_of_command_line_and_session_leaves_nothing(world: &World) {
    let running = busy(world);
    signal("KILL", &[running.pid(), world.process(Kind::Session)]);
    world.wait_until_nothing_is_left();
}

/// Kills everything that is called `skync` in this world, and nothing in the sandbox.
fn kill_all_on_the_host(world: &World, running: &Running) {
    let (keeper, session) = (world.process(Kind::Keeper), world.process(Kind::Session));
    // The keeper first, or it would clean up.
    signal("KILL", &[keeper, session, running.pid()]);
    wait_until("they are dead", || {
        let kinds = [Kind::Keeper, Kind::Session, Kind::CommandLine];
        !world.processes().iter().any(|process| kinds.contains(&process.kind))
            && [keeper, session].into_iter().all(is_dead)
    });
}

/// True once the last thread of a process is gone, and with it what the process had locked. Whoever
/// inherited it need not have reaped it.
fn is_dead(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    status.map_or(true, |status| status.contains("State:\tZ") && status.contains("Threads:\t1"))
}

fn sandboxes(world: &World) -> usize {
    let directories = std::fs::read_dir(world.path("s/skync/sandboxes")).into_iter().flatten();
    let containers =
        if world.path("c/skync/config.toml").exists() { containers_of(world).len() } else { 0 };
    directories.count() + containers
}

fn the_death_of_all_on_the_host_leaves_nothing_after_the_lease(world: &World) {
    let running = busy(world);
    kill_all_on_the_host(world, &running);
    // Nobody on the host is left, so this is the agent's own doing.
    wait_until("the sandbox and its processes are gone", || {
        sandboxes(world) == 0 && world.processes().is_empty()
    });

    let status = world.run(&["status"]).expect_code(0);
    assert!(status.stdout.contains("left over: run `skync gc`"), "{}", status.stdout);
    let session: Value = json(&world.run(&["status", "--json"]).expect_code(0).stdout);
    assert_eq!(session["schema_version"], 1);
    assert_eq!(session["sessions"][0]["alive"], false);
    assert_eq!(session["sessions"][0]["root"], world.project().to_str().expect("utf-8"));

    let before = world.leftovers();
    assert!(!before.is_empty());
    let dry = world.run(&["gc", "--dry-run"]).expect_code(0);
    assert!(dry.stderr.contains("would remove "), "{}", dry.stderr);
    assert_eq!(world.leftovers(), before);
    let gc = world.run(&["gc"]).expect_code(0);
    let project = world.project().display().to_string();
    assert!(gc.stderr.contains("removed ") && gc.stderr.contains(&project), "{}", gc.stderr);
    world.expect_nothing_left();
    let again = world.run(&["gc"]).expect_code(0);
    assert!(again.stderr.contains("nothing is left over"), "{}", again.stderr);
}

#[test]
fn the_death_of_the_agent_costs_nothing() {
    let world = World::new();
    world.write("kept", "as it was");
    let running = busy(&world);
    let agent = world.process(Kind::Agent);
    signal("KILL", &[agent]);
    wait_until("another agent has taken over", || {
        let mut all = world.processes().into_iter();
        all.any(|process| process.kind == Kind::Agent && process.pid != agent)
    });
    signal("INT", &[running.pid()]);
    running.finish().expect_code(130);
    world.expect_nothing_left();
    assert_eq!((world.read("kept"), world.read("made")), ("as it was".into(), "made\n".into()));
}

fn a_session_that_is_terminated_brings_results_home(world: &World) {
    let running = busy(world);
    signal("TERM", &[world.process(Kind::Session)]);
    let outcome = running.finish();
    assert_eq!(outcome.code, 128 + 15, "{}", outcome.stderr);
    assert_eq!(world.read("made"), "made\n");
    world.wait_until_nothing_is_left();
}

fn a_running_command_is_not_taken_down(world: &World) {
    let running = busy(world);
    for arguments in [&["down"][..], &["down", "--discard"]] {
        let down = world.run(arguments).expect_code(6);
        assert!(down.stderr.contains("error: the session stays: "), "{}", down.stderr);
        assert!(down.stderr.contains("a command is running"), "{}", down.stderr);
    }
    signal("INT", &[running.pid()]);
    running.finish().expect_code(130);
    let down = world.run(&["down"]).expect_code(0);
    assert!(down.stderr.contains("no session"), "{}", down.stderr);
    world.expect_nothing_left();
}

fn gc_leaves_a_living_session_alone(world: &World) {
    let running = busy(world);
    for arguments in [&["gc", "--dry-run"][..], &["gc"]] {
        let gc = world.run(arguments).expect_code(0);
        assert!(gc.stderr.contains("nothing is left over"), "{}", gc.stderr);
    }
    let gc = json(&world.run(&["gc", "--json"]).expect_code(0).stdout);
    assert_eq!((&gc["ok"], &gc["removed"]), (&Value::Bool(true), &Value::Array(Vec::new())));

    let status = json(&world.run(&["status", "--json"]).expect_code(0).stdout);
    let session = &status["sessions"][0];
    assert_eq!((&session["alive"], &session["operations"]), (&Value::Bool(true), &1.into()));
    assert_eq!(session["pid"], world.process(Kind::Session));
    assert!(session["sandbox"].as_str().is_some_and(|name| !name.is_empty()), "{session}");
    let status = world.run(&["status"]).expect_code(0);
    let project = world.project().display().to_string();
    assert!(status.stdout.starts_with(&project), "{}", status.stdout);
    assert!(status.stdout.contains("1 command"), "{}", status.stdout);

    signal("INT", &[running.pid()]);
    running.finish().expect_code(130);
    assert_eq!(world.run(&["status"]).expect_code(0).stdout, "no sessions\n");
}

fn after_a_reboot_gc_removes_what_was_left(world: &World) {
    let running = busy(world);
    kill_all_on_the_host(world, &running);
    let inside = [Kind::Agent, Kind::Supervisor, Kind::Command];
    let processes = world.processes();
    let inside = processes.iter().filter(|process| inside.contains(&process.kind));
    signal("KILL", &inside.map(|process| process.pid).collect::<Vec<_>>());
    #[expect(clippy::disallowed_methods, reason = "what a reboot does to it")]
    std::fs::remove_dir_all(world.path("r/skync")).expect("removed");
    world.run(&["gc"]).expect_code(0);
    world.expect_nothing_left();
    world.exec(&["true"]).expect_code(0);
}

#[test]
fn what_cannot_be_reached_is_kept_and_reported_until_it_can() {
    let Some(world) = docker() else { return };
    // The engine's socket under a name that can be taken away.
    let socket = world.path("d.sock");
    let engine = std::env::var("DOCKER_HOST").unwrap_or_default();
    let engine = engine.strip_prefix("unix://").unwrap_or("/var/run/docker.sock").to_owned();
    let connect = || std::os::unix::fs::symlink(&engine, &socket).expect("linked");
    connect();
    let host = format!("unix://{}", socket.display());
    let profile = ["profile", "add", "away", "--driver", "docker", "--network", "none"];
    world.run(&[&profile[..], &["--image", SPECKIT, "--host", &host]].concat()).expect_code(0);
    world.run(&["use", "away"]).expect_code(0);

    let running = busy(&world);
    kill_all_on_the_host(&world, &running);
    #[expect(clippy::disallowed_methods, reason = "a link of the test's own")]
    std::fs::remove_file(&socket).expect("removed");
    let gc = world.run(&["gc"]).expect_code(1);
    assert!(gc.stderr.contains("warning: session "), "{}", gc.stderr);
    assert!(gc.stderr.contains("cannot reach a Docker engine"), "{}", gc.stderr);
    let gc = json(&world.run(&["gc", "--json"]).expect_code(1).stdout);
    assert_eq!(gc["ok"], false);
    assert_eq!(gc["failed"].as_array().map(Vec::len), Some(1), "{gc}");
    let kept = std::fs::read_dir(world.path("s/skync/journal")).expect("a journal");
    assert!(kept.count() > 0, "the journal forgot what is still there");

    connect();
    world.run(&["gc"]).expect_code(0);
    world.expect_nothing_left();
}

#[track_caller]
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
