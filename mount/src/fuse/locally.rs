//! Answers for the thread that makes events happen (see [`crate::notify`]): out of what is known,
//! never from the source, at once.

use std::ffi::OsStr;
use std::time::Duration;

use fuser::{
    Errno, FileHandle, FopenFlags, Generation, ReplyAttr, ReplyCreate, ReplyEmpty, ReplyEntry,
};

use super::Adapter;
use super::attr::file_attr;
use super::replies::entry;
use crate::nodes::NodeId;
use crate::notify::{LOCAL_HANDLE, Task};
use crate::source::Source;

impl<S: Source> Adapter<S> {
    pub(super) fn lookup_locally(&self, parent: NodeId, name: &OsStr, reply: ReplyEntry) {
        match self.local.task() {
            Some(Task::Make(at, new)) if at == parent && *new == *name => {
                reply.error(Errno::ENOENT);
            }
            Some(Task::Remove(at, old, gone)) if at == parent && *old == *name => {
                entry(reply, &self.filesystem.show_gone(&gone));
            }
            _ => match self.filesystem.show_known(parent, name) {
                Some(shown) => entry(reply, &shown),
                None => reply.error(Errno::ENOENT),
            },
        }
    }

    pub(super) fn getattr_locally(&self, node: NodeId, reply: ReplyAttr) {
        match self.filesystem.show_node(node) {
            // The kernel asks again, so that what it knows is not from here.
            Some(shown) => reply.attr(&Duration::ZERO, &file_attr(&shown)),
            None => reply.error(Errno::ESTALE),
        }
    }

    /// Something is made that is there.
    pub(super) fn make_locally(&self, parent: NodeId, name: &OsStr, reply: ReplyEntry) {
        match self.filesystem.show_known(parent, name) {
            Some(shown) => entry(reply, &shown),
            None => reply.error(Errno::ENOENT),
        }
    }

    pub(super) fn create_locally(&self, parent: NodeId, name: &OsStr, reply: ReplyCreate) {
        match self.filesystem.show_known(parent, name) {
            Some(shown) => reply.created(
                &shown.attributes_ttl.min(shown.entry_ttl),
                &file_attr(&shown),
                Generation(shown.generation),
                FileHandle(LOCAL_HANDLE),
                FopenFlags::FOPEN_KEEP_CACHE,
            ),
            None => reply.error(Errno::ENOENT),
        }
    }

    /// Something is removed that is gone. What is there again stays: somebody may be in there.
    pub(super) fn remove_locally(&self, parent: NodeId, name: &OsStr, reply: ReplyEmpty) {
        let known = self.filesystem.show_known(parent, name);
        if let Some(shown) = &known {
            // Nothing is shown to the kernel here.
            self.filesystem.forget(std::iter::once((shown.node, 1)));
        }
        match self.local.task() {
            Some(task) if task.removes(parent, name, known.is_some()) => reply.ok(),
            _ => reply.error(Errno::EBUSY),
        }
    }
}
