//! A link that is open and carries nothing is noticed, and what it still held does no harm.

use std::time::{Duration, Instant};

use super::{faulty_worlds, keep, runs};
use crate::support::client::{Client, shell, text};
use crate::support::wait_until;

/// A link that says nothing is dead by then; a little for a machine that is busy.
const NOTICED: Duration = Duration::from_secs(17);

#[test]
fn a_silent_link_is_given_up_within_fifteen_seconds_and_nothing_comes_twice() {
    std::thread::scope(|scope| {
        // Both at the same time: they only wait.
        for (world, session) in faulty_worlds() {
            scope.spawn(move || {
                let _kept = keep(&world);
                let script = "echo run >> runs; echo up; while read x; do echo \"<$x>\"; done";
                let mut client = Client::start(&mut shell(&world, script));
                assert_eq!(client.line(), "up");
                let dials = session.faults.dials();
                let begun = Instant::now();
                session.faults.stall();
                client.say(b"while it is silent\n");
                wait_until("the link is dialled anew", || session.faults.dials() > dials);
                assert!(begun.elapsed() < NOTICED, "it took {:?}", begun.elapsed());
                // What the old link held is delivered now, beside what the new one says.
                session.faults.release();
                assert_eq!(client.line(), "<while it is silent>");
                client.say(b"after\n");
                drop(client.child.stdin.take());
                assert_eq!(text(&client.rest()), "<after>\n");
                client.expect_code(0);
                assert_eq!(runs(&world), 1);
            });
        }
    });
}

#[test]
fn a_pause_that_is_short_is_no_loss_of_the_link() {
    for (world, session) in faulty_worlds() {
        let _kept = keep(&world);
        let mut client = Client::start(&mut shell(&world, "while read x; do echo \"<$x>\"; done"));
        client.say(b"one\n");
        assert_eq!(client.line(), "<one>");
        let dials = session.faults.dials();
        session.faults.stall();
        client.say(b"two\n");
        std::thread::park_timeout(Duration::from_secs(2));
        session.faults.release();
        assert_eq!(client.line(), "<two>");
        assert_eq!(session.faults.dials(), dials);
    }
}

#[test]
fn a_slow_link_only_takes_longer() {
    for (world, session) in faulty_worlds() {
        let _kept = keep(&world);
        session.faults.delay(Duration::from_millis(150));
        let begun = Instant::now();
        let outcome = world.exec(&["sh", "-c", "head -c 2000000 /dev/zero; exit 3"]).expect_code(3);
        assert_eq!(outcome.stdout.len(), 2_000_000);
        assert!(begun.elapsed() < Duration::from_secs(15), "it took {:?}", begun.elapsed());
    }
}
