//! E2B: every failure is told apart, and what can go on goes on.

use std::process::Stdio;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use test_servers::e2b::SandboxState;

use super::{expect_no_key, http};
use crate::support::client::{Client, shell};
use crate::support::clouds::KEY;
use crate::support::processes::{Kind, signal};
use crate::support::{World, wait_until};

fn fail(world: &World, matcher: &str, status: u16, headers: &[(&str, &str)], body: &str, n: u32) {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    world.e2b().quirks().fail_next(matcher, status, headers, body.to_owned(), n);
}

/// A command that runs until its input ends.
fn running(world: &World) -> Client {
    let mut client = Client::start(&mut shell(world, "echo up; read word; echo \"$word\" > after"));
    assert_eq!(client.line(), "up");
    client
}

fn finish(world: &World, mut client: Client) {
    client.say(b"word\n");
    client.expect_code(0);
    assert_eq!(world.read("after"), "word\n");
}

fn api(world: &World, method: &str, path: &str, body: &str) -> u16 {
    http(&world.e2b().url(), method, path, &[("X-API-Key", &world.e2b().key())], body).0
}

/// How often a request was sent, by the beginning of its method and path.
fn count(world: &World, matcher: &str) -> usize {
    let is_it = |method: &str, path: &str| format!("{method} {path}").starts_with(matcher);
    let all = world.e2b().requests();
    all.iter().filter(|one| is_it(&one.method, &one.path)).count()
}

#[test]
fn without_a_key_it_is_said_where_one_comes_from() {
    let Some(mut world) = World::with_e2b() else { return };
    world.set("E2B_API_KEY", "");
    let outcome = world.exec(&["true"]).expect_code(125);
    assert!(outcome.stderr.contains("E2B_API_KEY"), "{}", outcome.stderr);
    let outcome = world.run(&["profile", "validate"]);
    assert!(outcome.stderr.contains("there is no key for E2B"), "{outcome:?}");
    world.expect_nothing_left();
}

