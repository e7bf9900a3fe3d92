//! Counts what a project is made of, without reading a file: what is mirrored, what is left out, what
//! is large.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use skync_agent::disk::Root;
use skync_agent::path::{Name, SyncPath};
use skync_agent::rules::{DirectoryRules, RuleSet, Rules};

/// Excluded names that are remembered.
const EXCLUDED_MAX: usize = 20;
/// Entries that are counted; a larger tree is not counted to its end.
const ENTRIES_MAX: u64 = 400_000;
/// How deep a directory may be to be told of by itself.
const NAMED_DEPTH: usize = 2;

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// Directories that are watched, the root included.
    pub(super) directories: u64,
    /// Everything else that is mirrored.
    pub(super) files: u64,
    /// Bytes in files.
    pub(super) bytes: u64,
    /// What is left out, from the root, the first of it.
    pub(super) excluded: Vec<PathBuf>,
    /// How much is left out in all, what is below it not counted.
    pub(super) excluded_count: u64,
    /// Files and bytes below directories that are not deep.
    pub(super) sizes: BTreeMap<PathBuf, (u64, u64)>,
    /// Directories that cannot be read.
    pub(super) unreadable: Vec<PathBuf>,
    /// All of it was counted.
    pub(super) complete: bool,
}

/// Counts a tree by the rules of a profile, for at most `patience` and a little.
pub(super) fn survey(
    root: &Path,
    exclude: &[String],
    gitignore: bool,
    patience: Duration,
) -> Survey {
    let opened = Root::open(root).ok();
    let collected = opened.and_then(|root| RuleSet::collect(&root, exclude, gitignore, &[]).ok());
    let (rules, _) = Rules::compile(&collected.unwrap_or_else(RuleSet::of_defaults));
    let mut walk = Walk {
        root,
        rules: &rules,
        found: Survey { complete: true, ..Survey::default() },
        entries: 0,
        deadline: Instant::now() + patience,
    };
    // A heap, not the stack: a tree may be deeper than that.
    let mut waiting = vec![(SyncPath::root(), rules.root())];
    while let Some((path, above)) = waiting.pop() {
        if walk.is_over() {
            walk.found.complete = false;
            break;
        }
        waiting.extend(walk.enter(&path, above));
    }
    walk.found
}

struct Walk<'a> {
    root: &'a Path,
    rules: &'a Rules,
    found: Survey,
    entries: u64,
    deadline: Instant,
}

impl Walk<'_> {
    fn is_over(&self) -> bool {
        self.entries > ENTRIES_MAX || Instant::now() > self.deadline
    }

    /// Counts one directory, and returns those in it.
    fn enter(
        &mut self,
        path: &SyncPath,
        mut here: DirectoryRules,
    ) -> Vec<(SyncPath, DirectoryRules)> {
        self.found.directories += 1;
        let Ok(entries) = std::fs::read_dir(self.root.join(path.as_path())) else {
            self.found.unreadable.push(path.as_path().to_owned());
            return Vec::new();
        };
        let entries: Vec<_> = entries.flatten().collect();
        let has =
            |wanted: &[u8]| entries.iter().any(|entry| entry.file_name().as_bytes() == wanted);
        self.rules.with_names(&mut here, has);
        let mut below = Vec::new();
        for entry in entries {
            self.entries += 1;
            let (Ok(name), Ok(kind)) =
                (Name::parse(entry.file_name().as_bytes()), entry.file_type())
            else {
                continue;
            };
            let child = path.join(&name);
            if self.rules.is_excluded_in(&here, child.as_bytes(), kind.is_dir()) {
                self.found.excluded_count += 1;
                if self.found.excluded.len() < EXCLUDED_MAX {
                    self.found.excluded.push(child.as_path().to_owned());
                }
            } else if kind.is_dir() {
                let rules = self.rules.child(&here, &child);
                below.push((child, rules));
            } else {
                let size = entry.metadata().map_or(0, |found| found.size());
                self.count(&child, if kind.is_file() { size } else { 0 });
            }
        }
        below
    }

    fn count(&mut self, file: &SyncPath, bytes: u64) {
        self.found.files += 1;
        self.found.bytes += bytes;
        let directories = file.as_path().ancestors().skip(1);
        for directory in directories {
            if (1..=NAMED_DEPTH).contains(&directory.components().count()) {
                let sum = self.found.sizes.entry(directory.to_owned()).or_default();
                *sum = (sum.0 + 1, sum.1 + bytes);
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests {
    use super::*;

    #[test]
    fn what_is_mirrored_is_counted_and_what_is_left_out_is_named() {
        let base = tempfile::tempdir().expect("a directory");
        for (name, bytes) in
            [("a", 1), ("src/b", 2), ("src/deep/er/c", 4), ("node_modules/x/y", 8), ("data/d", 16)]
        {
            let path = base.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, vec![0; bytes]).expect("written");
        }
        let exclude = ["data/".to_owned()];
        let found = survey(base.path(), &exclude, false, Duration::from_secs(60));
        assert_eq!((found.directories, found.files, found.bytes), (4, 3, 7));
        let mut excluded = found.excluded.clone();
        excluded.sort();
        assert_eq!(excluded, [PathBuf::from("data"), "node_modules".into()]);
        assert_eq!(found.sizes[Path::new("src")], (2, 6));
        assert!(found.complete && found.unreadable.is_empty());
    }

    #[test]
    fn a_tree_that_takes_too_long_is_not_counted_to_its_end() {
        let base = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(base.path().join("a")).expect("made");
        let found = survey(base.path(), &[], false, Duration::ZERO);
        assert!(!found.complete);
    }
}
