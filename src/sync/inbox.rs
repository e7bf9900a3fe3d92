//! Wakes whoever keeps the two sides the same, when one of them may have changed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

/// One place to wait at for both sides.
#[derive(Debug, Default)]
pub struct Inbox {
    notify: Notify,
}

impl Inbox {
    /// Returns when there may be something to do; at once if there has been since the last time.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }

    /// There may be something to do.
    pub fn wake(&self) {
        self.notify.notify_one();
    }

    /// Wakes with every new state of a follower, until it ends.
    pub(super) fn listen(self: &Arc<Self>, mut seq: watch::Receiver<u64>) -> AbortHandle {
        let inbox = Arc::clone(self);
        let task = tokio::spawn(async move {
            while seq.changed().await.is_ok() {
                inbox.wake();
            }
        });
        task.abort_handle()
    }

    /// Wakes after a while.
    pub(super) fn wake_after(self: &Arc<Self>, wait: Duration) -> AbortHandle {
        let inbox = Arc::clone(self);
        let task = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            inbox.wake();
        });
        task.abort_handle()
    }
}
