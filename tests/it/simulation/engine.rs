//! The session's side of a history: the one place that uses [`Core`].
//!
//! It does per cycle what the engine does: takes what the followers tell, plans, has the steps
//! carried out, takes over the outcomes, and records what both sides hold once it is durable.

use std::path::Path;
use std::sync::LazyLock;

use skync::config::SyncMode;
use skync::sync::ancestor::{Ancestor, AncestorSet};
use skync::sync::core::{Batch, Core, Outcomes, View};
use skync::sync::guard::Guards;
use skync::sync::plan::{Conflict, Problem, Step};
use skync::sync::safety::Folds;
use skync_agent::entry::{Entry, differences};
use skync_agent::path::SyncPath;
use skync_agent::rules::Rules;
use skync_agent::transition::Status;

use super::disk::related;
use super::follower::Told;
use super::oracle::Ledger;
use super::world::Mutation;

/// What one side's endpoint says, in this order.
#[derive(Clone, Debug)]
pub enum Message {
    /// Its whole tree: the first, and after a link was cut.
    Whole(Entry),
    /// Something is different from what was last said.
    Change(Told),
    /// What became of a step.
    Outcome(usize, Status),
}

/// Made once: it compiles patterns.
static GUARDS: LazyLock<Guards> = LazyLock::new(|| Guards::new(Path::new("/project"), None, false));

struct Running {
    batch: Batch,
    outcomes: [Outcomes; 2],
}

/// What came of a wish to plan.
pub enum Planned {
    /// There is nothing to do, or something is being done.
    Nothing,
    /// It looks like an accident.
    Halted(String),
    /// These steps are to be carried out on host and sandbox.
    Steps([Vec<Step>; 2]),
}

/// A session.
pub struct Engine {
    core: Core,
    mode: SyncMode,
    rules: Rules,
    folds_case: bool,
    /// The trees of both sides as far as messages came.
    seen: [Option<Entry>; 2],
    running: Option<Running>,
    /// What is not recorded yet, and what of it is being recorded.
    unsaved: Vec<AncestorSet>,
    saving: Option<Vec<AncestorSet>>,
    /// The record. It outlives the session.
    saved: Ancestor,
    mutation: Option<Mutation>,
}

impl Engine {
    /// A first session.
    pub fn new(mode: SyncMode, rules: Rules, folds_case: bool, mutation: Option<Mutation>) -> Self {
        Self {
            core: Core::new(mode, Ancestor::default()),
            mode,
            rules,
            folds_case,
            seen: [None, None],
            running: None,
            unsaved: Vec::new(),
            saving: None,
            saved: Ancestor::default(),
            mutation,
        }
    }

    /// The session died, or must not go on with what it knows: another one takes the record up.
    pub fn restart(&mut self) {
        self.core = Core::new(self.mode, self.saved.clone());
        self.seen = [None, None];
        self.running = None;
        self.unsaved.clear();
        self.saving = None;
    }

    /// The sandbox is another replica: what was agreed on with the old one is of no use (I9).
    pub fn forget(&mut self) {
        if self.mutation != Some(Mutation::AncestorOfAnotherSandbox) {
            self.saved = Ancestor::default();
        }
        self.restart();
    }

    /// The link is gone, and with it what was on its way: nothing more is known of it.
    pub fn cut(&mut self, now_ns: u64) {
        self.seen[1] = None;
        if let Some(mut running) = self.running.take() {
            if self.mutation == Some(Mutation::LostOutcomesAreApplied) {
                for outcome in running.outcomes.iter_mut().flatten() {
                    outcome.get_or_insert(Status::Applied);
                }
            }
            self.unsaved.extend(self.core.finish(&running.batch, &running.outcomes, now_ns));
        }
    }

    /// Takes what an endpoint says.
    pub fn take(&mut self, side: usize, message: Message, now_ns: u64, ledger: &mut Ledger) {
        match message {
            Message::Whole(tree) => {
                self.seen[side] = Some(tree);
                self.core.touch_all();
            }
            Message::Change((path, entry)) => {
                let Some(seen) = &mut self.seen[side] else { return };
                if !seen.put(&path, entry) {
                    ledger.violated(|| format!("model: {path} does not fit what was told before"));
                }
                self.core.touch(&path, &self.rules);
            }
            Message::Outcome(index, status) => {
                let Some(running) = &mut self.running else { return };
                running.outcomes[side][index] = Some(status);
                self.finish_if_done(now_ns, ledger);
            }
        }
    }

