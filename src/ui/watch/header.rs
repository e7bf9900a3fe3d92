//! What stands above the panels: which session, how it is, its link, and when its sandbox goes.

use std::time::Duration;

use super::model::Model;
use super::text::{Role, Row, cut, span};
use crate::session::proto::{State, StatusReply, Totals};
use crate::ui::status_view::{count, size, some, state_word, took};

/// The lines above the panels, most important first.
pub(super) fn rows(model: &Model, width: usize, now_ms: u64) -> Vec<Row> {
    let mut rows = vec![title(model, width)];
    if model.sessions.len() > 1 {
        rows.push(tabs(model));
    }
    let Some(status) = model.status.as_deref() else {
        rows.push(Row::plain("waiting for the session's first word …"));
        return rows;
    };
    rows.push(state(model, status, now_ms));
    rows.push(link(status, now_ms));
    rows.push(sandbox(status, now_ms));
    rows
}

fn title(model: &Model, width: usize) -> Row {
    let row = Row::new().with("skync ", Role::Strong);
    let Some(name) = model.sessions.get(model.shown) else { return row };
    let profile = format!(" ({})", name.profile);
    let room = width.saturating_sub(row.width() + profile.chars().count());
    let root = name.root.to_string_lossy();
    // The end of a path says more than its beginning.
    let root = crate::ui::visible(&root);
    let root = match super::text::cells(&root) > room {
        true => {
            let reversed: String = root.chars().rev().collect();
            cut(&reversed, room).chars().rev().collect()
        }
        false => root,
    };
    row.with(&root, Role::Key).with(&profile, Role::Plain)
}

fn tabs(model: &Model) -> Row {
    let mut row = Row::new().with("←/→ ", Role::Dim);
    for (at, name) in model.sessions.iter().enumerate() {
        let project = name.root.file_name().map_or_else(|| "/".into(), |n| n.to_string_lossy());
        let text = format!("{} {project} ({})", at + 1, name.profile);
        row = match at == model.shown {
            true => row.with(&format!("[{text}]"), Role::Strong),
            false => row.with(&format!(" {text} "), Role::Dim),
        };
    }
    row
}

/// What it does, and why it does not more.
fn state(model: &Model, status: &StatusReply, now_ms: u64) -> Row {
    if let Some(since) = model.lost_ms {
        let text = format!(
            "the session does not answer for {}; it is looked for",
            span(now_ms.saturating_sub(since))
        );
        return Row::new().with(&text, Role::Bad);
    }
    let state = status.state();
    let role = match state {
        State::Watching | State::Syncing => Role::Good,
        State::Idle | State::Starting => Role::Plain,
        State::Paused | State::Waiting | State::Reconnecting => Role::Warn,
        State::Halted => Role::Bad,
    };
    let mut row = Row::new().with(state_word(state), role);
    match (state, status.why.as_str()) {
        (State::Paused, _) => row = row.with(": nothing moves, `p` goes on", Role::Warn),
        (State::Halted, why) => row = row.with(&format!(": {why} (`p` asks)"), Role::Bad),
        (_, "") => {}
        (_, why) => row = row.with(&format!(": {why}"), role),
    }
    row = row.with(&format!(" · {}", some(status.files, "file", "files")), Role::Plain);
    let waits = [
        (status.conflict_count, "conflict", "conflicts"),
        (status.problem_count, "problem", "problems"),
    ];
    for (number, one, many) in waits.into_iter().filter(|(number, ..)| *number > 0) {
        row = row.with(&format!(" · {}", some(number, one, many)), Role::Warn);
    }
    for (side, gap) in [("host", &status.watching_host), ("sandbox", &status.watching_sandbox)] {
        if !gap.is_empty() {
            row = row.with(&format!(" · the {side} is not fully watched"), Role::Warn);
        }
    }
    row
}

fn link(status: &StatusReply, now_ms: u64) -> Row {
    let since = span(now_ms.saturating_sub(status.link_since_ms));
    let mut row = Row::new();
    row = match (status.link_up, status.link_since_ms) {
        (_, 0) => row.with("no link yet", Role::Plain),
        (true, _) => row.with("link up", Role::Good).with(&format!(" for {since}"), Role::Plain),
        (false, _) => row.with("link down", Role::Bad).with(&format!(" for {since}"), Role::Plain),
    };
    if status.link_up && status.round_trip_us > 0 {
        let time = status.round_trip_us as f64 / 1000.0;
        row = row.with(&format!(" · round trip {time:.1} ms"), Role::Plain);
    }
    if status.retry_ms > now_ms {
        let text = format!(" · dialled again in {}", span(status.retry_ms - now_ms + 999));
        row = row.with(&text, Role::Warn);
    }
    if status.lag_us > 0 {
        let [lag, most] = [status.lag_us, status.lag_max_us].map(Duration::from_micros).map(took);
        row = row.with(&format!(" · lag {lag}, at most {most}"), Role::Plain);
    }
    for (arrow, totals) in [("→", status.to_sandbox), ("←", status.to_host)] {
        let Totals { paths, bytes, .. } = totals.unwrap_or_default();
        if paths > 0 {
            row = row.with(&format!(" · {arrow} {}, {}", count(paths), size(bytes)), Role::Dim);
        }
    }
    row
}

/// Where it runs, and when that goes.
fn sandbox(status: &StatusReply, now_ms: u64) -> Row {
    let row = match status.sandbox.as_str() {
        "" => return Row::plain("no sandbox yet"),
        name => Row::new().with("sandbox ", Role::Plain).with(name, Role::Key),
    };
    let goes = match status {
        StatusReply { hold: true, .. } => "goes with `skync down`".to_owned(),
        StatusReply { ups: 1.., .. } => "goes when `skync up` ends".to_owned(),
        StatusReply { mounts, .. } if !mounts.is_empty() => "goes with `skync unmount`".to_owned(),
        StatusReply { operations: 1.., .. } => "goes when the last command ends".to_owned(),
        StatusReply { kept, .. } if !kept.is_empty() => format!("kept: {kept}"),
        _ => "goes now".to_owned(),
    };
    let row = row.with(&format!(" · {goes}"), Role::Plain);
    match status.lease_ms {
        0 => row,
        until => {
            let left = span(until.saturating_sub(now_ms));
            row.with(&format!(" · lease {left}, renewed"), Role::Dim)
        }
    }
}
