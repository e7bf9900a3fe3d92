//! The way back into the kernel.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use fuser::{INodeNo, Notifier};

use super::Activity;
use crate::content::ContentVersion;
use crate::filesystem::Filesystem;
use crate::nodes::{Event, Name, NodeId};
use crate::notify::{Files, Kernel, Replayer};
use crate::source::Source;

/// The kernel, told through its library.
#[derive(Clone)]
pub(crate) struct FuserKernel(pub(crate) Notifier);

impl Kernel for FuserKernel {
    fn entry(&self, parent: NodeId, name: &Name) -> io::Result<()> {
        self.0.inval_entry(INodeNo(parent), name)
    }

    fn attributes(&self, node: NodeId) -> io::Result<()> {
        // A negative offset leaves the pages alone.
        self.0.inval_inode(INodeNo(node), -1, 0)
    }

    fn content(&self, node: NodeId) -> io::Result<()> {
        self.0.inval_inode(INodeNo(node), 0, 0)
    }

    fn store(&self, node: NodeId, data: &[u8]) -> io::Result<()> {
        self.0.store(INodeNo(node), 0, data)
    }
}

/// What the filesystem knows, for the thread that tells the kernel.
pub(crate) struct MountFiles<S: Source> {
    pub(crate) filesystem: Arc<Filesystem<S>>,
    pub(crate) activity: Arc<Activity>,
    // Taken away before the mount is unmounted: its thread has the root open.
    pub(crate) replayer: Arc<Mutex<Option<Replayer>>>,
}

impl<S: Source> Files for MountFiles<S> {
    fn is_reading(&self, node: NodeId) -> bool {
        self.filesystem.contents().is_reading(node)
    }

    fn is_still(&self, node: NodeId, version: ContentVersion) -> bool {
        let has_writers = self.filesystem.has_writers(node);
        !has_writers && self.filesystem.contents().version(node) == version
    }

    fn is_replying(&self) -> bool {
        self.activity.is_replying()
    }

    fn event(&self, event: Event) {
        let replayer = self.replayer.lock().unwrap_or_else(PoisonError::into_inner);
        let is_sent = match (&*replayer, self.filesystem.replay_of(&event)) {
            (Some(replayer), Some(replay)) => replayer.send(replay),
            _ => false,
        };
        if !is_sent && let Event::Gone(_, _, gone) = &event {
            self.filesystem.event_is_over(Some(gone));
        }
    }
}
