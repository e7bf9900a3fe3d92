//! The login keychain of macOS. Whether it is locked shows when an item is read: the system asks.

use std::sync::Arc;

use apple_native_keyring_store::keychain::Store;
use keyring_core::api::CredentialStore;

use super::{Presence, Trouble};

pub(super) const NAME: &str = "the keychain (macOS Keychain)";

pub(super) fn store() -> Result<Arc<CredentialStore>, Trouble> {
    Ok(Store::new()?)
}

pub(super) fn presence(_account: &str) -> Result<Presence, Trouble> {
    Ok(Presence::Readable)
}

pub(super) fn unlock() -> Result<(), Trouble> {
    Ok(())
}

pub(super) fn writable() -> Result<Presence, Trouble> {
    Ok(Presence::Readable)
}

pub(super) fn accounts() -> Result<Vec<String>, Trouble> {
    Ok(Vec::new())
}
