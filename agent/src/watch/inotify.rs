//! The kernel's inotify: descriptors in, raw events out. It knows no paths of the tree.
//!
//! A directory is watched through `/proc/self/fd`, so that what is watched is the directory that
//! was opened and not what its path leads to by now (invariant I7).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::disk::{DirFd, Meta};

/// Bytes of an event before its name: descriptor, mask, cookie, length of the name; 4 each.
const HEADER_BYTES: usize = 16;

/// What is asked of every directory. Opening and reading are not: a command that reads the tree,
/// or our own scan, would fill the queue.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB);

/// What is asked of the root besides.
const SELF: WatchFlags = WatchFlags::DELETE_SELF.union(WatchFlags::MOVE_SELF);

/// What is asked of the directory above the root.
const NAMES: WatchFlags =
    WatchFlags::DELETE.union(WatchFlags::MOVED_FROM).union(WatchFlags::MOVED_TO);

/// A directory of any kind, and nothing of files that were removed while they are open.
const HOW: WatchFlags = WatchFlags::ONLYDIR.union(WatchFlags::EXCL_UNLINK);

/// One event as the kernel told it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RawEvent<'a> {
    /// The watch that it is for; meaningless for an overflow.
    pub(crate) descriptor: i32,
    /// What happened.
    pub(crate) mask: ReadFlags,
    /// The name in the watched directory; empty for the directory itself.
    pub(crate) name: &'a [u8],
}

/// One inotify instance.
#[derive(Debug)]
pub(crate) struct Inotify {
    fd: OwnedFd,
}

impl Inotify {
    pub(crate) fn new() -> Result<Self, Errno> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { fd })
    }

    /// Watches an open directory; `path` is where it was opened, for a system without `/proc`.
    /// Nothing if another directory is at `path` by now, whose own event comes.
    pub(crate) fn watch(
        &self,
        directory: &DirFd,
        path: &Path,
        is_root: bool,
    ) -> Result<Option<i32>, Errno> {
        use std::os::fd::AsRawFd;
        let mask = if is_root { CHANGES | SELF | HOW } else { CHANGES | HOW };
        let by_fd = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
        match inotify::add_watch(&self.fd, by_fd, mask) {
            // The second is what a process gets that may not look at itself.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => {
                self.watch_by_path(directory, path, mask)
            }
            other => other.map(Some),
        }
    }

    /// Watches what is at `path`, and takes that back unless it is `directory`.
    fn watch_by_path(
        &self,
        directory: &DirFd,
        path: &Path,
        mask: WatchFlags,
    ) -> Result<Option<i32>, Errno> {
        let descriptor = match inotify::add_watch(&self.fd, path, mask | WatchFlags::DONT_FOLLOW) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            other => other?,
        };
        let there = rustix::fs::lstat(path)?;
        let meant = Meta::of(directory)?;
        if (there.st_dev, there.st_ino) == (meant.device, meant.inode) {
            return Ok(Some(descriptor));
        }
        self.unwatch(descriptor);
        Ok(None)
    }

    /// Watches the names in a directory outside of the tree.
    pub(crate) fn watch_names(&self, path: &Path) -> Result<i32, Errno> {
        inotify::add_watch(&self.fd, path, NAMES | HOW)
    }

    /// Ends a watch. That it ended already is no error: the kernel ends it with its directory.
    pub(crate) fn unwatch(&self, descriptor: i32) {
        let _ = inotify::remove_watch(&self.fd, descriptor);
    }

    /// Bytes of the events that are queued now.
    pub(crate) fn queued_bytes(&self) -> Result<usize, Errno> {
        rustix::io::ioctl_fionread(&self.fd).map(|bytes| usize::try_from(bytes).unwrap_or(0))
    }

    /// Fills `buffer` with whole events and says how many bytes they are; 0 if none is queued.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        loop {
            match rustix::io::read(&self.fd, &mut *buffer) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(0),
                other => return other,
            }
        }
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Takes what was read apart. What is cut off at the end is left out.
pub(crate) fn events(bytes: &[u8]) -> impl Iterator<Item = RawEvent<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (header, after) = rest.split_at_checked(HEADER_BYTES)?;
        let word = |at: usize| header.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let (descriptor, mask) = (word(0)?.cast_signed(), word(4)?);
        let (name, after) = after.split_at_checked(usize::try_from(word(12)?).ok()?)?;
        rest = after;
        // The kernel fills up with NULs.
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        Some(RawEvent { descriptor, mask: ReadFlags::from_bits_retain(mask), name })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_proc_a_directory_is_watched_by_its_path_if_it_is_still_there() {
        let outside = tempfile::tempdir().expect("a directory");
        let path = outside.path().join("a");
        std::fs::create_dir(&path).expect("made");
        let directory = DirFd::open(&path).expect("opened");
        let inotify = Inotify::new().expect("an instance");
        let found = inotify.watch_by_path(&directory, &path, CHANGES | HOW).expect("asked");
        assert_eq!(found, inotify.watch(&directory, &path, false).expect("watched"));
        assert!(found.is_some());
        std::fs::remove_dir(&path).expect("removed");
        let gone = inotify.watch_by_path(&directory, &path, CHANGES | HOW);
        assert_eq!(gone, Ok(None));
        std::fs::create_dir(&path).expect("made");
        let another = inotify.watch_by_path(&directory, &path, CHANGES | HOW);
        assert_eq!(another, Ok(None));
        std::fs::remove_dir(&path).expect("removed");
        std::os::unix::fs::symlink(outside.path(), &path).expect("a link");
        let link = inotify.watch_by_path(&directory, &path, CHANGES | HOW);
        assert_eq!(link, Ok(None), "no link is followed");
    }

    #[test]
    fn events_are_taken_apart() {
        let word = |value: u32| value.to_ne_bytes();
        let bytes = [
            &word(7)[..],
            &word(ReadFlags::CREATE.bits()),
            &word(0),
            &word(8),
            b"name\0\0\0\0",
            &word(u32::MAX),
            &word(ReadFlags::QUEUE_OVERFLOW.bits()),
            &word(0),
            &word(0),
            b"cut off",
        ]
        .concat();
        let expected = [
            RawEvent { descriptor: 7, mask: ReadFlags::CREATE, name: b"name" },
            RawEvent { descriptor: -1, mask: ReadFlags::QUEUE_OVERFLOW, name: b"" },
        ];
        assert_eq!(events(&bytes).collect::<Vec<_>>(), expected);
    }

    proptest! {
        #[test]
        fn odd_bytes_end_and_do_not_panic(bytes in proptest::collection::vec(0_u8..20, 0..200)) {
            prop_assert!(events(&bytes).count() <= bytes.len() / HEADER_BYTES);
        }
    }
}
