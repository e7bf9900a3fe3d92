//! Whole trees: any one becomes any other, and what many small files cost.

use std::time::Instant;

use proptest::prelude::*;

use super::*;

/// The plan that makes `from` into `to`: removals of children before their directory, directories
/// before their children.
fn plan(at: &SyncPath, from: Option<&Entry>, to: Option<&Entry>, steps: &mut Vec<Transition>) {
    let both_directories = from.and_then(Entry::as_directory).zip(to.and_then(Entry::as_directory));
    if both_directories.is_none() && from.is_some_and(|f| f.as_directory().is_some()) {
        below(at, from, None, steps);
    }
    let is_same = match (from, to) {
        (Some(from), Some(to)) => from.shallow_eq(to),
        (None, None) => true,
        _ => false,
    };
    if !is_same {
        let path = at.clone();
        let shallow = |entry: Option<&Entry>| entry.map(Entry::shallow);
        let involves_directory =
            [from, to].iter().flatten().any(|entry| entry.as_directory().is_some());
        if from.is_some() && to.is_some() && involves_directory {
            steps.push(Transition { path: path.clone(), expected: shallow(from), new: None });
            steps.push(Transition { path, expected: None, new: shallow(to) });
        } else {
            steps.push(Transition { path, expected: shallow(from), new: shallow(to) });
        }
    }
    if to.is_some_and(|t| t.as_directory().is_some()) {
        below(at, from, to, steps);
    }
}

fn below(at: &SyncPath, from: Option<&Entry>, to: Option<&Entry>, steps: &mut Vec<Transition>) {
    let children = |entry: Option<&Entry>| -> Vec<(Name, Entry)> {
        entry.and_then(Entry::as_directory).map(|d| d.children.to_vec()).unwrap_or_default()
    };
    let (from, to) = (children(from), children(to));
    let mut names: Vec<_> = from.iter().chain(&to).map(|(name, _)| name.clone()).collect();
    names.sort();
    names.dedup();
    let find = |children: &[(Name, Entry)], name: &Name| {
        children.iter().find(|(other, _)| other == name).map(|(_, entry)| entry.clone())
    };
    for name in names {
        plan(&at.join(&name), find(&from, &name).as_ref(), find(&to, &name).as_ref(), steps);
    }
}

fn content_of(seed: u8) -> Vec<u8> {
    // Some empty, most small, some in several pieces.
    let size = match seed % 8 {
        0 => 0,
        7 => 150_000,
        n => usize::from(n) * 100,
    };
    vec![seed; size]
}

fn any_tree() -> impl Strategy<Value = Entry> {
    let leaf = prop_oneof![
        4 => (any::<u8>(), prop::sample::select(vec![0o644_u16, 0o755, 0o600, 0o700]))
            .prop_map(|(seed, mode)| file(&content_of(seed % 32), mode)),
        1 => "[a-c]{1,3}".prop_map(|target| link(&target)),
    ];
    let tree = leaf.prop_recursive(4, 40, 6, |inner| {
        prop::collection::btree_map("[a-e' \n\u{e9}]{1,2}", inner, 0..6).prop_map(|children| {
            let children = children
                .into_iter()
                .map(|(name, entry)| (Name::parse(name.as_bytes()).expect("a name"), entry))
                .collect();
            Entry::Directory(Directory { mode: 0o755, only_excluded: false, children })
        })
    });
    prop::collection::btree_map("[a-e]", tree, 0..6).prop_map(|children| {
        let children = children
            .into_iter()
            .map(|(name, entry)| (Name::parse(name.as_bytes()).expect("a name"), entry))
            .collect();
        Entry::Directory(Directory { mode: 0o755, only_excluded: false, children })
    })
}

fn steps_of(transitions: Vec<Transition>) -> Vec<Step> {
    let known: std::collections::HashMap<Digest, Vec<u8>> =
        (0..32).map(|seed| (Digest::of(&content_of(seed)), content_of(seed))).collect();
    let mut steps = Vec::new();
    for transition in transitions {
        let is_content_needed = match (&transition.expected, &transition.new) {
            (Some(Entry::File(a)), Some(Entry::File(b))) => !a.same_content(b),
            (_, Some(Entry::File(_))) => true,
            _ => false,
        };
        if let (true, Some(Entry::File(new))) = (is_content_needed, &transition.new) {
            let content = &known[&new.digest];
            let count = content.len().div_ceil(60_000).max(1);
            for i in 0..count {
                let range = i * 60_000..((i + 1) * 60_000).min(content.len());
                steps.push(Step::Chunk(Chunk {
                    digest: new.digest,
                    offset: range.start as u64,
                    piece: Piece::Data(Bytes::copy_from_slice(&content[range])),
                    last: i + 1 == count,
                }));
            }
        }
        steps.push(Step::Transition(transition));
    }
    steps
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_becomes_any_other(first in any_tree(), second in any_tree()) {
        let world = World::new();
        let mut there = directory();
        for wanted in [&first, &second, &first] {
            let mut transitions = Vec::new();
            plan(&SyncPath::root(), Some(&there), Some(wanted), &mut transitions);
            let steps = steps_of(transitions);
            let statuses = world.apply(steps.clone());
            prop_assert!(statuses.iter().all(|s| *s == Status::Applied), "{:?}", statuses);
            let snapshot = world.scan();
            prop_assert_eq!(snapshot.root.as_ref(), Some(wanted));
            // What the applier recorded is what a scan records.
            let recorded = world.cache.lock().expect("not poisoned");
            prop_assert_eq!(recorded.len(), snapshot.cache.len());
            for (path, record) in snapshot.cache.iter() {
                let ours = recorded.get(&path).expect("recorded");
                prop_assert_eq!(ours.digest, record.digest);
                prop_assert_eq!(
                    (ours.size, ours.mtime_ns, ours.ctime_ns, ours.inode),
                    (record.size, record.mtime_ns, record.ctime_ns, record.inode)
                );
            }
            there = wanted.clone();
        }
        world.assert_clean();
    }
}

/// Prints what writing costs; run it in release with `--nocapture` to compare with the target.
#[test]
fn many_small_files_are_written_and_the_cost_printed() {
    let count: usize = if cfg!(debug_assertions) { 1_000 } else { 20_000 };
    let shm = Path::new("/dev/shm");
    for writers in [1, 2, 2] {
        let base = if shm.is_dir() { shm.to_path_buf() } else { std::env::temp_dir() };
        let world = World::in_directory(&base);
        let mut steps: Vec<Step> = Vec::new();
        for at in 0..count / 50 {
            steps.extend(step(&format!("d{at}"), None, Some(directory())));
        }
        let name = |at: usize| format!("d{}/f{at}", at / 50);
        let body = |at: usize, round: u8| vec![round; 1024 + at * 37 % 7168];
        for at in 0..count {
            steps.extend(small(&name(at), None, &body(at, 1), 0o644));
        }
        let mut again: Vec<Step> = Vec::new();
        for at in 0..count {
            let old = Some(file(&body(at, 1), 0o644));
            again.extend(small(&name(at), old, &body(at, 2), 0o644));
        }
        for (what, steps) in [("created", steps), ("replaced", again)] {
            let start = Instant::now();
            let applier = Applier::new(&world.root, &world.staging, &world.cache, writers);
            let mut applied = 0;
            applier.apply(steps, |o| applied += usize::from(o.status == Status::Applied));
            let took = start.elapsed();
            println!(
                "{count} files {what} by {writers} writers in {took:?}: {:.0} a second",
                count as f64 / took.as_secs_f64()
            );
            assert!(applied >= count);
        }
    }
}
