//! What is done through the mount is done in the source.

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{FallocateFlags, RenameFlags};
use rustix::io::Errno;
use skync_mount::testing::Request;
use skync_mount::{Busy, SourceError, UnmountError};

use crate::support::{World, names, read, within};

fn errno(error: &std::io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

#[test]
fn what_is_written_is_in_the_source_once_the_file_is_closed() {
    let Some(world) = World::new(|_| {}) else { return };
    let path = world.at("f");
    within(move || std::fs::write(path, "content").unwrap());
    assert_eq!(std::fs::read(world.under("f")).unwrap(), b"content");
    assert_eq!(read(world.at("f")).unwrap(), "content");
    let content = vec![7u8; 3 << 20];
    let (path, written) = (world.at("large"), content.clone());
    within(move || std::fs::write(path, written).unwrap());
    assert!(std::fs::read(world.under("large")).unwrap() == content);
    let (shown, real) = (world.at("large"), world.under("large"));
    let shown = within(move || std::fs::metadata(shown).unwrap());
    let real = std::fs::metadata(real).unwrap();
    assert_eq!((shown.size(), shown.mtime_nsec()), (real.size(), real.mtime_nsec()));
}

#[test]
fn what_is_written_is_read_before_it_is_closed() {
    let Some(world) = World::new(|_| {}) else { return };
    let path = world.at("f");
    within(move || {
        let mut file = std::fs::File::create_new(&path).unwrap();
        for round in 0..200u32 {
            file.write_all(&round.to_le_bytes()).unwrap();
            assert_eq!(file.metadata().unwrap().len(), u64::from(round + 1) * 4);
            assert_eq!(std::fs::metadata(&path).unwrap().len(), u64::from(round + 1) * 4);
        }
        let other = std::fs::read(&path).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut own = Vec::new();
        file.read_to_end(&mut own).unwrap();
        assert!(own == other && own.len() == 800);
    });
}

#[test]
fn appending_goes_to_the_end_whoever_moved_it() {
    let Some(world) = World::new(|root| std::fs::write(root.join("log"), "one\n").unwrap()) else {
        return;
    };
    let path = world.at("log");
    let file = within(move || {
        let mut file = std::fs::File::options().append(true).open(path).unwrap();
        file.write_all(b"two\n").unwrap();
        file.sync_all().unwrap();
        file
    });
    world.outside(&["log"], |root| {
        let mut file = std::fs::File::options().append(true).open(root.join("log")).unwrap();
        file.write_all(b"three\n").unwrap();
    });
    within(move || {
        let mut file = file;
        file.write_all(b"four\n").unwrap();
    });
    assert_eq!(std::fs::read_to_string(world.under("log")).unwrap(), "one\ntwo\nthree\nfour\n");
    assert_eq!(read(world.at("log")).unwrap(), "one\ntwo\nthree\nfour\n");
}

#[test]
fn files_are_cut_and_grow() {
    let Some(world) = World::new(|root| std::fs::write(root.join("f"), "0123456789").unwrap())
    else {
        return;
    };
    let path = world.at("f");
    within(move || {
        assert_eq!(std::fs::read(&path).unwrap(), b"0123456789");
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        file.set_len(4).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"0123");
        file.set_len(6).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"0123\0\0");
        file.write_all_at(b"x", 8).unwrap();
        file.set_len(9).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"0123\0\0\0\0x");
        drop(std::fs::File::create(&path).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    });
    assert_eq!(std::fs::metadata(world.under("f")).unwrap().len(), 0);
}

