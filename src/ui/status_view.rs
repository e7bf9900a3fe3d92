//! A mirror in words: one line for how it is, one line for what moved, one for what is new.
//!
//! Text from values, and no more: who shows it, and where, is elsewhere.

use std::time::Duration;

use crate::session::proto::{
    MountInfo, Moved, MovedBatch, OperationState, Side, State, StatusReply, Totals,
};

#[cfg(test)]
mod tests;

/// Files of one direction that are named in one line; more are summed up.
const NAMED_MAX: usize = 5;
/// Lines about conflicts or problems that appear at once.
const NEW_MAX: usize = 20;

/// A number with a comma at each thousand.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes, in the unit in which they are short.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (bytes / 100, 0);
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    match tenths {
        0..100 => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
        _ => format!("{} {}", count(tenths / 10), UNITS[unit]),
    }
}

/// A time that something took.
pub fn took(time: Duration) -> String {
    match time.as_millis() {
        0 => "under 1 ms".to_owned(),
        millis @ ..10_000 => format!("{millis} ms"),
        _ => format!("{} s", time.as_secs()),
    }
}

pub(crate) fn some(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// The words of a command, in one line.
pub(crate) fn words<T: AsRef<[u8]>>(argv: &[T]) -> String {
    let words: Vec<_> = argv.iter().map(|word| String::from_utf8_lossy(word.as_ref())).collect();
    words.join(" ")
}

/// The word for an operation's state; for programs too, so it never changes.
pub(crate) fn operation_word(state: OperationState) -> &'static str {
    match state {
        OperationState::OperationNone => "unknown",
        OperationState::OperationPreparing => "preparing",
        OperationState::OperationRunning => "running",
        OperationState::OperationEnding => "ending",
        OperationState::OperationEnded => "ended",
        OperationState::OperationLost => "lost",
    }
}

/// The word for a state; for programs too, so it never changes.
pub fn state_word(state: State) -> &'static str {
    match state {
        State::Idle => "idle",
        State::Starting => "starting",
        State::Syncing => "syncing",
        State::Watching => "watching",
        State::Paused => "paused",
        State::Halted => "halted",
        State::Waiting => "waiting",
        State::Reconnecting => "reconnecting",
    }
}

/// How a mirror is, in one line.
pub fn line(status: &StatusReply) -> String {
    let state = status.state();
    let mut parts = vec![match status.why.as_str() {
        "" => state_word(state).to_owned(),
        why => format!("{}: {why}", state_word(state)),
    }];
    if let Some(progress) = status.progress.as_ref().filter(|progress| progress.files_total > 0) {
        parts.push(format!("{} of {} files", count(progress.files), count(progress.files_total)));
        parts.push(format!("{} of {}", size(progress.done), size(progress.total)));
    } else {
        parts.push(some(status.files, "file", "files"));
    }
    if status.conflict_count > 0 {
        parts.push(some(status.conflict_count, "conflict", "conflicts"));
    }
    if status.problem_count > 0 {
        parts.push(some(status.problem_count, "problem", "problems"));
    }
    if status.lag_us > 0 {
        parts.push(format!("lag {}", took(Duration::from_micros(status.lag_us))));
    }
    parts.push(if status.link_up { "link up" } else { "link down" }.to_owned());
    parts.join(" · ")
}

/// Where the sandbox is mounted, and how that is.
pub fn mount_line(mount: &MountInfo) -> String {
    let mut facts = vec![if mount.writable { "writable" } else { "read-only" }.to_owned()];
    if mount.open_files > 0 {
        facts.push(some(mount.open_files, "open file", "open files"));
    }
    if mount.dirty_bytes > 0 {
        facts.push(format!("{} to be written", size(mount.dirty_bytes)));
    }
    if mount.waiting {
        facts.push("waiting for the link".to_owned());
    }
    let [at, root] = [&mount.at, &mount.root].map(|path| String::from_utf8_lossy(path));
    format!("mounted at {at}: {root} of the sandbox, {}", facts.join(", "))
}

/// What a batch moved: one line for each direction.
pub fn moved_lines(batch: &MovedBatch) -> Vec<String> {
    let took = took(Duration::from_micros(batch.took_us));
    let directions = [
        (Side::Sandbox, "→", batch.to_sandbox.unwrap_or_default()),
        (Side::Host, "←", batch.to_host.unwrap_or_default()),
    ];
    let moved = directions.into_iter().filter(|(_, _, totals)| totals.paths > 0);
    moved
        .map(|(side, arrow, totals)| {
            let named: Vec<&Moved> = batch.moved.iter().filter(|m| m.side() == side).collect();
            format!("{arrow} {} in {took}", moved_words(&named, totals))
        })
        .collect()
}

fn moved_words(named: &[&Moved], totals: Totals) -> String {
    let bytes = (totals.bytes > 0).then(|| size(totals.bytes));
    if let [only] = named
        && totals.paths == 1
    {
        return match (only.removed, bytes) {
            (true, _) => format!("{} removed", only.path),
            (false, Some(bytes)) => format!("{} ({bytes})", only.path),
            (false, None) => only.path.clone(),
        };
    }
    let removed = (totals.removed > 0).then(|| format!("{} removed", count(totals.removed)));
    let files = some(totals.paths, "file", "files");
    let facts: Vec<String> = [Some(files), bytes, removed].into_iter().flatten().collect();
    let place = match named.len() {
        // Some of the paths are not named in the batch at all: a directory that went, for one.
        0 => "…".to_owned(),
        1..=NAMED_MAX => {
            named.iter().map(|moved| moved.path.as_str()).collect::<Vec<_>>().join(", ")
        }
        _ => common_directory(named),
    };
    format!("{place} ({})", facts.join(", "))
}

