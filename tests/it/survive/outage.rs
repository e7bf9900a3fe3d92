//! Long outages, and what is said meanwhile.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{faulty_worlds, keep, runs};
use crate::support::client::{Client, shell, text};
use crate::support::fault::FaultySession;
use crate::support::terminal::CTRL_D;
use crate::support::{World, wait_until};

/// Writes a number each tenth of a second, for longer than thirty seconds.
const COUNTS: &str =
    "echo run >> runs; i=0; while [ $i -lt 350 ]; do echo $i; i=$((i+1)); sleep 0.1; done";

#[test]
fn thirty_seconds_without_a_link_lose_nothing_and_say_little() {
    std::thread::scope(|scope| {
        // Both at the same time: they only wait.
        for (world, session) in faulty_worlds() {
            scope.spawn(move || outlives_thirty_seconds(&world, &session));
        }
    });
}

fn outlives_thirty_seconds(world: &World, session: &FaultySession) {
    let _kept = keep(world);
    let mut command = world.skync(["exec", "--", "sh", "-c", COUNTS]);
    let mut client = Client::start(command.stderr(Stdio::piped()));
    assert_eq!(client.line(), "0");
    session.faults.refuse();
    session.faults.cut();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let dials = session.faults.dials();
    session.faults.accept();
    let expected: String = (1..350).map(|number| format!("{number}\n")).collect();
    let rest = text(&client.rest());
    let mut said = String::new();
    let stderr = client.child.stderr.as_mut().expect("piped");
    std::io::Read::read_to_string(stderr, &mut said).expect("text");
    assert_eq!(rest, expected, "{said}");
    client.expect_code(0);
    assert_eq!(runs(world), 1);
    assert!((4..=60).contains(&dials), "{dials} dials");
    let news: Vec<&str> = said.lines().filter(|line| line.contains("link")).collect();
    assert!((2..=4).contains(&news.len()), "one when it is lost, one when it is back: {said}");
    assert!(news[0].contains("link lost"), "{said}");
}

#[test]
fn a_link_that_is_back_at_once_is_not_worth_a_word() {
    let world = World::new();
    let session = FaultySession::start(&world);
    let _kept = keep(&world);
    let script = "echo up; read x; echo over";
    let mut command = world.skync(["exec", "--", "sh", "-c", script]);
    let mut client = Client::start(command.stderr(Stdio::piped()));
    assert_eq!(client.line(), "up");
    session.faults.cut();
    client.say(b"go\n");
    assert_eq!(text(&client.rest()), "over\n");
    let mut said = String::new();
    let stderr = client.child.stderr.as_mut().expect("piped");
    std::io::Read::read_to_string(stderr, &mut said).expect("text");
    assert!(!said.contains("link"), "{said}");
}

#[test]
fn a_person_sees_one_line_that_counts_and_can_leave() {
    let world = World::new();
    let session = FaultySession::start(&world);
    let _kept = keep(&world);
    let terminal = world.terminal(&["exec", "--name", "it", "--", "sh", "-c", "echo up; cat"]);
    terminal.expect_line("up");
    session.faults.refuse();
    session.faults.cut();
    terminal.expect("link lost");
    terminal.expect("~. detaches");
    session.faults.accept();
    terminal.until("the line is gone", || !terminal.screen().contains("~. detaches"));
    terminal.keys("word\r");
    terminal.until("it is shown twice", || terminal.count("word") == 2);
    terminal.keys(CTRL_D);
    terminal.expect_end(0);

    // And leaves while it is down.
    let terminal = world.terminal(&["exec", "--name", "two", "--", "sh", "-c", "echo up; cat"]);
    terminal.expect_line("up");
    session.faults.refuse();
    session.faults.cut();
    terminal.expect("link lost");
    terminal.keys("\r~.");
    terminal.expect("skync attach");
    terminal.ended();
    terminal.expect_restored();
    session.faults.accept();
    world.run(&["cancel", "two"]).expect_code(0);
}

#[test]
fn who_waits_no_longer_than_he_said_is_told_that_the_outcome_is_not_known() {
    let world = World::new();
    let session = FaultySession::start(&world);
    let _kept = keep(&world);
    let script = "echo up; while [ ! -e go ]; do sleep 0.05; done; echo over; exit 3";
    let all = ["exec", "--name", "it", "--reconnect-timeout", "1s", "--", "sh", "-c", script];
    let mut client = Client::start(world.skync(all).stderr(Stdio::piped()));
    assert_eq!(client.line(), "up");
    session.faults.refuse();
    session.faults.cut();
    client.expect_code(123);
    let mut said = String::new();
    let stderr = client.child.stderr.as_mut().expect("piped");
    std::io::Read::read_to_string(stderr, &mut said).expect("text");
    assert!(said.contains("not known") && said.contains("skync attach"), "{said}");
    session.faults.accept();
    world.exec(&["touch", "go"]).expect_code(0);
    let attached = world.run(&["attach", "it"]).expect_code(3);
    // What was written out and not yet acknowledged comes again.
    assert!(attached.stdout.ends_with("over\n"), "{attached:?}");
}

#[test]
fn what_a_reader_does_not_take_waits_on_the_disk_while_the_link_is_down() {
    let world = World::new();
    let session = FaultySession::start(&world);
    let _kept = keep(&world);
    // Far more than the spool's memory, and nobody to take it: the command does not stand still.
    let script = "echo up; sleep 1; head -c 30000000 /dev/zero; echo written > written; exit 2";
    let mut client = Client::start(&mut shell(&world, script));
    assert_eq!(client.line(), "up");
    session.faults.refuse();
    session.faults.cut();
    let sandbox = std::fs::read_dir(world.path("s/skync/sandboxes")).expect("there");
    let sandbox = sandbox.flatten().next().expect("one").path().join("root/project");
    wait_until("all is written although nobody reads", || sandbox.join("written").exists());
    session.faults.accept();
    assert_eq!(client.rest().len(), 30_000_000);
    client.expect_code(2);
}
