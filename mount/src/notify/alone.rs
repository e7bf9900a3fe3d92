//! A thread with open files of its own.
//!
//! The thread that touches our own mount waits for answers of ours. If the process is killed while it
//! does, nobody answers any more, and no signal ends that wait: only the kernel can, once nobody has
//! its device open. But the files of a process stay open as long as a thread of it lives, and that is
//! the one that waits: the process would never be gone, nor whoever waits for its end. So this thread
//! shares no files with the others, and has the device not open.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::thread::UnshareFlags;

/// Where the kernel lists the files that a thread has open.
const OPEN_FILES: &str = "/proc/thread-self/fd";
/// The first that is not one of the standard three.
const FIRST: RawFd = 3;
/// What wakes other threads: copies of it hold nothing open.
const WAKER: &str = "anon_inode:[eventfd]";

/// From here on the calling thread has only what it opens itself, what wakes others, and the standard
/// three.
///
/// # Errors
/// If the system does not let it.
#[expect(unsafe_code, reason = "there is no safe way to a table of one's own")]
pub(super) fn share_no_files() -> io::Result<()> {
    // SAFETY: this thread uses no descriptor that another one has opened, but for those that wake
    // tasks, which it keeps; and it hands none of its own to another thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FILES) }?;
    let mut others = Vec::new();
    for entry in std::fs::read_dir(OPEN_FILES)? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        // What lists them is itself among them, and gone by then.
        let Ok(leads_to) = std::fs::read_link(entry.path()) else { continue };
        if let Some(number) = number.filter(|number| *number >= FIRST)
            && leads_to.to_str() != Some(WAKER)
            && !leads_to.starts_with("/proc")
        {
            others.push(number);
        }
    }
    for number in others {
        // What closing says, as a full disk does, its owner hears too; `rustix::io::close` panics at it.
        // SAFETY: it is closed in the table of this thread alone; whoever owns it has its own.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
    Ok(())
}
