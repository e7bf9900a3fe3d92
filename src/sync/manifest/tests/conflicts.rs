//! Conflicts and decisions, also between two processes.

use super::*;
use crate::sync::decide::{Choice, Decision};
use crate::sync::plan::{Conflict, ConflictKind, Side};

fn conflict(at: &str, host: Option<Entry>, kind: ConflictKind) -> Conflict {
    let contents = matches!(host, Some(Entry::Directory(_))).then(|| Digest::of(b"below"));
    Conflict {
        path: path(at),
        host,
        sandbox: Some(file("2")),
        ancestor: Some(link("t")),
        contents,
        kind,
    }
}

fn sample() -> Vec<Conflict> {
    vec![
        conflict("a", Some(dir([])), ConflictKind::BothChanged),
        conflict("a/b", Some(special()), ConflictKind::Blocked(Side::Host)),
        conflict("a/c", None, ConflictKind::Guarded),
        conflict("a/d", None, ConflictKind::LeavesRoot),
        conflict("a-b", Some(unreadable()), ConflictKind::Blocked(Side::Sandbox)),
    ]
}

fn join(place: &Place) -> Manifest {
    Manifest::join(&place.path(), owner()).expect("it can be used").expect("it is there")
}

#[test]
fn conflicts_are_replaced_as_a_whole() {
    let place = Place::new();
    let mut manifest = place.open();
    manifest.set_conflicts(&sample(), 1).expect("saved");
    assert_eq!(manifest.conflicts().expect("conflicts"), sample());
    let second = [conflict("c", None, ConflictKind::SandboxChanged)];
    manifest.set_conflicts(&second, 2).expect("saved");
    drop(manifest);
    assert_eq!(place.open().conflicts().expect("conflicts"), second);
}

#[test]
fn a_conflict_is_as_old_as_its_versions() {
    let place = Place::new();
    let mut manifest = place.open();
    let ages = |manifest: &Manifest| -> Vec<i64> {
        manifest.open_conflicts().expect("conflicts").iter().map(|open| open.since_ns).collect()
    };
    let mut conflicts = sample();
    manifest.set_conflicts(&conflicts[..2], 10).expect("saved");
    conflicts[0].sandbox = Some(file("3"));
    manifest.set_conflicts(&conflicts[..3], 20).expect("saved");
    assert_eq!(ages(&manifest), [20, 10, 20]);
    // Gone and back is a new one.
    manifest.set_conflicts(&[], 30).expect("saved");
    manifest.set_conflicts(&conflicts[..1], 40).expect("saved");
    assert_eq!(ages(&manifest), [40]);
}

#[test]
fn a_decision_of_one_process_is_found_by_the_other() {
    let place = Place::new();
    let mut session = place.open();
    session.set_conflicts(&sample(), 1).expect("saved");
    let mut command = join(&place);
    assert_eq!(command.conflicts().expect("conflicts"), sample());
    let decided: Vec<_> = [(0, Choice::Host), (1, Choice::Host), (2, Choice::Sandbox)]
        .map(|(at, choice)| {
            let conflict = &sample()[at];
            (conflict.path.clone(), Decision::about(conflict, choice).expect("it can be made"))
        })
        .into();
    command.add_decisions(decided.iter().map(|(path, d)| (path, d))).expect("saved");
    let found = session.decisions().expect("decisions");
    let pairs: Vec<_> = found.iter().map(|(path, d)| (path.clone(), d.clone())).collect();
    assert_eq!(pairs, decided);
    for (conflict, (_, decision)) in sample().iter().zip(&decided) {
        assert_eq!(found.choice(conflict), Some(decision.choice));
    }
    let other = Decision::about(&sample()[0], Choice::Sandbox).expect("it can be made");
    command.add_decisions([(&path("a"), &other)]).expect("saved");
    session.remove_decisions(&[path("a/b"), path("a/c"), path("x")]).expect("removed");
    let left = join(&place).decisions().expect("decisions");
    assert_eq!(left.iter().collect::<Vec<_>>(), [(&path("a"), &other)]);
}

#[test]
fn joining_makes_nothing_and_moves_nothing_aside() {
    let place = Place::new();
    assert!(Manifest::join(&place.path(), owner()).expect("nothing is wrong").is_none());
    assert!(!place.path().exists());
    drop(place.open());
    place.raw().execute_batch("PRAGMA user_version = 99").expect("changed");
    let before = place.files();
    let error = Manifest::join(&place.path(), owner()).expect_err("it is newer");
    assert!(error.to_string().contains("it has version 99"), "{error}");
    assert_eq!(place.files(), before);
}

#[test]
fn a_manifest_of_version_1_is_taken_over_with_its_conflicts() {
    let place = Place::new();
    std::fs::create_dir_all(place.path().parent().expect("a parent")).expect("made");
    let raw = place.raw();
    raw.execute_batch(schema::MIGRATIONS[0]).expect("made");
    raw.execute_batch("INSERT INTO conflict (path, kind) VALUES (x'61', 1)").expect("inserted");
    raw.pragma_update(None, "application_id", schema::APPLICATION_ID).expect("set");
    raw.pragma_update(None, "user_version", 1).expect("set");
    drop(raw);
    let mut manifest = place.open();
    assert_eq!(manifest.take_notes(), Vec::<String>::new());
    let open = manifest.open_conflicts().expect("conflicts");
    assert_eq!(open.len(), 1);
    assert_eq!((&open[0].conflict.path, open[0].since_ns), (&path("a"), 0));
    assert!(manifest.decisions().expect("decisions").is_empty());
}
