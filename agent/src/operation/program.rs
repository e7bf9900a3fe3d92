//! Finding the program of an operation, and saying exactly why one cannot be run.
//!
//! `docker exec` answers 126 for everything (`reference/exec.md` §2); we look ourselves, so that
//! "not found", "not executable", "its interpreter is missing" and "no such directory" are told
//! apart, with the exit codes that POSIX gives them.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::proto::{StartFailure, StartReply};

/// What `execvp` uses where PATH is not set, with the usual places of a container before it.
pub const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Looks a program up as `execvp` would, with the operation's own PATH and directory.
///
/// # Errors
/// The reply that says why it cannot be run.
pub fn find(program: &OsStr, path: &OsStr, directory: &Path) -> Result<PathBuf, StartReply> {
    if !directory.is_dir() {
        return Err(refusal(
            StartFailure::StartNoDirectory,
            format!("the directory `{}` is not there in the sandbox", directory.display()),
        ));
    }
    if program.as_bytes().contains(&b'/') {
        let file = directory.join(program);
        return check(&file).map(|()| file);
    }
    let mut refused = None;
    // Nothing is called nothing: joined to a directory of PATH it would be that directory.
    let places = Some(path).filter(|_| !program.is_empty());
    for place in places.into_iter().flat_map(std::env::split_paths) {
        let file = directory.join(place).join(program);
        match check(&file) {
            Ok(()) => return Ok(file),
            Err(reply) if reply.failure() == StartFailure::StartNotFound => {}
            Err(reply) => refused = refused.or(Some(reply)),
        }
    }
    Err(refused.unwrap_or_else(|| {
        refusal(
            StartFailure::StartNotFound,
            format!("`{}` is not found in the sandbox (PATH={})", shown(program), shown(path)),
        )
    }))
}

fn check(file: &Path) -> Result<(), StartReply> {
    let name = file.display();
    let metadata = match std::fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let why = format!("`{name}` may not be read in the sandbox: permission denied");
            return Err(refusal(StartFailure::StartNotExecutable, why));
        }
        Err(_) => {
            let why = format!("`{name}` is not there in the sandbox");
            return Err(refusal(StartFailure::StartNotFound, why));
        }
    };
    if metadata.is_dir() {
        let why = format!("`{name}` is a directory");
        return Err(refusal(StartFailure::StartNotExecutable, why));
    }
    if rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_err() {
        let why = format!("`{name}` is not executable");
        return Err(refusal(StartFailure::StartNotExecutable, why));
    }
    Ok(())
}

/// What to say when the kernel would not run a program that [`find`] found.
pub fn spawn_failure(file: &Path, error: &io::Error) -> StartReply {
    let name = file.display();
    match error.kind() {
        io::ErrorKind::NotFound => refusal(
            StartFailure::StartNotFound,
            match interpreter(file) {
                Some(interpreter) => format!(
                    "`{name}` needs the interpreter `{interpreter}`, which is not in the sandbox"
                ),
                None => format!("`{name}` needs a loader or library that is not in the sandbox"),
            },
        ),
        io::ErrorKind::PermissionDenied => refusal(
            StartFailure::StartNotExecutable,
            format!("`{name}` may not be executed in the sandbox: permission denied"),
        ),
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => refusal(
            StartFailure::StartNotExecutable,
            format!("`{name}` is not a program for this machine: exec format error"),
        ),
        _ => refusal(StartFailure::StartFailed, format!("cannot start `{name}`: {error}")),
    }
}

/// The interpreter that a script's first line names.
fn interpreter(file: &Path) -> Option<String> {
    let mut start = [0; 256];
    let count = io::Read::read(&mut std::fs::File::open(file).ok()?, &mut start).ok()?;
    let line = start[..count].strip_prefix(b"#!")?.split(|&b| b == b'\n').next()?;
    // As the kernel reads it: a carriage return is a part of the name. It is the most common
    // reason, and invisible: show it.
    let name = line.trim_ascii_start().split(|byte| b" \t\0".contains(byte)).next()?;
    Some(name.escape_ascii().to_string())
}

/// A reply that says no.
pub fn refusal(failure: StartFailure, message: String) -> StartReply {
    StartReply { failure: failure.into(), message, pid: 0 }
}

fn shown(text: &OsStr) -> String {
    text.to_string_lossy().into_owned()
}
