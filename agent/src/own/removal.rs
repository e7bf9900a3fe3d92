//! Removes a directory that is known to be ours, whatever is in it.
//!
//! Never follows a symbolic link and never leaves the directory it was given: everything below it
//! is reached by directory descriptors.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// How often a directory is emptied anew, because something still writes into it or because it
/// was too deep: a round takes [`DEPTH_MAX`] levels away.
const ROUNDS_MAX: usize = 256;

/// Directories below one another that are held open at a time; what is deeper is first moved up.
const DEPTH_MAX: usize = 64;

/// Removes `directory` with all that is in it, its entry `last` after everything else.
///
/// A directory that is not there is no error.
///
/// # Errors
/// The first thing that could not be removed; the rest may be gone.
pub fn remove(directory: &Path, last: &str) -> io::Result<()> {
    let mut moved = 0;
    for _ in 0..ROUNDS_MAX {
        let top = match open(rustix::fs::CWD, directory) {
            Ok(top) => top,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut emptying = Emptying { top: top.as_fd(), moved: &mut moved, again: false };
        emptying.empty(top.as_fd(), 0, last)?;
        if emptying.again {
            continue;
        }
        match rustix::fs::unlinkat(&top, last, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT | Errno::ISDIR | Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
        match rustix::fs::rmdir(directory) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // Something was written meanwhile.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("something keeps writing into it"))
}

struct Emptying<'a> {
    top: BorrowedFd<'a>,
    /// How many were moved up so far, in all rounds: their names must differ.
    moved: &'a mut usize,
    /// Something was moved up or appeared, so another round is needed.
    again: bool,
}

impl Emptying<'_> {
    /// Removes everything in `directory` but `spared`.
    fn empty(&mut self, directory: BorrowedFd<'_>, depth: usize, spared: &str) -> io::Result<()> {
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") || name.to_bytes() == spared.as_bytes() {
                continue;
            }
            let is_directory = match entry.file_type() {
                FileType::Directory => true,
                FileType::Unknown => {
                    let found = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    FileType::from_raw_mode(found.st_mode) == FileType::Directory
                }
                _ => false,
            };
            if is_directory {
                self.remove_directory(directory, name, depth)?;
            } else {
                gone(rustix::fs::unlinkat(directory, name, AtFlags::empty()))?;
            }
        }
        Ok(())
    }

    fn remove_directory(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        depth: usize,
    ) -> io::Result<()> {
        if depth == DEPTH_MAX {
            self.again = true;
            let target = format!(".skync-removed-{}-{}", std::process::id(), self.moved);
            *self.moved += 1;
            return gone(rustix::fs::renameat(parent, name, self.top, target));
        }
        match open(parent, name) {
            Ok(directory) => self.empty(directory.as_fd(), depth + 1, "")?,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            // Something was written meanwhile: another round.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                self.again = true;
                Ok(())
            }
            done => gone(done),
        }
    }
}

/// A directory to be emptied, made accessible to its owner if it is not.
fn open(parent: impl AsFd, name: impl rustix::path::Arg + Copy) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            // Whoever could swap it for a symbolic link here owns both already.
            rustix::fs::chmodat(&parent, name, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat(&parent, name, flags, Mode::empty())?
        }
        opened => opened?,
    };
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        rustix::fs::fchmod(&opened, mode | Mode::RWXU)?;
    }
    Ok(opened)
}

/// What is gone already needs no removal.
fn gone(done: rustix::io::Result<()>) -> io::Result<()> {
    match done {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "makes the trees that are removed")]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn links_are_removed_and_what_they_lead_to_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, inside) = (dir.path().join("outside"), dir.path().join("inside"));
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("kept"), "x").unwrap();
        std::fs::create_dir_all(inside.join("a/b")).unwrap();
        symlink(&outside, inside.join("a/b/link")).unwrap();
        symlink("/nosuch", inside.join("dangling")).unwrap();
        remove(&inside, "").unwrap();
        assert!(!inside.exists());
        assert_eq!(std::fs::read(outside.join("kept")).unwrap(), b"x");
        remove(&inside, "").unwrap();
        symlink(&outside, &inside).unwrap();
        assert!(remove(&inside, "").is_err(), "a link in place of the directory is not followed");
        assert!(outside.join("kept").exists());
    }

    #[test]
    fn closed_and_deep_directories_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        let mut deep = top.clone();
        for _ in 0..400 {
            deep.push("d");
        }
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("f"), "").unwrap();
        let closed = top.join("closed");
        std::fs::create_dir(&closed).unwrap();
        std::fs::write(closed.join("f"), "").unwrap();
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o0)).unwrap();
        std::fs::write(top.join("sandbox.json"), "{}").unwrap();
        remove(&top, "sandbox.json").unwrap();
        assert!(!top.exists());
    }
}
