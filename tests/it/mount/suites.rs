//! What others wrote to judge a filesystem: `pjdfstest` (what POSIX asks for) and `fsx` (random
//! reads, writes, truncations and memory maps of one file, against what is known of it).
//!
//! `scripts/test` builds both and says where in `SKYNC_SUITES`.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{put, world};
use crate::support::{Outcome, World};

/// Which of the features that a file system may have are asked for, how long the suite waits where
/// a time must differ (the kernel's clock ticks every 4 ms), and other users to act as.
const CONFIGURATION: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.02
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// What does not apply, each with its reason.
///
/// - `open::etxtbsy`: one of its three cases opens a running program with `O_RDONLY | O_TRUNC`. The
///   kernel refuses that where it truncates by itself; a filesystem that truncates with the open,
///   in one round trip, is not asked. The two cases that write are refused as they should be.
const NOT_APPLICABLE: [&str; 1] = ["open::etxtbsy"];

/// Fewer that pass mean that something was left out: `passthrough_hp` has 341, `sshfs` 146.
const PASSED_MIN: usize = 370;

/// Operations of each run of `fsx`.
const FSX_OPERATIONS: &str = "2000";

/// Where a suite is; says why if there is none.
fn suite(name: &str) -> Option<PathBuf> {
    let required = std::env::var("SKYNC_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|what| what == "suites");
    let found = std::env::var_os("SKYNC_SUITES").map(|suites| Path::new(&suites).join(name));
    let found = found.filter(|program| program.exists());
    assert!(found.is_some() || !is_required, "there is no `{name}` in SKYNC_SUITES");
    if found.is_none() {
        eprintln!("skipped: there is no `{name}` (scripts/test builds it)");
    }
    found
}

/// Everybody may go through the world's own directory, which is nobody else's else.
fn let_others_in(world: &World) {
    let mode = PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(world.base(), mode).expect("set");
}

fn failed(said: &str) -> BTreeSet<&str> {
    let lines = said.lines().filter_map(|line| line.strip_suffix("FAILED"));
    lines.map(str::trim).collect()
}

fn passed(said: &str) -> usize {
    let summary = said.lines().find(|line| line.starts_with("Summary:"));
    let count = summary.and_then(|line| line.split(", ").find_map(|p| p.strip_suffix(" passed")));
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no summary:\n{said}"))
}

#[test]
fn it_is_as_posix_wants_it() {
    let (Some(world), Some(program)) = (world(), suite("pjdfstest")) else { return };
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: the suite acts as other users, which needs root");
        return;
    }
    let_others_in(&world);
    put(world.base(), "pjdfstest.toml", CONFIGURATION);
    // It looks at times of access, and the mirror reads.
    world.write(".skyncignore", "tests/\n");
    // The links that it makes are absolute, and lead through the mount.
    let at = world.path("at");
    let at = at.to_str().expect("text");
    world.mount(&["--at", at, "--rw", "--owners", "--allow-other", "--raw-symlinks"]);
    let tests = Path::new(at).join("tests");
    std::fs::create_dir(&tests).expect("made");
    // The suite acts as others, too, and the root of a sandbox in a directory is its user's alone.
    for directory in [Path::new(at), &tests] {
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).expect("set");
    }
    let mut run = Command::new(program);
    run.arg("-c").arg(world.path("pjdfstest.toml")).arg("-p").arg(&tests);
    let outcome = Outcome::of(run.output().expect("it runs"));
    let unexplained: Vec<_> =
        failed(&outcome.stdout).into_iter().filter(|name| !NOT_APPLICABLE.contains(name)).collect();
    assert!(unexplained.is_empty(), "{unexplained:?}\n{}\n{}", outcome.stdout, outcome.stderr);
    let passed = passed(&outcome.stdout);
    assert!(passed >= PASSED_MIN, "only {passed} passed\n{}", outcome.stdout);
}

#[test]
fn a_file_holds_what_was_written_to_it() {
    let (Some(world), Some(program)) = (world(), suite("fsx")) else { return };
    let at = world.mount(&["--rw"]);
    for seed in ["1", "2", "3", "4", "5"] {
        let file = at.join(format!("file-{seed}"));
        let mut run = Command::new(&program);
        run.args(["-q", "-N", FSX_OPERATIONS, "-S", seed, "-P"]).arg(world.base()).arg(&file);
        let outcome = Outcome::of(run.output().expect("it runs"));
        assert_eq!(outcome.code, 0, "seed {seed}\n{}\n{}", outcome.stdout, outcome.stderr);
        // What it left is what the sandbox has.
        let sandbox = world.sandbox().join(file.file_name().expect("a name"));
        assert_eq!(std::fs::read(&file).ok(), std::fs::read(sandbox).ok(), "seed {seed}");
    }
}
