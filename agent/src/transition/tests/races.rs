//! What happens when the tree moves under the applier, or the disk does not play along.

use super::*;
use crate::own::removal;

#[test]
fn a_parent_that_became_a_link_lets_nothing_out() {
    for openat2 in [true, false] {
        let mut world = World::new();
        if !openat2 {
            world.root = world.root.without_openat2();
        }
        let secret = world.outside.join("secret");
        std::fs::create_dir_all(secret.join("sub")).expect("made");
        std::fs::write(secret.join("victim"), b"x").expect("written");
        std::fs::write(secret.join("sub/victim"), b"x").expect("written");
        world.put("dir/victim", b"x");
        world.put("dir/sub/victim", b"x");
        assert_eq!(world.scan().files, 2);
        removal::remove(&world.at("dir"), "").expect("removed");
        symlink(&secret, world.at("dir")).expect("a link");
        let x = || Some(file(b"x", 0o644));
        let mut steps = small("dir/new", None, b"n", 0o644);
        steps.extend(small("dir/sub/new", None, b"n", 0o644));
        for at in ["dir/victim", "dir/sub/victim"] {
            steps.extend(small(at, x(), b"changed", 0o644));
            steps.extend(step(at, x(), Some(file(b"x", 0o755))));
            steps.extend(step(at, x(), None));
        }
        steps.extend(step("dir/made", None, Some(directory())));
        steps.extend(step("dir/link", None, Some(link("x"))));
        steps.extend(step("dir/sub", Some(directory()), None));
        steps.extend(step("dir", Some(directory()), None));
        let statuses = world.apply(steps);
        assert!(statuses.iter().all(|s| *s != Status::Applied), "{statuses:?}");
        assert_eq!(std::fs::read(secret.join("victim")).expect("there"), b"x");
        assert_eq!(std::fs::read(secret.join("sub/victim")).expect("there"), b"x");
        assert_eq!(std::fs::read_dir(&secret).expect("listed").count(), 2);
        let mode = std::fs::metadata(secret.join("victim")).expect("there").mode();
        assert_eq!(mode & 0o111, 0);
        world.assert_clean();
    }
}

#[test]
fn a_parent_that_is_swapped_all_the_time_lets_nothing_out() {
    let world = World::new();
    let secret = world.outside.join("secret");
    std::fs::create_dir(&secret).expect("made");
    std::fs::create_dir(world.at("dir")).expect("made");
    symlink(&secret, world.at("other")).expect("a link");
    let stop = AtomicBool::new(false);
    let root = DirFd::open(world.root.path()).expect("opened");
    let [dir, other] = [b"dir".as_slice(), b"other"].map(|n| Name::parse(n).expect("a name"));
    let applied = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                root.exchange(&dir, &root, &other).expect("swapped");
            }
        });
        let steps: Vec<_> = (0..3000)
            .flat_map(|i| small(&format!("dir/sub{}", i), None, b"content", 0o644))
            .collect();
        let statuses = world.apply(steps);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        statuses.iter().filter(|s| **s == Status::Applied).count()
    });
    assert_eq!(std::fs::read_dir(&secret).expect("listed").count(), 0);
    let real = if world.at("dir").is_symlink() { "other" } else { "dir" };
    assert_eq!(std::fs::read_dir(world.at(real)).expect("listed").count(), applied);
}

#[test]
fn a_file_that_changes_all_the_time_is_never_lost() {
    // Whatever the writer wrote last is either there or was there when the applier compared it.
    let world = World::new();
    let name = Name::parse(b"a").expect("a name");
    let temp = Name::parse(b".skync-tmp-editor").expect("a name");
    let root = DirFd::open(world.root.path()).expect("opened");
    for round in 0..300_u32 {
        let _ = root.remove_file(&name);
        world.put("a", b"expected");
        let theirs = format!("theirs {round}").into_bytes();
        let status = std::thread::scope(|scope| {
            let editor = scope.spawn(|| {
                world.put(".skync-tmp-editor", &theirs);
                root.rename_over(&temp, &root, &name).expect("renamed");
            });
            let steps = small("a", Some(file(b"expected", 0o644)), b"ours", 0o644);
            let status = world.apply(steps).remove(0);
            editor.join().expect("the editor ends");
            status
        });
        let there = std::fs::read(world.at("a")).expect("there");
        // The editor wrote without comparing, after us or before; its version must be there.
        assert_eq!(there, theirs, "round {round}: {status:?}");
    }
    world.assert_clean();
}

