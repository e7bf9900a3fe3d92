//! What may be shown of a text that an engine, a container or an agent wrote.
//!
//! Such a text can hold anything: terminal sequences, megabytes, half characters. Everything that
//! goes into an error or a log passes through here. It must not change what is used as data.

/// Most characters of a foreign text in one message: enough for an engine's longest sentence.
const TEXT_CHARS_MAX: usize = 600;

/// Most bytes that a [`Tail`] keeps; older ones are dropped.
const TAIL_BYTES_MAX: usize = 8 * 1024;

/// Most lines of a [`Tail`] that go into a message.
const TAIL_LINES_MAX: usize = 8;

/// One line without control characters, at most [`TEXT_CHARS_MAX`] characters long.
pub(crate) fn printable(text: &str) -> String {
    let mut line: String = text
        .trim()
        .chars()
        .take(TEXT_CHARS_MAX + 1)
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            c if c.is_control() || reorders(c) => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect();
    if line.chars().count() > TEXT_CHARS_MAX {
        line = line.chars().take(TEXT_CHARS_MAX).collect();
        line.push('…');
    }
    line
}

/// True for the characters that change the order in which a terminal shows a line.
fn reorders(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The last bytes of a log, bounded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail(Vec<u8>);

impl Tail {
    /// Adds `bytes` and drops what is too old.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let fresh = &bytes[bytes.len().saturating_sub(TAIL_BYTES_MAX)..];
        let excess = (self.0.len() + fresh.len()).saturating_sub(TAIL_BYTES_MAX);
        self.0.drain(..excess);
        self.0.extend_from_slice(fresh);
    }

    /// The last lines in one, separated by ` | `; empty if nothing was written.
    pub(crate) fn lines(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let lines: Vec<String> =
            text.lines().map(printable).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(TAIL_LINES_MAX)..].join(" | ")
    }
}

/// `names` that look like `wanted`, best first, at most three.
pub(crate) fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    // Below this two names have hardly more than letters in common.
    const ALIKE: f64 = 0.75;
    let mut scored: Vec<(f64, &str)> = names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(wanted, name), name))
        .filter(|(score, _)| *score >= ALIKE)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(3).map(|(_, name)| printable(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_sequences_are_neutralised() {
        assert_eq!(printable("a\x1b[31mb\nc\u{202e}d\t"), "a\u{fffd}[31mb c\u{fffd}d");
    }

    #[test]
    fn long_texts_are_cut() {
        let cut = printable(&"é".repeat(5000));
        assert_eq!(cut.chars().count(), TEXT_CHARS_MAX + 1);
        assert!(cut.ends_with('…'));
    }

    #[test]
    fn a_tail_keeps_the_last_lines_of_any_amount() {
        let mut tail = Tail::default();
        for n in 0..5000 {
            tail.push(format!("line {n}\n").as_bytes());
        }
        tail.push(&[b'x'; 3 * TAIL_BYTES_MAX]);
        assert_eq!(tail.0.len(), TAIL_BYTES_MAX);
        tail.push(b"\nlast but one\n\nlast\n");
        assert!(tail.lines().ends_with("last but one | last"), "{}", tail.lines());
    }

    #[test]
    fn nearest_names_come_best_first() {
        let names = ["python:3.12", "redis:7", "python:3.11", "python:3.12"];
        assert_eq!(nearest("pyton:3.12", names), ["python:3.12", "python:3.11"]);
        assert!(nearest("zzz", names).is_empty());
    }
}
