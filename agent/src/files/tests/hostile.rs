//! Requests that no honest session sends, and trees that are made to deceive.

use std::os::unix::fs::symlink;

use super::*;
use crate::proto::{
    FilesAllocate, FilesCreate, FilesFetch, FilesLink, FilesList, FilesLook, FilesMake, FilesOpen,
    FilesOpenHow, FilesOwner, FilesRead, FilesRemove, FilesRename, FilesRoom, FilesSeek, FilesSet,
    FilesWrite,
};
use crate::staging::TEMP_PREFIX;

const NAMES: [&[u8]; 9] =
    [b"..", b".", b"", b"a/b", b"/etc", b"a\0b", b"../root", b"a/..", &[b'a'; 256]];

/// A request of each kind about this place.
fn about(place: &[u8]) -> Vec<Request> {
    let at = || Some(FilesAt { path: place.to_vec(), ..FilesAt::default() });
    let name = || b"name".to_vec();
    vec![
        Request::List(FilesList { directory: at(), entries_max: 1 }),
        Request::Look(FilesLook { directory: at(), name: name() }),
        Request::Attributes(at().expect("a place")),
        Request::Read(FilesRead { file: at(), length: 1, ..FilesRead::default() }),
        Request::Open(FilesOpen { file: at(), handle: 9, how: None }),
        Request::Create(FilesCreate {
            directory: at(),
            name: name(),
            handle: 9,
            ..Default::default()
        }),
        Request::Seek(FilesSeek { file: at(), ..FilesSeek::default() }),
        Request::Set(FilesSet { at: at(), mode: Some(0o777), ..FilesSet::default() }),
        Request::Make(FilesMake {
            directory: at(),
            name: name(),
            r#type: 0o040_000,
            ..Default::default()
        }),
        Request::Link(FilesLink { object: at(), directory: super::at(""), name: name() }),
        Request::Link(FilesLink { object: super::at("file"), directory: at(), name: name() }),
        Request::Rename(FilesRename {
            from: at(),
            from_name: name(),
            to: super::at(""),
            to_name: name(),
            no_replace: false,
        }),
        Request::Rename(FilesRename {
            from: super::at(""),
            from_name: b"file".to_vec(),
            to: at(),
            to_name: name(),
            no_replace: false,
        }),
        Request::Remove(FilesRemove { directory: at(), name: name(), is_directory: false }),
    ]
}

/// A request of each kind about this name in the root.
fn named(name: &[u8]) -> Vec<Request> {
    let (at, name) = (|| super::at(""), || name.to_vec());
    vec![
        Request::Look(FilesLook { directory: at(), name: name() }),
        Request::Create(FilesCreate {
            directory: at(),
            name: name(),
            handle: 9,
            ..Default::default()
        }),
        Request::Make(FilesMake {
            directory: at(),
            name: name(),
            r#type: 0o040_000,
            ..Default::default()
        }),
        Request::Link(FilesLink { object: super::at("file"), directory: at(), name: name() }),
        Request::Rename(FilesRename {
            from: at(),
            from_name: name(),
            to: at(),
            to_name: b"x".to_vec(),
            no_replace: false,
        }),
        Request::Rename(FilesRename {
            from: at(),
            from_name: b"file".to_vec(),
            to: at(),
            to_name: name(),
            no_replace: false,
        }),
        Request::Remove(FilesRemove { directory: at(), name: name(), is_directory: false }),
        Request::Remove(FilesRemove { directory: at(), name: name(), is_directory: true }),
    ]
}

#[test]
fn no_path_and_no_name_leads_out() {
    for world in World::each() {
        world.write("file", "x");
        for bad in NAMES {
            for request in named(bad) {
                let error = world.error(request.clone());
                let refused = matches!(error, FilesError::Invalid | FilesError::NameTooLong);
                assert!(refused, "{request:?}: {error:?}");
            }
        }
        for bad in [b"..".as_slice(), b"a/../..", b"/etc", b"a//b", b"a/", b"./a", b"a\0"] {
            for request in about(bad) {
                assert_eq!(world.error(request.clone()), FilesError::Invalid, "{request:?}");
            }
        }
        for request in about("a/".repeat(2048).as_bytes()) {
            assert_eq!(world.error(request), FilesError::NameTooLong);
        }
        let fetch =
            FilesFetch { files: vec![FilesAt { path: b"../x".to_vec(), ..Default::default() }] };
        let Reply::Contents(contents) = world.ask(Request::Fetch(fetch)) else {
            panic!("no contents")
        };
        let problem = contents.contents[0].problem.as_ref().expect("a problem");
        assert_eq!(problem.error(), FilesError::Invalid);
        assert_eq!(fs::read_dir(&world.root).expect("listed").count(), 1, "nothing was done");
    }
}

