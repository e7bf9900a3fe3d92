use super::*;
use crate::config::SyncMode;
use crate::sync::decide::Decisions;
use crate::sync::reconcile::reconcile;
use crate::sync::trees::{dir, dir_of, file, husk, path, show, unreadable};

fn halt_of(
    ancestor: Option<Entry>,
    host: Option<Entry>,
    sandbox: Option<Entry>,
    mode: SyncMode,
) -> Option<Halt> {
    let (ancestor, host, sandbox) = (ancestor.as_ref(), host.as_ref(), sandbox.as_ref());
    let plan = reconcile(ancestor, host, sandbox, mode, &Decisions::none());
    check(ancestor, host, sandbox, &plan, &Recent::default()).err()
}

/// Deletes `count` of a hundred files, numbers from `first` on, after `recent` was lost.
fn deleting(first: usize, count: usize, recent: &Recent) -> Result<(), Halt> {
    let host = files(100, "1");
    let mut sandbox = host.clone();
    for number in first..first + count {
        sandbox.put(&path(&format!("{number:03}")), None);
    }
    let (host, sandbox) = (Some(&host), Some(&sandbox));
    let plan = reconcile(host, host, sandbox, SyncMode::TwoWaySafe, &Decisions::none());
    check(host, host, sandbox, &plan, recent)
}

#[test]
fn a_bulk_deletion_that_comes_in_pieces_is_one() {
    let mut recent = Recent::default();
    let step = |number: usize, new: Option<Entry>| {
        let expected = Some(file("1"));
        Step { path: path(&format!("{number:03}")), expected, new }
    };
    assert_eq!(deleting(0, 45, &recent), Ok(()));
    for number in 0..45 {
        recent.add(&step(number, None), 1_000);
    }
    let halt = deleting(45, 40, &recent).expect_err("too many together");
    assert_eq!(halt.kind, HaltKind::BulkLoss { lost: 85, total: 145 });
    recent.forget_before(1_000 + RECENT_NS);
    assert_eq!(deleting(45, 40, &recent), Ok(()));
    // A few files that are written over and over are no accident.
    for _ in 0..100 {
        (0..10).for_each(|number| recent.add(&step(number, Some(file("2"))), 2_000));
    }
    assert_eq!(deleting(0, 45, &recent), Ok(()));
    recent.clear();
    assert_eq!(deleting(0, 45, &recent), Ok(()));
}

fn two_files() -> Option<Entry> {
    Some(dir([("a", file("1")), ("b", file("1"))]))
}

fn files(count: usize, content: &str) -> Entry {
    dir_of((0..count).map(|number| (format!("{number:03}"), file(content))))
}

#[test]
fn a_root_that_is_gone_or_emptied_or_no_directory_halts() {
    let halt = |host, sandbox| {
        let halt = halt_of(two_files(), host, sandbox, SyncMode::TwoWaySafe);
        halt.map(|halt| (halt.side, halt.kind))
    };
    assert_eq!(halt(None, two_files()), Some((Side::Host, HaltKind::RootGone)));
    assert_eq!(halt(two_files(), None), Some((Side::Sandbox, HaltKind::RootGone)));
    let emptied = HaltKind::RootEmptied { entries: 2 };
    assert_eq!(halt(Some(dir([])), two_files()), Some((Side::Host, emptied)));
    assert_eq!(halt(two_files(), Some(dir([]))), Some((Side::Sandbox, emptied)));
    assert_eq!(halt(two_files(), Some(husk())), Some((Side::Sandbox, emptied)));
    let kind = HaltKind::RootNotDirectory;
    assert_eq!(halt(Some(file("1")), two_files()), Some((Side::Host, kind)));
    assert_eq!(halt(two_files(), two_files()), None);
    assert_eq!(halt(two_files(), Some(unreadable())), None);
}

#[test]
fn everyday_work_does_not_halt() {
    let one_file = || Some(dir([("a", file("1"))]));
    let safe = SyncMode::TwoWaySafe;
    assert_eq!(halt_of(one_file(), one_file(), Some(dir([])), safe), None, "the only file deleted");
    assert_eq!(halt_of(None, two_files(), Some(dir([])), safe), None, "the first round");
    assert_eq!(halt_of(None, two_files(), None, safe), None, "no root in the sandbox yet");
    let filled_again = halt_of(two_files(), two_files(), Some(dir([])), SyncMode::OneWaySafe);
    assert_eq!(filled_again, None);
    assert_eq!(halt_of(two_files(), Some(dir([])), Some(dir([])), safe), None, "both emptied");
}

#[test]
fn a_sandbox_that_would_take_most_of_the_hosts_files_halts() {
    let halt = |all: usize, left: usize| {
        let (host, sandbox) = (files(all, "1"), files(left, "1"));
        halt_of(Some(host.clone()), Some(host), Some(sandbox), SyncMode::TwoWaySafe)
    };
    let lost =
        |lost, total| Some(Halt { side: Side::Host, kind: HaltKind::BulkLoss { lost, total } });
    assert_eq!(halt(41, 20), lost(21, 41));
    assert_eq!(halt(42, 21), None, "exactly half");
    assert_eq!(halt(21, 1), None, "twenty files can be looked through");
    let host = files(30, "1");
    let overwritten = Some(files(30, "2"));
    let ancestor = Some(host.clone());
    let halt = halt_of(ancestor.clone(), Some(host.clone()), overwritten, SyncMode::TwoWaySafe);
    assert_eq!(halt, lost(30, 30));
    let moved = Some(dir([("d", files(30, "1")), ("keep", file("1"))]));
    assert_eq!(
        halt_of(ancestor.clone(), Some(host.clone()), moved, SyncMode::TwoWaySafe),
        lost(30, 30)
    );
    let executable = Entry::shallow(&crate::sync::trees::script("1"));
    let chmod = dir_of((0..30).map(|number| (format!("{number:03}"), executable.clone())));
    assert_eq!(halt_of(ancestor, Some(host), Some(chmod), SyncMode::TwoWaySafe), None);
}

