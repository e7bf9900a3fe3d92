//! What is known after what was seen.

mod model;

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::source::{Changed, Entry, Listing};

const DEVICE: u64 = 7;

fn object(inode: u64, born_ns: i64) -> ObjectId {
    ObjectId { device: DEVICE, inode, born_ns }
}

fn attributes(kind: FileKind, inode: u64) -> Attributes {
    let epoch = SystemTime::UNIX_EPOCH;
    Attributes {
        object: object(inode, 1),
        kind,
        mode: 0o644,
        links: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 1,
        blocks: 8,
        accessed: epoch,
        modified: epoch,
        changed: epoch,
    }
}

fn file(inode: u64) -> Attributes {
    attributes(FileKind::File, inode)
}

fn directory(inode: u64) -> Attributes {
    attributes(FileKind::Directory, inode)
}

fn entry(name: &str, attributes: Attributes) -> Entry {
    Entry { name: OsString::from(name), attributes, target: None }
}

fn seen<T>(stamp: u64, what: T) -> Seen<T> {
    Seen { stamp: Stamp(stamp), what }
}

fn name(name: &str) -> Name {
    Name::from(OsStr::new(name))
}

fn listing(path: &str, of: Attributes, entries: Vec<Entry>) -> Listing {
    Listing { path: path.into(), attributes: of, entries, followed: true }
}

fn told(path: &str, at: &str, entry: Option<Entry>, content: bool, stamp: u64) -> Held {
    Held {
        directory: path.into(),
        directory_attributes: None,
        name: name(at),
        entry,
        content,
        stamp: Stamp(stamp),
    }
}

/// A root that is known, with these names; the kernel holds all of them.
fn known(entries: Vec<Entry>) -> (Nodes, Instant) {
    let now = Instant::now();
    let mut nodes = Nodes::new(seen(1, directory(2)), now);
    let ids: Vec<String> = entries.iter().map(|e| e.name.to_string_lossy().into_owned()).collect();
    assert_eq!(nodes.list(seen(2, listing("", directory(2), entries)), now), []);
    for id in ids {
        let id = nodes.child(ROOT, OsStr::new(&id)).unwrap();
        nodes.looked_up(id);
    }
    (nodes, now)
}

fn names_of(nodes: &Nodes, id: NodeId) -> Vec<String> {
    let entries = nodes.directory(id).into_iter().flat_map(|d| d.entries.keys());
    entries.map(|name| name.to_string_lossy().into_owned()).collect()
}

#[test]
fn an_object_has_the_number_that_it_has_in_the_source() {
    let (nodes, _) = known(vec![entry("f", file(10)), entry("d", directory(11))]);
    assert_eq!(nodes.child(ROOT, OsStr::new("f")), Some(10));
    assert_eq!(nodes.path(11), Some("d".into()));
    assert_eq!(nodes.path(ROOT), Some("".into()));
}

#[test]
fn an_object_of_another_file_system_has_another_number() {
    let foreign = Attributes { object: ObjectId { device: 9, inode: 10, born_ns: 0 }, ..file(10) };
    let odd = Attributes { object: object(1, 0), ..file(1) };
    let entries = || vec![entry("f", file(10)), entry("g", foreign), entry("h", odd)];
    let (nodes, _) = known(entries());
    let id = |nodes: &Nodes, at: &str| nodes.child(ROOT, OsStr::new(at)).unwrap();
    assert!(id(&nodes, "g") >> 63 == 1 && id(&nodes, "h") >> 63 == 1);
    assert_ne!(id(&nodes, "g"), id(&nodes, "h"));
    let (again, _) = known(entries());
    assert_eq!((id(&again, "g"), id(&again, "h")), (id(&nodes, "g"), id(&nodes, "h")));
}

#[test]
fn what_was_looked_at_before_changes_nothing() {
    let (mut nodes, now) = known(vec![entry("f", file(10))]);
    let larger = Attributes { size: 5, ..file(10) };
    let notices = nodes.told(told("", "f", Some(entry("f", larger)), true, 9), now);
    assert!(notices.contains(&Notice::Content(10)));
    assert_eq!(nodes.told(told("", "f", Some(entry("f", file(10))), false, 8), now), []);
    assert_eq!(nodes.node(10).unwrap().attributes.size, 5);
    assert_eq!(nodes.told(told("", "f", None, false, 8), now), []);
    assert_eq!(names_of(&nodes, ROOT), ["f"]);
}

