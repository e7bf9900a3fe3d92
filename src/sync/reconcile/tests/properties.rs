//! What must hold of every plan, whatever happened on the two disks. A failure prints its seed and
//! the smallest case; proptest keeps it beside this file for the next run.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;
use skync_agent::entry::{Digest, Entry, validate_ancestor};
use skync_agent::path::SyncPath;

use super::naive::NaivePlan;
use super::world::{Outcome, World, apply, flat, forgotten, scan, worlds};
use crate::config::SyncMode;
use crate::sync::decide::Decisions;
use crate::sync::plan::{Change, Plan, Side, flatten};
use crate::sync::reconcile::reconcile;
use crate::sync::tracked::{holds_problem, is_absent, tracked};

use SyncMode::{OneWayReplica, OneWaySafe, TwoWayResolved, TwoWaySafe};

pub(super) fn modes() -> impl Strategy<Value = SyncMode> {
    select(vec![TwoWaySafe, TwoWayResolved, OneWaySafe, OneWayReplica])
}

/// Leaves that a side has and the ancestor does not have just so: its own work.
fn own_work(world: &World, side: Side) -> Vec<(SyncPath, Entry)> {
    let known = flat(world.ancestor.root());
    let is_leaf = |entry: &Entry| matches!(entry, Entry::File(_) | Entry::Symlink(_));
    let found = flat(world.scan(side).as_ref()).into_iter();
    found.filter(|(path, entry)| is_leaf(entry) && known.get(path) != Some(entry)).collect()
}

/// Every piece of own work that the mode protects is where it was, however many rounds ago.
fn assert_own_work_survives(
    before: &World,
    after: &World,
    mode: SyncMode,
) -> Result<(), TestCaseError> {
    let protected: &[Side] = match mode {
        SyncMode::TwoWaySafe | SyncMode::OneWaySafe => &[Side::Host, Side::Sandbox],
        SyncMode::TwoWayResolved | SyncMode::OneWayReplica => &[Side::Host],
    };
    for side in protected {
        let left = flat(after.scan(*side).as_ref());
        for (path, entry) in own_work(before, *side) {
            prop_assert_eq!(left.get(&path), Some(&entry), "{} lost on the {}", path, side);
        }
    }
    Ok(())
}

pub(super) fn digests(world: &World) -> BTreeSet<Digest> {
    let trees = [world.scan(Side::Host), world.scan(Side::Sandbox)];
    let entries = trees.iter().flat_map(|tree| flat(tree.as_ref()).into_values());
    entries.filter_map(|entry| entry.as_file().map(|file| file.digest)).collect()
}

/// Everything on a disk that is never synchronised, and the directories that hold it.
fn untouchable(world: &World, side: Side) -> Vec<SyncPath> {
    let untouchable = |entry: &Entry| match entry {
        Entry::Untracked | Entry::Problem(_) => true,
        Entry::Directory(directory) => directory.only_excluded,
        Entry::File(_) | Entry::Symlink(_) => false,
    };
    let found = flat(world.scan(side).as_ref()).into_iter();
    found.filter(|(_, entry)| untouchable(entry)).map(|(path, _)| path).collect()
}

/// Both sides hold the same wherever nothing is in the way.
fn assert_converged(
    path: &SyncPath,
    host: Option<&Entry>,
    sandbox: Option<&Entry>,
    excused: &BTreeSet<SyncPath>,
) -> Result<(), TestCaseError> {
    let unread = |entry| matches!(entry, Some(&Entry::Problem(_)));
    if excused.contains(path) || unread(host) || unread(sandbox) {
        return Ok(());
    }
    match (host, sandbox) {
        (Some(Entry::Directory(one)), Some(Entry::Directory(other))) => {
            let names = one.children.iter().chain(&other.children).map(|(name, _)| name);
            for name in names.collect::<BTreeSet<_>>() {
                let bytes = name.as_bytes();
                assert_converged(&path.join(name), one.child(bytes), other.child(bytes), excused)?;
            }
            Ok(())
        }
        // What is unreadable below keeps a directory that is otherwise deleted.
        (one, Some(left)) | (Some(left), one) if is_absent(one) && holds_problem(left) => Ok(()),
        (one, other) if is_absent(one) && is_absent(other) => Ok(()),
        (Some(one), Some(other)) if one.shallow_eq(other) => Ok(()),
        (one, other) => {
            Err(TestCaseError::fail(format!("`{path}` differs: {one:?} and {other:?}")))
        }
    }
}

fn swapped(world: &World) -> World {
    let World { ancestor, host, sandbox } = world.clone();
    World { ancestor, host: sandbox, sandbox: host }
}

