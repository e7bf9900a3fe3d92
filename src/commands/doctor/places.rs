//! Our own directories and files: there, ours, closed to others, with room.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::Access;

use super::around::{Around, shown};
use super::check::{Finding, Level};
use super::fix::Fix;
use crate::credentials;
use crate::state::RUNTIME_BYTES_MAX;
use crate::ui::status_view::size;

/// With less room nothing can be written down before it is made.
const ROOM_MIN: u64 = 64 << 20;
/// With less a larger change may not fit.
const ROOM_LOW: u64 = 1 << 30;
/// Sockets and locks need no more.
const RUNTIME_ROOM_MIN: u64 = 1 << 20;
/// The kernel's number of a file system in memory.
const TMPFS: u64 = 0x0102_1994;

/// The directory for sockets.
pub(super) fn runtime(around: &Around) -> Vec<Finding> {
    const WHAT: &str = "runtime directory";
    let at = &around.places.runtime;
    let mut findings = Vec::new();
    if at.as_os_str().len() > RUNTIME_BYTES_MAX {
        let found = format!("{} is {} bytes long", shown(at), at.as_os_str().len());
        findings.push(Finding::problem(WHAT, found).why("no socket can be made below it").remedy(
            "export XDG_RUNTIME_DIR=/run/user/$(id -u)    or any shorter directory of yours",
        ));
        return findings;
    }
    if let Some(named) = around.variable("XDG_RUNTIME_DIR").filter(|named| !at.starts_with(named)) {
        let found = format!(
            "XDG_RUNTIME_DIR is `{named}`, which is not a directory of yours; {} stands in",
            shown(at)
        );
        findings.push(
            Finding::warning(WHAT, found)
                .why("other tools of this session look elsewhere")
                .remedy("export XDG_RUNTIME_DIR=/run/user/$(id -u)"),
        );
    }
    findings.push(directory(WHAT, at, around.uid, Level::Problem));
    if let Some(room) = room(at).filter(|room| *room < RUNTIME_ROOM_MIN) {
        findings.push(no_room(WHAT, at, room, Level::Problem));
    }
    let is_in_memory = existing(at).is_some_and(|at| {
        rustix::fs::statfs(at).is_ok_and(|found| u64::try_from(found.f_type) == Ok(TMPFS))
    });
    if let Some(last) = findings.last_mut().filter(|last| last.level == Level::Ok) {
        last.found += if is_in_memory { ", in memory" } else { ", on a disk" };
    }
    findings
}

/// Where sessions are written down.
pub(super) fn state(around: &Around) -> Vec<Finding> {
    const WHAT: &str = "state directory";
    let at = &around.places.state;
    let mut findings = vec![directory(WHAT, at, around.uid, Level::Warning)];
    findings.extend(room(at).map(|room| enough(WHAT, at, room)));
    findings
}

/// Where profiles are, and the files of keys.
pub(super) fn config(around: &Around) -> Vec<Finding> {
    let at = &around.places.config;
    let mut findings = vec![directory("configuration directory", at, around.uid, Level::Warning)];
    let keys = around.places.state.join(credentials::file::NAME);
    for file in [around.places.config_file(), keys] {
        if is_open(&file) {
            let found = format!("{} can be read by other users", shown(&file));
            findings.push(
                Finding::warning("file modes", found)
                    .why("it may hold keys, or variables that are nobody else's business")
                    .remedy(format!("chmod 600 {}", file.display()))
                    .fix(Fix::MakePrivate(file)),
            );
        }
    }
    findings.extend(keys_of_others(around));
    findings
}

