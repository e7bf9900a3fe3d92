//! Keys of providers: where they come from, where `skync auth login` puts them, and how they are kept
//! from being shown.
//!
//! # Order
//!
//! For a profile the first of these that there is: `SKYNC_E2B_TOKEN` or `SKYNC_DAYTONA_TOKEN`; the
//! provider's own variables; the keychain's item for the profile, then that for all profiles of the
//! driver; the profile's `credential_command`; the explicit [`mod@file`]; the login of the provider's
//! own tool. A keychain that is locked, slow or broken ends the search with an error: what it may hold
//! must not be passed over for something in plain text, or for somebody else's login. Only the
//! command, which the user has written for this, still counts then.
//!
//! # Names, fixed for ever
//!
//! An item of the keychain has the service [`SERVICE`], `skync`, and the account
//! `DRIVER/HOST/PROFILE`: `e2b/e2b.app/-`, `daytona/app.daytona.io/work`. HOST is where the provider's
//! API is ([`Provider::host`]), so that a key is never sent to another one; PROFILE is a profile's name,
//! or `-` for all profiles of the driver. The value is the token, or a JSON object of `token` and
//! `organization`. The same names are in the file, below a table that is named after the service.
//!
//! A debug build has the service `skync-dev`: keychains remember which program made an item and
//! ask, or refuse, when another one reads it. What a developer's unsigned build has touched must not
//! do that to the release's items; and its tests must never find a real key.

pub mod file;
pub mod keychain;
pub mod mask;

mod command;
mod logins;
mod order;
mod secret;
mod surroundings;

use serde::Deserialize;

pub use order::{Found, Keys, Source};
pub use secret::Secret;
pub use surroundings::{EVERY_PROFILE, Manner, Surroundings};

/// The service of all our items in a keychain; see above.
pub const SERVICE: &str = if cfg!(debug_assertions) { "skync-dev" } else { "skync" };

/// The longest key: the token of a login with many claims.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Somebody whose sandboxes need a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// E2B.
    E2b,
    /// Daytona.
    Daytona,
}

impl Provider {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::E2b, Self::Daytona];

    /// The driver's name.
    pub fn driver(self) -> &'static str {
        match self {
            Self::E2b => "e2b",
            Self::Daytona => "daytona",
        }
    }

    /// What a person calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::E2b => "E2B",
            Self::Daytona => "Daytona",
        }
    }

    /// Our variable with its key.
    pub fn variable(self) -> &'static str {
        match self {
            Self::E2b => "SKYNC_E2B_TOKEN",
            Self::Daytona => "SKYNC_DAYTONA_TOKEN",
        }
    }

    /// Where its keys are made.
    pub fn keys_page(self) -> &'static str {
        match self {
            Self::E2b => "https://e2b.dev/dashboard?tab=keys",
            Self::Daytona => "https://app.daytona.io/dashboard/keys",
        }
    }

    /// The address of its API that the environment names, if it does. Everything that decides to which
    /// server a key may go asks here.
    pub fn address(self, surroundings: &Surroundings) -> Option<&str> {
        match self {
            Self::E2b => surroundings.variable("E2B_API_URL"),
            Self::Daytona => surroundings
                .variable("DAYTONA_API_URL")
                .or_else(|| surroundings.variable("DAYTONA_SERVER_URL")),
        }
    }

    /// The host of its API, with the port if that is said: of an address in the environment, else the
    /// provider's own.
    pub fn host(self, surroundings: &Surroundings) -> String {
        let named = self.address(surroundings);
        match self {
            Self::E2b => named
                .or_else(|| surroundings.variable("E2B_DOMAIN"))
                .map_or_else(|| "e2b.app".to_owned(), host_of),
            Self::Daytona => named.map_or_else(|| "app.daytona.io".to_owned(), host_of),
        }
    }

    /// The account of an item for a profile, or for [`EVERY_PROFILE`].
    pub fn account(self, surroundings: &Surroundings, profile: &str) -> String {
        format!("{}/{}/{profile}", self.driver(), self.host(surroundings))
    }
}

/// What a person or a program gave for a key: an object, which may be written over several lines, or the
/// first line.
pub(crate) fn first_of(text: &str) -> &str {
    let text = text.trim_start();
    if text.starts_with('{') { text } else { text.lines().next().unwrap_or_default() }
}

