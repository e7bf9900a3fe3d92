//! A deterministic simulation: whole histories of two sides, their users and their accidents, with
//! the real [`skync::sync::core::Core`] between them.
//!
//! Everything that can happen is one choice of one seeded scheduler ([`world`]): a user's edit, an
//! event of a watcher, one file read, one instant of one step, a message, a cut. [`oracle`] says
//! what must hold whatever is chosen, [`rest`] what must hold in the end.
//!
//! - `SKYNC_SIMULATION_HISTORIES=1000000` runs more histories than the usual 10,000, with
//!   `cargo test`: nextest ends a test that takes minutes.
//! - `SKYNC_SIMULATION_SEED=17` runs one, and shows everything that happens in it.

mod applier;
mod disk;
mod engine;
mod follower;
mod oracle;
mod rest;
mod users;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use world::{Mutation, World};

/// Histories of a usual run.
const HISTORIES: u64 = 10_000;
/// Threads that run them.
const THREADS: usize = 2;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

/// Runs one history. What went wrong, if something did.
fn run(seed: u64, mutation: Option<Mutation>) -> Option<String> {
    let run = || World::new(seed, mutation, false).run();
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Some("panicked, see above".to_owned()))
}

/// Runs histories until one goes wrong: its seed and what it was.
fn explore(count: u64, mutation: Option<Mutation>) -> Option<(u64, String)> {
    let next = AtomicU64::new(0);
    let found: Mutex<Option<(u64, String)>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while found.lock().expect("no panic").is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        break;
                    }
                    if let Some(wrong) = run(seed, mutation) {
                        found.lock().expect("no panic").get_or_insert((seed, wrong));
                    }
                }
            });
        }
    });
    found.into_inner().expect("no panic")
}

#[test]
fn no_history_loses_what_nobody_deleted_and_every_one_comes_to_rest() {
    if let Some(seed) = number("SKYNC_SIMULATION_SEED") {
        let mut world = World::new(seed, None, true);
        let wrong = catch_unwind(AssertUnwindSafe(|| world.run()));
        world.log().iter().for_each(|line| eprintln!("{line}"));
        assert_eq!(wrong.ok(), Some(None), "seed {seed}");
        return;
    }
    let count = number("SKYNC_SIMULATION_HISTORIES").unwrap_or(HISTORIES);
    if let Some((seed, wrong)) = explore(count, None) {
        panic!(
            "{wrong}\nto see it: SKYNC_SIMULATION_SEED={seed} cargo test -p skync --test it \
             no_history_loses -- --nocapture"
        );
    }
}

#[test]
fn a_seed_is_one_history() {
    let log = |seed| {
        let mut world = World::new(seed, None, true);
        let wrong = world.run();
        (world.log().join("\n"), wrong)
    };
    for seed in (0..HISTORIES).step_by(199) {
        assert!(log(seed) == log(seed), "seed {seed} has two histories");
    }
}

/// Histories in which nothing ever collides would prove nothing.
#[test]
fn histories_see_everything_that_can_become_of_a_step() {
    let mut missing = vec![
        "Applied",
        "Stale",
        "NotEmpty",
        "no space",
        "denied",
        "it keeps changing",
        "it kept changing",
        "is not there",
        "halted",
        "conflict:",
        "problem:",
        "husk",
        "power cut 0",
        "power cut 1",
        "is replaced",
        "recorded",
    ];
    for seed in 0..HISTORIES {
        let mut world = World::new(seed, None, true);
        assert_eq!(world.run(), None, "seed {seed}");
        missing.retain(|what| !world.log().iter().any(|line| line.contains(what)));
        if missing.is_empty() {
            return;
        }
    }
    panic!("never seen: {missing:?}");
}

/// A mistake in what is around the core is noticed, within the histories of a usual run.
#[track_caller]
fn is_noticed(mutation: Mutation) {
    match explore(HISTORIES, Some(mutation)) {
        Some((seed, wrong)) => eprintln!("{mutation:?}, seed {seed}: {wrong}"),
        None => panic!("{mutation:?} is not noticed"),
    }
}

macro_rules! mutations {
    ($($name:ident: $mutation:ident;)*) => {$(
        #[test]
        fn $name() {
            is_noticed(Mutation::$mutation);
        }
    )*};
}

mutations! {
    a_record_that_leads_is_noticed: RecordBeforeWrite;
    a_record_of_what_is_not_durable_is_noticed: RecordWithoutSync;
    a_target_that_is_not_compared_is_noticed: NoCompare;
    a_creation_that_clobbers_is_noticed: CreationClobbers;
    a_removal_that_takes_all_is_noticed: RemovalTakesAll;
    a_reading_from_before_a_write_is_noticed: LateReadingCounts;
    a_reading_of_what_was_taken_back_is_noticed: TransientContentCounts;
    an_outcome_that_overtakes_is_noticed: OutcomesOvertake;
    the_ancestor_of_another_sandbox_is_noticed: AncestorOfAnotherSandbox;
    a_core_that_outlives_a_power_cut_is_noticed: CoreOutlivesCrash;
    lost_outcomes_taken_for_done_are_noticed: LostOutcomesAreApplied;
    lost_events_without_a_rescan_are_noticed: NoRescan;
    rules_that_know_more_than_the_view_are_noticed: RulesAskTheDisk;
    a_name_taken_for_its_twin_is_noticed: TwinIsTheSame;
}