#[test]
fn symbolic_links_are_not_followed_anywhere() {
    for world in World::each() {
        let outside = world.root.with_file_name("outside");
        fs::create_dir(&outside).expect("made");
        fs::write(outside.join("name"), "secret").expect("written");
        world.write("file", "x");
        symlink(&outside, world.path("way")).expect("a link");
        for request in about(b"way").into_iter().chain(about(b"way/name")) {
            match request {
                // The link itself may be looked at and have another name.
                Request::Attributes(at) if at.path == b"way" => {
                    assert_eq!(world.found(Request::Attributes(at)).mode & 0o170_000, 0o120_000);
                }
                Request::Link(link) if link.object == at("way") => {}
                request => {
                    let error = world.error(request.clone());
                    let refused = matches!(
                        error,
                        FilesError::Loop | FilesError::NotDirectory | FilesError::Unsupported
                    );
                    assert!(refused, "{request:?}: {error:?}");
                }
            }
        }
        let names: Vec<_> = fs::read_dir(&outside).expect("listed").flatten().collect();
        assert_eq!(names.len(), 1);
        assert_eq!(fs::read(outside.join("name")).expect("read"), b"secret");
    }
}

#[test]
fn another_object_than_the_one_that_is_meant_is_stale_and_untouched() {
    for world in World::each() {
        world.write("file", "content");
        let file = world.found(Request::Attributes(at("file").expect("a place")));
        fs::create_dir(world.path("d")).expect("made");
        let directory = world.found(Request::Attributes(at("d").expect("a place")));
        // Both must be new objects: the old ones still have their numbers.
        fs::rename(world.path("file"), world.path("old")).expect("moved");
        fs::rename(world.path("d"), world.path("old-d")).expect("moved");
        world.write("file", "another");
        fs::create_dir(world.path("d")).expect("made");
        world.write("d/name", "kept");
        let (file, directory) = (object("file", &file), object("d", &directory));
        let truncate =
            Some(FilesOpenHow { write: true, truncate: true, ..FilesOpenHow::default() });
        let requests = [
            Request::Open(FilesOpen { file: file.clone(), handle: 1, how: truncate }),
            Request::Set(FilesSet { at: file.clone(), size: Some(0), ..FilesSet::default() }),
            Request::Set(FilesSet { at: file.clone(), mode: Some(0), ..FilesSet::default() }),
            Request::Read(FilesRead { file: file.clone(), length: 1, ..FilesRead::default() }),
            Request::Link(FilesLink {
                object: file.clone(),
                directory: at(""),
                name: b"n".to_vec(),
            }),
            Request::Attributes(file.expect("a place")),
            Request::List(FilesList { directory: directory.clone(), entries_max: 1 }),
            Request::Look(FilesLook { directory: directory.clone(), name: b"name".to_vec() }),
            Request::Remove(FilesRemove { directory, name: b"name".to_vec(), is_directory: false }),
        ];
        for request in requests {
            assert_eq!(world.error(request.clone()), FilesError::Stale, "{request:?}");
        }
        assert_eq!(fs::read(world.path("file")).expect("read"), b"another");
        assert!(world.path("d/name").exists() && !world.path("n").exists());
    }
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    for world in World::each() {
        world.write("file", "content");
        let read = |offset, length| {
            Request::Read(FilesRead { file: at("file"), open_as: 0, offset, length })
        };
        assert_eq!(world.error(read(0, u32::MAX)), FilesError::Invalid);
        assert_eq!(world.error(read(0, (1 << 20) + 1)), FilesError::Invalid);
        assert_eq!(world.error(read(u64::MAX, 1)), FilesError::Invalid);
        assert_eq!(world.error(read(i64::MAX as u64, 1 << 20)), FilesError::Invalid);
        let how = Some(FilesOpenHow { read: true, write: true, ..FilesOpenHow::default() });
        let open = |handle| Request::Open(FilesOpen { file: at("file"), handle, how });
        assert_eq!(world.error(open(0)), FilesError::Invalid);
        world.found(open(u64::MAX));
        let write = |handle, offset, bytes: usize| {
            Request::Write(FilesWrite { handle, offset, data: vec![0; bytes].into() })
        };
        assert_eq!(world.error(write(u64::MAX, 0, (1 << 20) + 1)), FilesError::Invalid);
        assert_eq!(world.error(write(u64::MAX, u64::MAX, 1)), FilesError::Invalid);
        assert_eq!(world.error(write(1, 0, 1)), FilesError::Stale);
        world.found(write(u64::MAX, 0, 0));
        let seek = FilesSeek { file: handle(u64::MAX), offset: u64::MAX, hole: true };
        assert!(matches!(
            world.error(Request::Seek(seek)),
            FilesError::Invalid | FilesError::Nothing
        ));
        let allocate = FilesAllocate { handle: u64::MAX, how: 99, offset: 0, length: 1 };
        assert_eq!(world.error(Request::Allocate(allocate)), FilesError::Invalid);
        let how = FilesRoom::Extend.into();
        let allocate = FilesAllocate { handle: u64::MAX, how, offset: u64::MAX, length: u64::MAX };
        assert_eq!(world.error(Request::Allocate(allocate)), FilesError::Invalid);
        let make =
            FilesMake { directory: at(""), name: b"n".to_vec(), r#type: 7, ..Default::default() };
        assert_eq!(world.error(Request::Make(make)), FilesError::Invalid);
        let set = FilesSet { at: at("file"), uid: Some(u32::MAX), ..FilesSet::default() };
        assert_eq!(world.error(Request::Set(set)), FilesError::Invalid);
        let set = FilesSet { at: at("file"), size: Some(u64::MAX), ..FilesSet::default() };
        assert_eq!(world.error(Request::Set(set)), FilesError::Invalid);
        let entries_max = u32::MAX;
        assert_eq!(
            world.listings(Request::List(FilesList { directory: at(""), entries_max })).len(),
            1
        );
        let mut replies = Vec::new();
        world.mount.answer(None, 0, &mut |reply| {
            replies.push(reply);
            true
        });
        assert!(
            matches!(&replies[0].reply, Some(Reply::Problem(p)) if p.error() == FilesError::Invalid)
        );
    }
}

#[test]
fn a_request_without_a_place_is_refused() {
    for world in World::each() {
        let requests = [
            Request::List(FilesList::default()),
            Request::Look(FilesLook::default()),
            Request::Read(FilesRead::default()),
            Request::Open(FilesOpen::default()),
            Request::Create(FilesCreate::default()),
            Request::Seek(FilesSeek::default()),
            Request::Set(FilesSet::default()),
            Request::Make(FilesMake::default()),
            Request::Link(FilesLink::default()),
            Request::Rename(FilesRename::default()),
            Request::Remove(FilesRemove::default()),
        ];
        for request in requests {
            assert_eq!(world.error(request.clone()), FilesError::Invalid, "{request:?}");
        }
    }
}

#[test]
fn temporary_files_of_a_synchronisation_are_not_there() {
    for world in World::each() {
        world.write("file", "x");
        let ours = format!("{TEMP_PREFIX}1");
        world.write(&ours, "staged");
        let listings =
            world.listings(Request::List(FilesList { directory: at(""), entries_max: 9 }));
        assert_eq!(listings[0].entries.len(), 1);
        for request in named(ours.as_bytes()).into_iter().chain(about(ours.as_bytes())) {
            let error = world.error(request.clone());
            let refused = matches!(error, FilesError::NotFound | FilesError::NotPermitted);
            assert!(refused, "{request:?}: {error:?}");
        }
        assert_eq!(fs::read(world.path(&ours)).expect("read"), b"staged");
    }
}

#[test]
fn what_is_no_regular_file_is_not_opened() {
    for world in World::each() {
        let fifo = FilesMake {
            directory: at(""),
            name: b"fifo".to_vec(),
            r#type: 0o010_000,
            owner: Some(FilesOwner { mode: 0o600, ..FilesOwner::default() }),
            ..FilesMake::default()
        };
        world.changed(Request::Make(fifo));
        let open = |path: &str| Request::Open(FilesOpen { file: at(path), handle: 1, how: None });
        assert_eq!(world.error(open("fifo")), FilesError::Unsupported);
        assert_eq!(world.error(open("")), FilesError::IsDirectory);
        let read = FilesRead { file: at("fifo"), length: 1, ..FilesRead::default() };
        assert_eq!(world.error(Request::Read(read)), FilesError::Unsupported, "and nobody waits");
    }
}

#[test]
fn so_many_files_may_be_open() {
    for world in World::each() {
        world.write("file", "x");
        let open = |handle| Request::Open(FilesOpen { file: at("file"), handle, how: None });
        let max = world.mount.open_max() as u64;
        for handle in 1..=max {
            world.found(open(handle));
        }
        assert_eq!(world.error(open(max + 1)), FilesError::Exhausted);
        let (directory, name) = (at(""), b"new".to_vec());
        let create = FilesCreate { directory, name, handle: max + 1, ..FilesCreate::default() };
        assert_eq!(world.error(Request::Create(create)), FilesError::Exhausted);
        assert!(!world.path("new").exists(), "and none is made");
        world.found(open(max));
    }
}
