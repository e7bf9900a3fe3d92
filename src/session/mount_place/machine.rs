//! Whether this machine can mount: the kernel's device, the program for who is not root, and what an
//! administrator allows.

use std::io;
use std::path::Path;

use rustix::fs::Access;

use super::{CONFIGURATION, DEVICE, allows_others};
use crate::error::{CliError, ExitCode};

/// This machine can mount at all.
pub(super) fn possible(allow_other: bool) -> Result<(), CliError> {
    let is_root = rustix::process::geteuid().is_root();
    match rustix::fs::access(DEVICE, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => {}
        Err(rustix::io::Errno::NOENT) => {
            let message = format!("this machine cannot mount: there is no `{DEVICE}`");
            return Err(CliError::new(ExitCode::Failed, message).hint(
                "`modprobe fuse` as root brings it; a container needs `--device /dev/fuse`",
            ));
        }
        Err(error) => {
            let message = format!("this user cannot mount: `{DEVICE}` cannot be opened");
            return Err(CliError::new(ExitCode::Failed, message)
                .because(&io::Error::from(error))
                .hint(format!(
                    "`chmod 0666 {DEVICE}` as root gives it to all, as most systems do"
                )));
        }
    }
    if is_root {
        return Ok(());
    }
    if !has_program() {
        let message = "this user cannot mount: there is no `fusermount3`";
        return Err(CliError::new(ExitCode::Failed, message).hint(
            "install the package `fuse3` (Debian, Ubuntu, Fedora, Arch and Alpine call it so)",
        ));
    }
    if allow_other && !others_are_allowed() {
        let message = format!("`--allow-other` needs `user_allow_other` in `{CONFIGURATION}`");
        return Err(CliError::new(ExitCode::Failed, message).hint(
            "an administrator adds it as a line of its own; without it only you see the mount",
        ));
    }
    Ok(())
}

fn has_program() -> bool {
    if let Some(program) = std::env::var_os("FUSERMOUNT_PATH") {
        return Path::new(&program).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|place| place.join("fusermount3"))
        .any(|program| program.exists())
}

fn others_are_allowed() -> bool {
    allows_others(&std::fs::read_to_string(CONFIGURATION).unwrap_or_default())
}