/// A small file system of its own, if this process may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let place = tempfile::tempdir().expect("a directory");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", size, "none"])
            .arg(place.path())
            .stderr(std::process::Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(place));
        }
        println!("skipped: this process may not mount a tmpfs");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(done.is_ok_and(|status| status.success()), "the tmpfs was not unmounted");
    }
}

#[test]
fn a_full_disk_fails_what_does_not_fit_and_nothing_else() {
    let Some(disk) = SmallDisk::mount("size=1m") else {
        return;
    };
    for apart in [false, true] {
        let guard = tempfile::tempdir_in(disk.0.path()).expect("a directory");
        let elsewhere = tempfile::tempdir().expect("a directory");
        let staging = if apart { elsewhere.path().join("s") } else { guard.path().join("staging") };
        let world = World::with_staging(guard, &staging);
        world.put("kept", b"old");
        let large = vec![1; 3_000_000];
        let mut steps = with_content("large", None, &large, 0o644, 256 * 1024);
        steps.extend(with_content("kept", Some(file(b"old", 0o644)), &large, 0o644, 256 * 1024));
        steps.extend(small("small", None, b"fits", 0o644));
        let statuses = world.apply(steps);
        for status in &statuses[..2] {
            assert!(matches!(status, Status::Failed { no_space: true, .. }), "{status:?}");
            assert!(problem(status).contains("the disk is full"), "{status:?}");
        }
        assert_eq!(statuses[2], Status::Applied);
        assert_eq!(std::fs::read(world.at("kept")).expect("there"), b"old");
        assert!(!world.at("large").exists());
        assert_eq!(world.scan().temporaries, []);
        if !apart {
            world.assert_clean();
        }
    }
}

#[test]
fn staging_on_another_file_system_works_the_same() {
    let Some(disk) = SmallDisk::mount("size=8m") else {
        return;
    };
    // Apart from the start, and found out only when a rename does not get there.
    for is_known in [true, false] {
        let guard = tempfile::tempdir().expect("a directory");
        let world = World::with_staging(guard, &disk.0.path().join("staging"));
        assert!(world.staging.is_apart());
        if !is_known {
            let inner = world.outside.join("staging");
            let staging = Staging::open(&inner, &world.root).expect("opened");
            assert!(!staging.is_apart());
            let world = World { staging, ..world };
            let mount = world.at("mounted");
            std::fs::create_dir(&mount).expect("made");
            let bind = std::process::Command::new("mount")
                .arg("--bind")
                .args([disk.0.path(), &mount])
                .status();
            assert!(bind.is_ok_and(|status| status.success()));
            let statuses = apply_all_kinds(&world, "mounted/");
            let done = std::process::Command::new("umount").arg("-l").arg(&mount).status();
            assert!(done.is_ok_and(|status| status.success()));
            assert_eq!(statuses, vec![Status::Applied; 6]);
            continue;
        }
        assert_eq!(apply_all_kinds(&world, ""), vec![Status::Applied; 6]);
        let root = world.scan().root.expect("a root");
        assert_eq!(root.find(&path("large")), Some(&file(&vec![4; 200_000], 0o700)));
        assert_eq!(world.scan().temporaries, []);
    }
}

fn apply_all_kinds(world: &World, prefix: &str) -> Vec<Status> {
    let at = |name: &str| format!("{prefix}{name}");
    let large = vec![3; 200_000];
    let larger = vec![4; 200_000];
    let mut steps = small(&at("small"), None, b"one", 0o644);
    steps.extend(with_content(&at("large"), None, &large, 0o700, 70_000));
    let old = Some(file(&large, 0o700));
    steps.extend(with_content(&at("large"), old, &larger, 0o700, 70_000));
    steps.extend(small(&at("small"), Some(file(b"one", 0o644)), b"two", 0o644));
    steps.extend(step(&at("link"), None, Some(link("one"))));
    steps.extend(step(&at("link"), Some(link("one")), Some(link("two"))));
    world.apply(steps)
}
