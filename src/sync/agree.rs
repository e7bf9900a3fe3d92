//! Makes the trees agree on what is excluded by patterns that look at the names beside them.
//!
//! Such a pattern (`target/ beside Cargo.toml`) depends on the names in a directory, which can
//! differ between the sides until they are synchronised; and a directory that one side excludes and
//! the other does not looks deleted. So both sides' names are taken together, and what is excluded
//! by them leaves all three trees before anything is compared. Leaving the ancestor is no deletion.

use skync_agent::entry::{Directory, Entry};
use skync_agent::path::{Name, SyncPath};
use skync_agent::rules::{DirectoryRules, Rules};

use super::dirty::Dirty;

/// Takes what only one side excludes out of all trees, as far as `dirty` goes. True if there was
/// something.
///
/// A tree is not touched where there is nothing to take out, so what it shares stays shared.
pub fn agree(
    rules: &Rules,
    dirty: &Dirty,
    ancestor: Option<&mut Entry>,
    host: &mut Entry,
    sandbox: &mut Entry,
) -> bool {
    if !rules.has_conditional() || dirty.is_empty() {
        return false;
    }
    let mut excluded = Vec::new();
    let trees = [ancestor.as_deref(), Some(&*host), Some(&*sandbox)];
    find(rules, &rules.root(), &SyncPath::root(), trees.map(directory), dirty, &mut excluded);
    let mut trees = [ancestor, Some(host), Some(sandbox)];
    for path in &excluded {
        for tree in trees.iter_mut().flatten() {
            take_out(tree, path);
        }
    }
    !excluded.is_empty()
}

fn directory(entry: Option<&Entry>) -> Option<&Directory> {
    entry.and_then(Entry::as_directory)
}

fn find(
    rules: &Rules,
    above: &DirectoryRules,
    path: &SyncPath,
    trees: [Option<&Directory>; 3],
    dirty: &Dirty,
    excluded: &mut Vec<SyncPath>,
) {
    // A directory that only one side has is judged by the names that decide.
    let [ancestor, Some(host), Some(sandbox)] = trees else { return };
    if host.children.is_shared_with(&sandbox.children) {
        return;
    }
    let mut here = above.clone();
    rules.with_names(&mut here, |name| {
        [host, sandbox].iter().any(|side| side.child(name).is_some())
    });
    // Also where both sides have such a name. A side may have got it from us a moment ago, and its
    // tree may still show beside it what is excluded from now on and looks new there.
    let is_switched = here.switches() != 0;
    for (name, dirty) in names(ancestor, host, sandbox, dirty, is_switched) {
        let entries = [ancestor, Some(host), Some(sandbox)]
            .map(|directory| directory.and_then(|directory| directory.child(name.as_bytes())));
        // What the ancestor has decides only where no side has anything: a file that took the place
        // of a directory is not excluded with it.
        let is_directory = |entry: &&Entry| entry.as_directory().is_some();
        let mut on_sides = entries[1..].iter().flatten().peekable();
        let is_directory = match on_sides.peek() {
            Some(_) => on_sides.any(is_directory),
            None => entries[0].as_ref().is_some_and(is_directory),
        };
        let below = path.join(name);
        if is_switched && rules.is_excluded_in(&here, below.as_bytes(), is_directory) {
            excluded.push(below);
        } else if is_directory {
            let child = rules.child(&here, &below);
            find(rules, &child, &below, entries.map(directory), dirty, excluded);
        }
    }
}

/// The names to look at: those that are dirty, or all that matter.
fn names<'a>(
    ancestor: Option<&'a Directory>,
    host: &'a Directory,
    sandbox: &'a Directory,
    dirty: &'a Dirty,
    is_switched: bool,
) -> Vec<(&'a Name, &'a Dirty)> {
    if !dirty.is_whole() {
        return dirty.names().collect();
    }
    let is_directory = |entry: &Entry| entry.as_directory().is_some();
    let mut names: Vec<&Name> = Vec::new();
    for directory in [ancestor, Some(host), Some(sandbox)].into_iter().flatten() {
        let matter =
            directory.children.iter().filter(|(_, entry)| is_switched || is_directory(entry));
        names.extend(matter.map(|(name, _)| name));
    }
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| (name, dirty)).collect()
}

fn take_out(tree: &mut Entry, path: &SyncPath) {
    let Some((parent, _)) = path.split() else { return };
    if tree.find(path).is_none() || !tree.put(path, None) {
        return;
    }
    if let Some(directory) = tree.directory_mut(&parent)
        && directory.children.is_empty()
    {
        directory.only_excluded = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::trees::{dir, file, path, show};
    use skync_agent::rules::RuleSet;

    fn built() -> Entry {
        dir([("target", dir([("out", file("1"))])), ("src", file("2"))])
    }

    fn agreed(
        mut host: Entry,
        mut sandbox: Entry,
        mut ancestor: Entry,
        dirty: &Dirty,
    ) -> [String; 3] {
        let (rules, _) = Rules::compile(&RuleSet::of_defaults());
        agree(&rules, dirty, Some(&mut ancestor), &mut host, &mut sandbox);
        [&ancestor, &host, &sandbox].map(|tree| show(Some(tree)))
    }

    #[test]
    fn a_name_on_either_side_excludes_for_all_trees() {
        let cargo = dir([("Cargo.toml", file("c")), ("src", file("2"))]);
        let [ancestor, host, sandbox] = agreed(cargo, built(), built(), &Dirty::all());
        assert_eq!(ancestor, "{src: 2}");
        assert_eq!(host, "{Cargo.toml: c, src: 2}");
        assert_eq!(sandbox, "{src: 2}");
        let alone = agreed(built(), built(), built(), &Dirty::all());
        assert_eq!(alone[1], show(Some(&built())), "an ordinary directory without such a name");
    }

    #[test]
    fn a_name_that_both_sides_have_excludes_what_a_tree_still_shows() {
        // A step has just made the sandbox's `Cargo.toml`; nobody has read the directory since.
        let target = || dir([("out", file("1"))]);
        let host = dir([("Cargo.toml", file("c"))]);
        let sandbox = dir([("Cargo.toml", file("c")), ("target", target())]);
        let [.., sandbox] = agreed(host, sandbox, dir([]), &Dirty::all());
        assert_eq!(sandbox, "{Cargo.toml: c}");
    }

    #[test]
    fn a_file_in_the_place_of_an_excluded_directory_is_not_excluded() {
        let host = dir([("Cargo.toml", file("c")), ("target", file("t"))]);
        let sandbox = dir([("Cargo.toml", file("c"))]);
        let [ancestor, host, _] = agreed(host, sandbox, built(), &Dirty::all());
        assert_eq!(host, "{Cargo.toml: c, target: t}");
        assert_eq!(ancestor, show(Some(&built())));
    }

    #[test]
    fn only_what_is_dirty_is_looked_at() {
        let cargo = dir([("Cargo.toml", file("c")), ("src", file("2"))]);
        let mut dirty = Dirty::default();
        dirty.add(&path("src"));
        let [ancestor, ..] = agreed(cargo.clone(), built(), built(), &dirty);
        assert_eq!(ancestor, show(Some(&built())));
        dirty.add(&path("target"));
        let [ancestor, ..] = agreed(cargo, built(), built(), &dirty);
        assert_eq!(ancestor, "{src: 2}");
    }
}
