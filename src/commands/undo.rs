//! `skync undo`: brings back what the sandbox overwrote or deleted on the host.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use comfy_table::Table;
use indicatif::HumanBytes;
use serde_json::{Value, json};
use skync_agent::disk::Kind;
use skync_agent::transition::Loss;

use super::record::{Record, hint_nearest, nearest};
use super::{Context, running};
use crate::cli::UndoArgs;
use crate::error::{CliError, ExitCode};
use crate::session::random_id;
use crate::state::{make_directory, remove_tree};
use crate::sync::trash::{Lost, TRASH, Trash, TrashError};
use crate::sync::undo::{Meant, Outcome, restore};
use crate::ui::render::SCHEMA_VERSION;
use crate::ui::time::{ago, utc};
use crate::ui::{print, rows, visible};

/// Rows of what can be brought back.
const ROWS_MAX: usize = 100;
/// Paths that are told one by one.
const TOLD_MAX: usize = 20;

/// Brings back old versions, or shows which there are.
///
/// # Errors
/// If there is none of what is meant, or it could not be brought back.
pub fn run(args: &UndoArgs, context: &Context) -> Result<ExitCode, CliError> {
    let record = Record::find(args.root.as_deref())?;
    let lost = lost(&record, context)?;
    if args.list {
        list(&lost, args, &record, context)?;
        return Ok(ExitCode::Done);
    }
    let meant = match &args.path {
        Some(path) => Meant::Path(record.path(path)?),
        None => Meant::Last,
    };
    let chosen = meant.choose(&lost);
    if chosen.is_empty() {
        return Err(nothing_kept(&meant, &lost));
    }
    let outcomes = bring_back(&record, &chosen)?;
    tell(context, &chosen, &outcomes)
}

/// What was lost in this project, under whichever profile, the newest first.
fn lost(record: &Record, context: &Context) -> Result<Vec<Lost>, CliError> {
    let names = match &context.profile_flag {
        Some(_) => vec![context.profile_name(None)?],
        None => all_names(&record.project.root, context),
    };
    let mut lost = Vec::new();
    for name in names {
        let path = record.directory(context, &name).join(TRASH);
        if path.is_dir() {
            let found = Trash::open(&path).and_then(|trash| trash.list());
            lost.extend(found.map_err(|error| trash_failed(&error))?);
        }
    }
    lost.sort_by_key(|lost| std::cmp::Reverse((lost.batch_ns, lost.lost_ns, lost.times)));
    Ok(lost)
}

/// Every profile that something may be kept for, also where the configuration is no use by now.
fn all_names(root: &Path, context: &Context) -> Vec<String> {
    let mut names = context.config().map(|config| config.names()).unwrap_or_default();
    names.extend(running::of_project(context, root).into_iter().map(|entry| entry.profile.name));
    names.sort();
    names.dedup();
    names
}

fn trash_failed(error: &TrashError) -> CliError {
    CliError::new(ExitCode::Failed, "cannot use what is kept of this project").because(error).hint(
        "it is in the state directory (`skync doctor` names it), which must be yours and have room",
    )
}

fn nothing_kept(meant: &Meant, lost: &[Lost]) -> CliError {
    let kept = "what the sandbox overwrites or deletes here is kept for 7 days";
    match meant {
        Meant::Last => CliError::new(ExitCode::NotFound, "there is nothing to bring back"),
        Meant::Path(path) => {
            let message = format!("there is no old version of `{path}`");
            let near = nearest(path, lost.iter().map(|lost| &lost.path));
            hint_nearest(CliError::new(ExitCode::NotFound, message), &near)
        }
    }
    .hint(format!("{kept}; `skync undo --list` shows it"))
}

/// Writes through the agent's library, with a staging directory of its own: the session's may be in
/// use.
fn bring_back(record: &Record, chosen: &[&Lost]) -> Result<Vec<Outcome>, CliError> {
    // The trash in which the version was found keeps what it replaces: `trash/batch/shelf`.
    let Some(path) = chosen.first().and_then(|lost| lost.shelf.ancestors().nth(2)) else {
        return Ok(Vec::new());
    };
    let trash = Trash::open(path).map_err(|error| trash_failed(&error))?;
    let staging = path.with_file_name(format!("undo-{}", random_id()));
    make_directory(&staging)?;
    let outcomes = restore(&record.project.root, &staging, Arc::new(trash), chosen);
    remove_tree(&staging)?;
    outcomes.map_err(|error| {
        CliError::new(ExitCode::Failed, "cannot bring back old versions").because(&error).hint(
            "nothing of what is kept is lost: once that is mended, the same command tries again",
        )
    })
}

