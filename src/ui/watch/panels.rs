//! The lines of each panel.

use super::model::{Model, Panel};
use super::text::{Role, Row, short_span, span};
use crate::session::proto::{Operation, OperationState, Progress, Side};
use crate::sync::decide::Choice;
use crate::ui::status_view::{conflict_key, count, mount_line, operation_word, size, word, words};
use crate::ui::time::ago;

/// From this many cells on the memory of an operation is shown …
const MEMORY_WIDTH: usize = 48;
/// … and its name.
const NAME_WIDTH: usize = 64;

/// The lines of a panel, and which of them is the chosen one.
pub(super) fn rows(model: &Model, panel: Panel, width: usize, now_ms: u64) -> Listed {
    let cursor = model.cursor[panel as usize];
    let mut rows = Vec::new();
    let mut before = 0;
    match panel {
        Panel::Conflicts => rows = conflicts(model, width),
        Panel::Operations => {
            rows.extend(model.operations.iter().map(|one| operation(model, one, width, now_ms)));
        }
        Panel::Transfers => {
            rows.extend(progress(model));
            before = rows.len();
            rows.extend(recent(model, now_ms));
        }
        Panel::Mounts => {
            let mounts = model.status.iter().flat_map(|status| &status.mounts);
            rows.extend(mounts.map(|mount| {
                let role = if mount.waiting { Role::Warn } else { Role::Plain };
                Row::new().with(&mount_line(mount), role)
            }));
        }
        Panel::Problems => {
            let problems = model.status.iter().flat_map(|status| &status.problems);
            rows.extend(problems.map(|problem| {
                Row::new()
                    .with(&problem.path, Role::Key)
                    .with(&format!(" ({}): ", word(problem.side())), Role::Dim)
                    .with(&problem.reason, Role::Warn)
            }));
        }
        Panel::Log => rows = log(model, now_ms),
    }
    Listed { rows, chosen: before + cursor }
}

/// Lines, and the one that is chosen.
pub(super) struct Listed {
    pub(super) rows: Vec<Row>,
    pub(super) chosen: usize,
}

/// How many there are, for the title.
pub(super) fn number(model: &Model, panel: Panel) -> u64 {
    let of_status = |count: fn(&crate::session::proto::StatusReply) -> u64| {
        model.status.as_deref().map_or(0, count)
    };
    match panel {
        Panel::Conflicts => of_status(|status| status.conflict_count),
        Panel::Problems => of_status(|status| status.problem_count),
        Panel::Operations | Panel::Transfers | Panel::Mounts | Panel::Log => {
            model.rows(panel) as u64
        }
    }
}

fn conflicts(model: &Model, width: usize) -> Vec<Row> {
    let Some(status) = model.status.as_deref() else { return Vec::new() };
    let longest = status.conflicts.iter().map(|found| super::text::cells(&found.path)).max();
    let column = longest.unwrap_or(0).min(width * 3 / 5);
    let mut rows: Vec<Row> = status
        .conflicts
        .iter()
        .map(|conflict| {
            let row = Row::new().column(&conflict_key(&conflict.path), column, Role::Key);
            match model.deciding.get(&conflict.path) {
                Some(choice) => row.with(&format!("  deciding: {} …", side(*choice)), Role::Dim),
                None => row.with(&format!("  {}", conflict.reason), Role::Warn),
            }
        })
        .collect();
    let more = status.conflict_count.saturating_sub(status.conflicts.len() as u64);
    if more > 0 {
        let text = format!("and {} more: `skync conflicts` lists them", count(more));
        rows.push(Row::new().with(&text, Role::Dim));
    }
    rows
}

fn side(choice: Choice) -> &'static str {
    match choice {
        Choice::Host => "host",
        Choice::Sandbox => "sandbox",
        Choice::Both => "both",
    }
}

