//! Reads `config.toml`: its profiles, each checked, and everything else that is wrong in it.

use std::path::{Path, PathBuf};

use toml_edit::{Document, Item, Key};

use super::problem::{Bad, ConfigProblem, Source};
use super::{Profile, check, list, nearest};
use crate::error::{CliError, ExitCode};
use crate::state::{self, StateError};
use crate::ui::visible;

/// Longest configuration file, in bytes; what is longer is something else.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most syntax errors that are looked for; a file with more of them is not TOML.
const SYNTAX_ERRORS_MAX: usize = 20;

/// What went wrong with the configuration as a whole.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file of ours could not be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Something that is needed is wrong in the file.
    #[error("{what}: {} in `{}`", count(problems.len()), file.display())]
    Problems {
        /// What could not be done.
        what: String,
        /// The file.
        file: PathBuf,
        /// All that stands in the way.
        problems: Vec<ConfigProblem>,
    },
    /// No profile has this name.
    #[error("there is no profile `{}`{why}", visible(name))]
    UnknownProfile {
        /// The name.
        name: String,
        /// Where the name came from, for the message; empty if the user just gave it.
        why: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// Something with this name is there already.
    #[error("the profile `{}` is there already", visible(name))]
    Exists {
        /// The name.
        name: String,
    },
    /// A built-in profile was to be changed.
    #[error("the profile `{name}` is built in and cannot be removed")]
    BuiltIn {
        /// The name.
        name: String,
    },
    /// What was to be added is wrong; the problems have no place in a file.
    #[error("cannot add the profile `{}`", visible(name))]
    Refused {
        /// The name.
        name: String,
        /// All that is wrong with it.
        problems: Vec<ConfigProblem>,
    },
}

fn count(problems: usize) -> String {
    if problems == 1 { "1 problem".to_owned() } else { format!("{problems} problems") }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let message = error.to_string();
        match error {
            ConfigError::State(error) => Self::from(error),
            ConfigError::Problems { problems, .. } => {
                let mut shown = Self::new(ExitCode::Config, message);
                shown.details = problems.iter().map(ConfigProblem::render).collect();
                shown
            }
            ConfigError::UnknownProfile { name, known, .. } => {
                let mut shown = Self::new(ExitCode::NotFound, message);
                if let Some(near) = nearest(&name, known.iter().map(String::as_str)) {
                    shown = shown.hint(format!("did you mean `{near}`?"));
                }
                shown.hint(format!("there is {}", list(known.iter().map(String::as_str))))
            }
            ConfigError::Exists { .. } => Self::new(ExitCode::Config, message)
                .hint("`--force` replaces it; another name adds a second one"),
            ConfigError::BuiltIn { .. } => Self::new(ExitCode::Config, message),
            ConfigError::Refused { problems, .. } => {
                let mut shown = Self::new(ExitCode::Config, message);
                shown.details = problems
                    .into_iter()
                    .map(|problem| match problem.hint {
                        Some(hint) => format!("{}\n  = {hint}", problem.message),
                        None => problem.message,
                    })
                    .collect();
                shown
            }
        }
    }
}

impl From<StateError> for CliError {
    fn from(error: StateError) -> Self {
        let mut shown = Self::new(ExitCode::Config, error.to_string());
        if let Some(source) = std::error::Error::source(&error) {
            shown = shown.because(source);
        }
        shown.hints.extend(error.hint());
        shown
    }
}

/// The profile of one name: usable, or all that is wrong with it.
pub type Checked = Result<Profile, Vec<ConfigProblem>>;

/// A configuration file as far as it can be understood.
///
/// A problem in one profile leaves the others usable; what nothing can be concluded from is in
/// `problems`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The file, which need not exist.
    pub file: PathBuf,
    /// What `profile use` wrote.
    pub active: Option<String>,
    /// The profiles of the file, in its order.
    pub profiles: Vec<(String, Checked)>,
    /// What is wrong outside the profiles: syntax, keys at the top.
    pub problems: Vec<ConfigProblem>,
    /// Syntax errors hide a part of the file. No profile of it is used then: what is hidden could
    /// be its limits.
    pub partly_hidden: bool,
}