fn tell(context: &Context, chosen: &[&Lost], outcomes: &[Outcome]) -> Result<ExitCode, CliError> {
    let named = |wanted: &Outcome| -> Vec<String> {
        let of_kind = chosen.iter().zip(outcomes).filter(|(_, outcome)| *outcome == wanted);
        of_kind.map(|(lost, _)| lost.path.to_string()).collect()
    };
    let (restored, already) = (named(&Outcome::Restored), named(&Outcome::Already));
    let failed = chosen.iter().zip(outcomes).filter_map(|(lost, outcome)| match outcome {
        Outcome::Failed(reason) => Some((lost.path.to_string(), reason)),
        Outcome::Restored | Outcome::Already => None,
    });
    let failed: Vec<_> = failed.collect();
    if !context.json || !failed.is_empty() {
        for path in restored.iter().take(TOLD_MAX) {
            context.tell(&format!("{path} is back"));
        }
        if let Some(more) = restored.len().checked_sub(TOLD_MAX).filter(|more| *more > 0) {
            context.tell(&format!("and {more} more"));
        }
        match already.len() {
            0 => {}
            1 => context.tell(&format!("{} is like this already", already[0])),
            count => context.tell(&format!("{count} paths are like this already")),
        }
    }
    if !failed.is_empty() {
        let count = failed.len();
        let message = match count {
            1 => "1 path could not be brought back".to_owned(),
            _ => format!("{count} paths could not be brought back"),
        };
        let mut error = CliError::new(ExitCode::Failed, message);
        let shown = failed.iter().take(TOLD_MAX);
        error.details = shown.map(|(path, reason)| visible(&format!("{path}: {reason}"))).collect();
        return Err(error.hint("what was kept of them is kept still"));
    }
    if context.json {
        let document = json!({
            "schema_version": SCHEMA_VERSION,
            "ok": true,
            "restored": restored,
            "already": already,
        });
        print(&format!("{document}\n"))?;
    }
    Ok(ExitCode::Done)
}

fn list(
    lost: &[Lost],
    args: &UndoArgs,
    record: &Record,
    context: &Context,
) -> Result<(), CliError> {
    let below = args.path.as_ref().map(|path: &PathBuf| record.path(path)).transpose()?;
    let is_meant =
        |lost: &&Lost| below.as_ref().is_none_or(|directory| lost.path.is_within(directory));
    let lost: Vec<&Lost> = lost.iter().filter(is_meant).collect();
    if context.json {
        let lost: Vec<Value> = lost.iter().map(|lost| lost_document(lost)).collect();
        let document = json!({ "schema_version": SCHEMA_VERSION, "ok": true, "lost": lost });
        return print(&format!("{document}\n"));
    }
    if lost.is_empty() {
        context.tell("nothing to bring back");
        return Ok(());
    }
    print(&table(&lost, skync_agent::scan::now_ns()))?;
    context.tell("\n`skync undo PATH` brings back one, `skync undo --last` all of the last time");
    Ok(())
}

fn table(lost: &[&Lost], now_ns: i64) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["WHEN", "PATH", "SIZE", "WHAT"]);
    for lost in lost.iter().take(ROWS_MAX) {
        let size = match lost.meta.kind {
            Kind::Symlink => "link".to_owned(),
            Kind::File | Kind::Directory | Kind::Other => HumanBytes(lost.meta.size).to_string(),
        };
        let when = ago(lost.lost_ns, now_ns);
        table.add_row([when, lost.path.to_string(), size, loss_word(lost.loss).to_owned()]);
    }
    let mut out = rows(&table);
    if let Some(more) = lost.len().checked_sub(ROWS_MAX).filter(|more| *more > 0) {
        out += &format!("and {more} older ones: `skync undo --list --json` lists them all\n");
    }
    out
}

fn loss_word(loss: Loss) -> &'static str {
    match loss {
        Loss::Overwritten => "overwritten",
        Loss::Deleted => "deleted",
    }
}

fn lost_document(lost: &Lost) -> Value {
    json!({
        "path": lost.path.to_string(),
        "when": utc(lost.lost_ns),
        "batch": utc(lost.batch_ns),
        "what": loss_word(lost.loss),
        "kind": if lost.meta.kind == Kind::Symlink { "symbolic link" } else { "file" },
        "size": lost.meta.size,
    })
}
