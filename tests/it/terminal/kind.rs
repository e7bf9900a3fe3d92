//! When there is a terminal, of which size, and of which kind.

use super::worlds;
use crate::support::World;
use crate::support::terminal::Terminal;

/// Says of each stream whether it is a terminal.
const STREAMS: &str = "for n in 0 1 2; do test -t $n && echo \"$n=tty\" || echo \"$n=pipe\"; done";
const END: &str = "printf '[ended with %s]' $?; exec sleep 1000";

fn streams(options: &[&str]) -> Vec<String> {
    let all = [&["-q", "exec"], options, &["--", "sh", "-c", STREAMS]].concat();
    all.into_iter().map(str::to_owned).collect()
}

#[test]
fn there_is_a_terminal_if_input_and_output_are_ones() {
    for world in worlds() {
        let terminal = Terminal::start(&world.skync(streams(&[])), 24, 80);
        terminal.expect("0=tty\n1=tty\n2=tty");
        terminal.expect_end(0);
    }
}

#[test]
fn a_pipe_at_either_end_means_no_terminal() {
    let world = World::new();
    for script in [
        format!("printf '' | \"$@\"; {END}"),
        format!("\"$@\" | cat; {END}"),
        format!("\"$@\" < /dev/null; {END}"),
    ] {
        let terminal = Terminal::start_below(&world.skync(streams(&[])), &script, 24, 80);
        terminal.expect("0=pipe\n1=pipe\n2=pipe");
        terminal.expect_end(0);
    }
    // Standard error decides nothing: with a terminal it is a part of it.
    let script = format!("\"$@\" 2> /dev/null; {END}");
    let terminal = Terminal::start_below(&world.skync(streams(&[])), &script, 24, 80);
    terminal.expect("0=tty\n1=tty\n2=tty");
    terminal.expect_end(0);
}

#[test]
fn what_is_asked_for_counts_more() {
    let world = World::new();
    for flag in ["-T", "--no-tty"] {
        let terminal = Terminal::start(&world.skync(streams(&[flag])), 24, 80);
        terminal.expect("0=pipe\n1=pipe\n2=pipe");
        terminal.expect_end(0);
    }
    for flag in ["-t", "--tty"] {
        let output = world.skync(streams(&[flag])).output().expect("skync runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(said, "0=tty\r\n1=tty\r\n2=tty\r\n");
    }
}

#[test]
fn the_first_program_knows_the_size_and_is_told_every_change() {
    for world in worlds() {
        let script = "stty size; trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done";
        let command = world.skync(["-q", "exec", "--", "sh", "-c", script]);
        let terminal = Terminal::start(&command, 37, 123);
        terminal.expect("37 123\nready");
        terminal.resize(50, 100);
        terminal.expect("50 100");
        // Only the last one of many counts.
        for rows in 30..45 {
            terminal.resize(rows, 2 * rows);
        }
        terminal.expect("44 88");
        terminal.keys(crate::support::terminal::CTRL_C);
        terminal.expect_end(130);
    }
}

#[test]
fn colours_and_the_kind_of_terminal_go_along() {
    for world in worlds() {
        let script = "echo \"<$TERM $COLORTERM>\"; printf '\\033[1;31mred\\033[0m plain\\n'";
        let mut command = world.skync(["-q", "exec", "--", "sh", "-c", script]);
        command.env("COLORTERM", "truecolor");
        let terminal = Terminal::start(&command, 24, 80);
        terminal.expect("<xterm-256color truecolor>\nred plain");
        let colour = terminal.look(|screen| {
            let cell = screen.cell(1, 0).expect("on the screen");
            (cell.fgcolor(), cell.bold())
        });
        assert_eq!(colour, (vt100::Color::Idx(1), true));
        terminal.expect_end(0);
    }
}

#[test]
fn lines_end_as_a_terminal_has_them_and_bytes_arrive_as_they_are() {
    let world = World::new();
    let script =
        "printf 'a\\nb\\n'; stty -opost; printf 'c\\nd\\n'; stty opost; printf 'h\\303\\244\\n'";
    let terminal = world.terminal(&["-q", "exec", "--", "sh", "-c", script]);
    terminal.expect_end(0);
    let written = terminal.written();
    assert!(written.contains("a\r\nb\r\nc\nd\nhä\r\n"), "{written:?}");
}
