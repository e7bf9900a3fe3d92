//! The files of a sandbox that are ours: made for their owner alone, written whole, read back.
//!
//! Synchronised files are none of its business.

use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::driver::{DriverError, ErrorKind};

/// Makes a directory for its owner alone, with its ancestors; one that exists stays as it is.
pub(super) fn make_directory(path: &Path) -> Result<(), DriverError> {
    std::fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(path)
        .map_err(|error| failed("make", path, error))
}

/// Writes a new file; an old one of the name is replaced, not written into.
pub(super) fn write_file(path: &Path, mode: u32, content: &[u8]) -> Result<(), DriverError> {
    let write = || -> std::io::Result<()> {
        match rustix::fs::unlink(path) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(content)
    };
    write().map_err(|error| failed("write", path, error))
}

/// Reads the agent back: what runs must be what was written.
pub(super) fn verify(agent: &Path, sha256: &[u8; 32]) -> Result<(), DriverError> {
    let mut bytes = Vec::new();
    std::fs::File::open(agent)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(|error| failed("read", agent, error))?;
    if Sha256::digest(&bytes).as_slice() != sha256 {
        let message = format!("the agent at `{}` is not the one that was written", agent.display());
        return Err(DriverError::new(ErrorKind::Failed, message)
            .hint("the disk may be damaged; the profile's `base` can be on another one"));
    }
    Ok(())
}

/// Whether sandboxes can be made in `base`, as far as can be seen without making it.
pub(super) fn check_base(base: &Path) -> Result<(), DriverError> {
    let existing = base.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(base);
    let found = std::fs::metadata(existing).map_err(|error| failed("look at", existing, error))?;
    if !found.is_dir() {
        let message = format!("`{}` is not a directory", existing.display());
        return Err(DriverError::new(ErrorKind::Invalid, message)
            .hint("set `base` in the profile to a directory that is there or can be made"));
    }
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(existing, access)
        .map_err(|error| failed("write into", existing, error.into()))?;
    let flags = rustix::fs::statvfs(existing)
        .map_err(|error| failed("look at", existing, error.into()))?
        .f_flag;
    if flags.contains(rustix::fs::StatVfsMountFlags::NOEXEC) {
        let message = format!("nothing can be run in `{}`: it is mounted `noexec`", base.display());
        return Err(DriverError::new(ErrorKind::Invalid, message)
            .hint("set `base` in the profile to a directory on another file system"));
    }
    Ok(())
}

/// "cannot DO `PATH`: WHY", with what a person can do about it.
pub(super) fn failed(doing: &str, path: &Path, error: std::io::Error) -> DriverError {
    use std::io::ErrorKind as Io;
    let (kind, hint) = match error.kind() {
        Io::PermissionDenied | Io::ReadOnlyFilesystem => {
            (ErrorKind::Denied, "set `base` in the profile to a directory that you may write")
        }
        Io::StorageFull | Io::QuotaExceeded => {
            (ErrorKind::Exhausted, "free some room, or set `base` in the profile to another disk")
        }
        Io::NotADirectory | Io::AlreadyExists => {
            (ErrorKind::Invalid, "set `base` in the profile to another directory")
        }
        _ => (ErrorKind::Failed, "see whether the disk is well"),
    };
    let message = format!("cannot {doing} `{}`", path.display());
    DriverError::new(kind, message).source(error).hint(hint)
}
