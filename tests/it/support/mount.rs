//! A small file system of a test's own, to be filled.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A small file system, unmounted with the value.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// Mounts one of so many MiB; says so and returns nothing if that is not possible here.
    pub(crate) fn new(place: &Path, mebibytes: u32) -> Option<Self> {
        std::fs::create_dir_all(place).expect("made");
        let size = format!("size={mebibytes}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(place).stderr(Stdio::null());
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(Self(place.to_owned()));
        }
        eprintln!("skipped: no file system can be mounted here");
        None
    }

    /// Gives it more room.
    pub(crate) fn grow(&self, mebibytes: u32) {
        let size = format!("remount,size={mebibytes}m");
        let grown = Command::new("mount").args(["-o", &size]).arg(&self.0).status();
        assert!(grown.expect("mount runs").success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: after a failed test a session may still be in it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