#[test]
fn a_file_that_is_open_outlives_its_name() {
    let fill = |root: &Path| {
        std::fs::write(root.join("read"), "read me").unwrap();
        std::fs::write(root.join("over"), "replaced").unwrap();
        std::fs::write(root.join("new"), "new").unwrap();
    };
    let Some(world) = World::new(fill) else { return };
    let root = world.at("");
    within(move || {
        let reader = std::fs::File::open(root.join("read")).unwrap();
        let over = std::fs::File::open(root.join("over")).unwrap();
        let mut writer =
            std::fs::File::options().read(true).write(true).create_new(true).open(root.join("tmp"));
        let writer = writer.as_mut().unwrap();
        writer.write_all(b"written ").unwrap();
        std::fs::remove_file(root.join("read")).unwrap();
        std::fs::remove_file(root.join("tmp")).unwrap();
        std::fs::rename(root.join("new"), root.join("over")).unwrap();
        let mut bytes = [0; 16];
        assert_eq!(reader.read_at(&mut bytes, 0).unwrap(), 7);
        assert_eq!(&bytes[..7], b"read me");
        assert_eq!(over.read_at(&mut bytes, 0).unwrap(), 8);
        assert_eq!(&bytes[..8], b"replaced");
        writer.write_all(b"after").unwrap();
        writer.sync_all().unwrap();
        assert_eq!(writer.metadata().unwrap().len(), 13);
        assert_eq!(writer.metadata().unwrap().nlink(), 0);
        assert_eq!(writer.read_at(&mut bytes, 0).unwrap(), 13);
        assert_eq!(&bytes[..13], b"written after");
        writer.set_len(3).unwrap();
        assert_eq!(writer.metadata().unwrap().len(), 3);
        writer.set_permissions(PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(std::fs::read(root.join("over")).unwrap(), b"new");
    });
    assert_eq!(names(world.at("")), ["over"]);
    assert_eq!(names(world.under("")), ["over"]);
}

#[test]
fn several_names_are_one_file() {
    let Some(world) = World::new(|root| std::fs::write(root.join("a"), "x").unwrap()) else {
        return;
    };
    let root = world.at("");
    within(move || {
        std::fs::create_dir(root.join("d")).unwrap();
        std::fs::hard_link(root.join("a"), root.join("d/b")).unwrap();
        let of = |path: &str| {
            let metadata = std::fs::metadata(root.join(path)).unwrap();
            (metadata.ino(), metadata.nlink())
        };
        assert_eq!(of("a"), of("d/b"));
        assert_eq!(of("a").1, 2);
        std::fs::write(root.join("a"), "both").unwrap();
        assert_eq!(std::fs::read(root.join("d/b")).unwrap(), b"both");
        std::fs::remove_file(root.join("a")).unwrap();
        assert_eq!(of("d/b").1, 1);
        assert_eq!(std::fs::read(root.join("d/b")).unwrap(), b"both");
    });
}

#[test]
fn directories_move_while_they_are_known() {
    let fill = |root: &Path| {
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("a/b/f"), "x").unwrap();
    };
    let Some(world) = World::new(fill) else { return };
    let root = world.at("");
    within(move || {
        assert_eq!(std::fs::read(root.join("a/b/f")).unwrap(), b"x");
        let file = std::fs::File::options().append(true).open(root.join("a/b/f")).unwrap();
        std::fs::rename(root.join("a"), root.join("c")).unwrap();
        assert_eq!(std::fs::read(root.join("c/b/f")).unwrap(), b"x");
        (&file).write_all(b"y").unwrap();
        drop(file);
        std::fs::write(root.join("c/b/g"), "z").unwrap();
        let gone = std::fs::read(root.join("a/b/f")).unwrap_err();
        assert_eq!(errno(&gone), Some(Errno::NOENT));
        let below = std::fs::rename(root.join("c"), root.join("c/b/c")).unwrap_err();
        assert_eq!(errno(&below), Some(Errno::INVAL));
    });
    assert_eq!(std::fs::read(world.under("c/b/f")).unwrap(), b"xy");
    assert_eq!(names(world.under("c/b")), ["f", "g"]);
}

#[test]
fn a_rename_may_be_told_not_to_replace() {
    let fill = |root: &Path| {
        std::fs::write(root.join("a"), "a").unwrap();
        std::fs::write(root.join("b"), "b").unwrap();
    };
    let Some(world) = World::new(fill) else { return };
    let root = world.at("");
    within(move || {
        let rename = |flags| {
            let cwd = rustix::fs::CWD;
            rustix::fs::renameat_with(cwd, root.join("a"), cwd, root.join("b"), flags)
        };
        assert_eq!(rename(RenameFlags::NOREPLACE), Err(Errno::EXIST));
        assert_eq!(rename(RenameFlags::EXCHANGE), Err(Errno::INVAL));
        assert_eq!(rename(RenameFlags::empty()), Ok(()));
    });
    assert_eq!(std::fs::read(world.under("b")).unwrap(), b"a");
}

