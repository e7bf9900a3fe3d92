//! Opening a manifest's database: whose it is, which version, and what to do if it is neither ours
//! nor whole. Nothing here knows what the rows mean.

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::{ManifestError, Owner, open_error};

/// `skyn`: marks the file as ours.
pub(super) const APPLICATION_ID: i64 = 0x736b_796e;

/// How long to wait for another process that has the database locked: a person looking into it with
/// `sqlite3`, or a session that is just ending.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Most unusable manifests kept beside each other; the last one is replaced after that.
const ASIDE_COUNT_MAX: u32 = 5;

/// What takes the database from each version to the next; version N is what N of these make.
///
/// History: 1, the first. 2, decisions about conflicts, and since when a conflict is open.
pub(super) const MIGRATIONS: [&str; 2] = [
    "
    CREATE TABLE meta (
        key TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- The ancestor. The root has parent 0 and an empty name.
    CREATE TABLE entry (
        id INTEGER PRIMARY KEY,
        parent INTEGER NOT NULL,
        name BLOB NOT NULL,
        kind INTEGER NOT NULL,
        digest BLOB,
        size INTEGER,
        mode INTEGER,
        mtime_ns INTEGER,
        target BLOB,
        UNIQUE (parent, name)
    ) STRICT;

    CREATE TABLE stat (
        path BLOB PRIMARY KEY,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        ctime_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        digest BLOB NOT NULL,
        recorded_ns INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE conflict (
        path BLOB PRIMARY KEY,
        kind INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- What host (1), sandbox (2) and ancestor (3) have at a conflict; no row where nothing is.
    CREATE TABLE conflict_entry (
        path BLOB NOT NULL,
        side INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        digest BLOB,
        size INTEGER,
        mode INTEGER,
        mtime_ns INTEGER,
        target BLOB,
        PRIMARY KEY (path, side)
    ) STRICT, WITHOUT ROWID;
",
    "
    ALTER TABLE conflict ADD COLUMN contents BLOB;
    ALTER TABLE conflict ADD COLUMN since_ns INTEGER NOT NULL DEFAULT 0;

    CREATE TABLE decision (
        path BLOB PRIMARY KEY,
        choice INTEGER NOT NULL,
        contents BLOB
    ) STRICT, WITHOUT ROWID;

    -- What host (1) and sandbox (2) had when it was decided; no row where nothing was.
    CREATE TABLE decision_entry (
        path BLOB NOT NULL,
        side INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        digest BLOB,
        size INTEGER,
        mode INTEGER,
        mtime_ns INTEGER,
        target BLOB,
        PRIMARY KEY (path, side)
    ) STRICT, WITHOUT ROWID;
",
];

/// Every column that is read, so that a database that only looks like ours is found out at once.
const PROBES: [&str; 7] = [
    "SELECT key, value FROM meta LIMIT 0",
    "SELECT id, parent, name, kind, digest, size, mode, mtime_ns, target FROM entry LIMIT 0",
    "SELECT path, size, mtime_ns, ctime_ns, inode, digest, recorded_ns FROM stat LIMIT 0",
    "SELECT path, kind, contents, since_ns FROM conflict LIMIT 0",
    "SELECT path, side, kind, digest, size, mode, mtime_ns, target FROM conflict_entry LIMIT 0",
    "SELECT path, choice, contents FROM decision LIMIT 0",
    "SELECT path, side, kind, digest, size, mode, mtime_ns, target FROM decision_entry LIMIT 0",
];

/// Why a database must be moved aside, for a person to read.
#[derive(Debug)]
pub(super) struct Unusable(pub(super) String);

/// Opens or makes the database of `owner`; the inner error says why another file must be used.
pub(super) fn open(
    path: &Path,
    owner: &Owner,
) -> Result<Result<Connection, Unusable>, ManifestError> {
    // SQLite gives its journal files the permissions of the database, so they are set before it.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .and_then(|file| file.set_permissions(Permissions::from_mode(0o600)))
        .map_err(|source| open_error(path, source))?;
    match prepare(path, owner) {
        // A statement that does not fit: a table or a column is not there.
        Err(ManifestError::Database(rusqlite::Error::SqlInputError { .. })) => {
            Ok(Err(Unusable("its tables are not ours".to_owned())))
        }
        Err(error) if error.is_damage() => {
            Ok(Err(Unusable("it is damaged or no database".to_owned())))
        }
        other => other,
    }
}

fn prepare(path: &Path, owner: &Owner) -> Result<Result<Connection, Unusable>, ManifestError> {
    let unusable = |reason: String| Ok(Err(Unusable(reason)));
    let mut database = Connection::open(path)?;
    database.busy_timeout(BUSY_TIMEOUT)?;
    // Functions and views that someone put into the file are not to be run.
    database.pragma_update(None, "trusted_schema", false)?;
    let version: i64 = database.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i64 = database.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let objects: i64 =
        database.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let is_fresh = version == 0 && application == 0 && objects == 0;
    if !is_fresh && application != APPLICATION_ID {
        return unusable("it belongs to another program".to_owned());
    }
    let Some(steps) = usize::try_from(version).ok().and_then(|done| MIGRATIONS.get(done..)) else {
        return unusable(format!(
            "it has version {version} and this skync knows up to {}",
            MIGRATIONS.len()
        ));
    };
    // With a write-ahead log, `NORMAL` never damages the database; after a power cut the newest
    // transactions may be missing, and a record that lags is safe (invariant I2).
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "NORMAL")?;
    migrate(&mut database, version, steps)?;
    for probe in PROBES {
        database.prepare(probe)?;
    }
    match Owner::load(&database)? {
        None => owner.save(&database)?,
        Some(saved) if saved == *owner => {}
        Some(saved) => {
            return unusable(format!(
                "it belongs to `{}` with the profile `{}`",
                saved.root.display(),
                saved.profile
            ));
        }
    }
    Ok(Ok(database))
}

fn migrate(database: &mut Connection, version: i64, steps: &[&str]) -> Result<(), rusqlite::Error> {
    if steps.is_empty() {
        return Ok(());
    }
    let transaction = database.transaction()?;
    for step in steps {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", version + steps.len() as i64)?;
    transaction.commit()
}

/// Moves a database and its journal out of the way and says where to.
///
/// The journal goes first: left behind, it would be taken for that of the new database.
#[expect(clippy::disallowed_methods, reason = "the manifest is our own file, not a synced one")]
pub(super) fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let numbered = |number: u32| with_suffix(path, &format!(".unusable-{number}"));
    let free = (1..ASIDE_COUNT_MAX).map(numbered).find(|aside| !aside.exists());
    let aside = free.unwrap_or_else(|| numbered(ASIDE_COUNT_MAX));
    for suffix in ["-wal", "-shm", ""] {
        match std::fs::rename(with_suffix(path, suffix), with_suffix(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
