//! The records of this user's operations on disk: `$XDG_STATE_HOME/skync/operations/<id>/` with
//! `record.json` and `output`.
//!
//! Records are written without waiting for the disk. They must outlive our processes, and the
//! machine's page cache does; when the machine goes down, the operation's client and session, for
//! whom a record says where to go on, are gone with it, and a command must not wait 20 ms for that.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::PathBuf;

use super::output::{OutputReader, OutputWriter};
use super::record::FORMAT;
use super::{OperationId, Record, RecordState};
use crate::state::{self, Places, StateError};

#[cfg(test)]
mod tests;

/// How long an operation is remembered after its end, milliseconds.
const KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// Most bytes of all that is remembered; the oldest goes first.
const BYTES_MAX: u64 = 1 << 30;
/// A larger record is not ours: the kernel allows 2 MiB of arguments, and JSON may take six
/// characters for each byte of them.
const RECORD_BYTES_MAX: u64 = 16 << 20;
/// Output is written to the kernel in pieces of this size.
const BUFFER_BYTES: usize = 256 << 10;
/// Least digits of an id that a person may give instead of all.
const PREFIX_DIGITS_MIN: usize = 4;

const RECORD: &str = "record.json";
const OUTPUT: &str = "output";

/// The records of all operations of this user.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

/// Why an operation was not found.
#[derive(Debug)]
pub enum FindError {
    /// There is none.
    None,
    /// There are several whose ids begin so.
    Ambiguous(Vec<Record>),
    /// The records could not be read.
    State(StateError),
}

impl From<StateError> for FindError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl Store {
    /// The store, made if it is not there.
    ///
    /// # Errors
    /// If its directory cannot be made.
    pub fn open(places: &Places) -> Result<Self, StateError> {
        let directory = places.state_dir()?.join("operations");
        state::make_directory(&directory)?;
        Ok(Self { directory })
    }

    fn of(&self, id: OperationId) -> PathBuf {
        self.directory.join(id.to_string())
    }

    /// Writes down that an operation is about to start.
    ///
    /// # Errors
    /// If it cannot be written; then the command must not be started: nobody would find it.
    pub fn begin(&self, record: &Record) -> Result<(), StateError> {
        state::make_directory(&self.of(record.id))?;
        self.write(record)
    }

