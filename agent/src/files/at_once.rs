//! What is answered on the spot, by the thread that has the link.
//!
//! To wake a thread and be woken by it takes ten times as long as making a file, and whoever makes
//! a thousand waits for each. So what the kernel does in memory is done where the request arrives.
//! It must not wait there, as all links and all operations are on that thread: the root is on a
//! local file system, paths are taken from the kernel's cache and stay on that file system, and
//! what nevertheless took long is left to the threads for a while.

use std::time::{Duration, Instant};

use super::answer::only;
use super::mount::Mount;
use crate::proto::files_request::Request;
use crate::proto::{FilesError, FilesReply};

/// Most bytes that are written on the spot.
const WRITE_BYTES_MAX: usize = 64 << 10;
/// What takes longer has waited for a disk.
const QUICK: Duration = Duration::from_millis(2);
/// So long nothing is done on the spot then.
const PAUSE: Duration = Duration::from_secs(10);

/// Decides for one stream.
#[derive(Debug, Default)]
pub(super) struct AtOnce {
    paused_until: Option<Instant>,
}

impl AtOnce {
    /// The reply, if there can be one on the spot. If not, nothing has been done, or what can be
    /// done again.
    pub(super) fn answer(&mut self, mount: &Mount, request: &Request) -> Option<FilesReply> {
        let begun = Instant::now();
        if self.paused_until.is_some_and(|until| begun < until) {
            return None;
        }
        let near = mount.near.as_ref()?;
        if !mount.is_near(handle_of(request)) {
            return None;
        }
        let answer = match request {
            Request::Attributes(at) => mount.attributes_at(near, at),
            Request::Open(open) => mount.open_file(near, open),
            Request::Create(create) => mount.create(near, create),
            Request::Set(set) => mount.set(near, set),
            Request::Make(make) => mount.make(near, make),
            Request::Link(link) => mount.link(near, link),
            Request::Rename(rename) => mount.rename(near, rename),
            Request::Remove(remove) => mount.remove(near, remove),
            Request::Write(write) if write.data.len() <= WRITE_BYTES_MAX => mount.write(write),
            _ => return None,
        };
        let ended = Instant::now();
        if ended - begun > QUICK {
            self.paused_until = Some(ended + PAUSE);
        }
        match answer {
            Err(problem) if problem.error == FilesError::OtherDevice => None,
            answer => Some(only(answer)),
        }
    }
}

/// The open file that a request is about; 0 if it is about none.
fn handle_of(request: &Request) -> u64 {
    match request {
        Request::Attributes(at) => at.handle,
        Request::Set(set) => set.at.as_ref().map_or(0, |at| at.handle),
        Request::Write(write) => write.handle,
        _ => 0,
    }
}
