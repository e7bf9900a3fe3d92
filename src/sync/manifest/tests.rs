#![expect(clippy::disallowed_methods, reason = "tests damage manifests of their own")]

use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;
use crate::sync::ancestor::Ancestor;
use crate::sync::trees::{
    dir, dir_of, file, file_with_mode, link, path, script, show, special, unreadable,
};

mod conflicts;

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("state/manifest.db")
    }

    fn open(&self) -> Manifest {
        Manifest::open(&self.path(), owner()).expect("the manifest opens")
    }

    /// Opens the file as anybody could.
    fn raw(&self) -> Connection {
        Connection::open(self.path()).expect("the database opens")
    }

    fn files(&self) -> Vec<String> {
        let found = std::fs::read_dir(self.directory.path().join("state")).expect("the directory");
        let mut names: Vec<_> = found
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn owner() -> Owner {
    Owner { root: "/home/me/project".into(), profile: "dev".to_owned() }
}

fn pair(sandbox: &str) -> ReplicaPair {
    ReplicaPair { host: b"host".to_vec(), sandbox: sandbox.as_bytes().to_vec() }
}

fn sample() -> Entry {
    dir([
        ("empty", dir([])),
        ("run.sh", script("run")),
        ("secret", file_with_mode("s", 0o600)),
        ("src", dir([("a b'\"", file("1")), ("link", link("../x")), ("\u{e4}\n", file("2"))])),
    ])
}

fn load(manifest: &mut Manifest, sandbox: &str) -> LoadedAncestor {
    manifest.load_ancestor(&pair(sandbox)).expect("the ancestor can be read")
}

#[test]
fn an_ancestor_comes_back_as_it_was_saved() {
    let place = Place::new();
    let mut manifest = place.open();
    assert_eq!(load(&mut manifest, "one"), LoadedAncestor::default());
    manifest.replace_ancestor(&pair("one"), Some(&sample())).expect("it is saved");
    drop(manifest);
    let mut manifest = place.open();
    let loaded = load(&mut manifest, "one");
    assert_eq!(loaded, LoadedAncestor { root: Some(sample()), problem: None });
    // Permissions and times are no part of equality, and they come back too.
    let secret = loaded.root.as_ref().and_then(|root| root.find(&path("secret")));
    let secret = secret.and_then(Entry::as_file).expect("a file");
    assert_eq!((secret.mode, secret.mtime_ns), (0o600, 1));
    assert!(manifest.take_notes().is_empty());
    manifest.replace_ancestor(&pair("one"), None).expect("it is saved");
    assert_eq!(load(&mut manifest, "one").root, None);
}

#[test]
fn only_the_owner_can_read_the_file() {
    let place = Place::new();
    drop(place.open());
    let mode =
        |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&place.path()), 0o600);
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let mut manifest = place.open();
    manifest.replace_ancestor(&pair("one"), Some(&sample())).expect("it is saved");
    assert_eq!(mode(&place.path()), 0o600);
    assert_eq!(mode(&place.path().with_extension("db-wal")), 0o600);
}

#[test]
fn another_replica_has_no_ancestor() {
    let place = Place::new();
    let mut manifest = place.open();
    manifest.replace_ancestor(&pair("one"), Some(&sample())).expect("it is saved");
    assert_eq!(load(&mut manifest, "two"), LoadedAncestor::default());
    // Only looking at it changes nothing: the old sandbox may come back.
    assert_eq!(load(&mut manifest, "one").root, Some(sample()));
    let root = AncestorSet { path: SyncPath::root(), entry: Some(dir([])) };
    manifest.save_ancestor(&pair("two"), &[root]).expect("it is saved");
    assert_eq!(load(&mut manifest, "two").root, Some(dir([])));
    assert_eq!(load(&mut manifest, "one"), LoadedAncestor::default());
}

#[test]
fn a_file_that_is_no_database_is_moved_aside() {
    let place = Place::new();
    drop(place.open());
    std::fs::write(place.path(), b"not a database, but long enough to look at".repeat(200))
        .expect("it is written");
    let mut manifest = place.open();
    let notes = manifest.take_notes();
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains("it is damaged or no database"), "{notes:?}");
    assert!(place.files().contains(&"manifest.db.unusable-1".to_owned()), "{:?}", place.files());
    manifest.replace_ancestor(&pair("one"), Some(&sample())).expect("the new one works");
    assert_eq!(load(&mut manifest, "one").root, Some(sample()));
}

