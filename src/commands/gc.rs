//! `skync gc`: finds and removes what crashes left behind, over all profiles.
//!
//! Only what the journal announces is touched, and only if no session says that it lives; mounts of
//! ours whose process is gone; and prepared images that are of no use any more (`kept`).

mod kept;

use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};
use skync_mount::system::{self, Health};

use crate::cli::GcArgs;
use crate::commands::Context;
use crate::commands::operations::{listed, now_ms};
use crate::error::{CliError, ExitCode};
use crate::operation::{Record, Store};
use crate::session::cleanup::{self, Cleaned};
use crate::session::journal::{Entry, Journal};
use crate::session::{key, socket};
use crate::ui::render::{SCHEMA_VERSION, error_document};
use crate::ui::{print, visible};

/// Removes what is left of sessions that are gone.
///
/// # Errors
/// If something could not be removed; the rest was all the same.
pub async fn run(args: &GcArgs, context: &Context) -> Result<ExitCode, CliError> {
    let journal = Journal::open(&context.places)?;
    let (entries, unreadable) = listed(&journal)?;
    let (mut removed, mut failed) = (Vec::new(), Vec::new());
    for entry in &entries {
        match one(&journal, entry, args.dry_run).await {
            Ok(None) => {}
            Ok(Some(what)) => {
                let verb = if args.dry_run { "would remove" } else { "removed" };
                context.tell(&format!("{verb} {}", visible(&what)));
                removed.push(json!({ "session": entry.id, "what": what }));
            }
            Err(error) => {
                let text = format!("session {} ({}): {error}", entry.id, entry.profile.name);
                context.caution(&text);
                failed.push(json!({ "session": entry.id, "error": error.to_string() }));
            }
        }
    }
    for id in &unreadable {
        let text = format!("the journal entry {id} cannot be read, so what it announces is kept");
        context.caution(&text);
        failed.push(json!({ "session": id, "error": "unreadable" }));
    }
    for (at, result) in mounts(args.dry_run) {
        let what = format!("the mount at {}, whose session is gone", at.display());
        match result {
            Ok(()) => {
                let verb = if args.dry_run { "would remove" } else { "removed" };
                context.tell(&format!("{verb} {}", visible(&what)));
                removed.push(json!({ "session": null, "what": what }));
            }
            Err(error) => {
                context.caution(&format!("{what}: {error}"));
                failed.push(json!({ "session": null, "error": error.to_string() }));
            }
        }
    }
    let images = kept::all(args, context).await;
    images.iter().for_each(|image| image.count(&mut removed, &mut failed));
    if !args.dry_run {
        forget_operations(context)?;
        kept::forget(context)?;
    }
    if removed.is_empty() && failed.is_empty() {
        context.tell("nothing is left over");
    }
    said(removed, failed, &images, context)
}

/// What was removed and what was not: one document for a program, also if something failed.
fn said(
    removed: Vec<Value>,
    failed: Vec<Value>,
    images: &[kept::Image],
    context: &Context,
) -> Result<ExitCode, CliError> {
    let error = failed_error(failed.len());
    if context.json {
        let mut document = match &error {
            None => json!({ "schema_version": SCHEMA_VERSION, "ok": true }),
            Some(error) => error_document(error),
        };
        document["removed"] = removed.into();
        document["failed"] = failed.into();
        document["images"] = images.iter().map(kept::Image::document).collect::<Vec<_>>().into();
        print(&format!("{document}\n"))?;
        return Ok(error.map_or(ExitCode::Done, |error| error.code));
    }
    error.map_or(Ok(ExitCode::Done), Err)
}

fn failed_error(count: usize) -> Option<CliError> {
    let message = match count {
        0 => return None,
        1 => "1 thing that is left over could not be removed".to_owned(),
        count => format!("{count} things that are left over could not be removed"),
    };
    let error = CliError::new(ExitCode::Failed, message);
    Some(error.hint("`skync gc` again tries it again; the warnings say what stands in the way"))
}

/// Takes away the mounts that nobody answers for; those of other users are theirs.
fn mounts(dry_run: bool) -> Vec<(PathBuf, io::Result<()>)> {
    let ours = system::mounts().unwrap_or_default().into_iter();
    let dead = ours.filter(|mount| system::health(&mount.at) == Health::Dead);
    let gone = dead.map(|mount| {
        let done = if dry_run { Ok(()) } else { system::bury(&mount.at) };
        (mount.at, done)
    });
    let is_others = |done: &io::Result<()>| {
        done.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    gone.filter(|(_, done)| !is_others(done)).collect()
}

/// Forgets operations that ended long ago. Their sessions do so too, as long as there are any.
fn forget_operations(context: &Context) -> Result<(), CliError> {
    let lives = |record: &Record| {
        let socket = socket(&context.places, &key(&record.root, &record.profile));
        std::os::unix::net::UnixStream::connect(socket).is_ok()
    };
    Ok(Store::open(&context.places)?.prune(now_ms(), lives)?)
}

/// What was removed of one session; nothing if it lives.
async fn one(journal: &Journal, entry: &Entry, dry_run: bool) -> Result<Option<String>, CliError> {
    let root = entry.root.display();
    if dry_run {
        let dead = journal.claim(&entry.id)?.is_some();
        let sandbox = entry.sandbox.as_ref().map_or("its files", |sandbox| &sandbox.name);
        return Ok(dead.then(|| format!("{sandbox}, of a session of `{root}`")));
    }
    match cleanup::release(journal, entry).await {
        Ok(Cleaned::Lives) => Ok(None),
        Ok(Cleaned::Removed(sandboxes)) => {
            let names: Vec<_> = sandboxes.iter().map(|sandbox| sandbox.name.as_str()).collect();
            let what = if names.is_empty() { "its files".to_owned() } else { names.join(", ") };
            Ok(Some(format!("{what}, of a session of `{root}`")))
        }
        Err(error) => Err(CliError::new(ExitCode::Failed, "cannot remove it")
            .because(&error)
            .hint("mend what stands in the way, then `skync gc` tries it again")),
    }
}
