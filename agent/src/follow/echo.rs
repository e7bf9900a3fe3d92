//! Steps that change the tree under the follower's eyes: they are in the tree when they are
//! reported, and their own events are known when they come.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Mark, OUTCOMES_PER_WAKE, Outcome, Shared, State, Status, Step};
use crate::entry::Entry;
use crate::path::SyncPath;

/// What the steps that are under way will have made of their paths, by number.
type Begun = HashMap<u64, (SyncPath, Option<Entry>)>;

pub(super) fn apply(
    shared: &Shared,
    call: Option<u64>,
    steps: impl Iterator<Item = Step>,
    report: &mut (impl FnMut(Outcome) + Send),
) {
    let begun: Mutex<Begun> = Mutex::default();
    let lock = || begun.lock().unwrap_or_else(PoisonError::into_inner);
    let next = AtomicU64::new(0);
    shared.state().applying += 1;
    let steps = steps.inspect(|step| {
        if let Step::Transition(transition) = step {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let (path, new) = (transition.path.clone(), transition.new.clone());
            shared.state().begin(&path);
            lock().insert(index, (path, new));
        }
    });
    let mut unsaid = 0;
    shared.endpoint.apply(steps, &mut |outcome: Outcome| {
        // Every outcome is of a transition that was begun.
        let begun = lock().remove(&outcome.index);
        let outcome = match begun {
            Some((path, new)) => finish(shared, call, &path, new, outcome),
            None => outcome,
        };
        unsaid += 1;
        if unsaid >= OUTCOMES_PER_WAKE {
            unsaid = 0;
            say(shared);
        }
        report(outcome);
    });
    {
        let mut state = shared.state();
        state.applying -= 1;
        // What was begun and never reported: the steps ended early.
        for (_, (path, _)) in lock().drain() {
            state.end(&path);
        }
    }
    say(shared);
    shared.wake();
}

/// Tells those who wait that there is a newer state.
fn say(shared: &Shared) {
    let seq = shared.state().seq;
    shared.seq.send_if_modified(|said| std::mem::replace(said, seq) != seq);
}

fn finish(
    shared: &Shared,
    call: Option<u64>,
    path: &SyncPath,
    new: Option<Entry>,
    outcome: Outcome,
) -> Outcome {
    let Outcome { index, mut status } = outcome;
    let mut is_new_directory = false;
    {
        let mut state = shared.state();
        state.end(path);
        if status == Status::Applied {
            is_new_directory = matches!(new, Some(Entry::Directory(_)))
                && state.tree.find(path).and_then(Entry::as_directory).is_none();
            if state.tree.put_shallow(path, new) {
                state.echoes.insert(path.clone());
            } else {
                // Its directory is there and not in the tree yet: it is told once it is.
                status = Status::Stale;
            }
        }
        // The disk is not what the tree said, or not what the step wanted.
        if status != Status::Applied {
            let tell = status == Status::Stale;
            state.requests.marks.push(Mark { path: path.clone(), below: true, tell });
        }
        if let Some(call) = call {
            state.outcomes.push((call, Outcome { index, status: status.clone() }));
        }
        state.next();
    }
    if is_new_directory {
        watch_new(shared, path);
    }
    Outcome { index, status }
}

/// Watches a directory that a step made, before another step puts something into it.
fn watch_new(shared: &Shared, path: &SyncPath) {
    let Some(watcher) = &shared.watcher else { return };
    let Ok(directory) = shared.endpoint.root().open_directory(path) else { return };
    if let Err(error) = watcher.add(path, &directory) {
        shared.state().unwatched.get_or_insert(error.to_string());
    }
    // Somebody was quicker than the watch.
    if directory.list(&mut Vec::new()).is_ok_and(|names| !names.is_empty()) {
        shared.mark(Mark { path: path.clone(), below: true, tell: false });
    }
}

impl State {
    fn begin(&mut self, path: &SyncPath) {
        *self.active.entry(path.clone()).or_default() += 1;
    }

    fn end(&mut self, path: &SyncPath) {
        if let Some(touched) = &mut self.touched {
            touched.insert(path.clone());
        }
        if let Some(count) = self.active.get_mut(path) {
            *count -= 1;
            if *count == 0 {
                self.active.remove(path);
            }
        }
    }
}
