//! A mirror under a repository at work: branches switch, editors save in their own ways, both sides
//! change at once, and the session is killed.

use std::path::Path;
use std::process::Command;

use super::{arrives, put};
use crate::support::processes::{Kind, signal};
use crate::support::tree::{agreed, assert_same};
use crate::support::{World, wait_until};

const FILES: usize = 1200;

fn git(root: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "gc.auto=0"])
        .args(arguments)
        .current_dir(root)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn name(number: usize) -> String {
    format!("src/{:02}/file{number}.rs", number % 40)
}

/// Two branches that differ in 200 files: changed, gone and new.
fn repository(world: &World) {
    let root = world.project();
    git(root, &["init", "--quiet", "--initial-branch", "one"]);
    for number in 0..FILES {
        world.write(&name(number), format!("one {number}\n").repeat(number % 50 + 1));
    }
    git(root, &["add", "--all"]);
    git(root, &["commit", "--quiet", "--message", "one"]);
    git(root, &["checkout", "--quiet", "-b", "two"]);
    for number in 0..100 {
        put(root, &name(number * 7), format!("two {number}\n").repeat(20));
    }
    for number in 0..50 {
        git_rm(root, &name(number * 7 + 1));
        put(root, &format!("added/{number}"), "two\n");
    }
    git(root, &["add", "--all"]);
    git(root, &["commit", "--quiet", "--message", "two"]);
}

#[expect(clippy::disallowed_methods, reason = "a user's own file")]
fn git_rm(root: &Path, name: &str) {
    std::fs::remove_file(root.join(name)).expect("removed");
}

#[expect(clippy::disallowed_methods, reason = "as editors save")]
fn save_as_editors_do(root: &Path, round: usize) {
    let text = |style: &str| format!("{style} {round}\n");
    let (file, backup) = (root.join("edited/vim"), root.join("edited/vim~"));
    put(root, "edited/vim", text("before"));
    std::fs::rename(&file, &backup).expect("moved");
    std::fs::write(&file, text("vim")).expect("written");
    std::fs::remove_file(&backup).expect("removed");
    std::fs::write(root.join("edited/.tmp"), text("renamed over")).expect("written");
    std::fs::rename(root.join("edited/.tmp"), root.join("edited/atomic")).expect("renamed");
    std::fs::write(root.join("edited/truncated"), text("in place")).expect("written");
}

#[test]
fn a_repository_comes_through_branch_switches_both_sides_at_once_and_kills() {
    let world = World::new();
    repository(&world);
    let host = world.project();
    let mut up = world.start_up(&[]);
    for round in 0..8 {
        git(host, &["checkout", "--quiet", if round % 2 == 0 { "one" } else { "two" }]);
        let sandbox = world.sandbox();
        for number in 0..20 {
            put(&sandbox, &format!("made/{round}/{number}"), "by the sandbox\n");
        }
        save_as_editors_do(host, round);
        match round {
            2 => drop(git(host, &["gc", "--quiet"])),
            4 => {
                // In the middle of whatever it does. What only the sandbox had is given up with it.
                signal("KILL", &[world.process(Kind::Session)]);
                drop(up);
                wait_until("nothing of it is left", || {
                    world.run(&["down", "--discard"]);
                    world.leftovers().is_empty()
                });
                up = world.start_up(&[]);
            }
            5 => {
                put(host, "work", "staged\n");
                git(host, &["add", "work"]);
                git(host, &["stash", "--quiet"]);
                git(host, &["stash", "pop", "--quiet"]);
            }
            _ => {}
        }
        let sandbox = world.sandbox();
        arrives(&sandbox, "edited/vim", &format!("vim {round}\n"));
        // A file of a moment ago must not be what the sandbox is left with.
        arrives(&sandbox, "edited/atomic", &format!("renamed over {round}\n"));
    }
    world.run(&["flush"]).expect_code(0);
    assert_same(&agreed(host), &agreed(&world.sandbox()));
    git(host, &["fsck", "--full", "--strict"]);
    let changed = git(host, &["status", "--porcelain", "--untracked-files=no"]);
    assert_eq!(changed, "A  work\n", "the mirror changed nothing that git has");
    assert!(host.join("made/7/19").exists() && host.join("edited/truncated").exists());
    up.interrupt().expect_code(0);
    world.expect_nothing_left();
    git(host, &["fsck", "--full", "--strict"]);
}