    /// Writes down what has become of an operation.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(&self, record: &Record) -> Result<(), StateError> {
        // `begin` may have failed, or the record may have been removed meanwhile.
        self.begin(record)
    }

    fn write(&self, record: &Record) -> Result<(), StateError> {
        let path = self.of(record.id).join(RECORD);
        let bytes = serde_json::to_vec_pretty(record).map_err(|error| StateError::Io {
            verb: "write",
            path: path.clone(),
            source: error.into(),
        })?;
        state::write_atomic_in_cache(&path, &bytes, 0o600)
    }

    /// Begins the file of an operation's output; one that is there is replaced. Flush it at the end.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn output_writer(
        &self,
        id: OperationId,
    ) -> Result<OutputWriter<BufWriter<File>>, StateError> {
        state::make_directory(&self.of(id))?;
        let file = state::create(&self.of(id).join(OUTPUT))?;
        Ok(OutputWriter::new(BufWriter::with_capacity(BUFFER_BYTES, file)))
    }

    /// The output that was kept of an operation; nothing if none was.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn output(
        &self,
        id: OperationId,
    ) -> Result<Option<OutputReader<BufReader<File>>>, StateError> {
        let file = state::open(&self.of(id).join(OUTPUT))?;
        Ok(file.map(|file| OutputReader::new(BufReader::with_capacity(BUFFER_BYTES, file))))
    }

    /// The record of an operation; nothing if there is none that can be read.
    ///
    /// # Errors
    /// If its file is there and cannot be read.
    pub fn read(&self, id: OperationId) -> Result<Option<Record>, StateError> {
        let bytes = state::read(&self.of(id).join(RECORD), RECORD_BYTES_MAX)?;
        let record: Option<Record> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        // A record of a later format may mean things we do not know.
        Ok(record.filter(|record| record.format == FORMAT && record.id == id))
    }

    /// True if there is a record of that id.
    pub fn knows(&self, id: OperationId) -> bool {
        self.of(id).join(RECORD).exists()
    }

    /// All records that can be read, oldest first.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Record>, StateError> {
        let mut records: Vec<Record> =
            self.ids()?.into_iter().filter_map(|id| self.read(id).ok().flatten()).collect();
        records.sort_by_key(|record| (record.began_ms, record.id));
        Ok(records)
    }

    fn ids(&self) -> Result<Vec<OperationId>, StateError> {
        let failed = |source: io::Error| StateError::Io {
            verb: "list",
            path: self.directory.clone(),
            source,
        };
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&self.directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            // What has another name is not ours.
            ids.extend(name.to_str().and_then(|name| name.parse::<OperationId>().ok()));
        }
        Ok(ids)
    }

    /// The operation that a person means: by its name, of which the newest wins, or by the first
    /// digits of its id.
    ///
    /// # Errors
    /// If there is none or more than one, or the records cannot be read.
    pub fn find(&self, text: &str) -> Result<Record, FindError> {
        let mut records = self.list()?;
        if let Some(at) = records.iter().rposition(|record| is_named(&record.name, text)) {
            return Ok(records.swap_remove(at));
        }
        records.retain(|record| begins_with(record.id, text));
        match records.len() {
            0 => Err(FindError::None),
            1 => Ok(records.swap_remove(0)),
            _ => Err(FindError::Ambiguous(records)),
        }
    }

    /// Forgets what ended more than 24 h ago, and the oldest until all that is left has at most
    /// 1 GiB. What runs is kept as long as `lives` says that its session does; after that it is
    /// written down as lost, and kept for as long as the others.
    ///
    /// # Errors
    /// If the records cannot be listed; one that cannot be removed stays.
    pub fn prune(&self, now_ms: u64, lives: impl Fn(&Record) -> bool) -> Result<(), StateError> {
        let mut kept = Vec::new();
        let mut total = 0_u64;
        for mut record in self.list()? {
            total = total.saturating_add(self.bytes(record.id));
            if record.state == RecordState::Running {
                if !lives(&record) {
                    record.state = RecordState::Lost;
                    record.why = "its session ended without a word".to_owned();
                    record.ended_ms = now_ms;
                    // If it cannot be written, the next one tries again.
                    let _ = self.finish(&record);
                }
                continue;
            }
            kept.push(record);
        }
        kept.sort_by_key(|record| record.ended_ms);
        for record in kept {
            let is_old = now_ms.saturating_sub(record.ended_ms) > KEPT_MS;
            if is_old || total > BYTES_MAX {
                let bytes = self.bytes(record.id);
                if self.remove(record.id).is_ok() {
                    total = total.saturating_sub(bytes);
                }
            }
        }
        Ok(())
    }

    /// Bytes of what is kept of an operation.
    fn bytes(&self, id: OperationId) -> u64 {
        let size = |name| std::fs::metadata(self.of(id).join(name)).map_or(0, |found| found.len());
        size(RECORD) + size(OUTPUT)
    }

    /// Forgets an operation.
    ///
    /// # Errors
    /// If its files cannot be removed.
    pub fn remove(&self, id: OperationId) -> Result<(), StateError> {
        state::remove_tree(&self.of(id))
    }
}

/// Whether a person who says `text` means the operation of that name.
pub fn is_named(name: &str, text: &str) -> bool {
    !name.is_empty() && name == text
}

/// Whether a person who says `text` may mean the operation of that id.
pub fn begins_with(id: OperationId, text: &str) -> bool {
    text.len() >= PREFIX_DIGITS_MIN && id.to_string().starts_with(&text.to_ascii_lowercase())
}
