//! Waiting with an end, for what may hang.

use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;

/// Waits for something for at most `patience`; nothing if it is late.
pub(super) fn wait<T>(patience: Duration, what: impl Future<Output = T>) -> Option<T> {
    super::runtime().ok()?.block_on(async { tokio::time::timeout(patience, what).await.ok() })
}

/// Does something that may hang, in a thread that may be left behind; nothing if it is late.
pub(super) fn bounded<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (tell, told) = mpsc::channel();
    std::thread::Builder::new().spawn(move || tell.send(work())).ok()?;
    told.recv_timeout(patience).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_not_waited_for_longer() {
        assert_eq!(wait(Duration::from_millis(10), std::future::pending::<()>()), None);
        assert_eq!(wait(Duration::from_secs(5), async { 7 }), Some(7));
        assert_eq!(bounded(Duration::from_millis(10), std::thread::park), None);
    }
}
