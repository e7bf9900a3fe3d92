//! Where nothing is mounted, and what is said then.

use super::{put, world};
use crate::support::World;

/// Fails unless `skync mount` with these flags is refused with this code and these parts, and
/// leaves nothing.
#[track_caller]
fn refuses(world: &World, flags: &[&str], code: i32, parts: &[&str]) {
    let outcome = world.run(&[&["mount"], flags].concat()).expect_code(code);
    for part in [parts, &["error: ", "\nhint: "]].concat() {
        assert!(outcome.stderr.contains(part), "no `{part}` in: {}", outcome.stderr);
    }
    assert_eq!(outcome.stdout, "");
    world.expect_nothing_left();
}

#[test]
fn a_place_that_cannot_be_one_is_refused_before_anything_is_made() {
    let Some(world) = world() else { return };
    world.write("src/a", "1");
    put(&world.base().join("home/full"), "x", "y");
    put(&world.base().join("home"), "file", "y");
    refuses(&world, &["--at", "src"], 2, &["is in the project"]);
    refuses(&world, &["--at", "../project/new"], 2, &["is in the project"]);
    refuses(&world, &["--at", ".."], 2, &["holds the project"]);
    refuses(&world, &["--at", "../home/full"], 2, &["is not empty"]);
    refuses(&world, &["--at", "../home/file"], 2, &["is not a directory"]);
    refuses(&world, &["--at", "/proc"], 2, &["another file system is mounted at `/proc`"]);
    refuses(&world, &["--at", "../s/skync/x"], 2, &["where skync keeps its own files"]);
    refuses(&world, &["--at", "/"], 2, &["nothing can be mounted at `/`"]);
    refuses(&world, &["--root", "../.."], 2, &["is not a plain path in the sandbox"]);
}

#[test]
fn a_place_in_another_mount_is_refused() {
    let Some(world) = world() else { return };
    world.write("src/a", "1");
    let at = world.mount(&["--rw"]);
    let inside = at.join("src/x");
    let outcome = world.run(&["mount", "--at", inside.to_str().expect("text")]).expect_code(2);
    assert!(outcome.stderr.contains("is inside the mount at"), "{}", outcome.stderr);
    assert!(!inside.exists());
}

#[test]
fn what_a_mount_shows_is_no_project() {
    let Some(world) = world() else { return };
    world.write("src/a", "1");
    let at = world.mount(&[]);
    for arguments in [&["exec", "true"][..], &["up", "-d"], &["mount"], &["down"]] {
        let mut command = world.skync(arguments);
        let output = command.current_dir(at.join("src")).output().expect("skync runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("is what a sandbox holds, mounted here"), "{arguments:?}: {said}");
        assert!(!output.status.success() && said.contains("hint: go to the project"), "{said}");
    }
}

#[test]
fn a_sandbox_of_this_machine_does_not_show_its_own_mount() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    refuses(&world, &["--root", "/"], 2, &["would show the mount itself"]);
}

#[test]
fn what_runs_in_place_has_nothing_to_mount() {
    let Some(world) = world() else { return };
    world.run(&["use", "local"]).expect_code(0);
    refuses(&world, &[], 2, &["the profile `local` runs commands in place"]);
}

#[test]
fn the_home_directory_is_no_project_unless_forced() {
    let Some(world) = world() else { return };
    let home = world.base().join("home");
    let home = home.to_str().expect("text");
    let outcome = world.run(&["mount", home]).expect_code(2);
    assert!(outcome.stderr.contains("the home directory"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("`skync mount DIR`"), "{}", outcome.stderr);
    // Forced, the usual place is in it.
    let outcome = world.run(&["mount", "--force", home]).expect_code(2);
    assert!(outcome.stderr.contains("is in the project"), "{}", outcome.stderr);
}

#[test]
fn help_says_what_it_is() {
    let world = World::new();
    for (verb, part) in [("mount", "skync mount --rw"), ("unmount", "skync unmount --all")] {
        let help = world.run(&[verb, "--help"]).expect_code(0).stdout;
        assert!(help.contains("Examples:") && help.contains(part), "{help}");
    }
}
