use super::*;
use crate::sync::trees::{dir, file, husk, path, show, special, unreadable};

fn ancestor(root: Entry) -> Ancestor {
    Ancestor::from_tree(Some(root)).expect("a valid ancestor")
}

#[test]
fn setting_changes_one_entry_and_keeps_a_directorys_children() {
    let mut tree = ancestor(dir([("b", dir([("x", file("1"))]))]));
    assert!(tree.set(&path("b"), Some(&dir([]))));
    assert!(tree.set(&path("a"), Some(&file("2"))));
    assert!(tree.set(&path("b/y"), Some(&file("3"))));
    assert_eq!(show(tree.root()), "{a: 2, b: {x: 1, y: 3}}");
    assert!(tree.set(&path("b"), Some(&file("4"))));
    assert!(tree.set(&path("a"), None));
    assert_eq!(show(tree.root()), "{b: 4}");
    assert!(tree.set(&SyncPath::root(), None));
    assert_eq!(tree, Ancestor::default());
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut tree = ancestor(dir([("f", file("1"))]));
    let before = tree.clone();
    assert!(!tree.set(&path("f/x"), Some(&file("2"))), "a file has no children");
    assert!(!tree.set(&path("no/x"), Some(&file("2"))), "no such directory");
    assert!(!tree.set(&path("s"), Some(&special())));
    assert!(!tree.set(&path("u"), Some(&unreadable())));
    assert!(tree.set(&path("no/x"), None), "what is not there is gone already");
    assert_eq!(tree, before);
    assert!(Ancestor::from_tree(Some(dir([("s", special())]))).is_err());
}

#[test]
fn a_husk_is_recorded_as_a_plain_directory() {
    let mut tree = ancestor(dir([]));
    assert!(tree.set(&path("d"), Some(&husk())));
    let found = tree.root().and_then(|root| root.find(&path("d"))).and_then(Entry::as_directory);
    assert!(found.is_some_and(|directory| !directory.only_excluded));
}

#[test]
fn a_partly_failed_removal_records_what_is_left() {
    let mut tree = ancestor(dir([("d", dir([("a", file("1")), ("b", file("2"))]))]));
    let step =
        |at: &str, expected: Entry| Step { path: path(at), expected: Some(expected), new: None };
    let steps = [step("d/a", file("1")), step("d/b", file("2")), step("d", dir([]))];
    let made = tree.advance(&[], steps.iter().zip([true, false, false]));
    assert_eq!(show(tree.root()), "{d: {b: 2}}");
    assert_eq!(made, [AncestorSet { path: path("d/a"), entry: None }]);
}