#[test]
fn times_and_permissions_are_set() {
    let Some(world) = World::new(|root| std::fs::write(root.join("f"), "x").unwrap()) else {
        return;
    };
    let path = world.at("f");
    let at = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    within(move || {
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        let refused = std::os::unix::fs::chown(&path, Some(12345), None).unwrap_err();
        assert_eq!(errno(&refused), Some(Errno::PERM));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o4751)).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_times(std::fs::FileTimes::new().set_modified(at)).unwrap();
        drop(file);
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o4751);
        assert_eq!(metadata.modified().unwrap(), at);
    });
    let real = std::fs::metadata(world.under("f")).unwrap();
    assert_eq!((real.mode() & 0o7777, real.modified().unwrap()), (0o4751, at));
}

#[test]
fn new_files_have_the_permissions_that_were_asked_for() {
    let Some(world) = World::new(|_| {}) else { return };
    let path = world.at("f");
    within(move || {
        let mut options = std::fs::File::options();
        drop(options.write(true).create_new(true).mode(0o604).open(&path).unwrap());
        let again = options.open(&path).unwrap_err();
        assert_eq!(errno(&again), Some(Errno::EXIST));
    });
    assert_eq!(std::fs::metadata(world.under("f")).unwrap().mode() & 0o7777, 0o604);
}

#[test]
fn room_is_made_and_taken_away() {
    let Some(world) = World::new(|_| {}) else { return };
    let path = world.at("f");
    within(move || {
        let file = std::fs::File::create_new(&path).unwrap();
        file.write_all_at(&[1; 16384], 0).unwrap();
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 16384, 4096).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 20480);
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, hole, 4096, 4096).unwrap();
        let content = std::fs::read(&path).unwrap();
        assert!(content[..4096] == [1; 4096] && content[4096..8192] == [0; 4096]);
        assert!(content[8192..16384].iter().all(|byte| *byte == 1));
    });
}

#[test]
fn an_error_of_the_source_is_told_to_who_writes() {
    let Some(world) = World::new(|root| std::fs::write(root.join("f"), "x").unwrap()) else {
        return;
    };
    let path = world.at("f");
    world.source.fail_next(Request::Write, SourceError::NoSpace);
    let told = within(move || {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(b"lost", 0).and_then(|()| file.sync_all()).unwrap_err()
    });
    assert_eq!(errno(&told), Some(Errno::NOSPC));
    world.source.fail_next(Request::Make, SourceError::Quota);
    let path = world.at("d");
    let told = within(move || std::fs::create_dir(path).unwrap_err());
    assert_eq!(errno(&told), Some(Errno::DQUOT));
}

#[test]
fn a_mount_in_use_stays_until_it_is_detached() {
    let Some(world) = World::new(|root| std::fs::write(root.join("f"), "x").unwrap()) else {
        return;
    };
    let path = world.at("f");
    let file = within(move || std::fs::File::open(path).unwrap());
    let refused = world.block_on(world.mounted().unmount(Busy::Refuse)).unwrap_err();
    assert!(matches!(refused, UnmountError::InUse(_)), "{refused}");
    assert_eq!(read(world.at("f")).unwrap(), "x");
    world.block_on(world.mounted().unmount(Busy::Detach)).unwrap();
    assert!(names(world.at("")).is_empty());
    let mut bytes = [0; 4];
    assert_eq!(within(move || file.read_at(&mut bytes, 0).unwrap()), 1);
}

#[test]
fn an_unmount_by_somebody_else_is_noticed() {
    let Some(world) = World::new(|_| {}) else { return };
    skync_mount::system::unmount(&world.at("")).unwrap();
    world.block_on(world.mounted().gone());
}

#[test]
fn what_is_mapped_is_what_is_there() {
    // There is no safe way to map a file: `cmp` and `dd` do not, but the loader does.
    let fill = |root: &Path| {
        let program = std::fs::read("/bin/true").unwrap();
        std::fs::write(root.join("true"), program).unwrap();
        std::fs::set_permissions(root.join("true"), PermissionsExt::from_mode(0o755)).unwrap();
    };
    let Some(world) = World::new(fill) else { return };
    let path = world.at("true");
    assert!(within(move || std::process::Command::new(path).status().unwrap().success()));
}
