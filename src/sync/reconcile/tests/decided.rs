//! What a person decided is planned, for just the versions that the person saw.

use proptest::prelude::*;

use super::properties::{digests, modes};
use super::world::{World, node, worlds};
use super::*;
use crate::sync::ancestor::Ancestor;
use crate::sync::decide::{Choice, Decision, Decisions};
use crate::sync::plan::{Conflict, flatten};
use crate::sync::trees::path;

fn world(ancestor: Entry, host: Entry, sandbox: Entry) -> World {
    let ancestor = Ancestor::from_tree(Some(ancestor)).expect("a valid ancestor");
    World { ancestor, host: Some(node(&host)), sandbox: Some(node(&sandbox)) }
}

/// The same choice about each conflict that is open, where it can be made.
fn decide_all(conflicts: &[Conflict], choice: Choice) -> Decisions {
    let decide =
        |c: &Conflict| Decision::about(c, choice).ok().map(|decision| (c.path.clone(), decision));
    conflicts.iter().filter_map(decide).collect()
}

/// Decides about all conflicts and carries plans out until nothing is left to do.
fn settle(world: &mut World, mode: SyncMode, choice: Choice) -> Plan {
    let mut decisions = decide_all(&world.plan(mode).conflicts, choice);
    for _ in 0..5 {
        let plan = world.plan_with(mode, &decisions);
        decisions.take_unused(&plan.decided, |_| true);
        world.carry_out(&plan, &[]);
        if plan.is_empty() {
            assert!(decisions.is_empty(), "{decisions:?} was never used up");
            return plan;
        }
    }
    panic!("no rest after five rounds: {}", world.show());
}

#[track_caller]
fn check_settled(host: Entry, sandbox: Entry, choice: Choice, both: &str) {
    for mode in [SyncMode::TwoWaySafe, SyncMode::OneWaySafe] {
        let before = dir([("p.x", file("0")), ("q", file("q"))]);
        let trees =
            [host.clone(), sandbox.clone()].map(|entry| dir([("p.x", entry), ("q", file("q"))]));
        let [host, sandbox] = trees;
        let mut world = world(before, host, sandbox);
        let rest = settle(&mut world, mode, choice);
        assert_eq!(rest.conflicts, [], "{mode:?}");
        assert_eq!(world.show(), format!("{both} | {both} | {both}"), "{mode:?}");
    }
}

#[test]
fn the_side_that_was_chosen_wins_on_both_sides_and_in_the_ancestor() {
    check_settled(file("h"), file("s"), Choice::Host, "{p.x: h, q: q}");
    check_settled(file("h"), file("s"), Choice::Sandbox, "{p.x: s, q: q}");
    let tree = || dir([("a", file("1")), ("d", dir([("b", link("t"))]))]);
    check_settled(tree(), file("s"), Choice::Host, "{p.x: {a: 1, d: {b: @t}}, q: q}");
    check_settled(tree(), file("s"), Choice::Sandbox, "{p.x: s, q: q}");
    check_settled(file("h"), tree(), Choice::Sandbox, "{p.x: {a: 1, d: {b: @t}}, q: q}");
}

#[test]
fn with_both_the_sandboxes_version_stands_beside_the_hosts() {
    check_settled(file("h"), file("s"), Choice::Both, "{p (sandbox).x: s, p.x: h, q: q}");
    let tree = || dir([("a", file("1"))]);
    check_settled(file("h"), tree(), Choice::Both, "{p.x: h, p.x (sandbox): {a: 1}, q: q}");
    check_settled(tree(), link("t"), Choice::Both, "{p (sandbox).x: @t, p.x: {a: 1}, q: q}");
}

#[test]
fn both_overwrites_nothing_before_the_copy_was_seen() {
    let tree = |p| dir([("p", file(p))]);
    let mut world = world(tree("0"), tree("h"), tree("s"));
    let decisions = decide_all(&world.plan(SyncMode::TwoWaySafe).conflicts, Choice::Both);
    let first = world.plan_with(SyncMode::TwoWaySafe, &decisions);
    assert_eq!(lines(&first), ["copy: p (sandbox): s"]);
    assert_eq!(first.decided, [path("p")]);
    // The copy could not be made: the next plan tries again, and still overwrites nothing.
    world.carry_out(&first, &[true]);
    assert_eq!(world.plan_with(SyncMode::TwoWaySafe, &decisions), first);
    world.carry_out(&first, &[]);
    let second = world.plan_with(SyncMode::TwoWaySafe, &decisions);
    let expected = ["sandbox: p (sandbox): nothing -> s", "sandbox: p: s -> h"];
    let mut planned = lines(&second);
    planned.sort();
    assert_eq!(planned, expected);
}

