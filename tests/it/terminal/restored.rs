//! However it ends, the terminal is as it was.

use super::worlds;
use crate::support::processes::{Kind, signal};
use crate::support::terminal::Terminal;
use crate::support::{World, wait_until};

/// Says `up`, and ends with 9 on INT.
const TRAPS_INT: &str =
    "trap 'echo late > late; exit 9' INT; echo up; while :; do sleep 0.05; done";

fn running(world: &World) -> Terminal {
    let terminal = world.terminal(&["exec", "--", "sh", "-c", TRAPS_INT]);
    terminal.expect_line("up");
    assert!(terminal.is_raw());
    terminal
}

#[test]
fn after_a_normal_end_and_after_an_error() {
    for world in worlds() {
        world.terminal(&["exec", "--", "sh", "-c", "stty raw -echo; exit 3"]).expect_end(3);
        let terminal = world.terminal(&["exec", "--", "nosuch"]);
        terminal.expect_end(127);
        terminal.expect("`nosuch` is not found in the sandbox");
        // On lines of their own: each begins at the left.
        let screen = terminal.screen();
        assert!(screen.lines().any(|line| line.starts_with("error: ")), "{screen}");
    }
}

#[test]
fn after_a_program_that_left_its_screen_in_disorder() {
    let world = World::new();
    let script = "printf '\\033[?1049h\\033[?25l\\033[?2004hlost'; kill -KILL $$";
    world.terminal(&["exec", "--", "sh", "-c", script]).expect_end(137);
}

#[test]
fn after_a_signal_that_ends_the_command_line() {
    for name in ["TERM", "HUP"] {
        let world = World::new();
        let terminal = running(&world);
        signal(name, &[terminal.pid()]);
        terminal.expect_end(9);
        assert_eq!(world.read("late"), "late\n");
    }
}

#[test]
fn when_the_window_is_closed_the_command_is_interrupted() {
    let world = World::new();
    let mut terminal = running(&world);
    terminal.hang_up();
    wait_until("its results are home", || world.project().join("late").exists());
    world.wait_until_nothing_is_left();
}

#[test]
fn after_the_session_was_killed() {
    let world = World::new();
    let terminal = running(&world);
    signal("KILL", &[world.process(Kind::Session)]);
    // The command goes on with the next session, and can be interrupted there.
    wait_until("there is another session", || {
        world.processes().iter().any(|process| process.kind == Kind::Session)
    });
    terminal.keys(crate::support::terminal::CTRL_C);
    terminal.expect_end(9);
    assert_eq!(world.read("late"), "late\n");
    // Its own shell would count as well.
    drop(terminal);
    world.wait_until_nothing_is_left();
}
