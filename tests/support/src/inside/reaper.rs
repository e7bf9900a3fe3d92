//! Children of the first process: started here, and all waited for, orphans too.
//!
//! `waitpid(-1)` would take the exit status of a child from under whoever waits for it by its id,
//! so nothing inside of a sandbox waits in any other way (no `tokio::process`, no `Child::wait`).

use std::collections::HashMap;
use std::io;
use std::process::Child;
use std::sync::{Arc, Mutex};

use rustix::process::{WaitOptions, WaitStatus, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::wire::lock;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with this code.
    Exited(i32),
    /// A signal killed it.
    Signaled(i32),
}

/// Waits for all children of this process. A clone is the same.
#[derive(Clone)]
pub struct Reaper {
    waiting: Arc<Mutex<HashMap<u32, oneshot::Sender<End>>>>,
}

impl Reaper {
    /// Starts to wait for children, also for those that were handed to the first process.
    pub fn start() -> io::Result<Self> {
        let reaper = Self { waiting: Arc::default() };
        let mut ended = signal(SignalKind::child())?;
        let own = reaper.clone();
        tokio::spawn(async move {
            while ended.recv().await.is_some() {
                own.reap();
            }
        });
        Ok(reaper)
    }

    /// Runs `spawn` and returns its child, and by what its end is told.
    pub fn spawn(
        &self,
        spawn: impl FnOnce() -> io::Result<Child>,
    ) -> io::Result<(Child, oneshot::Receiver<End>)> {
        // Held while it starts: nobody takes the status of a child that is not yet known, nor that
        // of one that std itself waits for because it could not be executed.
        let mut waiting = lock(&self.waiting);
        let child = spawn()?;
        let (sender, receiver) = oneshot::channel();
        waiting.insert(child.id(), sender);
        Ok((child, receiver))
    }

    fn reap(&self) {
        let mut waiting = lock(&self.waiting);
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let Ok(pid) = u32::try_from(pid.as_raw_nonzero().get()) else { continue };
            if let (Some(sender), Some(end)) = (waiting.remove(&pid), end(status)) {
                let _ = sender.send(end);
            }
        }
    }
}

fn end(status: WaitStatus) -> Option<End> {
    let exited = status.exit_status().map(End::Exited);
    exited.or_else(|| status.terminating_signal().map(End::Signaled))
}
