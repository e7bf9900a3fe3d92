use super::*;
use crate::session::proto::{Conflict, Problem, Progress};

fn moved(side: Side, path: &str, bytes: u64, removed: bool) -> Moved {
    Moved { at_ms: 0, side: side.into(), path: path.to_owned(), bytes, removed }
}

fn status(state: State, why: &str) -> StatusReply {
    let mut status =
        StatusReply { files: 12_431, link_up: true, why: why.to_owned(), ..Default::default() };
    status.set_state(state);
    status
}

#[test]
fn numbers_are_short_to_read() {
    assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    let sizes = [0, 999, 1000, 1234, 12_345, 999_999, 1_000_000, 5_300_000_000];
    let words = ["0 B", "999 B", "1.0 KB", "1.2 KB", "12 KB", "999 KB", "1.0 MB", "5.3 GB"];
    assert_eq!(sizes.map(size), words);
    assert_eq!(took(Duration::from_micros(400)), "under 1 ms");
    assert_eq!(took(Duration::from_millis(41)), "41 ms");
    assert_eq!(took(Duration::from_secs(75)), "75 s");
}

#[test]
fn the_status_line_has_what_matters_and_nothing_else() {
    let mut watching = status(State::Watching, "");
    assert_eq!(line(&watching), "watching · 12,431 files · link up");
    watching.conflict_count = 2;
    watching.problem_count = 1;
    watching.lag_us = 4000;
    let expected = "watching · 12,431 files · 2 conflicts · 1 problem · lag 4 ms · link up";
    assert_eq!(line(&watching), expected);
    let mut syncing = status(State::Syncing, "");
    let (done, total) = (500_000, 2_000_000);
    syncing.progress =
        Some(Progress { files: 3, files_total: 10, done, total, ..Progress::default() });
    assert_eq!(line(&syncing), "syncing · 3 of 10 files · 500 KB of 2.0 MB · link up");
    let mut lost = status(State::Reconnecting, "the sandbox `x` was removed from outside");
    lost.link_up = false;
    let expected =
        "reconnecting: the sandbox `x` was removed from outside · 12,431 files · link down";
    assert_eq!(line(&lost), expected);
}

#[test]
fn a_batch_is_one_line_for_each_direction() {
    let totals = |files, bytes, removed, paths| Some(Totals { files, bytes, removed, paths });
    let batch = MovedBatch {
        moved: vec![
            moved(Side::Sandbox, "src/a.rs", 1200, false),
            moved(Side::Host, "out/x", 4000, false),
            moved(Side::Host, "out/y", 8000, false),
            moved(Side::Host, "old", 0, true),
        ],
        to_sandbox: totals(1, 1200, 0, 1),
        to_host: totals(2, 12_000, 1, 3),
        took_us: 4100,
    };
    let expected =
        ["→ src/a.rs (1.2 KB) in 4 ms", "← out/x, out/y, old (3 files, 12 KB, 1 removed) in 4 ms"];
    assert_eq!(moved_lines(&batch), expected);
    let many = (0..8).map(|n| moved(Side::Host, &format!("out/{n}/f"), 10, false));
    let batch = MovedBatch {
        moved: many.collect(),
        to_host: totals(800, 8000, 0, 800),
        took_us: 80_000,
        ..MovedBatch::default()
    };
    assert_eq!(moved_lines(&batch), ["← out/ (800 files, 8.0 KB) in 80 ms"]);
    let gone = MovedBatch {
        moved: vec![moved(Side::Sandbox, "a", 0, true)],
        to_sandbox: totals(0, 0, 1, 1),
        ..MovedBatch::default()
    };
    assert_eq!(moved_lines(&gone), ["→ a removed in under 1 ms"]);
}

#[test]
fn conflicts_and_problems_are_told_when_they_come_and_when_they_go() {
    let quiet = status(State::Watching, "");
    let mut loud = quiet.clone();
    loud.conflicts =
        vec![Conflict { path: "a".into(), reason: "changed on both sides".into(), guarded: false }];
    loud.conflict_count = 1;
    let problem = Problem { path: "b".into(), side: Side::Sandbox.into(), reason: "denied".into() };
    loud.problems = vec![problem];
    loud.problem_count = 1;
    let expected = [
        "warning: conflict: a: changed on both sides; both versions are kept",
        "warning: not synced: b (sandbox): denied",
    ];
    assert_eq!(changes(None, &loud), expected);
    assert_eq!(changes(Some(&loud), &loud), [""; 0]);
    assert_eq!(changes(Some(&loud), &quiet), ["no conflict any more: a", "no problem any more: b"]);
    // More than are listed: one that is not in the list need not be gone.
    let more = StatusReply { conflict_count: 5, problem_count: 5, ..quiet };
    assert_eq!(changes(Some(&loud), &more), [""; 0]);
}

#[test]
fn states_that_need_a_person_are_told_with_what_to_do() {
    let watching = status(State::Watching, "");
    let syncing = status(State::Syncing, "");
    let halted = status(State::Halted, "the root on the host is gone");
    let waiting = status(State::Waiting, "disk full on the sandbox: no room for 1 change");
    assert_eq!(changes(Some(&watching), &syncing), [""; 0]);
    let expected = ["halted: the root on the host is gone; `skync resume --accept` carries it out"];
    assert_eq!(changes(Some(&watching), &halted), expected);
    let expected = ["waiting: disk full on the sandbox: no room for 1 change"];
    assert_eq!(changes(Some(&watching), &waiting), expected);
    assert_eq!(changes(Some(&waiting), &watching), ["watching again"]);
    let paused = status(State::Paused, "");
    let expected = ["paused: nothing moves until `skync resume`"];
    assert_eq!(changes(Some(&syncing), &paused), expected);
}