#[test]
fn the_host_may_delete_what_it_likes() {
    let (ancestor, host) = (files(100, "1"), files(2, "1"));
    assert_eq!(
        halt_of(Some(ancestor.clone()), Some(host), Some(ancestor), SyncMode::TwoWaySafe),
        None
    );
}

#[test]
fn a_halt_says_what_happened_and_where() {
    let kind = HaltKind::BulkLoss { lost: 30, total: 40 };
    assert_eq!(
        Halt { side: Side::Host, kind }.to_string(),
        "the sandbox would delete or overwrite 30 of the 40 files on the host; nothing was changed"
    );
    let kind = HaltKind::RootEmptied { entries: 7 };
    assert!(Halt { side: Side::Sandbox, kind }.to_string().contains("held 7 entries before"));
}

/// Takes collisions out of changes given as `(path, old, new)`, and shows what is left and why.
fn collide(
    changes: &[(&str, Option<Entry>, Option<Entry>)],
    tree: Entry,
) -> (Vec<String>, Vec<String>) {
    collide_by(Folds { case: true, form: true }, changes, tree)
}

fn collide_by(
    folds: Folds,
    changes: &[(&str, Option<Entry>, Option<Entry>)],
    tree: Entry,
) -> (Vec<String>, Vec<String>) {
    let changes = changes
        .iter()
        .map(|(at, old, new)| Change { path: path(at), old: old.clone(), new: new.clone() })
        .collect();
    let (kept, problems) = take_out_collisions(Side::Host, changes, Some(&tree), folds);
    let kept = kept.iter().map(|change| format!("{}: {}", change.path, show(change.new.as_ref())));
    let problems = problems.iter().map(|problem| problem.path.to_string());
    (kept.collect(), problems.collect())
}

#[test]
fn a_new_name_that_meets_an_old_one_is_taken_out() {
    let tree = || dir([("Readme", file("1")), ("d", dir([("Ä", file("1"))]))]);
    let new = || Some(file("2"));
    let (kept, problems) = collide(&[("README", None, new()), ("other", None, new())], tree());
    assert_eq!((kept, problems), (vec!["other: 2".to_owned()], vec!["README".to_owned()]));
    let (kept, problems) = collide(&[("d/ä", None, new())], tree());
    assert_eq!((kept, problems), (vec![], vec!["d/ä".to_owned()]));
    let (kept, problems) = collide(&[("Readme", Some(file("1")), new())], tree());
    assert_eq!((kept, problems), (vec!["Readme: 2".to_owned()], vec![]));
}

#[test]
fn unicode_forms_collide_where_a_side_does_not_tell_them_apart() {
    let (one, two) = ("\u{e9}", "e\u{301}");
    let tree = || dir([(one, file("1")), ("a", file("1"))]);
    let changes = [(two, None, Some(file("2"))), ("A", None, Some(file("2")))];
    let by_form = Folds { case: false, form: true };
    let (kept, problems) = collide_by(by_form, &changes, tree());
    assert_eq!((kept, problems), (vec!["A: 2".to_owned()], vec![two.to_owned()]));
    let (kept, problems) = collide_by(Folds { case: true, form: true }, &changes, tree());
    assert_eq!((kept, problems), (vec![], vec![two.to_owned(), "A".to_owned()]));
    let (kept, problems) = collide_by(Folds::default(), &changes, tree());
    assert_eq!((kept.len(), problems), (2, vec![]));
    let change = Change { path: path(two), old: None, new: Some(file("2")) };
    let (_, problems) = take_out_collisions(Side::Host, vec![change], Some(&tree()), by_form);
    assert!(problems[0].reason.ends_with("differs in its Unicode form"), "{}", problems[0].reason);
}

#[test]
fn a_name_that_goes_makes_room_for_its_twin() {
    let changes = [("README", None, Some(file("1"))), ("Readme", Some(file("1")), None)];
    let (kept, problems) = collide(&changes, dir([("Readme", file("1"))]));
    assert_eq!(kept, ["README: 1", "Readme: nothing"]);
    assert!(problems.is_empty());
}

#[test]
fn two_new_twins_are_both_taken_out() {
    let new = || Some(file("1"));
    let (kept, problems) = collide(&[("A", None, new()), ("a", None, new())], dir([]));
    assert_eq!((kept, problems), (vec![], vec!["A".to_owned(), "a".to_owned()]));
    let nested =
        dir([("X", file("1")), ("x", file("2")), ("y", dir([("B", file("1")), ("b", file("2"))]))]);
    let (kept, problems) = collide(&[("n", None, Some(nested))], dir([]));
    assert_eq!(kept, ["n: {y: {}}"]);
    assert_eq!(problems, ["n/X", "n/x", "n/y/B", "n/y/b"]);
}

#[test]
fn a_disk_that_tells_cases_apart_has_no_collisions() {
    let change = |at| Change { path: path(at), old: None, new: Some(file("1")) };
    let changes = vec![change("A"), change("a")];
    let (kept, problems) =
        take_out_collisions(Side::Sandbox, changes.clone(), None, Folds::default());
    assert_eq!((kept, problems), (changes, vec![]));
}
