//! The explicit file of keys: for a machine without a keychain, and only if the user says so.
//!
//! `$XDG_STATE_HOME/skync/credentials.toml`, written by `skync auth login --insecure-storage` and by
//! nothing else. It is plain text, so it is not read unless it belongs to this user alone.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item, Table, value};

use super::{KeyError, Login, SERVICE, Secret, Surroundings};
use crate::state;

/// A larger one was not written by us.
const BYTES_MAX: u64 = 1 << 20;
const HEAD: &str = "# Keys in plain text, written by `skync auth login --insecure-storage`.\n\
                    # `skync auth logout --all` removes them.\n";

/// Its name in the state directory.
pub const NAME: &str = "credentials.toml";

/// Where it is.
pub fn path(surroundings: &Surroundings) -> Option<PathBuf> {
    Some(surroundings.state.as_ref()?.join(NAME))
}

/// The first of these accounts that is in it.
///
/// # Errors
/// If it is there and cannot be trusted or understood.
pub(super) fn find(
    surroundings: &Surroundings,
    accounts: &[String],
) -> Result<Option<(String, Login)>, KeyError> {
    let Some(path) = path(surroundings) else { return Ok(None) };
    let Some(document) = read(&path, Whose::Ours)? else { return Ok(None) };
    let Some(keys) = document.get(SERVICE).and_then(Item::as_table_like) else { return Ok(None) };
    for account in accounts {
        if let Some(text) = keys.get(account).and_then(Item::as_str) {
            let login = Login::parse(text).map_err(|why| {
                KeyError::new(format!(
                    "the key for `{account}` in `{}` is none: {why}",
                    path.display()
                ))
                .hint("`skync auth login --insecure-storage` replaces it")
            })?;
            return Ok(Some((account.clone(), login)));
        }
    }
    Ok(None)
}

/// The accounts that are in it, whoever can open it.
///
/// # Errors
/// If it is there and cannot be understood.
pub fn accounts(surroundings: &Surroundings) -> Result<Vec<String>, KeyError> {
    let Some(path) = path(surroundings) else { return Ok(Vec::new()) };
    let document = read(&path, Whose::Anybodys)?.unwrap_or_default();
    let keys = document.get(SERVICE).and_then(Item::as_table_like);
    Ok(keys.into_iter().flat_map(|keys| keys.iter()).map(|(name, _)| name.to_owned()).collect())
}

/// Puts a key there, in place of an old one. Returns where.
///
/// # Errors
/// If it cannot be written, or the one there cannot be trusted.
pub fn put(surroundings: &Surroundings, account: &str, login: &Login) -> Result<PathBuf, KeyError> {
    let path = path(surroundings).ok_or_else(|| {
        KeyError::new("the home directory is not known").hint("set HOME or XDG_STATE_HOME")
    })?;
    change(&path, Whose::Ours, |keys| {
        keys.insert(account, value(login.text().reveal().as_str()));
        true
    })?;
    Ok(path)
}

/// Removes a key, whoever can open the file. False if it was not there.
///
/// # Errors
/// If it cannot be removed.
pub fn remove(surroundings: &Surroundings, account: &str) -> Result<bool, KeyError> {
    let Some(path) = path(surroundings).filter(|path| path.exists()) else { return Ok(false) };
    change(&path, Whose::Anybodys, |keys| keys.remove(account).is_some())
}

/// Changes the keys in it, if they are to be; a file without any is removed.
fn change(
    path: &Path,
    whose: Whose,
    edit: impl FnOnce(&mut Table) -> bool,
) -> Result<bool, KeyError> {
    let fail = |error: state::StateError| {
        let hint = error.hint();
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        let error = KeyError::new(format!("{error}{}", source.unwrap_or_default()));
        hint.into_iter().fold(error, KeyError::hint)
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    state::make_directory(directory).map_err(fail)?;
    let _lock = state::lock(&directory.join("credentials.lock")).map_err(fail)?;
    let mut document = read(path, whose)?.unwrap_or_default();
    let keys = document.entry(SERVICE).or_insert_with(|| Item::Table(Table::new()));
    let Some(keys) = keys.as_table_mut() else { return Err(not_ours(path)) };
    if !edit(keys) {
        return Ok(false);
    }
    if keys.is_empty() {
        document.remove(SERVICE);
    }
    if document.is_empty() {
        state::remove_file(path).map_err(fail)?;
        return Ok(true);
    }
    let text = document.to_string();
    let text = if text.starts_with('#') { text } else { format!("{HEAD}{text}") };
    let bytes = Secret::of(text.into_bytes());
    state::write_atomic(path, bytes.reveal(), 0o600).map_err(fail)?;
    Ok(true)
}

/// Who may open the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// This user alone: its keys are used.
    Ours,
    /// Others too: its keys are only removed.
    Anybodys,
}