#[test]
fn a_listing_that_was_overtaken_does_not_bring_a_name_back() {
    let (mut nodes, now) = known(vec![entry("f", file(10))]);
    nodes.told(told("", "f", None, false, 9), now);
    nodes.list(seen(8, listing("", directory(2), vec![entry("f", file(10))])), now);
    assert_eq!(names_of(&nodes, ROOT), [""; 0]);
    nodes.list(seen(10, listing("", directory(2), vec![entry("f", file(10))])), now);
    assert_eq!(names_of(&nodes, ROOT), ["f"]);
}

#[test]
fn what_is_told_of_a_directory_before_its_listing_counts() {
    let (mut nodes, now) = known(vec![entry("d", directory(11))]);
    nodes.listing_begins();
    nodes.told(told("d", "new", Some(entry("new", file(12))), false, 9), now);
    nodes.told(told("d", "gone", None, false, 10), now);
    let entries = vec![entry("gone", file(13)), entry("stays", file(14))];
    nodes.list(seen(8, listing("d", directory(11), entries)), now);
    nodes.listing_ends();
    assert_eq!(names_of(&nodes, 11), ["new", "stays"]);
}

#[test]
fn a_name_that_does_not_exist_is_told_once_it_does() {
    let (mut nodes, now) = known(vec![]);
    let absent = name("f");
    assert!(nodes.used_directory(ROOT).unwrap().tell_absent(&absent));
    let notices = nodes.told(told("", "f", Some(entry("f", file(10))), false, 9), now);
    assert!(notices.contains(&Notice::Entry(ROOT, absent)));
    // It is known not to be remembered now.
    let notices = nodes.told(told("", "g", Some(entry("g", file(11))), false, 10), now);
    assert!(!notices.iter().any(|notice| matches!(notice, Notice::Entry(..))));
}

#[test]
fn a_number_that_is_used_again_is_another_object() {
    let (mut nodes, now) = known(vec![entry("f", file(10))]);
    let other = Attributes { object: object(10, 2), ..file(10) };
    let notices = nodes.told(told("", "g", Some(entry("g", other)), false, 9), now);
    assert!(notices.contains(&Notice::Entry(ROOT, name("f"))), "{notices:?}");
    assert_eq!(names_of(&nodes, ROOT), ["g"]);
    assert_eq!(nodes.node(10).unwrap().generation, 1);
}

#[test]
fn a_file_has_several_names_and_a_directory_one() {
    let (mut nodes, now) = known(vec![entry("a", file(10)), entry("b", file(10))]);
    assert_eq!(nodes.node(10).unwrap().names.len(), 2);
    nodes.told(told("", "a", None, false, 9), now);
    assert_eq!(nodes.path(10), Some("b".into()));
    nodes.told(told("", "d", Some(entry("d", directory(11))), false, 10), now);
    nodes.told(told("", "e", Some(entry("e", directory(11))), false, 11), now);
    assert_eq!(names_of(&nodes, ROOT), ["b", "e"]);
    assert_eq!(nodes.path(11), Some("e".into()));
}

#[test]
fn a_directory_is_not_below_itself() {
    let (mut nodes, now) = known(vec![entry("d", directory(11))]);
    nodes.list(seen(3, listing("d", directory(11), vec![entry("e", directory(12))])), now);
    let loops = [
        listing("d/e", directory(12), vec![entry("d", directory(11))]),
        listing("d/e", directory(12), vec![entry("root", directory(2))]),
        listing("d/e", directory(12), vec![entry("e", directory(12))]),
    ];
    for (at, looped) in loops.into_iter().enumerate() {
        nodes.list(seen(10 + at as u64, looped), now);
        assert_eq!(nodes.path(12), Some("d/e".into()));
    }
}

#[test]
fn names_that_cannot_be_are_left_out() {
    let long = "x".repeat(256);
    let bad = [".", "..", "", "a/b", "nul\0", &long];
    let entries =
        bad.iter().enumerate().map(|(at, bad)| entry(bad, file(20 + at as u64))).collect();
    let now = Instant::now();
    let mut nodes = Nodes::new(seen(1, directory(2)), now);
    nodes.list(seen(2, listing("", directory(2), entries)), now);
    assert_eq!(names_of(&nodes, ROOT), [""; 0]);
    for bad in bad {
        assert_eq!(nodes.told(told("", bad, Some(entry(bad, file(30))), true, 9), now), []);
    }
}