#[test]
fn damage_inside_is_found_when_it_is_read() {
    let place = Place::new();
    let mut manifest = place.open();
    let many = dir_of((0..3000).map(|number| (format!("file-{number}"), file("1"))));
    manifest.replace_ancestor(&pair("one"), Some(&many)).expect("it is saved");
    manifest.database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("a checkpoint");
    drop(manifest);
    let mut bytes = std::fs::read(place.path()).expect("the file");
    let first_page_of_rows = 4096 * 8;
    assert!(bytes.len() > first_page_of_rows * 2);
    bytes[first_page_of_rows..].fill(0x55);
    std::fs::write(place.path(), bytes).expect("it is written");
    let mut manifest = place.open();
    let loaded = load(&mut manifest, "one");
    assert_eq!(loaded.root, None);
    assert!(loaded.problem.is_some());
    assert_eq!(manifest.take_notes().len(), 1);
    manifest.replace_ancestor(&pair("one"), Some(&sample())).expect("the new one works");
    assert_eq!(load(&mut manifest, "one").root, Some(sample()));
}

#[test]
fn what_is_not_ours_is_moved_aside() {
    let cases = [
        ("PRAGMA user_version = 99", "it has version 99"),
        ("PRAGMA application_id = 7", "another program"),
        ("ALTER TABLE entry RENAME COLUMN digest TO other", "tables are not ours"),
        ("UPDATE meta SET value = x'2f6574' WHERE key = 'root'", "it belongs to `/et`"),
    ];
    for (damage, reason) in cases {
        let place = Place::new();
        let mut manifest = place.open();
        manifest.replace_ancestor(&pair("one"), Some(&sample())).expect("it is saved");
        drop(manifest);
        place.raw().execute_batch(damage).expect("the damage is done");
        let mut manifest = place.open();
        let notes = manifest.take_notes();
        assert!(notes.len() == 1 && notes[0].contains(reason), "{damage}: {notes:?}");
        assert_eq!(load(&mut manifest, "one"), LoadedAncestor::default());
    }
}

#[test]
fn unusable_manifests_do_not_pile_up() {
    let place = Place::new();
    for _ in 0..8 {
        drop(place.open());
        std::fs::write(place.path(), "x".repeat(4096)).expect("it is written");
    }
    drop(place.open());
    let aside = place.files().iter().filter(|name| name.contains("unusable")).count();
    assert_eq!(aside, 5);
}

#[test]
fn hostile_rows_make_no_ancestor() {
    let cases = [
        "UPDATE entry SET name = x'2e2e' WHERE name = CAST('run.sh' AS BLOB)",
        "UPDATE entry SET name = CAST('a/b' AS BLOB) WHERE name = CAST('run.sh' AS BLOB)",
        "UPDATE entry SET name = x'' WHERE name = CAST('run.sh' AS BLOB)",
        "UPDATE entry SET name = CAST('name' AS BLOB) WHERE parent = 0",
        "UPDATE entry SET kind = 9 WHERE name = CAST('run.sh' AS BLOB)",
        "UPDATE entry SET kind = 4 WHERE name = CAST('run.sh' AS BLOB)",
        "UPDATE entry SET kind = 2, digest = zeroblob(32), size = 1, mtime_ns = 1 WHERE name = CAST('src' AS BLOB)",
        "UPDATE entry SET digest = x'00' WHERE name = CAST('run.sh' AS BLOB)",
        "UPDATE entry SET digest = NULL WHERE name = CAST('run.sh' AS BLOB)",
        "UPDATE entry SET size = NULL WHERE name = CAST('run.sh' AS BLOB)",
        "UPDATE entry SET mode = 4095 WHERE name = CAST('run.sh' AS BLOB)",
        "UPDATE entry SET target = NULL WHERE kind = 3",
        "UPDATE entry SET target = x'00' WHERE kind = 3",
        "UPDATE entry SET parent = 999 WHERE name = CAST('run.sh' AS BLOB)",
        "UPDATE entry SET parent = id WHERE name = CAST('src' AS BLOB)",
        "DELETE FROM entry WHERE parent = 0",
        "INSERT INTO entry (parent, name, kind, mode) VALUES (0, x'61', 1, 493)",
    ];
    for damage in cases {
        let place = Place::new();
        let mut manifest = place.open();
        manifest.replace_ancestor(&pair("one"), Some(&sample())).expect("it is saved");
        let changed = place.raw().execute(damage, []).expect("the damage is done");
        assert!(changed > 0, "{damage}");
        let loaded = load(&mut manifest, "one");
        assert_eq!(loaded.root, None, "{damage}");
        assert!(loaded.problem.is_some(), "{damage}");
        // Nothing is left of it for later changes to build on.
        let change = AncestorSet { path: path("src/new"), entry: Some(file("1")) };
        let refused = manifest.save_ancestor(&pair("one"), &[change]);
        assert!(matches!(refused, Err(ManifestError::Diverged(_))), "{damage}: {refused:?}");
    }
}

