//! A link that is lost under a mount.

use std::time::{Duration, Instant};

use super::{INPUT_OUTPUT, can_mount, names, number, put, read};
use crate::support::fault::FaultySession;
use crate::support::{World, wait_until};

/// How long whoever reads there waits, in these tests.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A mount over a link that breaks when a test says so.
fn faulty() -> Option<(World, FaultySession)> {
    if !can_mount() {
        return None;
    }
    let world = World::new();
    let session = FaultySession::start(&world);
    world.write("a", "read before");
    world.write("dir/b", "not read before");
    Some((world, session))
}

#[test]
fn what_is_known_is_read_on_and_the_rest_ends_in_time_and_heals() {
    let Some((world, session)) = faulty() else { return };
    let at = world.mount(&["--timeout", "2s"]);
    assert_eq!(read(&at, "a"), "read before");
    assert_eq!(names(&at.join("dir")), ["b"]);
    session.faults.refuse();
    session.faults.cut();
    wait_until("it is told", || world.status()["mounts"][0]["waiting"] == true);
    let told = world.run(&["status"]).expect_code(0).stdout;
    assert!(told.contains("waiting for the link"), "{told}");
    let begun = Instant::now();
    assert_eq!(
        (read(&at, "a"), names(&at)),
        ("read before".into(), vec!["a".into(), "dir".into()])
    );
    assert!(begun.elapsed() < TIMEOUT, "what is known waits for nothing");
    assert_eq!(number(std::fs::read(at.join("dir/b"))), Some(INPUT_OUTPUT));
    let waited = begun.elapsed();
    assert!(waited < TIMEOUT * 5, "it took {waited:?}");
    session.faults.accept();
    wait_until("it heals", || std::fs::read(at.join("dir/b")).is_ok());
    assert_eq!(read(&at, "dir/b"), "not read before");
    // What changed while nobody could tell shows.
    put(&world.sandbox(), "a", "changed");
    super::arrives(&at, "a", "changed");
    world.run(&["unmount"]).expect_code(0);
}

#[test]
fn a_short_outage_is_not_noticed() {
    let Some((world, session)) = faulty() else { return };
    let at = world.mount(&["--rw"]);
    for round in 0..5 {
        session.faults.cut();
        put(&at, "written", format!("{round}"));
        assert_eq!(read(&world.sandbox(), "written"), format!("{round}"));
        assert_eq!(read(&at, "dir/b"), "not read before");
    }
    world.run(&["unmount"]).expect_code(0);
}

#[test]
fn what_could_not_be_written_keeps_the_mount_until_it_is_given_up() {
    let Some((world, session)) = faulty() else { return };
    let at = world.mount(&["--rw", "--timeout", "2s"]);
    let mut file = std::fs::File::create(at.join("c")).expect("made");
    session.faults.refuse();
    session.faults.cut();
    wait_until("it is told", || world.status()["mounts"][0]["waiting"] == true);
    let begun = Instant::now();
    let _ = std::io::Write::write_all(&mut file, b"lost");
    drop(file);
    assert!(begun.elapsed() < TIMEOUT * 5, "closing a file ends");
    world.run(&["unmount", "--force"]).expect_code(0);
    assert!(!world.is_mounted(&at));
    session.faults.accept();
}