/// The files in which other tools keep the keys that we read. They are not ours to change.
fn keys_of_others(around: &Around) -> Vec<Finding> {
    let Some(home) = around.variable("HOME").map(Path::new) else { return Vec::new() };
    let daytona = match around.variable("DAYTONA_CONFIG_DIR") {
        Some(directory) => Path::new(directory).to_owned(),
        None => {
            let named = around.variable("XDG_CONFIG_HOME").map(Path::new);
            let named = named.filter(|named| named.is_absolute()).map(Path::to_owned);
            named.unwrap_or_else(|| home.join(".config")).join("daytona")
        }
    };
    let files = [home.join(".e2b/config.json"), daytona.join("config.json")];
    let open = files.into_iter().filter(|file| is_open(file));
    let finding = |file: std::path::PathBuf| {
        Finding::warning("file modes", format!("{} can be read by other users", shown(&file)))
            .why("a key is in it")
            .remedy(format!("chmod 600 {}", file.display()))
    };
    open.map(finding).collect()
}

/// Room for the project.
pub(super) fn project_room(around: &Around) -> Vec<Finding> {
    const WHAT: &str = "room in the project";
    let Ok(project) = &around.project else {
        return vec![Finding::skipped(WHAT, "there is no project here")];
    };
    match room(&project.root) {
        Some(room) => vec![enough(WHAT, &project.root, room)],
        None => vec![Finding::skipped(WHAT, "the file system does not say")],
    }
}

fn is_open(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.mode() & 0o077 != 0)
}

/// One directory of ours. `open` is how bad it is if others can enter it.
fn directory(what: &str, at: &Path, uid: u32, open: Level) -> Finding {
    let Ok(found) = std::fs::symlink_metadata(at) else { return missing(what, at) };
    let metadata = std::fs::metadata(at);
    if !metadata.as_ref().is_ok_and(std::fs::Metadata::is_dir) {
        return Finding::problem(what, format!("{} is not a directory", shown(at)))
            .why("skync has no place for its own files")
            .remedy(format!("mv {0} {0}.old", at.display()));
    }
    if metadata.is_ok_and(|found| found.uid() != uid) {
        return Finding::problem(what, format!("{} belongs to another user", shown(at)))
            .why("whoever owns it can put files there in our place")
            .remedy(format!("sudo chown -R $(id -u) {}", at.display()));
    }
    if rustix::fs::access(at, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Finding::problem(what, format!("{} cannot be written", shown(at)))
            .why("nothing can be written down before it is made")
            .remedy(format!("chmod u+rwx {}", at.display()))
            .fix(Fix::MakePrivate(at.to_owned()));
    }
    if found.mode() & 0o077 != 0 && !found.is_symlink() {
        return Finding::problem(what, format!("{} can be entered by other users", shown(at)))
            .why("what is in it is nobody else's business")
            .remedy(format!("chmod 700 {}", at.display()))
            .fix(Fix::MakePrivate(at.to_owned()))
            .level(open);
    }
    Finding::ok(what, shown(at))
}

/// It is made when it is needed, if it can be.
fn missing(what: &str, at: &Path) -> Finding {
    let above = existing(at).unwrap_or(Path::new("/"));
    if rustix::fs::access(above, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Finding::problem(what, format!("{} is not there and cannot be made", shown(at)))
            .why("skync has no place for its own files")
            .remedy(format!("sudo install -d -o $(id -u) -m 700 {}", at.display()));
    }
    Finding::ok(what, format!("{} is made when it is needed", shown(at)))
        .fix(Fix::Make(at.to_owned()))
}

fn existing(at: &Path) -> Option<&Path> {
    at.ancestors().find(|path| path.exists())
}

