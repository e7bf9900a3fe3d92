//! What was written to one file and is not in the source yet: put together, in order.
//!
//! It decides what may be sent when, and knows neither the source nor the time.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::FileHandle;
use crate::source::{Handle, SourceError};

/// Bytes of the largest write that is sent.
pub(super) const PART_BYTES_MAX: usize = 1024 * 1024;
/// Writes of one file that are on their way at once.
const SENT_COUNT_MAX: usize = 16;
/// Their bytes.
const SENT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Parts that are looked at for something to send: of very many small ones the rest waits.
const LOOK_COUNT_MAX: usize = 64;

/// A part that is so large and grows gets all its room at once, bytes.
const GROWS_BYTES_MIN: usize = 64 * 1024;

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Writer {
    /// As the kernel knows it.
    pub(super) file: FileHandle,
    /// As the source knows it.
    pub(super) handle: Handle,
    /// It goes to the end of the file, wherever that is.
    pub(super) append: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// More may come to it.
    Filling,
    /// It may be sent; as long as it is not, more may come to it.
    Waiting,
    Sent,
}

enum Data {
    /// One write, as it came.
    One(Bytes),
    /// Several.
    Many(BytesMut),
}

struct Part {
    number: u64,
    writer: Writer,
    start: u64,
    data: Data,
    phase: Phase,
}

impl Part {
    fn len(&self) -> usize {
        match &self.data {
            Data::One(data) => data.len(),
            Data::Many(data) => data.len(),
        }
    }

    fn end(&self) -> u64 {
        self.start + self.len() as u64
    }

    fn overlaps(&self, from: u64, until: u64) -> bool {
        self.start < until && from < self.end()
    }

    /// Takes more, if it belongs to it; says how many bytes longer it is then.
    fn take(&mut self, writer: Writer, offset: u64, data: &Bytes) -> Option<usize> {
        let fits = self.phase != Phase::Sent && self.writer == writer;
        let offset = if writer.append { self.end() } else { offset };
        let is_inside = self.start <= offset && offset <= self.end();
        let from = offset.checked_sub(self.start)? as usize;
        if !fits || !is_inside || from + data.len() > PART_BYTES_MAX {
            return None;
        }
        let before = self.len();
        if let Data::One(first) = &self.data {
            let needed = from + data.len();
            let grows = needed >= GROWS_BYTES_MIN;
            let room = if grows { PART_BYTES_MAX } else { needed.max(before * 2) };
            let mut many = BytesMut::with_capacity(room);
            many.extend_from_slice(first);
            self.data = Data::Many(many);
        }
        let Data::Many(many) = &mut self.data else { return None };
        let inside = (before - from).min(data.len());
        many[from..from + inside].copy_from_slice(&data[..inside]);
        many.extend_from_slice(&data[inside..]);
        Some(many.len() - before)
    }
}

/// A part that is to be sent.
pub(super) struct Send {
    /// Which one.
    pub(super) number: u64,
    /// Whose.
    pub(super) writer: Writer,
    /// Where it goes.
    pub(super) start: u64,
    /// What.
    pub(super) data: Bytes,
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Writes {
    parts: VecDeque<Part>,
    number: u64,
    sent_count: usize,
    sent_bytes: u64,
    /// The last part that failed.
    failed: Option<(u64, SourceError)>,
}

impl Writes {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Takes a write; says how many bytes more there are, and whether something may be sent.
    pub(super) fn accept(&mut self, writer: Writer, offset: u64, data: Bytes) -> (usize, bool) {
        if let Some(last) = self.parts.back_mut() {
            if let Some(more) = last.take(writer, offset, &data) {
                let is_full = last.len() == PART_BYTES_MAX;
                if is_full && last.phase == Phase::Filling {
                    last.phase = Phase::Waiting;
                }
                return (more, is_full);
            }
            if last.phase == Phase::Filling {
                last.phase = Phase::Waiting;
            }
        }
        self.number += 1;
        let length = data.len();
        let is_full = length >= PART_BYTES_MAX;
        let phase = if is_full { Phase::Waiting } else { Phase::Filling };
        let may_send = is_full || !self.parts.is_empty();
        let data = Data::One(data);
        self.parts.push_back(Part { number: self.number, writer, start: offset, data, phase });
        (length, may_send)
    }

