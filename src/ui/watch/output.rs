//! What an operation has written last, as lines for a person to read. Pure.

use std::collections::VecDeque;

use crate::ui::visible;

/// Lines that are kept.
const LINES_MAX: usize = 1000;
/// Bytes of a line that are kept.
const LINE_BYTES_MAX: usize = 4096;

/// The last lines; the last one may not have ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Output {
    lines: VecDeque<String>,
    open: Vec<u8>,
}

impl Output {
    /// More was written.
    pub(super) fn add(&mut self, data: &[u8]) {
        for part in data.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES_MAX.saturating_sub(self.open.len());
            let is_end = part.ends_with(b"\n");
            let text = &part[..part.len() - usize::from(is_end)];
            self.open.extend_from_slice(&text[..text.len().min(room)]);
            if is_end {
                let line = std::mem::take(&mut self.open);
                self.push(shown(&line));
            }
        }
    }

    /// A line of ours in the middle of it.
    pub(super) fn push(&mut self, line: String) {
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// How many lines there are.
    pub(super) fn len(&self) -> usize {
        self.lines.len() + usize::from(!self.open.is_empty())
    }

    /// All lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let open = (!self.open.is_empty()).then(|| shown(&self.open));
        self.lines.iter().cloned().chain(open).collect()
    }
}

/// A line as a terminal would show it in the end, without colours.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = without_sequences(text.trim_end_matches('\r'));
    // A line that was written over, as progress is, shows what was written last.
    let last = text.rsplit('\r').find(|part| !part.is_empty()).unwrap_or_default();
    visible(&last.replace('\t', "    "))
}

/// Without what moves the cursor and changes colours (`ESC [ …`).
fn without_sequences(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\x1b[") {
        out += &rest[..at];
        let sequence = &rest[at + 2..];
        let end = sequence.find(|c: char| ('\u{40}'..='\u{7e}').contains(&c));
        rest = end.map_or("", |end| &sequence[end + 1..]);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_a_terminal_would_show_at_last() {
        let text = "one\r\n\x1b[31mred\x1b[0m\n10%\r50%\r100%\r\na\tb\n\x1b]0;title\x07\nhalf";
        for cut in 0..=text.len() {
            let mut output = Output::default();
            output.add(&text.as_bytes()[..cut]);
            output.add(&text.as_bytes()[cut..]);
            let expected = ["one", "red", "100%", "a    b", "\\u{1b}]0;title\\u{7}", "half"];
            assert_eq!(output.lines(), expected);
        }
    }

    #[test]
    fn neither_lines_nor_their_length_are_without_end() {
        let mut output = Output::default();
        output.add(&[b'x'; 100_000]);
        output.add(&b"\n".repeat(5_000));
        assert_eq!(output.lines().len(), LINES_MAX);
        output.add(&[b'y'; 100_000]);
        assert_eq!(output.lines().last().map(String::len), Some(LINE_BYTES_MAX));
    }
}