/// Reads it, if it is this user's.
fn read(path: &Path, whose: Whose) -> Result<Option<DocumentMut>, KeyError> {
    let shown = path.display();
    let fail = |error: std::io::Error| KeyError::new(format!("cannot read `{shown}`: {error}"));
    // A link could lead to what somebody else can change; a FIFO would block for ever.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let opened =
        std::fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error).hint("it must be a plain file of yours")),
    };
    let found = file.metadata().map_err(fail)?;
    let refuse =
        |why: &str| KeyError::new(format!("the file of keys `{shown}` is not read: {why}"));
    if !found.is_file() || found.len() > BYTES_MAX {
        return Err(not_ours(path));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(refuse("it belongs to another user").hint("remove it, and log in again"));
    }
    if whose == Whose::Ours && found.mode() & 0o077 != 0 {
        return Err(refuse("other users can open it").hint(format!(
            "`chmod 600 {shown}` closes it; whoever could read it may have the key"
        )));
    }
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(fail)?;
    // What is wrong with a line is not told with the line, which holds a key.
    let document = Secret::of(text).reveal().parse().map_err(|_| not_ours(path))?;
    Ok(Some(document))
}

fn not_ours(path: &Path) -> KeyError {
    KeyError::new(format!("the file of keys `{}` is not as we write it", path.display()))
        .hint("remove it, and log in again with `skync auth login --insecure-storage`")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_kept_for_this_user_alone_and_leaves_nothing() {
        let home = tempfile::tempdir().expect("a directory");
        let around = Surroundings::of(&[], Some(home.path()));
        let accounts = ["e2b/x/p".to_owned(), "e2b/x/-".to_owned()];
        assert!(find(&around, &accounts).expect("none").is_none());
        let login = Login { organization: Some("o".into()), ..Login::of(Secret::new("a-token-1")) };
        let path = put(&around, "e2b/x/-", &login).expect("written");
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        let (account, found) = find(&around, &accounts).expect("read").expect("there");
        assert_eq!((account.as_str(), found.organization.as_deref()), ("e2b/x/-", Some("o")));
        put(&around, "e2b/x/p", &Login::of(Secret::new("a-token-2"))).expect("written");
        let (_, found) = find(&around, &accounts).expect("read").expect("there");
        assert_eq!(found.token.reveal(), "a-token-2");
        for account in &accounts {
            assert_eq!(remove(&around, account).ok(), Some(true));
            assert_eq!(remove(&around, account).ok(), Some(false));
        }
        assert!(!path.exists());
    }

    #[test]
    fn one_that_others_can_open_is_not_read() {
        let home = tempfile::tempdir().expect("a directory");
        let around = Surroundings::of(&[], Some(home.path()));
        let path = put(&around, "e2b/x/-", &Login::of(Secret::new("a-token"))).expect("written");
        let refused = |mode: u32| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("set");
            find(&around, &["e2b/x/-".to_owned()]).err().map(|error| error.message)
        };
        for mode in [0o640, 0o604, 0o660, 0o601] {
            assert!(refused(mode).is_some_and(|why| why.contains("other users")), "{mode:o}");
        }
        assert_eq!(refused(0o600), None);
        let elsewhere = home.path().join("elsewhere");
        std::fs::copy(&path, &elsewhere).expect("copied");
        state::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink(&elsewhere, &path).expect("a link");
        assert!(accounts(&around).is_err(), "a link is not followed");
        state::remove_file(&path).expect("removed");
        std::fs::copy(&elsewhere, &path).expect("back");
        assert!(refused(0o644).is_some());
        assert_eq!(remove(&around, "e2b/x/-").ok(), Some(true), "removal works in any case");
        assert!(!path.exists());
    }
}
