//! The rules as a table, then as properties.

use super::*;
use crate::sync::trees::{
    dir, file, file_with_mode, husk, link, script, show, special, unreadable,
};

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
        let plan = reconcile(Some(&ancestor), Some(&host), Some(&sandbox), *mode);
        assert_eq!(lines(&plan), expect, "{description}, {mode:?}");
    }
}

fn lines(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    let changes = [
        ("host", &plan.host),
        ("sandbox", &plan.sandbox),
        ("agreed", &plan.agreed),
    ];
    for (list, changes) in changes {
        for Change { path, old, new } in changes {
            let (old, new) = (show(old.as_ref()), show(new.as_ref()));
            lines.push(format!("{list}: {path}: {old} -> {new}"));
        }
    }
    for conflict in &plan.conflicts {
        let kind = match conflict.kind {
            ConflictKind::BothChanged => "both changed".to_owned(),
            ConflictKind::SandboxChanged => "sandbox changed".to_owned(),
            ConflictKind::Blocked(side) => format!("blocked on the {side}"),
        };
        lines.push(format!("conflict: {}: {kind}", conflict.path));
    }
    for problem in &plan.problems {
        lines.push(format!("problem: {} on the {}", problem.path, problem.side));
    }
    for note in &plan.notes {
        lines.push(match note.kind {
            NoteKind::ChangeKept { deleted_on } => {
                format!(
                    "note: {} was deleted on the {deleted_on}, change kept",
                    note.path
                )
            }
            NoteKind::HostWon => format!("note: {}: the host won", note.path),
        });
    }
    lines
}

#[test]
fn a_change_of_one_side_goes_to_the_other() {
    let (one, two) = (|| Some(file("1")), || Some(file("2")));
    check("nothing changed", ALL, one(), one(), one(), &[]);
    check(
        "the host edits",
        ALL,
        one(),
        two(),
        one(),
        &["sandbox: p: 1 -> 2"],
    );
    check(
        "the host creates",
        ALL,
        None,
        one(),
        None,
        &["sandbox: p: nothing -> 1"],
    );
    check(
        "the host deletes",
        ALL,
        one(),
        None,
        one(),
        &["sandbox: p: 1 -> nothing"],
    );
    check(
        "the sandbox edits",
        TWO_WAY,
        one(),
        one(),
        two(),
        &["host: p: 1 -> 2"],
    );
    check(
        "the sandbox creates",
        TWO_WAY,
        None,
        None,
        one(),
        &["host: p: nothing -> 1"],
    );
    check(
        "the sandbox deletes",
        TWO_WAY,
        one(),
        one(),
        None,
        &["host: p: 1 -> nothing"],
    );
    check(
        "the host makes it executable",
        ALL,
        one(),
        Some(script("1")),
        one(),
        &["sandbox: p: 1 -> 1*"],
    );
    let private = || Some(file_with_mode("1", 0o600));
    check(
        "the sandbox makes it private",
        TWO_WAY,
        one(),
        one(),
        private(),
        &["host: p: 1 -> 1"],
    );
    let other_umask = Some(file_with_mode("1", 0o664));
    check(
        "another umask is no change",
        ALL,
        one(),
        other_umask,
        one(),
        &[],
    );
    check(
        "a link changes",
        ALL,
        Some(link("a")),
        Some(link("b")),
        Some(link("a")),
        &["sandbox: p: @a -> @b"],
    );
    check(
        "an empty directory is created",
        ALL,
        None,
        Some(dir([])),
        None,
        &["sandbox: p: nothing -> {}"],
    );
}

