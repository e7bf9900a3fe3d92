//! Where keys are looked for: the environment, the home directory, the keychain; or what a test has
//! in their place.

use std::path::{Path, PathBuf};

use super::{Login, Provider, Secret};
use crate::state::Places;

/// The item of all profiles of a driver; no profile can have this name.
pub const EVERY_PROFILE: &str = "-";

/// How the keychain is asked.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Not at all.
    Off,
    /// Without anybody to unlock it: what is locked is an error.
    Quick,
    /// With a person who may unlock it, who is told so by this.
    Patient(fn(&str)),
}

/// Where the keys of a profile are looked for.
#[derive(Clone)]
pub struct Surroundings {
    /// Some of them are keys.
    variables: Vec<(String, Secret)>,
    pub(super) home: Option<PathBuf>,
    pub(super) config: Option<PathBuf>,
    /// Our state directory, with the file of keys.
    pub(super) state: Option<PathBuf>,
    pub(super) profile: String,
    pub(super) command: Option<Vec<String>>,
    pub(super) keychain: Manner,
    /// The only key that counts.
    pub(super) given: Option<Login>,
}

impl Surroundings {
    /// Those of this process, for all profiles of a driver.
    pub fn of_process() -> Self {
        let text = |name: std::ffi::OsString| name.into_string().ok();
        let own = Provider::ALL.map(Provider::variable);
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = text(name).filter(|n| {
                n.starts_with("E2B_") || n.starts_with("DAYTONA_") || own.contains(&n.as_str())
            })?;
            Some((name, Secret::of(text(value)?)))
        });
        let path = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let home = path("HOME");
        let config =
            path("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
        Self {
            variables: variables.collect(),
            home,
            config,
            state: Places::discover().ok().map(|places| places.state),
            profile: EVERY_PROFILE.to_owned(),
            command: None,
            keychain: Manner::Quick,
            given: None,
        }
    }

    /// These alone, and no keychain.
    pub fn of(variables: &[(&str, &str)], home: Option<&Path>) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), Secret::of((*value).into()));
        Self {
            variables: variables.iter().map(own).collect(),
            home: home.map(Path::to_owned),
            config: home.map(|home| home.join(".config")),
            state: home.map(|home| home.join(".local/state/skync")),
            profile: EVERY_PROFILE.to_owned(),
            command: None,
            keychain: Manner::Off,
            given: None,
        }
    }

    /// The same for one profile, with its `credential_command`.
    #[must_use]
    pub fn for_profile(mut self, name: &str, command: Option<&[String]>) -> Self {
        self.profile = name.to_owned();
        self.command = command.map(<[String]>::to_vec);
        self
    }

    /// The same with another way to ask the keychain.
    #[must_use]
    pub fn keychain(mut self, manner: Manner) -> Self {
        self.keychain = manner;
        self
    }

    /// The same with one key in the place of all that can be found.
    #[must_use]
    pub fn only(mut self, login: Login) -> Self {
        self.given = Some(login);
        self
    }

    /// A variable that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let found = self.variables.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.reveal().trim()).filter(|value| !value.is_empty())
    }
}
