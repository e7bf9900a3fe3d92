//! `skync auth …`: puts keys where they are safe, takes them away, and says which there are.

mod login;
mod logout;
mod status;

use super::Context;
use crate::cli::AuthCommand;
use crate::config::{DaytonaConfig, DriverConfig, E2bConfig, Profile, Selected};
use crate::credentials::keychain::Trouble;
use crate::credentials::{EVERY_PROFILE, KeyError, Keys, Manner, Provider, Surroundings};
use crate::error::{CliError, ExitCode};
use crate::ui::{say, visible};

/// Runs a verb of `skync auth`.
///
/// # Errors
/// What the verb could not do.
pub async fn run(command: &AuthCommand, context: &Context) -> Result<ExitCode, CliError> {
    match command {
        AuthCommand::Login(args) => login::run(args, context).await,
        AuthCommand::Logout(args) => logout::run(args, context).await,
        AuthCommand::Status(args) => status::run(args, context).await,
    }
}

/// Whose key is meant: a profile's, or that of all profiles of a driver.
#[derive(Clone)]
struct Target {
    provider: Provider,
    /// With the name [`EVERY_PROFILE`] for all of a driver.
    profile: Profile,
}

impl Target {
    /// The one that the word names, or the profile that is used.
    ///
    /// # Errors
    /// If there is none, or it needs no key.
    fn of(what: Option<&str>, context: &Context) -> Result<Self, CliError> {
        if let Some(provider) = Provider::ALL.into_iter().find(|one| Some(one.driver()) == what) {
            return Ok(Self::of_driver(provider));
        }
        let selected = match what {
            None => context.select()?,
            Some(name) => named(name, context)?,
        };
        let name = visible(&selected.profile.name);
        Self::of_profile(selected.profile).ok_or_else(|| {
            CliError::new(ExitCode::Usage, format!("the profile `{name}` needs no key")).hint(
                "name a profile of a provider, or `e2b` or `daytona` for all profiles of that driver",
            )
        })
    }

    fn of_driver(provider: Provider) -> Self {
        let driver = match provider {
            Provider::E2b => DriverConfig::E2b(E2bConfig::default()),
            Provider::Daytona => DriverConfig::Daytona(DaytonaConfig::default()),
        };
        Self { provider, profile: Profile::new(EVERY_PROFILE, driver) }
    }

    /// Nothing if its driver has no keys.
    fn of_profile(profile: Profile) -> Option<Self> {
        let provider = match &profile.driver {
            DriverConfig::E2b(_) => Provider::E2b,
            DriverConfig::Daytona(_) => Provider::Daytona,
            DriverConfig::Local | DriverConfig::Directory(_) | DriverConfig::Docker(_) => {
                return None;
            }
        };
        Some(Self { provider, profile })
    }

    fn is_driver(&self) -> bool {
        self.profile.name == EVERY_PROFILE
    }

    /// What a person calls it.
    fn words(&self) -> String {
        match self.is_driver() {
            true => format!("all profiles with the driver `{}`", self.provider.driver()),
            false => format!("the profile `{}`", self.profile.name),
        }
    }

    /// Where its keys are looked for.
    fn surroundings(&self, context: &Context) -> Surroundings {
        let command = self.profile.credential_command.as_deref();
        let own = Surroundings::of_process().for_profile(&self.profile.name, command);
        own.keychain(manner(context))
    }

    fn keys(&self, context: &Context) -> Keys {
        Keys::new(self.provider, self.surroundings(context))
    }

    fn account(&self, context: &Context) -> String {
        self.provider.account(&self.surroundings(context), &self.profile.name)
    }
}

fn named(name: &str, context: &Context) -> Result<Selected, CliError> {
    Ok(context.config()?.select(Some(name), None)?)
}

/// A person at a terminal may unlock the keychain; a program must not wait for one.
fn manner(context: &Context) -> Manner {
    match context.can_ask() {
        true => Manner::Patient(say),
        false => Manner::Quick,
    }
}

/// A key that cannot be read, for a person.
fn key_error(error: KeyError) -> CliError {
    let shown = CliError::new(ExitCode::Auth, error.message);
    error.hints.into_iter().fold(shown, CliError::hint)
}

/// What the keychain did not do, for a person: completes "cannot `doing`".
fn keychain_error(doing: &str, trouble: &Trouble) -> CliError {
    let error = CliError::new(ExitCode::Auth, format!("cannot {doing}: {}", trouble.message()));
    match trouble {
        Trouble::Locked | Trouble::TimedOut(_) => error
            .hint("unlock it, then try again; on a terminal `skync auth` asks for that and waits"),
        Trouble::Absent(_) | Trouble::Failed(_) => error,
    }
}