#[test]
fn one_way_modes_never_change_the_host() {
    let (one, two) = (|| Some(file("1")), || Some(file("2")));
    check(
        "sandbox edits",
        ONE_WAY_SAFE,
        one(),
        one(),
        two(),
        &["conflict: p: sandbox changed"],
    );
    check(
        "sandbox edits",
        REPLICA,
        one(),
        one(),
        two(),
        &["sandbox: p: 2 -> 1"],
    );
    check("sandbox creates", ONE_WAY_SAFE, None, None, one(), &[]);
    check(
        "sandbox creates",
        REPLICA,
        None,
        None,
        one(),
        &["sandbox: p: 1 -> nothing"],
    );
    check(
        "sandbox deletes",
        ONE_WAY,
        one(),
        one(),
        None,
        &["sandbox: p: nothing -> 1"],
    );
    check(
        "host deletes what the sandbox edited",
        ONE_WAY_SAFE,
        one(),
        None,
        two(),
        &["agreed: p: 1 -> nothing"],
    );
    check(
        "host deletes what the sandbox edited",
        REPLICA,
        one(),
        None,
        two(),
        &["sandbox: p: 2 -> nothing"],
    );
    let (old, added) = (
        dir([("a", file("1"))]),
        dir([("a", file("1")), ("b", file("2"))]),
    );
    check(
        "host deletes a directory the sandbox added to",
        ONE_WAY_SAFE,
        Some(old),
        None,
        Some(added),
        &["conflict: p: sandbox changed"],
    );
}

#[test]
fn the_same_change_on_both_sides_is_no_conflict() {
    let (one, two) = (|| Some(file("1")), || Some(file("2")));
    check(
        "both create the same",
        ALL,
        None,
        one(),
        one(),
        &["agreed: p: nothing -> 1"],
    );
    check(
        "both edit the same",
        ALL,
        one(),
        two(),
        two(),
        &["agreed: p: 1 -> 2"],
    );
    check(
        "both delete",
        ALL,
        one(),
        None,
        None,
        &["agreed: p: 1 -> nothing"],
    );
    let tree = || Some(dir([("a", file("1"))]));
    check(
        "both create a directory",
        ALL,
        None,
        tree(),
        tree(),
        &["agreed: p: nothing -> {}", "agreed: p/a: nothing -> 1"],
    );
    check(
        "both replace a file by a directory",
        ALL,
        one(),
        tree(),
        tree(),
        &["agreed: p: 1 -> {}", "agreed: p/a: nothing -> 1"],
    );
    check(
        "both replace a directory by a file",
        ALL,
        tree(),
        one(),
        one(),
        &["agreed: p: {} -> 1"],
    );
}

#[test]
fn different_changes_on_both_sides_are_a_conflict() {
    let files = |content| Some(file(content));
    let cases = [
        ("both edit", files("1"), files("2"), files("3")),
        ("both create", None, files("2"), files("3")),
        ("edit and chmod", files("3"), files("2"), Some(script("3"))),
        ("file and link", None, files("2"), Some(link("x"))),
        (
            "file and directory",
            None,
            files("2"),
            Some(dir([("a", file("3"))])),
        ),
    ];
    for (description, ancestor, host, sandbox) in cases {
        let conflict = &["conflict: p: both changed"];
        check(
            description,
            SAFE,
            ancestor.clone(),
            host.clone(),
            sandbox.clone(),
            conflict,
        );
        let write = format!(
            "sandbox: p: {} -> {}",
            show(sandbox.as_ref()),
            show(host.as_ref())
        );
        let won = &[write.as_str(), "note: p: the host won"];
        check(
            description,
            RESOLVED,
            ancestor.clone(),
            host.clone(),
            sandbox.clone(),
            won,
        );
        check(description, REPLICA, ancestor, host, sandbox, &[&write]);
    }
    check(
        "both edit",
        ONE_WAY_SAFE,
        files("1"),
        files("2"),
        files("3"),
        &["conflict: p: both changed"],
    );
}