fn removals(plan: &Plan) -> BTreeSet<(Side, SyncPath)> {
    let of = |side| {
        let steps = flatten(plan.changes(side)).into_iter();
        steps.filter(|step| step.new.is_none()).map(move |step| (side, step.path))
    };
    of(Side::Host).chain(of(Side::Sandbox)).collect()
}

proptest! {
    // Small worlds are cheap; `PROPTEST_CASES` raises it further.
    #![proptest_config(ProptestConfig::with_cases(3 * ProptestConfig::default().cases))]

    #[test]
    fn a_plan_fits_the_disks_it_was_made_from(mut world in worlds(), mode in modes()) {
        let plan = world.plan(mode);
        let done = world.carry_out(&plan, &[]);
        // Only excluded content may stop a step, and then only the directory that holds it.
        for (step, outcome) in &done {
            let kept = *outcome == Outcome::NotEmpty && step.new.is_none();
            prop_assert!(*outcome == Outcome::Applied || kept || blocked_by_kept(&done, step),
                "{:?}: {:?}", step, outcome);
        }
    }

    #[test]
    fn the_second_plan_is_empty(mut world in worlds(), mode in modes()) {
        let plan = world.plan(mode);
        let done = world.carry_out(&plan, &[]);
        let mut second = world.plan(mode);
        // Where excluded content kept a directory in the way, the second plan says so.
        if done.iter().any(|(_, outcome)| *outcome != Outcome::Applied) {
            world.carry_out(&second, &[]);
            second = world.plan(mode);
        }
        prop_assert!(second.is_empty(), "{} still plans {:?}", world.show(), second);
        prop_assert!(second.notes.is_empty(), "{:?}", second.notes);
        prop_assert_eq!(world.plan(mode), second);
    }

    #[test]
    fn no_sides_own_work_is_lost(before in worlds(), mode in modes()) {
        let mut world = before.clone();
        for _ in 0..3 {
            let plan = world.plan(mode);
            world.carry_out(&plan, &[]);
            assert_own_work_survives(&before, &world, mode)?;
        }
        if matches!(mode, SyncMode::TwoWaySafe | SyncMode::OneWaySafe) {
            let known = flat(before.ancestor.root());
            let known: BTreeSet<_> =
                known.values().filter_map(|entry| entry.as_file().map(|file| file.digest)).collect();
            let (start, end) = (digests(&before), digests(&world));
            let lost: Vec<_> = start.difference(&end).filter(|digest| !known.contains(digest)).collect();
            prop_assert!(lost.is_empty(), "{lost:?}");
        }
    }

    #[test]
    fn steps_that_fail_lose_nothing_and_leave_a_valid_ancestor(
        before in worlds(),
        mode in modes(),
        fails in prop::collection::vec(any::<bool>(), 0..40),
    ) {
        let mut world = before.clone();
        for fails in [&fails[..], &fails[fails.len() / 2..], &[], &[]] {
            let plan = world.plan(mode);
            world.carry_out(&plan, fails);
            if let Some(root) = world.ancestor.root() {
                prop_assert_eq!(validate_ancestor(&SyncPath::root(), root), Ok(()));
            }
            assert_own_work_survives(&before, &world, mode)?;
        }
        prop_assert!(world.plan(mode).is_empty(), "{}", world.show());
    }

    #[test]
    fn what_is_not_synchronised_is_never_touched(mut world in worlds(), mode in modes()) {
        let before = [Side::Host, Side::Sandbox].map(|side| untouchable(&world, side));
        for _ in 0..2 {
            let plan = world.plan(mode);
            for side in [Side::Host, Side::Sandbox] {
                for path in untouchable(&world, side) {
                    let unread = matches!(world.scan(side).and_then(|t| t.find(&path).cloned()),
                        Some(Entry::Problem(_) | Entry::Untracked));
                    let touches = |step: &crate::sync::plan::Step| step.path.is_within(&path);
                    prop_assert!(!unread || !flatten(plan.changes(side)).iter().any(touches));
                }
            }
            world.carry_out(&plan, &[]);
        }
        for (side, before) in [Side::Host, Side::Sandbox].into_iter().zip(before) {
            let left = world.scan(side);
            for path in before {
                prop_assert!(left.as_ref().and_then(|tree| tree.find(&path)).is_some(), "{path}");
            }
        }
    }

    #[test]
    fn paths_without_a_conflict_converge(
        mut world in worlds(),
        // In one-way-safe the sandbox may keep its own.
        mode in select(vec![TwoWaySafe, TwoWayResolved, OneWayReplica]),
    ) {
        for _ in 0..2 {
            let plan = world.plan(mode);
            world.carry_out(&plan, &[]);
        }
        let plan = world.plan(mode);
        let excused = plan.conflicts.iter().map(|conflict| conflict.path.clone()).collect();
        let (host, sandbox) = (world.scan(Side::Host), world.scan(Side::Sandbox));
        assert_converged(&SyncPath::root(), host.as_ref(), sandbox.as_ref(), &excused)?;
    }

    #[test]
    fn two_way_safe_does_not_care_which_side_is_which(world in worlds()) {
        let plan = world.plan(SyncMode::TwoWaySafe);
        let mirrored = swapped(&world).plan(SyncMode::TwoWaySafe);
        prop_assert_eq!(&plan.host, &mirrored.sandbox);
        prop_assert_eq!(&plan.sandbox, &mirrored.host);
        prop_assert_eq!(&plan.agreed, &mirrored.agreed);
        let paths = |plan: &Plan| -> Vec<_> {
            plan.conflicts.iter().map(|conflict| conflict.path.clone()).collect()
        };
        prop_assert_eq!(paths(&plan), paths(&mirrored));
    }

    #[test]
    fn equal_sides_are_left_alone(world in worlds(), mode in modes()) {
        let same = World { sandbox: world.host.clone(), ..world };
        let plan = same.plan(mode);
        prop_assert!(plan.host.is_empty() && plan.sandbox.is_empty() && plan.conflicts.is_empty());
    }

    #[test]
    fn no_ancestor_no_deletion(
        world in worlds(),
        // The replica deletes what the host does not have: that is its meaning.
        mode in select(vec![TwoWaySafe, TwoWayResolved, OneWaySafe]),
    ) {
        let (host, sandbox) = (world.scan(Side::Host), world.scan(Side::Sandbox));
        let plan = reconcile(None, host.as_ref(), sandbox.as_ref(), mode, &Decisions::none());
        prop_assert!(plan.host.iter().chain(&plan.sandbox).all(|change| change.new.is_some()));
        if mode != SyncMode::TwoWayResolved {
            prop_assert_eq!(removals(&plan), BTreeSet::new());
        }
    }

    #[test]
    fn forgetting_never_adds_a_deletion(
        world in worlds(),
        forgotten in forgotten(),
        mode in select(vec![TwoWaySafe, OneWaySafe]),
    ) {
        let mut forgetful = world.clone();
        for path in forgotten {
            forgetful.ancestor.set(&path, None);
        }
        let (full, less) = (removals(&world.plan(mode)), removals(&forgetful.plan(mode)));
        let added: Vec<_> = less.difference(&full).collect();
        prop_assert!(added.is_empty(), "{added:?}");
    }

    #[test]
    fn the_naive_reconciler_plans_the_same(world in worlds(), mode in modes(), forgotten in forgotten()) {
        let mut world = world;
        for path in forgotten {
            world.ancestor.set(&path, None);
        }
        let plan = world.plan(mode);
        let ancestor = world.ancestor.root().cloned();
        let (host, sandbox) = (world.scan(Side::Host), world.scan(Side::Sandbox));
        let naive = NaivePlan::make(&ancestor, &host, &sandbox, mode);
        prop_assert_eq!(&plan.host, &naive.host);
        prop_assert_eq!(&plan.sandbox, &naive.sandbox);
        let conflicts: Vec<_> =
            plan.conflicts.iter().map(|conflict| (conflict.path.clone(), conflict.kind)).collect();
        prop_assert_eq!(conflicts, naive.conflicts.clone());
        let mut after = world.ancestor.clone();
        after.advance(&plan.agreed, []);
        prop_assert_eq!(after, naive.agreed(&ancestor, &host, &sandbox));
    }

    #[test]
    fn flattened_steps_turn_old_into_new(world in worlds()) {
        // Without odd content: a change never has any.
        let (old, new) = (world.scan(Side::Host), world.scan(Side::Sandbox));
        let (old, new) = (old.as_ref().and_then(tracked), new.as_ref().and_then(tracked));
        let mut disk = None;
        for (from, to) in [(None, old.clone()), (old, new.clone())] {
            let path = SyncPath::root();
            for step in flatten(&[Change { path, old: from, new: to }]) {
                prop_assert_eq!(apply(&mut disk, &step), Outcome::Applied, "{:?}", step);
            }
        }
        prop_assert_eq!(disk.as_ref().and_then(scan), new);
    }
}

/// A step that could not be done because excluded content kept a directory where it would be.
fn blocked_by_kept(
    done: &[(crate::sync::plan::Step, Outcome)],
    step: &crate::sync::plan::Step,
) -> bool {
    done.iter()
        .any(|(other, outcome)| *outcome == Outcome::NotEmpty && step.path.is_within(&other.path))
}
