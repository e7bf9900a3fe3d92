#![expect(clippy::disallowed_methods, reason = "tests prepare the directories they look at")]

use std::path::PathBuf;

use super::*;

struct Place {
    _outside: tempfile::TempDir,
    root: Root,
    staging: PathBuf,
}

fn place() -> Place {
    let outside = tempfile::tempdir().expect("a directory");
    let (root, _) = Root::create(&outside.path().join("root")).expect("a root");
    let staging = outside.path().join("state/staging");
    Place { _outside: outside, root, staging }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .expect("listed")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn content_is_kept_by_its_digest_across_runs() {
    let place = place();
    let content = vec![7; 300_000];
    let digest = Digest::of(&content);
    let staging = Staging::open(&place.staging, &place.root).expect("opened");
    assert!(!staging.has(&digest));
    let mut writer = staging.begin(digest, Some(300_000)).expect("begun");
    for piece in content.chunks(100_000) {
        writer.write(piece).expect("written");
    }
    let staged = writer.finish().expect("whole");
    assert!(staging.has(&digest));
    drop(staging);
    std::fs::write(place.staging.join("part-1"), b"cut off").expect("written");
    let again = Staging::open(&place.staging, &place.root).expect("opened");
    assert_eq!(again.find(&digest), Some(staged));
    assert_eq!(names(&place.staging), [digest.hex()], "what was cut off is swept");
}

#[test]
fn kept_content_that_was_damaged_is_not_used() {
    let place = place();
    let digest = Digest::of(b"right");
    std::fs::create_dir_all(&place.staging).expect("made");
    std::fs::write(place.staging.join(digest.hex()), b"wrong").expect("written");
    let staging = Staging::open(&place.staging, &place.root).expect("opened");
    assert!(!staging.has(&digest));
    assert_eq!(names(&place.staging), [] as [&str; 0]);
}

#[test]
fn wrong_content_is_refused_and_leaves_nothing() {
    let place = place();
    let staging = Staging::open(&place.staging, &place.root).expect("opened");
    let digest = Digest::of(b"right");
    let mut writer = staging.begin(digest, Some(5)).expect("begun");
    writer.write(b"wrong").expect("written");
    assert_eq!(writer.finish(), Err(StagingError::WrongDigest));
    let mut writer = staging.begin(digest, Some(5)).expect("begun");
    assert_eq!(writer.write(b"right and more"), Err(StagingError::TooLong(5)));
    writer.write(b"rig").expect("what is refused is not counted");
    assert_eq!(writer.finish(), Err(StagingError::TooShort { expected: 5, actual: 3 }));
    drop(staging.begin(digest, None).expect("begun"));
    assert_eq!(names(&place.staging), [] as [&str; 0]);
}

#[test]
fn only_stale_files_of_our_name_are_swept_from_the_tree() {
    let place = place();
    let root = place.root.path().to_path_buf();
    std::fs::write(root.join(".skync-tmp-young"), b"x").expect("written");
    std::fs::write(root.join("file"), b"x").expect("written");
    let paths = [".skync-tmp-young", "file", ".skync-tmp-gone"]
        .map(|name| SyncPath::parse(name.as_bytes()).expect("a path"));
    assert_eq!(sweep(&place.root, &paths), 0);
    let later = now_ns() + 2 * TEMP_STALE_NS;
    assert_eq!(sweep_at(&place.root, &paths, later), 1);
    assert_eq!(names(&root), ["file"]);
}

#[test]
fn what_was_written_of_a_large_content_is_kept_if_it_is_asked_for() {
    let place = place();
    let staging = Staging::open(&place.staging, &place.root).expect("opened");
    let large = vec![7; 3 << 20];
    let digest = Digest::of(&large);
    let begin = |written: usize| {
        let mut writer = staging.begin(digest, None).expect("begun");
        writer.write(&large[..written]).expect("written");
        writer
    };
    begin(1000).keep();
    drop(begin(2 << 20));
    assert_eq!(names(&place.staging), [] as [&str; 0], "not much, or not asked for");
    begin(2 << 20).keep();
    assert_eq!(staging.part_of(&digest), 2 << 20);
    assert!(!staging.has(&digest));
    assert_eq!(staging.resume(digest, 1 << 20).err(), Some(StagingError::NoPart(1 << 20)));
    let mut writer = staging.resume(digest, 2 << 20).expect("resumed");
    writer.write(&large[2 << 20..]).expect("written");
    writer.finish().expect("whole");
    assert_eq!(names(&place.staging), [digest.hex()]);
}

#[test]
fn one_part_is_kept_and_that_of_a_killed_process_too() {
    let place = place();
    let staging = Staging::open(&place.staging, &place.root).expect("opened");
    let digests = [Digest::of(b"one"), Digest::of(b"other")];
    for digest in digests {
        let mut writer = staging.begin(digest, None).expect("begun");
        writer.write(&vec![0; 1 << 20]).expect("written");
        writer.keep();
    }
    let part = format!("{}.part", digests[1].hex());
    assert_eq!(names(&place.staging), [part.as_str()]);
    let writing = |digest: &Digest, size| {
        let name = format!("part-{}-1-1", digest.hex());
        std::fs::write(place.staging.join(name), vec![0; size]).expect("written");
    };
    writing(&digests[0], 1 << 20);
    writing(&Digest::of(b"third"), 1000);
    let staging = Staging::open(&place.staging, &place.root).expect("opened");
    assert_eq!(staging.part_of(&digests[0]), 1 << 20);
    assert_eq!(names(&place.staging).len(), 2);
}