#[test]
fn an_ancestor_that_is_not_valid_is_not_saved() {
    let place = Place::new();
    let mut manifest = place.open();
    manifest.replace_ancestor(&pair("one"), Some(&sample())).expect("it is saved");
    for odd in [special(), unreadable()] {
        let tree = dir([("a", file("1")), ("odd", odd.clone())]);
        let refused = manifest.replace_ancestor(&pair("one"), Some(&tree));
        assert!(matches!(refused, Err(ManifestError::Tree(_))));
        let changes = [
            AncestorSet { path: path("fine"), entry: Some(file("1")) },
            AncestorSet { path: path("odd"), entry: Some(odd) },
        ];
        let refused = manifest.save_ancestor(&pair("one"), &changes);
        assert!(matches!(refused, Err(ManifestError::Invalid(_))));
    }
    let below_a_file = AncestorSet { path: path("run.sh/x"), entry: Some(file("1")) };
    let refused = manifest.save_ancestor(&pair("one"), &[below_a_file]);
    assert!(matches!(refused, Err(ManifestError::Diverged(_))));
    assert_eq!(load(&mut manifest, "one").root, Some(sample()), "all or nothing");
}

#[test]
fn stats_are_kept_changed_and_removed() {
    let place = Place::new();
    let mut manifest = place.open();
    let row = |at: &str, size| StatRow {
        path: path(at),
        size,
        mtime_ns: -1,
        ctime_ns: i64::MAX,
        inode: u64::MAX,
        digest: Digest([7; 32]),
        recorded_ns: 3,
    };
    manifest.save_stats(&[row("a", 1), row("b/c", u64::MAX), row("d", 1)], &[]).expect("saved");
    manifest.save_stats(&[row("a", 2)], &[path("d"), path("unknown")]).expect("saved");
    drop(manifest);
    place
        .raw()
        .execute("INSERT INTO stat SELECT x'2e2e', 1, 1, 1, 1, digest, 1 FROM stat LIMIT 1", [])
        .expect("a hostile row");
    let mut stats = place.open().load_stats().expect("stats");
    stats.sort_by(|one, other| one.path.cmp(&other.path));
    assert_eq!(stats, [row("a", 2), row("b/c", u64::MAX)]);
}

#[test]
fn a_first_save_of_many_files_is_fast() {
    let place = Place::new();
    let mut manifest = place.open();
    let directory = |name: usize| {
        let children = (0..200).map(|number| (format!("file-{number}.txt"), file("1")));
        (format!("directory-{name}"), dir_of(children))
    };
    let tree = dir_of((0..100).map(directory));
    let start = std::time::Instant::now();
    manifest.replace_ancestor(&pair("one"), Some(&tree)).expect("it is saved");
    let saved = start.elapsed();
    let loaded = load(&mut manifest, "one");
    println!("20,101 rows: saved in {saved:?}, loaded in {:?}", start.elapsed() - saved);
    assert_eq!(loaded.root, Some(tree));
    // Sixty milliseconds is the aim of an optimised build; this is to notice a change of kind.
    assert!(saved.as_secs() < 5, "{saved:?}");
}

fn changes() -> impl Strategy<Value = Vec<AncestorSet>> {
    let names = prop::collection::vec("[abc]", 0..4);
    let entry = prop_oneof![
        3 => Just(Some(dir([]))),
        3 => "[0-9]".prop_map(|content| Some(file(&content))),
        1 => Just(Some(link("t"))),
        2 => Just(None),
    ];
    let change = (names, entry)
        .prop_map(|(names, entry)| AncestorSet { path: path(&names.join("/")), entry });
    prop::collection::vec(change, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn saving_changes_is_the_same_as_saving_all(changes in changes(), cut in 0usize..60) {
        let place = Place::new();
        let mut manifest = place.open();
        let mut ancestor = Ancestor::default();
        let root = AncestorSet { path: SyncPath::root(), entry: Some(dir([])) };
        let fitting: Vec<_> = std::iter::once(root)
            .chain(changes)
            .filter(|change| ancestor.set(&change.path, change.entry.as_ref()))
            .collect();
        let (first, second) = fitting.split_at(cut.min(fitting.len()));
        manifest.save_ancestor(&pair("one"), first).expect("saved");
        manifest.save_ancestor(&pair("one"), second).expect("saved");
        let loaded = load(&mut manifest, "one");
        prop_assert_eq!(loaded.root.as_ref(), ancestor.root(), "{}", show(ancestor.root()));
        prop_assert_eq!(loaded.problem, None);
    }
}