impl Config {
    /// Reads a file; a missing one is an empty one.
    ///
    /// # Errors
    /// If it is there and cannot be read. What is wrong in it is no error here.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Ok(Self::parse(file, &state::read(file, FILE_BYTES_MAX)?.unwrap_or_default()))
    }

    /// Reads what is in a file.
    pub fn parse(file: &Path, bytes: &[u8]) -> Self {
        let mut config = Self { file: file.to_owned(), ..Self::default() };
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
            Err(error) => {
                let at = error.valid_up_to();
                let lossy = String::from_utf8_lossy(bytes);
                let source = Source { file, text: &lossy };
                let bad = Bad::new("the file is not UTF-8").hint("save it as UTF-8");
                config.partly_hidden = true;
                config.problems.push(source.problem(Some(at..at + 1), bad));
                return config;
            }
        };
        let source = Source { file, text };
        let (document, syntax) = parse_what_can_be(&source);
        let complete = syntax.is_empty();
        config.problems = syntax;
        config.partly_hidden = !complete;
        if let Some(document) = document {
            config.read_top(&source, &document, complete);
        }
        config
    }

    fn read_top(&mut self, source: &Source<'_>, document: &Document<String>, complete: bool) {
        let root = document.as_table();
        let report = |problems: &mut Vec<ConfigProblem>, span, bad| {
            problems.push(source.problem(span, bad));
        };
        for (name, item) in root.iter() {
            let key_span = root.key(name).and_then(Key::span);
            match (name, item.as_table_like()) {
                ("profiles", Some(profiles)) => {
                    for (name, item) in profiles.iter() {
                        // A key of a parsed table is always there; a missing one has no place.
                        let made = Key::new(name);
                        let key = profiles.key(name).unwrap_or(&made);
                        let checked = check::profile(source, key, item, complete);
                        self.profiles.push((name.to_owned(), checked));
                    }
                }
                ("profiles", None) => {
                    let bad = Bad::new("`profiles` must be a table")
                        .hint("begin a profile with `[profiles.NAME]`");
                    report(&mut self.problems, item.span(), bad);
                }
                ("profile", Some(_)) => {
                    let bad = Bad::new("`profile` is the name of the profile in use")
                        .hint("did you mean `[profiles.NAME]`?");
                    report(&mut self.problems, key_span.or_else(|| item.span()), bad);
                }
                ("profile", None) => match item.as_str() {
                    Some(name) => self.active = Some(name.to_owned()),
                    None => {
                        let bad = Bad::new("`profile` must be the name of a profile, in quotes");
                        report(&mut self.problems, item.span(), bad);
                    }
                },
                _ => report(&mut self.problems, key_span, unknown_top_key(name, item)),
            }
        }
        self.check_active(source, root.get("profile"), complete);
    }

    /// The name in `profile` must be that of a profile.
    fn check_active(&mut self, source: &Source<'_>, item: Option<&Item>, complete: bool) {
        let Some(active) = &self.active else { return };
        if !complete || self.profile(active).is_some() {
            return;
        }
        let names = self.names();
        let bad = Bad::new(format!("there is no profile `{}`", visible(active)));
        let bad = match nearest(active, names.iter().map(String::as_str)) {
            Some(near) => bad.hint(format!("did you mean `{near}`?")),
            None => bad.hint(format!("there is {}", list(names.iter().map(String::as_str)))),
        };
        self.problems.push(source.problem(item.and_then(Item::span), bad));
    }

    /// The profile of this name, built-in ones included; `None` if there is none.
    pub fn profile(&self, name: &str) -> Option<Checked> {
        if let Some(built_in) = Profile::built_in(name) {
            return Some(Ok(built_in));
        }
        let (_, checked) = self.profiles.iter().find(|(found, _)| found == name)?;
        if !self.partly_hidden {
            return Some(checked.clone());
        }
        let own = checked.as_ref().err().into_iter().flatten();
        Some(Err(self.problems.iter().chain(own).cloned().collect()))
    }

    /// The names of all profiles: the file's in its order, then the built-in ones.
    pub fn names(&self) -> Vec<String> {
        let own = self.profiles.iter().map(|(name, _)| name.as_str());
        let own = own.filter(|name| !super::BUILT_IN.contains(name));
        own.chain(super::BUILT_IN).map(str::to_owned).collect()
    }

    /// Everything that is wrong in the file, in the order of its lines.
    pub fn all_problems(&self) -> Vec<ConfigProblem> {
        let of_profiles = self.profiles.iter().filter_map(|(_, checked)| checked.as_ref().err());
        let mut all: Vec<_> = self.problems.iter().chain(of_profiles.flatten()).cloned().collect();
        all.sort_by_key(|problem| (problem.line, problem.column));
        all
    }
}

fn unknown_top_key(name: &str, item: &Item) -> Bad {
    let bad = Bad::new(format!("unknown key `{}`", visible(name)));
    match nearest(name, ["profile", "profiles"]) {
        Some(_) if item.is_table_like() => bad.hint("did you mean `profiles`?"),
        Some(near) => bad.hint(format!("did you mean `{near}`?")),
        None if item.is_table_like() => {
            bad.hint(format!("the table of a profile begins with `[profiles.{}]`", visible(name)))
        }
        None => {
            bad.hint("there is `profile` and `profiles`; settings belong below `[profiles.NAME]`")
        }
    }
}

/// Parses the text; where a line cannot be read, it is blanked and the rest is parsed, so that one
/// pass finds the errors of all lines. Gives up where an error may reach over several lines.
fn parse_what_can_be(source: &Source<'_>) -> (Option<Document<String>>, Vec<ConfigProblem>) {
    let mut text = source.text.to_owned();
    let mut problems: Vec<ConfigProblem> = Vec::new();
    loop {
        let error = match Document::parse(text.clone()) {
            Ok(document) => return (Some(document), problems),
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let problem = source.problem(Some(span.clone()), syntax(error.message()));
        let first_of_its_line = problems.iter().all(|known| known.line != problem.line);
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

#[cfg(test)]
mod tests;
