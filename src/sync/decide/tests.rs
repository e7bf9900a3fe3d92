//! Names beside each other, what a digest of a directory tells apart, and who is meant.

use super::*;
use crate::sync::trees::{dir, file, file_with_mode, husk, link, name, path, script, special};

fn names(text: &str, is_directory: bool) -> Vec<String> {
    beside(&name(text), is_directory).take(2).map(|name| name.to_string()).collect()
}

#[test]
fn a_name_beside_another_keeps_its_extension() {
    assert_eq!(names("a.txt", false), ["a (sandbox).txt", "a (sandbox) 2.txt"]);
    assert_eq!(names("a.tar.gz", false), ["a.tar (sandbox).gz", "a.tar (sandbox) 2.gz"]);
    assert_eq!(names("Makefile", false), ["Makefile (sandbox)", "Makefile (sandbox) 2"]);
    assert_eq!(names(".env", false), [".env (sandbox)", ".env (sandbox) 2"]);
    assert_eq!(names("conf.d", true), ["conf.d (sandbox)", "conf.d (sandbox) 2"]);
}

#[test]
fn a_name_that_would_be_too_long_is_cut_between_characters() {
    let long = |stem: &str, extension: &str| {
        let name = format!("{}{extension}", stem.repeat((255 - extension.len()) / stem.len()));
        names(&name, false).swap_remove(0)
    };
    for (stem, extension) in [("a", ".txt"), ("é", ".txt"), ("日", ".x"), ("😀", "")] {
        let name = long(stem, extension);
        assert!(name.len() <= NAME_BYTES_MAX && name.len() > 245, "{name}");
        assert!(name.ends_with(&format!("{stem} (sandbox){extension}")), "{name}");
    }
    let extension = format!("a.{}", "x".repeat(250));
    assert!(names(&extension, false)[0].ends_with("x (sandbox)"));
}

#[test]
fn a_directory_is_known_again_by_all_that_makes_a_difference() {
    let of = |entry: &Entry| contents(entry.as_directory().expect("a directory"));
    let all = [
        dir([]),
        husk(),
        dir([("a", file("1"))]),
        dir([("b", file("1"))]),
        dir([("a", file("2"))]),
        dir([("a", script("1"))]),
        dir([("a", file_with_mode("1", 0o600))]),
        dir([("a", link("1"))]),
        dir([("a", special())]),
        dir([("a", dir([]))]),
        dir([("a", dir([("b", file("1"))]))]),
        dir([("a", dir([])), ("b", file("1"))]),
    ];
    for (at, one) in all.iter().enumerate() {
        for (other_at, other) in all.iter().enumerate() {
            assert_eq!(of(one) == of(other), at == other_at, "{one:?} and {other:?}");
        }
    }
    let other_mode = dir([("a", file_with_mode("1", 0o664))]);
    assert_eq!(of(&all[2]), of(&other_mode));
}

fn conflict(at: &str) -> Conflict {
    Conflict {
        path: path(at),
        host: Some(file("h")),
        sandbox: Some(file("s")),
        ancestor: None,
        contents: None,
        kind: ConflictKind::BothChanged,
    }
}

#[test]
fn a_path_means_the_conflicts_at_and_below_it() {
    let conflicts = ["a", "d/x", "d/y/z", "d-e"].map(conflict);
    let selected = |meant: Meant| {
        meant
            .select(&conflicts)
            .map(|found| found.iter().map(|c| c.path.to_string()).collect::<Vec<_>>())
    };
    let paths = |paths: &[&str]| Meant::Paths(paths.iter().map(|p| path(p)).collect());
    assert_eq!(selected(Meant::All), Ok(["a", "d/x", "d/y/z", "d-e"].map(String::from).to_vec()));
    assert_eq!(selected(paths(&["d"])), Ok(["d/x", "d/y/z"].map(String::from).to_vec()));
    let twice = paths(&["d/y", "d/y/z", "a"]);
    assert_eq!(selected(twice), Ok(["a", "d/y/z"].map(String::from).to_vec()));
    assert_eq!(selected(paths(&["a", "b"])), Err(path("b")));
    assert_eq!(selected(paths(&["a/b"])), Err(path("a/b")));
}

#[test]
fn what_is_held_back_is_taken_or_discarded_and_nothing_else() {
    let held = Conflict { kind: ConflictKind::Guarded, ..conflict(".envrc") };
    assert!(refusal(&held, Choice::Both).is_some());
    assert_eq!(refusal(&held, Choice::Host), None);
    assert_eq!(refusal(&held, Choice::Sandbox), None);
}
