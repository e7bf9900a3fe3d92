//! Those who watch the mount hear of what others change in the source.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::support::{World, names, read, wait_for, within};

/// A watch of a directory, and what it has heard of so far.
struct Watch {
    inotify: OwnedFd,
    heard: BTreeSet<(String, &'static str)>,
}

const KINDS: [(ReadFlags, &str); 7] = [
    (ReadFlags::CREATE, "create"),
    (ReadFlags::DELETE, "delete"),
    (ReadFlags::MODIFY, "modify"),
    (ReadFlags::CLOSE_WRITE, "close"),
    (ReadFlags::ATTRIB, "attrib"),
    (ReadFlags::MOVED_FROM, "from"),
    (ReadFlags::MOVED_TO, "to"),
];

impl Watch {
    fn new(directory: PathBuf) -> Self {
        let inotify = within(move || {
            let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
            inotify::add_watch(&inotify, &directory, WatchFlags::ALL_EVENTS).unwrap();
            inotify
        });
        Self { inotify, heard: BTreeSet::new() }
    }

    fn hear(&mut self) {
        let mut space = [MaybeUninit::uninit(); 8192];
        let mut reader = inotify::Reader::new(&self.inotify, &mut space);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
                    let kinds = KINDS.iter().filter(|(flag, _)| event.events().contains(*flag));
                    self.heard
                        .extend(kinds.map(|(_, kind)| (name.clone().unwrap_or_default(), *kind)));
                }
                Err(Errno::AGAIN) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[track_caller]
    fn expect(&mut self, name: &str, kind: &'static str) {
        wait_for(&format!("{kind} of {name}"), || {
            self.hear();
            self.heard.contains(&(name.to_owned(), kind))
        });
    }
}

fn plain(root: &Path) {
    std::fs::create_dir(root.join("d")).unwrap();
    std::fs::write(root.join("d/f"), "old").unwrap();
}

#[test]
fn a_new_content_is_an_event() {
    let Some(world) = World::new(plain) else { return };
    read(world.at("d/f")).unwrap();
    let mut watch = Watch::new(world.at("d"));
    world.outside(&["d/f"], |root| std::fs::write(root.join("d/f"), "newer").unwrap());
    watch.expect("f", "modify");
    watch.expect("f", "close");
    assert_eq!(read(world.at("d/f")).unwrap(), "newer");
}

#[test]
fn names_that_come_and_go_are_events() {
    let Some(world) = World::new(plain) else { return };
    assert_eq!(names(world.at("d")), ["f"]);
    let mut watch = Watch::new(world.at("d"));
    world.outside(&["d/new"], |root| std::fs::write(root.join("d/new"), "new").unwrap());
    watch.expect("new", "create");
    assert_eq!(read(world.at("d/new")).unwrap(), "new");
    world.outside(&["d/sub"], |root| std::fs::create_dir(root.join("d/sub")).unwrap());
    watch.expect("sub", "create");
    assert_eq!(names(world.at("d")), ["f", "new", "sub"]);
    world
        .outside(&["d/link"], |root| std::os::unix::fs::symlink("f", root.join("d/link")).unwrap());
    watch.expect("link", "create");
    assert_eq!(read(world.at("d/link")).unwrap(), "old");
    for name in ["d/new", "d/link"] {
        world.outside(&[name], |root| std::fs::remove_file(root.join(name)).unwrap());
    }
    world.outside(&["d/sub"], |root| std::fs::remove_dir(root.join("d/sub")).unwrap());
    for name in ["new", "link", "sub"] {
        watch.expect(name, "delete");
    }
    assert_eq!(names(world.at("d")), ["f"]);
    assert!(world.under("d/f").exists());
}

#[test]
fn other_permissions_are_an_event() {
    let Some(world) = World::new(plain) else { return };
    read(world.at("d/f")).unwrap();
    let mut watch = Watch::new(world.at("d"));
    std::fs::set_permissions(world.under("d/f"), PermissionsExt::from_mode(0o700)).unwrap();
    world.source.notice("d/f", false);
    watch.expect("f", "attrib");
}

#[test]
fn events_come_on_a_mount_that_is_read_only_and_do_nothing() {
    let Some(world) = World::with(plain, |options| options.writable = false) else { return };
    assert_eq!(names(world.at("d")), ["f"]);
    let mut watch = Watch::new(world.at("d"));
    world.outside(&["d/f", "d/new"], |root| {
        std::fs::remove_file(root.join("d/f")).unwrap();
        std::fs::write(root.join("d/new"), "new").unwrap();
    });
    watch.expect("f", "delete");
    watch.expect("new", "create");
    assert_eq!(read(world.at("d/new")).unwrap(), "new");
    assert_eq!(std::fs::read(world.under("d/new")).unwrap(), b"new");
}

#[test]
fn what_is_done_through_the_mount_is_one_event() {
    let Some(world) = World::new(plain) else { return };
    assert_eq!(names(world.at("d")), ["f"]);
    let mut watch = Watch::new(world.at("d"));
    let path = world.at("d");
    within(move || {
        std::fs::write(path.join("own"), "own").unwrap();
        std::fs::remove_file(path.join("f")).unwrap();
        std::fs::create_dir(path.join("last")).unwrap();
    });
    watch.expect("last", "create");
    world.told();
    watch.hear();
    let of = |name: &str| -> Vec<&str> {
        watch.heard.iter().filter(|(at, _)| at == name).map(|(_, kind)| *kind).collect()
    };
    assert_eq!(of("own"), ["close", "create", "modify"]);
    assert_eq!(of("f"), ["delete"]);
}

#[test]
fn a_mount_is_not_in_use_because_of_events() {
    let Some(mut world) = World::new(plain) else { return };
    read(world.at("d/f")).unwrap();
    for round in 0..50 {
        let content = format!("{round}");
        world.source.outside(&["d/f"], |root| std::fs::write(root.join("d/f"), content).unwrap());
    }
    world.unmount();
}

#[test]
fn a_program_is_told_of_and_not_opened_for_writing() {
    let fill = |root: &Path| {
        plain(root);
        std::fs::set_permissions(root.join("d/f"), PermissionsExt::from_mode(0o755)).unwrap();
    };
    let Some(world) = World::new(fill) else { return };
    read(world.at("d/f")).unwrap();
    let mut watch = Watch::new(world.at("d"));
    world.outside(&["d/f", "d/new"], |root| {
        std::fs::write(root.join("d/f"), "newer").unwrap();
        std::fs::write(root.join("d/new"), "new").unwrap();
        std::fs::set_permissions(root.join("d/new"), PermissionsExt::from_mode(0o755)).unwrap();
    });
    watch.expect("f", "modify");
    watch.expect("new", "create");
    world.told();
    watch.hear();
    assert!(!watch.heard.iter().any(|(_, kind)| *kind == "close"), "{:?}", watch.heard);
    assert_eq!(read(world.at("d/f")).unwrap(), "newer");
    assert_eq!(read(world.at("d/new")).unwrap(), "new");
}

/// A process that is killed is gone only if no thread of it waits for a reply that nobody gives any
/// more: the thread that touches the mount must not be the one that keeps the kernel's device open.
#[test]
fn the_thread_that_makes_events_happen_has_not_the_device_open() {
    let Some(world) = World::new(|root| std::fs::write(root.join("f"), "1").unwrap()) else {
        return;
    };
    world.told();
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let is_it = |task: &PathBuf| {
            std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "mount-events\n")
        };
        tasks.map(|task| task.path()).filter(is_it).collect::<Vec<_>>()
    };
    let open = |task: &Path| {
        let files = std::fs::read_dir(task.join("fd")).into_iter().flatten().flatten();
        files.filter_map(|file| std::fs::read_link(file.path()).ok()).collect::<BTreeSet<_>>()
    };
    let device = Path::new("/dev/fuse");
    assert!(
        open(Path::new("/proc/self/task").join(std::process::id().to_string()).as_path())
            .contains(device)
    );
    wait_for("a thread without the device", || {
        let threads = threads();
        !threads.is_empty() && threads.iter().all(|task| !open(task).contains(device))
    });
}
