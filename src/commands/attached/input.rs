//! Standard input on its way to the command: what has not arrived is kept, and sent again.

use std::collections::VecDeque;
use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::session::proto::Input;
use crate::ui::terminal::escape::{Escapes, Typed, Wish};

/// Bytes that are read at a time.
const READ_BYTES: usize = 64 << 10;
/// Most bytes that are on their way; past it standard input is not read. As the contract has it.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// Pieces that were read and not looked at.
const PIECES_WAITING_MAX: usize = 1;

/// What became of standard input.
pub(super) enum Typing {
    /// For the command; to be sent now.
    Send(Input),
    /// For us.
    Wish(Wish),
}

/// The command's input as this client knows it.
pub(super) struct Stdin {
    /// Empty until the command takes input from us.
    pieces: Option<mpsc::Receiver<Vec<u8>>>,
    escapes: Option<Escapes>,
    kept: Kept,
}

/// What has not arrived yet.
#[derive(Default)]
struct Kept {
    pieces: VecDeque<(u64, Bytes)>,
    bytes: usize,
    /// The offset behind the last byte.
    end: u64,
    ended: bool,
}

impl Stdin {
    pub(super) fn new() -> Self {
        Self { pieces: None, escapes: None, kept: Kept::default() }
    }

    /// Begins to read. With `escapes` a person's wishes are taken out.
    pub(super) fn start(&mut self, offset: u64, escapes: Option<Escapes>) {
        let (send, receive) = mpsc::channel(PIECES_WAITING_MAX);
        self.kept.end = offset;
        self.escapes = escapes;
        self.pieces = Some(receive);
        // A thread that is never joined: nothing can interrupt a read, and the process may end.
        std::thread::spawn(move || read(&send));
    }

    /// Another client has the input now.
    pub(super) fn stop(&mut self) {
        self.pieces = None;
        self.kept = Kept { ended: true, ..Kept::default() };
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.pieces.is_some() && !self.kept.ended && self.kept.bytes < KEPT_BYTES_MAX
    }

    /// The next piece that was typed; nothing at the end. Only if it is wanted.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        match &mut self.pieces {
            Some(pieces) => pieces.recv().await,
            None => std::future::pending().await,
        }
    }

    /// What comes of a piece.
    pub(super) fn typed(&mut self, piece: Option<Vec<u8>>) -> Vec<Typing> {
        let mut typing = Vec::new();
        let parts = match (piece, &mut self.escapes) {
            (Some(piece), Some(escapes)) => escapes.feed(&piece),
            (Some(piece), None) => vec![Typed::Bytes(piece)],
            (None, escapes) => {
                let rest = escapes.as_mut().map(Escapes::rest).unwrap_or_default();
                if !rest.is_empty() {
                    typing.push(Typing::Send(self.kept.add(rest)));
                }
                typing.push(Typing::Send(self.kept.end()));
                return typing;
            }
        };
        for part in parts {
            typing.push(match part {
                Typed::Bytes(bytes) => Typing::Send(self.kept.add(bytes)),
                Typed::Wish(wish) => Typing::Wish(wish),
            });
        }
        typing
    }

    /// All below this offset has arrived.
    pub(super) fn arrived(&mut self, offset: u64) {
        self.kept.arrived(offset);
    }

    /// What is to be sent to who has all below this offset.
    pub(super) fn again(&mut self, offset: u64) -> Vec<Input> {
        if self.pieces.is_none() { Vec::new() } else { self.kept.again(offset) }
    }
}

impl Kept {
    fn add(&mut self, bytes: Vec<u8>) -> Input {
        let (offset, data) = (self.end, Bytes::from(bytes));
        self.bytes += data.len();
        self.end += data.len() as u64;
        self.pieces.push_back((offset, data.clone()));
        Input { data, eof: false, offset }
    }

    fn end(&mut self) -> Input {
        self.ended = true;
        Input { data: Bytes::new(), eof: true, offset: self.end }
    }

    fn arrived(&mut self, offset: u64) {
        while let Some((at, data)) = self.pieces.front_mut() {
            let known = usize::try_from(offset.saturating_sub(*at)).unwrap_or(usize::MAX);
            let known = known.min(data.len());
            let _ = data.split_to(known);
            *at += known as u64;
            self.bytes -= known;
            if !data.is_empty() {
                break;
            }
            self.pieces.pop_front();
        }
    }

    /// What is accepted there is not sent again, but kept until it has arrived: otherwise more and more
    /// could be on its way, with each link that is lost.
    fn again(&mut self, offset: u64) -> Vec<Input> {
        if offset > self.end {
            // Another client has typed meanwhile.
            self.arrived(offset);
            self.end = offset;
        }
        let pieces = self.pieces.iter();
        let mut inputs: Vec<Input> = pieces
            .filter_map(|(at, data)| {
                let known = usize::try_from(offset.saturating_sub(*at)).unwrap_or(usize::MAX);
                let rest = data.get(known..).filter(|rest| !rest.is_empty())?;
                let data = data.slice_ref(rest);
                Some(Input { data, eof: false, offset: at + known as u64 })
            })
            .collect();
        if self.ended {
            inputs.push(Input { data: Bytes::new(), eof: true, offset: self.end });
        }
        inputs
    }
}

/// Reads standard input until its end, or until nobody wants it.
fn read(send: &mpsc::Sender<Vec<u8>>) {
    let mut stdin = io::stdin().lock();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = match stdin.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A terminal that is gone, a closed descriptor: there is no more.
            Err(_) => 0,
        };
        if count == 0 || send.blocking_send(buffer[..count].to_vec()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(inputs: &[Input]) -> Vec<(u64, &[u8], bool)> {
        inputs.iter().map(|input| (input.offset, &input.data[..], input.eof)).collect()
    }

    #[test]
    fn what_has_not_arrived_is_sent_again_from_the_byte_where_it_stopped() {
        let mut kept = Kept::default();
        kept.add(b"abc".to_vec());
        kept.add(b"defg".to_vec());
        kept.arrived(2);
        assert_eq!(kept.bytes, 5);
        assert_eq!(shown(&kept.again(4)), [(4, &b"efg"[..], false)]);
        assert_eq!(kept.bytes, 5, "accepted is not arrived");
        kept.arrived(4);
        assert_eq!(shown(&kept.again(0)), [(4, &b"efg"[..], false)]);
        kept.end();
        assert_eq!(shown(&kept.again(7)), [(7, &b""[..], true)]);
        kept.arrived(7);
        assert_eq!((kept.bytes, kept.end), (0, 7));
    }

    #[test]
    fn input_goes_on_behind_what_another_client_has_typed() {
        let mut kept = Kept::default();
        kept.add(b"abc".to_vec());
        assert!(kept.again(10).is_empty());
        assert_eq!(kept.add(b"d".to_vec()).offset, 10);
    }

    #[test]
    fn the_end_comes_after_a_tilde_that_was_held_back() {
        let mut stdin = Stdin::new();
        stdin.escapes = Some(Escapes::new(false));
        assert!(stdin.typed(Some(b"~".to_vec())).is_empty());
        let typing = stdin.typed(None);
        let [Typing::Send(tilde), Typing::Send(end)] = &typing[..] else { panic!("two pieces") };
        assert_eq!((&tilde.data[..], end.eof, end.offset), (&b"~"[..], true, 1));
    }
}
