//! A command whose start is cut runs once all the same.

use std::process::Stdio;
use std::time::Duration;

use super::{faulty_worlds, keep, runs, seeded};
use crate::support::World;
use crate::support::client::{Client, shell, text};
use crate::support::fault::FaultySession;

#[test]
fn a_command_whose_start_is_cut_anywhere_runs_once() {
    for (world, session) in faulty_worlds() {
        let mut random = seeded();
        let _kept = keep(&world);
        for round in 1..=15 {
            session.faults.cut_after(1 + random.below(1500) as u64);
            let script = format!("echo run >> runs; echo {round}");
            let output = shell(&world, &script).output().expect("it ends");
            let said = text(&output.stderr);
            assert_eq!(
                (output.status.code(), text(&output.stdout)),
                (Some(0), format!("{round}\n")),
                "{said}"
            );
            assert_eq!(runs(&world), round);
        }
        assert!(session.faults.cuts() >= 5, "only {} cuts", session.faults.cuts());
    }
}

#[test]
fn a_signal_during_an_outage_reaches_the_command_after_it() {
    let world = World::new();
    let session = FaultySession::start(&world);
    let _kept = keep(&world);
    let script = "trap 'echo caught; exit 8' INT; echo up; while :; do sleep 0.05; done";
    let mut command = world.skync(["exec", "--", "sh", "-c", script]);
    let mut client = Client::start(command.stderr(Stdio::null()));
    assert_eq!(client.line(), "up");
    session.faults.refuse();
    session.faults.cut();
    client.signal(rustix::process::Signal::INT);
    // It is on its way, or kept: it must not be lost.
    crate::support::wait_until("the link is dialled", || session.faults.dials() >= 3);
    session.faults.accept();
    assert_eq!(text(&client.rest()), "caught\n");
    client.expect_code(8);
}

#[test]
fn a_command_that_is_begun_during_an_outage_waits_for_its_end() {
    for (world, session) in faulty_worlds() {
        let _kept = keep(&world);
        session.faults.refuse_for(Duration::from_millis(1500));
        session.faults.cut();
        world.exec(&["sh", "-c", "echo run >> runs; exit 3"]).expect_code(3);
        assert_eq!(runs(&world), 1);
    }
}
