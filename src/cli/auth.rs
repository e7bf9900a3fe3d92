//! The flags of `auth`.

use clap::{Args, Subcommand};

const LOGIN_HELP: &str = "\
Examples:
  skync auth login e2b                     for all profiles with the driver e2b
  skync auth login work                    for the profile `work` alone
  pass show e2b | skync auth login e2b --with-token
  skync --profile e2b auth login           a profile that is named like a driver

The key is never an argument: others could see it. It is put into the keychain of this machine, and
asked for there whenever it is needed. A variable wins over it: SKYNC_E2B_TOKEN, E2B_API_KEY,
SKYNC_DAYTONA_TOKEN, DAYTONA_API_KEY. A token of a person's login at Daytona is given with its
organisation: {\"token\": \"...\", \"organization\": \"...\"}";

const LOGOUT_HELP: &str = "\
Examples:
  skync auth logout e2b        what was stored for all profiles with the driver e2b
  skync auth logout --all      everything that skync has stored

Sessions that run may use the key for five minutes more. Only the provider can make it worthless.";

const STATUS_HELP: &str = "\
Examples:
  skync auth status                  every profile of a provider, and every driver
  skync auth status work             one of them; code 4 if it has no key that is accepted
  skync --json auth status --offline

On a terminal a keychain that is locked may be unlocked meanwhile.";

/// Verbs of `auth`.
#[derive(Debug, Subcommand)]
pub enum AuthCommand {
    /// Store a provider's key in the keychain
    ///
    /// Asks for the key without showing it, asks the provider whether it is good, and stores it in
    /// place of an old one.
    #[command(after_long_help = LOGIN_HELP)]
    Login(LoginArgs),
    /// Remove a stored key from this machine
    #[command(after_long_help = LOGOUT_HELP)]
    Logout(LogoutArgs),
    /// Show where keys come from and whether they are accepted, never the keys
    #[command(after_long_help = STATUS_HELP)]
    Status(AuthStatusArgs),
}

/// Arguments of `auth login`.
#[derive(Args, Clone, Debug, Default)]
pub struct LoginArgs {
    /// A profile, or `e2b` or `daytona` for all profiles of that driver; else the profile that is used
    #[arg(value_name = "PROFILE|DRIVER")]
    pub what: Option<String>,
    /// Read the key from the first line of standard input
    #[arg(long)]
    pub with_token: bool,
    /// Store it in a file in plain text, that only this user can read: for machines without a keychain
    #[arg(long)]
    pub insecure_storage: bool,
    /// Do not ask the provider whether the key is good
    #[arg(long)]
    pub offline: bool,
}

/// Arguments of `auth logout`.
#[derive(Args, Clone, Debug, Default)]
pub struct LogoutArgs {
    /// A profile, or `e2b` or `daytona` for all profiles of that driver; else the profile that is used
    #[arg(value_name = "PROFILE|DRIVER")]
    pub what: Option<String>,
    /// Everything that skync has stored
    #[arg(long, conflicts_with = "what")]
    pub all: bool,
}

/// Arguments of `auth status`.
#[derive(Args, Clone, Debug, Default)]
pub struct AuthStatusArgs {
    /// A profile, or `e2b` or `daytona`; else all of them
    #[arg(value_name = "PROFILE|DRIVER")]
    pub what: Option<String>,
    /// Do not ask the providers whether they accept the keys
    #[arg(long)]
    pub offline: bool,
}
