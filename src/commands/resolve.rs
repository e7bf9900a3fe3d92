//! `skync resolve`: takes a person's decisions about conflicts.
//!
//! A decision goes into the manifest, where the session finds it: a running one is told, otherwise
//! the next one carries it out.

pub(super) mod in_place;

use std::io::Read;
use std::path::Path;

use serde_json::json;
use skync_agent::disk::Root;
use skync_agent::entry::Entry;
use skync_agent::path::SyncPath;

use super::Context;
use super::conflicts::{choice_word, version};
use super::record::{RECORD, Record, hint_nearest, nearest};
use crate::cli::ResolveArgs;
use crate::error::{CliError, ExitCode};
use crate::session::client::Connection;
use crate::session::proto::{ContentRequest, FlushRequest};
use crate::state::Places;
use crate::sync::decide::{Choice, Decision, Meant};
use crate::sync::manifest::{Manifest, ManifestError};
use crate::sync::plan::Conflict;
use crate::ui::prompt::{self, Standard};
use crate::ui::render::SCHEMA_VERSION;
use crate::ui::{difference, print, visible};

/// Reasons that are told one by one.
const REFUSED_MAX: usize = 10;

/// Gives the content of the sandbox's version of a file in conflict; nothing without a session.
pub type Fetch<'a> = &'a dyn Fn(&Conflict) -> Option<Vec<u8>>;

/// Takes decisions about conflicts of the project.
///
/// # Errors
/// If there is no such conflict, or a choice cannot be made about one; the others are decided.
pub async fn run(args: &ResolveArgs, context: &Context) -> Result<ExitCode, CliError> {
    let profile = context.profile_name(args.root.as_deref())?;
    let record = Record::find(args.root.as_deref())?;
    let root = record.project.root.clone();
    let manifest = record.manifest(context, &profile)?;
    let fetch = |conflict: &Conflict| fetch(&context.places, &root, &profile, conflict);
    let decided = match manifest {
        Some(mut manifest) => decide(args, context, &record, &mut manifest, &fetch)?,
        None => choose(args, context, &record, &[], &|_| None)?,
    };
    let told = !decided.taken.is_empty() && tell_session(&context.places, &root, &profile).await;
    say(context, &decided, told)?;
    if decided.refused.is_empty() {
        return Ok(ExitCode::Done);
    }
    let mut error = CliError::new(ExitCode::Conflict, refused_words(decided.refused.len()));
    let shown = decided.refused.iter().take(REFUSED_MAX);
    error.details = shown.map(|reason| visible(reason)).collect();
    Err(error)
}

/// The sandbox's version of a file in conflict, if a session runs that can read it.
fn fetch(places: &Places, root: &Path, profile: &str, conflict: &Conflict) -> Option<Vec<u8>> {
    let file = conflict.sandbox.as_ref()?.as_file()?;
    let request = ContentRequest {
        path: conflict.path.as_bytes().to_vec(),
        digest: file.digest.0.to_vec(),
        size: file.size,
    };
    // A question is being asked on this thread, which has a runtime already.
    let asked = std::thread::scope(|scope| {
        let ask = || {
            super::runtime().ok()?.block_on(async {
                let mut connection = Connection::find(places, root, profile).await?;
                Some(connection.client.content(request).await.ok()?.into_inner())
            })
        };
        scope.spawn(ask).join().ok().flatten()
    });
    asked.filter(|reply| reply.found).map(|reply| reply.data)
}

/// Tells a running session that there are decisions to carry out; false if none runs.
async fn tell_session(places: &Places, root: &Path, profile: &str) -> bool {
    // A session looks for decisions whenever it synchronises. What it says of the rest (other
    // conflicts, a pause) is not what was asked here.
    let Some(mut connection) = Connection::find(places, root, profile).await else { return false };
    let Ok(events) = connection.client.flush(FlushRequest {}).await else { return false };
    let mut events = events.into_inner();
    while let Ok(Some(_)) = events.message().await {}
    true
}

/// What was decided, and what could not be.
#[derive(Debug, Default)]
struct Decided {
    taken: Vec<(SyncPath, Decision)>,
    /// Why, for a person to read.
    refused: Vec<String>,
}

fn decide(
    args: &ResolveArgs,
    context: &Context,
    record: &Record,
    manifest: &mut Manifest,
    fetch: Fetch<'_>,
) -> Result<Decided, CliError> {
    let conflicts = manifest.conflicts().map_err(failed)?;
    let decided = choose(args, context, record, &conflicts, fetch)?;
    let decisions = decided.taken.iter().map(|(path, decision)| (path, decision));
    manifest.add_decisions(decisions).map_err(failed)?;
    Ok(decided)
}

fn failed(error: ManifestError) -> CliError {
    CliError::new(ExitCode::Failed, "cannot use what is recorded of this project")
        .because(&error)
        .hint(RECORD)
}