#[test]
fn our_own_changes_come_back_as_nothing_new() {
    let (mut nodes, now) = known(vec![entry("f", file(10))]);
    let hold = Hold::Name(ROOT, name("new"));
    nodes.hold(hold.clone());
    // It is told before the reply is there.
    let echo = told("", "new", Some(entry("new", file(11))), true, 9);
    assert_eq!(nodes.told(echo, now), []);
    assert_eq!(names_of(&nodes, ROOT), ["f"]);
    let changed = Changed { object: Some(file(11)), directory: directory(2), before: None };
    let (made, notices) = nodes.made(ROOT, &name("new"), seen(8, changed), None, now);
    assert_eq!((made, notices), (Some(11), vec![]));
    nodes.looked_up(11);
    let notices = nodes.release(&hold, now);
    assert!(!notices.iter().any(|notice| matches!(notice, Notice::Entry(..) | Notice::Event(_))));
    assert_eq!(names_of(&nodes, ROOT), ["f", "new"]);
}

#[test]
fn the_echo_of_a_write_is_nothing_new_and_a_write_of_others_is() {
    let (mut nodes, now) = known(vec![entry("f", file(10))]);
    let at = |seconds| Attributes {
        size: seconds,
        modified: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        ..file(10)
    };
    let is_content = |notices: &[Notice]| notices.contains(&Notice::Content(10));
    nodes.opened(10, true);
    // The echo comes first, then the reply.
    nodes.set_writing(10, true);
    let notices = nodes.told(told("", "f", Some(entry("f", at(5))), true, 10), now);
    assert!(!is_content(&notices));
    nodes.learn(10, seen(9, at(5)), now);
    assert!(!nodes.settled(10) && !nodes.closed(10, true));
    // The reply comes first, then the echo.
    nodes.opened(10, true);
    nodes.learn(10, seen(11, at(6)), now);
    let notices = nodes.told(told("", "f", Some(entry("f", at(6))), true, 12), now);
    assert!(!is_content(&notices));
    // Somebody else wrote meanwhile.
    nodes.set_writing(10, true);
    let notices = nodes.told(told("", "f", Some(entry("f", at(7))), true, 13), now);
    assert!(!is_content(&notices) && nodes.settled(10) && !nodes.settled(10));
    assert!(!nodes.closed(10, true));
    let notices = nodes.told(told("", "f", Some(entry("f", at(8))), true, 14), now);
    assert!(is_content(&notices));
}

#[test]
fn a_node_stays_as_long_as_it_is_needed() {
    let (mut nodes, now) = known(vec![entry("f", file(10)), entry("g", file(11))]);
    nodes.opened(10, false);
    nodes.told(told("", "f", None, false, 9), now);
    // What an event is made of.
    nodes.forget(10, 2);
    assert!(nodes.node(10).is_some());
    assert_eq!(nodes.place(10), None);
    nodes.closed(10, false);
    assert!(nodes.node(10).is_none());
    nodes.forget(11, 5);
    assert!(nodes.node(11).is_some(), "the root has it");
    assert_eq!(nodes.count(), 2);
}

#[test]
fn when_there_are_too_many_names_those_go_that_were_not_used() {
    let (mut nodes, now) = known(vec![entry("d", directory(11)), entry("e", directory(12))]);
    let many = |first: u64| -> Vec<Entry> {
        (first..first + 10).map(|inode| entry(&format!("{inode}"), file(inode))).collect()
    };
    nodes.list(seen(3, listing("d", directory(11), many(100))), now);
    nodes.list(seen(4, listing("e", directory(12), many(200))), now);
    nodes.looked_up(105);
    nodes.used_directory(11).unwrap();
    nodes.used_directory(ROOT).unwrap();
    assert_eq!(nodes.listed(), 22);
    let shrink = |nodes: &mut Nodes, count| {
        let (ids, paths): (Vec<NodeId>, Vec<_>) = nodes.unused(count).into_iter().unzip();
        (paths, nodes.forget_directories(&ids))
    };
    let (paths, _) = shrink(&mut nodes, 15);
    assert_eq!(paths, [Path::new("e")]);
    assert_eq!((nodes.listed(), nodes.knows(12), nodes.knows(11)), (12, false, true));
    let (paths, notices) = shrink(&mut nodes, 5);
    assert_eq!(paths, [Path::new("d")]);
    assert!(notices.contains(&Notice::Entry(11, name("105"))));
    assert_eq!(nodes.path(105), Some("d/105".into()), "the kernel holds it");
    nodes.forget(105, 1);
    assert_eq!(nodes.count(), 3);
}