fn operation(model: &Model, operation: &Operation, width: usize, now_ms: u64) -> Row {
    let role = match operation.state() {
        OperationState::OperationNone | OperationState::OperationEnded => Role::Dim,
        OperationState::OperationPreparing | OperationState::OperationEnding => Role::Plain,
        OperationState::OperationRunning => Role::Good,
        OperationState::OperationLost => Role::Bad,
    };
    let state = operation_word(operation.state());
    let end = operation.exit.as_ref().map_or(now_ms, |exit| exit.ended_ms);
    let elapsed = short_span(end.saturating_sub(operation.began_ms));
    let used = model.cpu.get(&operation.id).and_then(|cpu| cpu.percent);
    let cpu = used.map_or_else(|| "-".to_owned(), |percent| format!("{percent} %"));
    let memory = match operation.has_usage {
        true => size(operation.memory_bytes),
        false => "-".to_owned(),
    };
    let mut row = Row::new().column(&short_id(&operation.id), 9, Role::Key);
    if width >= NAME_WIDTH {
        row = row.column(&operation.name, 11, Role::Plain).with(" ", Role::Plain);
    }
    row = row.column(state, 10, role).column(&elapsed, 8, Role::Plain);
    row = row.column(&cpu, 7, Role::Plain);
    if width >= MEMORY_WIDTH {
        row = row.column(&memory, 8, Role::Plain);
    }
    if operation.expires_ms > now_ms {
        let left = span(operation.expires_ms - now_ms);
        row = row.with(&format!("stops in {left}  "), Role::Warn);
    }
    row.with(&words(&operation.argv), Role::Plain)
}

/// What a person types of an operation's id.
pub(super) fn short_id(id: &[u8]) -> String {
    crate::operation::OperationId::from_bytes(id).map_or_else(String::new, |id| id.short())
}

fn progress(model: &Model) -> Option<Row> {
    let progress = model.status.as_ref()?.progress.as_ref()?;
    let Progress { done, total, bytes, files, files_total, .. } = *progress;
    let mut parts = Vec::new();
    if files_total > 0 {
        parts.push(format!("{} of {} files", count(files), count(files_total)));
    }
    let amount =
        |number: u64| if bytes { size(number) } else { format!("{} files", count(number)) };
    match total {
        0 if done == 0 => {}
        0 => parts.push(amount(done)),
        total => {
            let percent = done.saturating_mul(100) / total;
            parts.push(format!("{} of {} ({percent} %)", amount(done), amount(total)));
        }
    }
    if let Some(rate) = model.rate().filter(|_| bytes) {
        parts.push(format!("{}/s", size(rate)));
    }
    let step = match progress.step.as_str() {
        "" if files_total > 0 => "syncing",
        "" => "working",
        step => step,
    };
    let row = Row::new().with(&format!("… {step} "), Role::Good);
    Some(row.with(&parts.join(" · "), Role::Plain))
}

/// Newest first: it is the news.
fn recent(model: &Model, now_ms: u64) -> Vec<Row> {
    let moved = model.status.iter().flat_map(|status| status.recent.iter().rev());
    moved
        .map(|moved| {
            let arrow = match moved.side() {
                Side::Sandbox => "→ sandbox ",
                Side::Host => "← host    ",
            };
            let what = match (moved.removed, moved.bytes) {
                (true, _) => "  removed".to_owned(),
                (false, 0) => String::new(),
                (false, bytes) => format!("  {}", size(bytes)),
            };
            Row::new()
                .with(arrow, Role::Good)
                .with(&moved.path, Role::Plain)
                .with(&what, Role::Plain)
                .with(&format!("  {}", age(moved.at_ms, now_ms)), Role::Dim)
        })
        .collect()
}

/// Newest first.
fn log(model: &Model, now_ms: u64) -> Vec<Row> {
    let lines = model.log.iter().rev();
    lines
        .map(|line| {
            let role = if line.text.starts_with("warning: ") { Role::Warn } else { Role::Plain };
            Row::new().column(&age(line.at_ms, now_ms), 12, Role::Dim).with(&line.text, role)
        })
        .collect()
}

fn age(then_ms: u64, now_ms: u64) -> String {
    let ns = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    ago(ns(then_ms), ns(now_ms))
}
