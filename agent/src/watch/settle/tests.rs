use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

fn path(text: &str) -> SyncPath {
    SyncPath::parse(text.as_bytes()).expect("a path")
}

fn made(at: &str) -> Event {
    Event::Appeared { path: path(at), is_directory: false, moved: false }
}

fn made_directory(at: &str) -> Event {
    Event::Appeared { path: path(at), is_directory: true, moved: false }
}

fn moved_in(at: &str) -> Event {
    Event::Appeared { path: path(at), is_directory: false, moved: true }
}

fn gone(at: &str) -> Event {
    Event::Gone { path: path(at), is_directory: false }
}

fn writing(at: &str) -> Event {
    Event::Writing(path(at))
}

fn written(at: &str) -> Event {
    Event::Written(path(at))
}

/// Gives the events at their times (milliseconds), asks whenever there is something to ask for,
/// and compares what was due when. A path ends in `/` if it is read with all below. What was read
/// is known from then on, and so is what `known` says.
#[track_caller]
fn check(known: &[&str], events: &[(u64, Event)], expected: &[(u64, &str)]) {
    let mut settle = Settle::default();
    let mut known: BTreeSet<SyncPath> = known.iter().map(|at| path(at)).collect();
    let mut told = Vec::new();
    let mut ask = |settle: &mut Settle, known: &mut BTreeSet<SyncPath>, until_ns: u64| {
        while let Some(at_ns) = settle.next_due_ns().filter(|at_ns| *at_ns < until_ns) {
            for dirt in settle.due(at_ns) {
                let slash = if dirt.below { "/" } else { "" };
                told.push((at_ns / MS, format!("{}{slash}", dirt.path)));
                known.insert(dirt.path);
            }
        }
    };
    for (at_ms, event) in events {
        ask(&mut settle, &mut known, at_ms * MS);
        let is_known = event.path().is_some_and(|path| known.contains(path));
        settle.event(event.clone(), is_known, at_ms * MS);
    }
    ask(&mut settle, &mut known, u64::MAX);
    let told: Vec<_> = told.iter().map(|(at, dirt)| (*at, dirt.as_str())).collect();
    assert_eq!(told, expected);
    assert!(settle.is_empty() && settle.all().is_empty());
}

#[test]
fn an_edit_in_place_is_due_when_the_file_is_closed() {
    let events = [(5, writing("f")), (6, writing("f")), (7, written("f"))];
    check(&["f"], &events, &[(7, "f")]);
    let twice = [(5, writing("f")), (5, written("f")), (9, writing("f")), (9, written("f"))];
    check(&["f"], &twice, &[(5, "f"), (9, "f")]);
}

#[test]
fn a_temporary_file_that_is_renamed_over_is_one_change_at_once() {
    let events = [
        (0, made("f.tmp")),
        (0, writing("f.tmp")),
        (3, written("f.tmp")),
        (4, gone("f.tmp")),
        (4, moved_in("f")),
    ];
    check(&["f"], &events, &[(4, "f")]);
    check(&[], &events, &[(12, "f")]);
}

#[test]
fn the_backup_of_vim_is_one_change() {
    let events = [
        (0, made("4913")),
        (0, written("4913")),
        (0, gone("4913")),
        (1, gone("f")),
        (1, moved_in("f~")),
        (1, made("f")),
        (2, writing("f")),
        (3, written("f")),
        (4, gone("f~")),
    ];
    // The backup was moved in, so it is looked for; it is not there, which is no change.
    check(&["f"], &events, &[(3, "f"), (12, "f~")]);
}

#[test]
fn a_file_that_goes_and_comes_back_is_one_change() {
    check(&["f"], &[(0, gone("f")), (5, made("f"))], &[(13, "f")]);
    check(&["f"], &[(0, gone("f")), (5, moved_in("f"))], &[(5, "f")]);
    check(&["f"], &[(0, gone("f"))], &[(8, "f")]);
}

