//! Writes the project's own settings, `skync.toml`, which belong to whoever works on the project.

use std::path::Path;

use crate::config::layers::{Found, PROJECT_FILE, project_file};
use crate::config::trust::Store;
use crate::config::{Config, ConfigError};
use crate::error::{CliError, ExitCode};
use crate::state::{self, Places, StateError};

/// Longest file that a change may make, in bytes; a longer one would not be read again.
const COPY_BYTES_MAX: u64 = 1 << 20;

/// Changes the file in a copy, as `change` says, and puts it in place; creates it if there is none.
///
/// # Errors
/// If the file cannot be used or has mistakes, or what `change` says.
pub(super) fn edit<T>(
    root: &Path,
    places: &Places,
    change: impl FnOnce(&Path) -> Result<T, ConfigError>,
) -> Result<T, CliError> {
    let file = root.join(PROJECT_FILE);
    if file.is_symlink() {
        let message = format!("`{}` is a link, and is not written through", file.display());
        return Err(CliError::new(ExitCode::Usage, message).hint("put a file in its place"));
    }
    let old = match project_file(root, PROJECT_FILE) {
        Found::Missing => None,
        Found::Content(bytes) => Some(bytes),
        Found::Unusable(why, what) => return Err(CliError::new(ExitCode::Config, why).hint(what)),
    };
    let config = Config::parse(&file, old.as_deref().unwrap_or_default());
    if config.partly_hidden {
        let (what, problems) = ("cannot change the configuration".to_owned(), config.problems);
        return Err(ConfigError::Problems { what, file, problems }.into());
    }
    let (changed, new) = in_copy(old.as_deref(), change)?;
    write(&file, old.as_deref(), &new, places)?;
    Ok(changed)
}

/// Makes a change in a copy of a settings file. Returns what `change` does, and the file's content then.
///
/// # Errors
/// If there is no place for a copy, or what `change` says.
pub(super) fn in_copy<T>(
    old: Option<&[u8]>,
    change: impl FnOnce(&Path) -> Result<T, ConfigError>,
) -> Result<(T, Vec<u8>), CliError> {
    let directory = tempfile::tempdir().map_err(|error| {
        CliError::new(ExitCode::Failed, "there is no place for a draft")
            .because(&error)
            .hint("TMPDIR names a directory that can be written")
    })?;
    let copy = directory.path().join("config.toml");
    if let Some(old) = old {
        state::write_atomic(&copy, old, 0o600)?;
    }
    let changed = change(&copy)?;
    Ok((changed, state::read(&copy, COPY_BYTES_MAX)?.unwrap_or_default()))
}

/// Puts new content in place of the old one, which the caller has read; what the user had trusted
/// stays trusted.
///
/// # Errors
/// If it cannot be written.
pub(super) fn write(
    file: &Path,
    old: Option<&[u8]>,
    new: &[u8],
    places: &Places,
) -> Result<(), StateError> {
    use std::os::unix::fs::PermissionsExt;
    // It is read by all who work on the project.
    let mode = file.metadata().map_or(0o644, |found| found.permissions().mode() & 0o777);
    match old {
        None => state::write_new(file, new, mode)?,
        Some(_) => state::write_atomic(file, new, mode)?,
    }
    if let (Some(root), Some(name)) = (file.parent(), file.file_name()) {
        Store::of(places).follow(root, &name.to_string_lossy(), old, new)?;
    }
    Ok(())
}
