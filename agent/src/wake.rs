//! What one thread wakes another by, that waits for descriptors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

#[cfg(target_os = "linux")]
use rustix::event::EventfdFlags;
use rustix::io::Errno;

/// A descriptor that is readable once somebody woke it, until that is taken.
#[derive(Debug)]
pub(crate) struct Wake {
    /// On Linux both ends are one: a counter.
    waits: OwnedFd,
    #[cfg(target_os = "macos")]
    wakes: OwnedFd,
}

impl Wake {
    #[cfg(target_os = "linux")]
    pub(crate) fn new() -> Result<Self, Errno> {
        let waits = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { waits })
    }

    /// There is no counter here, and no pipe that is born with its flags: a process that is started in
    /// between would have it open, which does nothing.
    #[cfg(target_os = "macos")]
    pub(crate) fn new() -> Result<Self, Errno> {
        let (waits, wakes) = rustix::pipe::pipe()?;
        for end in [&waits, &wakes] {
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(end, true)?;
        }
        Ok(Self { waits, wakes })
    }

    /// Makes it readable.
    pub(crate) fn wake(&self) {
        #[cfg(target_os = "linux")]
        let end = &self.waits;
        #[cfg(target_os = "macos")]
        let end = &self.wakes;
        // It can only fail if it is full, and then whoever waits is awake.
        let _ = rustix::io::write(end, &1u64.to_ne_bytes());
    }

    /// Takes what woke it.
    pub(crate) fn take(&self) {
        #[cfg(target_os = "linux")]
        let mut taken = [0; 8];
        // What is left of more wakes than that wakes once more.
        #[cfg(target_os = "macos")]
        let mut taken = [0; 4096];
        // It only fails if nobody woke it.
        let _ = rustix::io::read(&self.waits, &mut taken);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waits.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec};

    use super::*;

    #[test]
    fn it_is_readable_from_the_waking_to_the_taking() {
        let wake = Wake::new().expect("made");
        let is_readable = || {
            let mut fds = [PollFd::new(&wake, PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&Timespec::default())).expect("asked") == 1
        };
        assert!(!is_readable());
        wake.take();
        wake.wake();
        assert!(is_readable());
        wake.take();
        assert!(!is_readable());
    }
}
