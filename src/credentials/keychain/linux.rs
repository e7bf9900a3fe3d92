//! Secret Service: GNOME Keyring, KWallet, KeePassXC, over the session bus.
//!
//! The store asks for everything to be unlocked that it comes upon, which opens a window. So it is
//! looked first, by the same protocol, whether an item of ours is there and locked.

use std::collections::HashMap;
use std::sync::Arc;

use keyring_core::api::CredentialStore;
use secret_service::EncryptionType;
use secret_service::Error;
use secret_service::blocking::SecretService;
use zbus_secret_service_keyring_store::Store;

use super::{Presence, SERVICE, Trouble};

pub(super) const NAME: &str = "the keychain (Secret Service)";

pub(super) fn store() -> Result<Arc<CredentialStore>, Trouble> {
    Ok(Store::new()?)
}

/// Whether an account has an item. Nothing is unlocked.
pub(super) fn presence(account: &str) -> Result<Presence, Trouble> {
    let service = connect()?;
    let named = HashMap::from([("service", SERVICE), ("username", account)]);
    let found = service.search_items(named).map_err(trouble)?;
    Ok(match (found.unlocked.len(), found.locked.len()) {
        // Some show nothing of a collection that is locked.
        (0, 0) if is_any_locked(&service)? => Presence::Unknown,
        (0, 0) => Presence::Missing,
        (_, 0) => Presence::Readable,
        _ => Presence::Locked,
    })
}

fn is_any_locked(service: &SecretService<'_>) -> Result<bool, Trouble> {
    for collection in service.get_all_collections().map_err(trouble)? {
        if collection.is_locked().map_err(trouble)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Has the person unlock all of it.
pub(super) fn unlock() -> Result<(), Trouble> {
    let service = connect()?;
    for collection in service.get_all_collections().map_err(trouble)? {
        if collection.is_locked().map_err(trouble)? {
            collection.unlock().map_err(trouble)?;
        }
    }
    Ok(())
}

/// Whether an item can be put where new ones go.
pub(super) fn writable() -> Result<Presence, Trouble> {
    let service = connect()?;
    let collection = match service.get_default_collection() {
        Ok(collection) => collection,
        Err(Error::NoResult) => {
            return Err(Trouble::Absent("it has no default collection".to_owned()));
        }
        Err(error) => return Err(trouble(error)),
    };
    let is_locked = collection.is_locked().map_err(trouble)?;
    Ok(if is_locked { Presence::Locked } else { Presence::Readable })
}

/// The accounts of all our items. Nothing is unlocked: names are not secret.
pub(super) fn accounts() -> Result<Vec<String>, Trouble> {
    let service = connect()?;
    let found = service.search_items(HashMap::from([("service", SERVICE)])).map_err(trouble)?;
    let all = found.unlocked.iter().chain(&found.locked);
    let names = all.map(|item| Ok(item.get_attributes().map_err(trouble)?.remove("username")));
    let names: Result<Vec<Option<String>>, Trouble> = names.collect();
    Ok(names?.into_iter().flatten().collect())
}

/// No secret goes over this connection, so it needs no encryption.
fn connect() -> Result<SecretService<'static>, Trouble> {
    SecretService::connect(EncryptionType::Plain).map_err(trouble)
}

fn trouble(error: Error) -> Trouble {
    let text = error.to_string();
    match error {
        Error::Unavailable => {
            Trouble::Absent("no service keeps secrets on this session's bus".into())
        }
        Error::Locked | Error::Prompt | Error::PromptDisconnected => Trouble::Locked,
        _ if is_absence(&error, &text) => Trouble::Absent(text),
        _ => Trouble::Failed(text),
    }
}

/// Without a bus, or with nobody on it who keeps secrets, there is no keychain. One that is there and
/// does not work may have a key.
fn is_absence(error: &(dyn std::error::Error + 'static), text: &str) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    let nobody = ["ServiceUnknown", "NameHasNoOwner"];
    let mut cause = Some(error);
    while let Some(one) = cause {
        let io = one
            .downcast_ref::<std::io::Error>()
            .or_else(|| one.downcast_ref::<Arc<std::io::Error>>().map(|shared| &**shared));
        if io.is_some_and(|io| matches!(io.kind(), NotFound | ConnectionRefused)) {
            return true;
        }
        cause = one.source();
    }
    nobody.iter().any(|part| text.contains(part))
}
