//! `skync status --watch` at a real terminal: what is seen, what keys do on both sides, and that the
//! terminal is left as it was found.

use std::path::PathBuf;

use crate::support::processes::signal;
use crate::support::terminal::{CTRL_C, CTRL_Z, DOWN, Terminal};
use crate::support::{World, arrives, put, wait_until};

/// A world whose project is mirrored in the background, and the project in its sandbox.
fn mirrored() -> (World, PathBuf) {
    let world = World::new();
    world.write("notes.md", "first\n");
    world.run(&["up", "-d"]).expect_code(0);
    let sandbox = world.sandbox();
    (world, sandbox)
}

fn watch(world: &World) -> Terminal {
    let terminal = world.terminal(&["status", "--watch"]);
    terminal.expect("watching · ");
    assert!(terminal.look(vt100::Screen::alternate_screen) && terminal.is_raw());
    terminal
}

/// Both sides change a file at once.
fn disagree(world: &World, sandbox: &std::path::Path) {
    world.run(&["pause"]).expect_code(0);
    put(world.project(), "notes.md", "of the host\n");
    put(sandbox, "notes.md", "of the sandbox\n");
    world.run(&["resume"]);
}

#[test]
fn a_conflict_is_compared_and_decided_in_place() {
    let (world, sandbox) = mirrored();
    let terminal = watch(&world);
    disagree(&world, &sandbox);
    terminal.expect("notes.md  changed on both sides");
    terminal.keys("\r");
    terminal.expect("-of the host");
    terminal.expect("+of the sandbox");
    terminal.keys("s");
    terminal.expect("1 conflict is decided");
    arrives(world.project(), "notes.md", "of the sandbox\n");
    arrives(&sandbox, "notes.md", "of the sandbox\n");
    terminal.expect("conflicts none");
    terminal.keys("q");
    terminal.expect_end(0);
    world.run(&["down"]).expect_code(0);
}

#[test]
fn what_is_guarded_comes_home_after_a_yes() {
    let (world, sandbox) = mirrored();
    let terminal = watch(&world);
    put(&sandbox, ".envrc", "export A=1\n");
    terminal.expect(".envrc  guarded: ");
    terminal.keys("s");
    terminal.expect("Let what the sandbox did to `.envrc` come to the host?");
    terminal.keys("n");
    terminal.expect(".envrc  guarded: ");
    assert!(!world.project().join(".envrc").exists());
    terminal.keys("s");
    terminal.expect("come to the host?");
    terminal.keys("y");
    arrives(world.project(), ".envrc", "export A=1\n");
    terminal.keys("q");
    terminal.expect_end(0);
    world.run(&["down"]).expect_code(0);
}

#[test]
fn a_command_is_seen_followed_and_stopped_after_a_question() {
    let (world, _) = mirrored();
    let script = "echo so far; sleep 300";
    world.run(&["exec", "-d", "--name", "job", "--", "sh", "-c", script]).expect_code(0);
    let terminal = watch(&world);
    terminal.expect("job ");
    terminal.expect("running");
    terminal.keys("\t\r");
    terminal.expect("so far");
    terminal.keys("q");
    terminal.expect("commands 1");
    terminal.keys("x");
    terminal.expect("Stop `job` (");
    terminal.keys("n");
    terminal.expect("commands 1");
    terminal.keys("x");
    terminal.expect("Stop `job` (");
    terminal.keys("y");
    wait_until("it is stopped", || world.run(&["ps"]).stdout == "no commands\n");
    terminal.keys(DOWN);
    terminal.keys(CTRL_C);
    terminal.expect_end(0);
    world.run(&["down"]).expect_code(0);
}

#[test]
fn any_size_will_do() {
    let (world, _) = mirrored();
    let terminal = watch(&world);
    for (rows, columns) in [(1, 1), (2, 200), (200, 2), (10, 40), (24, 80)] {
        terminal.resize(rows, columns);
    }
    terminal.expect("watching · ");
    terminal.expect("log ");
    terminal.keys("q");
    terminal.expect_end(0);
    world.run(&["down"]).expect_code(0);
}

#[test]
fn the_terminal_is_as_it_was_after_a_signal() {
    let (world, _) = mirrored();
    for (name, code) in [("TERM", 130), ("HUP", 130), ("INT", 0)] {
        let terminal = watch(&world);
        signal(name, &[terminal.pid()]);
        terminal.expect_end(code);
    }
    let mut terminal = watch(&world);
    let pid = terminal.pid();
    terminal.hang_up();
    wait_until("it has gone with its terminal", || {
        !PathBuf::from(format!("/proc/{pid}/cwd")).exists()
    });
    world.run(&["down"]).expect_code(0);
}

#[test]
fn ctrl_z_gives_the_terminal_back_and_fg_takes_it_again() {
    let (world, _) = mirrored();
    let command = world.skync(["status", "--watch"]);
    // A shell that looks after jobs, as a person has it.
    let script = r#"set -m; exec bash --norc --noprofile -i -c '"$0" "$@"; echo "[back $?]"; fg; echo "[end $?]"; exec sleep 1000' "$@""#;
    let terminal = Terminal::start_below(&command, script, 24, 80);
    terminal.expect("watching · ");
    terminal.keys(CTRL_Z);
    terminal.expect_written("[back 1");
    terminal.until("it is drawn again", || terminal.screen().contains("watching · "));
    assert!(terminal.look(vt100::Screen::alternate_screen));
    terminal.keys("q");
    terminal.expect_written("[end 0]");
    assert!(!terminal.look(vt100::Screen::alternate_screen));
    world.run(&["down"]).expect_code(0);
}

#[test]
fn the_view_ends_with_its_session_and_follows_a_successor() {
    let (world, sandbox) = mirrored();
    let terminal = watch(&world);
    let pid = u32::try_from(world.status()["pid"].as_u64().expect("a pid")).expect("a pid");
    signal("KILL", &[pid]);
    wait_until("another one goes on", || {
        let status = world.run(&["status", "--json"]).stdout;
        status.contains("\"watching\"") && !status.contains(&format!("\"pid\":{pid},"))
    });
    put(&sandbox, "later.txt", "x");
    terminal.expect("later.txt");
    world.run(&["down"]).expect_code(0);
    terminal.expect_end(0);
    terminal.expect("the session has ended");
}

#[test]
fn whoever_wants_lines_gets_lines() {
    let (world, _) = mirrored();
    for arguments in [&["status", "--watch", "--plain"][..], &["--json", "status", "--watch"]] {
        let terminal = world.terminal(arguments);
        terminal.expect("watching");
        assert!(!terminal.look(vt100::Screen::alternate_screen) && !terminal.is_raw());
        signal("TERM", &[terminal.pid()]);
        assert_eq!(terminal.ended(), 143);
    }
    world.run(&["down"]).expect_code(0);
    let terminal = world.terminal(&["status", "--watch"]);
    terminal.expect("no session of this project runs");
    terminal.expect_end(5);
}