/// The host of a URL and its port, without a user's name.
fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.rsplit('@').next().unwrap_or(authority).to_ascii_lowercase()
}

/// A key, and what belongs to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The key, or the token of a person's login.
    pub token: Secret,
    /// For which organisation such a token speaks.
    pub organization: Option<String>,
    /// The API that it is for, if the login of a tool says so.
    pub api: Option<String>,
}

impl Login {
    /// A key by itself.
    pub fn of(token: Secret) -> Self {
        Self { token, organization: None, api: None }
    }

    /// Reads one as it is stored: the token, or a JSON object of `token` and `organization`.
    ///
    /// # Errors
    /// If it cannot be a key: why, without it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct Object {
            token: String,
            organization: Option<String>,
        }
        let text = text.trim();
        let mut login = if text.starts_with('{') {
            let object: Object = serde_json::from_str(text)
                .map_err(|_| "it is no JSON object with `token` and perhaps `organization`")?;
            let organization = object.organization.filter(|name| !name.trim().is_empty());
            Self { organization, ..Self::of(Secret::of(object.token)) }
        } else {
            Self::of(Secret::of(text.to_owned()))
        };
        check(login.token.reveal())?;
        if login.organization.iter().any(|name| !name.chars().all(|c| c.is_ascii_graphic())) {
            return Err("the organisation's id has characters that none has");
        }
        login.token = Secret::new(login.token.reveal().as_str());
        Ok(login)
    }

    /// As it is stored.
    pub fn text(&self) -> Secret {
        let token = self.token.reveal();
        match &self.organization {
            None => Secret::of(token.clone()),
            Some(organization) => {
                let object = serde_json::json!({ "token": token, "organization": organization });
                Secret::of(object.to_string())
            }
        }
    }
}

/// Whether a text can be a key at all.
fn check(token: &str) -> Result<(), &'static str> {
    let is_graphic = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    if token.is_empty() {
        Err("it is empty")
    } else if token.len() > TOKEN_BYTES_MAX {
        Err("it is too long")
    } else if token.contains(char::is_whitespace) {
        Err("it has spaces in it")
    } else if !token.bytes().all(is_graphic) {
        Err("it has characters that no key has")
    } else {
        Ok(())
    }
}

/// A key cannot be had, although there may be one: what happened, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError {
    /// One sentence without a stop.
    pub message: String,
    /// One sentence each.
    pub hints: Vec<String>,
}

impl KeyError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hints: Vec::new() }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_change() {
        let account = |provider: Provider, variables: &[(&str, &str)]| {
            provider.account(&Surroundings::of(variables, None), "work")
        };
        assert_eq!(account(Provider::E2b, &[]), "e2b/e2b.app/work");
        assert_eq!(account(Provider::E2b, &[("E2B_DOMAIN", "My.Cloud")]), "e2b/my.cloud/work");
        let url = [("E2B_API_URL", "http://u:p@127.0.0.1:3000/x"), ("E2B_DOMAIN", "my.cloud")];
        assert_eq!(account(Provider::E2b, &url), "e2b/127.0.0.1:3000/work");
        assert_eq!(account(Provider::Daytona, &[]), "daytona/app.daytona.io/work");
        let url = [("DAYTONA_API_URL", "https://Day.example/api")];
        assert_eq!(account(Provider::Daytona, &url), "daytona/day.example/work");
        assert_eq!(EVERY_PROFILE, "-");
        assert_eq!(SERVICE, "skync-dev", "tests are a debug build");
    }

    #[test]
    fn a_key_is_read_as_it_is_stored() {
        let plain = Login::parse(" dtn_0123\n").expect("a key");
        assert_eq!(plain.text().reveal(), "dtn_0123");
        let json = r#"{"token":"eyJh.b","organization":"o-1","more":1}"#;
        let of = Login::parse(json).expect("a login");
        assert_eq!(of.organization.as_deref(), Some("o-1"));
        assert!(Login::parse(of.text().reveal()).ok() == Some(of));
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        for text in ["", "{}", "{\"token\":\"a b\"}", "two words", "é", "a\"b", "a\u{1b}[2J", "{"]
        {
            assert!(Login::parse(text).is_err(), "{text:?}");
        }
        assert!(Login::parse(&"x".repeat(TOKEN_BYTES_MAX + 1)).is_err());
    }
}
