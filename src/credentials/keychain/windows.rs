//! The Credential Manager of Windows, which is open as long as the user is logged in.

use std::sync::Arc;

use keyring_core::api::CredentialStore;
use windows_native_keyring_store::Store;

use super::{Presence, Trouble};

pub(super) const NAME: &str = "the keychain (Credential Manager)";

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
