//! How long the agent lives without a session (`design.md` §9).
//!
//! A link holds the lease while it is open. When the last one ends the clock starts, and when it
//! runs out the agent stops its operations and exits; on Docker that ends the container, so
//! clean-up needs nobody alive on the host.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// The agent's lease.
#[derive(Debug)]
pub struct Lease {
    length: Duration,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    holders: usize,
    /// When the lease was last let go.
    free_since: Instant,
}

impl Lease {
    /// A lease that nobody holds yet: its clock starts now.
    pub fn new(length: Duration) -> Self {
        let state = watch::Sender::new(State { holders: 0, free_since: Instant::now() });
        Self { length, state }
    }

    /// Holds the lease until the returned value is dropped.
    pub fn hold(&self) -> Held {
        self.state.send_modify(|state| state.holders += 1);
        Held(self.state.clone())
    }

    /// Returns when nobody has held the lease for its whole length.
    pub async fn expired(&self) {
        let mut changes = self.state.subscribe();
        loop {
            let state = *changes.borrow_and_update();
            if state.holders > 0 {
                // The sender lives in `self`, so this ends with a change.
                let _ = changes.changed().await;
                continue;
            }
            let deadline = state.free_since + self.length;
            if tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// One holder of a [`Lease`].
#[derive(Debug)]
pub struct Held(watch::Sender<State>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send_modify(|state| {
            state.holders -= 1;
            state.free_since = Instant::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_starts_when_the_last_holder_goes() {
        let start = Instant::now();
        let lease = Lease::new(Duration::from_secs(45));
        let (first, second) = (lease.hold(), lease.hold());
        tokio::join!(lease.expired(), async {
            tokio::time::sleep(Duration::from_secs(100)).await;
            drop(first);
            tokio::time::sleep(Duration::from_secs(20)).await;
            drop(second);
        });
        assert_eq!(start.elapsed(), Duration::from_secs(165));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_nobody_ever_takes_runs_out() {
        let start = Instant::now();
        Lease::new(Duration::from_secs(45)).expired().await;
        assert_eq!(start.elapsed(), Duration::from_secs(45));
    }
}
