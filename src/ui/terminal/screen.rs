//! What a program has switched on at the terminal, so that it can be switched off when the program
//! is left, or killed, in the middle of it. Pure: bytes in, bytes out.
//!
//! Private modes only (`ESC [ ? … h`): they are what makes a shell unusable afterwards. Colours and
//! the like are reset with them.

use std::collections::BTreeSet;

/// Modes that are on only while a program wants it: application keys, mouse, focus, alternate screen,
/// bracketed paste.
const OFF_NORMALLY: [u16; 12] = [1, 47, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1047, 1049, 2004];
/// The cursor is shown.
const CURSOR: u16 = 25;
/// Longest sequence that is followed: a longer one is no switch.
const SEQUENCE_MAX: usize = 64;

/// Follows what a program writes.
#[derive(Debug, Default)]
pub struct Screen {
    on: BTreeSet<u16>,
    is_cursor_hidden: bool,
    /// A sequence that has begun, without its `ESC`; it may go on in the next piece.
    sequence: Option<Vec<u8>>,
}

impl Screen {
    /// Looks at a piece of output.
    pub fn see(&mut self, output: &[u8]) {
        for &byte in output {
            if byte == 0x1b {
                self.sequence = Some(Vec::new());
                continue;
            }
            let Some(sequence) = &mut self.sequence else { continue };
            sequence.push(byte);
            let goes_on = match &sequence[..] {
                [b'['] | [b'[', b'?'] => true,
                [b'[', b'?', rest @ ..] => {
                    rest.iter().all(|byte| byte.is_ascii_digit() || *byte == b';')
                }
                _ => false,
            };
            if !goes_on || sequence.len() > SEQUENCE_MAX {
                let sequence = std::mem::take(sequence);
                self.sequence = None;
                self.switch(&sequence);
            }
        }
    }

    fn switch(&mut self, sequence: &[u8]) {
        let [b'[', b'?', modes @ .., last @ (b'h' | b'l')] = sequence else { return };
        let is_on = *last == b'h';
        let modes = modes.split(|byte| *byte == b';');
        let modes = modes.filter_map(|mode| std::str::from_utf8(mode).ok()?.parse::<u16>().ok());
        for mode in modes {
            if mode == CURSOR {
                self.is_cursor_hidden = !is_on;
            } else if OFF_NORMALLY.contains(&mode) {
                if is_on {
                    self.on.insert(mode);
                } else {
                    self.on.remove(&mode);
                }
            }
        }
    }

    /// What puts the terminal back; nothing if it is as it should be.
    pub fn undo(&mut self) -> String {
        let mut text = String::new();
        // The alternate screen last: it is there that the others were switched on.
        for mode in std::mem::take(&mut self.on) {
            text += &format!("\x1b[?{mode}l");
        }
        if std::mem::take(&mut self.is_cursor_hidden) {
            text += "\x1b[?25h";
        }
        if !text.is_empty() {
            text += "\x1b[0m";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(output: &str, undo: &str) {
        for cut in 0..=output.len() {
            let mut screen = Screen::default();
            screen.see(&output.as_bytes()[..cut]);
            screen.see(&output.as_bytes()[cut..]);
            assert_eq!(screen.undo(), undo, "cut at {cut}");
            assert_eq!(screen.undo(), "");
        }
    }

    #[test]
    fn what_was_switched_on_and_not_off_is_switched_off() {
        for (output, undo) in [
            ("plain text", ""),
            ("\x1b[31mred\x1b[0m", ""),
            ("\x1b[?1049h\x1b[?25lvim", "\x1b[?1049l\x1b[?25h\x1b[0m"),
            ("\x1b[?1049hvim\x1b[?1049l", ""),
            ("\x1b[?1000;1006hmouse", "\x1b[?1000l\x1b[?1006l\x1b[0m"),
            ("\x1b[?2004h$ \x1b[?2004l\r", ""),
            ("\x1b[?25l\x1b[?25h", ""),
            ("\x1b[?7h\x1b[?12h", ""),
            ("\x1b\x1b[?1h", "\x1b[?1l\x1b[0m"),
            ("\x1b[?99999999h", ""),
        ] {
            check(output, undo);
        }
    }

    #[test]
    fn a_sequence_without_an_end_takes_no_room() {
        let mut screen = Screen::default();
        screen.see(b"\x1b[?");
        screen.see(&[b'1'; 1000]);
        assert!(screen.sequence.is_none());
    }
}
