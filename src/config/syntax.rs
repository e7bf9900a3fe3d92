//! Reads TOML, also where some of its lines are none.

use toml_edit::Document;

use super::problem::{Bad, ConfigProblem};
use super::sources::Sources;
use crate::ui::visible;

/// Most syntax errors that are looked for; a file with more of them is not TOML.
const SYNTAX_ERRORS_MAX: usize = 20;

/// Parses the text; where a line cannot be read, it is blanked and the rest is parsed, so that one
/// pass finds the errors of all lines. Gives up where an error may reach over several lines.
pub(super) fn parse_what_can_be(
    source: &Sources,
    mut text: String,
) -> (Option<Document<String>>, Vec<ConfigProblem>) {
    let mut problems: Vec<ConfigProblem> = Vec::new();
    loop {
        let error = match Document::parse(text.clone()) {
            Ok(document) => return (Some(document), problems),
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let problem = source.problem(Some(span.clone()), syntax(error.message()));
        let first_of_its_line =
            problems.iter().all(|known| (known.line, &known.file) != (problem.line, &problem.file));
        if !first_of_its_line || problems.len() == SYNTAX_ERRORS_MAX {
            return (None, problems);
        }
        problems.push(problem);
        // Blanked with spaces, so that every later place stays where it is.
        let Some(line) = blankable_line(&text, span.start) else {
            return (None, problems);
        };
        let blank = " ".repeat(line.len());
        text.replace_range(line, &blank);
    }
}

/// The line around `at`, if it can only be a `key = value` of its own.
fn blankable_line(text: &str, at: usize) -> Option<std::ops::Range<usize>> {
    let at = text.floor_char_boundary(at);
    let start = text[..at].rfind('\n').map_or(0, |found| found + 1);
    let end = text[at..].find('\n').map_or(text.len(), |found| at + found);
    let line = &text[start..end];
    let (key, value) = line.split_once('=')?;
    let plain_key = !key.trim().is_empty()
        && key.chars().all(|c| c.is_alphanumeric() || "_-. \t\"'".contains(c));
    let one_line = !value.contains("\"\"\"")
        && !value.contains("'''")
        && value.matches(['[', '{']).count() == value.matches([']', '}']).count();
    (plain_key && one_line).then_some(start..end)
}

fn syntax(message: &str) -> Bad {
    let message = message.lines().next().unwrap_or(message);
    match message.split_once(", expected") {
        // The parser goes on to name a kind of quotes that nobody needs.
        Some(("string values must be quoted", _)) => {
            Bad::new("syntax error: text must be in quotes")
        }
        Some(_) | None => Bad::new(format!("syntax error: {}", visible(message))),
    }
}
