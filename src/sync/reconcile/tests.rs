//! The rules as a table, then as properties.

use super::*;
use crate::sync::plan::Copy;
use crate::sync::trees::{
    dir, file, file_with_mode, husk, link, script, show, special, unreadable,
};

mod decided;
mod rules;
mod untracked;

mod naive;
mod properties;
mod world;

const TWO_WAY: &[SyncMode] = &[SyncMode::TwoWaySafe, SyncMode::TwoWayResolved];
const ONE_WAY: &[SyncMode] = &[SyncMode::OneWaySafe, SyncMode::OneWayReplica];
const ALL: &[SyncMode] = &[
    SyncMode::TwoWaySafe,
    SyncMode::TwoWayResolved,
    SyncMode::OneWaySafe,
    SyncMode::OneWayReplica,
];
const SAFE: &[SyncMode] = &[SyncMode::TwoWaySafe];
const RESOLVED: &[SyncMode] = &[SyncMode::TwoWayResolved];
const ONE_WAY_SAFE: &[SyncMode] = &[SyncMode::OneWaySafe];
const REPLICA: &[SyncMode] = &[SyncMode::OneWayReplica];

/// Reconciles what the root's entry `p` is in the ancestor, on the host and in the sandbox.
fn check(
    description: &str,
    modes: &[SyncMode],
    ancestor: Option<Entry>,
    host: Option<Entry>,
    sandbox: Option<Entry>,
    expect: &[&str],
) {
    let tree = |entry: Option<Entry>| match entry {
        Some(entry) => dir([("p", entry)]),
        None => dir([]),
    };
    let (ancestor, host, sandbox) = (tree(ancestor), tree(host), tree(sandbox));
    for mode in modes {
        let plan =
            reconcile(Some(&ancestor), Some(&host), Some(&sandbox), *mode, &Decisions::none());
        assert_eq!(lines(&plan), expect, "{description}, {mode:?}");
    }
}

fn lines(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    let changes = [("host", &plan.host), ("sandbox", &plan.sandbox), ("agreed", &plan.agreed)];
    for (list, changes) in changes {
        for Change { path, old, new } in changes {
            let (old, new) = (show(old.as_ref()), show(new.as_ref()));
            lines.push(format!("{list}: {path}: {old} -> {new}"));
        }
    }
    for Copy { change: Change { path, new, .. }, .. } in &plan.copies {
        lines.push(format!("copy: {path}: {}", show(new.as_ref())));
    }
    for conflict in &plan.conflicts {
        let kind = match conflict.kind {
            ConflictKind::BothChanged => "both changed".to_owned(),
            ConflictKind::SandboxChanged => "sandbox changed".to_owned(),
            ConflictKind::Blocked(side) => format!("blocked on the {side}"),
            ConflictKind::Guarded | ConflictKind::LeavesRoot => "held".to_owned(),
        };
        lines.push(format!("conflict: {}: {kind}", conflict.path));
    }
    for problem in &plan.problems {
        lines.push(format!("problem: {} on the {}", problem.path, problem.side));
    }
    for note in &plan.notes {
        lines.push(match note.kind {
            NoteKind::ChangeKept { deleted_on } => {
                format!("note: {} was deleted on the {deleted_on}, change kept", note.path)
            }
            NoteKind::HostWon => format!("note: {}: the host won", note.path),
            NoteKind::RestKept { kept_on } => format!("note: {} stays on the {kept_on}", note.path),
        });
    }
    lines
}
