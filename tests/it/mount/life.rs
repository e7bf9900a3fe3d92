//! How a mount comes and goes, and what it keeps.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{json, names, put, read, world};
use crate::support::client::{Client, shell};
use crate::support::processes::signal;
use crate::support::{World, wait_until};

/// A shell that is in this directory until its input ends.
pub(super) fn sitting_in(directory: &Path) -> Client {
    let mut command = Command::new("sh");
    let mut client = Client::start(command.args(["-c", "echo in; read x"]).current_dir(directory));
    assert_eq!(client.line(), "in");
    client
}

#[test]
fn it_keeps_the_session_until_it_goes() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let outcome = world.run(&["mount"]).expect_code(0);
    assert!(outcome.stderr.contains("the sandbox is mounted, read-only"), "{}", outcome.stderr);
    let at = world.usual_place();
    assert_eq!(outcome.stdout, format!("{}\n", at.display()));
    let session = world.session();
    world.exec(&["sh", "-c", "echo 2 > b"]).expect_code(0);
    assert_eq!((world.session(), read(&at, "b")), (session, "2\n".into()));
    let gone = world.run(&["unmount"]).expect_code(0);
    assert!(gone.stderr.contains("is not mounted any more"), "{}", gone.stderr);
    assert!(gone.stderr.contains("its sandbox is gone"), "{}", gone.stderr);
    assert!(!world.path("home/.remote").exists(), "what was made for it went with it");
    world.expect_nothing_left();
}

#[test]
fn the_same_mount_again_is_no_error_and_another_one_there_is() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&[]);
    let again = world.run(&["mount"]).expect_code(0);
    assert!(again.stderr.contains("is mounted already"), "{}", again.stderr);
    assert_eq!(again.stdout, format!("{}\n", at.display()));
    let other = world.run(&["mount", "--rw"]).expect_code(6);
    assert!(other.stderr.contains("in another way"), "{}", other.stderr);
    let elsewhere = world.mount(&["--rw", "--at", "../home/second"]);
    assert_eq!(names(&elsewhere), ["a"]);
    assert_eq!(world.status()["mounts"].as_array().map(Vec::len), Some(2));
    let first = at.to_str().expect("text");
    world.run(&["unmount", first]).expect_code(0);
    assert!(!world.is_mounted(&at) && world.is_mounted(&elsewhere));
    world.run(&["unmount", "--at", "../home/second"]).expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn what_it_is_shows_in_status_and_in_documents() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let mounted = json(&world.run(&["--json", "mount", "--rw"]).expect_code(0).stdout);
    let at = world.usual_place();
    let root = world.sandbox();
    assert_eq!((&mounted["ok"], &mounted["already"]), (&true.into(), &false.into()));
    let file = std::fs::File::open(at.join("a")).expect("opened");
    let status = world.status();
    for found in [&mounted["mounted"], &status["mounts"][0]] {
        assert_eq!(found["at"], at.display().to_string());
        assert_eq!(found["root"], root.display().to_string());
        assert_eq!((&found["writable"], &found["waiting"]), (&true.into(), &false.into()));
    }
    assert_eq!(status["mounts"][0]["open_files"], 1);
    let told = world.run(&["status"]).expect_code(0).stdout;
    let line = format!(
        "\n  mounted at {}: {} of the sandbox, writable, 1 open file\n",
        at.display(),
        root.display()
    );
    assert!(told.contains(&line), "{told}");
    assert!(told.contains("0 commands, 1 mount"), "{told}");
    drop(file);
    let gone = json(&world.run(&["--json", "unmount"]).expect_code(0).stdout);
    assert_eq!(gone["unmounted"], Value::from(vec![at.display().to_string()]));
    assert_eq!((&gone["ok"], &gone["ended"]), (&true.into(), &true.into()));
}

#[test]
fn who_uses_it_is_named_and_may_stay_where_it_is_by_force() {
    let Some(world) = world() else { return };
    world.write("dir/a", "1");
    let at = world.mount(&[]);
    let mut shell = sitting_in(&at.join("dir"));
    let refused = world.run(&["unmount"]).expect_code(6);
    let who = format!("is in use: sh ({}) works in `dir`", shell.child.id());
    assert!(refused.stderr.contains(&who), "{}", refused.stderr);
    assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_eq!(read(&at, "dir/a"), "1");
    let down = world.run(&["down"]).expect_code(6);
    assert!(down.stderr.contains("the session stays: the mount at"), "{}", down.stderr);
    assert!(down.stderr.contains(&who), "{}", down.stderr);
    let error = json(&world.run(&["--json", "unmount"]).expect_code(6).stdout);
    assert_eq!(error["ok"], false, "{error}");
    world.run(&["unmount", "--force"]).expect_code(0);
    assert!(!world.is_mounted(&at));
    shell.say(b"\n");
    shell.ended();
    world.wait_until_nothing_is_left();
}