#[test]
fn another_source_leaves_nothing_of_the_one_before() {
    let (mut nodes, now) = known(vec![entry("f", file(10)), entry("g", file(11))]);
    nodes.forget(11, 1);
    let root = Attributes { object: object(99, 5), ..directory(99) };
    let notices = nodes.anew(seen(1, root), now);
    assert!(notices.contains(&Notice::Entry(ROOT, name("f"))));
    assert!(nodes.is_stale(10) && nodes.node(10).is_none() && nodes.node(11).is_none());
    assert!(!nodes.knows(ROOT));
    // The same number, in the other source.
    nodes.list(seen(2, listing("", root, vec![entry("f", file(10))])), now);
    assert_eq!(nodes.node(10).unwrap().generation, 1);
    assert_eq!(nodes.node(10).unwrap().lookups, 1);
}

#[test]
fn a_reader_goes_on_in_the_next_directory() {
    let (mut nodes, now) = known(vec![
        entry("a", directory(11)),
        entry("b", file(20)),
        entry("c", directory(12)),
        entry("d", file(21)),
    ]);
    nodes.list(seen(3, listing("a", directory(11), vec![entry("x", file(22))])), now);
    let found = |nodes: &Nodes, id| -> Vec<NodeId> {
        nodes.following(id, 10, 1000).into_iter().map(|(id, ..)| id).collect()
    };
    assert_eq!(found(&nodes, 22), [20, 21]);
    assert_eq!(nodes.unknown_after(11, 10), [12]);
    let nested = vec![entry("y", file(23)), entry("z", directory(13))];
    nodes.list(seen(4, listing("c", directory(12), nested)), now);
    nodes.list(seen(5, listing("c/z", directory(13), vec![entry("w", file(24))])), now);
    assert_eq!(found(&nodes, 20), [23, 24, 21]);
    assert_eq!(nodes.following(20, 1, 1000).len(), 1);
    assert_eq!(nodes.following(20, 10, 1).len(), 1);
}

#[test]
fn of_two_objects_with_one_number_the_one_that_was_made_later_counts() {
    let (mut nodes, now) = known(vec![entry("f", file(10))]);
    // Our own reply, looked at before the listing, about an object that was made after it.
    nodes.list(seen(9, listing("", directory(2), vec![entry("f", file(10))])), now);
    let later = Attributes { object: object(10, 2), ..file(10) };
    let changed = Changed { object: Some(later), directory: directory(2), before: None };
    let (made, _) = nodes.made(ROOT, &name("new"), seen(8, changed), None, now);
    assert_eq!((made, nodes.node(10).unwrap().generation), (Some(10), 1));
    // An older one is not believed, however late it was looked at.
    nodes.told(told("", "old", Some(entry("old", file(10))), false, 20), now);
    assert_eq!(names_of(&nodes, ROOT), ["new"]);
}

#[test]
fn what_has_the_number_of_something_that_we_removed_is_another_object() {
    let (mut nodes, now) = known(vec![entry("d", directory(11))]);
    let changed = |object| Changed { object, directory: directory(2), before: None };
    nodes.removed(ROOT, &name("d"), seen(8, changed(None)), now);
    // Made in the same tick of the source's clock.
    let again = seen(9, changed(Some(directory(11))));
    let (made, _) = nodes.made(ROOT, &name("e"), again, None, now);
    assert_eq!((made, nodes.node(11).unwrap().generation), (Some(11), 1));
}

fn link(inode: u64) -> Attributes {
    attributes(FileKind::Symlink, inode)
}

