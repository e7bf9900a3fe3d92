//! Asks a person about conflicts, one by one. What is asked, and what an answer means, is decided
//! here; who is asked is a [`Terminal`], so a test can be the person.
//!
//! What is held back (a guarded path) and what the sides disagree about are different questions:
//! an answer for *all like this* to one is none to the other.

#[cfg(test)]
pub(crate) mod person;

use std::io::{self, BufRead, Write};

use super::visible;
use crate::sync::decide::{Choice, refusal};
use crate::sync::plan::Conflict;

/// How often an answer that means nothing is asked for again, before the conflict is skipped: a
/// program that answers must not be asked for ever.
const TRIES_MAX: u32 = 5;

/// Where a person reads and writes.
pub trait Terminal {
    /// Shows text.
    ///
    /// # Errors
    /// If it cannot be shown.
    fn show(&mut self, text: &str) -> io::Result<()>;

    /// Shows a question and reads a line; nothing at the end of the input.
    ///
    /// # Errors
    /// If it cannot be shown or read.
    fn ask(&mut self, question: &str) -> io::Result<Option<String>>;
}

/// The terminal that this process has: questions on stderr, answers on stdin.
#[derive(Debug)]
pub struct Standard;

impl Terminal for Standard {
    fn show(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stderr().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn ask(&mut self, question: &str) -> io::Result<Option<String>> {
        self.show(question)?;
        let mut line = String::new();
        let count = io::stdin().lock().read_line(&mut line)?;
        Ok((count > 0).then_some(line))
    }
}

/// What a line means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    One(Choice),
    AllLikeThis(Choice),
    Diff,
    Skip,
    SkipAllLikeThis,
    Quit,
}

fn parse(line: &str) -> Option<Answer> {
    let line = line.trim();
    Some(match line {
        "h" | "host" => Answer::One(Choice::Host),
        "s" | "sandbox" => Answer::One(Choice::Sandbox),
        "b" | "both" => Answer::One(Choice::Both),
        "H" => Answer::AllLikeThis(Choice::Host),
        "S" => Answer::AllLikeThis(Choice::Sandbox),
        "B" => Answer::AllLikeThis(Choice::Both),
        "d" | "diff" => Answer::Diff,
        // Whoever only presses Enter has decided nothing.
        "k" | "skip" | "" => Answer::Skip,
        "K" => Answer::SkipAllLikeThis,
        "q" | "quit" => Answer::Quit,
        _ => return None,
    })
}

/// Asks about each conflict and returns those that were decided. `describe` shows one (several
/// lines), `diff` how its versions differ.
///
/// At the end of the input, and after `quit`, the rest is skipped; what was decided counts.
///
/// # Errors
/// If the terminal fails.
pub fn ask<'a>(
    conflicts: &[&'a Conflict],
    terminal: &mut dyn Terminal,
    describe: &dyn Fn(&Conflict) -> String,
    diff: &dyn Fn(&Conflict) -> String,
) -> io::Result<Vec<(&'a Conflict, Choice)>> {
    let mut decided = Vec::new();
    // The answers for all that the sides disagree about, and for all that is held back.
    let mut standing: [Option<Option<Choice>>; 2] = [None, None];
    for (at, conflict) in conflicts.iter().enumerate() {
        let like = usize::from(conflict.kind.is_held());
        let possible = |choice: &Choice| refusal(conflict, *choice).is_none();
        let choice = match standing[like] {
            Some(None) => None,
            Some(Some(choice)) if possible(&choice) => Some(choice),
            Some(Some(_)) | None => {
                terminal.show(&format!("\n{} of {}: ", at + 1, conflicts.len()))?;
                terminal.show(&describe(conflict))?;
                match ask_one(conflict, terminal, diff)? {
                    Answer::Quit => break,
                    Answer::One(choice) => Some(choice),
                    Answer::AllLikeThis(choice) => {
                        standing[like] = Some(Some(choice));
                        Some(choice)
                    }
                    Answer::SkipAllLikeThis => {
                        standing[like] = Some(None);
                        None
                    }
                    Answer::Skip | Answer::Diff => None,
                }
            }
        };
        decided.extend(choice.map(|choice| (*conflict, choice)));
    }
    Ok(decided)
}

fn ask_one(
    conflict: &Conflict,
    terminal: &mut dyn Terminal,
    diff: &dyn Fn(&Conflict) -> String,
) -> io::Result<Answer> {
    let question = question(conflict);
    let mut tries = 0;
    while tries < TRIES_MAX {
        let Some(line) = terminal.ask(&question)? else { return Ok(Answer::Quit) };
        match parse(&line) {
            Some(Answer::Diff) => terminal.show(&diff(conflict))?,
            Some(answer @ (Answer::One(choice) | Answer::AllLikeThis(choice))) => {
                match refusal(conflict, choice) {
                    None => return Ok(answer),
                    Some(reason) => terminal.show(&format!("{}\n", visible(&reason)))?,
                }
                tries += 1;
            }
            Some(answer @ (Answer::Skip | Answer::SkipAllLikeThis | Answer::Quit)) => {
                return Ok(answer);
            }
            None => {
                terminal.show("a letter is meant; a capital one answers for all like this\n")?;
                tries += 1;
            }
        }
    }
    Ok(Answer::Skip)
}