#[test]
fn a_change_beats_a_deletion() {
    let (one, two) = (|| Some(file("1")), || Some(file("2")));
    check(
        "host deletes, sandbox edits",
        TWO_WAY,
        one(),
        None,
        two(),
        &[
            "host: p: nothing -> 2",
            "note: p was deleted on the host, change kept",
        ],
    );
    check(
        "sandbox deletes, host edits",
        TWO_WAY,
        one(),
        two(),
        None,
        &[
            "sandbox: p: nothing -> 2",
            "note: p was deleted on the sandbox, change kept",
        ],
    );
    check(
        "one-way brings it back without a word",
        ONE_WAY,
        one(),
        two(),
        None,
        &["sandbox: p: nothing -> 2"],
    );
    let old = || Some(dir([("a", file("1")), ("b", file("1"))]));
    let added = Some(dir([("a", file("1")), ("c", file("2"))]));
    check(
        "the whole directory comes back with what was added",
        TWO_WAY,
        old(),
        None,
        added,
        &[
            "host: p: nothing -> {a: 1, c: 2}",
            "agreed: p/b: 1 -> nothing",
            "note: p was deleted on the host, change kept",
        ],
    );
    let pruned = Some(dir([("b", file("1"))]));
    check(
        "both only delete: all of it goes",
        TWO_WAY,
        old(),
        None,
        pruned,
        &["sandbox: p: {b: 1} -> nothing", "agreed: p/a: 1 -> nothing"],
    );
}

#[test]
fn another_kind_is_one_change_of_the_whole_subtree() {
    let tree = || Some(dir([("a", file("1"))]));
    check(
        "directory to file",
        ALL,
        tree(),
        Some(file("2")),
        tree(),
        &["sandbox: p: {a: 1} -> 2"],
    );
    check(
        "file to directory",
        ALL,
        Some(file("2")),
        tree(),
        Some(file("2")),
        &["sandbox: p: 2 -> {a: 1}"],
    );
    check(
        "file to link",
        ALL,
        Some(file("2")),
        Some(link("x")),
        Some(file("2")),
        &["sandbox: p: 2 -> @x"],
    );
}

#[test]
fn a_directory_kept_by_excluded_content_neither_comes_back_nor_goes_again() {
    let tree = || Some(dir([("a", file("1"))]));
    check("a husk is nothing new", ALL, None, None, Some(husk()), &[]);
    check(
        "a husk of a deleted directory stays",
        ALL,
        Some(dir([])),
        None,
        Some(husk()),
        &[],
    );
    check(
        "what was in it is forgotten",
        ALL,
        tree(),
        None,
        Some(husk()),
        &["agreed: p/a: 1 -> nothing"],
    );
    check(
        "the excluded content went too",
        ALL,
        Some(dir([])),
        None,
        Some(dir([])),
        &["sandbox: p: {} -> nothing"],
    );
    check(
        "an unchanged directory is agreed",
        ALL,
        Some(dir([])),
        Some(dir([])),
        Some(husk()),
        &[],
    );
    check(
        "a husk beside a directory is one",
        ALL,
        None,
        tree(),
        Some(husk()),
        &["sandbox: p/a: nothing -> 1", "agreed: p: nothing -> {}"],
    );
    check(
        "its files were deleted",
        TWO_WAY,
        tree(),
        tree(),
        Some(husk()),
        &["host: p/a: 1 -> nothing"],
    );
    check(
        "a husk of husks is one",
        ALL,
        None,
        Some(dir([("h", husk())])),
        None,
        &[],
    );
    check(
        "husks are not copied",
        ALL,
        None,
        Some(dir([("a", file("1")), ("h", husk())])),
        None,
        &["sandbox: p: nothing -> {a: 1}"],
    );
    let mixed = Some(dir([("a", file("1")), ("h", husk())]));
    check(
        "only what is tracked is deleted",
        ALL,
        tree(),
        None,
        mixed,
        &["sandbox: p: {a: 1} -> nothing"],
    );
}

