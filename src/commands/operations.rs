//! What the verbs about operations share: which one a person means, how it is shown, and what is
//! kept of its output.

pub(super) mod document;
pub(super) mod replay;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::commands::{Context, find_project, follow};
use crate::config::quantity::milliseconds;
use crate::error::{CliError, ExitCode};
use crate::operation::store::{begins_with, is_named};
use crate::operation::{FindError, OperationId, Record, RecordState, Store};
use crate::session::Spec;
use crate::session::client::Connection;
use crate::session::journal::{Entry, Journal};
use crate::session::proto::{Operation, OperationState, OperationsRequest};
use crate::ui::{status_view, visible};

/// How long a session may take to say what it runs.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most operations that are named when it is not clear which is meant.
const NAMED_MAX: usize = 10;

/// An operation that a session knows.
pub(super) struct Live {
    pub(super) operation: Operation,
    pub(super) id: OperationId,
    /// What leads to its session.
    pub(super) spec: Spec,
}

/// What is known of an operation.
pub(super) enum Found {
    /// A session has it.
    Live(Box<Live>),
    /// No session has it any more.
    Kept(Box<Record>),
    /// It ran when its session went, and another session may still find it.
    Orphan(Box<Record>, Box<Spec>),
}

impl Live {
    /// Its session.
    ///
    /// # Errors
    /// If that has gone meanwhile.
    pub(super) async fn session(&self, context: &Context) -> Result<Connection, CliError> {
        let (root, profile) = (&self.spec.root, &self.spec.profile.name);
        let found = Connection::find(&context.places, root, profile).await;
        found.ok_or_else(|| {
            CliError::new(ExitCode::Failed, "the session of this command has just ended")
                .hint("try again: what is known of it is kept")
        })
    }
}

/// All operations of all sessions of this user, on this machine.
///
/// # Errors
/// If the journal cannot be read. A session that does not answer has none.
pub(super) async fn all(context: &Context) -> Result<Vec<Live>, CliError> {
    let mut live = Vec::new();
    for entry in entries(context)? {
        let operations = ask(context, &entry).await.unwrap_or_default();
        for operation in operations {
            let Some(id) = OperationId::from_bytes(&operation.id) else { continue };
            live.push(Live { operation, id, spec: spec(&entry) });
        }
    }
    live.sort_by_key(|live| (live.operation.began_ms, live.id));
    Ok(live)
}

/// What the journal holds: entries, and the ids of those that cannot be read.
///
/// # Errors
/// If its directory cannot be read.
pub(super) fn listed(journal: &Journal) -> Result<(Vec<Entry>, Vec<String>), CliError> {
    journal.list().map_err(|error| {
        CliError::new(ExitCode::Failed, "cannot read the journal").because(&error).hint(
            "it is in the state directory, which must be yours; XDG_STATE_HOME chooses another",
        )
    })
}

pub(super) fn entries(context: &Context) -> Result<Vec<Entry>, CliError> {
    let mut entries = listed(&Journal::open(&context.places)?)?.0;
    // What a crash has left has the same socket as the session that runs now.
    let mut known = BTreeSet::new();
    entries.retain(|entry| known.insert((entry.root.clone(), entry.profile.name.clone())));
    Ok(entries)
}

fn spec(entry: &Entry) -> Spec {
    Spec { id: String::new(), root: entry.root.clone(), profile: entry.profile.clone() }
}

async fn ask(context: &Context, entry: &Entry) -> Option<Vec<Operation>> {
    let profile = &entry.profile.name;
    let mut connection = Connection::find(&context.places, &entry.root, profile).await?;
    let asked = connection.client.operations(OperationsRequest::default());
    let reply = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
    Some(reply.into_inner().operations)
}

/// The operation that a person means: of this project's session, of any session, or one that is
/// only remembered.
///
/// # Errors
/// If there is none, or more than one.
pub(super) async fn find(text: &str, context: &Context) -> Result<Found, CliError> {
    let live = all(context).await?;
    let store = Store::open(&context.places)?;
    let here = find_project(None, true).ok().map(|project| project.root);
    let Some(live) = meant(live, text, here)? else {
        return kept(text, context, &store);
    };
    let is_over = matches!(
        live.operation.state(),
        OperationState::OperationEnded
            | OperationState::OperationLost
            | OperationState::OperationNone
    );
    // The record has what the session no longer has, if it is written.
    match store.read(live.id)?.filter(|record| is_over && record.state != RecordState::Running) {
        Some(record) => Ok(Found::Kept(Box::new(record))),
        None => Ok(Found::Live(Box::new(live))),
    }
}

