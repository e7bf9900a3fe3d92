//! What a person types to skync itself while everything else goes to the command: `~` and a letter
//! at the start of a line, as in ssh. Pure: bytes in, bytes and wishes out.

/// The character that begins a wish.
const TILDE: u8 = b'~';

/// What a person wants of skync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// `~.`: leave; the command goes on.
    Detach,
    /// `~k`: stop the command and all that it started.
    Cancel,
    /// `~s`: one line on how things are.
    Status,
    /// `~?`: what there is.
    Help,
}

/// What there is, for `~?`.
pub const HELP: [&str; 5] = [
    "~.  leave; the command goes on",
    "~k  stop the command and everything that it started",
    "~s  how things are, in one line",
    "~~  send one ~",
    "They count at the start of a line.",
];

/// What comes of typed bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// For the command.
    Bytes(Vec<u8>),
    /// For us.
    Wish(Wish),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The next byte is the first of a line.
    LineStart,
    /// A `~` began the line; it is kept until the next byte says whose it is.
    Tilde,
    /// Within a line.
    Within,
    /// A terminal that hands over whole lines adds the end of the line to every wish.
    LineEnd,
}

/// Tells a person's wishes from the command's input, however the reads cut it.
#[derive(Debug)]
pub struct Escapes {
    state: State,
    by_lines: bool,
}

impl Escapes {
    /// At the start of a line. `by_lines`: the terminal is not raw, so a wish is followed by Enter,
    /// which is part of it.
    pub fn new(by_lines: bool) -> Self {
        Self { state: State::LineStart, by_lines }
    }

    /// What comes of these bytes, in their order. After [`Wish::Detach`] nothing does.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Typed> {
        let mut typed = Vec::new();
        let mut plain = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            let wish = self.step(byte, &mut plain);
            if let Some(wish) = wish {
                if !plain.is_empty() {
                    typed.push(Typed::Bytes(std::mem::take(&mut plain)));
                }
                typed.push(Typed::Wish(wish));
                if wish == Wish::Detach {
                    return typed;
                }
            }
        }
        if !plain.is_empty() {
            typed.push(Typed::Bytes(plain));
        }
        typed
    }

    /// What was kept back, at the end of the input.
    pub fn rest(&mut self) -> Vec<u8> {
        let kept = self.state == State::Tilde;
        self.state = State::LineStart;
        if kept { vec![TILDE] } else { Vec::new() }
    }

    fn step(&mut self, byte: u8, plain: &mut Vec<u8>) -> Option<Wish> {
        let after = |byte| match byte {
            b'\r' | b'\n' => State::LineStart,
            _ => State::Within,
        };
        match self.state {
            State::LineEnd if byte == b'\n' => {
                self.state = State::LineStart;
                return None;
            }
            State::LineStart | State::LineEnd if byte == TILDE => {
                self.state = State::Tilde;
                return None;
            }
            State::LineStart | State::LineEnd | State::Within => {
                self.state = after(byte);
                plain.push(byte);
                return None;
            }
            State::Tilde => {}
        }
        let wish = match byte {
            b'.' => Wish::Detach,
            b'k' => Wish::Cancel,
            b's' => Wish::Status,
            b'?' => Wish::Help,
            TILDE => {
                self.state = State::Within;
                plain.push(TILDE);
                return None;
            }
            other => {
                self.state = after(other);
                plain.extend([TILDE, other]);
                return None;
            }
        };
        // As in ssh, the line has not begun: one wish may follow another.
        self.state = if self.by_lines { State::LineEnd } else { State::LineStart };
        Some(wish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is typed, as text; wishes in brackets. The same however it is cut.
    #[track_caller]
    fn check(by_lines: bool, typed: &str, expected: &str) {
        for cut in 0..=typed.len() {
            let mut escapes = Escapes::new(by_lines);
            let mut seen = String::new();
            'parts: for part in [&typed[..cut], &typed[cut..]] {
                for typed in escapes.feed(part.as_bytes()) {
                    match typed {
                        Typed::Bytes(bytes) => seen += &String::from_utf8_lossy(&bytes),
                        Typed::Wish(wish) => seen += &format!("[{wish:?}]"),
                    }
                    if seen.ends_with("[Detach]") {
                        break 'parts;
                    }
                }
            }
            seen += &String::from_utf8_lossy(&escapes.rest());
            assert_eq!(seen, expected, "{typed:?} cut at {cut}");
        }
    }

    #[test]
    fn a_wish_counts_at_the_start_of_a_line_only() {
        for (typed, expected) in [
            ("~.", "[Detach]"),
            ("~.lost", "[Detach]"),
            ("~k", "[Cancel]"),
            ("~s~?", "[Status][Help]"),
            ("a~.", "a~."),
            ("a\r~.", "a\r[Detach]"),
            ("a\n~k\n", "a\n[Cancel]\n"),
            ("a\r\n~s", "a\r\n[Status]"),
            ("~~", "~"),
            ("~~.", "~."),
            ("~x~.", "~x~."),
            ("~\r~.", "~\r[Detach]"),
            ("~/bin\r", "~/bin\r"),
            ("~", "~"),
            ("", ""),
        ] {
            check(false, typed, expected);
        }
    }

    #[test]
    fn enter_behind_a_wish_is_part_of_it_where_lines_are_handed_over() {
        for (typed, expected) in [
            ("~k\nnext\n", "[Cancel]next\n"),
            ("~s\n~?\n~.\n", "[Status][Help][Detach]"),
            ("~s \n", "[Status] \n"),
            ("~x\n~s\n", "~x\n[Status]"),
        ] {
            check(true, typed, expected);
        }
    }
}
