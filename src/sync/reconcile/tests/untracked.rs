//! What happens beside, inside and instead of what is never synchronised, and with no ancestor.

use super::*;

#[test]
fn a_directory_kept_by_excluded_content_neither_comes_back_nor_goes_again() {
    let tree = || Some(dir([("a", file("1"))]));
    check("a husk is nothing new", ALL, None, None, Some(husk()), &[]);
    check("a husk of a deleted directory stays", ALL, Some(dir([])), None, Some(husk()), &[]);
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
    check("an unchanged directory is agreed", ALL, Some(dir([])), Some(dir([])), Some(husk()), &[]);
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
    check("a husk of husks is one", ALL, None, Some(dir([("h", husk())])), None, &[]);
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
        &["conflict: p: blocked on the sandbox", "problem: p/u on the sandbox"],
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
    check("sockets everywhere", ALL, None, Some(special()), Some(special()), &[]);
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
        &["sandbox: p/a: 1 -> nothing", "problem: p/d/u on the sandbox"],
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
    let plan =
        |mode| lines(&reconcile(None, Some(&host), Some(&sandbox), mode, &Decisions::none()));
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
        ["sandbox: a: nothing -> 1", "agreed: .: nothing -> {}", "conflict: b: both changed",]
    );
    let empty =
        lines(&reconcile(None, Some(&host), None, SyncMode::TwoWaySafe, &Decisions::none()));
    assert_eq!(empty, ["sandbox: .: nothing -> {a: 1, b: 1}"]);
}

#[test]
fn a_path_as_deep_as_paths_can_be_needs_no_deeper_stack() {
    let deep = |leaf| (0..2000).fold(leaf, |below, _| dir([("d", below)]));
    let (old, new) = (deep(file("1")), deep(file("2")));
    let plan =
        reconcile(Some(&old), Some(&new), Some(&old), SyncMode::TwoWaySafe, &Decisions::none());
    assert_eq!(plan.sandbox.len(), 1);
    let created = reconcile(None, Some(&new), None, SyncMode::TwoWaySafe, &Decisions::none());
    assert_eq!(crate::sync::plan::flatten(&created.sandbox).len(), 2001);
    let deleted = reconcile(Some(&old), None, Some(&old), SyncMode::TwoWaySafe, &Decisions::none());
    assert_eq!(crate::sync::plan::flatten(&deleted.sandbox).len(), 2001);
    let kept = reconcile(Some(&old), None, Some(&new), SyncMode::TwoWaySafe, &Decisions::none());
    assert_eq!((kept.host.len(), kept.notes.len()), (1, 1));
}