#[test]
fn a_new_file_waits_for_its_close_and_a_link_for_quiet() {
    let events = [(0, made("f")), (1, writing("f")), (20, written("f"))];
    check(&[], &events, &[(28, "f")]);
    let slow = [(0, made("f")), (1, writing("f")), (70, written("f"))];
    check(&[], &slow, &[(40, "f"), (70, "f")]);
    check(&[], &[(0, made("link"))], &[(8, "link")]);
    let attributes = [(0, made("f")), (4, Event::Attributes(path("f")))];
    check(&[], &attributes, &[(8, "f")]);
    check(&["f"], &[(3, Event::Attributes(path("f")))], &[(3, "f")]);
}

#[test]
fn a_name_that_is_never_quiet_settles_all_the_same() {
    let events: Vec<_> =
        (0..10).flat_map(|at| [(at * 5, gone("f")), (at * 5 + 2, made("f"))]).collect();
    check(&["f"], &events, &[(40, "f"), (55, "f")]);
}

#[test]
fn a_log_that_stays_open_is_due_once_a_second() {
    let events: Vec<_> = (0..25).map(|at| (at * 100, writing("log"))).collect();
    check(&["log"], &events, &[(1000, "log"), (2100, "log"), (3200, "log")]);
}

#[test]
fn directories_are_read_with_everything_below_and_cover_what_waits_there() {
    let events = [(0, made_directory("d")), (1, made("d/x")), (2, made("d-x"))];
    check(&[], &events, &[(8, "d/"), (10, "d-x")]);
    let removed = Event::Gone { path: path("d"), is_directory: true };
    let events = [(0, gone("d/e/x")), (0, gone("d/y")), (0, removed)];
    check(&["d", "d/e/x", "d/y"], &events, &[(8, "d/")]);
    let events = [(0, writing("a/b")), (3, Event::Overflow)];
    check(&["a/b"], &events, &[(3, "./")]);
    check(&[], &[(3, Event::RootGone)], &[(3, "./")]);
}

#[test]
fn a_flush_takes_everything_and_what_is_marked_is_due_at_once() {
    let mut settle = Settle::default();
    settle.event(made("b"), false, 0);
    settle.event(made_directory("a"), false, 0);
    settle.event(writing("a/x"), true, 0);
    settle.event(made("a.lock"), false, 0);
    let dirt = |at: &str, below| Dirt { path: path(at), below };
    assert_eq!(settle.due(1), []);
    let flushed = settle.all();
    assert_eq!(flushed, [dirt("a", true), dirt("a.lock", false), dirt("b", false)]);
    assert!(settle.is_empty() && settle.next_due_ns().is_none());
    settle.event(made("b"), false, 0);
    flushed.iter().for_each(|dirt| settle.mark(dirt.clone()));
    assert_eq!(settle.next_due_ns(), Some(0));
    assert_eq!(settle.due(1), flushed);
    // What was gone and is marked to be read with all below keeps that.
    settle.mark(dirt("a", true));
    settle.mark(dirt("a", false));
    assert_eq!(settle.all(), [dirt("a", true)]);
}

#[test]
fn changes_of_a_repository_wait_for_its_last_lock() {
    let events = [
        (0, made(".git/index.lock")),
        (1, written(".git/config")),
        (1, written("src/f")),
        (2, made(".git/refs/heads/main.lock")),
        (3, moved_in(".git/HEAD")),
        (4, gone(".git/index.lock")),
        (4, moved_in(".git/index")),
        (5, gone(".git/refs/heads/main.lock")),
        (5, moved_in(".git/refs/heads/main")),
    ];
    let known = [".git/config", "src/f", ".git/HEAD", ".git/index", ".git/refs/heads/main"];
    let all = [
        (1, "src/f"),
        (5, ".git/HEAD"),
        (5, ".git/config"),
        (5, ".git/index"),
        (5, ".git/refs/heads/main"),
    ];
    check(&known, &events, &all);
    // Another repository's lock holds nothing here.
    let events = [(0, made("sub/.git/index.lock")), (1, written(".git/HEAD"))];
    check(&[".git/HEAD"], &events, &[(1, ".git/HEAD"), (8, "sub/.git/index.lock")]);
    let removed = Event::Gone { path: path("sub"), is_directory: true };
    let events = [(0, made("sub/.git/x.lock")), (1, written("sub/.git/HEAD")), (2, removed)];
    check(
        &["sub/.git/HEAD", "sub"],
        &events,
        &[(2, "sub/.git/HEAD"), (8, "sub/.git/x.lock"), (10, "sub/")],
    );
}

