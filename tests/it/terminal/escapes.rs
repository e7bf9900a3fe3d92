//! `~.` detaches, `~k` cancels, `~s` says how it is, `~~` is a tilde: after a line's end only.

use super::worlds;
use crate::support::World;
use crate::support::terminal::{CTRL_D, Terminal};

/// Shows what it reads, on a terminal.
fn cat(world: &World) -> Terminal {
    let terminal = world.terminal(&["exec", "--name", "it", "--", "sh", "-c", "echo up; cat"]);
    terminal.expect_line("up");
    terminal
}

#[test]
fn a_tilde_is_an_escape_after_a_lines_end_only() {
    let world = World::new();
    let terminal = cat(&world);
    terminal.keys("a~.b\r");
    terminal.until("it is shown twice", || terminal.count("a~.b") == 2);
    terminal.keys("~~.\r");
    terminal.until("one tilde is left", || terminal.screen().contains("\n~.\n~."));
    // No escape of ours: both bytes are the program's.
    terminal.keys("~x\r");
    terminal.until("it is shown twice", || terminal.count("~x") == 2);
    terminal.keys(CTRL_D);
    terminal.expect_end(0);
}

#[test]
fn a_person_detaches_and_comes_back() {
    for world in worlds() {
        let terminal = cat(&world);
        terminal.keys("before\r");
        terminal.until("it is shown twice", || terminal.count("before") == 2);
        terminal.keys("~.");
        terminal.expect("skync attach");
        terminal.expect_end(0);
        // From another terminal, and another directory.
        let mut attach = world.skync(["attach", "it"]);
        attach.current_dir("/");
        let terminal = Terminal::start(&attach, 24, 80);
        terminal.until("it is attached", || terminal.is_raw());
        terminal.keys("after\r");
        terminal.until("it is shown twice", || terminal.count("after") == 2);
        terminal.keys(CTRL_D);
        terminal.expect_end(0);
    }
}

#[test]
fn a_person_cancels() {
    let world = World::new();
    let script = "trap '' INT TERM; echo made > made; echo up; while :; do sleep 1; done";
    let terminal = world.terminal(&["exec", "--", "sh", "-c", script]);
    terminal.expect_line("up");
    terminal.keys("\r~k");
    let code = terminal.ended();
    assert!(code > 128, "{code}: {}", terminal.screen());
    terminal.expect("0 left");
    terminal.expect_restored();
    assert_eq!(world.read("made"), "made\n");
    // Its own shell would count as well.
    drop(terminal);
    world.wait_until_nothing_is_left();
}

#[test]
fn a_person_asks_how_it_is() {
    let world = World::new();
    let terminal = cat(&world);
    terminal.keys("~s");
    terminal.expect_written("running");
    terminal.keys("on\r");
    terminal.until("it goes on", || terminal.count("on\r\n") >= 2);
    terminal.keys(CTRL_D);
    terminal.expect_end(0);
}
