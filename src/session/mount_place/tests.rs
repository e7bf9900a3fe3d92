use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::config::Profile;
use crate::state::Places;

struct World {
    _base: tempfile::TempDir,
    base: PathBuf,
    journal: Journal,
}

impl World {
    fn new() -> Self {
        let base = tempfile::tempdir().expect("a directory");
        let path = base.path().canonicalize().expect("a path");
        let journal = Journal::open(&Places::below(&path)).expect("a journal");
        std::fs::create_dir_all(path.join("project/src")).expect("made");
        Self { _base: base, base: path, journal }
    }

    /// All checks but that of the machine.
    fn check(&self, at: &str) -> Result<Found, String> {
        let (project, state) = (self.base.join("project"), self.base.join("state"));
        let around = Surroundings { project: &project, state: &state, journal: &self.journal };
        let at = if at.starts_with('/') { PathBuf::from(at) } else { self.base.join(at) };
        let checked = apart(&at, &around).and_then(|()| {
            let found = take_stale(&at, &around)?;
            fits(&at).map(|()| found)
        });
        checked.map_err(|error| {
            assert!(!error.hints.is_empty(), "what to do is not said: {error}");
            error.to_string().replace(&self.base.display().to_string(), "[BASE]")
        })
    }
}

fn record(at: PathBuf, made: Vec<PathBuf>) -> MountRecord {
    MountRecord {
        at,
        root: "/p".into(),
        writable: false,
        timeout: Duration::from_secs(1),
        allow_other: false,
        own_ids: false,
        raw_symlinks: false,
        replay: true,
        with_up: false,
        made,
    }
}

#[test]
fn an_empty_directory_or_one_that_can_be_made_is_a_place() {
    let world = World::new();
    std::fs::create_dir(world.base.join("empty")).expect("made");
    for at in ["empty", "not/there/yet", "projects"] {
        assert_eq!(world.check(at), Ok(Found::Free), "{at}");
    }
}

#[test]
fn everything_else_is_refused_with_its_reason() {
    let world = World::new();
    std::fs::File::create(world.base.join("file")).expect("made");
    std::fs::create_dir_all(world.base.join("full/of")).expect("made");
    std::os::unix::fs::symlink("full", world.base.join("link")).expect("made");
    let table = [
        ("project", "`[BASE]/project` is in the project, which would mirror the mount"),
        ("project/src/x", "`[BASE]/project/src/x` is in the project, which would mirror the mount"),
        ("", "`[BASE]/` holds the project, which the mount would hide"),
        ("state/x", "`[BASE]/state/x` is where skync keeps its own files"),
        ("file", "`[BASE]/file` is not a directory"),
        ("link", "`[BASE]/link` is not a directory"),
        ("file/below", "cannot mount at `[BASE]/file/below`: Not a directory (os error 20)"),
        ("full", "`[BASE]/full` is not empty, and the mount would hide what is there"),
        ("/proc", "another file system is mounted at `/proc`"),
    ];
    for (at, expected) in table {
        assert_eq!(world.check(at), Err(expected.to_owned()), "{at}");
    }
}

#[test]
fn what_was_made_for_a_mount_goes_with_it_and_nothing_else_does() {
    let world = World::new();
    std::fs::create_dir(world.base.join("was-there")).expect("made");
    let at = world.base.join("was-there/a/b");
    let made = make(&at, &world.journal).expect("made");
    assert_eq!(made, [world.base.join("was-there/a"), at.clone()]);
    record(at.clone(), made.clone()).remove_made();
    assert!(world.base.join("was-there").is_dir() && !world.base.join("was-there/a").exists());
    let again = make(&at, &world.journal).expect("made");
    std::fs::File::create(world.base.join("was-there/a/of-the-user")).expect("made");
    record(at.clone(), again).remove_made();
    assert!(world.base.join("was-there/a").is_dir() && !at.exists());
}

#[test]
fn the_last_mount_in_a_directory_takes_it_away() {
    let world = World::new();
    let (one, two) = (world.base.join("all/one"), world.base.join("all/two"));
    let first = record(one.clone(), make(&one, &world.journal).expect("made"));
    let profile = crate::config::Profile::built_in("directory").expect("it is built in");
    let id = "0123456789abcdef".to_owned();
    let mut entry = crate::session::journal::Entry::new(id, &one, &profile, &one, &one);
    entry.mounts.push(first.clone());
    world.journal.write(&entry).expect("written");
    let second = record(two.clone(), make(&two, &world.journal).expect("made"));
    first.remove_made();
    assert!(two.is_dir() && !one.exists());
    second.remove_made();
    assert!(!world.base.join("all").exists());
}

#[test]
fn clearing_what_is_not_mounted_removes_what_was_made_for_it() {
    let world = World::new();
    let at = world.base.join("gone");
    let mounts = [record(at.clone(), make(&at, &world.journal).expect("made"))];
    clear(&mounts, true);
    assert!(at.is_dir(), "its successor mounts there again");
    clear(&mounts, false);
    assert!(!at.exists());
}

#[test]
fn the_project_of_another_session_that_lives_is_no_place() {
    let world = World::new();
    let other = world.base.join("other");
    std::fs::create_dir(&other).expect("made");
    let profile = Profile::built_in("directory").expect("it is built in");
    let entry = Entry::new("0123".into(), &other, &profile, Path::new("/r"), Path::new("/r/s"));
    world.journal.write(&entry).expect("written");
    assert_eq!(world.check("other/box"), Ok(Found::Free), "its session is dead");
    let _lives = world.journal.claim("0123").expect("a lock");
    let error = world.check("other/box").expect_err("refused");
    assert!(error.contains("is in the project `[BASE]/other`, which would mirror"), "{error}");
    assert_eq!(world.check("others"), Ok(Found::Free));
}
