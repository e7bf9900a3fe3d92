use skync_agent::entry::File;

use super::*;
use crate::sync::plan::{Change, creations_first, flatten};
use crate::sync::trees::{dir, dir_of, file, path, script};

/// A file of that content and so many bytes.
fn sized(content: &str, size: u64) -> Entry {
    let Entry::File(entry) = file(content) else { panic!("a file") };
    Entry::File(File { size, ..entry })
}

/// `step: source` for each step that has one, and `(step) path` for each rescue before a step.
fn sources(old: &Entry, new: Entry) -> Vec<String> {
    let change = Change { path: path(""), old: Some(old.clone()), new: Some(new) };
    let steps = creations_first(flatten(&[change]));
    let reuse = reusable(&steps, Some(old));
    let mut found = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        for rescue in reuse.rescues.get(&number).into_iter().flatten() {
            found.push(format!("({}) {}", step.path, rescue.path));
        }
        match reuse.source(number) {
            Some(Source::Path(source)) => found.push(format!("{}: {source}", step.path)),
            Some(Source::Rescued) => found.push(format!("{}: rescued", step.path)),
            None => {}
        }
    }
    found
}

const MIB: u64 = 1 << 20;

#[test]
fn what_was_renamed_is_copied_from_its_old_name() {
    let old = dir([("a", file("1")), ("d", dir([("b", sized("2", MIB)), ("c", file("3"))]))]);
    let new = dir([("e", dir([("b", sized("2", MIB)), ("c", file("3"))])), ("z", file("1"))]);
    assert_eq!(sources(&old, new), ["e/b: d/b", "e/c: d/c", "z: a"]);
}

#[test]
fn a_copy_is_looked_for_in_the_whole_tree_if_much_is_needed() {
    let small = dir([("a", file("1"))]);
    let copied = dir([("a", file("1")), ("b", file("1"))]);
    assert!(sources(&small, copied).is_empty(), "not worth a walk");
    let large = dir([("d", dir([("a", sized("1", MIB))]))]);
    let twice = dir([("b", sized("1", MIB)), ("d", dir([("a", sized("1", MIB))]))]);
    assert_eq!(sources(&large, twice), ["b: d/a"]);
}

#[test]
fn what_is_new_twice_is_copied_once_it_is_there() {
    let twice = |size| dir([("a", sized("1", size)), ("b", sized("1", size))]);
    assert_eq!(sources(&dir([]), twice(MIB)), ["b: a"]);
    assert!(sources(&dir([]), twice(1)).is_empty(), "it may still be on its way");
}

#[test]
fn files_that_changed_places_are_rescued_first() {
    let old = dir([("a", file("1")), ("b", file("2"))]);
    let new = dir([("a", file("2")), ("b", file("1"))]);
    assert_eq!(sources(&old, new), ["(a) a", "a: b", "b: rescued"]);
    let old = dir([("log", file("3")), ("log.1", file("2")), ("log.2", file("1"))]);
    let new = dir([("log", file("4")), ("log.1", file("3")), ("log.2", file("2"))]);
    let expect = ["(log) log", "(log.1) log.1", "log.1: rescued", "log.2: rescued"];
    assert_eq!(sources(&old, new), expect);
}

#[test]
fn a_rescue_serves_one_step_and_a_large_file_all() {
    let old = |size| dir([("a", sized("1", size))]);
    let new = |size| dir([("a", file("2")), ("b", sized("1", size)), ("c", sized("1", size))]);
    assert_eq!(sources(&old(1), new(1)), ["(a) a", "b: rescued"]);
    assert_eq!(sources(&old(MIB), new(MIB)), ["(a) a", "b: rescued", "c: b"]);
}

#[test]
fn a_path_that_stays_is_better_than_one_that_goes() {
    let old = dir([("a", sized("1", MIB)), ("b", sized("1", MIB))]);
    let new = dir([("b", sized("1", MIB)), ("c", sized("1", MIB))]);
    assert_eq!(sources(&old, new), ["c: b"]);
    let old = dir([("a", file("1")), ("b", file("2"))]);
    let new = dir([("a", script("1")), ("c", file("1"))]);
    assert_eq!(sources(&old, new), ["c: a"], "only its mode changes");
}

#[test]
fn a_name_that_becomes_a_directory_gives_its_content_before() {
    let old = dir([("a", file("1"))]);
    let new = dir([("a", dir([("b", file("1"))]))]);
    assert_eq!(sources(&old, new), ["(a) a", "a/b: rescued"]);
}

#[test]
fn a_receiver_without_a_file_is_empty() {
    let is_empty = |tree: Option<&Entry>| reusable(&[], tree).receiver_is_empty;
    assert!(is_empty(None));
    assert!(is_empty(Some(&dir([]))));
    assert!(!is_empty(Some(&dir([("a", file("1"))]))));
}

#[test]
fn no_step_uses_what_an_earlier_one_took_away() {
    // Every file moves on by one name, and every third is new.
    let name = |number: u32| format!("{number:03}");
    let content = |number: u32| file(&format!("c{number}"));
    let old = dir_of((0..100).map(|number| (name(number), content(number))));
    let new = dir_of((0..100).map(|number| {
        let entry = if number % 3 == 0 { content(number + 1000) } else { content(number - 1) };
        (name(number), entry)
    }));
    let change = Change { path: path(""), old: Some(old.clone()), new: Some(new) };
    let steps = creations_first(flatten(&[change]));
    let reuse = reusable(&steps, Some(&old));
    let mut there: HashMap<SyncPath, Digest> = HashMap::new();
    let mut staged = Vec::new();
    let children = old.as_directory().expect("a directory").children.iter();
    there.extend(children.map(|(name, entry)| {
        (SyncPath::root().join(name), entry.as_file().expect("a file").digest)
    }));
    let mut spared = 0;
    for (number, step) in steps.iter().enumerate() {
        for rescue in reuse.rescues.get(&number).into_iter().flatten() {
            assert_eq!(there[&rescue.path], rescue.digest);
            staged.push(rescue.digest);
        }
        let Some(file) = needed(step) else { continue };
        match reuse.source(number) {
            Some(Source::Path(source)) => assert_eq!(there[source], file.digest),
            Some(Source::Rescued) => assert!(staged.contains(&file.digest)),
            None => spared -= 1,
        }
        spared += 1;
        there.insert(step.path.clone(), file.digest);
    }
    assert_eq!(spared, 66, "all that is there is used");
}
