//! `skync mount` through the real binary, on directories, and some of it in Docker.
//!
//! Nothing here knows how soon a change shows, only that it does.

mod deaths;
mod life;
mod outage;
mod reading;
mod refusals;
mod review;
mod suites;
mod users;
mod with_up;
mod writing;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::processes::Kind;
use crate::support::{World, arrives, put};

/// What the kernel answers where nothing may be changed.
const READ_ONLY: i32 = 30;
/// And where a file cannot be read.
const INPUT_OUTPUT: i32 = 5;
/// And where the process of a mount is gone.
const NOT_CONNECTED: i32 = 107;

/// A world with a profile of this driver, in a system that can mount. Says why if there is none.
fn world() -> Option<World> {
    can_mount().then(World::new)
}

/// True if this user can mount. If the tests are to fail without that (`SKYNC_REQUIRE`), they do.
fn can_mount() -> bool {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let required = std::env::var("SKYNC_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|what| what == "fuse");
    assert!(device.is_ok() || !is_required, "/dev/fuse cannot be opened");
    if device.is_err() {
        eprintln!("skipped: /dev/fuse cannot be opened");
    }
    device.is_ok()
}

impl World {
    /// Mounts, with these flags, and says where.
    #[track_caller]
    fn mount(&self, flags: &[&str]) -> PathBuf {
        let outcome = self.run(&[&["mount"], flags].concat()).expect_code(0);
        let at = PathBuf::from(outcome.stdout.trim_end());
        assert!(self.is_mounted(&at), "nothing is mounted at {at:?}: {}", outcome.stderr);
        at
    }

    /// Where a mount is if nothing else is said.
    fn usual_place(&self) -> PathBuf {
        self.base().join("home/.remote/directory")
    }

    /// True if a mount of ours is there, dead or alive.
    fn is_mounted(&self, at: &Path) -> bool {
        self.mounts().iter().any(|mounted| mounted == at)
    }

    /// A session that is there now.
    fn session(&self) -> u32 {
        self.process(Kind::Session)
    }
}

/// Reads a file of a mount as text.
#[track_caller]
fn read(at: &Path, name: &str) -> String {
    std::fs::read_to_string(at.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The names in a directory, sorted.
#[track_caller]
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{directory:?}: {e}"));
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("an entry").file_name().to_string_lossy().into_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// The number of the error, if it is one.
fn number<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[track_caller]
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