#[test]
fn a_lock_that_stays_holds_for_two_seconds_and_locks_in_a_row_no_longer() {
    let events = [
        (0, made(".git/index.lock")),
        (10, written(".git/HEAD")),
        (3000, written(".git/HEAD")),
        (4000, gone(".git/index.lock")),
        (5000, made(".git/index.lock")),
        (5001, written(".git/HEAD")),
        (5100, gone(".git/index.lock")),
    ];
    let lock = [(4008, ".git/index.lock"), (5008, ".git/index.lock"), (5100, ".git/HEAD")];
    let first = [(8, ".git/index.lock"), (2010, ".git/HEAD"), (3000, ".git/HEAD")];
    let last = [(5108, ".git/index.lock")];
    check(&[".git/HEAD"], &events, &[&first[..], &lock, &last].concat());

    // One lock goes and the next comes between two looks at the queue.
    let mut settle = Settle::default();
    settle.event(made(".git/0.lock"), false, 0);
    settle.event(written(".git/HEAD"), true, 0);
    for at in 1..=2000 {
        let due = settle.due(at * MS);
        assert!(due.iter().all(|dirt| dirt.path != path(".git/HEAD")), "after {at} ms");
        settle.event(gone(&format!(".git/{}.lock", at - 1)), false, at * MS);
        settle.event(made(&format!(".git/{at}.lock")), false, at * MS);
    }
    let due = settle.due(2001 * MS);
    assert!(due.iter().any(|dirt| dirt.path == path(".git/HEAD")), "{due:?}");
}

/// What may have events in the properties.
const PLACES: [&str; 10] = [
    "a",
    "a~",
    "d",
    "d/x",
    "d/y",
    "d/e/z",
    ".git/HEAD",
    ".git/index",
    ".git/index.lock",
    ".git/a.lock",
];

fn any_event() -> impl Strategy<Value = Event> {
    let place = || proptest::sample::select(&PLACES[..]).prop_map(path);
    prop_oneof![
        (place(), any::<bool>(), any::<bool>())
            .prop_map(|(path, is_directory, moved)| Event::Appeared { path, is_directory, moved }),
        (place(), any::<bool>())
            .prop_map(|(path, is_directory)| Event::Gone { path, is_directory }),
        place().prop_map(Event::Writing),
        place().prop_map(Event::Written),
        place().prop_map(Event::Attributes),
    ]
}

/// Milliseconds between two steps: mostly few, now and then many.
fn any_pause() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0_u64..10, 1 => 0_u64..1500]
}

/// One step of a user on the modelled disk.
#[derive(Clone, Copy, Debug)]
enum Step {
    Make,
    Write,
    Close,
    Remove,
    Rename,
    Swap,
    /// The follower reads the queue.
    Read,
}

/// A flat disk, the events that it makes, and what the follower knows of it.
#[derive(Default)]
struct World {
    disk: BTreeMap<SyncPath, u64>,
    tree: BTreeMap<SyncPath, u64>,
    queue: Vec<Event>,
    settle: Settle,
    count: u64,
}

impl World {
    fn step(&mut self, step: Step, at: &SyncPath, to: &SyncPath, now_ns: u64) {
        self.count += 1;
        let is_there = self.disk.contains_key(at);
        let gone = |at: &SyncPath| Event::Gone { path: at.clone(), is_directory: false };
        let appeared =
            |at: &SyncPath, moved| Event::Appeared { path: at.clone(), is_directory: false, moved };
        match step {
            Step::Make if !is_there => {
                self.disk.insert(at.clone(), self.count);
                self.queue.push(appeared(at, false));
            }
            Step::Write | Step::Close if is_there => {
                if matches!(step, Step::Write) {
                    self.disk.insert(at.clone(), self.count);
                    self.queue.push(Event::Writing(at.clone()));
                } else {
                    self.queue.push(Event::Written(at.clone()));
                }
            }
            Step::Remove if is_there => {
                self.disk.remove(at);
                self.queue.push(gone(at));
            }
            Step::Rename if is_there && at != to => {
                let content = self.disk.remove(at).expect("there");
                self.disk.insert(to.clone(), content);
                self.queue.extend([gone(at), appeared(to, true)]);
            }
            Step::Swap if is_there && at != to && self.disk.contains_key(to) => {
                let (left, right) = (self.disk[at], self.disk[to]);
                self.disk.insert(at.clone(), right);
                self.disk.insert(to.clone(), left);
                let events = [gone(at), appeared(to, true), gone(to), appeared(at, true)];
                self.queue.extend(events);
            }
            Step::Read => {
                for event in std::mem::take(&mut self.queue) {
                    let is_known = event.path().is_some_and(|path| self.tree.contains_key(path));
                    self.settle.event(event, is_known, now_ns);
                }
            }
            Step::Make | Step::Write | Step::Close => {}
            Step::Remove | Step::Rename | Step::Swap => {}
        }
    }

