//! What a session knows and what it wants, without a disk, a link or a clock.
//!
//! The engine feeds it: paths that changed on either side, then the two trees as they are now; and
//! takes steps from it, whose outcomes come back. Everything that decides is here, so that a
//! simulation with its own disks and its own time drives exactly what runs in a session.
//!
//! The cost of a plan is that of the paths that changed ([`Dirty`]). Three trees are held: the
//! ancestor here, the host's and the sandbox's with whoever follows them. Where all three are the
//! same they share their directories, see [`Core::share`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use skync_agent::entry::{Children, Directory, Entry};
use skync_agent::path::{Name, SyncPath};
use skync_agent::rules::Rules;
use skync_agent::transition::Status;

use super::agree::agree;
use super::ancestor::{Ancestor, AncestorSet};
use super::decide::Decisions;
use super::dirty::Dirty;
use super::guard::{Guards, take_out_guarded};
use super::plan::{Conflict, Plan, Problem, Side, Step, creations_first, flatten};
use super::reconcile::reconcile_within;
use super::safety::{self, Folds, Halt, Recent};
use crate::config::SyncMode;

#[cfg(test)]
mod tests;

/// How often a step may be overtaken in a row before it has to wait.
const STALE_AT_ONCE_MAX: u32 = 3;
/// The first wait; each next one is twice as long.
const STALE_WAIT_NS: u64 = 100_000_000;
/// The longest wait.
const STALE_WAIT_NS_MAX: u64 = 5_000_000_000;

/// How each step of one side ended, in their order; `None` if nothing is known of it.
pub type Outcomes = Vec<Option<Status>>;

/// What is to be done now.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What was decided.
    pub plan: Plan,
    /// The steps for host and sandbox, in order.
    pub steps: [Arc<Vec<Step>>; 2],
    /// Where the sandbox has the content of steps for the host, if not at their own path: these
    /// steps keep a version beside another, and are never recorded.
    pub sources: Arc<HashMap<SyncPath, SyncPath>>,
    /// What was looked at.
    dirty: Dirty,
}

impl Batch {
    /// True if there is nothing to carry out and nothing to record.
    pub fn is_empty(&self) -> bool {
        self.plan.agreed.is_empty() && self.steps.iter().all(|steps| steps.is_empty())
    }
}

/// The two trees as they are now, and how they are to be judged.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The host's tree; nothing if its root is gone.
    pub host: Option<&'a Entry>,
    /// The sandbox's tree; nothing if its root is gone.
    pub sandbox: Option<&'a Entry>,
    /// What is excluded.
    pub rules: &'a Rules,
    /// What the sandbox may not change on the host without a yes.
    pub guards: &'a Guards,
    /// What each side does not tell apart in names.
    pub folds: [Folds; 2],
}

/// What could not be done on one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Steps that failed.
    pub failed: u64,
    /// Some of them because the file system is full.
    pub no_space: bool,
    /// Steps that were overtaken by other changes and are tried again.
    pub overtaken: u64,
}

/// A step that was overtaken, and how often.
#[derive(Clone, Copy, Debug, Default)]
struct Stale {
    count: u32,
    not_before_ns: u64,
}

/// What a session knows: the ancestor, what may differ, and what stays open.
#[derive(Debug)]
pub struct Core {
    mode: SyncMode,
    ancestor: Ancestor,
    dirty: Dirty,
    /// A batch was planned and has not come back.
    is_planned: bool,
    /// What a person decided about conflicts.
    decisions: Decisions,
    /// Decisions that are carried out or void.
    spent: Vec<SyncPath>,
    /// Where nothing is done because a person must decide.
    conflicts: BTreeMap<SyncPath, Conflict>,
    /// Where nothing is done because it cannot be.
    problems: BTreeMap<(SyncPath, Side), Problem>,
    /// Steps that failed on a side, and whether for want of space.
    failed: BTreeMap<(SyncPath, Side), (String, bool)>,
    stale: BTreeMap<(SyncPath, Side), Stale>,
    /// What the host lost a short while ago.
    recent: Recent,
    /// Why nothing is done at all.
    halted: Option<Halt>,
    /// The halt that a person has allowed.
    accepted: Option<Halt>,
}

fn at(side: Side) -> usize {
    usize::from(side == Side::Sandbox)
}

