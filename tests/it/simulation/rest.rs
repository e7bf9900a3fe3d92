//! What must hold once everything came to rest: both sides are the same, apart from what is told.

use skync::config::SyncMode;
use skync::sync::plan::{Conflict, Problem, Side};
use skync::sync::tracked::is_absent;
use skync_agent::entry::Entry;
use skync_agent::path::{Name, SyncPath};

use super::disk::{Disk, is_excluded, related};
use super::oracle::Ledger;
use super::world::show;

/// Compares both trees.
pub fn check(
    mode: SyncMode,
    trees: [Option<&Entry>; 2],
    conflicts: &[Conflict],
    problems: &[Problem],
    disks: [&Disk; 2],
    ledger: &mut Ledger,
) {
    let mut different = Vec::new();
    differences(&SyncPath::root(), trees, disks[0].conditional, &mut different);
    for path in &different {
        let told = conflicts.iter().any(|conflict| related(&conflict.path, path))
            || problems.iter().any(|problem| related(&problem.path, path));
        let [host, sandbox] = trees.map(|tree| tree.and_then(|tree| tree.find(path)));
        let left_alone = mode == SyncMode::OneWaySafe && is_absent(host);
        if !told && !left_alone {
            let [host, sandbox] = [host, sandbox].map(show);
            ledger.violated(|| {
                format!("at rest {path} is {host} on the host and {sandbox} in the sandbox")
            });
        }
    }
    for conflict in conflicts {
        if !different.iter().any(|path| related(path, &conflict.path)) {
            ledger.violated(|| format!("the conflict at {} is none", conflict.path));
        }
    }
    // Every fault is healed. Only what is excluded may still be in the way, and names that the host
    // cannot tell apart.
    let is_in_the_way = |problem: &Problem| {
        let side = usize::from(problem.side == Side::Sandbox);
        let tree = trees[side].and_then(|tree| tree.find(&problem.path));
        disks[side].get(&problem.path).is_some() && tree.is_none_or(|tree| is_absent(Some(tree)))
    };
    let odd = problems.iter().find(|problem| !disks[0].folds_case && !is_in_the_way(problem));
    if let Some(problem) = odd {
        ledger.violated(|| format!("at rest there is a problem: {problem:?}"));
    }
}

/// The highest paths where the sides do not hold the same.
fn differences(
    path: &SyncPath,
    trees: [Option<&Entry>; 2],
    is_conditional: bool,
    found: &mut Vec<SyncPath>,
) {
    match trees {
        [Some(Entry::Directory(host)), Some(Entry::Directory(sandbox))] => {
            let mut names: Vec<&Name> =
                host.children.iter().chain(&sandbox.children).map(|(name, _)| name).collect();
            names.sort_unstable();
            names.dedup();
            // What one side's names exclude is excluded on both, wherever those names end up.
            let cargo = [host, sandbox].iter().any(|side| side.child(b"Cargo.toml").is_some());
            for name in names {
                let below = [host, sandbox].map(|directory| directory.child(name.as_bytes()));
                let is_directory = below.iter().flatten().any(|e| e.as_directory().is_some());
                if is_conditional && is_excluded(name.as_bytes(), is_directory, cargo) {
                    continue;
                }
                differences(&path.join(name), below, is_conditional, found);
            }
        }
        [host, sandbox] if is_absent(host) && is_absent(sandbox) => {}
        [Some(host), Some(sandbox)] if host.shallow_eq(sandbox) => {}
        _ => found.push(path.clone()),
    }
}
