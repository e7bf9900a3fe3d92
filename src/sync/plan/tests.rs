use super::*;
use crate::sync::trees::{dir, file, husk, link, path, script, show, special, unreadable};

/// Steps as `path: expected -> new`.
fn steps(old: Option<Entry>, new: Option<Entry>) -> Vec<String> {
    let steps = flatten(&[Change { path: path("p"), old, new }]);
    let show_step = |step: &Step| {
        format!("{}: {} -> {}", step.path, show(step.expected.as_ref()), show(step.new.as_ref()))
    };
    steps.iter().map(show_step).collect()
}

#[test]
fn a_removed_directory_goes_after_what_is_in_it() {
    let old = dir([("a", file("1")), ("d", dir([("b", link("t"))]))]);
    let expect =
        ["p/a: 1 -> nothing", "p/d/b: @t -> nothing", "p/d: {} -> nothing", "p: {} -> nothing"];
    assert_eq!(steps(Some(old), None), expect);
}

#[test]
fn a_new_directory_comes_before_what_is_in_it() {
    let new = dir([("a", file("1")), ("d", dir([("b", script("2"))]))]);
    let expect =
        ["p: nothing -> {}", "p/a: nothing -> 1", "p/d: nothing -> {}", "p/d/b: nothing -> 2*"];
    assert_eq!(steps(None, Some(new)), expect);
}

#[test]
fn a_file_becomes_another_in_one_step_and_another_kind_in_two() {
    assert_eq!(steps(Some(file("1")), Some(file("2"))), ["p: 1 -> 2"]);
    assert_eq!(steps(Some(file("1")), Some(script("1"))), ["p: 1 -> 1*"]);
    assert_eq!(steps(Some(link("1")), Some(link("2"))), ["p: @1 -> @2"]);
    assert_eq!(steps(Some(file("1")), Some(link("2"))), ["p: 1 -> nothing", "p: nothing -> @2"]);
    let full = dir([("a", file("1"))]);
    assert_eq!(
        steps(Some(full.clone()), Some(file("2"))),
        ["p/a: 1 -> nothing", "p: {} -> nothing", "p: nothing -> 2"]
    );
    assert_eq!(
        steps(Some(link("2")), Some(full)),
        ["p: @2 -> nothing", "p: nothing -> {}", "p/a: nothing -> 1"]
    );
}

#[test]
fn what_stays_the_same_gives_no_step() {
    let old = dir([("a", file("1")), ("b", file("1")), ("d", dir([("x", file("1"))]))]);
    let new = dir([("a", file("1")), ("c", file("1")), ("d", dir([("x", file("2"))]))]);
    let expect = ["p/b: 1 -> nothing", "p/c: nothing -> 1", "p/d/x: 1 -> 2"];
    assert_eq!(steps(Some(old.clone()), Some(new)), expect);
    assert!(steps(Some(old.clone()), Some(old)).is_empty());
}

#[test]
fn removals_of_all_changes_come_before_creations() {
    let change = |name, old, new| Change { path: path(name), old, new };
    let changes = [change("a", None, Some(file("1"))), change("b", Some(file("1")), None)];
    let order: Vec<_> = flatten(&changes).iter().map(|step| step.path.to_string()).collect();
    assert_eq!(order, ["b", "a"]);
}

#[test]
fn content_that_is_not_synchronised_gets_no_step() {
    assert!(steps(Some(special()), None).is_empty());
    assert!(steps(None, Some(unreadable())).is_empty());
    let new = flatten(&[Change { path: path("p"), old: None, new: Some(husk()) }]);
    let Some(Entry::Directory(made)) = &new[0].new else { panic!("a directory is made") };
    assert!(!made.only_excluded);
}
