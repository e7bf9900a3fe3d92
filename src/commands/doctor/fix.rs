//! What `--fix` may do: clear away what is ours and dead, and close what is ours and open.
//!
//! All of it is safe to do twice, touches nothing of the project, and needs no other rights than the
//! user's own.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use skync_mount::system::{self, Health};

use crate::commands::patience::wait;
use crate::session::cleanup::{self, Cleaned};
use crate::session::journal::Journal;
use crate::state::{self, Places};

/// How long the removal of one session may take: its provider is asked.
const RELEASE_PATIENCE: Duration = Duration::from_secs(30);

/// One thing that can be repaired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fix {
    /// Make a directory of ours.
    Make(PathBuf),
    /// Take a directory or file of ours away from other users.
    MakePrivate(PathBuf),
    /// Take away a mount of ours that nobody answers for.
    Bury(PathBuf),
    /// Remove what a dead session has left: its sandbox, its files, its entry.
    Release(String),
    /// Remove a socket of ours that nobody listens at.
    RemoveSocket(PathBuf),
    /// Remove a lock of a session that is gone.
    RemoveLock(PathBuf),
}

impl Fix {
    /// What it did, or will do, in words.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Make(path) => format!("made `{}`", path.display()),
            Self::MakePrivate(path) => format!("closed `{}` to other users", path.display()),
            Self::Bury(path) => format!("took the dead mount at `{}` away", path.display()),
            Self::Release(id) => format!("removed what session {id} had left"),
            Self::RemoveSocket(path) => format!("removed the socket `{}`", path.display()),
            Self::RemoveLock(path) => format!("removed the lock `{}`", path.display()),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// Why it could not be done, in words.
    fn apply(&self, places: &Places) -> Result<(), String> {
        let words = |error: state::StateError| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
        };
        match self {
            Self::Make(path) => state::make_directory(path).map_err(words),
            Self::MakePrivate(path) => state::make_private(path).map_err(words),
            // It may have come back to life, or be another one by now.
            Self::Bury(at) if system::health(at) != Health::Dead => Ok(()),
            Self::Bury(at) => system::bury(at).map_err(|error| error.to_string()),
            Self::Release(id) => release(id, places),
            Self::RemoveSocket(path) => {
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    return Ok(());
                }
                state::remove_file(path).map_err(words)
            }
            Self::RemoveLock(path) => match state::try_lock(path) {
                Ok(Some(lock)) => lock.remove().map_err(words),
                // Somebody has it: it is of use after all.
                Ok(None) => Ok(()),
                Err(error) => Err(words(error)),
            },
        }
    }
}

fn release(id: &str, places: &Places) -> Result<(), String> {
    let journal = Journal::open(places).map_err(|error| error.to_string())?;
    let Some(entry) = journal.find(id) else { return Ok(()) };
    match wait(RELEASE_PATIENCE, cleanup::release(&journal, &entry)) {
        Some(Ok(Cleaned::Removed(_) | Cleaned::Lives)) => Ok(()),
        Some(Err(error)) => Err(error.to_string()),
        None => Err(format!("not done within {} s", RELEASE_PATIENCE.as_secs())),
    }
}

/// What became of one repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fixed {
    /// What was done, or what was to be.
    pub(super) what: String,
    /// Why it was not done.
    pub(super) error: Option<String>,
}

impl Fixed {
    /// For a program.
    pub(super) fn document(&self) -> serde_json::Value {
        json!({ "what": self.what, "ok": self.error.is_none(), "error": self.error })
    }
}

/// Does all of these, one after the other.
pub(super) fn apply_all<'a>(
    fixes: impl IntoIterator<Item = &'a Fix>,
    places: &Places,
) -> Vec<Fixed> {
    let one = |fix: &Fix| Fixed { what: fix.words(), error: fix.apply(places).err() };
    fixes.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_made_and_closed_and_that_may_be_done_twice() {
        use std::os::unix::fs::PermissionsExt;
        let base = tempfile::tempdir().expect("a directory");
        let at = base.path().join("state");
        let places = Places::below(base.path());
        let fixes = [Fix::Make(at.clone()), Fix::MakePrivate(at.clone())];
        for _ in 0..2 {
            assert!(apply_all(&fixes, &places).iter().all(|fixed| fixed.error.is_none()));
            std::fs::set_permissions(&at, PermissionsExt::from_mode(0o755)).expect("set");
        }
        apply_all(&fixes, &places);
        let mode = std::fs::metadata(&at).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn what_is_not_ours_is_not_touched_and_that_is_said() {
        let base = tempfile::tempdir().expect("a directory");
        let link = base.path().join("link");
        std::os::unix::fs::symlink("/tmp", &link).expect("made");
        let fixed = apply_all(&[Fix::MakePrivate(link)], &Places::below(base.path()));
        assert!(fixed[0].error.as_deref().is_some_and(|error| error.contains("symbolic link")));
    }

    #[test]
    fn a_socket_at_which_somebody_listens_stays() {
        let base = tempfile::tempdir().expect("a directory");
        let path = base.path().join("s.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        let places = Places::below(base.path());
        apply_all(&[Fix::RemoveSocket(path.clone())], &places);
        assert!(path.exists());
        drop(listener);
        apply_all(&[Fix::RemoveSocket(path.clone())], &places);
        assert!(!path.exists());
    }
}