    fn finish_if_done(&mut self, now_ns: u64, ledger: &mut Ledger) {
        let is_done =
            |running: &mut Running| running.outcomes.iter().flatten().all(Option::is_some);
        let Some(Running { batch, outcomes }) = self.running.take_if(is_done) else { return };
        self.unsaved.extend(self.core.finish(&batch, &outcomes, now_ns));
        if let [Some(host), Some(sandbox)] = &mut self.seen {
            let before = sandbox.clone();
            self.core.share(&batch, host, sandbox);
            let mut changed = Vec::new();
            differences(&SyncPath::root(), Some(&before), Some(sandbox), &mut changed);
            if !changed.is_empty() {
                ledger.violated(|| format!("sharing changed the sandbox's tree at {changed:?}"));
            }
        }
    }

    /// True if a plan may be made now.
    pub fn is_ready(&self) -> bool {
        self.running.is_none() && self.seen.iter().all(Option::is_some)
    }

    /// Plans, and begins what was planned.
    pub fn plan(&mut self, now_ns: u64, ledger: &mut Ledger) -> Planned {
        let [Some(host), Some(sandbox)] = &self.seen else { return Planned::Nothing };
        if self.running.is_some() {
            return Planned::Nothing;
        }
        let view = View {
            host: Some(host),
            sandbox: Some(sandbox),
            rules: &self.rules,
            guards: &GUARDS,
            folds: [Folds { case: self.folds_case, form: self.folds_case }, Folds::default()],
        };
        let batch = match self.core.plan(&view, now_ns) {
            Ok(None) => return Planned::Nothing,
            Ok(Some(batch)) => batch,
            Err(halt) => return Planned::Halted(halt.to_string()),
        };
        let steps = batch.steps.each_ref().map(|steps| steps.to_vec());
        if self.mutation == Some(Mutation::RecordBeforeWrite) {
            for step in steps.iter().flatten() {
                self.saved.set(&step.path, step.new.as_ref());
            }
        }
        let outcomes = steps.each_ref().map(|steps| vec![None; steps.len()]);
        self.running = Some(Running { batch, outcomes });
        self.finish_if_done(now_ns, ledger);
        Planned::Steps(steps)
    }

    /// A person allows what was stopped.
    pub fn accept(&mut self) {
        self.core.accept();
    }

    /// Whatever failed is to be tried again.
    pub fn retry(&mut self) {
        self.core.retry();
    }

    /// True if a person is asked.
    pub fn is_halted(&self) -> bool {
        self.core.halted().is_some()
    }

    /// When something that waits is due.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.core.next_due_ns()
    }

    /// True if there is something to record and nothing is being recorded.
    pub fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty() && self.saving.is_none()
    }

    /// True if something is being recorded.
    pub fn is_saving(&self) -> bool {
        self.saving.is_some()
    }

    /// Begins to record: the disks are being made durable.
    pub fn begin_to_save(&mut self) {
        self.saving = Some(std::mem::take(&mut self.unsaved));
    }

    /// The disks are durable: the record is written.
    pub fn save(&mut self, ledger: &mut Ledger) {
        for AncestorSet { path, entry } in self.saving.take().into_iter().flatten() {
            ledger.recorded(&path, entry.as_ref());
            if !self.saved.set(&path, entry.as_ref()) {
                ledger.violated(|| format!("the record has no directory for {path}"));
            }
        }
    }

    /// Conflicts that are open.
    pub fn conflicts(&self) -> Vec<Conflict> {
        self.core.conflicts().cloned().collect()
    }

    /// What is left out.
    pub fn problems(&self) -> Vec<Problem> {
        self.core.problems().collect()
    }

    /// Looks at everything once more: what would be done, apart from what is reported to be stuck.
    pub fn what_is_left(&mut self, now_ns: u64, ledger: &mut Ledger) -> Vec<String> {
        let problems = self.problems();
        self.unsaved.clear();
        self.core.touch_all();
        let steps = match self.plan(now_ns, ledger) {
            Planned::Nothing => return Vec::new(),
            Planned::Halted(halt) => return vec![halt],
            Planned::Steps(steps) => steps.into_iter().flatten(),
        };
        let is_known = |path: &SyncPath| problems.iter().any(|p| related(&p.path, path));
        let steps = steps.map(|step| step.path).filter(|path| !is_known(path));
        let sets = self.unsaved.iter().map(|set| set.path.clone());
        steps.chain(sets).map(|path| path.to_string()).collect()
    }
}