/// Bytes that can still be written there.
fn room(at: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(existing(at)?).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

fn enough(what: &str, at: &Path, room: u64) -> Finding {
    let what = if what.contains("room") { what.to_owned() } else { format!("room in the {what}") };
    if room < ROOM_MIN {
        no_room(&what, at, room, Level::Problem)
    } else if room < ROOM_LOW {
        no_room(&what, at, room, Level::Warning)
    } else {
        Finding::ok(what, format!("{} free", size(room)))
    }
}

fn no_room(what: &str, at: &Path, room: u64, level: Level) -> Finding {
    Finding::problem(what, format!("{} free at {}", size(room), shown(at)))
        .why("results of a sandbox come home only if there is room for them")
        .remedy(format!("df -h {}    and remove what is not needed", at.display()))
        .level(level)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn open(path: &Path, mode: u32) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("set");
    }

    #[test]
    fn a_directory_that_is_not_there_is_made_later_or_by_fix() {
        let base = tempfile::tempdir().expect("a directory");
        let around = Around::below(base.path());
        let found = state(&around);
        assert_eq!(
            (found[0].level, found[0].fix.clone()),
            (Level::Ok, Some(Fix::Make(base.path().join("state"))))
        );
    }

    #[test]
    fn what_others_can_enter_is_told_and_can_be_closed() {
        let base = tempfile::tempdir().expect("a directory");
        let around = Around::below(base.path());
        for name in ["state", "run", "config"] {
            std::fs::create_dir(base.path().join(name)).expect("made");
            open(&base.path().join(name), 0o755);
        }
        for (found, level) in [
            (runtime(&around), Level::Problem),
            (state(&around), Level::Warning),
            (config(&around), Level::Warning),
        ] {
            assert_eq!(found[0].level, level, "{found:?}");
            assert!(matches!(found[0].fix, Some(Fix::MakePrivate(_))), "{found:?}");
        }
        open(&base.path().join("run"), 0o700);
        assert_eq!(runtime(&around)[0].level, Level::Ok);
    }

    #[test]
    fn a_file_in_the_place_of_a_directory_is_a_problem() {
        let base = tempfile::tempdir().expect("a directory");
        std::fs::write(base.path().join("state"), "").expect("written");
        let found = state(&Around::below(base.path()));
        assert_eq!(found[0].level, Level::Problem);
        assert!(found[0].found.ends_with("is not a directory"), "{found:?}");
    }

    #[test]
    fn another_users_directory_is_a_problem() {
        let base = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(base.path().join("state")).expect("made");
        let around = Around { uid: 12345, ..Around::below(base.path()) };
        assert!(state(&around)[0].found.ends_with("belongs to another user"));
    }

    #[test]
    fn a_runtime_directory_must_be_short() {
        let base = tempfile::tempdir().expect("a directory");
        let mut around = Around::below(base.path());
        around.places.runtime = base.path().join("x".repeat(80));
        let found = runtime(&around);
        assert_eq!(found[0].level, Level::Problem);
        assert!(found[0].remedy[0].contains("XDG_RUNTIME_DIR"), "{found:?}");
    }

    #[test]
    fn a_runtime_directory_that_is_not_the_sessions_is_told() {
        let base = tempfile::tempdir().expect("a directory");
        let mut around = Around::below(base.path());
        around.variables.insert("XDG_RUNTIME_DIR".into(), "/run/user/1".into());
        assert_eq!(runtime(&around)[0].level, Level::Warning);
    }

    #[test]
    fn files_with_keys_must_be_closed_and_only_ours_are_closed_by_us() {
        let base = tempfile::tempdir().expect("a directory");
        let mut around = Around::below(base.path());
        around.variables.insert("HOME".into(), base.path().display().to_string());
        let daytona = base.path().join("other").display().to_string();
        around.variables.insert("DAYTONA_CONFIG_DIR".into(), daytona);
        for name in [
            "config/config.toml",
            "state/credentials.toml",
            ".e2b/config.json",
            "other/config.json",
        ] {
            let path = base.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(&path, "").expect("written");
            open(&path, 0o644);
        }
        open(&base.path().join("config"), 0o700);
        let found = config(&around);
        let fixable: Vec<bool> = found.iter().skip(1).map(|one| one.fix.is_some()).collect();
        assert_eq!(fixable, [true, true, false, false], "{found:?}");
    }

    #[test]
    fn little_room_is_told() {
        let at = Path::new("/x");
        assert_eq!(enough("state directory", at, 1 << 20).level, Level::Problem);
        assert_eq!(enough("state directory", at, 500 << 20).level, Level::Warning);
        assert_eq!(enough("state directory", at, 5 << 30).what, "room in the state directory");
    }
}
