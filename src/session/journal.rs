//! What exists because of us, written down before it is made.
//!
//! Creating a sandbox cannot be made idempotent at every provider, so the intent is on disk (with
//! fsync) before the call; whoever finds it later, after any crash, finds the sandbox by its labels
//! and removes it. A lock tells whether the session still lives; no pid is trusted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Profile;
use crate::driver::{Sandbox, label};
use crate::state::{self, Lock, Places, StateError};

/// Version of an entry's file. History: 1, the first.
const FORMAT: u32 = 1;
/// A larger file is not one of ours.
const ENTRY_BYTES_MAX: u64 = 1 << 20;

/// One session that made or is about to make a sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    format: u32,
    /// The session's id: 16 lower-case hexadecimal digits.
    pub id: String,
    /// The project on the host.
    pub root: PathBuf,
    /// The profile as it was, so that the driver can be opened again.
    pub profile: Profile,
    /// The session's private directory for sockets.
    pub runtime: PathBuf,
    /// Where the session listens.
    pub socket: PathBuf,
    /// The sandbox, once it is known to exist.
    pub sandbox: Option<Sandbox>,
    /// How the sandbox was prepared, if it was; see `setup`.
    #[serde(default)]
    pub prepared: Option<String>,
    /// It is being prepared for the first time: nothing else has been done in it.
    #[serde(default)]
    pub preparing: bool,
    /// It goes on without users (`up -d`).
    #[serde(default)]
    pub hold: bool,
    /// The patterns of its mirror's command line.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Where the sandbox is mounted, or is about to be.
    #[serde(default)]
    pub mounts: Vec<MountRecord>,
}

/// One place where a sandbox is mounted, and how: enough to make it again, or to take it away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    /// On the host; absolute, without symbolic links.
    pub at: PathBuf,
    /// The directory of the sandbox that is shown; absolute.
    pub root: PathBuf,
    /// It can be written.
    pub writable: bool,
    /// How long whoever reads there waits for a lost link.
    pub timeout: Duration,
    /// Other users see it, too.
    pub allow_other: bool,
    /// Owners are shown as they are in the sandbox.
    pub own_ids: bool,
    /// Links are shown as they are, also those that lead out of it.
    pub raw_symlinks: bool,
    /// Changes in the sandbox are told to who watches it (inotify).
    pub replay: bool,
    /// It goes with the `up` that it came with.
    pub with_up: bool,
    /// Directories that were made for it, outermost first: they go with it.
    pub made: Vec<PathBuf>,
}

impl MountRecord {
    /// True if the two show the same in the same way.
    pub fn is_like(&self, other: &Self) -> bool {
        let shown = |one: &Self| Self { made: Vec::new(), with_up: false, ..one.clone() };
        shown(self) == shown(other)
    }

    /// Removes the directories that were made for it, as far as nothing is in them.
    pub fn remove_made(&self) {
        // One that is used for something else by now stays.
        self.made.iter().rev().all(|directory| std::fs::remove_dir(directory).is_ok());
    }
}

impl Entry {
    /// An intent: no sandbox yet.
    pub fn new(id: String, root: &Path, profile: &Profile, runtime: &Path, socket: &Path) -> Self {
        Self {
            format: FORMAT,
            id,
            root: root.to_owned(),
            profile: profile.clone(),
            runtime: runtime.to_owned(),
            socket: socket.to_owned(),
            sandbox: None,
            prepared: None,
            preparing: false,
            hold: false,
            exclude: Vec::new(),
            mounts: Vec::new(),
        }
    }

    /// What finds everything of this session at its driver.
    pub fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (label::VERSION.to_owned(), "1".to_owned()),
            (label::SESSION.to_owned(), self.id.clone()),
        ])
    }
}

/// The entries of all sessions of this user.
#[derive(Clone, Debug)]
pub struct Journal {
    directory: PathBuf,
}

impl Journal {
    /// The journal, made if it is not there.
    ///
    /// # Errors
    /// If its directory cannot be made.
    pub fn open(places: &Places) -> Result<Self, StateError> {
        let directory = places.state_dir()?.join("journal");
        state::make_directory(&directory)?;
        Ok(Self { directory })
    }

