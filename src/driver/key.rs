//! What drivers say about keys: missing, unreadable, refused.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{DriverError, ErrorKind};
use crate::credentials::{Found, KeyError, Keys, Provider, Secret};

/// How often at most the keychain and the command are asked anew because of one bad key.
const NEWS_INTERVAL: Duration = Duration::from_secs(60);

/// The keys that a provider has refused. Who asks with a bad one again and again is shut out for a
/// time, and must not have the keychain asked each time.
///
/// A mutex, because calls of a driver may run side by side; it is held for a look and never while
/// waiting.
#[derive(Default)]
pub(super) struct Refused(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Refused while another was let in.
    replaced: Option<Secret>,
    /// Refused at this time.
    refused: Vec<(Secret, Instant)>,
}

impl Refused {
    /// True if another key was let in where this one was not.
    pub(super) fn is_replaced(&self, key: &Secret) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).replaced.as_ref() == Some(key)
    }

    /// Another key was let in where this one was not.
    pub(super) fn replace(&self, key: &Secret) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).replaced = Some(key.clone());
    }

    /// A key was refused: true if that is news, so that it is worth while to ask again.
    pub(super) fn is_news(&self, key: &Secret) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.refused.retain(|(_, since)| since.elapsed() < NEWS_INTERVAL);
        let is_news = known.refused.iter().all(|(refused, _)| refused != key);
        if is_news {
            known.refused.push((key.clone(), Instant::now()));
        }
        is_news
    }
}

/// The key to use.
///
/// # Errors
/// [`ErrorKind::Auth`] if there is none, or it cannot be read.
pub(super) async fn first(keys: &Keys) -> Result<Found, DriverError> {
    let found = keys.first().await.map_err(unreadable)?;
    found.ok_or_else(|| missing(keys.provider()))
}

fn missing(provider: Provider) -> DriverError {
    let message = format!("there is no key for {}", provider.name());
    DriverError::new(ErrorKind::Auth, message)
        .hint(log_in(provider))
        .hint(format!("keys are made at {}", provider.keys_page()))
}

fn unreadable(error: KeyError) -> DriverError {
    let shown = DriverError::new(ErrorKind::Auth, error.message);
    error.hints.into_iter().fold(shown, DriverError::hint)
}

/// What to do for a key that is accepted.
pub(super) fn log_in(provider: Provider) -> String {
    let variable = match provider {
        Provider::E2b => "E2B_API_KEY",
        Provider::Daytona => "DAYTONA_API_KEY",
    };
    format!("log in with `skync auth login {}`, or set {variable}", provider.driver())
}
