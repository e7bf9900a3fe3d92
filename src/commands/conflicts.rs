//! `skync conflicts`: where the two sides disagree, and what is held back.

use std::collections::BTreeMap;

use comfy_table::Table;
use indicatif::HumanBytes;
use serde_json::{Value, json};
use skync_agent::entry::Entry;

use super::Context;
use super::record::{RECORD, Record};
use crate::cli::ConflictsArgs;
use crate::error::{CliError, ExitCode};
use crate::sync::decide::{Choice, Decisions};
use crate::sync::manifest::OpenConflict;
use crate::sync::plan::{ConflictKind, Side};
use crate::ui::render::SCHEMA_VERSION;
use crate::ui::time::{ago, utc};
use crate::ui::{print, rows, visible};

/// Rows of what is held back: a command may touch thousands of such paths, and nobody reads them.
const HELD_ROWS_MAX: usize = 20;
/// Rows of conflicts.
const ROWS_MAX: usize = 200;

/// Lists the conflicts of the project.
///
/// # Errors
/// If what is recorded cannot be read.
pub fn run(args: &ConflictsArgs, context: &Context) -> Result<ExitCode, CliError> {
    let profile = context.profile_name(args.root.as_deref())?;
    let record = Record::find(args.root.as_deref())?;
    let (mut open, mut decisions) = (Vec::new(), Decisions::none());
    if let Some(manifest) = record.manifest(context, &profile)? {
        let unreadable = |error| {
            CliError::new(ExitCode::Failed, "cannot read the conflicts of this project")
                .because(&error)
                .hint(RECORD)
        };
        open = manifest.open_conflicts().map_err(unreadable)?;
        decisions = manifest.decisions().map_err(unreadable)?;
    }
    if context.json {
        print(&format!("{}\n", document(&open, &decisions)))?;
        return Ok(ExitCode::Done);
    }
    if open.is_empty() {
        context.tell("no conflicts");
        return Ok(ExitCode::Done);
    }
    print(&table(&open, &decisions, skync_agent::scan::now_ns()))?;
    context.tell(&hints(&open));
    Ok(ExitCode::Done)
}

fn hints(open: &[OpenConflict]) -> String {
    let has = |held: bool| open.iter().any(|open| open.conflict.kind.is_held() == held);
    let mut hints = String::new();
    if has(false) {
        hints += "\n`skync resolve PATH --host|--sandbox|--both` says whose version is wanted; \
                  `skync resolve` asks";
    }
    if has(true) {
        hints += "\nwhat is guarded does not come home unasked: \
                  `skync resolve PATH --sandbox` lets it, `--host` discards it";
    }
    hints
}

/// The conflicts as a table, and how many more there are of each kind.
fn table(open: &[OpenConflict], decisions: &Decisions, now_ns: i64) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["PATH", "WHY", "HOST", "SANDBOX", "SINCE"]);
    let mut shown = [0, 0];
    let mut rest: BTreeMap<&str, usize> = BTreeMap::new();
    for OpenConflict { conflict, since_ns } in open {
        let held = conflict.kind.is_held();
        let rows_max = if held { HELD_ROWS_MAX } else { ROWS_MAX };
        shown[usize::from(held)] += 1;
        if shown[usize::from(held)] > rows_max {
            *rest.entry(if held { "guarded paths" } else { "conflicts" }).or_default() += 1;
            continue;
        }
        let why = match decisions.choice(conflict) {
            Some(choice) => format!("decided: {}", choice_word(choice)),
            None => why(conflict.kind).to_owned(),
        };
        table.add_row([
            conflict.path.to_string(),
            why,
            version(conflict.host.as_ref(), now_ns),
            version(conflict.sandbox.as_ref(), now_ns),
            if *since_ns == 0 { "-".to_owned() } else { ago(*since_ns, now_ns) },
        ]);
    }
    let mut out = rows(&table);
    for (what, count) in rest {
        out += &format!("and {count} more {what}: `skync conflicts --json` lists them all\n");
    }
    out
}

/// Why it is one, in a few words.
fn why(kind: ConflictKind) -> &'static str {
    match kind {
        ConflictKind::BothChanged => "both changed",
        ConflictKind::SandboxChanged => "sandbox changed",
        ConflictKind::Blocked(Side::Host) => "blocked on the host",
        ConflictKind::Blocked(Side::Sandbox) => "blocked in the sandbox",
        ConflictKind::Guarded => "guarded",
        ConflictKind::LeavesRoot => "guarded: link out of the project",
    }
}

/// One side's version in a few words.
pub(super) fn version(entry: Option<&Entry>, now_ns: i64) -> String {
    match entry {
        None => "nothing".to_owned(),
        Some(Entry::File(file)) => {
            let executable = if file.is_executable() { ", executable" } else { "" };
            let size = HumanBytes(file.size);
            format!("{size}, {}{executable}", ago(file.mtime_ns, now_ns))
        }
        Some(Entry::Symlink(target)) => {
            visible(&format!("link to {}", String::from_utf8_lossy(target)))
        }
        Some(other) => other.kind_word().to_owned(),
    }
}

pub(super) fn choice_word(choice: Choice) -> &'static str {
    match choice {
        Choice::Host => "host",
        Choice::Sandbox => "sandbox",
        Choice::Both => "both",
    }
}

fn document(open: &[OpenConflict], decisions: &Decisions) -> Value {
    let conflicts: Vec<Value> = open
        .iter()
        .map(|OpenConflict { conflict, since_ns }| {
            json!({
                "path": conflict.path.to_string(),
                "kind": kind_word(conflict.kind),
                "host": conflict.host.as_ref().map(entry_document),
                "sandbox": conflict.sandbox.as_ref().map(entry_document),
                "since": (*since_ns != 0).then(|| utc(*since_ns)),
                "decided": decisions.choice(conflict).map(choice_word),
            })
        })
        .collect();
    json!({ "schema_version": SCHEMA_VERSION, "ok": true, "conflicts": conflicts })
}

/// The word for a kind, for programs; it never changes.
fn kind_word(kind: ConflictKind) -> &'static str {
    match kind {
        ConflictKind::BothChanged => "both-changed",
        ConflictKind::SandboxChanged => "sandbox-changed",
        ConflictKind::Blocked(Side::Host) => "blocked-on-host",
        ConflictKind::Blocked(Side::Sandbox) => "blocked-in-sandbox",
        ConflictKind::Guarded => "guarded",
        ConflictKind::LeavesRoot => "guarded-link",
    }
}

fn entry_document(entry: &Entry) -> Value {
    let file = entry.as_file();
    let target = match entry {
        Entry::Symlink(target) => Some(String::from_utf8_lossy(target).into_owned()),
        _ => None,
    };
    json!({
        "kind": entry.kind_word(),
        "size": file.map(|file| file.size),
        "modified": file.map(|file| utc(file.mtime_ns)),
        "digest": file.map(|file| file.digest.hex()),
        "target": target,
    })
}

#[cfg(test)]
mod tests;
