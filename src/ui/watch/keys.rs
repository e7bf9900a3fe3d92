//! Bytes of a terminal as keys. Pure; what is no key of ours is dropped.

/// Bytes of the longest sequence that is followed.
const SEQUENCE_MAX: usize = 32;

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// Ctrl and a lower-case letter.
    Ctrl(char),
    /// Enter.
    Enter,
    /// Tab.
    Tab,
    /// Shift and Tab.
    BackTab,
    /// Esc by itself.
    Escape,
    /// The arrow up.
    Up,
    /// The arrow down.
    Down,
    /// The arrow to the left.
    Left,
    /// The arrow to the right.
    Right,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the beginning.
    Home,
    /// To the end.
    End,
}

/// What was read and is no whole key yet.
#[derive(Debug, Default)]
pub struct Keys(Vec<u8>);

impl Keys {
    /// The keys that are whole with these bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.0.extend_from_slice(bytes);
        let mut keys = Vec::new();
        let mut at = 0;
        while let Some((key, length)) = key(&self.0[at..]) {
            keys.extend(key);
            at += length;
        }
        self.0.drain(..at);
        keys
    }

    /// Something has begun that may be no more than Esc: who hears no more of it for a moment calls
    /// [`Keys::rest`].
    pub fn is_open(&self) -> bool {
        !self.0.is_empty()
    }

    /// Nothing more has come: Esc, if that is what it was.
    pub fn rest(&mut self) -> Option<Key> {
        let rest = std::mem::take(&mut self.0);
        (rest == [0x1b]).then_some(Key::Escape)
    }
}

/// The key at the beginning, if it is one of ours, and its length; nothing if there is no whole one.
fn key(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    let (first, rest) = bytes.split_first()?;
    Some(match first {
        0x1b => return escape(rest),
        b'\r' | b'\n' => (Some(Key::Enter), 1),
        b'\t' => (Some(Key::Tab), 1),
        0x01..=0x1a => (Some(Key::Ctrl((first - 1 + b'a') as char)), 1),
        0x00..0x20 | 0x7f => (None, 1),
        0x20..0x7f => (Some(Key::Char(*first as char)), 1),
        _ => {
            let length = match first {
                0xc2..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xf4 => 4,
                _ => return Some((None, 1)),
            };
            let whole = &bytes[..length.min(bytes.len())];
            match std::str::from_utf8(whole) {
                Ok(text) => (text.chars().next().map(Key::Char), length),
                Err(error) if error.error_len().is_none() => return None,
                Err(_) => (None, 1),
            }
        }
    })
}

fn escape(rest: &[u8]) -> Option<(Option<Key>, usize)> {
    match rest {
        [] | [b'[' | b'O'] => None,
        [b'O', last, ..] => Some((named(*last, b""), 3)),
        [b'[', sequence @ ..] => {
            let Some(end) = sequence.iter().position(|byte| (0x40..=0x7e).contains(byte)) else {
                return (sequence.len() > SEQUENCE_MAX).then_some((None, rest.len() + 1));
            };
            Some((named(sequence[end], &sequence[..end]), end + 3))
        }
        // Esc twice, or Alt with a key.
        [0x1b, ..] => Some((Some(Key::Escape), 1)),
        [_, ..] => Some((None, 2)),
    }
}

fn named(last: u8, parameters: &[u8]) -> Option<Key> {
    Some(match (last, parameters) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', _) => Key::Right,
        (b'D', _) => Key::Left,
        (b'H', _) | (b'~', b"1" | b"7") => Key::Home,
        (b'F', _) | (b'~', b"4" | b"8") => Key::End,
        (b'Z', _) => Key::BackTab,
        (b'~', b"5") => Key::PageUp,
        (b'~', b"6") => Key::PageDown,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_same_however_they_are_cut() {
        let bytes = "aä\x1b[A\x1bOB\x1b[1;5C\x03\r\t\x1b[Z\x1b[6~\x1b[200~\x0c世\x7f".as_bytes();
        let expected = [
            Key::Char('a'),
            Key::Char('ä'),
            Key::Up,
            Key::Down,
            Key::Right,
            Key::Ctrl('c'),
            Key::Enter,
            Key::Tab,
            Key::BackTab,
            Key::PageDown,
            Key::Ctrl('l'),
            Key::Char('世'),
        ];
        for cut in 0..=bytes.len() {
            let mut keys = Keys::default();
            let mut found = keys.feed(&bytes[..cut]);
            found.extend(keys.feed(&bytes[cut..]));
            assert_eq!(found, expected, "cut at {cut}");
            assert!(!keys.is_open());
        }
    }

    #[test]
    fn esc_alone_is_a_key_once_nothing_follows() {
        let mut keys = Keys::default();
        assert_eq!(keys.feed(b"\x1b"), []);
        assert!(keys.is_open());
        assert_eq!((keys.rest(), keys.is_open()), (Some(Key::Escape), false));
        assert_eq!(keys.feed(b"\x1b\x1b[A"), [Key::Escape, Key::Up]);
    }

    #[test]
    fn no_bytes_are_too_strange_and_none_are_kept_for_ever() {
        let mut keys = Keys::default();
        for byte in 0..=255 {
            let _ = keys.feed(&[byte; 3]);
        }
        let _ = keys.rest();
        let _ = keys.feed(b"\x1b[");
        let _ = keys.feed(&[b'1'; 100]);
        assert!(!keys.is_open());
        assert_eq!(keys.feed(b"\xff\xc3q"), [Key::Char('q')]);
    }
}