#[test]
fn what_is_not_synchronised_is_never_written_over() {
    let one = || Some(file("1"));
    check(
        "a replica meets a socket",
        REPLICA,
        None,
        one(),
        Some(special()),
        &["conflict: p: blocked on the sandbox"],
    );
    check(
        "a file meets a husk",
        ALL,
        None,
        one(),
        Some(husk()),
        &["conflict: p: blocked on the sandbox"],
    );
    let tree = || Some(dir([("a", file("1"))]));
    let with_socket = Some(dir([("a", file("1")), ("s", special())]));
    check(
        "a file replaces a directory with a socket in it",
        ALL,
        tree(),
        one(),
        with_socket,
        &["conflict: p: blocked on the sandbox"],
    );
    let with_unreadable = Some(dir([("a", file("1")), ("u", unreadable())]));
    check(
        "a file replaces what cannot all be read",
        REPLICA,
        tree(),
        one(),
        with_unreadable,
        &[
            "conflict: p: blocked on the sandbox",
            "problem: p/u on the sandbox",
        ],
    );
    check(
        "a new file meets a socket",
        TWO_WAY,
        None,
        Some(special()),
        one(),
        &["conflict: p: blocked on the host"],
    );
    check(
        "an edit meets a socket",
        TWO_WAY,
        one(),
        Some(special()),
        Some(file("2")),
        &["conflict: p: blocked on the host"],
    );
    check(
        "a file became a socket: it is gone",
        TWO_WAY,
        one(),
        Some(special()),
        one(),
        &["sandbox: p: 1 -> nothing"],
    );
    check(
        "sockets everywhere",
        ALL,
        None,
        Some(special()),
        Some(special()),
        &[],
    );
}

#[test]
fn nothing_is_planned_at_or_below_what_could_not_be_read() {
    let one = || Some(file("1"));
    check(
        "unreadable on the host",
        ALL,
        one(),
        Some(unreadable()),
        Some(file("2")),
        &["problem: p on the host"],
    );
    check(
        "unreadable here, gone there",
        ALL,
        one(),
        None,
        Some(unreadable()),
        &["problem: p on the sandbox"],
    );
    let old = || Some(dir([("a", file("1")), ("d", dir([("u", file("1"))]))]));
    let found = dir([("a", file("1")), ("d", dir([("u", unreadable())]))]);
    check(
        "deleted around it",
        ALL,
        old(),
        None,
        Some(found),
        &[
            "sandbox: p/a: 1 -> nothing",
            "problem: p/d/u on the sandbox",
        ],
    );
    let new = dir([("a", file("1")), ("u", unreadable())]);
    check(
        "copied around it",
        ALL,
        None,
        Some(new),
        None,
        &["sandbox: p: nothing -> {a: 1}", "problem: p/u on the host"],
    );
}

#[test]
fn without_an_ancestor_nothing_is_deleted() {
    let host = dir([("a", file("1")), ("b", file("1"))]);
    let sandbox = dir([("b", file("2")), ("c", file("3"))]);
    let plan = |mode| lines(&reconcile(None, Some(&host), Some(&sandbox), mode));
    assert_eq!(
        plan(SyncMode::TwoWaySafe),
        [
            "host: c: nothing -> 3",
            "sandbox: a: nothing -> 1",
            "agreed: .: nothing -> {}",
            "conflict: b: both changed",
        ]
    );
    assert_eq!(
        plan(SyncMode::OneWaySafe),
        [
            "sandbox: a: nothing -> 1",
            "agreed: .: nothing -> {}",
            "conflict: b: both changed",
        ]
    );
    let empty = lines(&reconcile(None, Some(&host), None, SyncMode::TwoWaySafe));
    assert_eq!(empty, ["sandbox: .: nothing -> {a: 1, b: 1}"]);
}

#[test]
fn a_path_as_deep_as_paths_can_be_needs_no_deeper_stack() {
    let deep = |leaf| (0..2000).fold(leaf, |below, _| dir([("d", below)]));
    let (old, new) = (deep(file("1")), deep(file("2")));
    let plan = reconcile(Some(&old), Some(&new), Some(&old), SyncMode::TwoWaySafe);
    assert_eq!(plan.sandbox.len(), 1);
    let plan = reconcile(None, Some(&new), None, SyncMode::TwoWaySafe);
    assert_eq!(crate::sync::plan::flatten(&plan.sandbox).len(), 2001);
}
