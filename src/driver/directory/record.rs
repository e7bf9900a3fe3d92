//! `sandbox.json`: what a directory sandbox is, for whoever finds it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{failed, write_file};
use crate::driver::{DriverError, ErrorKind, Sandbox, is_session_id, label};

/// The file's name in a sandbox's directory.
pub(super) const FILE: &str = "sandbox.json";

/// The format that is written. 1: the first.
pub(super) const VERSION: u32 = 1;

/// Most bytes of a record; a real one has some hundred.
const BYTES_MAX: u64 = 64 * 1024;

/// What a sandbox is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Of this format.
    pub(super) version: u32,
    /// Its labels.
    pub(super) labels: BTreeMap<String, String>,
    /// The project in it.
    pub(super) root: PathBuf,
    /// The agent's file name.
    pub(super) agent: String,
    /// Where the agent listens.
    pub(super) socket: PathBuf,
}

impl Record {
    /// The record in `directory`; `None` if there is none that is ours.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, DriverError> {
        let path = directory.join(FILE);
        let mut text = Vec::new();
        let read =
            std::fs::File::open(&path).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut text));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path, error)),
        }
        let record = serde_json::from_slice::<Self>(&text).ok();
        // Its name becomes part of a path that is run.
        Ok(record.filter(|record| {
            record.version == VERSION
                && record.labels.contains_key(label::VERSION)
                && record.agent.strip_prefix("skync-agent-").is_some_and(|hex| {
                    !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
                })
        }))
    }

    /// Writes it whole or not at all.
    pub(super) fn write(&self, directory: &Path) -> Result<(), DriverError> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| {
            let message = "the sandbox's record cannot be written: a path is not UTF-8";
            DriverError::new(ErrorKind::Invalid, message)
                .source(error)
                .hint("the project's name, `base` in the profile and XDG_RUNTIME_DIR must be UTF-8")
        })?;
        let (fresh, path) = (directory.join(".sandbox.json.new"), directory.join(FILE));
        write_file(&fresh, 0o600, &text)?;
        rustix::fs::rename(&fresh, &path).map_err(|error| failed("write", &path, error.into()))
    }

    /// Checks that the sandbox that is meant is the one that is there.
    pub(super) fn check(&self, sandbox: &Sandbox) -> Result<(), DriverError> {
        let same = self.labels.get(label::SESSION) == sandbox.labels.get(label::SESSION);
        if same && sandbox.labels.contains_key(label::SESSION) {
            return Ok(());
        }
        let message = format!("`{}` belongs to another session", sandbox.id);
        Err(DriverError::new(ErrorKind::Denied, message).hint("it is not touched"))
    }

    /// The sandbox that it describes.
    pub(super) fn sandbox(&self, directory: &Path) -> Sandbox {
        Sandbox {
            id: directory.to_string_lossy().into_owned(),
            name: directory.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            root: self.root.clone(),
            ephemeral: true,
            labels: self.labels.clone(),
        }
    }
}

/// The sandboxes below `base` that carry all these labels. What cannot be read is passed over.
pub(super) fn find(
    base: &Path,
    labels: &BTreeMap<String, String>,
) -> Result<Vec<Sandbox>, DriverError> {
    let entries = match std::fs::read_dir(base) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", base, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed("list", base, error))?;
        if !entry.file_name().to_str().is_some_and(is_session_id) {
            continue;
        }
        match Record::read(&entry.path()) {
            Ok(Some(record)) => {
                if labels.iter().all(|(key, value)| record.labels.get(key) == Some(value)) {
                    found.push(record.sandbox(&entry.path()));
                }
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "passed over"),
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}
