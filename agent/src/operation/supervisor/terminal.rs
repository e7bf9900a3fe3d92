//! The terminal of an operation: its size, its foreground, its end of input.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::Pid;
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, SpecialCodeIndex, Winsize};

use crate::proto::TerminalSize;

/// What the size is if nobody says it.
const SIZE_DEFAULT: (u16, u16) = (24, 80);
/// A program that is to draw itself again sees another size for so long. Two changes in one moment
/// would be one signal, and the size what it was.
const REDRAW_TIME: Duration = Duration::from_millis(50);

/// Our end of a terminal.
#[derive(Debug)]
pub(super) struct Terminal(OwnedFd);

impl Terminal {
    /// Makes a terminal; the program's end is returned beside it.
    pub(super) fn open(size: &TerminalSize) -> io::Result<(Self, OwnedFd)> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let near = rustix::pty::openpt(flags)?;
        rustix::pty::unlockpt(&near)?;
        // By the descriptor, not the path: `/dev/pts` may be another one than ours.
        let far = rustix::pty::ioctl_tiocgptpeer(&near, flags)?;
        // Ours alone: the program's end blocks.
        rustix::io::ioctl_fionbio(&near, true)?;
        let terminal = Self(near);
        terminal.resize(size)?;
        Ok((terminal, far))
    }

    /// Our end, to read or to write.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }

    /// Sets the size; the kernel tells the program if it is another one.
    pub(super) fn resize(&self, size: &TerminalSize) -> io::Result<()> {
        rustix::termios::tcsetwinsize(&self.0, winsize(size))?;
        Ok(())
    }

    /// Sets the size and has the program draw itself again, also if the size is what it was.
    pub(super) async fn redraw(&self, size: &TerminalSize) -> io::Result<()> {
        let wanted = winsize(size);
        let same = rustix::termios::tcgetwinsize(&self.0)
            .is_ok_and(|now| (now.ws_row, now.ws_col) == (wanted.ws_row, wanted.ws_col));
        if same {
            let ws_col = if wanted.ws_col > 1 { wanted.ws_col - 1 } else { 2 };
            rustix::termios::tcsetwinsize(&self.0, Winsize { ws_col, ..wanted })?;
            tokio::time::sleep(REDRAW_TIME).await;
            let now = rustix::termios::tcgetwinsize(&self.0)?;
            if (now.ws_row, now.ws_col) != (wanted.ws_row, ws_col) {
                // It was resized meanwhile, which has told the program.
                return Ok(());
            }
        }
        rustix::termios::tcsetwinsize(&self.0, wanted)?;
        Ok(())
    }

    /// The process group that signals from the keyboard go to.
    pub(super) fn foreground(&self) -> Option<Pid> {
        rustix::termios::tcgetpgrp(&self.0).ok()
    }

    /// What to write so that the program reads end-of-file; `open` if the line it would read has
    /// something in it already, which the first one only makes it read.
    pub(super) fn end_of_input(&self, open: bool) -> Vec<u8> {
        let Ok(modes) = rustix::termios::tcgetattr(&self.0) else { return Vec::new() };
        let character = modes.special_codes[SpecialCodeIndex::VEOF];
        let lines = modes.local_modes.contains(LocalModes::ICANON);
        vec![character; if open && lines { 2 } else { 1 }]
    }
}

fn winsize(size: &TerminalSize) -> Winsize {
    let bounded = |given: u32, default: u16| match given {
        0 => default,
        given => u16::try_from(given).unwrap_or(u16::MAX),
    };
    Winsize {
        ws_row: bounded(size.rows, SIZE_DEFAULT.0),
        ws_col: bounded(size.columns, SIZE_DEFAULT.1),
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
