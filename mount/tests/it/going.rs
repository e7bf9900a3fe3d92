//! How a mount goes: it alone, wherever it is, and completely.

use std::fs::File;
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};
use skync_mount::system;

use crate::support::{World, names, wait_for, within};

fn plain(root: &Path) {
    std::fs::write(root.join("f"), "f").unwrap();
}

/// Opens the root, as a shell has it that works there.
fn enter(at: PathBuf) -> File {
    within(move || File::open(at).unwrap())
}

#[test]
fn a_mount_that_ends_leaves_another_one_at_its_place_alone() {
    let Some(mut world) = World::new(plain) else { return };
    let at = world.at("");
    let shell = enter(at.clone());
    system::detach(world.mounted().at()).unwrap();
    // Drops the first one.
    world.mount(|_| {});
    assert!(system::is_mount_point(world.mounted().at()));
    assert_eq!(names(at), ["f"]);
    drop(shell);
    world.unmount();
}

#[test]
fn a_mount_goes_from_where_it_was_moved_to() {
    let Some(mut world) = World::new(plain) else { return };
    let (before, after) = (world.beside("before"), world.beside("my files"));
    std::fs::create_dir_all(before.join("mount")).unwrap();
    world.mount(|options| options.at = before.join("mount"));
    std::fs::rename(&before, &after).unwrap();
    assert!(system::is_mount_point(&after.join("mount")));
    world.unmount();
    assert!(!system::is_mount_point(&after.join("mount")));
    std::fs::remove_dir(after.join("mount")).unwrap();
}

#[test]
fn a_mount_below_another_one_is_not_reached_through_it() {
    let Some(mut world) = World::new(plain) else { return };
    let at = world.mounted().at().to_owned();
    let none = MountFlags::empty();
    if rustix::mount::mount("tmpfs", &at, "tmpfs", none, None).is_err() {
        eprintln!("skipped: only root mounts something else");
        return;
    }
    let refused = world.block_on(world.mounted().unmount(skync_mount::Busy::Detach));
    assert!(refused.unwrap_err().to_string().contains("refuses"));
    rustix::mount::unmount(&at, UnmountFlags::empty()).unwrap();
    world.unmount();
    assert!(!system::is_mount_point(&at));
}

#[test]
fn a_mount_whose_connection_was_ended_is_not_left_behind() {
    let Some(mut world) = World::new(plain) else { return };
    let at = world.at("");
    let root = at.clone();
    let device = within(move || std::fs::metadata(root).unwrap().st_dev());
    let control = world.beside("control");
    std::fs::create_dir(&control).unwrap();
    let none = MountFlags::empty();
    if rustix::mount::mount("fusectl", &control, "fusectl", none, None).is_err() {
        eprintln!("skipped: only root ends connections");
        return;
    }
    let abort = control.join(rustix::fs::minor(device).to_string()).join("abort");
    let aborted = std::fs::write(abort, "1");
    rustix::mount::unmount(&control, UnmountFlags::DETACH).unwrap();
    aborted.unwrap();
    world.block_on(world.mounted().gone());
    assert!(!system::is_mount_point(world.mounted().at()));
    world.unmount();
}

#[test]
fn what_was_detached_is_served_on_and_gone_with_its_last_user() {
    let Some(world) = World::new(plain) else { return };
    let shell = enter(world.at(""));
    world.block_on(world.mounted().detach()).unwrap();
    assert!(!system::is_mount_point(world.mounted().at()));
    // Once more does nothing, whatever is there by now.
    world.block_on(world.mounted().detach()).unwrap();
    drop(shell);
    wait_for("the end of the mount", || {
        world.block_on(async {
            let now = std::time::Duration::ZERO;
            tokio::time::timeout(now, world.mounted().gone()).await.is_ok()
        })
    });
}

#[test]
fn a_place_that_is_another_one_by_now_is_refused() {
    let Some(mut world) = World::new(plain) else { return };
    let (other, link) = (world.beside("other"), world.beside("link"));
    std::fs::create_dir(&other).unwrap();
    symlink(&other, &link).unwrap();
    world.try_mount(|options| options.at = link.clone()).unwrap_err();
    assert!(!system::is_mount_point(&other));
}
