//! All texts that say something, behind one another: a place in them is one number.
//!
//! Values of several layers are merged into one table before they are checked. Each text is parsed
//! behind as many empty lines as there are bytes in the texts before it, so that the places that the
//! parser notes are different in all of them, and a value still knows where it was said.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::problem::{Bad, ConfigProblem, EXCERPT_CHARS_MAX, excerpt};
use crate::ui::visible;

/// Who says something; what comes later here outranks what comes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The administrator's file.
    System,
    /// The user's own file.
    User,
    /// `skync.toml` of the project.
    Project,
    /// `skync.local.toml` of the project.
    ProjectLocal,
    /// A variable of the environment.
    Variable,
    /// A flag of the command line.
    Flag,
}

impl Level {
    /// A word for programs and tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Project => "project",
            Self::ProjectLocal => "project-local",
            Self::Variable => "variable",
            Self::Flag => "flag",
        }
    }

    /// True if it comes with the project, so from whoever wrote that.
    pub fn is_of_project(self) -> bool {
        matches!(self, Self::Project | Self::ProjectLocal)
    }
}

/// Where something is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// By whom.
    pub level: Level,
    /// The file, or the variable or flag.
    pub name: PathBuf,
    /// The line in the file, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = visible(&self.name.display().to_string());
        match self.level {
            Level::Variable | Level::Flag => f.write_str(&name),
            _ => write!(f, "{name}:{}", self.line),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Text {
    level: Level,
    name: PathBuf,
    text: String,
    start: usize,
}

/// The texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sources {
    texts: Vec<Text>,
}

impl Sources {
    /// Adds a text; returns what is to be parsed in its place.
    pub(super) fn add(&mut self, level: Level, name: &Path, text: &str) -> String {
        // One apart: the end of a text is not the start of the next.
        let start = self.texts.last().map_or(0, |last| last.start + last.text.len() + 1);
        self.texts.push(Text { level, name: name.to_owned(), text: text.to_owned(), start });
        "\n".repeat(start) + text
    }

    /// Where the text that was added last begins.
    pub(super) fn last_start(&self) -> usize {
        self.texts.last().map_or(0, |last| last.start)
    }

    fn around(&self, at: usize) -> Option<&Text> {
        let behind = self.texts.partition_point(|text| text.start <= at);
        self.texts.get(behind.saturating_sub(1))
    }

    /// The place, for a person.
    pub(super) fn place(&self, at: usize) -> Option<Place> {
        let text = self.around(at)?;
        let end = text.text.floor_char_boundary(at - text.start);
        let line = text.text[..end].matches('\n').count() + 1;
        Some(Place { level: text.level, name: text.name.clone(), line })
    }

    /// Puts a problem at a place; at the start of all if the place is not known.
    pub(super) fn problem(&self, span: Option<Range<usize>>, bad: Bad) -> ConfigProblem {
        let span = span.unwrap_or(0..0);
        let Bad { message, hint } = bad;
        let mut problem = ConfigProblem {
            file: PathBuf::new(),
            outside: false,
            at: span.start,
            line: 1,
            column: 1,
            message,
            hint,
            excerpt: String::new(),
            width: 0,
        };
        let Some(source) = self.around(span.start) else { return problem };
        problem.file.clone_from(&source.name);
        if matches!(source.level, Level::Variable | Level::Flag) {
            problem.outside = true;
            return problem;
        }
        let text = source.text.as_str();
        let start = text.floor_char_boundary(span.start - source.start);
        let end = text.floor_char_boundary(span.end.saturating_sub(source.start).max(start));
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let before = &text[line_start..start];
        let meant = &text[start..end.min(line_end).max(start)];
        problem.line = text[..start].matches('\n').count() + 1;
        problem.column = before.chars().count() + 1;
        problem.excerpt = excerpt(&text[line_start..line_end]);
        let room = EXCERPT_CHARS_MAX.saturating_sub(before.chars().count());
        problem.width = meant.chars().count().min(room);
        problem
    }
}
