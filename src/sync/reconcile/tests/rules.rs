//! What the modes do with changes of files, directories and links.

use super::*;

#[test]
fn a_change_of_one_side_goes_to_the_other() {
    let (one, two) = (|| Some(file("1")), || Some(file("2")));
    check("nothing changed", ALL, one(), one(), one(), &[]);
    check("the host edits", ALL, one(), two(), one(), &["sandbox: p: 1 -> 2"]);
    check("the host creates", ALL, None, one(), None, &["sandbox: p: nothing -> 1"]);
    check("the host deletes", ALL, one(), None, one(), &["sandbox: p: 1 -> nothing"]);
    check("the sandbox edits", TWO_WAY, one(), one(), two(), &["host: p: 1 -> 2"]);
    check("the sandbox creates", TWO_WAY, None, None, one(), &["host: p: nothing -> 1"]);
    check("the sandbox deletes", TWO_WAY, one(), one(), None, &["host: p: 1 -> nothing"]);
    check(
        "the host makes it executable",
        ALL,
        one(),
        Some(script("1")),
        one(),
        &["sandbox: p: 1 -> 1*"],
    );
    let private = || Some(file_with_mode("1", 0o600));
    check("the sandbox makes it private", TWO_WAY, one(), one(), private(), &["host: p: 1 -> 1"]);
    let other_umask = Some(file_with_mode("1", 0o664));
    check("another umask is no change", ALL, one(), other_umask, one(), &[]);
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
    check("sandbox edits", ONE_WAY_SAFE, one(), one(), two(), &["conflict: p: sandbox changed"]);
    check("sandbox edits", REPLICA, one(), one(), two(), &["sandbox: p: 2 -> 1"]);
    check("sandbox creates", ONE_WAY_SAFE, None, None, one(), &[]);
    check("sandbox creates", REPLICA, None, None, one(), &["sandbox: p: 1 -> nothing"]);
    check("sandbox deletes", ONE_WAY, one(), one(), None, &["sandbox: p: nothing -> 1"]);
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
    let (old, added) = (dir([("a", file("1"))]), dir([("a", file("1")), ("b", file("2"))]));
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
    check("both create the same", ALL, None, one(), one(), &["agreed: p: nothing -> 1"]);
    check("both edit the same", ALL, one(), two(), two(), &["agreed: p: 1 -> 2"]);
    check("both delete", ALL, one(), None, None, &["agreed: p: 1 -> nothing"]);
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
    check("both replace a directory by a file", ALL, tree(), one(), one(), &["agreed: p: {} -> 1"]);
}

#[test]
fn different_changes_on_both_sides_are_a_conflict() {
    let files = |content| Some(file(content));
    let cases = [
        ("both edit", files("1"), files("2"), files("3")),
        ("both create", None, files("2"), files("3")),
        ("edit and chmod", files("3"), files("2"), Some(script("3"))),
        ("file and link", None, files("2"), Some(link("x"))),
        ("file and directory", None, files("2"), Some(dir([("a", file("3"))]))),
    ];
    for (description, ancestor, host, sandbox) in cases {
        let conflict = &["conflict: p: both changed"];
        check(description, SAFE, ancestor.clone(), host.clone(), sandbox.clone(), conflict);
        let write = format!("sandbox: p: {} -> {}", show(sandbox.as_ref()), show(host.as_ref()));
        let won = &[write.as_str(), "note: p: the host won"];
        check(description, RESOLVED, ancestor.clone(), host.clone(), sandbox.clone(), won);
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
        &["host: p: nothing -> 2", "note: p was deleted on the host, change kept"],
    );
    check(
        "sandbox deletes, host edits",
        TWO_WAY,
        one(),
        two(),
        None,
        &["sandbox: p: nothing -> 2", "note: p was deleted on the sandbox, change kept"],
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
    check("directory to file", ALL, tree(), Some(file("2")), tree(), &["sandbox: p: {a: 1} -> 2"]);
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