fn question(conflict: &Conflict) -> String {
    let words = if conflict.kind.is_held() {
        [(Choice::Sandbox, "[s]andbox: let it come"), (Choice::Host, "[h]ost: discard it")].to_vec()
    } else {
        [(Choice::Host, "[h]ost"), (Choice::Sandbox, "[s]andbox"), (Choice::Both, "[b]oth")]
            .to_vec()
    };
    let possible = words.into_iter().filter(|(choice, _)| refusal(conflict, *choice).is_none());
    let possible: Vec<_> = possible.map(|(_, word)| word).collect();
    format!("{}, [d]iff, s[k]ip, [q]uit? ", possible.join(", "))
}

#[cfg(test)]
mod tests {
    use super::person::Person;
    use super::*;
    use crate::sync::plan::{ConflictKind, Side};
    use skync_agent::entry::Entry;
    use skync_agent::path::SyncPath;

    fn conflict(at: &str, kind: ConflictKind) -> Conflict {
        let link = |target: &[u8]| Some(Entry::Symlink(target.into()));
        Conflict {
            path: SyncPath::parse(at.as_bytes()).expect("a path"),
            host: link(b"h"),
            sandbox: link(b"s"),
            ancestor: None,
            contents: None,
            kind,
        }
    }

    fn asked(kinds: &[ConflictKind], answers: &[&'static str]) -> (Vec<String>, String) {
        let names = ["a", "b", "c", "d", "e"];
        let conflicts: Vec<_> = names.iter().zip(kinds).map(|(n, k)| conflict(n, *k)).collect();
        let mut person = Person::with(answers);
        let conflicts: Vec<_> = conflicts.iter().collect();
        let describe = |c: &Conflict| format!("{}\n", c.path);
        let decided =
            ask(&conflicts, &mut person, &describe, &|_| "the diff\n".to_owned()).expect("asked");
        let decided = decided.iter().map(|(c, choice)| format!("{} {choice:?}", c.path)).collect();
        (decided, person.said)
    }

    const BOTH: ConflictKind = ConflictKind::BothChanged;
    const GUARDED: ConflictKind = ConflictKind::Guarded;

    #[test]
    fn each_conflict_is_asked_about_and_each_answer_counts() {
        let (decided, said) = asked(&[BOTH; 5], &["h", "sandbox", "", "d", "b", "q"]);
        assert_eq!(decided, ["a Host", "b Sandbox", "d Both"]);
        insta::assert_snapshot!(said.trim_start(), @r"
        1 of 5: a
        [h]ost, [s]andbox, [b]oth, [d]iff, s[k]ip, [q]uit? h

        2 of 5: b
        [h]ost, [s]andbox, [b]oth, [d]iff, s[k]ip, [q]uit? sandbox

        3 of 5: c
        [h]ost, [s]andbox, [b]oth, [d]iff, s[k]ip, [q]uit? 

        4 of 5: d
        [h]ost, [s]andbox, [b]oth, [d]iff, s[k]ip, [q]uit? d
        the diff
        [h]ost, [s]andbox, [b]oth, [d]iff, s[k]ip, [q]uit? b

        5 of 5: e
        [h]ost, [s]andbox, [b]oth, [d]iff, s[k]ip, [q]uit? q
        ");
    }

    #[test]
    fn the_end_of_the_input_skips_the_rest() {
        assert_eq!(asked(&[BOTH; 3], &["h"]).0, ["a Host"]);
    }

    #[test]
    fn an_answer_for_all_is_for_all_of_its_kind_only() {
        let (decided, said) = asked(&[BOTH, GUARDED, BOTH, GUARDED, BOTH], &["S", "k", "k"]);
        assert_eq!(decided, ["a Sandbox", "c Sandbox", "e Sandbox"]);
        assert_eq!(said.matches("let it come").count(), 2);
        let (decided, _) = asked(&[GUARDED, BOTH, GUARDED], &["S", "h"]);
        assert_eq!(decided, ["a Sandbox", "b Host", "c Sandbox"]);
        assert_eq!(asked(&[BOTH; 5], &["h", "K"]).0, ["a Host"]);
    }

    #[test]
    fn what_cannot_be_chosen_is_not_offered_and_refused_with_a_reason() {
        let blocked = ConflictKind::Blocked(Side::Host);
        let (decided, said) = asked(&[blocked], &["s", "h"]);
        assert_eq!(decided, ["a Host"]);
        assert!(said.contains("\n[h]ost, [b]oth, [d]iff"), "{said}");
        assert!(said.contains("is in the way and is never written over"), "{said}");
        // One answer for all is no answer where it cannot be.
        assert_eq!(asked(&[BOTH, blocked, BOTH], &["S", "k"]).0, ["a Sandbox", "c Sandbox"]);
    }

    #[test]
    fn an_answer_that_means_nothing_is_asked_for_again_and_not_for_ever() {
        let (decided, said) = asked(&[BOTH, BOTH], &["x", "yes", "?", "1", "HOST", "h"]);
        assert_eq!(decided, ["b Host"]);
        assert_eq!(said.matches("a letter is meant").count(), 5);
    }
}
