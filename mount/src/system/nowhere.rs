//! Where nothing can be mounted: there is nothing, and so nothing goes wrong with it.

use std::io;
use std::path::Path;

use super::{Health, Holder, MountPoint};

/// The mounts of ours: there are none.
///
/// # Errors
/// None here.
pub fn mounts() -> io::Result<Vec<MountPoint>> {
    Ok(Vec::new())
}

/// True if anything of ours is mounted there.
pub fn is_mount_point(_at: &Path) -> bool {
    false
}

/// How what is at a place is: no mount at all.
pub fn health(_at: &Path) -> Health {
    Health::Alive
}

/// Takes a mount of ours from its place.
///
/// # Errors
/// There is none.
pub fn detach(_at: &Path) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::NotFound, "no mount of skync is there"))
}

/// Takes a mount of ours away that nobody answers for any more: it is gone.
///
/// # Errors
/// None here.
pub fn bury(_at: &Path) -> io::Result<()> {
    Ok(())
}

/// Takes a mount of ours away if nobody uses it.
///
/// # Errors
/// There is none.
pub fn unmount(at: &Path) -> io::Result<()> {
    detach(at)
}

/// Who keeps a mount from going: nobody.
pub fn holders(_at: &Path) -> Vec<Holder> {
    Vec::new()
}
