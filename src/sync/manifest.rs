//! The record of a session, in SQLite: the ancestor, the host's stat cache, the open conflicts and
//! what was decided about them.
//!
//! It is safe to lose. Without an ancestor the next round can create and can find conflicts, but
//! deletes nothing; without a stat cache files are read again. So whatever is wrong with a manifest
//! (damaged, foreign, from a newer version), it is moved aside with a note and a new one begins; it
//! is never repaired (invariant I11).
//!
//! What must be true of the order: content is on disk before the ancestor says so (I2). The caller
//! syncs the file system before [`Manifest::save_ancestor`]. This module decides nothing about
//! trees, and holds no lock longer than one small transaction; that only one session uses a
//! manifest is the caller's business.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use skync_agent::entry::{Digest, Entry, TreeError, validate_ancestor};
use skync_agent::path::SyncPath;

use super::ancestor::AncestorSet;

mod conflicts;
mod rows;
mod schema;

pub use conflicts::OpenConflict;

#[cfg(test)]
mod tests;

/// Why a manifest could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file or its directory could not be made or opened.
    #[error("cannot open the manifest `{}`", path.display())]
    Open {
        /// The manifest.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An unusable manifest could not be moved out of the way.
    #[error("cannot move the unusable manifest `{}` aside", path.display())]
    MoveAside {
        /// The manifest.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// SQLite refused.
    #[error("cannot read or write the manifest")]
    Database(#[from] rusqlite::Error),
    /// Another version of skync, another program or damage; it was left as it is.
    #[error("cannot use the manifest `{}`: {reason}", path.display())]
    Unusable {
        /// The manifest.
        path: PathBuf,
        /// Why, for a person to read.
        reason: String,
    },
    /// A value in the manifest, or on its way there, is none that can be.
    #[error("the manifest would hold something that is not valid: {0}")]
    Invalid(String),
    /// The tree to save cannot be an ancestor; nothing was saved.
    #[error("refusing to save an ancestor that is not valid")]
    Tree(#[from] TreeError),
    /// The changes do not fit the ancestor that is saved; nothing was saved. Saving all of it helps.
    #[error("the saved ancestor has no directory for `{0}`")]
    Diverged(SyncPath),
}

impl ManifestError {
    /// True if the file itself is damaged, so that only a new one helps.
    fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            Self::Database(error) => {
                matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
            }
            Self::Open { .. }
            | Self::MoveAside { .. }
            | Self::Unusable { .. }
            | Self::Invalid(_)
            | Self::Tree(_)
            | Self::Diverged(_) => false,
        }
    }
}

/// Whose record a manifest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The project's root on the host, absolute.
    pub root: PathBuf,
    /// The profile's name.
    pub profile: String,
}

/// The two replicas that an ancestor belongs to (invariant I9). A sandbox that was made anew has
/// another id, and then nothing of the old ancestor holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaPair {
    /// The host's id.
    pub host: Vec<u8>,
    /// The sandbox's id: the agent's `replica_id`.
    pub sandbox: Vec<u8>,
}

/// An ancestor as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadedAncestor {
    /// The tree; nothing if there is none for this pair of replicas.
    pub root: Option<Entry>,
    /// Why a tree that was there is not used, for a person to read.
    pub problem: Option<String>,
}

/// What the host's scan knows of one file, so that it need not read it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatRow {
    /// Where.
    pub path: SyncPath,
    /// Bytes.
    pub size: u64,
    /// Time of the last change of content.
    pub mtime_ns: i64,
    /// Time of the last change of anything.
    pub ctime_ns: i64,
    /// The inode's number.
    pub inode: u64,
    /// Digest of the content then.
    pub digest: Digest,
    /// When it was read.
    pub recorded_ns: i64,
}

/// A session's record.
#[derive(Debug)]
pub struct Manifest {
    path: PathBuf,
    owner: Owner,
    database: Connection,
    notes: Vec<String>,
}

