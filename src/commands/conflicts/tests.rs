//! What is shown of conflicts, and how much of it.

use skync_agent::entry::{Digest, Directory, File};
use skync_agent::path::SyncPath;

use super::*;
use crate::sync::decide::Decision;
use crate::sync::plan::Conflict;

const NOW: i64 = 1_700_000_000_000_000_000;
const MINUTE: i64 = 60_000_000_000;

fn file(size: u64, mode: u16, age: i64) -> Option<Entry> {
    let mtime_ns = NOW - age * MINUTE;
    Some(Entry::File(File { digest: Digest::of(b""), size, mode, mtime_ns }))
}

fn open(at: &str, kind: ConflictKind, host: Option<Entry>, sandbox: Option<Entry>) -> OpenConflict {
    let path = SyncPath::parse(at.as_bytes()).expect("a path");
    let conflict = Conflict { path, host, sandbox, ancestor: None, contents: None, kind };
    OpenConflict { conflict, since_ns: NOW - 2 * MINUTE }
}

fn sample() -> Vec<OpenConflict> {
    let link = Entry::Symlink((*b"/etc/\x1b[2Jpasswd").into());
    vec![
        open(".git/config", ConflictKind::Guarded, file(92, 0o644, 9), file(120, 0o644, 3)),
        open("a.txt", ConflictKind::BothChanged, file(2_048, 0o644, 1), file(5, 0o755, 0)),
        open("d", ConflictKind::Blocked(Side::Host), Some(Entry::Untracked), file(1, 0o644, 0)),
        open("e", ConflictKind::SandboxChanged, None, Some(Entry::Directory(Directory::default()))),
        open("l", ConflictKind::LeavesRoot, None, Some(link)),
    ]
}

#[test]
fn conflicts_are_shown_with_both_versions() {
    let conflicts = sample();
    let decision = Decision::about(&conflicts[1].conflict, Choice::Both).expect("possible");
    let decisions = [(conflicts[1].conflict.path.clone(), decision)].into_iter().collect();
    insta::assert_snapshot!(table(&conflicts, &decisions, NOW), @r"
    PATH         WHY                               HOST                 SANDBOX                       SINCE
    .git/config  guarded                           92 B, 9 min ago      120 B, 3 min ago              2 min ago
    a.txt        decided: both                     2.00 KiB, 1 min ago  5 B, just now, executable     2 min ago
    d            blocked on the host               special file         1 B, just now                 2 min ago
    e            sandbox changed                   nothing              directory                     2 min ago
    l            guarded: link out of the project  nothing              link to /etc/\u{1b}[2Jpasswd  2 min ago
    ");
}

#[test]
fn a_thousand_guarded_paths_are_no_wall_of_text() {
    let mut conflicts: Vec<_> = (0..1_000)
        .map(|n| open(&format!("{n}/.envrc"), ConflictKind::Guarded, None, file(1, 0o644, 0)))
        .collect();
    conflicts.push(open("z", ConflictKind::BothChanged, None, file(1, 0o644, 0)));
    let text = table(&conflicts, &Decisions::none(), NOW);
    assert_eq!(text.lines().count(), 1 + HELD_ROWS_MAX + 1 + 1, "{text}");
    assert!(text.contains("\nz "), "a conflict is not hidden by them: {text}");
    let last = "and 980 more guarded paths: `skync conflicts --json` lists them all\n";
    assert!(text.ends_with(last), "{text}");
    let document = document(&conflicts, &Decisions::none());
    assert_eq!(document["conflicts"].as_array().map(Vec::len), Some(1_001));
}

#[test]
fn programs_get_the_same_facts() {
    let document = document(&sample(), &Decisions::none());
    let conflicts = &document["conflicts"];
    assert_eq!(conflicts[0]["kind"], "guarded");
    assert_eq!(conflicts[1]["path"], "a.txt");
    assert_eq!(conflicts[1]["host"]["size"], 2_048);
    assert_eq!(conflicts[1]["host"]["modified"], "2023-11-14T22:12:20.000Z");
    assert_eq!(conflicts[1]["since"], "2023-11-14T22:11:20.000Z");
    assert_eq!(conflicts[1]["decided"], Value::Null);
    assert_eq!(conflicts[2]["kind"], "blocked-on-host");
    assert_eq!(conflicts[3]["host"], Value::Null);
    assert_eq!(conflicts[4]["sandbox"]["kind"], "symbolic link");
}
