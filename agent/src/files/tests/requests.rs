//! Each request, as it is meant.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::proto::{
    FilesAllocate, FilesClose, FilesCreate, FilesFetch, FilesLink, FilesList, FilesLook, FilesMake,
    FilesOpen, FilesOpenHow, FilesOwner, FilesRead, FilesRemove, FilesRename, FilesRoom, FilesSeek,
    FilesSet, FilesSpaceRequest, FilesSync, FilesTime, FilesWrite,
};

fn list(path: &str, entries_max: u32) -> Request {
    Request::List(FilesList { directory: at(path), entries_max })
}

fn look(path: &str, name: &str) -> Request {
    Request::Look(FilesLook { directory: at(path), name: name.into() })
}

fn read(file: Option<FilesAt>, offset: u64, length: u32) -> Request {
    Request::Read(FilesRead { file, open_as: 0, offset, length })
}

const WRITE: FilesOpenHow =
    FilesOpenHow { read: true, write: true, append: false, truncate: false, exclusive: false };

fn create(directory: &str, name: &str, handle: u64, mode: u32) -> Request {
    let owner = Some(FilesOwner { mode, ..FilesOwner::default() });
    let (directory, name) = (at(directory), name.into());
    Request::Create(FilesCreate { directory, name, handle, how: Some(WRITE), owner })
}

fn write(handle: u64, offset: u64, data: &'static [u8]) -> Request {
    Request::Write(FilesWrite { handle, offset, data: data.into() })
}

#[test]
fn a_tree_is_listed_nearest_first_with_all_that_stat_shows() {
    for world in World::each() {
        fs::create_dir_all(world.path("a/deep")).expect("made");
        world.write("file", "four");
        world.write("a/deep/below", "x");
        symlink("../nowhere", world.path("a/link")).expect("a link");
        let listings = world.listings(list("", 1000));
        let paths: Vec<_> = listings.iter().map(|l| String::from_utf8_lossy(&l.path)).collect();
        assert_eq!(paths, ["", "a", "a/deep"]);
        let file = listings[0].entries.iter().find(|e| e.name == b"file").expect("listed");
        let (seen, real) = (file.attributes.expect("it is told"), fs::metadata(world.path("file")));
        let real = real.expect("it is there");
        assert_eq!((seen.size, seen.inode, seen.device), (4, real.ino(), real.dev()));
        assert_eq!((seen.mode, seen.uid, seen.links), (real.mode(), real.uid(), 1));
        assert_eq!(seen.mtime_ns, real.mtime() * 1_000_000_000 + real.mtime_nsec());
        let link = listings[1].entries.iter().find(|e| e.name == b"link").expect("listed");
        assert_eq!(link.target, b"../nowhere");
        assert_eq!(
            listings[1].attributes.expect("told").inode,
            fs::metadata(world.path("a")).expect("there").ino()
        );
    }
}

#[test]
fn what_is_written_is_read() {
    for world in World::each() {
        let made = world.changed(create("", "new", 7, 0o4775));
        let seen = made.object.expect("it is there");
        assert_eq!(seen.mode & 0o7777, 0o4775, "whatever the umask");
        assert_eq!(world.found(write(7, 0, b"hello")).size, 5);
        assert_eq!(world.found(write(7, 10, b"world")).size, 15);
        assert_eq!(world.data(read(handle(7), 3, 100)), b"lo\0\0\0\0\0world");
        assert_eq!(world.data(read(object("new", &seen), 0, 5)), b"hello");
        world.found(Request::Sync(FilesSync { handle: 7, data_only: false }));
        assert!(world.all(Request::Close(FilesClose { handle: 7 })).is_empty());
        assert_eq!(world.error(write(7, 0, b"late")), FilesError::Stale);
    }
}

