//! Random changes on both sides of the real engine, compared with what may become of them.
//!
//! The oracle knows nothing of how reconciling works. It holds a side's path against what the side
//! had there when both last agreed: a synchronisation may change it only if the side itself had not,
//! and only to what the other side has.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use skync::config::SyncMode;
use skync::sync::report::Report;

use crate::support::pair::Pair;
use crate::support::random::Random;
use crate::support::tree::{Tree, agreed, assert_same};

/// Rounds with each seed; each synchronises once.
const ROUNDS: usize = 40;

/// Few names, so that both sides meet; at most 14 files, so that no plan looks like an accident.
fn a_path(random: &mut Random) -> String {
    let depth = 1 + random.below(3);
    (0..depth).map(|_| random.of(&["a", "b"])).collect::<Vec<_>>().join("/")
}

/// Does something at random below `root`; whatever cannot be done is not.
fn change(root: &Path, random: &mut Random, version: &mut u32) {
    let path = root.join(a_path(random));
    if let Some(parent) = path.parent().filter(|_| !random.once_in(4)) {
        let _ = std::fs::create_dir_all(parent);
    }
    // Half of the contents are unlike any other, half come again.
    *version += 1;
    let content = match random.once_in(2) {
        true => format!("version {version}"),
        false => random.of(&["", "1", "22"]).to_owned(),
    };
    // Each of these may fail: the path is of another kind, or its parent is not there.
    match random.below(16) {
        0..=4 => drop(std::fs::File::create(&path).map(|mut f| f.write_all(content.as_bytes()))),
        5 | 6 => {
            let open = std::fs::OpenOptions::new().append(true).open(&path);
            drop(open.map(|mut file| file.write_all(content.as_bytes())));
        }
        7..=9 => remove(&path),
        10 => drop(std::fs::create_dir(&path)),
        11 | 12 => {
            let to = root.join(a_path(random));
            remove(&to);
            rename(&path, &to);
        }
        13 => {
            if path.symlink_metadata().is_ok_and(|m| m.is_file()) {
                let mode = random.of(&[0o644, 0o755, 0o600, 0o700]);
                drop(std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)));
            }
        }
        14 => {
            remove(&path);
            // Writes go through links: what they name must be in the tree, or nothing can make it.
            drop(symlink(random.of(&["a", "b/a", "/proc/nowhere"]), &path));
        }
        _ => {
            remove(&path);
            drop(std::fs::create_dir(&path));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own files")]
fn remove(path: &Path) {
    let is_directory = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    let _ = if is_directory { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

#[expect(clippy::disallowed_methods, reason = "a test's own files")]
fn rename(from: &Path, to: &Path) {
    let _ = std::fs::rename(from, to);
}

/// What both sides agreed on last, path by path, and the rules of one mode.
struct Oracle {
    mode: SyncMode,
    agreed: Tree,
}

/// Host and sandbox at one time.
struct Both([Tree; 2]);

impl Both {
    fn of(pair: &Pair) -> Self {
        Self([agreed(pair.host()), agreed(pair.sandbox())])
    }
}

impl Oracle {
    /// Checks one synchronisation.
    #[track_caller]
    fn check(&mut self, before: &Both, after: &Both, report: &Report) {
        let names: BTreeSet<&String> =
            [before, after].into_iter().flat_map(|both| &both.0).flat_map(BTreeMap::keys).collect();
        for name in &names {
            for side in 0..2 {
                self.check_path(side, name, before, after);
            }
        }
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        let open: Vec<String> = report.conflicts.iter().map(|c| c.path.to_string()).collect();
        if self.mode != SyncMode::OneWaySafe {
            for name in names {
                let [host, sandbox] = after.0.each_ref().map(|side| side.get(name));
                let covered = open.iter().any(|path| is_at_or_below(name, path));
                assert!(
                    host == sandbox || covered,
                    "{name}: {host:?} / {sandbox:?}, and no conflict"
                );
            }
        }
        self.agree(after);
    }

    fn check_path(&self, side: usize, name: &str, before: &Both, after: &Both) {
        let [was, is] = [before, after].map(|both| both.0[side].get(name));
        if was == is {
            return;
        }
        let what = format!("{name} on {}: {was:?} became {is:?}", ["host", "sandbox"][side]);
        assert_eq!(is, before.0[1 - side].get(name), "{what}, which the other side did not have");
        match (self.mode, side) {
            (SyncMode::OneWaySafe | SyncMode::OneWayReplica, 0) => panic!("{what}: one-way"),
            // The host wins.
            (SyncMode::OneWayReplica | SyncMode::TwoWayResolved, 1) => return,
            _ => {}
        }
        // A deletion may be undone, a change never.
        let unchanged = was == self.agreed.get(name);
        assert!(was.is_none() || unchanged, "{what}, and had been changed there: lost");
    }

    fn agree(&mut self, after: &Both) {
        let [host, sandbox] = &after.0;
        self.agreed.retain(|name, _| host.contains_key(name) || sandbox.contains_key(name));
        for (name, what) in host {
            if sandbox.get(name) == Some(what) {
                self.agreed.insert(name.clone(), what.clone());
            }
        }
    }
}

fn is_at_or_below(name: &str, path: &str) -> bool {
    name == path || name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
}

fn run(mode: SyncMode, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        eprintln!("{mode:?}, seed {seed}");
        let mut random = Random::new(seed);
        let mut pair = Pair::new(mode);
        // Neither side is ever empty, which would look like an accident.
        drop(std::fs::File::create(pair.host().join("anchor")).expect("made"));
        let mut oracle = Oracle { mode, agreed: Tree::new() };
        let mut version = 0;
        for round in 0..ROUNDS {
            eprintln!("round {round}");
            for side in [pair.host().to_owned(), pair.sandbox().to_owned()] {
                for _ in 0..random.below(5) {
                    change(&side, &mut random, &mut version);
                }
            }
            let before = Both::of(&pair);
            let report = pair.sync().expect("synchronised");
            let after = Both::of(&pair);
            oracle.check(&before, &after, &report);
            // Nothing is left to do, and nothing is done twice.
            pair.sync().expect("synchronised");
            let again = Both::of(&pair);
            assert_same(&after.0[0], &again.0[0]);
            assert_same(&after.0[1], &again.0[1]);
        }
    }
}

#[test]
fn two_way_safe_loses_no_change_of_either_side() {
    run(SyncMode::TwoWaySafe, 0..8);
}

#[test]
fn two_way_resolved_loses_no_change_of_the_host() {
    run(SyncMode::TwoWayResolved, 100..104);
}

#[test]
fn one_way_safe_changes_nothing_on_the_host_and_loses_no_change_of_the_sandbox() {
    run(SyncMode::OneWaySafe, 200..204);
}

#[test]
fn one_way_replica_changes_nothing_on_the_host_and_makes_the_sandbox_the_same() {
    run(SyncMode::OneWayReplica, 300..304);
}

/// A side that writes below `root/<own>` while synchronisations run; the contents it left.
fn write_on(root: &Path, own: &str, seed: u64, steps: usize) -> BTreeMap<PathBuf, String> {
    let mut random = Random::new(seed);
    let mut left = BTreeMap::new();
    for step in 0..steps {
        let name = PathBuf::from(format!("{own}-{}/{}", random.below(3), random.below(6)));
        let path = root.join(&name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        if random.once_in(4) {
            remove(&path);
            left.remove(&name);
            continue;
        }
        let content = format!("{own} {step} ").repeat(1 + random.below(2000));
        match random.once_in(2) {
            // As editors do, and as shells do.
            true => {
                let temporary = path.with_extension("new");
                let mut file = std::fs::File::create(&temporary).expect("made");
                file.write_all(content.as_bytes()).expect("written");
                rename(&temporary, &path);
            }
            false => {
                let mut file = std::fs::File::create(&path).expect("made");
                file.write_all(content.as_bytes()).expect("written");
            }
        }
        left.insert(name, content);
    }
    left
}

#[test]
fn writing_on_both_sides_while_they_are_synchronised_loses_nothing() {
    for seed in 400..403 {
        eprintln!("seed {seed}");
        let mut pair = Pair::new(SyncMode::TwoWaySafe);
        let (host, sandbox) = (pair.host().to_owned(), pair.sandbox().to_owned());
        drop(std::fs::File::create(host.join("anchor")).expect("made"));
        let mut left = std::thread::scope(|scope| {
            let one = scope.spawn(|| write_on(&host, "host", seed, 400));
            let other = scope.spawn(|| write_on(&sandbox, "sandbox", seed + 1, 400));
            while !(one.is_finished() && other.is_finished()) {
                pair.sync().expect("synchronised");
            }
            let mut left = one.join().expect("written");
            left.append(&mut other.join().expect("written"));
            left
        });
        let report = pair.sync().expect("synchronised");
        assert!(report.conflicts.is_empty(), "{:?}", report.conflicts);
        assert_same(&agreed(&host), &agreed(&sandbox));
        left.insert("anchor".into(), String::new());
        for (name, content) in &left {
            let found = std::fs::read_to_string(host.join(name)).expect("there");
            assert!(found == *content, "seed {seed}: {name:?} is not what was written last");
        }
        let files = agreed(&host).values().filter(|what| what.starts_with("file")).count();
        assert_eq!(files, left.len(), "seed {seed}: something came back");
    }
}
