//! Entries as rows: the ancestor's tree by parent and name, and the entries of conflicts.
//!
//! Everything read is checked as if a stranger had written it; a tree that does not hold together
//! is an error, never a smaller tree, because what is missing from an ancestor changes what the
//! next plan does.

use std::collections::HashMap;

use rusqlite::{Connection, Error as SqlError};
use rusqlite::{OptionalExtension, Row, Statement, Transaction, params};
use skync_agent::entry::{Digest, Directory, Entry, File};
use skync_agent::path::{Name, PATH_BYTES_MAX, SyncPath};

use super::ManifestError;

const DIRECTORY: i64 = 1;
const FILE: i64 = 2;
const SYMLINK: i64 = 3;
/// Only in conflicts.
const UNTRACKED: i64 = 4;
/// Only in conflicts; its text is in `target`.
const PROBLEM: i64 = 5;

/// Parent of the root's row.
const NO_PARENT: i64 = 0;

/// The tables with what the sides have at a path.
#[derive(Clone, Copy)]
pub(super) enum SideTable {
    /// Of the open conflicts.
    Conflict,
    /// Of the decisions.
    Decision,
}

impl SideTable {
    fn name(self) -> &'static str {
        match self {
            Self::Conflict => "conflict_entry",
            Self::Decision => "decision_entry",
        }
    }
}

/// An entry's columns, borrowed for writing.
#[derive(Default)]
struct Columns<'a> {
    kind: i64,
    digest: Option<&'a [u8]>,
    size: Option<i64>,
    mode: Option<u16>,
    mtime_ns: Option<i64>,
    target: Option<&'a [u8]>,
}

impl<'a> Columns<'a> {
    fn of(entry: &'a Entry) -> Self {
        match entry {
            Entry::Directory(directory) => {
                Self { kind: DIRECTORY, mode: Some(directory.mode), ..Self::default() }
            }
            Entry::File(file) => Self {
                kind: FILE,
                digest: Some(&file.digest.0),
                size: Some(file.size.cast_signed()),
                mode: Some(file.mode),
                mtime_ns: Some(file.mtime_ns),
                target: None,
            },
            Entry::Symlink(target) => {
                Self { kind: SYMLINK, target: Some(target), ..Self::default() }
            }
            Entry::Untracked => Self { kind: UNTRACKED, ..Self::default() },
            Entry::Problem(reason) => {
                Self { kind: PROBLEM, target: Some(reason.as_bytes()), ..Self::default() }
            }
        }
    }
}

/// Reads an entry, without children, from the columns `kind, digest, size, mode, mtime_ns, target`
/// that begin at `first`.
fn read_entry(row: &Row<'_>, first: usize) -> Result<Entry, ManifestError> {
    let invalid = |what: &str| ManifestError::Invalid(what.to_owned());
    let kind: i64 = row.get(first)?;
    let digest = row.get_ref(first + 1)?.as_blob_or_null().map_err(SqlError::from)?;
    let size: Option<i64> = row.get(first + 2)?;
    let mode: Option<i64> = row.get(first + 3)?;
    let mtime_ns: Option<i64> = row.get(first + 4)?;
    let target = row.get_ref(first + 5)?.as_blob_or_null().map_err(SqlError::from)?;
    let mode = || {
        let bits = mode.and_then(|mode| u16::try_from(mode).ok());
        bits.filter(|bits| *bits <= 0o777).ok_or_else(|| invalid("permission bits out of range"))
    };
    match kind {
        DIRECTORY => Ok(Entry::Directory(Directory { mode: mode()?, ..Directory::default() })),
        FILE => Ok(Entry::File(File {
            digest: digest.and_then(Digest::from_slice).ok_or_else(|| invalid("a bad digest"))?,
            size: size.ok_or_else(|| invalid("a file without a size"))?.cast_unsigned(),
            mode: mode()?,
            mtime_ns: mtime_ns.ok_or_else(|| invalid("a file without a time"))?,
        })),
        SYMLINK => {
            let target = target.filter(|target| !target.is_empty() && !target.contains(&0));
            Ok(Entry::Symlink(target.ok_or_else(|| invalid("a bad link target"))?.into()))
        }
        UNTRACKED => Ok(Entry::Untracked),
        PROBLEM => {
            let reason = target.ok_or_else(|| invalid("a problem without a reason"))?;
            Ok(Entry::Problem(String::from_utf8_lossy(reason).into_owned()))
        }
        _ => Err(ManifestError::Invalid(format!("{kind} is no kind of entry"))),
    }
}

/// Rows by parent, with the id that their own children name.
type Families = HashMap<i64, Vec<(Vec<u8>, i64, Entry)>>;