impl Manifest {
    /// Opens the manifest at `path`, or makes it (mode 0600) and its directory.
    ///
    /// One that is damaged, of another program, of a newer skync or of another owner is moved aside
    /// to `<path>.unusable-N` with its journal, and [`Self::take_notes`] says so.
    ///
    /// # Errors
    /// If the file cannot be made, opened or moved.
    pub fn open(path: &Path, owner: Owner) -> Result<Self, ManifestError> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(|source| open_error(path, source))?;
        }
        let mut notes = Vec::new();
        let database = match schema::open(path, &owner)? {
            Ok(database) => database,
            Err(unusable) => open_anew(path, &owner, &unusable.0, &mut notes)?,
        };
        Ok(Self { path: path.into(), owner, database, notes })
    }

    /// Opens a manifest that is there, beside a session that may be using it; nothing if none is
    /// there. It is never made, nor moved aside: that is for its session to do.
    ///
    /// # Errors
    /// [`ManifestError::Unusable`] if it cannot be read by this skync.
    pub fn join(path: &Path, owner: Owner) -> Result<Option<Self>, ManifestError> {
        if !path.exists() {
            return Ok(None);
        }
        match schema::open(path, &owner)? {
            Ok(database) => {
                Ok(Some(Self { path: path.into(), owner, database, notes: Vec::new() }))
            }
            Err(unusable) => Err(ManifestError::Unusable { path: path.into(), reason: unusable.0 }),
        }
    }

    /// What happened that a person should know; each is handed out once.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Loads the ancestor of this pair of replicas.
    ///
    /// If it is damaged or not valid there is none any more, and `problem` says why.
    ///
    /// # Errors
    /// If the database cannot be read for another reason (locked, I/O).
    pub fn load_ancestor(&mut self, pair: &ReplicaPair) -> Result<LoadedAncestor, ManifestError> {
        if load_pair(&self.database)?.as_ref() != Some(pair) {
            return Ok(LoadedAncestor::default());
        }
        let loaded = rows::load_tree(&self.database).and_then(|root| {
            if let Some(root) = &root {
                validate_ancestor(&SyncPath::root(), root)?;
            }
            Ok(root)
        });
        let reason = match loaded {
            Ok(root) => {
                return Ok(LoadedAncestor { root, problem: None });
            }
            Err(ManifestError::Invalid(reason)) => reason,
            Err(ManifestError::Tree(error)) => error.to_string(),
            Err(error) if error.is_damage() => {
                self.start_anew("it is damaged")?;
                "the manifest is damaged".to_owned()
            }
            Err(error) => return Err(error),
        };
        // Nothing may be added to a tree that does not hold.
        self.database.execute("DELETE FROM entry", [])?;
        let problem =
            Some(format!("what both sides last agreed on is not known any more: {reason}"));
        Ok(LoadedAncestor { root: None, problem })
    }

    /// Saves changes of the ancestor, all or none, in one small transaction.
    ///
    /// If what is saved belongs to another pair of replicas it is dropped first, so that the changes
    /// are to an empty ancestor.
    ///
    /// # Errors
    /// [`ManifestError::Diverged`] if the changes do not fit what is saved; or what SQLite says.
    pub fn save_ancestor(
        &mut self,
        pair: &ReplicaPair,
        changes: &[AncestorSet],
    ) -> Result<(), ManifestError> {
        let transaction = self.database.transaction()?;
        if load_pair(&transaction)?.as_ref() != Some(pair) {
            transaction.execute("DELETE FROM entry", [])?;
            save_pair(&transaction, pair)?;
        }
        let mut writer = rows::Writer::new(&transaction);
        for change in changes {
            writer.set(&change.path, change.entry.as_ref())?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Saves the whole ancestor in place of what is saved; faster than single changes for a first
    /// synchronisation.
    ///
    /// # Errors
    /// [`ManifestError::Tree`] if it cannot be an ancestor (invariant I11); or what SQLite says.
    pub fn replace_ancestor(
        &mut self,
        pair: &ReplicaPair,
        root: Option<&Entry>,
    ) -> Result<(), ManifestError> {
        if let Some(root) = root {
            validate_ancestor(&SyncPath::root(), root)?;
        }
        let transaction = self.database.transaction()?;
        transaction.execute("DELETE FROM entry", [])?;
        save_pair(&transaction, pair)?;
        rows::insert_tree(&transaction, root)?;
        transaction.commit()?;
        Ok(())
    }

    /// Loads the host's stat cache. A row that is not valid is left out: the file is read again.
    ///
    /// # Errors
    /// If the database cannot be read for another reason than damage.
    pub fn load_stats(&mut self) -> Result<Vec<StatRow>, ManifestError> {
        match self.read_stats() {
            Err(error) if error.is_damage() => {
                self.start_anew("it is damaged")?;
                Ok(Vec::new())
            }
            other => other,
        }
    }

    fn read_stats(&self) -> Result<Vec<StatRow>, ManifestError> {
        let mut statement = self.database.prepare_cached(
            "SELECT path, size, mtime_ns, ctime_ns, inode, digest, recorded_ns FROM stat",
        )?;
        let mut found = statement.query([])?;
        let mut stats = Vec::new();
        while let Some(row) = found.next()? {
            stats.extend(read_stat(row)?);
        }
        Ok(stats)
    }

    /// Changes the host's stat cache in one transaction: removals first.
    ///
    /// # Errors
    /// What SQLite says; nothing was saved then.
    pub fn save_stats(
        &mut self,
        upserts: &[StatRow],
        removals: &[SyncPath],
    ) -> Result<(), ManifestError> {
        let transaction = self.database.transaction()?;
        {
            let mut remove = transaction.prepare_cached("DELETE FROM stat WHERE path = ?1")?;
            for path in removals {
                remove.execute([path.as_bytes()])?;
            }
            let mut upsert = transaction.prepare_cached(
                "INSERT OR REPLACE INTO stat
                 (path, size, mtime_ns, ctime_ns, inode, digest, recorded_ns)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            for row in upserts {
                // SQLite has no unsigned integers: sizes and inodes keep their bits.
                upsert.execute(params![
                    row.path.as_bytes(),
                    row.size.cast_signed(),
                    row.mtime_ns,
                    row.ctime_ns,
                    row.inode.cast_signed(),
                    row.digest.0.as_slice(),
                    row.recorded_ns,
                ])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn start_anew(&mut self, reason: &str) -> Result<(), ManifestError> {
        // The damaged file must be closed before it is moved.
        drop(std::mem::replace(&mut self.database, Connection::open_in_memory()?));
        self.database = open_anew(&self.path, &self.owner, reason, &mut self.notes)?;
        Ok(())
    }
}

fn open_anew(
    path: &Path,
    owner: &Owner,
    reason: &str,
    notes: &mut Vec<String>,
) -> Result<Connection, ManifestError> {
    let aside = schema::move_aside(path)
        .map_err(|source| ManifestError::MoveAside { path: path.into(), source })?;
    notes.push(format!(
        "the manifest `{}` could not be used: {reason}; it was moved to `{}` and a new one begun",
        path.display(),
        aside.display()
    ));
    schema::open(path, owner)?.map_err(|unusable| ManifestError::Invalid(unusable.0))
}

fn open_error(path: &Path, source: io::Error) -> ManifestError {
    ManifestError::Open { path: path.into(), source }
}

fn load_meta(database: &Connection, key: &str) -> Result<Option<Vec<u8>>, rusqlite::Error> {
    database
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
}

fn save_meta(database: &Connection, key: &str, value: &[u8]) -> Result<(), rusqlite::Error> {
    database
        .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?
        .execute(params![key, value])?;
    Ok(())
}

fn load_pair(database: &Connection) -> Result<Option<ReplicaPair>, rusqlite::Error> {
    let host = load_meta(database, "replica_host")?;
    let sandbox = load_meta(database, "replica_sandbox")?;
    Ok(host.zip(sandbox).map(|(host, sandbox)| ReplicaPair { host, sandbox }))
}

fn save_pair(transaction: &Transaction<'_>, pair: &ReplicaPair) -> Result<(), rusqlite::Error> {
    save_meta(transaction, "replica_host", &pair.host)?;
    save_meta(transaction, "replica_sandbox", &pair.sandbox)
}

impl Owner {
    fn load(database: &Connection) -> Result<Option<Self>, rusqlite::Error> {
        let saved = load_meta(database, "root")?.zip(load_meta(database, "profile")?);
        Ok(saved.map(|(root, profile)| Self {
            root: OsString::from_vec(root).into(),
            profile: String::from_utf8_lossy(&profile).into_owned(),
        }))
    }

    fn save(&self, database: &Connection) -> Result<(), rusqlite::Error> {
        save_meta(database, "root", self.root.as_os_str().as_bytes())?;
        save_meta(database, "profile", self.profile.as_bytes())
    }
}

/// Reads one row of the stat cache; nothing if it is not valid.
fn read_stat(row: &Row<'_>) -> Result<Option<StatRow>, rusqlite::Error> {
    let (path, digest): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(5)?);
    let (Ok(path), Some(digest)) = (SyncPath::parse(&path), Digest::from_slice(&digest)) else {
        return Ok(None);
    };
    Ok(Some(StatRow {
        path,
        size: row.get::<_, i64>(1)?.cast_unsigned(),
        mtime_ns: row.get(2)?,
        ctime_ns: row.get(3)?,
        inode: row.get::<_, i64>(4)?.cast_unsigned(),
        digest,
        recorded_ns: row.get(6)?,
    }))
}
