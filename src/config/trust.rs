//! Which project files the user has looked at and let count: by their content.
//!
//! A project comes from somebody else, and a sandbox writes into it while it is mirrored. So what is
//! remembered is the digest of what was looked at, outside of the project: an edit of one byte, by
//! whomever, makes the file untrusted again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::state::{self, Places, StateError};

/// Version of a record's file. History: 1, the first.
const FORMAT: u32 = 1;
/// A larger file is not one of ours.
const RECORD_BYTES_MAX: u64 = 1 << 16;

/// What is known of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it was when the user let it count.
    Trusted,
    /// It is not as it was then.
    Changed,
    /// The user never let it count.
    Unknown,
}

/// What is remembered of one project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// The project.
    pub root: PathBuf,
    /// The sha256 of each trusted file, by its name in the project.
    pub files: BTreeMap<String, String>,
}

/// The digest by which content is remembered: sha256, hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All that is remembered, in the state directory.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// The store of this user.
    pub fn of(places: &Places) -> Self {
        Self { directory: places.state.join("trust") }
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn file(&self, root: &Path) -> PathBuf {
        let name = digest(root.as_os_str().as_encoded_bytes());
        self.directory.join(format!("{}.json", &name[..32]))
    }

    /// What is remembered of a project.
    pub fn find(&self, root: &Path) -> Option<Record> {
        let record = read(&self.file(root))?;
        (record.root == root).then_some(record)
    }

    /// What is known of a file of the project with that digest.
    pub fn verdict(&self, root: &Path, name: &str, digest: &str) -> Verdict {
        verdict(self.find(root).as_ref(), name, digest)
    }

    /// Remembers the files of a project, in place of what was remembered of it.
    ///
    /// # Errors
    /// If the state directory cannot be written.
    pub fn trust(&self, root: &Path, files: &BTreeMap<String, String>) -> Result<(), StateError> {
        state::make_directory(&self.directory)?;
        let _lock = state::lock(&self.directory.join("lock"))?;
        let record = Record { format: FORMAT, root: root.to_owned(), files: files.clone() };
        let bytes = serde_json::to_vec_pretty(&record).unwrap_or_default();
        state::write_atomic(&self.file(root), &bytes, 0o600)
    }

    /// Goes along with an edit that the user made by one of our commands: where nothing was or what was
    /// trusted, what is there now is, too. True if so.
    ///
    /// # Errors
    /// If the state directory cannot be written.
    pub fn follow(
        &self,
        root: &Path,
        name: &str,
        old: Option<&[u8]>,
        new: &[u8],
    ) -> Result<bool, StateError> {
        let record = self.find(root);
        let was = old.map(|old| verdict(record.as_ref(), name, &digest(old)));
        if was.is_some_and(|was| was != Verdict::Trusted) {
            return Ok(false);
        }
        let mut files = record.map(|record| record.files).unwrap_or_default();
        files.insert(name.to_owned(), digest(new));
        self.trust(root, &files)?;
        Ok(true)
    }

    /// Forgets a project; true if it was known.
    ///
    /// # Errors
    /// If the record cannot be removed.
    pub fn revoke(&self, root: &Path) -> Result<bool, StateError> {
        let was_there = self.find(root).is_some();
        state::remove_file(&self.file(root))?;
        Ok(was_there)
    }

    /// Everything that is remembered, by project. What cannot be read counts for nothing.
    pub fn list(&self) -> Vec<Record> {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut records: Vec<_> = entries.filter_map(|entry| read(&entry.path())).collect();
        records.sort_by(|one, other| one.root.cmp(&other.root));
        records
    }
}

/// What a record of a project, if there is one, says of its file with that digest.
pub fn verdict(record: Option<&Record>, name: &str, digest: &str) -> Verdict {
    match record.and_then(|record| record.files.get(name)) {
        Some(known) if known == digest => Verdict::Trusted,
        Some(_) => Verdict::Changed,
        None => Verdict::Unknown,
    }
}

fn read(file: &Path) -> Option<Record> {
    let bytes = state::read(file, RECORD_BYTES_MAX).ok()??;
    let record: Record = serde_json::from_slice(&bytes).ok()?;
    (record.format == FORMAT).then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_trusted_is_one_content_of_one_project() {
        let base = tempfile::tempdir().expect("a directory");
        let store = Store::of(&Places::below(base.path()));
        let (one, other) = (Path::new("/one"), Path::new("/other"));
        let verdict = |root, bytes: &[u8]| store.verdict(root, "skync.toml", &digest(bytes));
        assert_eq!(verdict(one, b"a"), Verdict::Unknown);
        store.trust(one, &[("skync.toml".to_owned(), digest(b"a"))].into()).expect("written");
        assert_eq!(verdict(one, b"a"), Verdict::Trusted);
        assert_eq!(verdict(one, b"b"), Verdict::Changed);
        assert_eq!(verdict(other, b"a"), Verdict::Unknown);
        assert_eq!(store.verdict(one, "skync.local.toml", &digest(b"a")), Verdict::Unknown);
        assert_eq!(store.list().len(), 1);
        let follow = |old, new| store.follow(one, "skync.toml", old, new).expect("written");
        assert!(!follow(Some(b"b"), b"c"), "an edit does not let count what did not");
        assert_eq!(verdict(one, b"c"), Verdict::Changed);
        assert!(follow(Some(b"a"), b"c") && verdict(one, b"c") == Verdict::Trusted);
        assert!(follow(None, b"a") && verdict(one, b"a") == Verdict::Trusted);
        assert!(store.revoke(one).expect("removed"));
        assert!(!store.revoke(one).expect("nothing there"));
        assert_eq!(verdict(one, b"a"), Verdict::Unknown);
    }
}
