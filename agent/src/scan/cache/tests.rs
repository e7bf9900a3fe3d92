use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::entry::Digest;
use crate::path::Name;

fn path(text: &str) -> SyncPath {
    SyncPath::parse(text.as_bytes()).expect("a path")
}

fn record(size: u64) -> FileRecord {
    FileRecord { size, mtime_ns: 1, ctime_ns: 2, inode: 3, digest: Digest::of(b""), recorded_ns: 4 }
}

fn cache_of(records: &[(&str, u64)]) -> StatCache {
    records.iter().map(|(at, size)| (path(at), record(*size))).collect()
}

#[test]
fn a_file_costs_88_bytes() {
    assert_eq!(size_of::<(Name, FileRecord)>(), 88);
}

#[test]
fn the_cache_is_a_map() {
    let mut cache = cache_of(&[("a/b", 1), ("c", 2)]);
    let old = cache.clone();
    cache.insert(&path("a/b"), record(3));
    assert_eq!(cache.remove(&path("c")), Some(record(2)));
    assert_eq!(cache.remove(&path("c")), None);
    assert_eq!(cache.get(&path("a/b")), Some(&record(3)));
    assert_eq!(old.get(&path("a/b")), Some(&record(1)), "the copy is its own");
    assert_eq!(cache.changed_since(&old), (vec![(path("a/b"), record(3))], vec![path("c")]));
    assert_eq!((cache.len(), cache.is_empty()), (1, false));
    cache.insert(&SyncPath::root(), record(1));
    assert_eq!(cache.remove(&path("a/b")), Some(record(3)));
    assert!(cache.is_empty(), "the root is no file");
}

#[test]
fn the_log_tells_what_changed_and_goes_on_when_the_cache_is_replaced() {
    let mut cache = cache_of(&[("a/b", 1), ("c", 2)]);
    cache.insert(&path("d"), record(1));
    assert_eq!(cache.take_log(), [], "it was not begun");
    cache.start_log();
    cache.insert(&path("c"), record(2));
    assert_eq!(cache.take_log(), [], "it is what it was");
    cache.insert(&path("c"), record(3));
    cache.remove(&path("d"));
    cache.remove(&path("nothing"));
    cache.start_log();
    assert_eq!(cache.take_log(), [path("c"), path("d")]);
    assert_eq!(cache.take_log(), []);
    let copy = cache.clone();
    cache.replace(cache_of(&[("a/b", 9), ("e/f", 1)]));
    assert_eq!(cache, cache_of(&[("a/b", 9), ("e/f", 1)]));
    assert_eq!(cache.take_log(), [path("a/b"), path("c"), path("e/f")]);
    cache.replace(copy);
    assert_eq!(cache.take_log(), [path("a/b"), path("c"), path("e/f")]);
}

#[test]
fn what_others_recorded_during_a_scan_is_kept() {
    let mut cache = cache_of(&[("a/same", 1), ("a/changed", 1), ("a/gone", 1), ("a.b", 1)]);
    cache.insert(&path("a/b/quiet"), record(1));
    let known = cache.below(&path("a"));
    assert_eq!(known.len(), 4);
    let mut found = cache_of(&[("a/same", 1), ("a/changed", 2), ("a/b/new", 1)]);
    found.insert(&path("a/b/quiet"), record(2));
    cache.insert(&path("a/changed"), record(3));
    cache.insert(&path("a/c/own"), record(3));
    cache.merge_below(&path("a"), &known, found);
    let mut expected = cache_of(&[("a/same", 1), ("a/changed", 3), ("a/c/own", 3), ("a.b", 1)]);
    expected.insert(&path("a/b/quiet"), record(2));
    expected.insert(&path("a/b/new"), record(1));
    assert_eq!(cache, expected);
    cache.remove_below(&path("a"));
    assert_eq!(cache, cache_of(&[("a.b", 1)]));
}

/// One step with the cache: a path by number, and a size; what 0 means depends.
#[derive(Clone, Debug)]
enum Step {
    Insert(usize, u64),
    Remove(usize),
    RemoveBelow(usize),
    Replace(Vec<(usize, u64)>),
    TakeLog,
}

const PATHS: [&str; 8] = ["a", "a/b", "a/b/c", "a/b/d", "a/e", "a-b", "f/g", "f/h"];

fn any_step() -> impl Strategy<Value = Step> {
    let at = || 0..PATHS.len();
    prop_oneof![
        6 => (at(), 0_u64..3).prop_map(|(at, size)| Step::Insert(at, size)),
        3 => at().prop_map(Step::Remove),
        1 => at().prop_map(Step::RemoveBelow),
        1 => vec((at(), 0_u64..3), 0..8).prop_map(Step::Replace),
        2 => Just(Step::TakeLog),
    ]
}

proptest! {
    #[test]
    fn whoever_follows_the_log_has_the_cache(steps in vec(any_step(), 0..60)) {
        let mut cache = StatCache::default();
        let mut model: BTreeMap<SyncPath, FileRecord> = BTreeMap::new();
        let mut saved: BTreeMap<SyncPath, FileRecord> = BTreeMap::new();
        cache.start_log();
        for step in steps.into_iter().chain([Step::TakeLog]) {
            match step {
                Step::Insert(at, size) => {
                    cache.insert(&path(PATHS[at]), record(size));
                    model.insert(path(PATHS[at]), record(size));
                }
                Step::Remove(at) => {
                    prop_assert_eq!(cache.remove(&path(PATHS[at])), model.remove(&path(PATHS[at])));
                }
                Step::RemoveBelow(at) => {
                    let directory = path(PATHS[at]);
                    cache.remove_below(&directory);
                    model.retain(|at, _| *at == directory || !at.is_within(&directory));
                }
                Step::Replace(records) => {
                    let new = || records.iter().map(|(at, size)| (path(PATHS[*at]), record(*size)));
                    cache.replace(new().collect());
                    model = new().collect();
                }
                Step::TakeLog => {
                    for at in cache.take_log() {
                        match cache.get(&at) {
                            Some(record) => saved.insert(at, *record),
                            None => saved.remove(&at),
                        };
                    }
                    prop_assert_eq!(&saved, &model);
                }
            }
            let all: BTreeMap<_, _> = cache.iter().map(|(at, record)| (at, *record)).collect();
            prop_assert_eq!(&all, &model);
            prop_assert_eq!((cache.len(), cache.is_empty()), (model.len(), model.is_empty()));
        }
    }
}