#[test]
fn a_copy_that_is_about_to_be_deleted_is_not_the_one_that_is_kept() {
    let both = || dir([("p", file("h")), ("p (sandbox)", file("s"))]);
    let sandbox = dir([("p", file("s"))]);
    let world = world(dir([("p", file("0")), ("p (sandbox)", file("s"))]), both(), sandbox);
    let decisions = decide_all(&world.plan(SyncMode::TwoWaySafe).conflicts, Choice::Both);
    let plan = world.plan_with(SyncMode::TwoWaySafe, &decisions);
    let expected = ["host: p (sandbox): s -> nothing", "copy: p (sandbox) 2: s"];
    assert_eq!(lines(&plan), expected);
}

#[test]
fn a_copy_that_was_made_in_part_is_gone_on_with() {
    let version = || dir([("a", file("1")), ("b", file("2"))]);
    let host = dir([("p", file("h")), ("p (sandbox)", dir([("a", file("1"))]))]);
    let world = world(dir([]), host, dir([("p", version())]));
    let decisions = decide_all(&world.plan(SyncMode::TwoWaySafe).conflicts, Choice::Both);
    let plan = world.plan_with(SyncMode::TwoWaySafe, &decisions);
    assert_eq!(plan.copies.len(), 1);
    let change = &plan.copies[0].change;
    assert_eq!(change.path, path("p (sandbox)"));
    assert_eq!(flatten(std::slice::from_ref(change)).len(), 1);
}

#[test]
fn both_takes_a_name_that_is_free_on_both_sides() {
    let tree = |p, taken| dir([("p", file(p)), (taken, file("other"))]);
    let world = world(dir([]), tree("h", "p (sandbox)"), tree("s", "p (sandbox) 2"));
    let decisions = decide_all(&world.plan(SyncMode::TwoWaySafe).conflicts, Choice::Both);
    let plan = world.plan_with(SyncMode::TwoWaySafe, &decisions);
    assert!(lines(&plan).contains(&"copy: p (sandbox) 3: s".to_owned()), "{plan:?}");
}

#[test]
fn the_content_below_a_kept_directory_is_found_where_the_sandbox_has_it() {
    let sandbox = dir([("p", dir([("a", file("1"))]))]);
    let world = world(dir([]), dir([("p", file("h"))]), sandbox);
    let decisions = decide_all(&world.plan(SyncMode::TwoWaySafe).conflicts, Choice::Both);
    let plan = world.plan_with(SyncMode::TwoWaySafe, &decisions);
    let copy = &plan.copies[0];
    assert_eq!(copy.source_of(&path("p (sandbox)/a")), path("p/a"));
    assert_eq!(copy.source_of(&path("p (sandbox)")), path("p"));
}

#[test]
fn a_version_that_changed_since_makes_a_decision_void() {
    let tree = |p| dir([("p", file(p))]);
    for choice in [Choice::Host, Choice::Sandbox, Choice::Both] {
        let seen = world(tree("0"), tree("h"), tree("s"));
        let mut decisions = decide_all(&seen.plan(SyncMode::TwoWaySafe).conflicts, choice);
        for (host, sandbox) in [("h2", "s"), ("h", "s2")] {
            let plan = world(tree("0"), tree(host), tree(sandbox))
                .plan_with(SyncMode::TwoWaySafe, &decisions);
            assert_eq!(lines(&plan), ["conflict: p: both changed"], "{choice:?}");
            assert_eq!(decisions.clone().take_unused(&plan.decided, |_| true), [path("p")]);
        }
        assert_eq!(decisions.take_unused(&[path("p")], |_| true), []);
    }
}

#[test]
fn a_decision_about_a_directory_does_not_cover_what_came_into_it_later() {
    let with = |children| dir([("p", children)]);
    let sandbox = |below| with(dir([("d", dir([("a", file(below))]))]));
    let host = || with(file("h"));
    let seen = world(dir([]), host(), sandbox("1"));
    let decisions = decide_all(&seen.plan(SyncMode::TwoWaySafe).conflicts, Choice::Host);
    let plan = |world: World| lines(&world.plan_with(SyncMode::TwoWaySafe, &decisions));
    assert_eq!(plan(seen), ["sandbox: p: {d: {a: 1}} -> h"]);
    let later = world(dir([]), host(), sandbox("2"));
    assert_eq!(plan(later), ["conflict: p: both changed"]);
}

