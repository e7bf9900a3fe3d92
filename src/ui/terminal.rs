//! The terminal that a person sits at: raw while a command has it, restored on every way out; its
//! size; one line that changes in place.

pub mod escape;
pub mod full;
pub mod screen;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// How standard input's terminal was before it became raw; nothing while it is not.
///
/// Global, because a panic in any thread must restore it, and because whoever writes a line must
/// know whether a line feed also returns the carriage.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

fn before() -> MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u32,
    /// Characters in a line.
    pub columns: u32,
}

/// The size of the terminal; nothing if there is none, or it does not know.
pub fn size() -> Option<Size> {
    let of_output = tcgetwinsize(io::stdout()).ok();
    let found = of_output.or_else(|| tcgetwinsize(io::stdin()).ok())?;
    let size = Size { rows: found.ws_row.into(), columns: found.ws_col.into() };
    (size.rows > 0 && size.columns > 0).then_some(size)
}

/// Whether the terminal is raw now.
pub fn is_raw() -> bool {
    before().is_some()
}

/// The terminal of standard input, raw as long as this value lives: every key is a byte for the
/// command, Ctrl-C included.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Makes the terminal raw.
    ///
    /// # Errors
    /// If standard input is no terminal.
    pub fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                next(panic);
            }));
        });
        make_raw()?;
        Ok(Self(()))
    }

    /// Restores the terminal until [`RawMode::resume`]: this process is about to be stopped.
    pub fn pause(&self) {
        restore();
    }

    /// Makes the terminal raw again: a shell may have changed it while this process was stopped.
    pub fn resume(&self) {
        restore();
        // A terminal that is gone is seen by who reads from it.
        let _ = make_raw();
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

fn make_raw() -> io::Result<()> {
    let mut saved = before();
    if saved.is_none() {
        let found = tcgetattr(io::stdin())?;
        let mut raw = found.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        *saved = Some(found);
    }
    Ok(())
}

fn restore() {
    if let Some(found) = before().take() {
        // Output that is on its way is shown by the rules that it was written for.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &found);
    }
}

/// The terminal of this process is made what it was when this value goes: for what changes it itself,
/// and can be cut short.
#[derive(Debug)]
pub struct Restored(Option<(File, Termios)>);

impl Restored {
    /// Remembers how it is now.
    pub fn as_now() -> Self {
        let terminal = File::open("/dev/tty").ok();
        Self(terminal.and_then(|terminal| tcgetattr(&terminal).ok().map(|found| (terminal, found))))
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        if let Some((terminal, found)) = &self.0 {
            let _ = tcsetattr(terminal, OptionalActions::Drain, found);
        }
    }
}

/// One line on standard error that changes in place; nothing off a terminal. It vanishes with this
/// value.
#[derive(Debug)]
pub struct StatusLine {
    is_live: bool,
    shown: String,
}

impl StatusLine {
    /// Shows nothing yet. Without `wanted` it never does.
    pub fn new(wanted: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { is_live: wanted && !dumb && io::stderr().is_terminal(), shown: String::new() }
    }

    /// Whether anything can be shown.
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// Shows this in place of what was shown.
    pub fn show(&mut self, text: &str) {
        if !self.is_live {
            return;
        }
        let columns = size().map_or(80, |size| size.columns as usize);
        let text = fitting(text, columns);
        if text != self.shown {
            let _ = write!(io::stderr().lock(), "\r\x1b[K{text}");
            self.shown = text;
        }
    }

    /// Takes away what is shown.
    pub fn clear(&mut self) {
        if !self.shown.is_empty() {
            self.shown.clear();
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        self.clear();
    }
}

/// As much of the text as fits in a line whose last column stays empty: a terminal that has filled
/// it is on the next line already.
fn fitting(text: &str, columns: usize) -> String {
    let room = columns.saturating_sub(1);
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(room.saturating_sub(1)).collect();
    if room > 0 {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_to_the_width_of_the_terminal() {
        for (columns, expected) in [(80, "link lost"), (10, "link lost"), (9, "link lo…"), (1, "")]
        {
            assert_eq!(fitting("link lost", columns), expected, "{columns} columns");
        }
        assert_eq!(fitting("ääää", 4), "ää…");
    }

    #[test]
    fn a_line_that_is_not_wanted_is_never_shown() {
        let mut line = StatusLine::new(false);
        line.show("something");
        assert!(!line.is_live() && line.shown.is_empty());
    }
}
