//! What things cost over a link whose way is long: how many trips over it wait for one another.
//!
//! Trips are counted, not timed: see `Faults::trips`. On a busy machine something that waits for
//! nothing can come so late that it looks as if it had waited for what came before it; so each is
//! tried a few times, and the fewest count. What waits by contract does so every time.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::client::Client;
use crate::support::fault::{Faults, FaultySession};
use crate::support::{World, wait_until};

/// How long each byte is on its way: much longer than anything takes at either end.
const WAY: Duration = Duration::from_millis(100);
/// How often something is tried.
const TRIES_MAX: usize = 6;
/// From the session to the sandbox and back.
const TURN: u64 = 2;

/// A project with a mirror, over a link with a long way. The session goes before its world.
struct Far {
    up: Client,
    session: FaultySession,
    world: World,
}

impl Far {
    fn new() -> Self {
        let world = World::new();
        world.write("file", "before");
        let session = FaultySession::start(&world);
        let mut up = Client::start(&mut world.skync(["--json", "up"]));
        while !up.line().contains("watching") {}
        session.faults.delay(WAY);
        Self { up, session, world }
    }

    fn faults(&self) -> &Faults {
        &self.session.faults
    }

    /// The project in the sandbox.
    fn sandbox(&self) -> PathBuf {
        let mut sandboxes =
            std::fs::read_dir(self.world.path("s/skync/sandboxes")).expect("a sandbox");
        let sandbox = sandboxes.next().expect("one").expect("readable").path();
        sandbox.join("root/project").canonicalize().expect("the project in the sandbox")
    }

    /// Waits until the mirror has told that this has moved.
    fn has_moved(&mut self, name: &str) {
        loop {
            let line = self.up.line();
            if line.contains(r#""event":"moved""#) && line.contains(name) {
                return;
            }
        }
    }

    /// The fewest trips that came home one after another while this was done; it is given a number.
    #[track_caller]
    fn costs(&mut self, trips: u64, mut done: impl FnMut(&mut Self, usize)) {
        let mut all = Vec::new();
        for number in 0..TRIES_MAX {
            self.faults().wait_for_quiet(4 * WAY);
            let before = self.faults().trips();
            done(self, number);
            all.push(self.faults().trips() - before);
            if all.last() == Some(&trips) {
                return;
            }
        }
        panic!("it costs {all:?} trips, and is to cost {trips}");
    }
}

#[test]
fn an_edit_is_in_place_before_anything_comes_back_and_told_a_turn_after_it() {
    let mut far = Far::new();
    let sandbox = far.sandbox();
    far.costs(0, |far, number| {
        let (name, content) = (format!("edit-{number}"), format!("content {number}"));
        far.world.write(&name, &content);
        wait_until("it is in place", || {
            std::fs::read_to_string(sandbox.join(&name)).is_ok_and(|found| found == content)
        });
    });
    far.costs(TURN, |far, number| {
        let name = format!("told-{number}");
        far.world.write(&name, "content");
        far.has_moved(&name);
    });
}

#[test]
fn a_command_costs_two_turns_of_the_link() {
    let mut far = Far::new();
    far.costs(2 * TURN, |far, _| {
        far.world.exec(&["true"]).expect_code(0);
    });
    far.costs(2 * TURN, |far, number| {
        let script = format!("echo said; exit {}", number + 3);
        let outcome = far.world.exec(&["sh", "-c", &script]);
        assert_eq!(outcome.expect_code(3 + i32::try_from(number).expect("few")).stdout, "said\n");
    });
}

#[test]
fn a_command_that_is_not_there_costs_two_turns_too() {
    let mut far = Far::new();
    far.costs(2 * TURN, |far, _| {
        far.world.exec(&["./no-such-program"]).expect_code(127);
    });
}

#[test]
fn an_edit_right_before_a_command_is_there_and_costs_no_turn_more() {
    let mut far = Far::new();
    far.costs(2 * TURN, |far, number| {
        let content = format!("edited {number}");
        far.world.write("file", &content);
        assert_eq!(far.world.exec(&["cat", "file"]).expect_code(0).stdout, content);
    });
}

#[test]
fn what_a_command_writes_costs_one_turn_more_and_is_here_when_it_returns() {
    let mut far = Far::new();
    far.costs(3 * TURN, |far, number| {
        let script = format!("echo {number} > made");
        far.world.exec(&["sh", "-c", &script]).expect_code(0);
        assert_eq!(far.world.read("made"), format!("{number}\n"));
    });
}