#[test]
fn long_reads_come_in_pieces() {
    for world in World::each() {
        let content: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
        world.write("large", &content);
        assert_eq!(world.all(read(at("large"), 0, 1 << 20)).len(), 3);
        assert_eq!(world.data(read(at("large"), 0, 1 << 20)), content);
        assert_eq!(world.data(read(at("large"), 262_144, 262_144)), content[262_144..524_288]);
        assert_eq!(world.data(read(at("large"), 1 << 40, 1)), b"");
        assert_eq!(world.data(read(at("large"), 0, 0)), b"");
        let open_as =
            Request::Read(FilesRead { file: at("large"), open_as: 3, offset: 9, length: 1 });
        assert_eq!(world.data(open_as), content[9..10]);
        fs::remove_file(world.path("large")).expect("removed");
        assert_eq!(world.data(read(handle(3), 10, 1)), content[10..11], "it is open still");
    }
}

#[test]
fn many_files_are_fetched_at_once() {
    for world in World::each() {
        let names: Vec<_> = (0..300).map(|n| format!("f{n}")).collect();
        names.iter().for_each(|name| world.write(name, name.repeat(1000)));
        let mut files: Vec<_> = names.iter().filter_map(at).collect();
        files.push(at("missing").expect("a place"));
        fs::create_dir(world.path("d")).expect("made");
        files.push(at("d").expect("a place"));
        world.write("huge", vec![0; 1 << 20 | 1]);
        files.push(at("huge").expect("a place"));
        let replies = world.all(Request::Fetch(FilesFetch { files }));
        assert!(replies.len() > 3, "in several messages");
        let contents: Vec<_> = replies
            .into_iter()
            .flat_map(|reply| match reply.reply {
                Some(Reply::Contents(contents)) => contents.contents,
                other => panic!("no contents: {other:?}"),
            })
            .collect();
        assert_eq!(contents.len(), 303);
        for (index, content) in contents.iter().enumerate().take(300) {
            assert_eq!(content.index as usize, index);
            assert_eq!(content.data, names[index].repeat(1000));
            assert_eq!(content.attributes.expect("told").size, content.data.len() as u64);
        }
        let errors = contents[300..].iter().map(|c| c.problem.as_ref().expect("a problem").error());
        let expected = [FilesError::NotFound, FilesError::IsDirectory, FilesError::TooLarge];
        assert_eq!(errors.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn attributes_are_set() {
    for world in World::each() {
        world.write("file", "content");
        let set = |set: FilesSet| world.found(Request::Set(FilesSet { at: at("file"), ..set }));
        assert_eq!(set(FilesSet { mode: Some(0o6751), ..FilesSet::default() }).mode, 0o106_751);
        assert_eq!(set(FilesSet { size: Some(3), ..FilesSet::default() }).size, 3);
        let time = Some(FilesTime { now: false, ns: -1_500_000_000 });
        let before = fs::metadata(world.path("file")).expect("there");
        let seen = set(FilesSet { mtime: time, ..FilesSet::default() });
        assert_eq!(seen.mtime_ns, -1_500_000_000);
        assert_eq!(seen.atime_ns, before.atime() * 1_000_000_000 + before.atime_nsec());
        let now = Some(FilesTime { now: true, ns: 0 });
        assert!(set(FilesSet { atime: now, ..FilesSet::default() }).atime_ns >= seen.atime_ns);
        assert_eq!(fs::read(world.path("file")).expect("read"), b"con");
    }
}

#[test]
fn names_are_made_linked_moved_and_removed() {
    for world in World::each() {
        let make = |name: &str, kind: u32, target: &str| {
            let owner = Some(FilesOwner { mode: 0o1777, ..FilesOwner::default() });
            let (name, target) = (name.into(), target.into());
            let make = FilesMake { directory: at(""), name, r#type: kind, target, rdev: 0, owner };
            world.changed(Request::Make(make)).object.expect("made")
        };
        assert_eq!(make("d", 0o040_000, "").mode, 0o041_777);
        assert_eq!(make("l", 0o120_000, "d/../x").size, 6);
        assert_eq!(world.entry(look("", "l")).target, b"d/../x");
        assert_eq!(make("p", 0o010_000, "").mode, 0o011_777);
        let file = make("f", 0o100_000, "");
        let (directory, name) = (at("d"), b"g".to_vec());
        let link = Request::Link(FilesLink { object: object("f", &file), directory, name });
        assert_eq!(world.changed(link).object.expect("linked").links, 2);
        let rename = |from: &str, to: &str, no_replace| {
            let (from_name, to_name) = (from.into(), to.into());
            Request::Rename(FilesRename {
                from: at(""),
                from_name,
                to: at("d"),
                to_name,
                no_replace,
            })
        };
        assert_eq!(world.error(rename("p", "g", true)), FilesError::Exists);
        let moved = world.changed(rename("p", "g", false));
        assert_eq!(moved.object.expect("moved").mode, 0o011_777);
        assert!(moved.before.is_some() && moved.directory.is_some());
        let remove = |name: &str, is_directory| {
            Request::Remove(FilesRemove { directory: at(""), name: name.into(), is_directory })
        };
        assert_eq!(world.error(remove("d", true)), FilesError::NotEmpty);
        assert_eq!(world.error(remove("d", false)), FilesError::IsDirectory);
        assert_eq!(world.error(remove("l", true)), FilesError::NotDirectory);
        assert_eq!(world.changed(remove("f", false)).object, None, "its last name");
        assert_eq!(world.error(look("", "f")), FilesError::NotFound);
    }
}

#[test]
fn an_open_file_that_was_removed_is_there_for_its_handle() {
    for world in World::each() {
        world.write("file", "content");
        let open = FilesOpen { file: at("file"), handle: 1, how: Some(WRITE) };
        assert_eq!(world.found(Request::Open(open)).size, 7);
        let (directory, name) = (at(""), b"file".to_vec());
        let removed = FilesRemove { directory, name, is_directory: false };
        assert_eq!(world.changed(Request::Remove(removed)).object.expect("open still").links, 0);
        assert_eq!(world.found(write(1, 7, b"!")).size, 8);
        assert_eq!(world.found(Request::Attributes(handle(1).expect("a place"))).links, 0);
        let size =
            FilesSet { at: handle(1), size: Some(1), mode: Some(0o600), ..FilesSet::default() };
        assert_eq!(world.found(Request::Set(size)).size, 1);
    }
}

#[test]
fn the_room_is_that_of_the_system() {
    for world in World::each() {
        let Reply::Space(space) = world.ask(Request::Space(FilesSpaceRequest {})) else {
            panic!("no space")
        };
        let real = rustix::fs::statvfs(&world.root).expect("measured");
        assert_eq!((space.blocks, u64::from(space.block_bytes)), (real.f_blocks, real.f_frsize));
        assert_eq!(space.name_bytes_max, 255);
        assert_eq!(fs::metadata(&world.root).expect("there").permissions().mode() & 0o777, 0o755);
    }
}

#[test]
fn a_large_directory_comes_in_pieces_and_is_never_half_told() {
    for world in World::each() {
        for n in 0..2100 {
            world.write(&format!("{n}"), "");
        }
        fs::create_dir_all(world.path("d/e")).expect("made");
        let listings = world.listings(list("", 10));
        let unfinished: Vec<_> = listings.iter().map(|l| (l.path.len(), l.unfinished)).collect();
        assert_eq!(unfinished, [(0, true), (0, false)]);
        let mut names: Vec<_> = listings.into_iter().flat_map(|l| l.entries).collect();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        names.dedup_by(|a, b| a.name == b.name);
        assert_eq!(names.len(), 2101);
        assert_eq!(world.listings(list("", 2102)).len(), 3, "there is room for one more directory");
    }
}

#[test]
fn what_the_kernel_makes_up_is_listed_alone() {
    if !Path::new("/proc/self").exists() {
        eprintln!("skipped: there is no /proc");
        return;
    }
    let root = Root::open(Path::new("/")).expect("a root");
    let mount = Mount::new(root, Arc::new(Stamps::new()));
    let watch = Watch::new(&mount.root, Arc::clone(&mount.stamps)).expect("an instance");
    mount.set_watch(Some(Arc::new(watch)));
    let mut listings = Vec::new();
    mount.answer(Some(&list("proc", 100_000)), 0, &mut |reply| {
        match reply.reply {
            Some(Reply::Listing(listing)) => listings.push(listing),
            other => panic!("no listing: {other:?}"),
        }
        true
    });
    assert!(listings.iter().all(|listing| listing.path == b"proc" && !listing.followed));
}

#[test]
fn room_is_made_and_taken_away() {
    for world in World::each() {
        world.write("file", vec![1; 1 << 20]);
        let open = FilesOpen { file: at("file"), handle: 1, how: Some(WRITE) };
        world.found(Request::Open(open));
        let room = |how: FilesRoom, offset, length| {
            let allocate = FilesAllocate { handle: 1, how: how.into(), offset, length };
            world.all(Request::Allocate(allocate)).remove(0).reply.expect("a reply")
        };
        let size = |reply| match reply {
            Reply::Found(entry) => entry.attributes.expect("attributes").size,
            other => panic!("not found: {other:?}"),
        };
        assert_eq!(size(room(FilesRoom::Extend, 0, 2 << 20)), 2 << 20);
        assert_eq!(size(room(FilesRoom::Keep, 0, 3 << 20)), 2 << 20);
        let seek =
            |offset, hole| world.ask(Request::Seek(FilesSeek { file: handle(1), offset, hole }));
        match room(FilesRoom::Hole, 0, 1 << 20) {
            // Not every file system has holes.
            Reply::Problem(problem) => assert_eq!(problem.error(), FilesError::Unsupported),
            reply => {
                assert_eq!(size(reply), 2 << 20);
                assert_eq!(seek(0, true), Reply::Position(0));
            }
        }
        assert_eq!(world.data(read(handle(1), 0, 2)).len(), 2);
        let past = Request::Seek(FilesSeek { file: handle(1), offset: 9 << 20, hole: false });
        assert_eq!(world.error(past), FilesError::Nothing);
    }
}

#[test]
fn new_objects_belong_to_whom_they_are_given_and_keep_the_group_of_their_directory() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root gives files away");
        return;
    }
    for world in World::each() {
        let owner = Some(FilesOwner { mode: 0o2755, has_ids: true, uid: 1234, gid: 5678 });
        let make = |directory: &str, name: &str, kind: u32| {
            let (directory, name, target) = (at(directory), name.into(), b"target".to_vec());
            let make = FilesMake { directory, name, r#type: kind, target, rdev: 0, owner };
            world.changed(Request::Make(make)).object.expect("made")
        };
        let (shared, link) = (make("", "shared", 0o040_000), make("", "link", 0o120_000));
        assert_eq!((shared.uid, shared.gid, shared.mode), (1234, 5678, 0o042_755));
        assert_eq!((link.uid, link.gid), (1234, 5678), "itself, not what it leads to");
        let set =
            FilesSet { at: at("shared"), gid: Some(99), mode: Some(0o2775), ..Default::default() };
        assert_eq!(world.found(Request::Set(set)).gid, 99);
        let owner = Some(FilesOwner { mode: 0o755, has_ids: true, uid: 1234, gid: 5678 });
        let (directory, name) = (at("shared"), b"file".to_vec());
        let create = FilesCreate { directory, name, handle: 1, how: Some(WRITE), owner };
        let file = world.changed(Request::Create(create)).object.expect("made");
        assert_eq!((file.uid, file.gid, file.mode), (1234, 99, 0o100_755));
        assert_eq!(make("shared", "below", 0o040_000).mode & 0o2000, 0o2000);
    }
}

#[test]
fn making_a_file_again_opens_it_unless_it_must_be_new() {
    for world in World::each() {
        world.write("file", "content");
        assert_eq!(world.changed(create("", "file", 1, 0o600)).object.expect("there").size, 7);
        let how = |exclusive, truncate| Some(FilesOpenHow { exclusive, truncate, ..WRITE });
        let again = |how| {
            let (directory, name) = (at(""), b"file".to_vec());
            Request::Create(FilesCreate { directory, name, handle: 2, how, owner: None })
        };
        assert_eq!(world.error(again(how(true, false))), FilesError::Exists);
        assert_eq!(world.changed(again(how(false, true))).object.expect("there").size, 0);
        let (file, how) = (at("file"), Some(FilesOpenHow { append: true, ..WRITE }));
        world.found(Request::Open(FilesOpen { file, handle: 3, how }));
        world.found(write(3, 0, b"one"));
        assert_eq!(world.found(write(3, 0, b"two")).size, 6, "every write goes to the end");
        assert_eq!(fs::read(world.path("file")).expect("read"), b"onetwo");
    }
}