#[test]
fn down_takes_it_along_and_brings_home_what_was_written_there() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&["--rw"]);
    put(&at, "b", "2");
    world.run(&["down"]).expect_code(0);
    assert_eq!(world.read("b"), "2");
    assert!(!world.is_mounted(&at));
    world.expect_nothing_left();
}

#[test]
fn down_that_gives_up_takes_it_from_under_who_uses_it() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&["--rw"]);
    let shell = sitting_in(&at);
    put(&at, "b", "2");
    world.run(&["down", "--discard"]).expect_code(0);
    assert!(!world.is_mounted(&at));
    drop(shell);
    world.wait_until_nothing_is_left();
}

#[test]
fn a_command_that_runs_keeps_it_from_down() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&[]);
    let mut client = Client::start(&mut shell(&world, "echo up; cat"));
    assert_eq!(client.line(), "up");
    let refused = world.run(&["down"]).expect_code(6);
    assert!(refused.stderr.contains("a command is running"), "{}", refused.stderr);
    assert!(world.is_mounted(&at));
    world.run(&["unmount"]).expect_code(0);
    drop(client.child.stdin.take());
    client.expect_code(0);
    world.wait_until_nothing_is_left();
}

#[test]
fn unmounting_with_the_systems_means_ends_it_as_well() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&["--rw"]);
    put(&at, "b", "2");
    let umount = Command::new("umount").arg(&at).status().expect("umount runs");
    assert!(umount.success());
    world.wait_until_nothing_is_left();
    assert_eq!(world.read("b"), "2");
}

#[test]
fn a_session_that_is_terminated_takes_it_along() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let at = world.mount(&["--rw"]);
    let shell = sitting_in(&at);
    put(&at, "b", "2");
    signal("TERM", &[world.session()]);
    wait_until("it is gone", || !world.is_mounted(&at));
    drop(shell);
    world.wait_until_nothing_is_left();
    assert_eq!(world.read("b"), "2");
}

#[test]
fn unmount_without_a_mount_says_so_and_all_means_all() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let none = world.run(&["unmount"]).expect_code(5);
    assert!(none.stderr.contains("is not mounted"), "{}", none.stderr);
    let none = world.run(&["unmount", "/nosuch"]).expect_code(5);
    assert!(none.stderr.contains("no sandbox is mounted at `/nosuch`"), "{}", none.stderr);
    let all = world.run(&["unmount", "--all"]).expect_code(0);
    assert!(all.stderr.contains("nothing is mounted"), "{}", all.stderr);
    world.mount(&[]);
    let other = world.base().join("other");
    put(&other, "b", "of another project");
    let path = other.to_str().expect("text");
    let second = world.mount(&[path, "--at", "../home/second"]);
    assert_eq!(read(&second, "b"), "of another project");
    world.run(&["unmount", "--all"]).expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn unmount_within_a_mount_means_that_one() {
    let Some(world) = world() else { return };
    world.write("dir/a", "1");
    let at = world.mount(&[]);
    let refused = world.skync(["unmount"]).current_dir(at.join("dir")).output().expect("runs");
    // Our own command is not who uses it.
    let outcome = crate::support::Outcome::of(refused).expect_code(0);
    assert!(outcome.stderr.contains("is not mounted any more"), "{}", outcome.stderr);
    world.expect_nothing_left();
}

#[test]
fn two_projects_do_not_share_a_place() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    world.mount(&[]);
    let other = world.base().join("other");
    put(&other, "b", "2");
    let refused = world.run(&["mount", other.to_str().expect("text")]).expect_code(6);
    let whose = format!("it shows the sandbox of `{}` (directory)", world.project().display());
    assert!(refused.stderr.contains(&whose), "{}", refused.stderr);
    assert!(refused.stderr.contains("--at DIR"), "{}", refused.stderr);
    // Its session was for that alone.
    wait_until("the other session has gone", || {
        let document = json(&world.run(&["status", "--json"]).expect_code(0).stdout);
        document["sessions"].as_array().map(Vec::len) == Some(1)
    });
}

#[test]
fn a_sandbox_that_is_removed_from_outside_is_made_anew_under_its_mount() {
    let Some(world) =
        super::can_mount().then(|| World::with_docker(crate::support::SPECKIT)).flatten()
    else {
        return;
    };
    world.write("a", "1");
    let at = world.mount(&[]);
    assert_eq!(read(&at, "a"), "1");
    let before = crate::support::containers_of(&world);
    let removed = Command::new("docker").args(["rm", "-f"]).args(&before).output();
    assert!(removed.expect("docker runs").status.success());
    wait_until("there is another one", || {
        let now = crate::support::containers_of(&world);
        now.len() == 1 && now != before
    });
    world.write("a", "22");
    world.exec(&["true"]).expect_code(0);
    super::arrives(&at, "a", "22");
    world.run(&["unmount"]).expect_code(0);
    world.expect_nothing_left();
}
