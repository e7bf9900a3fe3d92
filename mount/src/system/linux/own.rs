//! A mount that this process made, known again wherever it is by now.
//!
//! Its place is no name for it: a directory above may be moved, and once it was taken away another
//! one may be there.

use std::io;
use std::path::{Path, PathBuf};

use super::{Health, Line, Taking, by_system, health, lines};

/// See the module's text. The kernel gives its numbers to others once the mount is gone for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    number: u32,
    device: (u32, u32),
}

/// Where a mount is by now.
#[derive(Debug, PartialEq, Eq)]
enum Now {
    Gone,
    At(PathBuf),
    /// Something else is mounted on top of it.
    Under(PathBuf),
}

impl Own {
    /// The mount that was just made at a place.
    ///
    /// # Errors
    /// If none of ours is on top there, or the list cannot be read.
    pub(crate) fn at(at: &Path) -> io::Result<Self> {
        let list = std::fs::read("/proc/self/mountinfo")?;
        Self::listed(&list, at)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the mount is not there"))
    }

    fn listed(list: &[u8], at: &Path) -> Option<Self> {
        let top = lines(list).filter(|line| line.at == at).last()?;
        top.is_ours.then_some(Self { number: top.number, device: top.device })
    }

    /// What `stat` says of what is there, as major and minor number.
    pub(crate) fn device(self) -> (u32, u32) {
        self.device
    }

    /// Where it is by now; nothing if it is not mounted any more.
    pub(crate) fn place(self) -> io::Result<Option<PathBuf>> {
        Ok(match self.now(&std::fs::read("/proc/self/mountinfo")?) {
            Now::Gone => None,
            Now::At(at) | Now::Under(at) => Some(at),
        })
    }

    /// Takes it from its place, whoever uses it. Nothing is done if it is gone.
    pub(crate) fn detach(self) -> io::Result<()> {
        self.take_away(Taking::Detach)
    }

    /// Takes it away if nobody uses it. Nothing is done if it is gone.
    pub(crate) fn unmount(self) -> io::Result<()> {
        self.take_away(Taking::Unused)
    }

    /// Nobody serves it any more. If it is listed still, because its connection was ended in another
    /// way than by unmounting it, it is taken away. One that works has its numbers by now, and is
    /// another one.
    pub(crate) fn bury(self) -> io::Result<()> {
        match self.place()? {
            Some(at) if health(&at) == Health::Dead => self.detach(),
            Some(_) | None => Ok(()),
        }
    }

    fn take_away(self, taking: Taking) -> io::Result<()> {
        match self.now(&std::fs::read("/proc/self/mountinfo")?) {
            Now::Gone => Ok(()),
            Now::At(at) => match by_system(&at, taking) {
                // Somebody else was quicker.
                Err(_) if self.place().is_ok_and(|at| at.is_none()) => Ok(()),
                other => other,
            },
            Now::Under(at) => {
                let text = format!("something else is mounted over it at `{}`", at.display());
                Err(io::Error::other(text))
            }
        }
    }

    fn now(self, list: &[u8]) -> Now {
        let is_this = |line: &Line| line.number == self.number && line.device == self.device;
        let Some(own) = lines(list).find(|line| line.is_ours && is_this(line)) else {
            return Now::Gone;
        };
        match lines(list).filter(|line| line.at == own.at).last() {
            Some(top) if is_this(&top) => Now::At(own.at),
            _ => Now::Under(own.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &[u8] = b"\
22 1 254:0 / / rw - ext4 /dev/root rw
36 22 0:33 / /home/me/a rw - fuse.skync skync:dev rw";

    fn own() -> Own {
        Own::listed(BEFORE, Path::new("/home/me/a")).expect("listed")
    }

    #[test]
    fn a_mount_is_found_where_it_is_by_now() {
        let moved = b"36 22 0:33 / /home/my\\040files/a rw - fuse.skync skync:dev rw";
        assert_eq!(own().now(BEFORE), Now::At("/home/me/a".into()));
        assert_eq!(own().now(moved), Now::At("/home/my files/a".into()));
        assert_eq!(own().now(b""), Now::Gone);
        assert_eq!(Own::listed(BEFORE, Path::new("/")), None);
    }

    #[test]
    fn another_mount_at_the_same_place_is_not_taken_for_it() {
        let another = b"37 22 0:34 / /home/me/a rw - fuse.skync skync:dev rw";
        let reused = b"36 22 0:34 / /home/me/a rw - fuse.skync skync:dev rw";
        assert_eq!(own().now(another), Now::Gone);
        assert_eq!(own().now(reused), Now::Gone);
        let mut over = BEFORE.to_vec();
        over.extend_from_slice(b"\n37 36 0:34 / /home/me/a rw - tmpfs tmpfs rw");
        assert_eq!(own().now(&over), Now::Under("/home/me/a".into()));
    }
}
