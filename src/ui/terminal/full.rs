//! The whole terminal for a view: keys as they are pressed, a screen of its own; given back on every
//! way out that a process has.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::termios::isatty;

use super::RawMode;

/// The alternate screen, no cursor, nothing on it.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[0m\x1b[2J";
/// The same back, the screen last: it is there that the others were switched on.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?1049l";
/// A terminal that takes nothing for so long is not waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// The alternate screen is on. Global, because a panic in any thread must leave it.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// The terminal is all ours as long as this value lives.
#[derive(Debug)]
pub struct FullScreen {
    raw: RawMode,
}

impl FullScreen {
    /// Takes it.
    ///
    /// # Errors
    /// If standard input is no terminal.
    pub fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        let raw = RawMode::enter()?;
        HOOK.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                leave();
                next(panic);
            }));
        });
        let full = Self { raw };
        full.show();
        Ok(full)
    }

    /// Gives it back until [`FullScreen::resume`]: this process is about to be stopped.
    pub fn pause(&self) {
        leave();
        self.raw.pause();
    }

    /// Takes it again: a shell may have changed it while this process was stopped. What was on the
    /// screen is gone.
    pub fn resume(&self) {
        self.raw.resume();
        self.show();
    }

    /// False after a panic somewhere has given it back.
    pub fn is_on(&self) -> bool {
        IS_ON.load(Ordering::SeqCst)
    }

    fn show(&self) {
        IS_ON.store(true, Ordering::SeqCst);
        write_all(ENTER);
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        leave();
    }
}

fn leave() {
    if IS_ON.swap(false, Ordering::SeqCst) {
        write_all(LEAVE);
    }
}

/// Writes to the terminal, and never waits long: one that nobody reads must not keep us.
fn write_all(mut bytes: &[u8]) {
    let Ok(mut terminal) = output() else { return };
    let deadline = Instant::now() + PATIENCE;
    while !bytes.is_empty() && Instant::now() < deadline {
        match terminal.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut polled = [PollFd::new(&terminal, PollFlags::OUT)];
                let _ = poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 50_000_000 }));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Standard input's terminal, opened anew so that reading never waits: whoever else has it open is
/// not to see that.
///
/// # Errors
/// If it cannot be had.
pub fn input() -> io::Result<File> {
    reopen("0", OFlags::RDONLY, io::stdin().as_fd())
}

/// Standard output's terminal, opened anew so that writing never waits.
///
/// # Errors
/// If it cannot be had.
pub fn output() -> io::Result<File> {
    reopen("1", OFlags::WRONLY, io::stdout().as_fd())
}

fn reopen(number: &str, flags: OFlags, own: impl AsFd) -> io::Result<File> {
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // The first is not everywhere, and may belong to another user.
    for path in [format!("/proc/self/fd/{number}"), "/dev/tty".to_owned()] {
        if let Ok(opened) = open(path, flags, Mode::empty())
            && isatty(&opened)
        {
            return Ok(opened.into());
        }
    }
    Ok(own.as_fd().try_clone_to_owned()?.into())
}