#[test]
fn a_key_that_is_refused_is_told_and_not_shown() {
    let Some(mut world) = World::with_e2b() else { return };
    world.set("E2B_API_KEY", "e2b_wrong_0123456789");
    let outcome = world.exec(&["true"]).expect_code(125);
    assert!(outcome.stderr.contains("the key is not accepted"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("e2b_wrong_0123456789"), "{}", outcome.stderr);
    assert!(world.run(&["profile", "validate"]).stderr.contains("not accepted"));
    world.expect_nothing_left();
}

#[test]
fn a_template_that_is_not_there_is_named() {
    let Some(world) = World::with_e2b_options(&["--template", "no-such-template"]) else { return };
    let outcome = world.exec(&["true"]).expect_code(125);
    assert!(outcome.stderr.contains("no-such-template"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("e2b template list"), "{}", outcome.stderr);
    world.expect_nothing_left();
}

#[test]
fn a_server_of_the_first_version_is_served_too() {
    let Some(world) = World::with_e2b() else { return };
    world.e2b().quirks().v1_only(true);
    world.write("a", "1");
    world.exec(&["sh", "-c", "cp a b"]).expect_code(0);
    assert_eq!(world.read("b"), "1");
    world.expect_nothing_left();
}

#[test]
fn an_old_envd_is_enough() {
    let Some(world) = World::with_e2b() else { return };
    world.e2b().quirks().envd_version("0.4.1");
    world.e2b().quirks().no_stream_input(true);
    world.e2b().quirks().json_only(true);
    world.e2b().quirks().port_closed(true);
    world.write("a", "1");
    world.exec(&["sh", "-c", "cp a b; head -c 300000 /dev/zero > c"]).expect_code(0);
    assert_eq!((world.read("b").as_str(), world.read("c").len()), ("1", 300_000));
    assert!(count(&world, "POST /process.Process/SendInput") > 2);
    world.expect_nothing_left();
}

#[test]
fn an_ingress_without_websockets_is_gone_around() {
    let Some(world) = World::with_e2b() else { return };
    world.e2b().quirks().no_upgrade(true);
    world.exec(&["sh", "-c", "echo 1 > a"]).expect_code(0);
    assert_eq!(world.read("a"), "1\n");
    assert!(count(&world, "POST /process.Process/StreamInput") > 0);
}

#[test]
fn a_limit_is_waited_for_as_long_as_is_asked() {
    let Some(world) = World::with_e2b() else { return };
    let body = r#"{"code":429,"message":"too many requests"}"#;
    fail(&world, "POST /v2/sandboxes", 429, &[("Retry-After", "1")], body, 2);
    let begun = SystemTime::now();
    world.exec(&["true"]).expect_code(0);
    assert!(begun.elapsed().expect("later") >= Duration::from_secs(2));
    world.expect_nothing_left();
}

#[test]
fn a_limit_that_stays_is_named() {
    let Some(world) = World::with_e2b() else { return };
    let body = r#"{"code":429,"message":"you have reached the maximum number of concurrent sandboxes (20)"}"#;
    fail(&world, "POST /v2/sandboxes", 429, &[("Should-Retry", "false")], body, 9);
    let outcome = world.exec(&["true"]).expect_code(125);
    assert!(outcome.stderr.contains("maximum number of concurrent sandboxes"), "{outcome:?}");
    assert!(outcome.stderr.contains("a limit of the account is reached"), "{outcome:?}");
    assert_eq!(count(&world, "POST /v2/sandboxes"), 1);
    world.expect_nothing_left();
}

#[test]
fn no_room_at_the_provider_is_named() {
    let Some(world) = World::with_e2b() else { return };
    let body =
        r#"{"code":503,"message":"no capacity","error_code":"sandbox_capacity_unavailable"}"#;
    fail(&world, "POST /v2/sandboxes", 503, &[("Should-Retry", "false")], body, 9);
    let outcome = world.exec(&["true"]).expect_code(125);
    assert!(outcome.stderr.contains("no room at this time"), "{outcome:?}");
}

#[test]
fn a_creation_whose_answer_is_lost_makes_one_sandbox() {
    let Some(world) = World::with_e2b() else { return };
    world.e2b().quirks().lose_next("POST /v2/sandboxes", 1);
    world.exec(&["true"]).expect_code(0);
    assert_eq!(count(&world, "POST /v2/sandboxes"), 2);
    world.expect_nothing_left();
}

#[test]
fn a_full_disk_in_the_sandbox_is_named_and_leaves_nothing() {
    let Some(world) = World::with_e2b() else { return };
    world.e2b().quirks().disk_full(true);
    let outcome = world.exec(&["true"]).expect_code(125);
    assert!(outcome.stderr.contains("disk"), "{outcome:?}");
    world.expect_nothing_left();
}

#[test]
fn an_upload_that_breaks_is_sent_again() {
    let Some(world) = World::with_e2b() else { return };
    world.e2b().wire().cut_after(500_000);
    world.exec(&["true"]).expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn the_agents_port_is_closed_to_strangers() {
    let Some(world) = World::with_e2b() else { return };
    let client = running(&world);
    let id = world.e2b().sandboxes()[0].id.clone();
    let headers = [("E2b-Sandbox-Id", id.as_str()), ("E2b-Sandbox-Port", "42000")];
    assert_eq!(http(&world.e2b().url(), "GET", "/skync/x", &headers, "").0, 403);
    finish(&world, client);
}

#[test]
fn a_sandbox_that_is_paused_is_woken_and_its_command_goes_on() {
    let Some(world) = World::with_e2b() else { return };
    let client = running(&world);
    let id = world.e2b().sandboxes()[0].id.clone();
    assert_eq!(api(&world, "POST", &format!("/sandboxes/{id}/pause"), "{}"), 204);
    wait_until("it is woken", || world.e2b().sandboxes()[0].state == SandboxState::Running);
    finish(&world, client);
    world.wait_until_nothing_is_left();
}

#[test]
fn a_sandbox_that_is_killed_leaves_the_project_as_it_was() {
    let Some(world) = World::with_e2b() else { return };
    world.write("mine", "as it was");
    let mut client = running(&world);
    let id = world.e2b().sandboxes()[0].id.clone();
    assert_eq!(api(&world, "DELETE", &format!("/sandboxes/{id}"), ""), 204);
    client.expect_code(123);
    assert_eq!(world.read("mine"), "as it was");
    world.wait_until_nothing_is_left();
    world.exec(&["test", "-e", "mine"]).expect_code(0);
}

#[test]
fn a_key_that_ends_in_mid_life_ends_neither_command_nor_files() {
    let Some(world) = World::with_e2b() else { return };
    let mut client = Client::start(
        shell(&world, "echo up; read word; echo \"$word\" > after; exit 4").stderr(Stdio::piped()),
    );
    assert_eq!(client.line(), "up");
    world.e2b().set_key("e2b_another");
    // Its link needs no key, and can even be opened again.
    world.e2b().wire().cut();
    client.say(b"word\n");
    client.expect_code(4);
    assert_eq!(world.read("after"), "word\n");
    let mut said = String::new();
    use std::io::Read;
    client.child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert!(said.contains("the key is not accepted"), "{said}");
    assert!(said.contains("skync gc"), "{said}");
    // It ends by itself at its time, or now.
    world.e2b().set_key(KEY);
    world.run(&["gc"]).expect_code(0);
    world.wait_until_nothing_is_left();
}

#[test]
fn a_host_that_vanishes_leaves_a_sandbox_for_a_minute_or_as_long_as_its_command_may_be_wanted() {
    let Some(world) = World::with_e2b() else { return };
    let left = |world: &World| {
        let ends = world.e2b().sandboxes()[0].ends_at;
        ends.duration_since(SystemTime::now()).unwrap_or_default().as_secs()
    };
    let mut client = running(&world);
    wait_until("its time is as long as a lost link is dialled", || left(&world) > 500);
    signal("KILL", &[world.process(Kind::Keeper), world.process(Kind::Session)]);
    client.signal(Signal::KILL);
    client.ended();
    clear(&world);

    world.run(&["up", "-d"]).expect_code(0);
    wait_until("it was renewed", || count(&world, "POST /sandboxes/") > 1);
    // What a creation takes at most is gone when it has not been renewed for so long.
    let mut shortest = u64::MAX;
    wait_until("its time is short", || {
        shortest = shortest.min(left(&world));
        shortest <= 180
    });
    signal("KILL", &[world.process(Kind::Keeper), world.process(Kind::Session)]);
    clear(&world);
}

/// `gc` removes what is left, as soon as what was killed has gone.
fn clear(world: &World) {
    wait_until("`gc` has removed what was left", || {
        world.run(&["gc"]).code == 0 && world.leftovers().is_empty()
    });
}

#[test]
fn the_key_stands_nowhere() {
    let Some(world) = World::with_e2b() else { return };
    let client = running(&world);
    let container = world.e2b().sandboxes()[0].container.clone();
    expect_no_key(&world, &container);
    finish(&world, client);
    expect_no_key_on_this_machine(&world);
}

fn expect_no_key_on_this_machine(world: &World) {
    let found = super::files_with(&world.path(""), KEY);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn sandboxes_of_others_are_not_touched() {
    let Some(world) = World::with_e2b() else { return };
    let body = r#"{"templateID":"base","timeout":300,"metadata":{"skync.session":"x"}}"#;
    assert_eq!(api(&world, "POST", "/v2/sandboxes", body), 201);
    world.exec(&["true"]).expect_code(0);
    world.run(&["gc"]).expect_code(0);
    assert_eq!(world.e2b().sandboxes().len(), 1);
}

#[test]
fn what_the_sandbox_uses_is_shown() {
    let Some(world) = World::with_e2b() else { return };
    let client = running(&world);
    let status = world.run(&["status"]).expect_code(0);
    assert!(status.stdout.contains("the sandbox uses "), "{}", status.stdout);
    let status = world.run(&["--json", "status"]).expect_code(0);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
    assert!(status["sessions"][0]["usage"]["memory"][1].as_u64() > Some(0), "{status}");
    finish(&world, client);
}

#[test]
fn a_deep_validation_names_every_property() {
    let Some(world) = World::with_e2b() else { return };
    let outcome = world.run(&["profile", "validate", "--deep"]).expect_code(0);
    assert_eq!(outcome.stderr.matches("ok      ").count(), 10, "{}", outcome.stderr);
    let outcome = world.run(&["--json", "profile", "validate", "--deep"]).expect_code(0);
    let document: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(document["ok"], true, "{document}");
    assert_eq!(document["properties"].as_array().map(Vec::len), Some(10));
    world.expect_nothing_left();
    // What does not hold is named, and the rest is tried all the same.
    fail(&world, "DELETE /sandboxes/", 500, &[], "no", 99);
    let outcome = world.run(&["profile", "validate", "--deep"]).expect_code(1);
    assert!(outcome.stderr.contains("FAILED  nothing is left"), "{}", outcome.stderr);
}

#[test]
fn a_sandbox_that_cannot_be_taken_over_now_is_kept_for_the_next_session() {
    let Some(world) = World::with_e2b() else { return };
    world.run(&["up", "-d"]).expect_code(0);
    world.write("here", "1");
    world.run(&["exec", "sh", "-c", "echo kept > there"]).expect_code(0);
    // The control plane does not answer; the sandbox itself is all right.
    fail(&world, "POST /v2/sandboxes/", 500, &[], "no", 999);
    fail(&world, "POST /sandboxes/", 500, &[], "no", 999);
    signal("KILL", &[world.process(Kind::Session)]);
    wait_until("its keeper has given up for now", || {
        let all = world.processes();
        !all.iter().any(|process| matches!(process.kind, Kind::Keeper | Kind::Session))
    });
    assert_eq!(world.e2b().sandboxes().len(), 1);
    world.run(&["gc"]).expect_code(0);
    world.wait_until_nothing_is_left();
}

#[test]
fn the_agent_that_dies_is_started_again_and_its_files_come_home() {
    let Some(world) = World::with_e2b() else { return };
    world.run(&["up", "-d"]).expect_code(0);
    let container = world.e2b().sandboxes()[0].container.clone();
    let id = world.e2b().sandboxes()[0].id.clone();
    let script = "echo 'only there' > %/only; kill -KILL $(cat /.skync/*/state/agent.pid)"
        .replace('%', &world.project().display().to_string());
    let killed = std::process::Command::new("docker")
        .args(["exec", "--user", "user", &container, "sh", "-c", &script])
        .status();
    assert!(killed.is_ok_and(|status| status.success()));
    wait_until("what was only there is here", || world.project().join("only").exists());
    assert_eq!(world.e2b().sandboxes()[0].id, id, "it is the same sandbox");
    world.run(&["down"]).expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn a_time_that_was_long_is_short_again_when_nothing_needs_it() {
    let Some(world) = World::with_e2b() else { return };
    let left = || {
        let ends = world.e2b().sandboxes()[0].ends_at;
        ends.duration_since(SystemTime::now()).unwrap_or_default().as_secs()
    };
    world.run(&["up", "-d"]).expect_code(0);
    let client = running(&world);
    wait_until("a command makes it long", || left() > 500);
    finish(&world, client);
    wait_until("its end makes it short", || left() <= 61);
    world.run(&["down"]).expect_code(0);
}

#[test]
fn an_ingress_that_opens_websockets_and_lets_nothing_through_is_gone_around() {
    let Some(world) = World::with_e2b() else { return };
    let client = running(&world);
    // From now on a WebSocket is opened by something that is not the agent.
    let accept =
        [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", "x")];
    fail(&world, "GET /skync/", 101, &accept, "", 99);
    world.e2b().wire().cut();
    finish(&world, client);
    assert!(count(&world, "POST /process.Process/StreamInput") > 0);
}
