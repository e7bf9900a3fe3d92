//! Which profile is meant, and why: a function from values to values.

use std::fmt;
use std::ops::Range;

use super::file::{Config, ConfigError};
use super::sources::{Level, Place};
use super::{ConfigProblem, Profile, judge};

/// What made a profile the selected one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `--profile NAME`.
    Flag,
    /// The variable `SKYNC_PROFILE`.
    Environment,
    /// `[projects."/path"]` in the user's own file, written by `skync use --here`.
    ChosenHere,
    /// `profile` in the project's `skync.local.toml`.
    ProjectLocal,
    /// `profile` in the project's `skync.toml`.
    Project,
    /// `profile` in the user's own file, written by `skync profile use`.
    Active,
    /// `profile` in the administrator's file.
    System,
    /// It is the only one there is.
    Sole,
    /// Nothing says otherwise.
    BuiltIn,
}

impl Origin {
    /// What a file of this level is as an origin.
    pub(super) fn of(level: Level) -> Self {
        match level {
            Level::System => Self::System,
            Level::User => Self::Active,
            Level::Project => Self::Project,
            Level::ProjectLocal => Self::ProjectLocal,
            Level::Variable => Self::Environment,
            Level::Flag => Self::Flag,
        }
    }

    /// A word for programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::ChosenHere => "chosen-here",
            Self::ProjectLocal => "project-local",
            Self::Project => "project",
            Self::Active => "active",
            Self::System => "system",
            Self::Sole => "sole",
            Self::BuiltIn => "built-in",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "because of `--profile`",
            Self::Environment => "because of SKYNC_PROFILE",
            Self::ChosenHere => "because of `skync use` in this project",
            Self::ProjectLocal => "because of the project's `skync.local.toml`",
            Self::Project => "because of the project's `skync.toml`",
            Self::Active => "because of `skync profile use`",
            Self::System => "because of the configuration of this machine",
            Self::Sole => "because it is the only profile in the configuration",
            Self::BuiltIn => "because no profile was chosen",
        })
    }
}

/// What one file says about which profile is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The profile's name.
    pub name: String,
    /// What it is.
    pub why: Origin,
    /// Who says it.
    pub level: Level,
    /// Where.
    pub place: Option<Place>,
    pub(super) span: Option<Range<usize>>,
}

/// The profile to work with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The profile.
    pub profile: Profile,
    /// Why this one.
    pub why: Origin,
    /// What is wrong elsewhere; to be told, not to stop for.
    pub warnings: Vec<ConfigProblem>,
}

/// Says which name is meant, without asking whether it can be used.
///
/// An empty name counts as none: `SKYNC_PROFILE= skync …` is how a variable is switched off.
pub fn choose(config: &Config, flag: Option<&str>, env: Option<&str>) -> (String, Origin) {
    let given = |name: Option<&str>| name.filter(|name| !name.is_empty()).map(str::to_owned);
    if let Some(name) = given(flag) {
        return (name, Origin::Flag);
    }
    if let Some(name) = given(env) {
        return (name, Origin::Environment);
    }
    // The user's own word for this project outranks what the project's files say.
    let mut choices: Vec<_> = config.choices.iter().filter(|one| !one.name.is_empty()).collect();
    choices.sort_by_key(|choice| choice.why as u8);
    if let Some(choice) = choices.first() {
        return (choice.name.clone(), choice.why);
    }
    match config.named.as_slice() {
        [name] => (name.clone(), Origin::Sole),
        _ => ("directory".to_owned(), Origin::BuiltIn),
    }
}

impl Config {
    /// Selects a profile: `--profile`, then SKYNC_PROFILE, then what the files say (the user's for this
    /// project, the project's, the user's, the administrator's), then the sole profile, then the
    /// built-in `directory`.
    ///
    /// # Errors
    /// If there is no such profile, if it has a problem, if it rests on what a project says and the
    /// user has not let count ([`ConfigError::Untrusted`]), or if the choice rests on the file and the
    /// file has problems outside its profiles: running in another sandbox than the one that was
    /// meant is worse than not running.
    pub fn select(&self, flag: Option<&str>, env: Option<&str>) -> Result<Selected, ConfigError> {
        let (name, why) = choose(self, flag, env);
        let named = matches!(why, Origin::Flag | Origin::Environment);
        let unusable = |problems: Vec<ConfigProblem>| ConfigError::Problems {
            what: format!("cannot use the profile `{name}`"),
            file: self.file.clone(),
            problems,
        };
        if !named && !self.problems.is_empty() {
            return Err(ConfigError::Problems {
                what: "cannot tell which profile is meant".to_owned(),
                file: self.file.clone(),
                problems: self.problems.clone(),
            });
        }
        match self.profile(&name) {
            Some(Ok(mut profile)) => {
                profile.project_files = self.layers.digests();
                judge::check(self, &name, why, &profile)?;
                Ok(Selected { profile, why, warnings: self.all_problems() })
            }
            Some(Err(problems)) => Err(unusable(problems)),
            // In a file that could not be read to its end, the name may be in the rest.
            None if !self.problems.is_empty() => Err(unusable(self.problems.clone())),
            None => Err(ConfigError::UnknownProfile {
                why: if why == Origin::Flag { String::new() } else { format!(", chosen {why}") },
                known: self.names(),
                name,
            }),
        }
    }
}