/// Loads the ancestor's tree; nothing if none is saved.
pub(super) fn load_tree(database: &Connection) -> Result<Option<Entry>, ManifestError> {
    let mut statement = database.prepare_cached(
        "SELECT id, parent, name, kind, digest, size, mode, mtime_ns, target FROM entry",
    )?;
    let mut found = statement.query([])?;
    let mut families = Families::new();
    while let Some(row) = found.next()? {
        let (id, parent): (i64, i64) = (row.get(0)?, row.get(1)?);
        let member = (row.get(2)?, id, read_entry(row, 3)?);
        families.entry(parent).or_default().push(member);
    }
    let Some(roots) = families.remove(&NO_PARENT) else {
        return orphans(&families).map(|()| None);
    };
    let [(name, id, mut root)] = <[_; 1]>::try_from(roots)
        .map_err(|_| ManifestError::Invalid("more than one root".to_owned()))?;
    if !name.is_empty() {
        return Err(ManifestError::Invalid("the root has a name".to_owned()));
    }
    adopt_children(&mut root, id, 0, &mut families)?;
    orphans(&families).map(|()| Some(root))
}

/// What no directory has adopted hangs below a file, below nothing, or in a circle.
fn orphans(families: &Families) -> Result<(), ManifestError> {
    match families.is_empty() {
        true => Ok(()),
        false => Err(ManifestError::Invalid("an entry's parent is not a directory".to_owned())),
    }
}

/// Moves the rows below `id` into the tree. `path_bytes` bounds how deep this can go.
fn adopt_children(
    entry: &mut Entry,
    id: i64,
    path_bytes: usize,
    families: &mut Families,
) -> Result<(), ManifestError> {
    let Entry::Directory(directory) = entry else {
        return Ok(());
    };
    let Some(members) = families.remove(&id) else {
        return Ok(());
    };
    directory.children.reserve_exact(members.len());
    for (name, id, mut child) in members {
        let name = Name::parse(&name).map_err(|error| ManifestError::Invalid(error.to_string()))?;
        let path_bytes = path_bytes + 1 + name.as_bytes().len();
        if path_bytes > PATH_BYTES_MAX + 1 {
            return Err(ManifestError::Invalid("a path is too long".to_owned()));
        }
        adopt_children(&mut child, id, path_bytes, families)?;
        directory.children.push((name, child));
    }
    directory.children.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(())
}

const INSERT: &str = "INSERT INTO entry
    (id, parent, name, kind, digest, size, mode, mtime_ns, target)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

/// Inserts a whole tree into the empty table.
pub(super) fn insert_tree(
    transaction: &Transaction<'_>,
    root: Option<&Entry>,
) -> Result<(), ManifestError> {
    let Some(root) = root else { return Ok(()) };
    let mut statement = transaction.prepare_cached(INSERT)?;
    let mut last_id = NO_PARENT;
    insert_below(&mut statement, &mut last_id, NO_PARENT, b"", root)?;
    Ok(())
}

fn insert_below(
    statement: &mut Statement<'_>,
    last_id: &mut i64,
    parent: i64,
    name: &[u8],
    entry: &Entry,
) -> Result<(), SqlError> {
    *last_id += 1;
    let id = *last_id;
    insert_row(statement, Some(id), parent, name, entry)?;
    if let Entry::Directory(directory) = entry {
        for (name, child) in &directory.children {
            insert_below(statement, last_id, id, name.as_bytes(), child)?;
        }
    }
    Ok(())
}

fn insert_row(
    statement: &mut Statement<'_>,
    id: Option<i64>,
    parent: i64,
    name: &[u8],
    entry: &Entry,
) -> Result<(), SqlError> {
    let of = Columns::of(entry);
    statement.execute(params![
        id,
        parent,
        name,
        of.kind,
        of.digest,
        of.size,
        of.mode,
        of.mtime_ns,
        of.target
    ])?;
    Ok(())
}

