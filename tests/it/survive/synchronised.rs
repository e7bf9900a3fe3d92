//! Synchronisation around a command goes on where the link was cut.

use std::time::{Duration, Instant};

use super::{faulty_worlds, keep, runs};
use crate::support::World;
use crate::support::client::{Client, digest, shell, text};
use crate::support::fault::FaultySession;

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn a_cut_on_the_way_in_delays_the_command_and_changes_nothing() {
    for (world, session) in faulty_worlds() {
        let _kept = keep(&world);
        let content = noise(20 << 20);
        let (_, expected) = digest(&content[..]);
        world.write("large", &content);
        session.faults.refuse_for(Duration::from_millis(300));
        session.faults.cut_after(5 << 20);
        let script = "echo run >> runs; sha256sum < large";
        let outcome = world.exec(&["sh", "-c", script]).expect_code(0);
        assert_eq!(outcome.stdout, format!("{expected}  -\n"));
        assert_eq!((session.faults.cuts(), runs(&world)), (1, 1));
    }
}

#[test]
fn a_cut_on_the_way_out_delays_the_end_and_loses_nothing() {
    for (world, session) in faulty_worlds() {
        let _kept = keep(&world);
        let script = "echo run >> runs; head -c 20000000 /dev/urandom > large; \
                      sha256sum < large; read x; exit 3";
        let mut client = Client::start(&mut shell(&world, script));
        let said = client.line();
        session.faults.cut_after(5 << 20);
        client.say(b"go\n");
        client.expect_code(3);
        let file = std::fs::File::open(world.project().join("large")).expect("it is home");
        let (length, found) = digest(file);
        assert_eq!((length, format!("{found}  -")), (20_000_000, said));
        assert_eq!((session.faults.cuts(), runs(&world)), (1, 1));
    }
}

#[test]
fn a_synchronisation_that_makes_no_progress_is_given_up_and_nothing_runs() {
    let world = World::new();
    let session = FaultySession::start(&world);
    let _kept = keep(&world);
    world.write("large", noise(8 << 20));
    session.faults.stall();
    let begun = Instant::now();
    let outcome =
        world.run(&["exec", "--sync-timeout", "2s", "--", "sh", "-c", "echo run >> runs"]);
    let outcome = outcome.expect_code(125);
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
    assert!(outcome.stderr.contains("synchronis"), "{}", outcome.stderr);
    session.faults.release();
    // It is over only for the one who gave up.
    let outcome = world.exec(&["sh", "-c", "wc -c < large"]).expect_code(0);
    assert_eq!(outcome.stdout.trim(), (8 << 20).to_string());
    assert!(!world.project().join("runs").exists());
}

#[test]
fn a_synchronisation_that_is_slow_is_not_given_up() {
    let world = World::new();
    let session = FaultySession::start(&world);
    let _kept = keep(&world);
    for number in 0..200 {
        world.write(&format!("many/{number}"), number.to_string());
    }
    session.faults.delay(Duration::from_millis(400));
    let outcome = world.run(&["exec", "--sync-timeout", "3s", "--", "sh", "-c", "ls many | wc -l"]);
    assert_eq!(outcome.expect_code(0).stdout.trim(), "200");
}

#[test]
fn a_mirror_goes_on_after_a_cut() {
    for (world, session) in faulty_worlds() {
        world.run(&["up", "-d"]).expect_code(0);
        for round in 0..3 {
            session.faults.cut();
            world.write("seen", format!("{round}\n"));
            let output = shell(&world, "cat seen; echo $? > back").output().expect("it ends");
            assert_eq!(text(&output.stdout), format!("{round}\n"), "{}", text(&output.stderr));
        }
        assert_eq!(world.read("back"), "0\n");
    }
}
