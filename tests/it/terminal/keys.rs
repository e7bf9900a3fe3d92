//! Keys are bytes: what they do is for the terminal in the sandbox to say.

use super::worlds;
use crate::support::World;
use crate::support::terminal::{CTRL_C, CTRL_D, CTRL_Z, ENTER, Terminal};

/// A shell of a person, with a prompt that is easily seen.
fn shell(world: &World) -> Terminal {
    let mut command = world.skync(["-q", "exec", "-e", "PS1=ready> ", "--"]);
    command.args(["bash", "--norc", "--noprofile", "-i"]);
    let terminal = Terminal::start(&command, 24, 80);
    terminal.expect("ready> ");
    terminal
}

#[test]
fn nothing_is_echoed_or_edited_here() {
    for world in worlds() {
        let terminal = shell(&world);
        assert!(terminal.is_raw());
        terminal.keys("echo one$((1+1))three\r");
        terminal.expect("one2three\nready> ");
        assert_eq!(terminal.count("echo one"), 1, "{:?}", terminal.written());
        terminal.keys("exit 7\r");
        terminal.expect_end(7);
    }
}

#[test]
fn ctrl_c_ends_the_job_in_front_and_nothing_else() {
    for world in worlds() {
        let terminal = shell(&world);
        terminal.keys("sleep 300 & sleep 301\r");
        terminal.until("both run", || terminal.screen().contains("[1] "));
        terminal.keys(CTRL_C);
        terminal.until("the shell is back", || terminal.count("ready> ") == 2);
        terminal.keys("jobs\r");
        terminal.expect("Running");
        terminal.keys("kill %1; exit 0\r");
        terminal.expect_end(0);
    }
}

#[test]
fn ctrl_z_stops_a_job_and_the_shell_goes_on() {
    for world in worlds() {
        let terminal = shell(&world);
        terminal.keys("sleep 300\r");
        terminal.expect("sleep 300");
        terminal.keys(CTRL_Z);
        terminal.expect("Stopped");
        terminal.keys("fg\r");
        terminal.until("it is in front again", || terminal.count("sleep 300") >= 3);
        terminal.keys(CTRL_C);
        terminal.until("the shell is back", || terminal.count("ready> ") == 3);
        terminal.keys(CTRL_D);
        assert_ne!(terminal.ended(), 123);
        terminal.expect_restored();
    }
}

#[test]
fn a_line_is_edited_there() {
    let world = World::new();
    let terminal = world.terminal(&["-q", "exec", "--", "sh", "-c", "read x; echo \"<$x>\""]);
    terminal.keys("wrong\x15right\x7f\x7fht");
    terminal.keys(ENTER);
    terminal.expect("<right>");
    terminal.expect_end(0);
}

#[test]
fn what_is_pasted_arrives_whole() {
    let world = World::new();
    let script = "stty raw -echo; echo ready; head -c 300000 | cksum; stty sane";
    let terminal = world.terminal(&["-q", "exec", "--", "sh", "-c", script]);
    terminal.expect("ready");
    // Without a tilde after a line's end, which would be a command to skync.
    let line = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ~~\t \u{e4}\x03\r";
    let text: String = line.chars().cycle().take(300_000).collect();
    let bytes = &text.as_bytes()[..300_000];
    let mut cksum = std::process::Command::new("cksum");
    let expected = crate::support::with_input(&mut cksum, bytes).stdout;
    let expected = String::from_utf8_lossy(&expected).trim().to_owned();
    for piece in bytes.chunks(1000) {
        terminal.keys_of(piece);
    }
    terminal.expect(&expected);
    terminal.expect_end(0);
}
