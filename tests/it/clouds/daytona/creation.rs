//! Making a sandbox at Daytona, and what keeps it from being made.

use std::time::{Duration, Instant};

use super::{Cloud, error_body};
use crate::support::processes::signal;
use crate::support::wait_until;

#[test]
fn a_command_runs_and_its_results_come_home() {
    let Some(cloud) = Cloud::new() else { return };
    cloud.write("a", "1\n");
    let script = "cat a; echo err >&2; echo 2 > b; exit 7";
    let outcome = cloud.exec(&["sh", "-c", script]).expect_code(7);
    assert_eq!(outcome.stdout, "1\n");
    assert!(outcome.stderr.contains("err\n"), "{}", outcome.stderr);
    assert_eq!(cloud.read("b"), "2\n");
    cloud.expect_clean();
    assert_eq!(cloud.made(), 1);
}

#[test]
fn an_image_of_a_size_is_built() {
    let flags = ["--image", "skync-test/speckit:1.2.3", "--cpus", "2", "--memory", "2GiB"];
    let Some(cloud) = Cloud::with(&flags, |_| {}) else { return };
    cloud.exec(&["true"]).expect_code(0);
    cloud.expect_clean();
}

#[test]
fn an_image_that_cannot_be_built_is_told_with_its_reason() {
    let Some(cloud) = Cloud::with(&["--image", "python:3.12"], |_| {}) else { return };
    cloud.daytona().quirks().fail_build(Some("pull access denied for python"));
    let outcome = cloud.exec(&["true"]).expect_code(125);
    assert!(outcome.stderr.contains("cannot build the image `python:3.12`"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("pull access denied"), "{}", outcome.stderr);
    cloud.expect_clean();
}

#[test]
fn a_sandbox_that_does_not_start_is_removed_and_its_reason_told() {
    for held in [None, Some(Duration::from_millis(200))] {
        let Some(cloud) = Cloud::new() else { return };
        cloud.daytona().quirks().slow_create(held);
        cloud.daytona().quirks().fail_create(Some(("the runner is broken", false)));
        let outcome = cloud.exec(&["true"]).expect_code(125);
        assert!(outcome.stderr.contains("the runner is broken"), "{}", outcome.stderr);
        cloud.expect_clean();
    }
}

#[test]
fn one_sandbox_is_made_although_the_reply_is_lost() {
    let Some(cloud) = Cloud::new() else { return };
    cloud.daytona().quirks().lose_create_reply(1);
    cloud.exec(&["true"]).expect_code(0);
    cloud.expect_clean();
    assert_eq!(cloud.made(), 1);
}

#[test]
fn a_creation_whose_request_was_lost_is_begun_again() {
    let Some(cloud) = Cloud::new() else { return };
    cloud.daytona().quirks().drop_next("POST /api/sandbox$", 1);
    cloud.exec(&["true"]).expect_code(0);
    cloud.expect_clean();
}

#[test]
fn a_name_that_is_taken_by_nobody_is_told() {
    let Some(cloud) = Cloud::new() else { return };
    let body = error_body(409, "Sandbox with name already exists");
    cloud.daytona().quirks().fail_next("POST /api/sandbox$", 409, Vec::new(), body, 99);
    let outcome = cloud.exec(&["true"]).expect_code(125);
    assert!(outcome.stderr.contains("its name is taken"), "{}", outcome.stderr);
    cloud.expect_clean();
}

#[test]
fn a_toolbox_that_comes_late_is_waited_for() {
    for status in [502, 400, 404] {
        let Some(cloud) = Cloud::new() else { return };
        cloud.daytona().quirks().toolbox_late(Some((4, status)));
        cloud.exec(&["true"]).expect_code(0);
        cloud.expect_clean();
    }
}

#[test]
fn who_gives_up_while_a_sandbox_is_made_leaves_none() {
    let Some(cloud) = Cloud::new() else { return };
    cloud.daytona().quirks().slow_create(Some(Duration::from_secs(2)));
    cloud.daytona().quirks().list_late(Duration::from_secs(600));
    let running = cloud.start_exec(&[], &["true"]);
    wait_until("a sandbox is being made", || cloud.made() == 1);
    signal("INT", &[running.pid()]);
    running.finish();
    wait_until("it is gone", || cloud.living().is_empty());
    cloud.wait_until_nothing_is_left();
}

#[test]
fn a_sandbox_of_a_warm_pool_is_taken_as_it_comes() {
    let Some(cloud) = Cloud::new() else { return };
    cloud.daytona().quirks().warm_pool(true);
    cloud.exec(&["true"]).expect_code(0);
    cloud.expect_clean();
}

#[test]
fn what_a_proxy_sends_twice_is_done_once() {
    let Some(cloud) = Cloud::new() else { return };
    cloud.write("a", "1\n");
    cloud.daytona().quirks().replay("POST /toolbox/*/process/execute", 2);
    cloud.daytona().quirks().replay("POST /toolbox/*/files/bulk-upload", 1);
    let outcome = cloud.exec(&["cat", "a"]).expect_code(0);
    assert_eq!(outcome.stdout, "1\n");
    cloud.expect_clean();
}

#[test]
fn a_key_that_is_refused_is_told_and_what_to_do() {
    let Some(cloud) = Cloud::new() else { return };
    cloud.daytona().set_key("another");
    let outcome = cloud.exec(&["true"]).expect_code(125);
    assert!(outcome.stderr.contains("refuses the key"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("or set DAYTONA_API_KEY"), "{}", outcome.stderr);
    assert!(cloud.problems().contains("refuses the key"), "{}", cloud.problems());
    assert_eq!(cloud.made(), 0);
    cloud.expect_nothing_left();
}

#[test]
fn a_request_that_was_too_many_is_sent_again_when_it_may() {
    let Some(cloud) = Cloud::new() else { return };
    cloud.daytona().quirks().rate_limit("POST /api/sandbox$", 1, 1);
    let begun = Instant::now();
    cloud.exec(&["true"]).expect_code(0);
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    cloud.expect_clean();
    assert_eq!(cloud.made(), 1);
}

#[test]
fn limits_are_named() {
    let Some(cloud) = Cloud::new() else { return };
    let body = error_body(403, "Total CPU limit exceeded. Maximum allowed: 10.");
    cloud.daytona().quirks().fail_next("POST /api/sandbox$", 403, Vec::new(), body, 1);
    let outcome = cloud.exec(&["true"]).expect_code(125);
    assert!(outcome.stderr.contains("limits are used up: Total CPU limit"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("skync gc"), "{}", outcome.stderr);
    let large = ["profile", "add", "cloud", "--force", "--driver", "daytona", "--cpus", "64"];
    let image = ["--image", "skync-test/speckit:1.2.3"];
    cloud.run(&[&large[..], &image].concat()).expect_code(0);
    let outcome = cloud.exec(&["true"]).expect_code(125);
    assert!(outcome.stderr.contains("larger than one may be"), "{}", outcome.stderr);
    cloud.expect_clean();
}

#[test]
fn a_server_that_is_away_is_told_from_one_that_refuses() {
    let Some(cloud) = Cloud::new() else { return };
    cloud.daytona().wire().refuse(true);
    let problems = cloud.problems();
    cloud.daytona().wire().refuse(false);
    assert!(problems.contains("cannot be reached"), "{problems}");
}

#[test]
fn every_problem_of_a_profile_is_told() {
    let flags = ["--target", "mars", "--snapshot", "daytona-small"];
    let Some(cloud) = Cloud::with(&flags, |_| {}) else { return };
    cloud.daytona().quirks().deny(&["delete:sandboxes", "write:sandboxes"]);
    let problems = cloud.problems();
    for part in ["`write:sandboxes`", "`delete:sandboxes`", "no region `mars`"] {
        assert!(problems.contains(part), "{part}: {problems}");
    }
    let mut unset = cloud.skync(["profile", "validate", "cloud"]);
    let unset = unset.env_remove("DAYTONA_API_KEY").output().expect("skync runs");
    let unset = String::from_utf8_lossy(&unset.stderr).into_owned();
    assert!(unset.contains("there is no key for Daytona"), "{unset}");
}