#[test]
fn content_that_is_not_synchronised_is_never_written_over_whatever_was_decided() {
    let hidden = || dir([("p", dir([("a", file("1")), ("s", special())]))]);
    let plain = || dir([("p", file("2"))]);
    let trees = [(hidden(), plain(), Choice::Sandbox, Side::Host)];
    let mirrored =
        [Choice::Host, Choice::Both].map(|choice| (plain(), hidden(), choice, Side::Sandbox));
    for (host, sandbox, choice, side) in trees.into_iter().chain(mirrored) {
        let world = world(dir([]), host, sandbox);
        let decisions = decide_all(&world.plan(SyncMode::TwoWaySafe).conflicts, choice);
        let plan = world.plan_with(SyncMode::TwoWaySafe, &decisions);
        assert_eq!(lines(&plan), [format!("conflict: p: blocked on the {side}")], "{choice:?}");
        assert_eq!(plan.decided, []);
        // Now that it is known, it is said at once.
        assert!(Decision::about(&plan.conflicts[0], choice).is_err());
    }
}

#[test]
fn a_conflict_as_deep_as_paths_can_be_needs_no_deeper_stack() {
    let deep = (0..2000).fold(file("1"), |below, _| dir([("d", below)]));
    let sandbox = dir([("p", deep.clone())]);
    let plan = |host: &Entry, decisions: &Decisions| {
        reconcile(None, Some(host), Some(&sandbox), SyncMode::TwoWaySafe, decisions)
    };
    let host = dir([("p", file("h"))]);
    let open = plan(&host, &Decisions::none()).conflicts;
    let decisions = decide_all(&open, Choice::Both);
    assert_eq!(plan(&host, &decisions).copies.len(), 1);
    let host = dir([("p", file("h")), ("p (sandbox)", deep)]);
    assert_eq!(plan(&host, &decisions).sandbox.len(), 2);
}

fn choices() -> impl Strategy<Value = Choice> {
    prop::sample::select(vec![Choice::Host, Choice::Sandbox, Choice::Both])
}

proptest! {
    #[test]
    fn the_version_that_was_chosen_survives_and_every_decision_is_used_up(
        mut world in worlds(),
        mode in modes(),
        choice in choices(),
    ) {
        let conflicts = world.plan(mode).conflicts;
        let wanted: Vec<_> = conflicts
            .iter()
            .filter(|conflict| Decision::about(conflict, choice).is_ok())
            .flat_map(|conflict| match choice {
                Choice::Host => vec![&conflict.host],
                Choice::Sandbox => vec![&conflict.sandbox],
                Choice::Both => vec![&conflict.host, &conflict.sandbox],
            })
            .filter_map(|entry| entry.as_ref()?.as_file().map(|file| file.digest))
            .collect();
        let mut decisions = decide_all(&conflicts, choice);
        for _ in 0..4 {
            let plan = world.plan_with(mode, &decisions);
            decisions.take_unused(&plan.decided, |_| true);
            world.carry_out(&plan, &[]);
            let left = digests(&world);
            for digest in &wanted {
                prop_assert!(left.contains(digest), "{:?} is lost: {}", digest, world.show());
            }
        }
        prop_assert!(decisions.is_empty(), "{:?}", decisions);
    }

    #[test]
    fn a_decision_changes_nothing_but_its_own_path(
        world in worlds(),
        mode in modes(),
        choice in choices(),
    ) {
        let plain = world.plan(mode);
        let decisions = decide_all(&plain.conflicts, choice);
        let plan = world.plan_with(mode, &decisions);
        let is_new = |change: &&Change| !plain.changes(Side::Host).contains(change)
            && !plain.changes(Side::Sandbox).contains(change);
        for change in plan.host.iter().chain(&plan.sandbox).filter(is_new) {
            // Below it, where a directory is deleted around something unreadable.
            let is_own = |decided| change.path.is_within(decided);
            prop_assert!(plan.decided.iter().any(is_own), "{:?}", change);
        }
        prop_assert_eq!(plan.agreed, plain.agreed);
    }
}
