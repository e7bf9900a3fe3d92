//! What can be wrong with the configuration as a whole.

use std::path::{Path, PathBuf};

use super::problem::ConfigProblem;
use super::{list, nearest};
use crate::error::{CliError, ExitCode};
use crate::state::StateError;
use crate::ui::visible;

/// What went wrong with the configuration as a whole.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file of ours could not be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Something that is needed is wrong in the file.
    #[error("{what}: {} in {}", count(problems.len()), place(problems, file))]
    Problems {
        /// What could not be done.
        what: String,
        /// The file.
        file: PathBuf,
        /// All that stands in the way.
        problems: Vec<ConfigProblem>,
    },
    /// A file of the project says what counts only when the user has let it.
    #[error(
        "`{}` {}",
        visible(&file.display().to_string()),
        untrusted(*changed, *gone)
    )]
    Untrusted {
        /// The file.
        file: PathBuf,
        /// It was trusted, with another content.
        changed: bool,
        /// It was trusted, and is not there any more.
        gone: bool,
        /// What it says, with the reason why that does not count.
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

/// The one file, variable or flag that all problems are in, or that there are several.
fn place(problems: &[ConfigProblem], file: &Path) -> String {
    let first = problems.first().map_or(file, |problem| &problem.file);
    if problems.iter().all(|problem| problem.file == *first) {
        return format!("`{}`", visible(&first.display().to_string()));
    }
    "several places".to_owned()
}

fn untrusted(changed: bool, gone: bool) -> &'static str {
    match (changed, gone) {
        (_, true) => "was trusted and is not there any more",
        (true, false) => "has changed since it was trusted",
        (false, false) => "is not trusted",
    }
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
            ConfigError::Untrusted { problems, gone, .. } => {
                let mut shown = Self::new(ExitCode::Config, message);
                shown.details = problems.iter().map(ConfigProblem::render).collect();
                if gone {
                    return shown.hint("put it back; or `skync trust --revoke` does without it");
                }
                shown.hint("`skync trust` shows all that it says, and lets it count")
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
            ConfigError::BuiltIn { .. } => {
                Self::new(ExitCode::Config, message).hint("`skync use NAME` chooses another one")
            }
            ConfigError::Refused { problems, .. } => {
                let mut shown = Self::new(ExitCode::Config, message)
                    .hint("nothing was written; give it again without what is named here");
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
