//! The kernel's requests for a [`Filesystem`]: only translated here.
//!
//! A request is polled once, in the thread of the kernel's library that got it: what is known is
//! answered right there. If it has to wait, it goes on as a task, and the thread takes the next one.
//! Whatever happens to it, it is answered: a reply that is dropped says `EIO`, and a request that
//! takes too long is dropped. One that is not answered could not be killed.

mod attr;
mod kernel;
mod locally;
mod replies;
mod requests;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use fuser::Request;

pub(crate) use kernel::{FuserKernel, MountFiles};

use crate::filesystem::Filesystem;
use crate::notify::Local;
use crate::source::Source;

/// A filesystem as the kernel's library wants it.
pub(crate) struct Adapter<S: Source> {
    filesystem: Arc<Filesystem<S>>,
    local: Arc<Local>,
    activity: Arc<Activity>,
    deadline: Duration,
}

/// Requests that came in, and that were answered.
#[derive(Debug)]
pub(crate) struct Activity {
    begun: AtomicU64,
    ended: AtomicU64,
    since: Instant,
    /// When the last one was answered, as milliseconds since then; 0 before the first.
    last: AtomicU64,
}

/// A reply that was written has been taken in by the kernel by then.
const ARRIVES_WITHIN: Duration = Duration::from_millis(100);

impl Default for Activity {
    fn default() -> Self {
        let (begun, ended, last) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Self { begun, ended, since: Instant::now(), last }
    }
}

impl Activity {
    /// Whether a reply may be on its way into the kernel.
    pub(crate) fn is_replying(&self) -> bool {
        self.is_replying_at(Instant::now())
    }

    fn is_replying_at(&self, now: Instant) -> bool {
        if self.ended.load(Ordering::Acquire) < self.begun.load(Ordering::Acquire) {
            return true;
        }
        let last = self.last.load(Ordering::Acquire);
        last != 0 && now < self.since + Duration::from_millis(last) + ARRIVES_WITHIN
    }

    /// A reply is written now.
    fn replies(&self) {
        // Never too early, and never 0.
        let now = self.since.elapsed().as_millis() as u64 + 1;
        self.last.fetch_max(now, Ordering::AcqRel);
    }
}

/// One request; it is over when this is dropped.
struct Running(Arc<Activity>);

impl Running {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.begun.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(activity))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.replies();
        self.0.ended.fetch_add(1, Ordering::AcqRel);
    }
}

impl<S: Source> Adapter<S> {
    pub(crate) fn new(
        filesystem: Arc<Filesystem<S>>,
        local: Arc<Local>,
        activity: Arc<Activity>,
        deadline: Duration,
    ) -> Self {
        Self { filesystem, local, activity, deadline }
    }

    /// Carries out a request that replies at its end.
    fn run(&self, request: impl Future<Output = ()> + Send + 'static) {
        self.run_within(request, false);
    }

    /// Carries out a request that may have to wait for what was written before. As long as some of that
    /// arrives it may take any time.
    fn run_after_writes(&self, request: impl Future<Output = ()> + Send + 'static) {
        self.run_within(request, true);
    }

    fn run_within(&self, request: impl Future<Output = ()> + Send + 'static, after_writes: bool) {
        let running = Running::begin(&self.activity);
        let mut request: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(request);
        let entered = self.filesystem.runtime().enter();
        let mut context = Context::from_waker(Waker::noop());
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| {
            request.as_mut().poll(&mut context).is_ready()
        }));
        drop(entered);
        // After a panic the request is not polled again; its reply was dropped, which answers it.
        if matches!(polled, Ok(false)) {
            let (deadline, filesystem) = (self.deadline, Arc::clone(&self.filesystem));
            let arrived = move || if after_writes { filesystem.contents().arrived() } else { 0 };
            self.filesystem.runtime().spawn(async move {
                if !within(deadline, request, arrived).await {
                    tracing::warn!("a request was not answered in time");
                }
                drop(running);
            });
        }
    }

    fn is_local(&self, request: &Request) -> bool {
        let is_local = self.local.is_from(request.pid());
        if is_local {
            self.activity.replies();
        }
        is_local
    }
}

/// Waits for a request, and gives it up if it takes too long; the time begins anew with whatever
/// arrived meanwhile. Says whether it came to its end.
async fn within(
    deadline: Duration,
    mut request: Pin<Box<dyn Future<Output = ()> + Send>>,
    arrived: impl Fn() -> u64,
) -> bool {
    loop {
        let before = arrived();
        if tokio::time::timeout(deadline, &mut request).await.is_ok() {
            return true;
        }
        if arrived() == before {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_that_was_just_written_may_be_on_its_way() {
        let activity = Arc::new(Activity::default());
        assert!(!activity.is_replying());
        let running = Running::begin(&activity);
        let later = Instant::now() + Duration::from_secs(3600);
        assert!(activity.is_replying_at(later));
        drop(running);
        let ended = Instant::now();
        assert!(activity.is_replying_at(ended));
        assert!(activity.is_replying_at(ended + ARRIVES_WITHIN / 4));
        assert!(!activity.is_replying_at(ended + ARRIVES_WITHIN * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_may_take_any_time_as_long_as_something_arrives() {
        let second = Duration::from_secs(1);
        let slow = || Box::pin(tokio::time::sleep(second * 10));
        let begun = tokio::time::Instant::now();
        assert!(within(second, slow(), || begun.elapsed().as_millis() as u64).await);
        assert_eq!(begun.elapsed(), second * 10);
        let begun = tokio::time::Instant::now();
        // Something arrives for three seconds, and no longer.
        let arrived = || begun.elapsed().min(second * 3).as_millis() as u64;
        assert!(!within(second, slow(), arrived).await);
        assert_eq!(begun.elapsed(), second * 4);
    }
}
