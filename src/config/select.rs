//! Which profile is meant, and why: a function from values to values.

use std::fmt;

use super::file::{Config, ConfigError};
use super::{ConfigProblem, Profile};

/// What made a profile the selected one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `--profile NAME`.
    Flag,
    /// The variable `SKYNC_PROFILE`.
    Environment,
    /// `profile` in the configuration file, written by `skync profile use`.
    Active,
    /// It is the only one in the file.
    Sole,
    /// Nothing says otherwise.
    BuiltIn,
}

impl Origin {
    /// A word for programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::Active => "active",
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
            Self::Active => "because of `skync profile use`",
            Self::Sole => "because it is the only profile in the configuration",
            Self::BuiltIn => "because no profile was chosen",
        })
    }
}

/// The profile to work with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The profile.
    pub profile: Profile,
    /// Why this one.
    pub why: Origin,
    /// What is wrong elsewhere in the file; to be told, not to stop for.
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
    if let Some(name) = given(config.active.as_deref()) {
        return (name, Origin::Active);
    }
    match config.profiles.as_slice() {
        [(name, _)] => (name.clone(), Origin::Sole),
        _ => ("directory".to_owned(), Origin::BuiltIn),
    }
}

impl Config {
    /// Selects a profile: `--profile`, then SKYNC_PROFILE, then what `profile use` wrote, then the
    /// sole profile of the file, then the built-in `directory`.
    ///
    /// # Errors
    /// If there is no such profile, if it has a problem, or if the choice rests on the file and the
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
            Some(Ok(profile)) => Ok(Selected { profile, why, warnings: self.all_problems() }),
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
