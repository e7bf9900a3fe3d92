//! The agent's own few files and descriptors: nothing here is synchronised.
#![expect(
    clippy::disallowed_methods,
    reason = "every path here is in the agent's own state directory"
)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::Path;

pub mod removal;

/// The file by which a driver finds a sandbox that is a directory.
const RECORD: &str = "sandbox.json";

/// Writes a file of the agent's own, for its owner alone.
///
/// # Errors
/// What the system says.
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let temporary = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    std::fs::rename(&temporary, path)
}

/// Makes a file of the agent's own, for its owner alone; what was in it is gone.
///
/// # Errors
/// What the system says.
pub fn new_file(path: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Removes a file of the agent's own; one that is gone already is no error.
///
/// # Errors
/// What the system says.
pub fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes the sandbox's own place, and the directory above it if that is empty then.
///
/// Its record goes last: whoever looks for sandboxes finds one until all of it is gone.
///
/// # Errors
/// The first thing that could not be removed.
pub fn remove_place(place: &Path) -> io::Result<()> {
    removal::remove(place, RECORD)?;
    if let Some(parent) = place.parent() {
        // Other sandboxes may be there, or it is not ours to remove.
        let _ = std::fs::remove_dir(parent);
    }
    Ok(())
}

/// Writes a file of the kernel's.
///
/// # Errors
/// What the system says.
pub fn write_kernel_file(path: &str, bytes: &[u8]) -> io::Result<()> {
    std::fs::write(path, bytes)
}

/// Has a program lead a session of its own on the terminal that is its standard output.
#[expect(unsafe_code, reason = "there is no safe way to run something between fork and exec")]
pub fn lead_terminal(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    let lead = || {
        rustix::process::setsid()?;
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdout())?;
        Ok(())
    };
    // SAFETY: between fork and exec only what is async-signal-safe may be done: these are two
    // system calls, and neither they nor the conversion of their error allocates or locks.
    unsafe { command.pre_exec(lead) };
}

/// Takes a descriptor that the parent left open for this process.
///
/// # Errors
/// If it is one of the standard streams, or not open.
#[expect(unsafe_code, reason = "the one descriptor that comes by number")]
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 || !Path::new(&format!("/proc/self/fd/{number}")).exists() {
        return Err(io::Error::other(format!("descriptor {number} was not passed on")));
    }
    // SAFETY: the descriptor is open (checked above), and this is called once, first thing in
    // `main`, before anything else could have opened or taken it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    // What this process starts must not have it too.
    rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)?;
    Ok(descriptor)
}
