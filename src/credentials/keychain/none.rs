//! A system without a keychain that we know of.

use std::sync::Arc;

use keyring_core::api::CredentialStore;

use super::{Presence, Trouble};

pub(super) const NAME: &str = "the keychain";

pub(super) fn store() -> Result<Arc<CredentialStore>, Trouble> {
    Err(absent())
}

pub(super) fn presence(_account: &str) -> Result<Presence, Trouble> {
    Err(absent())
}

pub(super) fn unlock() -> Result<(), Trouble> {
    Err(absent())
}

pub(super) fn writable() -> Result<Presence, Trouble> {
    Err(absent())
}

pub(super) fn accounts() -> Result<Vec<String>, Trouble> {
    Ok(Vec::new())
}

fn absent() -> Trouble {
    Trouble::Absent("this system has none that skync knows".to_owned())
}
