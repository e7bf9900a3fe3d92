//! What `skync mount` needs: the kernel's device, and for an ordinary user a program.

use std::os::unix::fs::MetadataExt;

use super::around::{Around, shown, version_said};
use super::check::{Finding, Level};
use crate::session::mount_place::{CONFIGURATION, DEVICE, allows_others};

/// The program may run as root whoever starts it.
const SETUID: u32 = 0o4000;
/// Why any of it matters.
const WHY: &str = "`skync mount` cannot show the sandbox's files; all else works";

/// How bad it is if nothing can be mounted.
fn need(around: &Around) -> Level {
    let wanted = around.profile().is_some_and(|profile| profile.mount.with_up);
    if wanted { Level::Problem } else { Level::Warning }
}

/// The device.
pub(super) fn device(around: &Around) -> Vec<Finding> {
    if !cfg!(target_os = "linux") {
        return vec![Finding::skipped("fuse", "mounts need Linux")];
    }
    let device = around.at(DEVICE);
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(&device);
    let finding = match opened {
        Ok(_) => Finding::ok("fuse", format!("`{DEVICE}` is there and opens")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Finding::warning("fuse", format!("there is no `{DEVICE}`"))
                .why(WHY)
                .remedy("sudo modprobe fuse    in a container: start it with --device /dev/fuse")
                .level(need(around))
        }
        Err(error) => Finding::warning("fuse", format!("`{DEVICE}` cannot be opened: {error}"))
            .why(WHY)
            .remedy(format!("sudo chmod 0666 {DEVICE}"))
            .level(need(around)),
    };
    vec![finding]
}

/// The program that mounts for who is not root.
pub(super) fn program(around: &Around) -> Vec<Finding> {
    const WHAT: &str = "fusermount3";
    if !cfg!(target_os = "linux") {
        return vec![Finding::skipped(WHAT, "mounts need Linux")];
    }
    if around.is_root() {
        return vec![Finding::skipped(WHAT, "root needs none")];
    }
    let named = around.variable("FUSERMOUNT_PATH").map(Into::into);
    let Some(program) = named.or_else(|| around.programs(WHAT).into_iter().next()) else {
        let finding = Finding::warning(WHAT, "there is none on the search path")
            .why(WHY)
            .remedy("sudo apt install fuse3    Fedora: dnf, Arch: pacman -S, Alpine: apk add")
            .level(need(around));
        return vec![finding];
    };
    let is_setuid = std::fs::metadata(&program)
        .is_ok_and(|found| found.mode() & SETUID != 0 && found.uid() == 0);
    if !is_setuid {
        let finding = Finding::warning(WHAT, format!("{} does not run as root", shown(&program)))
            .why(WHY)
            .remedy(format!("sudo chown root {0} && sudo chmod u+s {0}", program.display()))
            .level(need(around));
        return vec![finding];
    }
    let version = version_said(&program).unwrap_or_else(|| "it says no version".to_owned());
    vec![Finding::ok(WHAT, format!("{}, {version}", shown(&program)))]
}

/// Whether other users may see a mount.
pub(super) fn others(around: &Around) -> Vec<Finding> {
    const WHAT: &str = "user_allow_other";
    if around.is_root() || !cfg!(target_os = "linux") {
        return vec![Finding::skipped(WHAT, "root needs none")];
    }
    let text = around.text(CONFIGURATION).unwrap_or_default();
    if allows_others(&text) {
        return vec![Finding::ok(WHAT, format!("set in `{CONFIGURATION}`"))];
    }
    let found = format!("not set in `{CONFIGURATION}`: only you see what you mount");
    let finding = Finding::skipped(WHAT, found)
        .why("`skync mount --allow-other` needs it, and nothing else")
        .remedy(format!("echo {WHAT} | sudo tee -a {CONFIGURATION}"));
    vec![finding]
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests {
    use super::*;
    use crate::config::Profile;

    fn around() -> (tempfile::TempDir, Around) {
        let base = tempfile::tempdir().expect("a directory");
        for directory in ["dev", "etc", "bin"] {
            std::fs::create_dir(base.path().join(directory)).expect("made");
        }
        let around = Around { uid: 65534, ..Around::below(base.path()) };
        (base, around)
    }

    #[test]
    fn a_missing_device_is_a_problem_only_for_who_mounts() {
        let (base, mut around) = around();
        let found = device(&around);
        assert_eq!(found[0].level, Level::Warning);
        assert!(found[0].remedy[0].starts_with("sudo modprobe fuse"), "{found:?}");
        let mut profile = Profile::built_in("directory").expect("built in");
        profile.mount.with_up = true;
        around.selected = Ok((profile, String::new()));
        assert_eq!(device(&around)[0].level, Level::Problem);
        std::fs::write(base.path().join("dev/fuse"), "").expect("written");
        assert_eq!(device(&around)[0].level, Level::Ok);
    }

    #[test]
    fn a_device_that_cannot_be_opened_says_how_it_can() {
        let (base, around) = around();
        // A directory cannot be opened for writing, not even by root.
        std::fs::create_dir(base.path().join("dev/fuse")).expect("made");
        let found = device(&around);
        assert_eq!(found[0].remedy, ["sudo chmod 0666 /dev/fuse"], "{found:?}");
    }

    #[test]
    fn the_program_must_be_there_and_run_as_root() {
        use std::os::unix::fs::PermissionsExt;
        let (base, mut around) = around();
        assert!(program(&around)[0].remedy[0].contains("fuse3"));
        let at = base.path().join("bin/fusermount3");
        std::fs::write(&at, "#!/bin/sh\necho v3\n").expect("written");
        std::fs::set_permissions(&at, PermissionsExt::from_mode(0o755)).expect("set");
        let path = base.path().join("bin").display().to_string();
        around.variables.insert("PATH".into(), path);
        let found = program(&around);
        assert!(found[0].remedy[0].contains("chmod u+s"), "{found:?}");
        around.uid = 0;
        assert_eq!(program(&around)[0].level, Level::Skipped);
    }

    #[test]
    fn that_others_see_nothing_is_no_warning() {
        let (base, around) = around();
        assert_eq!(others(&around)[0].level, Level::Skipped);
        std::fs::write(base.path().join("etc/fuse.conf"), "#x\nuser_allow_other\n")
            .expect("written");
        assert_eq!(others(&around)[0].level, Level::Ok);
    }
}