    fn reread(&mut self, dirt: Vec<Dirt>) {
        for dirt in dirt {
            let is_meant =
                |at: &SyncPath| *at == dirt.path || (dirt.below && at.is_within(&dirt.path));
            self.tree.retain(|at, _| !is_meant(at));
            let now = self.disk.iter().filter(|(at, _)| is_meant(at));
            self.tree.extend(now.map(|(at, content)| (at.clone(), *content)));
        }
    }
}

proptest! {
    /// Whatever comes in whatever order: who asks when told to is told every path in time.
    #[test]
    fn every_path_with_an_event_is_due_in_time(events in vec((any_pause(), any_event()), 1..60)) {
        let mut settle = Settle::default();
        let mut owed: BTreeMap<SyncPath, u64> = BTreeMap::new();
        let mut now_ns = 0;
        let check = |settle: &mut Settle, owed: &mut BTreeMap<SyncPath, u64>, now_ns: u64| {
            while let Some(at_ns) = settle.next_due_ns().filter(|at_ns| *at_ns <= now_ns) {
                let due = settle.due(at_ns);
                prop_assert!(due.is_sorted());
                owed.retain(|path, since_ns| {
                    let covers = |dirt: &Dirt| dirt.below && path.is_within(&dirt.path);
                    let is_told = due.iter().any(|dirt| dirt.path == *path || covers(dirt));
                    assert!(!is_told || at_ns <= *since_ns + WAIT_NS_MAX, "{path} at {at_ns}");
                    !is_told
                });
            }
            Ok(())
        };
        for (pause, event) in events {
            now_ns += pause * MS;
            check(&mut settle, &mut owed, now_ns)?;
            owed.entry(event.path().expect("a path").clone()).or_insert(now_ns);
            // Everything is known, so nothing is taken for somebody's temporary file.
            settle.event(event, true, now_ns);
        }
        check(&mut settle, &mut owed, now_ns + WAIT_NS_MAX)?;
        prop_assert!(owed.is_empty(), "{:?}", owed);
        prop_assert!(settle.is_empty());
    }

    /// Whatever is done to a disk, the tree is the disk in the end: nothing that is read late or
    /// taken for a temporary file is lost.
    #[test]
    fn a_tree_that_follows_becomes_the_disk(
        steps in vec((any_pause(), 0_usize..10, 0_usize..10, 0_u8..7), 1..120),
        is_flushed in any::<bool>(),
    ) {
        const STEPS: [Step; 7] = [
            Step::Make, Step::Write, Step::Close, Step::Remove, Step::Rename, Step::Swap, Step::Read,
        ];
        let mut world = World::default();
        let mut now_ns = 0;
        for (pause, at, to, step) in steps {
            now_ns += pause * MS;
            let dirt = world.settle.due(now_ns);
            world.reread(dirt);
            world.step(STEPS[usize::from(step)], &path(PLACES[at]), &path(PLACES[to]), now_ns);
        }
        world.step(Step::Read, &SyncPath::root(), &SyncPath::root(), now_ns);
        if is_flushed {
            let dirt = world.settle.all();
            world.reread(dirt);
        } else {
            while let Some(at_ns) = world.settle.next_due_ns() {
                prop_assert!(at_ns <= now_ns + WAIT_NS_MAX);
                let dirt = world.settle.due(at_ns);
                world.reread(dirt);
            }
        }
        prop_assert!(world.settle.is_empty());
        prop_assert_eq!(world.tree, world.disk);
    }
}
