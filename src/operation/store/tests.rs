#![expect(clippy::disallowed_methods, reason = "damaged files are what some tests are about")]

use std::os::unix::fs::PermissionsExt;

use super::*;

const HOUR_MS: u64 = 60 * 60 * 1000;

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(&Places::below(directory.path())).expect("a store");
    (directory, store)
}

fn record(id: &str, name: &str, began_ms: u64) -> Record {
    let id = format!("{id:0<32}").parse().expect("an id");
    let argv = [b"echo".to_vec(), vec![0xff]];
    let mut record = Record::new(id, "/project".into(), "dev".to_owned(), &argv);
    record.name = name.to_owned();
    record.began_ms = began_ms;
    record
}

fn ended(id: &str, ended_ms: u64) -> Record {
    let mut record = record(id, "", 0);
    record.state = RecordState::Ended;
    record.ended_ms = ended_ms;
    record
}

#[test]
fn a_record_is_there_from_its_beginning_until_it_is_removed() {
    let (_directory, store) = store();
    let mut record = record("ab12", "test", 1);
    store.begin(&record).expect("written");
    assert_eq!(store.read(record.id).expect("readable"), Some(record.clone()));
    record.state = RecordState::Ended;
    store.finish(&record).expect("written");
    assert_eq!(store.list().expect("listed"), [record.clone()]);
    store.remove(record.id).expect("removed");
    store.remove(record.id).expect("gone already");
    assert_eq!(store.read(record.id).expect("readable"), None);
}

#[test]
fn records_and_output_are_for_their_user_only() {
    let (_directory, store) = store();
    let record = record("ab12", "", 1);
    store.begin(&record).expect("written");
    store.output_writer(record.id).expect("made");
    let mode = |path: PathBuf| std::fs::metadata(path).expect("there").permissions().mode();
    assert_eq!(mode(store.directory.clone()) & 0o777, 0o700);
    assert_eq!(mode(store.of(record.id)) & 0o777, 0o700);
    assert_eq!(mode(store.of(record.id).join(RECORD)) & 0o777, 0o600);
    assert_eq!(mode(store.of(record.id).join(OUTPUT)) & 0o777, 0o600);
}

#[test]
fn output_is_read_as_it_was_written_and_replaced_by_a_new_one() {
    let (_directory, store) = store();
    let id = record("ab12", "", 1).id;
    assert!(store.output(id).expect("readable").is_none());
    for text in ["first", "second"] {
        let mut writer = store.output_writer(id).expect("made");
        writer.append(0, 10, 1, text.as_bytes()).expect("written");
        writer.flush().expect("written");
        let pieces: Vec<_> = store.output(id).expect("readable").expect("there").collect();
        let piece = pieces[0].as_ref().expect("readable");
        assert_eq!((pieces.len(), piece.offset, &*piece.data), (1, 10, text.as_bytes()));
    }
}

#[test]
fn an_operation_is_found_by_name_or_by_the_first_digits_of_its_id() {
    let (_directory, store) = store();
    for record in [record("abcd1", "test", 1), record("abcd2", "test", 2), record("12ef", "", 3)] {
        store.begin(&record).expect("written");
    }
    let found = |text| store.find(text).map(|record| record.id.to_string()[..5].to_owned());
    assert_eq!(found("test").expect("the newest"), "abcd2");
    assert_eq!(found("abcd1").expect("one"), "abcd1");
    assert_eq!(found("12EF").expect("one"), "12ef0");
    assert!(matches!(found("abcd"), Err(FindError::Ambiguous(records)) if records.len() == 2));
    for text in ["", "12e", "nothing", "abcd3", "../abcd1"] {
        assert!(matches!(found(text), Err(FindError::None)), "{text}");
    }
}

#[test]
fn a_record_that_cannot_be_understood_is_left_alone() {
    let (_directory, store) = store();
    let record = record("ab12", "", 1);
    store.begin(&record).expect("written");
    let file = store.of(record.id).join(RECORD);
    for text in ["{", "{\"format\": 9}"] {
        std::fs::write(&file, text).expect("written");
        assert!(store.list().expect("listed").is_empty());
        store.prune(u64::MAX, |_| false).expect("pruned");
        assert!(file.exists());
    }
    std::fs::create_dir(store.directory.join("something")).expect("made");
    assert!(store.list().expect("listed").is_empty());
}

#[test]
fn what_ended_a_day_ago_is_forgotten_and_what_runs_is_not() {
    let (_directory, store) = store();
    let now = 100 * HOUR_MS;
    let (old, new) = (ended("0001", now - 25 * HOUR_MS), ended("0002", now - 23 * HOUR_MS));
    let (living, left) = (record("0003", "", 1), record("0004", "", 1));
    for record in [&old, &new, &living, &left] {
        store.begin(record).expect("written");
    }
    store.prune(now, |record| record.id == living.id).expect("pruned");
    let states = |store: &Store| {
        let records = store.list().expect("listed").into_iter();
        records.map(|record| (record.id, record.state)).collect::<Vec<_>>()
    };
    let (ended, running, lost) = (RecordState::Ended, RecordState::Running, RecordState::Lost);
    assert_eq!(states(&store), [(new.id, ended), (living.id, running), (left.id, lost)]);
    store.prune(now + 25 * HOUR_MS, |_| true).expect("pruned");
    assert_eq!(states(&store), [(living.id, running)]);
}

#[test]
fn the_oldest_goes_first_if_there_is_too_much() {
    let (_directory, store) = store();
    for (id, at) in [("0001", 1), ("0002", 2), ("0003", 3)] {
        let record = ended(id, at);
        store.begin(&record).expect("written");
        let file = File::create(store.of(record.id).join(OUTPUT)).expect("made");
        // A hole: it takes no room, but it counts.
        file.set_len(BYTES_MAX / 2).expect("made long");
    }
    store.prune(3, |_| false).expect("pruned");
    let left: Vec<u64> =
        store.list().expect("listed").iter().map(|record| record.ended_ms).collect();
    assert_eq!(left, [3]);
}
