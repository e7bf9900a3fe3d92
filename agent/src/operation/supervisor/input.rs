//! What the command reads: frames by offset, from one client at a time, written when the command
//! takes them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use bytes::{Buf, Bytes};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;

use super::shared::Shared;
use crate::proto::InputFrame;

/// Input that waits for the command, in bytes. A client has 1 MiB on its way, and what the clients
/// before it had may wait too. One that sends more does not keep to the contract, and what is too
/// much counts as left out.
const PENDING_BYTES_MAX: u64 = 16 << 20;

/// The input of an operation.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// The client whose frames count.
    pub(super) holder: u64,
    /// Of the next byte that is expected.
    next: u64,
    /// What is below has been written to the command.
    pub(super) taken: u64,
    pending: VecDeque<Bytes>,
    /// Nothing follows what is pending.
    ended: bool,
    /// The command reads no more.
    closed: bool,
}

impl Input {
    /// Where a client is to go on.
    pub(super) fn offset(&self) -> u64 {
        self.next
    }

    /// Takes what is new of a frame.
    pub(super) fn accept(&mut self, frame: InputFrame) {
        let InputFrame { offset, mut data, eof } = frame;
        if self.ended || offset > self.next {
            return;
        }
        let known = usize::try_from(self.next - offset).unwrap_or(usize::MAX);
        if known > data.len() {
            return;
        }
        data.advance(known);
        if self.next - self.taken + data.len() as u64 > PENDING_BYTES_MAX {
            return;
        }
        self.next += data.len() as u64;
        self.ended = eof;
        if self.closed {
            self.taken = self.next;
        } else if !data.is_empty() {
            self.pending.push_back(data);
        }
    }

    /// Nobody reads it: all of it counts as taken.
    fn close(&mut self) {
        self.closed = true;
        self.pending.clear();
        self.taken = self.next;
    }
}

/// Writes input to the command until its end.
pub(super) async fn feed(shared: Rc<Shared>, to: Option<OwnedFd>) {
    if let Some(to) = to {
        // An error is the end of the reader, whatever it says.
        let _ = write_all(&shared, to).await;
    }
    shared.input.borrow_mut().close();
    shared.tell();
}

async fn write_all(shared: &Shared, to: OwnedFd) -> io::Result<()> {
    // A terminal is no pipe, but what is done with it here is the same.
    let mut pipe = match shared.terminal {
        Some(_) => pipe::Sender::from_owned_fd_unchecked(to)?,
        None => pipe::Sender::from_owned_fd(to)?,
    };
    let mut line_is_open = false;
    loop {
        let mut changes = shared.changes();
        let (next, ended) = {
            let mut input = shared.input.borrow_mut();
            (input.pending.pop_front(), input.ended)
        };
        match next {
            Some(mut data) => {
                line_is_open = !matches!(data.last(), Some(b'\n' | b'\r'));
                while data.has_remaining() {
                    let count = pipe.write_buf(&mut data).await?;
                    shared.input.borrow_mut().taken += count as u64;
                    shared.tell();
                }
            }
            None if ended => {
                if let Some(terminal) = &shared.terminal {
                    pipe.write_all(&terminal.end_of_input(line_is_open)).await?;
                }
                return Ok(());
            }
            None => {
                let _ = changes.changed().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(offset: u64, data: &'static str, eof: bool) -> InputFrame {
        InputFrame { offset, data: data.into(), eof }
    }

    #[test]
    fn what_is_known_is_skipped_and_what_leaves_something_out_is_ignored() {
        let mut input = Input::default();
        input.accept(frame(0, "abc", false));
        input.accept(frame(1, "bcd", false));
        input.accept(frame(5, "f", false));
        input.accept(frame(0, "ab", true));
        assert!(!input.ended, "its end lies before what was accepted");
        input.accept(frame(4, "e", true));
        input.accept(frame(5, "f", false));
        assert_eq!(input.pending.iter().flatten().copied().collect::<Vec<u8>>(), b"abcde");
        assert_eq!((input.offset(), input.taken, input.ended), (5, 0, true));
    }

    #[test]
    fn more_than_may_be_on_its_way_counts_as_left_out() {
        let mut input = Input::default();
        let piece = Bytes::from(vec![0; 64 << 10]);
        for n in 0..300 {
            input.accept(InputFrame { offset: n * (64 << 10), data: piece.clone(), eof: false });
        }
        assert_eq!(input.offset(), PENDING_BYTES_MAX);
    }

    #[test]
    fn input_that_nobody_reads_is_taken_at_once() {
        let mut input = Input::default();
        input.accept(frame(0, "abc", false));
        input.close();
        assert_eq!(input.taken, 3);
        input.accept(frame(3, "def", true));
        assert_eq!((input.offset(), input.taken), (6, 6));
    }
}
