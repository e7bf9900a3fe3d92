//! Requests that the mount makes of itself.
//!
//! The thread that makes events happen for watchers does so by touching the mount, and what it asks
//! for is answered here: as done, out of what is known, without the source.

use std::ffi::OsStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::nodes::{Gone, Name, NodeId};

/// The handle of files that are opened by that thread.
pub(crate) const LOCAL_HANDLE: u64 = u64::MAX;

/// What that thread is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// It makes this name, which is there: until then it is not found.
    Make(NodeId, Name),
    /// It removes this name, which is gone: until then it is found.
    Remove(NodeId, Name, Gone),
    /// It touches something that is there.
    Touch,
}

/// Which thread that is, and what it is doing.
#[derive(Debug, Default)]
pub(crate) struct Local {
    /// Its number; 0 while none runs.
    thread: AtomicU32,
    // Set by that thread, read by those that answer it.
    task: Mutex<Option<Task>>,
}

impl Local {
    /// This thread is the one, until what is returned is dropped: another thread, of whatever
    /// process, can get its number once it has ended.
    pub(crate) fn begin(&self) -> Begun<'_> {
        let id = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        self.thread.store(id, Ordering::Release);
        Begun { local: self, thread: id }
    }

    /// Whether a request comes from that thread.
    pub(crate) fn is_from(&self, thread: u32) -> bool {
        thread != 0 && self.thread.load(Ordering::Acquire) == thread
    }

    /// What the thread is doing.
    pub(crate) fn task(&self) -> Option<Task> {
        self.lock().clone()
    }

    /// The thread is doing this.
    pub(crate) fn set(&self, task: Option<Task>) {
        *self.lock() = task;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Task>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That thread runs.
pub(crate) struct Begun<'a> {
    local: &'a Local,
    thread: u32,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let (acquire, relaxed) = (Ordering::AcqRel, Ordering::Relaxed);
        // Not if the next one has begun.
        let _ = self.local.thread.compare_exchange(self.thread, 0, acquire, relaxed);
    }
}

impl Task {
    /// Whether this name may be told to be removed: that is what is being done, and the name is not
    /// there again. Whoever uses what is there now must not see it removed.
    pub(crate) fn removes(&self, parent: NodeId, name: &OsStr, is_there: bool) -> bool {
        let is_it = matches!(self, Self::Remove(at, old, _) if *at == parent && **old == *name);
        is_it && !is_there
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::source::{Attributes, FileKind, ObjectId};

    #[test]
    fn a_thread_that_has_ended_is_not_taken_for_another() {
        let local = Arc::new(Local::default());
        for fails in [false, true] {
            let its = Arc::clone(&local);
            let thread = std::thread::spawn(move || {
                let _begun = its.begin();
                let id = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
                assert!(its.is_from(id));
                if fails {
                    std::panic::resume_unwind(Box::new(id));
                }
                id
            });
            let id = thread.join().unwrap_or_else(|id| *id.downcast().expect("a number"));
            assert!(!local.is_from(id));
        }
    }

    #[test]
    fn a_name_that_is_there_again_is_not_removed() {
        let object = ObjectId::default();
        let (accessed, modified, changed) = (UNIX_EPOCH, UNIX_EPOCH, UNIX_EPOCH);
        let (kind, mode, links) = (FileKind::Directory, 0o755, 2);
        let (uid, gid, rdev, size, blocks) = (0, 0, 0, 0, 0);
        let attributes = Attributes {
            object,
            kind,
            mode,
            links,
            uid,
            gid,
            rdev,
            size,
            blocks,
            accessed,
            modified,
            changed,
        };
        let gone = Gone { node: 7, generation: 0, attributes };
        let task = Task::Remove(1, OsStr::new("dist").into(), gone);
        let dist = OsStr::new("dist");
        assert!(task.removes(1, dist, false));
        assert!(!task.removes(1, dist, true));
        assert!(!task.removes(2, dist, false));
        assert!(!task.removes(1, OsStr::new("src"), false));
        assert!(!Task::Touch.removes(1, dist, false));
    }
}
