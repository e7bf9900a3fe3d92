//! Stands in for an engine that is driven by changes: the same calls, by looking at both sides on a
//! tick. It goes when the engine that watches comes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Engine, SyncError};
use crate::sync::plan::{Conflict, Problem};
use crate::sync::report::Report;
use crate::sync::safety::Halt;
use crate::sync::tracked::count_files;

/// Between two looks at both sides.
const TICK: Duration = Duration::from_millis(300);

/// Tells when there is something to synchronise.
#[derive(Debug, Default)]
pub struct Inbox {}

impl Inbox {
    /// Returns when [`Engine::step`] would have something to do.
    pub async fn changed(&self) {
        tokio::time::sleep(TICK).await;
    }
}

/// What an engine knows of its two sides.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// Files and links that are the same on both sides.
    pub files: u64,
    /// Where the sides disagree.
    pub conflicts: Vec<Conflict>,
    /// What is left out, and why.
    pub problems: Vec<Problem>,
    /// The halt that stands.
    pub halted: Option<Halt>,
    /// Why a side is not fully watched, host and sandbox.
    pub watching: [Option<String>; 2],
}

/// What the last cycle left.
#[derive(Default)]
pub(super) struct State {
    inbox: Arc<Inbox>,
    accepted: bool,
    halted: Option<Halt>,
    conflicts: Vec<Conflict>,
    problems: BTreeSet<Problem>,
}

impl State {
    /// Lets a halt pass that a person has accepted.
    pub(super) fn allow(&mut self, checked: Result<(), Halt>) -> Result<(), Halt> {
        self.halted = checked.err();
        match &self.halted {
            Some(halt) if !std::mem::take(&mut self.accepted) => Err(halt.clone()),
            _ => {
                self.halted = None;
                Ok(())
            }
        }
    }
}

impl Engine {
    /// Where changes show.
    pub fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.shim.inbox)
    }

    /// Carries out what has changed.
    ///
    /// # Errors
    /// As [`Engine::synchronise`].
    pub async fn step(&mut self) -> Result<Report, SyncError> {
        self.synchronise().await
    }

    /// Makes both sides the same, as far as the mode and conflicts let it.
    ///
    /// # Errors
    /// If a side as a whole cannot be read or written; single paths are in the report.
    pub async fn synchronise(&mut self) -> Result<Report, SyncError> {
        let report = self.cycle().await?;
        self.shim.conflicts.clone_from(&report.conflicts);
        self.shim.problems.clone_from(&report.problems);
        Ok(report)
    }

    /// What is known of both sides.
    pub fn overview(&self) -> Overview {
        Overview {
            files: count_files(self.ancestor.root()),
            conflicts: self.shim.conflicts.clone(),
            problems: self.shim.problems.iter().cloned().collect(),
            halted: self.shim.halted.clone(),
            watching: [None, None],
        }
    }

    /// The halt that stands may be carried out, once.
    pub fn accept(&mut self) {
        self.shim.accepted = self.shim.halted.is_some();
    }

    /// The halt that stands.
    pub fn halted(&self) -> Option<&Halt> {
        self.shim.halted.as_ref()
    }
}