/// Which conflicts are meant, and what is wanted of each.
fn choose(
    args: &ResolveArgs,
    context: &Context,
    record: &Record,
    conflicts: &[Conflict],
    fetch: Fetch<'_>,
) -> Result<Decided, CliError> {
    let choice =
        [(args.host, Choice::Host), (args.sandbox, Choice::Sandbox), (args.both, Choice::Both)];
    let choice = choice.into_iter().find(|(is_given, _)| *is_given).map(|(_, choice)| choice);
    let paths: Vec<SyncPath> =
        args.paths.iter().map(|path| record.path(path)).collect::<Result<_, _>>()?;
    if paths.is_empty() && !args.all && choice.is_some() {
        return Err(CliError::new(ExitCode::Usage, "no conflict is named")
            .hint("name the paths, or `--all`; `skync conflicts` lists them"));
    }
    let meant = if paths.is_empty() { Meant::All } else { Meant::Paths(paths) };
    let meant = meant.select(conflicts).map_err(|path| {
        let error = CliError::new(ExitCode::NotFound, format!("`{path}` is not in conflict"));
        let error = hint_nearest(error, &nearest(&path, conflicts.iter().map(|c| &c.path)));
        error.hint("`skync conflicts` lists what is")
    })?;
    let choices = match choice {
        Some(choice) => meant.into_iter().map(|conflict| (conflict, choice)).collect(),
        None if meant.is_empty() => Vec::new(),
        None => ask(context, record, &meant, fetch)?,
    };
    let mut decided = Decided::default();
    for (conflict, choice) in choices {
        match Decision::about(conflict, choice) {
            Ok(decision) => decided.taken.push((conflict.path.clone(), decision)),
            Err(reason) => decided.refused.push(reason),
        }
    }
    Ok(decided)
}

fn ask<'a>(
    context: &Context,
    record: &Record,
    conflicts: &[&'a Conflict],
    fetch: Fetch<'_>,
) -> Result<Vec<(&'a Conflict, Choice)>, CliError> {
    if !context.can_ask() {
        return Err(CliError::new(ExitCode::Usage, "nobody can be asked: this is no terminal")
            .hint("say whose version is wanted: `--host`, `--sandbox` or `--both`"));
    }
    let now_ns = skync_agent::scan::now_ns();
    let describe = |conflict: &Conflict| {
        let [host, sandbox] =
            [&conflict.host, &conflict.sandbox].map(|entry| version(entry.as_ref(), now_ns));
        format!("{}: {}\n  host     {host}\n  sandbox  {sandbox}\n", conflict.path, conflict.kind)
    };
    let root = &record.project.root;
    let diff = |conflict: &Conflict| difference_of(conflict, root, fetch);
    prompt::ask(conflicts, &mut Standard, &describe, &diff).map_err(|error| {
        CliError::new(ExitCode::Failed, "cannot ask")
            .because(&error)
            .hint("without a question: `skync resolve PATH --host`, or `--sandbox`, or `--both`")
    })
}

/// How the versions of a conflict differ, or why that cannot be shown.
fn difference_of(conflict: &Conflict, root: &Path, fetch: Fetch<'_>) -> String {
    let content_of = |entry: &Option<Entry>, read: &dyn Fn() -> Option<Vec<u8>>| match entry {
        // What is not there differs in every line.
        None => Some(Vec::new()),
        Some(Entry::File(file)) if file.size == 0 => Some(Vec::new()),
        Some(Entry::File(_)) => read(),
        Some(Entry::Symlink(target)) => Some([target, &b"\n"[..]].concat()),
        Some(Entry::Directory(_) | Entry::Untracked | Entry::Problem(_)) => None,
    };
    let is_large = |entry: &Option<Entry>| {
        let file = entry.as_ref().and_then(Entry::as_file);
        file.is_some_and(|file| file.size > difference::BYTES_MAX as u64)
    };
    if is_large(&conflict.host) || is_large(&conflict.sandbox) {
        return "a version is too large to be compared\n".to_owned();
    }
    let is_comparable = |entry: &Option<Entry>| {
        !matches!(entry, Some(Entry::Directory(_) | Entry::Untracked | Entry::Problem(_)))
    };
    if !is_comparable(&conflict.host) || !is_comparable(&conflict.sandbox) {
        return "only files and links can be compared\n".to_owned();
    }
    let Some(sandbox) = content_of(&conflict.sandbox, &|| fetch(conflict)) else {
        return "the sandbox's version can be seen only while a session runs: `skync status`\n"
            .to_owned();
    };
    match content_of(&conflict.host, &|| read_host(root, &conflict.path)) {
        Some(host) => difference::unified(&conflict.path.to_string(), &host, &sandbox),
        None => "the host's version cannot be read\n".to_owned(),
    }
}

fn read_host(root: &Path, path: &SyncPath) -> Option<Vec<u8>> {
    let file = Root::open(root).ok()?.open_file(path).ok()?;
    let mut content = Vec::new();
    // One more than is compared, so that too much is seen to be too much.
    file.take(difference::BYTES_MAX as u64 + 1).read_to_end(&mut content).ok()?;
    Some(content)
}

fn say(context: &Context, decided: &Decided, told: bool) -> Result<(), CliError> {
    // With a refusal the error is the document.
    if context.json && decided.refused.is_empty() {
        let taken = decided.taken.iter().map(|(path, decision)| {
            json!({ "path": path.to_string(), "choice": choice_word(decision.choice) })
        });
        let document = json!({
            "schema_version": SCHEMA_VERSION,
            "ok": true,
            "decided": taken.collect::<Vec<_>>(),
            "session": told,
        });
        return print(&format!("{document}\n"));
    }
    let when = if told { "the session carries it out" } else { "carried out by the next session" };
    context.tell(&match decided.taken.len() {
        0 => "nothing was decided".to_owned(),
        1 => format!("1 conflict is decided; {when}"),
        count => format!("{count} conflicts are decided; {when}"),
    });
    Ok(())
}

fn counted(count: usize) -> String {
    if count == 1 { "1 conflict".to_owned() } else { format!("{count} conflicts") }
}

fn refused_words(count: usize) -> String {
    match count {
        1 => "1 conflict cannot be decided like this".to_owned(),
        count => format!("{count} conflicts cannot be decided like this"),
    }
}

#[cfg(test)]
mod tests;
