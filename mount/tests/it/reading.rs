//! What a mount shows.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::io::Errno;
use skync_mount::testing::Request;

use crate::support::{World, names, read, within};

fn errno(error: std::io::Error) -> Option<Errno> {
    Errno::from_io_error(&error)
}

#[test]
fn a_tree_is_shown_as_it_is() {
    let fill = |root: &Path| {
        std::fs::create_dir_all(root.join("d/e")).unwrap();
        std::fs::write(root.join("d/e/f"), "deep").unwrap();
        std::fs::write(root.join("top"), "shallow").unwrap();
        std::fs::set_permissions(root.join("top"), PermissionsExt::from_mode(0o640)).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
    };
    let Some(world) = World::new(fill) else { return };
    assert_eq!(names(world.at("")), ["d", "pipe", "top"]);
    assert_eq!(names(world.at("d/e")), ["f"]);
    assert_eq!(read(world.at("d/e/f")).unwrap(), "deep");
    let (shown, real) = (world.at("top"), world.under("top"));
    let (shown, real) = within(move || {
        (std::fs::symlink_metadata(shown).unwrap(), std::fs::symlink_metadata(real).unwrap())
    });
    let of = |m: &std::fs::Metadata| {
        (m.ino(), m.mode(), m.nlink(), m.size(), m.blocks(), m.mtime_nsec(), m.ctime_nsec())
    };
    assert_eq!(of(&shown), of(&real));
    let pipe = world.at("pipe");
    assert!(within(move || std::fs::symlink_metadata(pipe).unwrap().file_type().is_fifo()));
}

#[test]
fn names_need_not_be_text() {
    let name = OsStr::from_bytes(b"caf\xe9 \xff\n");
    let fill = |root: &Path| std::fs::write(root.join(name), "x").unwrap();
    let Some(world) = World::new(fill) else { return };
    assert_eq!(read(world.at(name)).unwrap(), "x");
    let path = world.at("");
    let listed = within(move || {
        std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
    });
    assert_eq!(listed, [name]);
}

#[test]
fn what_is_known_costs_no_round_trip() {
    let fill = |root: &Path| {
        for directory in 0..20 {
            let path = root.join(format!("d{directory}"));
            std::fs::create_dir(&path).unwrap();
            for file in 0..10 {
                std::fs::write(path.join(format!("f{file}")), "x").unwrap();
            }
        }
    };
    let Some(world) = World::new(fill) else { return };
    names(world.at("d19"));
    world.source.forget_counts();
    for directory in 0..20 {
        assert_eq!(names(world.at(format!("d{directory}"))).len(), 10);
        let path = world.at(format!("d{directory}/f3"));
        assert_eq!(within(move || std::fs::metadata(path).unwrap().len()), 1);
        assert!(read(world.at(format!("d{directory}/missing"))).is_err());
    }
    assert_eq!(world.source.round_trips(), 0, "{:?}", world.source.counts());
}

#[test]
fn a_file_that_does_not_exist_is_asked_for_once_by_the_kernel() {
    let Some(world) = World::new(|_| {}) else { return };
    for _ in 0..3 {
        assert!(read(world.at("nothing")).is_err());
    }
    assert_eq!(world.source.count(Request::Look), 0);
    world.outside(&["nothing"], |root| std::fs::write(root.join("nothing"), "something").unwrap());
    assert_eq!(read(world.at("nothing")).unwrap(), "something");
}

#[test]
fn links_lead_to_below_the_root_or_cannot_be_read() {
    let fill = |root: &Path| {
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("file"), "here").unwrap();
        symlink("../../file", root.join("a/b/relative")).unwrap();
        symlink(root.join("file"), root.join("a/absolute")).unwrap();
        symlink("/etc/passwd", root.join("outside")).unwrap();
        symlink("../../../../../../etc/passwd", root.join("a/b/up")).unwrap();
        symlink(".", root.join("dot")).unwrap();
        symlink("dot/dot/../../../etc", root.join("sly")).unwrap();
    };
    let Some(world) = World::new(fill) else { return };
    assert_eq!(read(world.at("a/b/relative")).unwrap(), "here");
    assert_eq!(read(world.at("a/absolute")).unwrap(), "here");
    for bad in ["outside", "a/b/up", "sly"] {
        let (path, link) = (world.at(bad), world.at(bad));
        assert_eq!(errno(read(path).unwrap_err()), Some(Errno::PERM), "{bad}");
        assert_eq!(errno(within(move || std::fs::read_link(link).unwrap_err())), Some(Errno::PERM));
    }
    let path = world.at("a/b/relative");
    assert_eq!(within(move || std::fs::read_link(path).unwrap()), Path::new("../../file"));
}