impl Core {
    /// Begins with what both sides last agreed on; everything is to be looked at.
    pub fn new(mode: SyncMode, ancestor: Ancestor) -> Self {
        Self {
            mode,
            ancestor,
            dirty: Dirty::all(),
            is_planned: false,
            decisions: Decisions::none(),
            spent: Vec::new(),
            conflicts: BTreeMap::new(),
            problems: BTreeMap::new(),
            failed: BTreeMap::new(),
            stale: BTreeMap::new(),
            recent: Recent::default(),
            halted: None,
            accepted: None,
        }
    }

    /// The last tree that both sides agreed on.
    pub fn ancestor(&self) -> &Ancestor {
        &self.ancestor
    }

    /// Something at or below the path may have changed on one side.
    pub fn touch(&mut self, path: &SyncPath, rules: &Rules) {
        let name = path.names().last();
        match path.split() {
            // What is beside it is judged anew.
            Some((parent, _)) if name.is_some_and(|name| rules.is_beside(name)) => {
                self.dirty.add(&parent);
            }
            _ => self.dirty.add(path),
        }
    }

    /// Anything may have changed.
    pub fn touch_all(&mut self) {
        self.dirty = Dirty::all();
    }

    /// Everything that failed is to be tried again.
    pub fn retry(&mut self) {
        for (path, _) in self.failed.keys() {
            self.dirty.add(path);
        }
        for (path, _) in self.stale.keys() {
            self.dirty.add(path);
        }
        self.stale.clear();
    }

    /// True if nothing is known to be different.
    pub fn is_clean(&self) -> bool {
        self.dirty.is_empty()
    }

    /// When something that was overtaken is to be tried again, by the clock given to
    /// [`Core::plan`].
    pub fn next_due_ns(&self) -> Option<u64> {
        self.stale.values().map(|stale| stale.not_before_ns).filter(|at| *at > 0).min()
    }

