//! A sandbox at Daytona in use: its links, its agent, its end.

use std::time::Duration;

use test_servers::daytona::{Options, State};

use super::{Cloud, UNTIL_END, error_body};
use crate::support::processes::{Kind, Running, signal};
use crate::support::wait_until;

/// Ends the agent alone: what runs a command is another process.
const KILL_AGENT: &str = "
for p in /proc/[0-9]*; do
  tr '\\0' ' ' < $p/cmdline 2> /dev/null | grep -q 'exe serve' && kill -9 ${p#/proc/} && echo killed
done";

/// Says with which arguments and which environment everything runs.
const LOOK: &str = "
for p in /proc/[0-9]*; do
  cat $p/cmdline $p/environ 2> /dev/null | tr '\\0' '\\n'
done";

/// Says the modes of all directories of ours.
const MODES: &str = "
find / -xdev -path '*/.skync*' -type d -exec stat -c %a {} + | sort -u";

/// A command that runs until [`end`].
fn busy(cloud: &Cloud) -> Running {
    let mut running = cloud.start_exec(&[], &UNTIL_END);
    running.wait_for("ready");
    running
}

/// Ends [`busy`]'s command, of which nothing may be missing.
#[track_caller]
fn end(cloud: &Cloud, running: Running) {
    cloud.inside("touch /tmp/end");
    let outcome = running.finish().expect_code(0);
    let counted: Vec<&str> = outcome.stdout.lines().skip(1).collect();
    let expected: Vec<String> = (1..=counted.len()).map(|n| n.to_string()).collect();
    assert_eq!(counted, expected, "lines are lost or came twice");
    assert_eq!(cloud.read("made"), "made\n");
    cloud.expect_clean();
    assert_eq!(cloud.made(), 1);
}

/// Kills all of skync that runs on the host.
fn kill_all(cloud: &Cloud, running: Running) {
    let all = [Kind::Keeper, Kind::Session].map(|kind| cloud.process(kind));
    signal("KILL", &[&all[..], &[running.pid()]].concat());
    running.finish();
}

#[test]
fn gateways_that_fail_for_a_moment_are_tried_again() {
    let Some(cloud) = Cloud::new() else { return };
    cloud.daytona().quirks().fail_next("GET /toolbox/*/proxy/", 502, Vec::new(), String::new(), 3);
    cloud.exec(&["true"]).expect_code(0);
    cloud.expect_clean();
}

#[test]
fn without_the_way_to_a_port_its_preview_is_taken() {
    let Some(cloud) = Cloud::new() else { return };
    cloud.daytona().quirks().no_port_proxy(true);
    let mut running = busy(&cloud);
    cloud.daytona().wire().cut();
    running.wait_for("10");
    end(&cloud, running);
}

#[test]
fn a_link_that_is_cut_is_dialled_again() {
    let Some(cloud) = Cloud::new() else { return };
    let mut running = busy(&cloud);
    for count in ["5", "10"] {
        running.wait_for(count);
        cloud.daytona().wire().cut();
    }
    running.wait_for("20");
    end(&cloud, running);
}

#[test]
fn a_key_that_is_refused_later_does_not_end_a_command() {
    let Some(cloud) = Cloud::new() else { return };
    let mut running = busy(&cloud);
    let key = cloud.daytona().key();
    cloud.daytona().set_key("another");
    running.wait_for("10");
    cloud.daytona().set_key(&key);
    end(&cloud, running);
}

#[test]
fn an_agent_that_has_died_is_started_again_in_its_sandbox() {
    let Some(cloud) = Cloud::new() else { return };
    let mut running = busy(&cloud);
    running.wait_for("3");
    assert_eq!(cloud.inside(KILL_AGENT), "killed\n");
    running.wait_for("20");
    end(&cloud, running);
}

#[test]
fn a_toolbox_that_has_died_leaves_a_sandbox_that_can_be_removed() {
    let Some(cloud) = Cloud::new() else { return };
    cloud.run(&["up", "-d"]).expect_code(0);
    cloud.daytona().kill_daemon(&cloud.sandbox().id);
    cloud.run(&["down", "--discard"]).expect_code(0);
    cloud.expect_clean();
}

#[test]
fn a_session_that_has_died_finds_its_sandbox_again() {
    let Some(cloud) = Cloud::new() else { return };
    let mut running = busy(&cloud);
    signal("KILL", &[cloud.process(Kind::Session)]);
    running.wait_for("20");
    end(&cloud, running);
}

#[test]
fn an_agent_that_died_with_its_session_is_started_again_whatever_the_limits_say() {
    let Some(cloud) = Cloud::new() else { return };
    cloud.run(&["up", "-d"]).expect_code(0);
    let root = cloud.exec(&["pwd"]).expect_code(0).stdout;
    let body = error_body(403, "Total CPU limit exceeded. Maximum allowed: 10.");
    cloud.daytona().quirks().fail_next("POST /api/sandbox$", 403, Vec::new(), body, 99);
    let session = [cloud.process(Kind::Session)];
    signal("STOP", &session);
    cloud.inside(&format!("echo precious > '{}/only'", root.trim()));
    assert_eq!(cloud.inside(KILL_AGENT), "killed\n");
    signal("KILL", &session);
    cloud.exec(&["true"]).expect_code(0);
    assert_eq!(cloud.read("only"), "precious\n");
    cloud.run(&["down"]).expect_code(0);
    cloud.expect_clean();
    let requests = cloud.daytona().requests();
    let created = requests.iter().filter(|one| one.method == "POST" && one.path == "/api/sandbox");
    assert_eq!(created.count(), 1);
}

#[test]
fn the_key_is_shown_to_nobody_in_the_sandbox_as_long_as_its_token_lets_in() {
    let Some(cloud) = Cloud::new() else { return };
    let mut running = busy(&cloud);
    running.wait_for("5");
    cloud.daytona().wire().cut();
    running.wait_for("15");
    // A proxy that takes no token.
    let body = error_body(401, "unauthorized");
    cloud.daytona().quirks().fail_next("GET /toolbox/*/proxy/", 401, Vec::new(), body, 1);
    cloud.daytona().wire().cut();
    running.wait_for("25");
    let dials = cloud.daytona().requests().into_iter();
    let dials = dials.filter(|one| one.path.contains("/proxy/") && one.status == 101);
    let with_key = dials.map(|one| one.headers.iter().any(|name| name == "authorization"));
    assert_eq!(with_key.collect::<Vec<_>>(), [false, false, true]);
    end(&cloud, running);
}

#[test]
fn what_nobody_speaks_to_goes_by_itself() {
    let short = |options: &mut Options| options.minute = Duration::from_secs(2);
    let Some(cloud) = Cloud::with(&[], short) else { return };
    let running = busy(&cloud);
    kill_all(&cloud, running);
    wait_until("Daytona destroys it", || cloud.living().is_empty());
    cloud.run(&["gc"]).expect_code(0);
    cloud.wait_until_nothing_is_left();
}

#[test]
fn gc_removes_what_a_dead_session_left_also_before_the_list_has_it() {
    let Some(cloud) = Cloud::new() else { return };
    cloud.daytona().quirks().list_late(Duration::from_secs(600));
    let running = busy(&cloud);
    kill_all(&cloud, running);
    // A state change is under way when it is to be deleted.
    cloud.daytona().quirks().busy(2);
    // What was killed holds its lock until its last thread is gone.
    wait_until("it is removed", || {
        cloud.run(&["gc"]).expect_code(0);
        cloud.living().is_empty()
    });
    cloud.wait_until_nothing_is_left();
}

#[test]
fn a_sandbox_that_was_stopped_is_replaced_by_a_new_one() {
    let Some(cloud) = Cloud::new() else { return };
    cloud.write("a", "1\n");
    cloud.run(&["up", "-d"]).expect_code(0);
    cloud.daytona().stop(&cloud.sandbox().id);
    wait_until("it is gone", || {
        cloud.daytona().sandboxes().iter().any(|sandbox| sandbox.state == State::Destroyed)
    });
    let outcome = cloud.exec(&["cat", "a"]).expect_code(0);
    assert_eq!(outcome.stdout, "1\n");
    cloud.run(&["down"]).expect_code(0);
    cloud.expect_clean();
    assert_eq!(cloud.made(), 2);
}

#[test]
fn no_secret_is_where_others_see_it() {
    let Some(cloud) = Cloud::new() else { return };
    let running = busy(&cloud);
    let secrets = secrets(&cloud);
    assert_eq!(secrets.len(), 1);
    let hex: String = secrets[0].iter().map(|byte| format!("{byte:02x}")).collect();
    let secret = [cloud.daytona().key(), cloud.sandbox().token, hex];
    let shown = |text: &str| secret.iter().any(|secret| text.contains(secret.as_str()));

    let inside = cloud.inside(LOOK);
    assert!(inside.contains("supervise") && !shown(&inside), "{inside}");
    // The path to the agent is told to nobody but the proxy.
    assert!(!inside.contains("/skync/"), "{inside}");
    assert_eq!(cloud.inside(MODES), "700\n");

    let host = std::process::Command::new("ps").args(["axww", "-o", "args"]).output();
    let host = String::from_utf8_lossy(&host.expect("ps runs").stdout).into_owned();
    let log = std::fs::read_to_string(cloud.path("s/skync/session.log")).unwrap_or_default();
    let status = cloud.run(&["status", "--json"]).expect_code(0).stdout;
    for (what, text) in [("processes", host), ("log", log), ("status", status)] {
        assert!(!shown(&text), "{what}: {text}");
    }
    assert!(cloud.daytona().requests().iter().all(|request| !shown(&request.path)));
    end(&cloud, running);
}

/// The secrets of the sessions of this world.
fn secrets(cloud: &Cloud) -> Vec<Vec<u8>> {
    let (mut found, mut open) = (Vec::new(), vec![cloud.path("r")]);
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
            if entry.path().is_dir() {
                open.push(entry.path());
            } else if entry.file_name() == "secret" {
                found.push(std::fs::read(entry.path()).expect("readable"));
            }
        }
    }
    found
}
