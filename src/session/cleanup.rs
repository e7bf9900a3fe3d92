//! Removing what a session that is gone has left: its mounts, its sandboxes, its sockets, its journal
//! entry.
//!
//! It is the one way for all who clean up: the session's keeper after a crash, `skync gc`, and a
//! session before it starts. A living session's things are never touched.

use crate::driver::{self, DriverError, Sandbox};
use crate::session::journal::{Entry, Journal};
use crate::session::mount_place;
use crate::state::{self, StateError};

/// Why something is still there.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// The driver could not find or remove it.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// A file of ours could not be removed.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What became of one entry of the journal.
#[derive(Debug)]
pub enum Cleaned {
    /// Its session lives: nothing was touched.
    Lives,
    /// These sandboxes were removed (none if it never got that far), and the rest with them.
    Removed(Vec<Sandbox>),
}

/// Removes everything of one journalled session, unless it lives.
///
/// # Errors
/// What could not be removed stays in the journal for the next try.
pub async fn release(journal: &Journal, entry: &Entry) -> Result<Cleaned, CleanupError> {
    let Some(claim) = journal.claim(&entry.id)? else { return Ok(Cleaned::Lives) };
    mount_place::clear(&entry.mounts, false);
    let removed = remove_sandboxes(entry).await?;
    remove_files(journal, entry)?;
    drop(claim);
    Ok(Cleaned::Removed(removed))
}

async fn remove_sandboxes(entry: &Entry) -> Result<Vec<Sandbox>, DriverError> {
    let Some(driver) = driver::open(&entry.profile) else { return Ok(Vec::new()) };
    let mut sandboxes = driver.find(&entry.labels()).await?;
    // A sandbox that carries no labels of ours (a container that was there before) is only known
    // from the journal.
    if let Some(known) = &entry.sandbox
        && !sandboxes.iter().any(|sandbox| sandbox.id == known.id)
    {
        sandboxes.push(known.clone());
    }
    for sandbox in &sandboxes {
        driver.remove(sandbox).await?;
    }
    Ok(sandboxes)
}

/// Removes the session's own files on the host.
///
/// # Errors
/// If one is there and cannot be removed.
pub fn remove_files(journal: &Journal, entry: &Entry) -> Result<(), StateError> {
    state::remove_tree(&entry.runtime)?;
    // The next session of the same project may listen there already.
    if std::os::unix::net::UnixStream::connect(&entry.socket).is_err() {
        state::remove_file(&entry.socket)?;
    }
    journal.forget(&entry.id)
}
