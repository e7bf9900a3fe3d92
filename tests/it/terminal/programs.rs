//! Programs that have the whole screen.

use std::time::{Duration, Instant};

use super::busybox;
use crate::support::terminal::{CTRL_C, DOWN, ENTER, Terminal};
use crate::support::{SPECKIT, World};

/// When a key without effect is pressed once more.
const PRESSED_AGAIN: Duration = Duration::from_secs(4);

#[test]
fn a_pager_draws_moves_and_quits() {
    let Some(world) = busybox() else { return };
    let script = "seq 1 500 > /tmp/numbers; less /tmp/numbers";
    let terminal = world.terminal(&["-q", "exec", "--", "sh", "-c", script]);
    terminal.until("the first page is there", || {
        let screen = terminal.screen();
        screen.starts_with("1\n2\n") && screen.contains("\n23")
    });
    terminal.keys("G");
    terminal.expect_line("500");
    terminal.keys("g");
    terminal.until("the first page is back", || terminal.screen().starts_with("1\n2\n"));
    terminal.resize(10, 40);
    terminal.keys("q");
    terminal.expect_end(0);
}

#[test]
fn an_editor_writes_a_file_that_comes_home() {
    let Some(world) = busybox() else { return };
    world.write("text", "first\nlast\n");
    let terminal = world.terminal(&["-q", "exec", "--", "vi", "text"]);
    terminal.until("the file is shown", || {
        let screen = terminal.screen();
        screen.starts_with("first\nlast\n~\n") && screen.contains("text")
    });
    terminal.keys("oinserted\x1b");
    terminal.until("it is inserted", || terminal.screen().starts_with("first\ninserted\nlast"));
    terminal.keys(":wq\r");
    terminal.expect_end(0);
    assert_eq!(world.read("text"), "first\ninserted\nlast\n");
}

/// The line of the menu that the arrow points at.
fn chosen(terminal: &Terminal) -> String {
    let screen = terminal.screen();
    screen.lines().find(|line| line.contains('\u{25b6}')).unwrap_or_default().to_owned()
}

/// Presses a key of a menu until it has done its work: between two reads the menu throws away what was
/// typed, its own doing, here as anywhere.
fn press(terminal: &Terminal, key: &str, what: &str, mut is_done: impl FnMut() -> bool) {
    let mut pressed: Option<Instant> = None;
    terminal.until(what, || {
        let is_done = is_done();
        if !is_done && pressed.is_none_or(|pressed| pressed.elapsed() > PRESSED_AGAIN) {
            pressed = Some(Instant::now());
            terminal.keys(key);
        }
        is_done
    });
}

#[test]
fn specify_init_is_driven_by_arrow_keys() {
    let Some(world) = World::with_docker(SPECKIT) else { return };
    // The agent that is chosen is not in the image.
    let init = ["specify", "init", "--here", "--ignore-agent-tools"];
    let command = world.skync([&["-q", "exec", "--"], &init[..]].concat());
    let terminal = Terminal::start(&command, 70, 100);
    terminal.until("the first menu is there", || chosen(&terminal).contains("copilot"));
    let mut presses = 0;
    while !chosen(&terminal).contains("gemini ") {
        let before = chosen(&terminal);
        assert!(presses < 60, "the menu has no gemini: {}", terminal.screen());
        presses += 1;
        // It is drawn anew piece by piece.
        press(&terminal, DOWN, "the arrow moves", || {
            !["", &before].contains(&chosen(&terminal).as_str())
        });
    }
    press(&terminal, ENTER, "the second menu is there", || chosen(&terminal).contains("POSIX"));
    assert!(terminal.screen().contains("Choose script type"), "{}", terminal.screen());
    press(&terminal, ENTER, "it ends", || terminal.count("[ended with ") > 0);
    terminal.expect_end(0);
    let options = world.read(".specify/init-options.json");
    assert!(options.contains("\"gemini\""), "{options}");
}

#[test]
fn ctrl_c_in_a_menu_leaves_it() {
    let Some(world) = World::with_docker(SPECKIT) else { return };
    let command = world.skync(["-q", "exec", "--", "specify", "init", "--here"]);
    let terminal = Terminal::start(&command, 70, 100);
    terminal.until("the first menu is there", || chosen(&terminal).contains("copilot"));
    terminal.keys(CTRL_C);
    terminal.expect_end(1);
    assert!(!world.project().join(".specify").exists());
}