#[test]
fn a_symbolic_link_at_another_place_is_read_again() {
    let entries = vec![entry("d", directory(11)), entry("l", link(10)), entry("e", directory(12))];
    let (mut nodes, now) = known(entries);
    let has = |notices: &[Notice], id| notices.contains(&Notice::Content(id));
    nodes.list(seen(3, listing("d", directory(11), vec![entry("m", link(13))])), now);
    nodes.list(seen(4, listing("e", directory(12), vec![])), now);
    nodes.looked_up(13);
    // One more name, told and of our own.
    let told_link = told("d", "l2", Some(entry("l2", link(10))), false, 9);
    let notices = nodes.told(told_link, now);
    assert!(has(&notices, 10));
    assert_eq!(nodes.node(10).unwrap().generation, 1, "who finds it finds another one");
    let changed = |object| Changed { object: Some(object), directory: directory(2), before: None };
    let (_, notices) = nodes.made(ROOT, &name("l3"), seen(10, changed(link(10))), None, now);
    assert!(has(&notices, 10));
    // It moves.
    let (from, to) = (name("l"), name("l4"));
    let notices = nodes.moved((ROOT, &from), (ROOT, &to), seen(11, changed(link(10))), now);
    assert!(has(&notices, 10));
    // A directory above it moves, told and of our own.
    let notices = nodes.told(told("e", "d", Some(entry("d", directory(11))), false, 12), now);
    assert!(has(&notices, 13));
    let (from, to) = (name("e"), name("f"));
    let notices = nodes.moved((ROOT, &from), (ROOT, &to), seen(13, changed(directory(12))), now);
    assert!(has(&notices, 13));
}

#[test]
fn a_symbolic_link_that_got_a_name_which_is_not_known_is_read_again() {
    let (mut nodes, now) = known(vec![entry("l", link(10))]);
    let twice = Attributes { links: 2, ..link(10) };
    assert!(nodes.seen(10, seen(9, twice), now).contains(&Notice::Content(10)));
    let thrice = Attributes { links: 3, ..link(10) };
    assert!(nodes.learn(10, seen(10, thrice), now).contains(&Notice::Content(10)));
}

#[test]
fn a_listing_counts_although_something_newer_is_known_of_a_name() {
    let (mut nodes, now) = known(vec![entry("d", directory(11))]);
    nodes.listing_begins();
    // While it is on the way we make something, and the kernel forgets it again.
    let changed = Changed { object: Some(file(12)), directory: directory(11), before: None };
    nodes.made(11, &name("new"), seen(9, changed), None, now);
    nodes.looked_up(12);
    nodes.forget(12, 1);
    nodes.list(seen(8, listing("d", directory(11), vec![entry("f", file(13))])), now);
    nodes.listing_ends();
    assert!(nodes.knows(11));
    assert_eq!(names_of(&nodes, 11), ["f", "new"]);
}

#[test]
fn a_listing_that_is_older_than_another_does_not_count() {
    let (mut nodes, now) = known(vec![entry("d", directory(11))]);
    nodes.list(seen(9, listing("d", directory(11), vec![entry("f", file(13))])), now);
    nodes.unknown(11);
    nodes.list(seen(8, listing("d", directory(11), vec![entry("g", file(14))])), now);
    assert!(!nodes.knows(11));
}

#[test]
fn a_file_that_is_open_for_writing_and_not_written_hides_nothing() {
    let (mut nodes, now) = known(vec![entry("f", file(10))]);
    nodes.opened(10, true);
    let larger = Attributes { size: 5, ..file(10) };
    let notices = nodes.told(told("", "f", Some(entry("f", larger)), true, 9), now);
    assert!(notices.contains(&Notice::Content(10)));
    assert!(notices.contains(&Notice::Event(Event::Modified(10))));
}

#[test]
fn who_looks_sees_by_the_time_of_the_change_that_a_file_is_another() {
    let (mut nodes, now) = known(vec![entry("f", file(10))]);
    let at = |seconds| Attributes {
        changed: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        ..file(10)
    };
    assert!(nodes.seen(10, seen(9, at(1)), now).contains(&Notice::Content(10)));
    assert_eq!(nodes.seen(10, seen(10, at(1)), now), []);
    // Soon after our own change it is that.
    nodes.learn(10, seen(11, at(2)), now);
    assert!(!nodes.seen(10, seen(12, at(3)), now).contains(&Notice::Content(10)));
}

#[test]
fn what_is_told_late_of_a_content_still_counts() {
    let (mut nodes, now) = known(vec![entry("f", file(10))]);
    // A look came first, and showed no difference.
    nodes.list(seen(9, listing("", directory(2), vec![entry("f", file(10))])), now);
    let late = || told("", "f", Some(entry("f", file(10))), true, 8);
    assert!(nodes.told(late(), now).contains(&Notice::Content(10)));
    // Unless it may be the echo of what we wrote.
    nodes.learn(10, seen(10, file(10)), now);
    assert_eq!(nodes.told(late(), now), []);
}