#[test]
fn links_can_be_shown_as_they_are() {
    let fill = |root: &Path| symlink("/etc/hostname", root.join("l")).unwrap();
    let raw = |options: &mut skync_mount::Options| options.raw_symlinks = true;
    let Some(world) = World::with(fill, raw) else { return };
    let path = world.at("l");
    assert_eq!(within(move || std::fs::read_link(path).unwrap()), Path::new("/etc/hostname"));
}

#[test]
fn inode_numbers_are_the_same_after_the_next_mount() {
    let fill = |root: &Path| {
        std::fs::create_dir(root.join("d")).unwrap();
        for file in 0..50 {
            std::fs::write(root.join(format!("d/{file}")), "x").unwrap();
        }
    };
    let Some(mut world) = World::new(fill) else { return };
    let numbers = |world: &World| {
        let path = world.at("d");
        within(move || {
            let mut numbers: Vec<(std::ffi::OsString, u64)> = std::fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap())
                .map(|entry| (entry.file_name(), entry.metadata().unwrap().ino()))
                .collect();
            numbers.sort();
            numbers
        })
    };
    let before = numbers(&world);
    world.unmount();
    world.mount(|_| {});
    assert_eq!(numbers(&world), before);
}

#[test]
fn a_sparse_file_is_read_where_it_has_data() {
    const FAR: u64 = 5 << 40;
    let fill = |root: &Path| {
        let file = std::fs::File::create(root.join("huge")).unwrap();
        file.set_len(FAR + 4).unwrap();
        file.write_all_at(b"tail", FAR).unwrap();
    };
    let Some(world) = World::new(fill) else { return };
    let path = world.at("huge");
    within(move || {
        let file = std::fs::File::open(path).unwrap();
        assert_eq!(file.metadata().unwrap().len(), FAR + 4);
        let mut bytes = [0; 8];
        assert_eq!(file.read_at(&mut bytes, FAR).unwrap(), 4);
        assert_eq!(&bytes[..4], b"tail");
        assert_eq!(file.read_at(&mut bytes, FAR / 2).unwrap(), 8);
        assert_eq!(bytes, [0; 8]);
        let data = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)).unwrap();
        assert!(data > FAR / 2, "{data}");
    });
}

#[test]
fn a_large_file_arrives_whole() {
    let content: Vec<u8> =
        (0..9 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let expected = content.clone();
    let Some(world) = World::new(|root| std::fs::write(root.join("large"), content).unwrap())
    else {
        return;
    };
    let path = world.at("large");
    assert!(within(move || std::fs::read(path).unwrap()) == expected);
}

#[test]
fn room_is_shown_and_extended_attributes_are_not() {
    let Some(world) = World::new(|root| std::fs::write(root.join("f"), "x").unwrap()) else {
        return;
    };
    let path = world.at("f");
    within(move || {
        let space = rustix::fs::statvfs(&path).unwrap();
        assert!(space.f_blocks > 0 && space.f_namemax == 255);
        let mut value = [0u8; 16];
        let got = rustix::fs::getxattr(&path, "user.x", &mut value);
        assert_eq!(got, Err(Errno::OPNOTSUPP));
        let set = rustix::fs::setxattr(&path, "user.x", b"y", rustix::fs::XattrFlags::empty());
        assert_eq!(set, Err(Errno::OPNOTSUPP));
    });
}

#[test]
fn a_mount_that_is_read_only_takes_nothing() {
    let fill = |root: &Path| {
        std::fs::create_dir(root.join("d")).unwrap();
        std::fs::write(root.join("f"), "x").unwrap();
    };
    let Some(world) = World::with(fill, |options| options.writable = false) else { return };
    let root = world.at("");
    within(move || {
        let refused = |done: std::io::Result<()>| {
            assert_eq!(errno(done.unwrap_err()), Some(Errno::ROFS));
        };
        refused(std::fs::write(root.join("new"), "x"));
        refused(std::fs::write(root.join("f"), "y"));
        refused(std::fs::OpenOptions::new().append(true).open(root.join("f")).map(drop));
        refused(std::fs::create_dir(root.join("e")));
        refused(std::fs::remove_dir(root.join("d")));
        refused(std::fs::remove_file(root.join("f")));
        refused(std::fs::rename(root.join("f"), root.join("g")));
        refused(std::fs::hard_link(root.join("f"), root.join("g")));
        refused(symlink("f", root.join("l")));
        refused(std::fs::set_permissions(root.join("f"), PermissionsExt::from_mode(0o600)));
        assert_eq!(std::fs::read(root.join("f")).unwrap(), b"x");
    });
    assert_eq!(world.source.count(Request::Open), 0);
}
