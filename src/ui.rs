//! What a person sees: errors, progress, tables. Commands decide what is said, this module how.
//!
//! stdout is data and stderr is talk. Text from elsewhere (a sandbox, a file, an engine) goes
//! through [`visible`] before it reaches a terminal.

pub mod difference;
pub mod progress;
pub mod prompt;
pub mod render;
pub mod status_view;
pub mod terminal;
pub mod time;
pub mod watch;

use std::io::{self, IsTerminal, Write};

use crate::credentials::mask::mask;
use crate::error::{CliError, ExitCode};

/// The text with everything that could command a terminal, or reorder what it shows, spelt out.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || reorders {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// A table without a frame: no space before the first column, none behind the last.
pub fn rows(table: &comfy_table::Table) -> String {
    let line = |line: String| format!("{}\n", line.strip_prefix(' ').unwrap_or(&line).trim_end());
    table.lines().map(line).collect()
}

/// Writes data to stdout. A reader that has gone away (`| head`) is no error: it has what it wants.
///
/// # Errors
/// If stdout cannot be written, as with a full disk behind it.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::new(ExitCode::Failed, "cannot write to stdout")
                .because(&error)
                .hint("what stdout leads to must take it: is its disk full?"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes one line of talk to stderr, without secrets. There is nobody to tell if that fails.
pub fn say(text: &str) {
    let text = mask(text);
    let mut out = io::stderr().lock();
    if terminal::is_raw() && out.is_terminal() {
        // A line feed alone does not return the carriage; and the command left it anywhere.
        let lines = text.replace('\n', "\r\n");
        let _ = write!(out, "\r\x1b[K{lines}\r\n");
    } else {
        let _ = writeln!(out, "{text}");
    }
}
