//! What is written down on the host of preparations: which container that was there before is prepared,
//! and what drivers keep for later sandboxes.
//!
//! What is kept is written down before it is made, and by whom, so that it is found again whatever
//! becomes of the profile.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::config::{DriverConfig, Profile};
use crate::driver::Sandbox;
use crate::state::{self, Lock, Places, StateError};

/// Version of a record's file. History: 1, the first.
const FORMAT: u32 = 1;
/// A larger file is not one of ours.
const FILE_BYTES_MAX: u64 = 1 << 16;
/// A container of which nothing was heard for so long is most likely gone; if not, it is prepared once
/// more.
const MARKS_KEPT: Duration = Duration::from_secs(180 * 24 * 60 * 60);

/// What a driver keeps for later sandboxes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptRecord {
    format: u32,
    /// The driver's name for it.
    pub name: String,
    /// Opens the driver again.
    pub driver: DriverConfig,
    /// Of the profile that it was prepared for.
    pub profile: String,
    /// What was done, as [`key`](super::key) has it.
    pub key: String,
    /// When a sandbox was last made of it, milliseconds since 1970.
    pub used_ms: u64,
}

impl KeptRecord {
    /// What is to be kept under this name, as of now.
    pub fn new(name: &str, profile: &Profile, key: &str, now_ms: u64) -> Self {
        Self {
            format: FORMAT,
            name: name.to_owned(),
            driver: profile.driver.clone(),
            profile: profile.name.clone(),
            key: key.to_owned(),
            used_ms: now_ms,
        }
    }

    /// The same under another name.
    pub fn named(&self, name: String) -> Self {
        Self { name, ..self.clone() }
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// If it cannot be written; then what it announces must not be made.
    pub fn write(&self, places: &Places) -> Result<(), StateError> {
        state::make_directory(&directory(places))?;
        let bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        state::write_atomic(&self.file(places), &bytes, 0o600)
    }

    /// Forgets it: it is gone.
    ///
    /// # Errors
    /// If its file cannot be removed.
    pub fn forget(&self, places: &Places) -> Result<(), StateError> {
        state::remove_file(&self.file(places))
    }

    /// A profile that opens its driver.
    pub fn profile(&self) -> Profile {
        Profile::new(self.profile.clone(), self.driver.clone())
    }

    fn file(&self, places: &Places) -> PathBuf {
        // One name can be kept at two engines.
        let driver = serde_json::to_string(&self.driver).unwrap_or_default();
        directory(places).join(format!("{}.kept", hash(&[&self.name, &driver])))
    }
}

/// All that is kept, as far as it was written down.
pub fn kept(places: &Places) -> Vec<KeptRecord> {
    let files = std::fs::read_dir(directory(places)).into_iter().flatten().flatten();
    let paths = files.map(|file| file.path());
    let paths = paths.filter(|path| path.extension().is_some_and(|extension| extension == "kept"));
    let mut all: Vec<KeptRecord> = paths
        .filter_map(|path| state::read(&path, FILE_BYTES_MAX).ok()?)
        .filter_map(|bytes| serde_json::from_slice(&bytes).ok())
        .filter(|record: &KeptRecord| record.format == FORMAT)
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// How a sandbox that was there before was prepared last; nothing if it never was.
pub(in crate::session) fn mark(places: &Places, driver: &str, sandbox: &Sandbox) -> Option<String> {
    let bytes = state::read(&mark_file(places, driver, sandbox), FILE_BYTES_MAX).ok()??;
    String::from_utf8(bytes).ok()
}

/// Writes down that it is prepared.
///
/// # Errors
/// If that cannot be written; then it is prepared once more the next time.
pub(in crate::session) fn set_mark(
    places: &Places,
    driver: &str,
    sandbox: &Sandbox,
    key: &str,
) -> Result<(), StateError> {
    state::make_directory(&directory(places))?;
    state::write_atomic(&mark_file(places, driver, sandbox), key.as_bytes(), 0o600)
}

/// Says that a sandbox that was there before is being prepared; nothing if another session does so.
///
/// # Errors
/// If the lock cannot be made.
pub(in crate::session) fn try_turn(
    places: &Places,
    driver: &str,
    sandbox: &Sandbox,
) -> Result<Option<Lock>, StateError> {
    state::make_directory(&directory(places))?;
    state::try_lock(&mark_file(places, driver, sandbox).with_extension("lock"))
}

fn mark_file(places: &Places, driver: &str, sandbox: &Sandbox) -> PathBuf {
    directory(places).join(format!("{}.mark", hash(&[driver, &sandbox.id])))
}

fn directory(places: &Places) -> PathBuf {
    places.state.join("prepared")
}

fn hash(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part.as_bytes()).update(&[0]);
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Forgets containers of which nothing was heard for long.
///
/// # Errors
/// If a file of ours cannot be removed.
pub fn prune(places: &Places, now: SystemTime) -> Result<(), StateError> {
    let is_mark = |path: &Path| {
        path.extension().is_some_and(|extension| extension == "mark" || extension == "lock")
    };
    let old = older(&directory(places), now, MARKS_KEPT, is_mark);
    old.iter().try_for_each(|path| state::remove_file(path))
}

/// The files of a directory of ours that have not been written for that long.
pub(super) fn older(
    directory: &Path,
    now: SystemTime,
    age: Duration,
    is_meant: impl Fn(&Path) -> bool,
) -> Vec<PathBuf> {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let is_old = |file: &std::fs::DirEntry| {
        let written = file.metadata().and_then(|found| found.modified());
        written.is_ok_and(|at| now.duration_since(at).is_ok_and(|passed| passed > age))
    };
    files.filter(is_old).map(|file| file.path()).filter(|path| is_meant(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DockerConfig;

    fn sandbox(id: &str) -> Sandbox {
        let (name, root) = (id.to_owned(), "/p".into());
        Sandbox { id: id.to_owned(), name, root, ephemeral: false, labels: Default::default() }
    }

    #[test]
    fn a_container_is_prepared_as_long_as_it_is_the_same_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let places = Places::below(directory.path());
        assert_eq!(mark(&places, "docker", &sandbox("a")), None);
        set_mark(&places, "docker", &sandbox("a"), "key").expect("written");
        assert_eq!(mark(&places, "docker", &sandbox("a")).as_deref(), Some("key"));
        assert_eq!(mark(&places, "docker", &sandbox("b")), None);
        assert_eq!(mark(&places, "e2b", &sandbox("a")), None);
        prune(&places, SystemTime::now()).expect("pruned");
        assert!(mark(&places, "docker", &sandbox("a")).is_some());
        prune(&places, SystemTime::now() + MARKS_KEPT * 2).expect("pruned");
        assert_eq!(mark(&places, "docker", &sandbox("a")), None);
    }

    #[test]
    fn what_is_kept_is_found_without_its_profile_until_it_is_forgotten() {
        let directory = tempfile::tempdir().expect("a directory");
        let places = Places::below(directory.path());
        let mut profile = Profile::new("dev", DriverConfig::Docker(DockerConfig::default()));
        profile.env.insert("TOKEN".to_owned(), "s3cret".to_owned());
        let record = KeptRecord::new("x:1", &profile, "key", 7);
        record.write(&places).expect("written");
        KeptRecord { used_ms: 8, ..record.clone() }.write(&places).expect("written");
        let found = kept(&places);
        assert_eq!((found.len(), found[0].used_ms), (1, 8));
        assert!(!format!("{found:?}").contains("s3cret"));
        record.forget(&places).expect("forgotten");
        assert!(kept(&places).is_empty());
    }
}
