//! The open conflicts, and what a person decided about them.
//!
//! The session writes conflicts and reads decisions; `skync resolve`, another process, does the
//! reverse. Each call is one transaction, so neither sees half of what the other did.

use rusqlite::{Transaction, params};
use skync_agent::entry::{Digest, Entry};
use skync_agent::path::SyncPath;

use super::rows::{self, SideTable};
use super::{Manifest, ManifestError};
use crate::sync::decide::{Choice, Decision, Decisions};
use crate::sync::plan::{Conflict, ConflictKind, Side};

/// A conflict, and since when it is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenConflict {
    /// The conflict.
    pub conflict: Conflict,
    /// When just these versions were seen first, nanoseconds since 1970; 0 if that is not known.
    pub since_ns: i64,
}

/// The sides as the tables have them.
const HOST: i64 = 1;
const SANDBOX: i64 = 2;
const ANCESTOR: i64 = 3;

impl Manifest {
    /// The conflicts as last set, by path.
    ///
    /// # Errors
    /// If the database cannot be read, or holds something that is no conflict.
    pub fn conflicts(&self) -> Result<Vec<Conflict>, ManifestError> {
        Ok(self.open_conflicts()?.into_iter().map(|open| open.conflict).collect())
    }

    /// As [`Manifest::conflicts`], with since when each is open.
    ///
    /// # Errors
    /// As [`Manifest::conflicts`].
    pub fn open_conflicts(&self) -> Result<Vec<OpenConflict>, ManifestError> {
        // One transaction: the session may be putting others in their place.
        let transaction = self.database.unchecked_transaction()?;
        load_open(&transaction)
    }