/// Changes single entries of the saved ancestor, with the meaning of `Ancestor::set`.
pub(super) struct Writer<'a> {
    transaction: &'a Transaction<'a>,
    /// Ids of directories met in this transaction.
    directories: HashMap<SyncPath, i64>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(transaction: &'a Transaction<'a>) -> Self {
        Self { transaction, directories: HashMap::new() }
    }

    pub(super) fn set(
        &mut self,
        path: &SyncPath,
        entry: Option<&Entry>,
    ) -> Result<(), ManifestError> {
        if let Some(Entry::Untracked | Entry::Problem(_)) = entry {
            let text = format!("`{path}` cannot be in an ancestor");
            return Err(ManifestError::Invalid(text));
        }
        let split = path.split();
        let parent = match &split {
            None => Some(NO_PARENT),
            Some((parent, _)) => self.directory(parent)?,
        };
        let name = split.as_ref().map_or(&b""[..], |(_, name)| name.as_bytes());
        match (parent, entry) {
            (Some(parent), entry) => self.set_row(path, parent, name, entry),
            (None, None) => Ok(()),
            (None, Some(_)) => Err(ManifestError::Diverged(path.clone())),
        }
    }

    fn set_row(
        &mut self,
        path: &SyncPath,
        parent: i64,
        name: &[u8],
        entry: Option<&Entry>,
    ) -> Result<(), ManifestError> {
        let found = self.find(parent, name)?;
        let stays_directory = matches!(entry, Some(Entry::Directory(_)));
        if let Some((id, DIRECTORY)) = found
            && !stays_directory
        {
            self.remove_below(id)?;
        }
        match (found, entry) {
            (None, None) => {}
            (Some((id, _)), None) => {
                self.transaction
                    .prepare_cached("DELETE FROM entry WHERE id = ?1")?
                    .execute([id])?;
            }
            (None, Some(entry)) => {
                let mut statement = self.transaction.prepare_cached(INSERT)?;
                insert_row(&mut statement, None, parent, name, entry)?;
                if stays_directory {
                    let id = self.transaction.last_insert_rowid();
                    self.directories.insert(path.clone(), id);
                }
            }
            (Some((id, _)), Some(entry)) => {
                let of = Columns::of(entry);
                self.transaction
                    .prepare_cached(
                        "UPDATE entry SET kind = ?2, digest = ?3, size = ?4, mode = ?5,
                         mtime_ns = ?6, target = ?7 WHERE id = ?1",
                    )?
                    .execute(params![
                        id,
                        of.kind,
                        of.digest,
                        of.size,
                        of.mode,
                        of.mtime_ns,
                        of.target
                    ])?;
            }
        }
        Ok(())
    }

    fn remove_below(&mut self, id: i64) -> Result<(), SqlError> {
        self.directories.clear();
        // UNION, not UNION ALL: it ends even in a circle.
        self.transaction
            .prepare_cached(
                "WITH RECURSIVE doomed (id) AS (
                     SELECT id FROM entry WHERE parent = ?1
                     UNION
                     SELECT entry.id FROM entry JOIN doomed ON entry.parent = doomed.id
                 )
                 DELETE FROM entry WHERE id IN doomed",
            )?
            .execute([id])?;
        Ok(())
    }

    /// The id of a directory; nothing if the path is none.
    fn directory(&mut self, path: &SyncPath) -> Result<Option<i64>, SqlError> {
        if let Some(id) = self.directories.get(path) {
            return Ok(Some(*id));
        }
        let mut at = self.find(NO_PARENT, b"")?;
        for name in path.names() {
            let Some((id, DIRECTORY)) = at else {
                return Ok(None);
            };
            at = self.find(id, name)?;
        }
        let Some((id, DIRECTORY)) = at else {
            return Ok(None);
        };
        self.directories.insert(path.clone(), id);
        Ok(Some(id))
    }

    fn find(&self, parent: i64, name: &[u8]) -> Result<Option<(i64, i64)>, SqlError> {
        self.transaction
            .prepare_cached("SELECT id, kind FROM entry WHERE parent = ?1 AND name = ?2")?
            .query_row(params![parent, name], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    }
}

/// Saves what one side has at a path; nothing is saved where nothing is.
pub(super) fn insert_side(
    transaction: &Transaction<'_>,
    table: SideTable,
    path: &SyncPath,
    side: i64,
    entry: Option<&Entry>,
) -> Result<(), SqlError> {
    let Some(entry) = entry else { return Ok(()) };
    let of = Columns::of(entry);
    let statement = format!(
        "INSERT INTO {} (path, side, kind, digest, size, mode, mtime_ns, target)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        table.name()
    );
    transaction.prepare_cached(&statement)?.execute(params![
        path.as_bytes(),
        side,
        of.kind,
        of.digest,
        of.size,
        of.mode,
        of.mtime_ns,
        of.target
    ])?;
    Ok(())
}

/// What one side has at a path.
pub(super) fn load_side(
    database: &Connection,
    table: SideTable,
    path: &SyncPath,
    side: i64,
) -> Result<Option<Entry>, ManifestError> {
    let statement = format!(
        "SELECT kind, digest, size, mode, mtime_ns, target FROM {} WHERE path = ?1 AND side = ?2",
        table.name()
    );
    let mut statement = database.prepare_cached(&statement)?;
    let mut found = statement.query(params![path.as_bytes(), side])?;
    found.next()?.map(|row| read_entry(row, 0)).transpose()
}
