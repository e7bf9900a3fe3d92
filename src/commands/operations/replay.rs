//! Shows the output of an operation that has ended, from what is kept of it.

use std::io::{self, Write};

use crate::commands::Context;
use crate::commands::attached::voice;
use crate::error::{CliError, ExitCode};
use crate::operation::output::Piece;
use crate::operation::{Record, Store};
use crate::session::proto::{Gap, Output};
use crate::ui::print;

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Start {
    /// At this offset.
    Offset(u64),
    /// At the beginning of the last so many lines.
    Lines(u64),
    /// At what was written from then on, milliseconds since 1970.
    Since(u64),
}

/// Shows it; with `only` one stream of it.
///
/// # Errors
/// If what is kept cannot be read, or standard output not be written.
pub(in crate::commands) fn replay(
    record: &Record,
    start: Start,
    only: Option<u32>,
    context: &Context,
) -> Result<(), CliError> {
    let store = Store::open(&context.places)?;
    let is_wanted = |piece: &Piece| only.is_none_or(|stream| stream == u32::from(piece.stream));
    let mut skip = match start {
        Start::Lines(lines) => {
            let kept = pieces(&store, record)?;
            let mut counted = Lines::default();
            for piece in kept {
                let piece = piece?;
                if is_wanted(&piece) {
                    counted.add(&piece.data);
                }
            }
            counted.total().saturating_sub(lines)
        }
        Start::Offset(_) | Start::Since(_) => 0,
    };
    let mut next = match start {
        Start::Offset(offset) => Some(offset),
        // What is missing before the lines that are wanted is not missed.
        Start::Lines(_) | Start::Since(_) => None,
    };
    for piece in pieces(&store, record)? {
        let mut piece = piece?;
        let end = piece.offset + piece.data.len() as u64;
        let from = next.filter(|next| *next < piece.offset);
        if let Some(from) = from {
            show_gap(&Gap { from, to: piece.offset }, context)?;
        }
        let is_late = match start {
            Start::Offset(offset) => cut_before(&mut piece, offset),
            Start::Since(since) => piece.time_ms >= since,
            Start::Lines(_) => !is_wanted(&piece) || cut_lines(&mut piece, &mut skip),
        };
        if !is_late {
            continue;
        }
        next = Some(end);
        if is_wanted(&piece) && !show(&piece, context)? {
            return Ok(());
        }
    }
    let written = record.exit.as_ref().map_or(0, |exit| exit.output_bytes);
    let missing = next.or(match start {
        Start::Offset(offset) => Some(offset),
        Start::Lines(_) | Start::Since(_) => None,
    });
    if let Some(from) = missing.filter(|from| *from < written) {
        show_gap(&Gap { from, to: written }, context)?;
    }
    Ok(())
}

type Pieces = Box<dyn Iterator<Item = Result<Piece, CliError>>>;

fn pieces(store: &Store, record: &Record) -> Result<Pieces, CliError> {
    let id = record.id.short();
    let failed = move |error: io::Error| {
        CliError::new(ExitCode::Failed, format!("cannot read the output that is kept of `{id}`"))
            .because(&error)
            .hint("what is kept is in the state directory (`skync doctor` names it): is it yours to read?")
    };
    Ok(match store.output(record.id)? {
        Some(output) => Box::new(output.map(move |piece| piece.map_err(&failed))),
        None => Box::new(std::iter::empty()),
    })
}

/// Takes away what is before the offset; false if nothing is left.
fn cut_before(piece: &mut Piece, offset: u64) -> bool {
    let known = usize::try_from(offset.saturating_sub(piece.offset)).unwrap_or(usize::MAX);
    let known = known.min(piece.data.len());
    piece.data.drain(..known);
    piece.offset += known as u64;
    !piece.data.is_empty()
}

/// Takes away so many lines; false if nothing is left.
fn cut_lines(piece: &mut Piece, skip: &mut u64) -> bool {
    while *skip > 0 {
        let Some(end) = piece.data.iter().position(|byte| *byte == b'\n') else {
            return false;
        };
        let offset = piece.offset + end as u64 + 1;
        *skip -= 1;
        cut_before(piece, offset);
    }
    !piece.data.is_empty()
}

/// Counts lines; the last may have no end.
#[derive(Default)]
struct Lines {
    ends: u64,
    is_open: bool,
}

impl Lines {
    fn add(&mut self, data: &[u8]) {
        self.ends += data.iter().filter(|byte| **byte == b'\n').count() as u64;
        if let Some(last) = data.last() {
            self.is_open = *last != b'\n';
        }
    }

    fn total(&self) -> u64 {
        self.ends + u64::from(self.is_open)
    }
}

/// Shows a piece of output; false if nobody reads it any more.
///
/// # Errors
/// If it cannot be written.
pub(in crate::commands) fn show(piece: &Piece, context: &Context) -> Result<bool, CliError> {
    let Piece { stream, offset, time_ms, data } = piece;
    let written = if context.json {
        let output = Output {
            stream: u32::from(*stream),
            data: data.clone().into(),
            offset: *offset,
            time_ms: *time_ms,
        };
        let line = format!("{}\n", voice::output(&output));
        let mut stdout = io::stdout().lock();
        stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush())
    } else if *stream == 0 {
        let mut stdout = io::stdout().lock();
        stdout.write_all(data).and_then(|()| stdout.flush())
    } else {
        io::stderr().lock().write_all(data)
    };
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CliError::new(ExitCode::Failed, "cannot write the output")
            .because(&error)
            .hint("what stdout and stderr lead to must take it: is a disk full?")),
    }
}

/// Shows that output is missing.
///
/// # Errors
/// If it cannot be written.
pub(in crate::commands) fn show_gap(gap: &Gap, context: &Context) -> Result<(), CliError> {
    if context.json {
        return print(&format!("{}\n", voice::gap(gap)));
    }
    crate::ui::say(&format!("[skync: {} bytes of output were not kept]", gap.to - gap.from));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, data: &[u8]) -> Piece {
        Piece { stream: 0, offset, time_ms: 0, data: data.to_vec() }
    }

    #[test]
    fn what_was_seen_before_is_cut_off() {
        for (offset, left) in [(0, &b"abc"[..]), (10, b"abc"), (11, b"bc"), (13, b""), (99, b"")] {
            let mut piece = piece(10, b"abc");
            assert_eq!(cut_before(&mut piece, offset), !left.is_empty());
            assert_eq!(piece.data, left, "{offset}");
        }
    }

    #[test]
    fn the_last_lines_are_counted_across_pieces() {
        for (parts, wanted, expected) in [
            (&["a\nb\n", "c\n"][..], 2, "b\nc\n"),
            (&["a\nb", "b\nc"], 2, "bb\nc"),
            (&["a\nb", "b\nc"], 1, "c"),
            (&["a\n"], 5, "a\n"),
            (&["a\n"], 0, ""),
            (&[], 3, ""),
        ] {
            let mut lines = Lines::default();
            parts.iter().for_each(|part| lines.add(part.as_bytes()));
            let mut skip = lines.total().saturating_sub(wanted);
            let mut seen = Vec::new();
            for part in parts {
                let mut piece = piece(0, part.as_bytes());
                if cut_lines(&mut piece, &mut skip) {
                    seen.extend(piece.data);
                }
            }
            assert_eq!(String::from_utf8_lossy(&seen), expected, "{parts:?} {wanted}");
        }
    }
}
