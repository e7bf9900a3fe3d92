//! The sandbox's tree as the agent tells it: a replica that is kept by replaying states in order.
//!
//! Outcomes of steps come in the same order as changes, so at every moment this is exactly what the
//! agent's tree was at one moment. The agent is not trusted: what does not fit ends the link.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skync_agent::entry::Entry;
use skync_agent::path::SyncPath;
use skync_agent::transition::Status;
use skync_agent::wire::{TREE_ENTRIES_MAX, TreeState, WireError};
use tokio::sync::watch;

use super::core::Outcomes;
use super::plan::Step;

/// A call of `Apply` that is under way.
#[derive(Debug)]
struct Call {
    steps: Arc<Vec<Step>>,
    /// The step behind each transition that was sent.
    sent: Vec<usize>,
    outcomes: Outcomes,
}

#[derive(Debug, Default)]
struct State {
    /// Nothing before the first state has come.
    tree: Option<Entry>,
    entries: u64,
    changed: Vec<SyncPath>,
    calls: HashMap<u64, Call>,
    last_call: u64,
    lost: Option<String>,
    unwatched: Option<String>,
}

/// How far the stream of states has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All up to this state are here.
    At(u64),
    /// It has ended, and why; nothing more comes.
    Ended(String),
}

/// What is new since the last taking.
#[derive(Debug)]
pub struct Taken {
    /// The tree; nothing if the first state is not there.
    pub tree: Option<Entry>,
    /// The paths that changed, each with everything below it.
    pub changed: Vec<SyncPath>,
    /// The sandbox's root cannot be read any more, and why.
    pub lost: Option<String>,
    /// Why not everything is watched.
    pub unwatched: Option<String>,
}

/// The replica of one stream of states.
#[derive(Debug)]
pub struct Replay {
    name: u64,
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
}

impl Default for Replay {
    fn default() -> Self {
        Self::of(0)
    }
}

impl Replay {
    /// The replica of the stream of this name.
    pub fn of(name: u64) -> Self {
        Self { name, state: Mutex::default(), progress: watch::Sender::new(Progress::At(0)) }
    }

    /// The name of its stream; 0 if it has none.
    pub fn name(&self) -> u64 {
        self.name
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in here would leave a tree that is not the agent's; the task that had it ends,
        // and with it the stream.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes with every state.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Takes the next state.
    ///
    /// # Errors
    /// If it does not fit the tree: then the agent broke the contract.
    pub fn replay(&self, state: TreeState) -> Result<(), WireError> {
        let seq = state.seq;
        self.state().replay(state)?;
        self.progress.send_replace(Progress::At(seq));
        Ok(())
    }

    /// No more states come.
    pub fn end(&self, why: String) {
        self.progress.send_replace(Progress::Ended(why));
    }

    /// Takes what is new.
    pub fn take(&self) -> Taken {
        let mut state = self.state();
        Taken {
            tree: state.tree.clone(),
            changed: std::mem::take(&mut state.changed),
            lost: state.lost.clone(),
            unwatched: state.unwatched.clone(),
        }
    }

    /// Lets `change` make the tree share what it has in common with another one.
    pub fn share(&self, change: impl FnOnce(&mut Entry)) {
        if let Some(tree) = &mut self.state().tree {
            change(tree);
        }
    }

    /// Begins a call of `Apply` and gives its number.
    pub fn begin(&self, steps: &Arc<Vec<Step>>) -> u64 {
        let mut state = self.state();
        state.last_call += 1;
        let number = state.last_call;
        let outcomes = vec![None; steps.len()];
        let call = Call { steps: Arc::clone(steps), sent: Vec::new(), outcomes };
        state.calls.insert(number, call);
        number
    }

    /// The next transition of the call will be that of this step.
    pub fn sending(&self, call: u64, step: usize) {
        if let Some(call) = self.state().calls.get_mut(&call) {
            call.sent.push(step);
        }
    }

    /// What is known of a call's steps; nothing more of it will be taken.
    pub fn finish(&self, call: u64) -> Outcomes {
        self.state().calls.remove(&call).map(|call| call.outcomes).unwrap_or_default()
    }

    /// Waits until a state has come.
    ///
    /// # Errors
    /// If the stream ends before: why.
    pub async fn reached(&self, seq: u64) -> Result<(), String> {
        let mut progress = self.progress();
        let reached = progress.wait_for(|progress| match progress {
            Progress::At(at) => *at >= seq,
            Progress::Ended(_) => true,
        });
        match reached.await.map(|progress| progress.clone()) {
            Ok(Progress::Ended(why)) => Err(why),
            // The sender is in this value.
            Ok(Progress::At(_)) | Err(_) => Ok(()),
        }
    }
}

impl State {
    fn replay(&mut self, state: TreeState) -> Result<(), WireError> {
        for (call, outcome) in state.outcomes {
            let Some(call) = self.calls.get_mut(&call) else { continue };
            let step = usize::try_from(outcome.index).ok().and_then(|at| call.sent.get(at));
            let Some(&step) = step else { return Err(WireError::Tree("an unknown step")) };
            if outcome.status == Status::Applied {
                let Step { path, new, .. } = &call.steps[step];
                let tree = self.tree.as_mut().ok_or(WireError::Tree("it has no root"))?;
                if !tree.put_shallow(path, new.clone()) {
                    return Err(WireError::Tree("a parent is missing"));
                }
                // About: one that was replaced counts twice, until everything is told again.
                self.entries += 1;
            }
            call.outcomes[step] = Some(outcome.status);
        }
        for (path, entry) in state.changes {
            let before =
                self.tree.as_ref().and_then(|tree| tree.find(&path)).map_or(0, Entry::count);
            self.entries =
                self.entries.saturating_sub(before) + entry.as_ref().map_or(0, Entry::count);
            if self.entries > TREE_ENTRIES_MAX {
                return Err(WireError::Tree("it is too large"));
            }
            if path.is_root() {
                if entry.as_ref().and_then(Entry::as_directory).is_none() {
                    return Err(WireError::Tree("its root is no directory"));
                }
                self.tree = entry;
                self.changed = vec![path];
                continue;
            }
            let tree = self.tree.as_mut().ok_or(WireError::Tree("it has no root"))?;
            if !tree.put(&path, entry) {
                return Err(WireError::Tree("a parent is missing"));
            }
            self.changed.push(path);
        }
        self.lost = state.lost;
        self.unwatched = state.unwatched;
        Ok(())
    }
}