    /// Puts these conflicts in place of all that are there. One that was there already keeps the
    /// time since when it is open.
    ///
    /// # Errors
    /// What SQLite says; nothing was changed then.
    pub fn set_conflicts(
        &mut self,
        conflicts: &[Conflict],
        now_ns: i64,
    ) -> Result<(), ManifestError> {
        let transaction = self.database.transaction()?;
        // What cannot be read is replaced all the same, it only loses its time.
        let before = load_open(&transaction).unwrap_or_default();
        let since = |conflict: &Conflict| {
            let known = before.iter().find(|open| open.conflict == *conflict);
            known.map_or(now_ns, |open| open.since_ns)
        };
        transaction.execute_batch("DELETE FROM conflict; DELETE FROM conflict_entry;")?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO conflict (path, kind, contents, since_ns) VALUES (?1, ?2, ?3, ?4)",
            )?;
            let table = SideTable::Conflict;
            for conflict in conflicts {
                let Conflict { path, host, sandbox, ancestor, contents, kind } = conflict;
                let contents = contents.as_ref().map(|digest| digest.0.as_slice());
                let row = params![path.as_bytes(), kind_code(*kind), contents, since(conflict)];
                insert.execute(row)?;
                for (side, entry) in [(HOST, host), (SANDBOX, sandbox), (ANCESTOR, ancestor)] {
                    rows::insert_side(&transaction, table, path, side, entry.as_ref())?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// The decisions that are there.
    ///
    /// # Errors
    /// If the database cannot be read, or holds something that is no decision.
    pub fn decisions(&self) -> Result<Decisions, ManifestError> {
        let transaction = self.database.unchecked_transaction()?;
        let mut statement =
            transaction.prepare_cached("SELECT path, choice, contents FROM decision")?;
        let mut found = statement.query([])?;
        let mut decisions = Decisions::none();
        while let Some(row) = found.next()? {
            let path = parse_path(&row.get::<_, Vec<u8>>(0)?)?;
            let [host, sandbox] = [HOST, SANDBOX]
                .map(|side| rows::load_side(&transaction, SideTable::Decision, &path, side));
            let decision = Decision {
                choice: choice_of(row.get(1)?)?,
                host: host?,
                sandbox: sandbox?,
                contents: parse_digest(row.get(2)?)?,
            };
            decisions.insert(path, decision);
        }
        Ok(decisions)
    }

    /// Adds decisions, each in place of an older one about the same path; all or none.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn add_decisions<'a>(
        &mut self,
        decisions: impl IntoIterator<Item = (&'a SyncPath, &'a Decision)>,
    ) -> Result<(), ManifestError> {
        let transaction = self.database.transaction()?;
        for (path, decision) in decisions {
            remove(&transaction, path)?;
            let contents = decision.contents.as_ref().map(|digest| digest.0.as_slice());
            transaction
                .prepare_cached(
                    "INSERT INTO decision (path, choice, contents) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![path.as_bytes(), choice_code(decision.choice), contents])?;
            for (side, entry) in [(HOST, &decision.host), (SANDBOX, &decision.sandbox)] {
                rows::insert_side(&transaction, SideTable::Decision, path, side, entry.as_ref())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Removes the decisions about these paths.
    ///
    /// # Errors
    /// What SQLite says; nothing was removed then.
    pub fn remove_decisions(&mut self, paths: &[SyncPath]) -> Result<(), ManifestError> {
        let transaction = self.database.transaction()?;
        for path in paths {
            remove(&transaction, path)?;
        }
        transaction.commit()?;
        Ok(())
    }
}

fn remove(transaction: &Transaction<'_>, path: &SyncPath) -> Result<(), rusqlite::Error> {
    for table in ["decision", "decision_entry"] {
        transaction
            .prepare_cached(&format!("DELETE FROM {table} WHERE path = ?1"))?
            .execute([path.as_bytes()])?;
    }
    Ok(())
}

fn load_open(transaction: &Transaction<'_>) -> Result<Vec<OpenConflict>, ManifestError> {
    let mut statement =
        transaction.prepare_cached("SELECT path, kind, contents, since_ns FROM conflict")?;
    let mut found = statement.query([])?;
    let mut conflicts = Vec::new();
    while let Some(row) = found.next()? {
        let path = parse_path(&row.get::<_, Vec<u8>>(0)?)?;
        let load = |side| rows::load_side(transaction, SideTable::Conflict, &path, side);
        let sides: [Result<Option<Entry>, _>; 3] = [HOST, SANDBOX, ANCESTOR].map(load);
        let [host, sandbox, ancestor] = sides;
        let (host, sandbox, ancestor) = (host?, sandbox?, ancestor?);
        let (kind, contents) = (kind_of(row.get(1)?)?, parse_digest(row.get(2)?)?);
        let conflict = Conflict { path, host, sandbox, ancestor, contents, kind };
        conflicts.push(OpenConflict { conflict, since_ns: row.get(3)? });
    }
    conflicts.sort_by(|one, other| one.conflict.path.cmp(&other.conflict.path));
    Ok(conflicts)
}

fn parse_path(bytes: &[u8]) -> Result<SyncPath, ManifestError> {
    SyncPath::parse(bytes).map_err(|error| ManifestError::Invalid(error.to_string()))
}

fn parse_digest(bytes: Option<Vec<u8>>) -> Result<Option<Digest>, ManifestError> {
    let Some(bytes) = bytes else { return Ok(None) };
    let digest = Digest::from_slice(&bytes);
    digest.map(Some).ok_or_else(|| ManifestError::Invalid("a bad digest".to_owned()))
}

fn kind_code(kind: ConflictKind) -> i64 {
    match kind {
        ConflictKind::BothChanged => 1,
        ConflictKind::SandboxChanged => 2,
        ConflictKind::Blocked(Side::Host) => 3,
        ConflictKind::Blocked(Side::Sandbox) => 4,
        ConflictKind::Guarded => 5,
        ConflictKind::LeavesRoot => 6,
    }
}

fn kind_of(code: i64) -> Result<ConflictKind, ManifestError> {
    match code {
        1 => Ok(ConflictKind::BothChanged),
        2 => Ok(ConflictKind::SandboxChanged),
        3 => Ok(ConflictKind::Blocked(Side::Host)),
        4 => Ok(ConflictKind::Blocked(Side::Sandbox)),
        5 => Ok(ConflictKind::Guarded),
        6 => Ok(ConflictKind::LeavesRoot),
        _ => Err(ManifestError::Invalid(format!("{code} is no kind of conflict"))),
    }
}

fn choice_code(choice: Choice) -> i64 {
    match choice {
        Choice::Host => 1,
        Choice::Sandbox => 2,
        Choice::Both => 3,
    }
}

fn choice_of(code: i64) -> Result<Choice, ManifestError> {
    match code {
        1 => Ok(Choice::Host),
        2 => Ok(Choice::Sandbox),
        3 => Ok(Choice::Both),
        _ => Err(ManifestError::Invalid(format!("{code} is no choice"))),
    }
}
