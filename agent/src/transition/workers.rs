//! Threads that write small files while the caller goes on reading steps.
//!
//! A thread of its own each, because the work is system calls that block; a mutex, because the
//! queue is shared between them. They exist from the first job on to the end of the call.

use std::collections::{HashSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

use super::Transition;
use crate::path::SyncPath;
use crate::staging::Content;

/// Jobs that may wait; past it the sender does.
const QUEUE_JOB_COUNT_MAX: usize = 1024;
/// Bytes of content that may wait; past it the sender does. A single job is at most 64 KiB.
const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Jobs that a worker takes at once, so that the lock is not taken for each.
const TAKE_COUNT_MAX: usize = 16;

/// One file to write.
pub(super) struct Job {
    pub(super) index: u64,
    pub(super) transition: Transition,
    pub(super) content: Option<Content>,
}

impl Job {
    fn bytes(&self) -> usize {
        match &self.content {
            Some(Content::Inline(data)) => data.len(),
            Some(Content::Staged(_)) | None => 0,
        }
    }
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    bytes: usize,
    /// Paths of jobs that wait or are being done.
    paths: HashSet<SyncPath>,
    idle: usize,
    closed: bool,
    /// A worker panicked; nobody waits for it, and the panic goes on when it is joined.
    broken: bool,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    /// For the workers: there is a job, or no more will come.
    ready: Condvar,
    /// For the sender: something was done.
    done: Condvar,
}

/// The sender's end.
pub(super) struct Workers<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    queue: &'env Queue,
    work: &'env (dyn Fn(Job) + Sync),
    count_max: usize,
    count: usize,
}

/// Runs `body` with up to `count_max` workers and waits until all jobs are done.
pub(super) fn with(
    count_max: usize,
    work: &(dyn Fn(Job) + Sync),
    body: impl FnOnce(&mut Workers<'_, '_>),
) {
    let queue = Queue::default();
    std::thread::scope(|scope| {
        // Also when `body` panics: the scope waits for the workers.
        let _close = Close(&queue);
        body(&mut Workers { scope, queue: &queue, work, count_max, count: 0 });
    });
}

struct Close<'a>(&'a Queue);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.ready.notify_all();
    }
}

struct Broken<'a>(&'a Queue);

impl Drop for Broken<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().broken = true;
            self.0.done.notify_all();
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, is_so: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while !state.broken && is_so(&state) {
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn run(&self, work: &(dyn Fn(Job) + Sync)) {
        let _broken = Broken(self);
        let mut taken: Vec<Job> = Vec::with_capacity(TAKE_COUNT_MAX);
        let mut paths: Vec<SyncPath> = Vec::with_capacity(TAKE_COUNT_MAX);
        loop {
            let mut state = self.lock();
            for path in paths.drain(..) {
                state.paths.remove(&path);
            }
            self.done.notify_one();
            while state.jobs.is_empty() {
                if state.closed {
                    return;
                }
                state.idle += 1;
                state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
            let count = (state.jobs.len() / 2).clamp(1, TAKE_COUNT_MAX);
            taken.extend(state.jobs.drain(..count));
            state.bytes -= taken.iter().map(Job::bytes).sum::<usize>();
            drop(state);
            for job in taken.drain(..) {
                paths.push(job.transition.path.clone());
                work(job);
            }
        }
    }
}

impl Workers<'_, '_> {
    /// Waits for the workers if the transition must not overtake them: it removes something, or
    /// one of them has the same path.
    pub(super) fn wait_for(&self, transition: &Transition) {
        let must_wait = self.count > 0 && {
            let state = self.queue.lock();
            !state.paths.is_empty()
                && (transition.new.is_none() || state.paths.contains(&transition.path))
        };
        if must_wait {
            drop(self.queue.wait_while(|state| !state.paths.is_empty()));
        }
    }

    /// Hands a job over; waits while the queue is full.
    pub(super) fn send(&mut self, job: Job) {
        if self.count < self.count_max {
            let (queue, work) = (self.queue, self.work);
            let worker = std::thread::Builder::new();
            match worker.spawn_scoped(self.scope, move || queue.run(work)) {
                Ok(_) => self.count += 1,
                // A command may have used up all processes that there may be.
                Err(_) if self.count == 0 => return work(job),
                Err(_) => {}
            }
        }
        let mut state = self.queue.wait_while(|state| {
            state.jobs.len() >= QUEUE_JOB_COUNT_MAX || state.bytes >= QUEUE_BYTES_MAX
        });
        state.bytes += job.bytes();
        state.paths.insert(job.transition.path.clone());
        state.jobs.push_back(job);
        let is_anyone_idle = state.idle > 0;
        drop(state);
        if is_anyone_idle {
            self.queue.ready.notify_one();
        }
    }
}