    /// Lets the part that is being filled go.
    pub(super) fn seal(&mut self) {
        if let Some(last) = self.parts.back_mut().filter(|last| last.phase == Phase::Filling) {
            last.phase = Phase::Waiting;
        }
    }

    /// True if a part is being filled.
    pub(super) fn is_filling(&self) -> bool {
        self.parts.back().is_some_and(|last| last.phase == Phase::Filling)
    }

    /// The next part that can be sent: what overlaps waits for what was written before, and what
    /// goes to the end for everything.
    pub(super) fn next_to_send(&mut self) -> Option<Send> {
        if self.sent_count >= SENT_COUNT_MAX {
            return None;
        }
        for at in 0..self.parts.len().min(LOOK_COUNT_MAX) {
            let part = &self.parts[at];
            if part.phase == Phase::Waiting {
                let fits =
                    self.sent_count == 0 || self.sent_bytes + part.len() as u64 <= SENT_BYTES_MAX;
                if !fits {
                    return None;
                }
                let (from, until) = (part.start, part.end());
                let is_free = match part.writer.append {
                    true => at == 0,
                    false => !self.parts.range(..at).any(|before| before.overlaps(from, until)),
                };
                if is_free {
                    return Some(self.send(at));
                }
            }
            if self.parts[at].writer.append {
                return None;
            }
        }
        None
    }

    fn send(&mut self, at: usize) -> Send {
        let part = &mut self.parts[at];
        part.phase = Phase::Sent;
        let data = match std::mem::replace(&mut part.data, Data::One(Bytes::new())) {
            Data::One(data) => data,
            Data::Many(data) => data.freeze(),
        };
        part.data = Data::One(data.clone());
        self.sent_count += 1;
        self.sent_bytes += data.len() as u64;
        Send { number: part.number, writer: part.writer, start: part.start, data }
    }

    /// A part is in the source, or will never be; says how many bytes fewer there are.
    pub(super) fn done(&mut self, number: u64, error: Option<SourceError>) -> usize {
        let Some(at) = self.parts.iter().position(|part| part.number == number) else { return 0 };
        let length = self.parts[at].len();
        self.parts.remove(at);
        self.sent_count -= 1;
        self.sent_bytes -= length as u64;
        if let Some(error) = error {
            self.failed = Some((number, error));
        }
        length
    }

    /// Drops what was not sent; says how many bytes that was.
    pub(super) fn abandon(&mut self) -> usize {
        let gone = self.parts.iter().filter(|part| part.phase != Phase::Sent).map(Part::len).sum();
        self.parts.retain(|part| part.phase == Phase::Sent);
        gone
    }

    /// True if something between the two is not in the source.
    pub(super) fn overlaps(&self, from: u64, until: u64) -> bool {
        // Where an append goes is not known: everywhere.
        self.parts.iter().any(|part| part.writer.append || part.overlaps(from, until))
    }

    /// The end of what is furthest out.
    pub(super) fn end(&self) -> Option<u64> {
        self.parts.iter().map(Part::end).max()
    }

    /// The last part there is: whoever waits for it and all before it waits for what was written.
    pub(super) fn last(&self) -> u64 {
        self.number
    }

    /// True if a part up to that one is left; of one writer only, if one is given.
    pub(super) fn is_left(&self, until: u64, of: Option<FileHandle>) -> bool {
        self.parts
            .iter()
            .take_while(|part| part.number <= until)
            .any(|part| of.is_none_or(|file| part.writer.file == file))
    }

    /// The error of the last part that failed, if that was after this one.
    pub(super) fn failed_after(&self, number: u64) -> Option<SourceError> {
        self.failed.as_ref().filter(|(at, _)| *at > number).map(|(_, error)| error.clone())
    }

    /// The part before the first that is left.
    pub(super) fn settled(&self) -> u64 {
        self.parts.front().map_or(self.number, |part| part.number - 1)
    }
}
