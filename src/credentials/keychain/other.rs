//! The login keychain of macOS, where the system itself asks for a password when an item is read, and the
//! Credential Manager of Windows, which is open as long as the user is logged in: of neither is it known
//! before whether it is locked.

use std::sync::Arc;

#[cfg(target_os = "macos")]
use apple_native_keyring_store::keychain::Store;
use keyring_core::api::CredentialStore;
#[cfg(windows)]
use windows_native_keyring_store::Store;

use super::{Presence, Trouble};

#[cfg(target_os = "macos")]
pub(super) const NAME: &str = "the keychain (macOS Keychain)";
#[cfg(windows)]
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