    fn file(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    fn lock_file(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.lock"))
    }

    /// Says that the session of this id lives, until the value is dropped; nothing if another
    /// process says so already.
    ///
    /// # Errors
    /// If the lock cannot be made.
    pub fn claim(&self, id: &str) -> Result<Option<Lock>, StateError> {
        state::try_lock(&self.lock_file(id))
    }

    /// Writes an entry, durably.
    ///
    /// # Errors
    /// If it cannot be written; then the thing it announces must not be made.
    pub fn write(&self, entry: &Entry) -> Result<(), StateError> {
        let bytes = serde_json::to_vec_pretty(entry).unwrap_or_default();
        state::write_atomic(&self.file(&entry.id), &bytes, 0o600)
    }

    /// The entry of a session; nothing if there is none that can be read.
    pub fn find(&self, id: &str) -> Option<Entry> {
        let bytes = state::read(&self.file(id), ENTRY_BYTES_MAX).ok()??;
        let entry: Entry = serde_json::from_slice(&bytes).ok()?;
        // An entry of a later format may mean things we do not know.
        (entry.format == FORMAT && entry.id == id).then_some(entry)
    }

    /// The id of a session of that project and profile that died and left a sandbox.
    pub fn orphan(&self, root: &Path, profile: &Profile) -> Option<String> {
        let (entries, _) = self.list().ok()?;
        let entry = entries.into_iter().find(|entry| {
            entry.root == root
                && entry.profile.name == profile.name
                // With other settings its sandbox would not be found.
                && entry.profile.driver == profile.driver
                && entry.sandbox.is_some()
                && self.claim(&entry.id).is_ok_and(|claim| claim.is_some())
        })?;
        Some(entry.id)
    }

    /// All entries that can be read, and the ids of those that cannot.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn list(&self) -> Result<(Vec<Entry>, Vec<String>), std::io::Error> {
        let (mut entries, mut unreadable) = (Vec::new(), Vec::new());
        for file in std::fs::read_dir(&self.directory)? {
            let name = file?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".json")) else {
                continue;
            };
            match self.find(id) {
                Some(entry) => entries.push(entry),
                None => unreadable.push(id.to_owned()),
            }
        }
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        Ok((entries, unreadable))
    }

    /// Forgets an entry: everything it announced is gone.
    ///
    /// # Errors
    /// If its files cannot be removed.
    pub fn forget(&self, id: &str) -> Result<(), StateError> {
        state::remove_file(&self.file(id))?;
        state::remove_file(&self.lock_file(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DriverConfig;

    fn journal() -> (tempfile::TempDir, Journal) {
        let directory = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(&Places::below(directory.path())).expect("a journal");
        (directory, journal)
    }

    fn entry(id: &str) -> Entry {
        let profile =
            Profile::new("dev", DriverConfig::Directory(crate::config::DirectoryConfig::default()));
        Entry::new(id.into(), Path::new("/p"), &profile, Path::new("/r"), Path::new("/r/s"))
    }

    #[test]
    fn an_entry_is_there_until_it_is_forgotten() {
        let (_directory, journal) = journal();
        journal.write(&entry("0123456789abcdef")).expect("written");
        let (entries, unreadable) = journal.list().expect("listed");
        assert_eq!((entries.len(), unreadable.len()), (1, 0));
        assert_eq!(entries[0].labels()[label::SESSION], "0123456789abcdef");
        journal.forget("0123456789abcdef").expect("forgotten");
        assert!(journal.find("0123456789abcdef").is_none());
    }

    #[test]
    fn a_living_session_cannot_be_claimed_by_another() {
        let (_directory, journal) = journal();
        let claimed = journal.claim("a").expect("a lock");
        assert!(claimed.is_some());
        assert!(journal.claim("a").expect("a lock").is_none());
        drop(claimed);
        assert!(journal.claim("a").expect("a lock").is_some());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a damaged file is what the test is about")]
    fn an_entry_that_cannot_be_read_is_named_and_kept() {
        let (_directory, journal) = journal();
        std::fs::write(journal.file("b"), "{\"format\": 9}").expect("written");
        let (entries, unreadable) = journal.list().expect("listed");
        assert_eq!((entries.len(), unreadable), (0, vec!["b".to_owned()]));
    }
}