    /// Conflicts that are open.
    pub fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        self.conflicts.values()
    }

    /// What is left out, and why. Also what was overtaken again and again: excluded content that is
    /// in the way of a new name is in no tree, so such a step is stale forever.
    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        let failed = self.failed.iter().map(|((path, side), (reason, _))| Problem {
            side: *side,
            path: path.clone(),
            reason: reason.clone(),
        });
        let overtaken = self.stale.iter().filter(|(_, stale)| stale.count > STALE_AT_ONCE_MAX);
        let overtaken = overtaken.map(|((path, side), _)| Problem {
            side: *side,
            path: path.clone(),
            reason: "it keeps changing, or something that is not synchronised is in the way".into(),
        });
        self.problems.values().cloned().chain(failed).chain(overtaken)
    }

    /// What could not be done on each side, as host and sandbox.
    pub fn open(&self) -> [Open; 2] {
        let mut open = [Open::default(); 2];
        for ((_, side), (_, no_space)) in &self.failed {
            open[at(*side)].failed += 1;
            open[at(*side)].no_space |= no_space;
        }
        for (_, side) in self.stale.keys() {
            open[at(*side)].overtaken += 1;
        }
        open
    }

    /// Why nothing is done, until a person allows it.
    pub fn halted(&self) -> Option<&Halt> {
        self.halted.as_ref()
    }

    /// The halt that stands may be carried out, once.
    pub fn accept(&mut self) {
        self.accepted = self.halted.take();
    }

    /// Decides what to do about what changed; nothing if nothing did.
    ///
    /// # Errors
    /// If it looks like an accident (invariant I10). What changed stays to be looked at.
    pub fn plan(&mut self, view: &View<'_>, now_ns: u64) -> Result<Option<Batch>, Halt> {
        if std::mem::take(&mut self.is_planned) {
            // Whoever carried the last one out gave up on the way: what of it was done is not known.
            self.touch_all();
        }
        self.recent.forget_before(now_ns);
        self.wait_or_wake(now_ns);
        if self.dirty.is_empty() {
            return Ok(None);
        }
        // Clones share: they cost nothing until something is taken out of them.
        let (mut host, mut sandbox) = (view.host.cloned(), view.sandbox.cloned());
        if let (Some(host), Some(sandbox)) = (&mut host, &mut sandbox) {
            self.ancestor
                .forget(|ancestor| agree(view.rules, &self.dirty, ancestor, host, sandbox));
        }
        let (host, sandbox) = (host.as_ref(), sandbox.as_ref());
        let ancestor = self.ancestor.root();
        let mut plan =
            reconcile_within(ancestor, host, sandbox, self.mode, &self.decisions, &self.dirty);
        take_out_guarded(&mut plan, view.guards, &self.decisions);
        self.check(host, sandbox, &plan)?;
        for (side, tree) in [(Side::Host, host), (Side::Sandbox, sandbox)] {
            let changes = match side {
                Side::Host => &mut plan.host,
                Side::Sandbox => &mut plan.sandbox,
            };
            let (kept, problems) = safety::take_out_collisions(
                side,
                std::mem::take(changes),
                tree,
                view.folds[at(side)],
            );
            *changes = kept;
            plan.problems.extend(problems);
        }
        let (copies, sources) = copied(&plan);
        let steps = [Side::Host, Side::Sandbox].map(|side| {
            let mut steps = flatten(plan.changes(side));
            if side == Side::Host {
                steps.extend(copies.iter().cloned());
            }
            // Where `a` is `A`, a new name must not meet the old one: it would be taken for made
            // already, and be removed with the old one.
            Arc::new(if view.folds[at(side)] == Folds::default() {
                creations_first(steps)
            } else {
                steps
            })
        });
        let dirty = std::mem::take(&mut self.dirty);
        self.note_open(&plan, &steps, &dirty);
        self.is_planned = true;
        Ok(Some(Batch { plan, steps, sources: Arc::new(sources), dirty }))
    }

    /// Puts off what was overtaken too often, and takes up what has waited long enough.
    fn wait_or_wake(&mut self, now_ns: u64) {
        for ((path, _), stale) in &mut self.stale {
            if stale.not_before_ns > now_ns {
                self.dirty.remove(path);
            } else if stale.not_before_ns > 0 {
                stale.not_before_ns = 0;
                self.dirty.add(path);
            }
        }
    }

    fn check(
        &mut self,
        host: Option<&Entry>,
        sandbox: Option<&Entry>,
        plan: &Plan,
    ) -> Result<(), Halt> {
        match safety::check(self.ancestor.root(), host, sandbox, plan, &self.recent) {
            Err(halt) if self.accepted.as_ref() != Some(&halt) => {
                self.halted = Some(halt.clone());
                Err(halt)
            }
            // Also if there is no danger any more: then a yes is used up as well.
            Err(_) | Ok(()) => {
                if self.accepted.take().is_some() {
                    self.recent.clear();
                }
                self.halted = None;
                Ok(())
            }
        }
    }

    /// What is open at the paths that were looked at is what the plan says of them.
    fn note_open(&mut self, plan: &Plan, steps: &[Arc<Vec<Step>>; 2], dirty: &Dirty) {
        let void = self.decisions.take_unused(&plan.decided, |path| dirty.touches(path));
        self.spent.extend(void);
        self.conflicts.retain(|path, _| !dirty.touches(path));
        self.problems.retain(|(path, _), _| !dirty.touches(path));
        self.failed.retain(|(path, _), _| !dirty.touches(path));
        if !self.stale.is_empty() {
            let planned: HashSet<&SyncPath> =
                steps.iter().flat_map(|steps| steps.iter()).map(|step| &step.path).collect();
            self.stale.retain(|(path, _), _| !dirty.touches(path) || planned.contains(path));
        }
        for conflict in &plan.conflicts {
            self.conflicts.insert(conflict.path.clone(), conflict.clone());
        }
        for problem in &plan.problems {
            self.problems.insert((problem.path.clone(), problem.side), problem.clone());
        }
    }

    /// Takes over what became of a batch. Returns the changes of the ancestor, in order, for the
    /// manifest (invariants I1, I2).
    ///
    /// A step that was overtaken is looked at again, at once for a few times and then after a wait;
    /// so is one of which nothing is known.
    pub fn finish(
        &mut self,
        batch: &Batch,
        outcomes: &[Outcomes; 2],
        now_ns: u64,
    ) -> Vec<AncestorSet> {
        let all = || {
            [Side::Host, Side::Sandbox].into_iter().flat_map(|side| {
                let steps = batch.steps[at(side)].iter();
                steps.zip(&outcomes[at(side)]).map(move |(step, status)| (side, step, status))
            })
        };
        self.is_planned = false;
        let is_copy =
            |side: Side, step: &Step| side == Side::Host && batch.sources.contains_key(&step.path);
        let done = all()
            .filter(|(side, step, _)| !is_copy(*side, step))
            .map(|(_, step, status)| (step, *status == Some(Status::Applied)));
        let changes = self.ancestor.advance(&batch.plan.agreed, done);
        for (side, step, status) in all() {
            match status {
                Some(Status::Applied) => {
                    self.stale.remove(&(step.path.clone(), side));
                    if side == Side::Host {
                        self.recent.add(step, now_ns);
                    }
                }
                // What is not synchronised stays, and its directory: told by the report.
                Some(Status::NotEmpty) => {}
                Some(Status::Failed { problem, no_space }) => {
                    let failure = (problem.clone(), *no_space);
                    self.failed.insert((step.path.clone(), side), failure);
                }
                Some(Status::Stale) | None => self.overtaken(&step.path, side, now_ns),
            }
        }
        for copy in &batch.plan.copies {
            // With the copy in place its conflict is settled by the next plan.
            self.dirty.add(&copy.conflict.path);
            self.dirty.add(&copy.change.path);
        }
        self.spend(batch);
        changes
    }

    /// Forgets decisions that were carried out.
    fn spend(&mut self, batch: &Batch) {
        for path in &batch.plan.decided {
            if !self.dirty.touches(path) && !self.failed.keys().any(|(at, _)| at.is_below(path)) {
                self.decisions.remove(path);
                self.spent.push(path.clone());
            }
        }
    }

    /// What a person decided about conflicts; carried out by the next plan, as far as it is about the
    /// versions that are there.
    pub fn decide(&mut self, decisions: Decisions) {
        for (path, _) in decisions.iter() {
            self.dirty.add(path);
        }
        self.decisions = decisions;
    }

    /// Takes the paths of decisions that are carried out, or void since a version changed.
    pub fn take_spent(&mut self) -> Vec<SyncPath> {
        std::mem::take(&mut self.spent)
    }

    fn overtaken(&mut self, path: &SyncPath, side: Side, now_ns: u64) {
        let stale = self.stale.entry((path.clone(), side)).or_default();
        stale.count += 1;
        if stale.count > STALE_AT_ONCE_MAX {
            let doublings = (stale.count - STALE_AT_ONCE_MAX - 1).min(10);
            let wait = (STALE_WAIT_NS << doublings).min(STALE_WAIT_NS_MAX);
            stale.not_before_ns = now_ns.saturating_add(wait);
        }
        self.dirty.add(path);
    }

    /// Lets the trees share their directories where all three are the same, as far as a batch
    /// went. Changes nothing that a comparison could tell.
    pub fn share(&mut self, batch: &Batch, host: &Entry, sandbox: &mut Entry) {
        let dirty = &batch.dirty;
        let Some(host) = host.as_directory() else { return };
        let adopt = |tree: &mut Entry| {
            if let Entry::Directory(tree) = tree {
                adopt(tree, host, dirty);
            }
        };
        self.ancestor.share(adopt);
        adopt(sandbox);
    }
}

