//! One thing that is wrong in the configuration, with the place, for a person.

use std::fmt;
use std::path::PathBuf;

use crate::ui::visible;

/// Longest part of a source line that is shown, in characters.
pub(super) const EXCERPT_CHARS_MAX: usize = 100;

/// Something wrong in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The file; what says it instead if that is a variable or a flag.
    pub file: PathBuf,
    /// A variable or a flag says it: then line and column mean nothing.
    pub outside: bool,
    /// Where in all layers: problems are told in this order.
    pub(super) at: usize,
    /// Its line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong: lower case, no stop, names in backticks.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// The line itself, for [`ConfigProblem::render`].
    pub(super) excerpt: String,
    /// How many characters of it are meant.
    pub(super) width: usize,
}

impl ConfigProblem {
    /// The problem with its source line, a caret and the hint; several lines, no final newline.
    pub fn render(&self) -> String {
        let mut out = self.to_string();
        if self.excerpt.chars().count() + 1 >= self.column && !self.excerpt.is_empty() {
            let number = self.line.to_string();
            let margin = " ".repeat(number.len());
            let indent = " ".repeat(self.column - 1);
            let carets = "^".repeat(self.width.max(1));
            out +=
                &format!("\n{margin} |\n{number} | {}\n{margin} | {indent}{carets}", self.excerpt);
        }
        if let Some(hint) = &self.hint {
            out += &format!("\n  = {hint}");
        }
        out
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = visible(&self.file.display().to_string());
        if self.outside {
            return write!(f, "{file}: {}", self.message);
        }
        write!(f, "{file}:{}:{}: {}", self.line, self.column, self.message)
    }
}

/// What is wrong with a value; the place is added by who knows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Bad {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// One source line as it can be shown: cut, without control characters, and without the value of a
/// variable that looks like a secret.
pub(super) fn excerpt(line: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    match line.split_once('=') {
        Some((name, _)) if looks_secret(line) => {
            format!("{}= …", name.replace(|c: char| c.is_control(), " "))
        }
        _ => line.trim_end().chars().take(EXCERPT_CHARS_MAX).map(plain).collect(),
    }
}

/// True if a variable of this name is likely to hold a secret, which is then not shown.
pub fn looks_secret(name: &str) -> bool {
    const PARTS: [&str; 8] = [
        "TOKEN",
        "SECRET",
        "PASSW",
        "CREDENTIAL",
        "API_KEY",
        "APIKEY",
        "ACCESS_KEY",
        "PRIVATE_KEY",
    ];
    let name = name.to_uppercase();
    PARTS.iter().any(|part| name.contains(part))
}
