//! Takes secrets out of what is told: errors, warnings, logs.
//!
//! Two nets. What this process has read as a secret is known and looked for as it is; and what
//! looks like a key of a provider is masked whoever wrote it. Data is never changed: what a command
//! in the sandbox prints is not ours.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::{PoisonError, RwLock};

use zeroize::Zeroizing;

/// What stands in the place of a secret.
const HIDDEN: &str = "***";
/// Nothing shorter is looked for: replacing it would garble texts, and it is no key.
const BYTES_MIN: usize = 8;
/// The newest are kept: a session reads a key and some tokens for each sandbox.
const KNOWN_MAX: usize = 64;

/// Copies of what was read as a secret. They live as long as the process: what is told at its end
/// must be masked too.
static KNOWN: RwLock<Vec<Zeroizing<String>>> = RwLock::new(Vec::new());

/// What begins so and goes on like that is a key.
struct Pattern {
    begin: &'static str,
    /// The beginning says nothing and stays.
    stays: bool,
    rest: fn(u8) -> bool,
    rest_bytes_min: usize,
}

const PATTERNS: [Pattern; 3] = [
    Pattern { begin: "e2b_", stays: false, rest: is_hex, rest_bytes_min: 20 },
    Pattern { begin: "dtn_", stays: false, rest: is_word, rest_bytes_min: 16 },
    Pattern { begin: "Bearer ", stays: true, rest: is_token, rest_bytes_min: 8 },
];

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn is_token(byte: u8) -> bool {
    is_word(byte) || matches!(byte, b'.' | b'~' | b'+' | b'/' | b'=')
}

/// Has a text masked from now on.
pub(super) fn remember(text: &str) {
    if text.len() < BYTES_MIN {
        return;
    }
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    if known.iter().any(|one| **one == text) {
        return;
    }
    if known.len() == KNOWN_MAX {
        known.remove(0);
    }
    known.push(Zeroizing::new(text.to_owned()));
}

/// The text without secrets.
pub fn mask(text: &str) -> Cow<'_, str> {
    let mut out = Cow::Borrowed(text);
    for known in KNOWN.read().unwrap_or_else(PoisonError::into_inner).iter() {
        if out.contains(known.as_str()) {
            out = Cow::Owned(out.replace(known.as_str(), HIDDEN));
        }
    }
    for pattern in &PATTERNS {
        if let Some(masked) = without(&out, pattern) {
            out = Cow::Owned(masked);
        }
    }
    out
}

/// The text without what the pattern matches; nothing if that is nowhere.
fn without(text: &str, pattern: &Pattern) -> Option<String> {
    let (mut out, mut rest, mut found) = (String::new(), text, false);
    while let Some(at) = rest.find(pattern.begin) {
        let (before, from) = rest.split_at(at);
        let tail = &from[pattern.begin.len()..];
        let length = tail.bytes().take_while(|byte| (pattern.rest)(*byte)).count();
        out += before;
        if length < pattern.rest_bytes_min {
            out += pattern.begin;
            rest = tail;
            continue;
        }
        if pattern.stays {
            out += pattern.begin;
        }
        out += HIDDEN;
        (rest, found) = (&tail[length..], true);
    }
    out += rest;
    found.then_some(out)
}

/// Writes without secrets. Each call must be a whole line, as a log's events are.
#[derive(Debug)]
pub struct Masked<W>(pub W);

impl<W: Write> Write for Masked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.write_all(mask(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_key_is_masked() {
        for (text, masked) in [
            ("the key e2b_0123456789abcdef0123456789abcdef01234567!", "the key ***!"),
            ("sk_e2b_0123456789abcdef0123", "sk_***"),
            ("dtn_0123456789abcdef_x, dtn_0123456789abcdefg", "***, ***"),
            ("authorization: Bearer eyJh.eyJz.c2ln\nnext", "authorization: Bearer ***\nnext"),
        ] {
            assert_eq!(mask(text), masked);
        }
    }

    #[test]
    fn what_does_not_is_left() {
        for text in ["", "e2b_api", "e2b_0123456789", "dtn_x", "Bearer token", "é e2b_é"] {
            assert!(matches!(mask(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn what_was_read_is_masked_whatever_it_looks_like() {
        remember("correct horse");
        remember("short");
        assert_eq!(mask("is it `correct horse`, or short?"), "is it `***`, or short?");
        let mut out = Masked(Vec::new());
        out.write_all(b"a correct horse\xff\n").expect("written");
        assert_eq!(String::from_utf8_lossy(&out.0), "a ***\u{fffd}\n");
    }
}
