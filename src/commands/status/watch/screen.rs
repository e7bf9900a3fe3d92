//! The terminal of the view: keys in, cells out, and never a wait for either.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Write};
use std::rc::Rc;

use ratatui::backend::{Backend, ClearType, CrosstermBackend};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use tokio::net::unix::pipe;

use crate::ui::terminal::{self, full, full::FullScreen};
use crate::ui::watch::model::Model;
use crate::ui::watch::render::render;

/// Bytes that are read at a time.
const READ_BYTES: usize = 4096;
/// Cells of a side beyond which there is no terminal.
const SIDE_MAX: u32 = 1000;

/// Bytes on their way to the terminal.
#[derive(Clone, Default)]
struct Pending(Rc<RefCell<Vec<u8>>>);

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The terminal, ours as long as this value lives.
pub(super) struct Screen {
    full: FullScreen,
    // No pipes, but all that is asked of them is to read, to write, and not to wait.
    input: pipe::Receiver,
    output: pipe::Sender,
    backend: CrosstermBackend<Pending>,
    pending: Pending,
    /// What is on it; nothing if that is not known.
    shown: Option<Buffer>,
    area: Rect,
    /// A drawing waits until the one before is written.
    is_late: bool,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// If there is none, or it cannot be opened.
    pub(super) fn open(is_colored: bool) -> io::Result<Self> {
        // By `--color` and the rest, which were looked at before.
        ratatui::crossterm::style::force_color_output(is_colored);
        let input = pipe::Receiver::from_file_unchecked(full::input()?)?;
        let output = pipe::Sender::from_file_unchecked(full::output()?)?;
        let pending = Pending::default();
        Ok(Self {
            full: FullScreen::enter()?,
            input,
            output,
            backend: CrosstermBackend::new(pending.clone()),
            pending,
            shown: None,
            area: area(),
            is_late: false,
        })
    }

    /// False after a panic.
    pub(super) fn is_on(&self) -> bool {
        self.full.is_on()
    }

    /// What was typed; nothing if the terminal is gone. Safe to drop.
    pub(super) async fn typed(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; READ_BYTES];
        loop {
            self.input.readable().await.ok()?;
            match self.input.try_read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => {
                    bytes.truncate(count);
                    return Some(bytes);
                }
                Err(error) if is_to_be_tried_again(&error) => {}
                Err(_) => return None,
            }
        }
    }

    /// Draws what has changed, once the terminal has taken what was drawn before.
    pub(super) fn draw(&mut self, model: &Model, now_ms: u64) {
        if !self.pending.0.borrow().is_empty() {
            self.is_late = true;
            return;
        }
        self.is_late = false;
        let mut next = Buffer::empty(self.area);
        render(model, self.area, &mut next, now_ms);
        if self.shown.as_ref() == Some(&next) {
            return;
        }
        let is_new = self.shown.is_none();
        let before = self.shown.take().unwrap_or_else(|| Buffer::empty(self.area));
        // A vector takes all of it.
        if is_new {
            let _ = self.backend.clear_region(ClearType::All);
        }
        let _ = self.backend.draw(before.diff(&next).into_iter());
        self.shown = Some(next);
    }

    /// Writes what was drawn, as much as the terminal takes; false if that is gone. Pending while there
    /// is nothing to write. Safe to drop.
    pub(super) async fn written(&self) -> bool {
        if self.pending.0.borrow().is_empty() {
            return std::future::pending().await;
        }
        if self.output.writable().await.is_err() {
            return false;
        }
        let mut pending = self.pending.0.borrow_mut();
        match self.output.try_write(&pending) {
            Ok(count) => {
                pending.drain(..count);
                true
            }
            Err(error) => is_to_be_tried_again(&error),
        }
    }

    /// Something waits to be drawn, and can be.
    pub(super) fn is_late(&self) -> bool {
        self.is_late && self.pending.0.borrow().is_empty()
    }

    /// The terminal has another size.
    pub(super) fn resized(&mut self) {
        self.area = area();
        self.shown = None;
    }

    /// What is on it is not what was drawn.
    pub(super) fn repaint(&mut self) {
        self.shown = None;
    }

    /// Gives it back for a while.
    pub(super) fn pause(&mut self) {
        self.pending.0.borrow_mut().clear();
        self.full.pause();
    }

    /// Takes it again.
    pub(super) fn resume(&mut self) {
        self.full.resume();
        self.resized();
    }
}

fn is_to_be_tried_again(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn area() -> Rect {
    let size = terminal::size().unwrap_or(terminal::Size { rows: 24, columns: 80 });
    let side = |cells: u32| u16::try_from(cells.min(SIDE_MAX)).unwrap_or(0);
    Rect::new(0, 0, side(size.columns), side(size.rows))
}
