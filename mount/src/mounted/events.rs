//! The thread that makes events happen on a mount, while there is one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::Served;
use crate::nodes::Gone;
use crate::notify::{Act, Local, Replay, Replayer, Task};

/// The thread that makes events happen, which opens the root now and then.
#[derive(Clone)]
pub(super) struct Events {
    is_wanted: bool,
    at: PathBuf,
    device: (u32, u32),
    local: Arc<Local>,
    filesystem: Arc<dyn Served>,
    replayer: Arc<Mutex<Option<Replayer>>>,
    /// Threads that were told to end.
    ending: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Events {
    pub(super) fn new(
        is_wanted: bool,
        at: &Path,
        device: (u32, u32),
        local: Arc<Local>,
        filesystem: Arc<dyn Served>,
    ) -> Self {
        let (replayer, ending) = (Arc::default(), Arc::default());
        Self { is_wanted, at: at.to_owned(), device, local, filesystem, replayer, ending }
    }

    pub(super) fn start(&self) {
        if !self.is_wanted {
            return;
        }
        let filesystem = Arc::clone(&self.filesystem);
        let done = move |replay: &Replay| filesystem.event_is_over(replay);
        match Replayer::start(&self.at, self.device, Arc::clone(&self.local), done) {
            Ok(replayer) => *lock(&self.replayer) = Some(replayer),
            Err(error) => tracing::warn!(%error, "those who watch a mount hear of nothing"),
        }
    }

    /// Nothing more happens, but perhaps what is just under way. Waits for nothing.
    pub(super) fn halt(&self) {
        let replayer = lock(&self.replayer).take();
        if let Some(replayer) = replayer {
            lock(&self.ending).push(replayer.end());
        }
    }

    /// Returns when nothing more happens.
    pub(super) fn stop(&self) {
        self.halt();
        let ending = std::mem::take(&mut *lock(&self.ending));
        for thread in ending {
            if thread.join().is_err() {
                tracing::warn!("the thread for events has failed");
            }
        }
    }

    pub(super) fn waiting(&self) -> usize {
        lock(&self.replayer).as_ref().map_or(0, Replayer::waiting)
    }

    /// Where events go, while there is a thread for them.
    pub(super) fn replayer(&self) -> Arc<Mutex<Option<Replayer>>> {
        Arc::clone(&self.replayer)
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Replay {
    /// The object whose name is gone, if that is what is told.
    pub(super) fn gone(&self) -> Option<&Gone> {
        match &self.act {
            Act::Task(Task::Remove(_, _, gone)) => Some(gone),
            _ => None,
        }
    }
}
