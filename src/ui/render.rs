//! Shows a [`CliError`]: what happened, why, what to do; or one JSON document of the same.

use std::io::IsTerminal;

use serde_json::json;

use super::{print, say, visible};
use crate::cli::ColorChoice;
use crate::credentials::mask::mask;
use crate::error::CliError;

/// The version of every JSON document that skync prints.
///
/// History: 1 is the first.
pub const SCHEMA_VERSION: u32 = 1;

/// Whether to use colours on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Colours are used.
    pub color: bool,
}

impl Style {
    /// Decides by `--color`, then NO_COLOR, then FORCE_COLOR or CLICOLOR_FORCE, then the terminal.
    pub fn of_stderr(choice: ColorChoice) -> Self {
        Self::decide(choice, variable, std::io::stderr().is_terminal())
    }

    /// The same for what goes to stdout, as `--help` does.
    pub fn of_stdout(choice: ColorChoice) -> Self {
        Self::decide(choice, variable, std::io::stdout().is_terminal())
    }

    fn decide(
        choice: ColorChoice,
        variable: impl Fn(&str) -> Option<String>,
        terminal: bool,
    ) -> Self {
        let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        let forced = |name: &str| set(name) && variable(name).as_deref() != Some("0");
        let color = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if set("NO_COLOR") => false,
            ColorChoice::Auto if forced("FORCE_COLOR") || forced("CLICOLOR_FORCE") => true,
            ColorChoice::Auto => terminal && variable("TERM").as_deref() != Some("dumb"),
        };
        Self { color }
    }

    /// The text, less bright than what is around it.
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Tells a person (stderr) or a program (`json`: stdout) of an error.
pub fn error(error: &CliError, json: bool, style: Style) {
    let error = &error.clone().with_way_forward();
    if json {
        let document = error_document(error).to_string();
        let document = mask(&document);
        // stdout may be what failed: a program that looks for its document finds it on the other stream.
        if print(&format!("{document}\n")).is_err() {
            say(&document);
        }
    } else {
        say(error_text(error, style).trim_end());
    }
}

/// Tells a person of something that is wrong and does not stop us.
pub fn warning(text: &str, style: Style) {
    say(&format!("{} {}", style.paint("1;33", "warning:"), visible(text)));
}

/// An error for a terminal, several lines.
pub fn error_text(error: &CliError, style: Style) -> String {
    let mut out = format!("{} {}\n", style.paint("1;31", "error:"), visible(&error.message));
    for cause in &error.causes {
        out += &format!("  because: {}\n", visible(cause));
    }
    for block in &error.details {
        out.push('\n');
        for line in block.lines() {
            out += &format!("  {}\n", visible(line));
        }
    }
    if !error.hints.is_empty() {
        out.push('\n');
    }
    for hint in &error.hints {
        out += &format!("{} {}\n", style.paint("1;36", "hint:"), visible(hint));
    }
    out
}

/// An error for a program: the one document, or the last line of a stream, whose lines all have an
/// `event`.
pub fn error_document(error: &CliError) -> serde_json::Value {
    json!({
        "schema_version": SCHEMA_VERSION,
        "event": "error",
        "ok": false,
        "error": {
            "kind": error.code.kind(),
            "code": error.code as u8,
            "message": error.message,
            "causes": error.causes,
            "details": error.details,
            "hint": error.hints.first(),
            "hints": error.hints,
            "retryable": error.retryable,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ExitCode;

    fn decided(choice: ColorChoice, variables: &[(&str, &str)], terminal: bool) -> bool {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned())
        };
        Style::decide(choice, variable, terminal).color
    }

    #[test]
    fn colours_follow_flag_then_no_color_then_force_then_terminal() {
        let auto = ColorChoice::Auto;
        assert!(decided(auto, &[], true));
        assert!(!decided(auto, &[], false));
        assert!(!decided(auto, &[("TERM", "dumb")], true));
        assert!(!decided(auto, &[("NO_COLOR", "1"), ("FORCE_COLOR", "1")], true));
        assert!(decided(auto, &[("NO_COLOR", "")], true));
        assert!(decided(auto, &[("FORCE_COLOR", "1")], false));
        assert!(!decided(auto, &[("CLICOLOR_FORCE", "0")], false));
        assert!(decided(ColorChoice::Always, &[("NO_COLOR", "1")], false));
        assert!(!decided(ColorChoice::Never, &[("FORCE_COLOR", "1")], true));
    }

    fn example() -> CliError {
        let cause = std::io::Error::other("no such\x1b[31m file");
        let mut error = CliError::new(ExitCode::Config, "cannot read `a`")
            .because(&cause)
            .hint("make it")
            .hint("or not");
        error.details.push("a:1:1: wrong\n  |".to_owned());
        error
    }

    #[test]
    fn an_error_says_what_why_where_and_what_to_do() {
        let plain = error_text(&example(), Style { color: false });
        insta::assert_snapshot!(plain, @r"
        error: cannot read `a`
          because: no such\u{1b}[31m file

          a:1:1: wrong
            |

        hint: make it
        hint: or not
        ");
    }

    #[test]
    fn colours_are_on_the_first_words_only() {
        let error = CliError::new(ExitCode::Failed, "no").hint("yes");
        let coloured = error_text(&error, Style { color: true });
        assert_eq!(coloured, "\x1b[1;31merror:\x1b[0m no\n\n\x1b[1;36mhint:\x1b[0m yes\n");
    }

    #[test]
    fn an_error_for_programs_has_the_same_facts() {
        let document = error_document(&example());
        assert_eq!(document["schema_version"], 1);
        assert_eq!(document["ok"], false);
        assert_eq!(document["error"]["kind"], "config");
        assert_eq!(document["error"]["code"], 3);
        assert_eq!(document["error"]["message"], "cannot read `a`");
        assert_eq!(document["error"]["hint"], "make it");
        assert_eq!(document["error"]["hints"], json!(["make it", "or not"]));
        assert_eq!(document["error"]["retryable"], false);
        let silent = error_document(&CliError::new(ExitCode::Unreachable, "no"));
        assert_eq!(silent["error"]["hint"], serde_json::Value::Null);
        assert_eq!(silent["error"]["retryable"], true);
    }
}