fn meant(live: Vec<Live>, text: &str, here: Option<PathBuf>) -> Result<Option<Live>, CliError> {
    let (own, other): (Vec<_>, Vec<_>) =
        live.into_iter().partition(|live| Some(&live.spec.root) == here.as_ref());
    for mut among in [own, other] {
        // Only one of a name runs; the newest of those that have ended.
        let rank = |live: &Live| {
            let runs = live.operation.state() != OperationState::OperationEnded;
            (runs, live.operation.began_ms)
        };
        let named = (0..among.len()).filter(|at| is_named(&among[*at].operation.name, text));
        if let Some(at) = named.max_by_key(|at| rank(&among[*at])) {
            return Ok(Some(among.swap_remove(at)));
        }
        among.retain(|live| begins_with(live.id, text));
        if among.len() > 1 {
            let known = among.iter().map(|live| {
                (live.id, live.operation.name.clone(), status_view::words(&live.operation.argv))
            });
            return Err(ambiguous(text, known.collect()));
        }
        if let Some(found) = among.pop() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn kept(text: &str, context: &Context, store: &Store) -> Result<Found, CliError> {
    let record = match store.find(text) {
        Ok(record) => record,
        Err(FindError::None) => {
            let message = format!("there is no operation `{}`", visible(text));
            return Err(CliError::new(ExitCode::NotFound, message)
                .hint("`skync ps -a` lists them; they are kept for 24 hours after their end"));
        }
        Err(FindError::Ambiguous(records)) => {
            let known = records.into_iter().map(|record| {
                let command = record.argv.join(" ");
                (record.id, record.name, command)
            });
            return Err(ambiguous(text, known.collect()));
        }
        Err(FindError::State(error)) => return Err(error.into()),
    };
    if record.state != RecordState::Running {
        return Ok(Found::Kept(Box::new(record)));
    }
    // Its session is gone, or we would have found it there; what it made may still be.
    let entry = entries(context)?
        .into_iter()
        .find(|entry| entry.root == record.root && entry.profile.name == record.profile);
    Ok(match entry {
        Some(entry) => Found::Orphan(Box::new(record), Box::new(spec(&entry))),
        None => Found::Kept(Box::new(lost(record))),
    })
}

/// The record of what ran when its session went.
pub(super) fn lost(mut record: Record) -> Record {
    record.state = RecordState::Lost;
    if record.why.is_empty() {
        "its session ended without a word".clone_into(&mut record.why);
    }
    record
}

fn ambiguous(text: &str, known: Vec<(OperationId, String, String)>) -> CliError {
    let message = format!("`{}` may be one of {} operations", visible(text), known.len());
    let mut error = CliError::new(ExitCode::Usage, message).hint("give more digits of the id");
    let lines = known
        .iter()
        .take(NAMED_MAX)
        .map(|(id, name, command)| visible(&format!("{id} {name} {}", document::short(command))));
    error.details.push(lines.collect::<Vec<_>>().join("\n"));
    error
}

/// What is to be said of an operation that did not run to an end: its outcome is not known, or it
/// was never started.
pub(super) fn no_outcome(record: &Record) -> CliError {
    let id = record.id.short();
    let why = visible(&record.why);
    match record.state {
        RecordState::Refused => {
            CliError::new(ExitCode::NotStarted, format!("`{id}` was never started: {why}"))
                .hint("it is safe to try again")
        }
        RecordState::Running | RecordState::Lost | RecordState::Ended => CliError::new(
            ExitCode::OutcomeUnknown,
            format!("the outcome of `{id}` is not known: {why}"),
        )
        .hint(format!("`skync logs {id}` shows what is known of its output")),
    }
}

/// A call of the session failed.
pub(super) fn broken(status: &tonic::Status) -> CliError {
    follow::broken(status)
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests;