/// The deepest directory that holds all of them.
fn common_directory(named: &[&Moved]) -> String {
    let directory = |moved: &Moved| {
        let parts: Vec<String> = moved.path.split('/').map(str::to_owned).collect();
        parts[..parts.len() - 1].to_vec()
    };
    let mut common = named.first().map(|moved| directory(moved)).unwrap_or_default();
    for moved in named {
        let other = directory(moved);
        let same = common.iter().zip(&other).take_while(|(a, b)| a == b).count();
        common.truncate(same);
    }
    if common.is_empty() { "./".to_owned() } else { format!("{}/", common.join("/")) }
}

/// What is new since `before`, one line each: conflicts and problems that appeared or went, and
/// states that a person should hear of. What happens to the link comes as notes, which are never
/// left out.
pub fn changes(before: Option<&StatusReply>, now: &StatusReply) -> Vec<String> {
    let none = StatusReply::default();
    let before = before.unwrap_or(&none);
    let mut lines = state_change(before, now);
    for (side, old, gap) in [
        ("host", &before.watching_host, &now.watching_host),
        ("sandbox", &before.watching_sandbox, &now.watching_sandbox),
    ] {
        if gap != old {
            lines.push(match gap.as_str() {
                "" => format!("the {side} is fully watched again"),
                gap => format!("warning: the {side} is not fully watched: {gap}"),
            });
        }
    }
    // A path that is not listed may still be among those that are only counted.
    let all = |count: u64, listed: usize| count == listed as u64;
    let conflicts = Listed {
        before: before.conflicts.iter().map(|c| (conflict_key(&c.path), String::new())).collect(),
        now: now
            .conflicts
            .iter()
            .map(|conflict| {
                let (path, reason) = (&conflict.path, &conflict.reason);
                let line = format!("warning: conflict: {path}: {reason}; both versions are kept");
                (conflict_key(path), line)
            })
            .collect(),
        is_whole: all(now.conflict_count, now.conflicts.len()),
        gone: "no conflict any more: ",
    };
    conflicts.tell(&mut lines);
    let problems = Listed {
        before: before.problems.iter().map(|p| (p.path.clone(), String::new())).collect(),
        now: now
            .problems
            .iter()
            .map(|problem| {
                let (path, reason) = (&problem.path, &problem.reason);
                let line =
                    format!("warning: not synced: {path} ({}): {reason}", word(problem.side()));
                (path.clone(), line)
            })
            .collect(),
        is_whole: all(now.problem_count, now.problems.len()),
        gone: "no problem any more: ",
    };
    problems.tell(&mut lines);
    lines
}

/// The word for a side.
pub fn word(side: Side) -> &'static str {
    match side {
        Side::Host => "host",
        Side::Sandbox => "sandbox",
    }
}

pub(crate) fn conflict_key(path: &str) -> String {
    if path.is_empty() { "the whole project".to_owned() } else { path.to_owned() }
}

/// Things with a path, before and now, each with its line.
struct Listed {
    before: Vec<(String, String)>,
    now: Vec<(String, String)>,
    /// All that there are now are in the list.
    is_whole: bool,
    gone: &'static str,
}

impl Listed {
    fn tell(self, lines: &mut Vec<String>) {
        let known = |list: &[(String, String)], path: &str| list.iter().any(|(p, _)| p == path);
        let new = self.now.iter().filter(|(path, _)| !known(&self.before, path));
        let gone = self.before.iter().filter(|(path, _)| self.is_whole && !known(&self.now, path));
        let mut told: Vec<String> = new.map(|(_, line)| line.clone()).collect();
        told.extend(gone.map(|(path, _)| format!("{}{path}", self.gone)));
        let more = told.len().saturating_sub(NEW_MAX);
        told.truncate(NEW_MAX);
        lines.extend(told);
        if more > 0 {
            lines.push(format!("… and {more} more; `skync status` lists them"));
        }
    }
}

fn state_change(before: &StatusReply, now: &StatusReply) -> Vec<String> {
    let is_quiet = |state: State| {
        matches!(state, State::Idle | State::Starting | State::Syncing | State::Watching)
            || state == State::Reconnecting
    };
    let (old, new) = (before.state(), now.state());
    if (old, &before.why) == (new, &now.why) {
        return Vec::new();
    }
    match (is_quiet(old), is_quiet(new)) {
        (_, false) => {
            let why = now.why.as_str();
            vec![match new {
                State::Paused => "paused: nothing moves until `skync resume`".to_owned(),
                State::Halted => format!("halted: {why}; `skync resume --accept` carries it out"),
                _ => format!("{}: {why}", state_word(new)),
            }]
        }
        _ if old == State::Reconnecting && new == State::Watching => {
            vec!["watching again".to_owned()]
        }
        (false, true) if new == State::Watching => vec!["watching again".to_owned()],
        (_, true) => Vec::new(),
    }
}