/// The steps that keep versions of the sandbox under new names, and where their content is.
fn copied(plan: &Plan) -> (Vec<Step>, HashMap<SyncPath, SyncPath>) {
    let (mut steps, mut sources) = (Vec::new(), HashMap::new());
    for copy in &plan.copies {
        for step in flatten(std::slice::from_ref(&copy.change)) {
            sources.insert(step.path.clone(), copy.source_of(&step.path));
            steps.push(step);
        }
    }
    (steps, sources)
}

/// Makes `tree` use the host's children where it has the same.
fn adopt(tree: &mut Directory, host: &Directory, dirty: &Dirty) {
    if tree.children.is_shared_with(&host.children) {
        return;
    }
    let mut below = |name: &Name, dirty: &Dirty| {
        let Some(host) = host.child(name.as_bytes()).and_then(Entry::as_directory) else { return };
        let Ok(at) = tree.children.binary_search_by(|(other, _)| other.cmp(name)) else { return };
        // Looked at before it is changed: what is shared already must not be copied.
        let child = tree.children[at].1.as_directory();
        if child.is_some_and(|child| !child.children.is_shared_with(&host.children))
            && let Entry::Directory(child) = &mut tree.children[at].1
        {
            adopt(child, host, dirty);
        }
    };
    if dirty.is_whole() {
        host.children.iter().for_each(|(name, _)| below(name, dirty));
    } else {
        dirty.names().for_each(|(name, dirty)| below(name, dirty));
    }
    if is_same(&tree.children, &host.children) {
        tree.children = host.children.clone();
    }
}

/// Equal also in what a plan asks and equality does not: a directory that holds nothing but what is
/// excluded is not an empty one, though neither has children.
fn is_same(one: &Children, other: &Children) -> bool {
    one.is_shared_with(other)
        || one.len() == other.len()
            && one.iter().zip(other.iter()).all(|((name, entry), (other_name, other))| {
                name == other_name
                    && match (entry, other) {
                        (Entry::Directory(entry), Entry::Directory(other)) => {
                            entry.only_excluded == other.only_excluded
                                && is_same(&entry.children, &other.children)
                        }
                        _ => entry == other,
                    }
            })
}
