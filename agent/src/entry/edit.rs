//! Changing a tree at one path, and finding the paths where two trees differ.

use super::{Directory, Entry};
use crate::path::SyncPath;

impl Entry {
    /// Puts `entry` and everything below it at `path`, or takes what is there away.
    ///
    /// False, and nothing changed, if the path's parent is no directory here; or for the root, which
    /// cannot be taken away. The cost is that of finding the path, and of its directory's entries if
    /// the name is new or gone, or the directory is shared with another tree.
    pub fn put(&mut self, path: &SyncPath, entry: Option<Self>) -> bool {
        let Some((parent, name)) = path.split() else {
            return match entry {
                Some(entry) => {
                    *self = entry;
                    true
                }
                None => false,
            };
        };
        let Some(directory) = self.directory_mut(&parent) else {
            // What is not there has nothing below it either.
            return entry.is_none();
        };
        let at = directory.children.binary_search_by(|(other, _)| other.cmp(&name));
        match (at, entry) {
            (Ok(at), Some(entry)) => directory.children[at].1 = entry,
            (Ok(at), None) => drop(directory.children.remove(at)),
            (Err(at), Some(entry)) => directory.children.insert(at, (name, entry)),
            (Err(_), None) => {}
        }
        true
    }

    /// As [`Entry::put`] for an entry without its children: a directory that stays one keeps those
    /// it has.
    pub fn put_shallow(&mut self, path: &SyncPath, entry: Option<Self>) -> bool {
        match (self.find(path), entry) {
            (Some(Self::Directory(old)), Some(Self::Directory(new))) => {
                if old.mode == new.mode {
                    return true;
                }
                if let Some(directory) = self.directory_mut(path) {
                    directory.mode = new.mode;
                }
                true
            }
            (_, entry) => self.put(path, entry),
        }
    }

    /// The directory at `path`, to be changed. Whatever is shared on the way there is so no more.
    pub fn directory_mut(&mut self, path: &SyncPath) -> Option<&mut Directory> {
        // Looked for first, so that a path that is not there unshares nothing.
        self.find(path)?.as_directory()?;
        path.names().try_fold(as_directory_mut(self)?, |directory, name| {
            let at = directory
                .children
                .binary_search_by(|(other, _)| other.as_bytes().cmp(name))
                .ok()?;
            as_directory_mut(&mut directory.children[at].1)
        })
    }
}

fn as_directory_mut(entry: &mut Entry) -> Option<&mut Directory> {
    match entry {
        Entry::Directory(directory) => Some(directory),
        Entry::File(_) | Entry::Symlink(_) | Entry::Untracked | Entry::Problem(_) => None,
    }
}

/// Adds the highest paths at or below `path` where the trees differ: each is to be taken over whole.
///
/// Two directories differ only in what is in them and in `only_excluded`; where they share their
/// children nobody looks.
pub fn differences(
    path: &SyncPath,
    old: Option<&Entry>,
    new: Option<&Entry>,
    found: &mut Vec<SyncPath>,
) {
    match (old, new) {
        (None, None) => {}
        (Some(Entry::Directory(old)), Some(Entry::Directory(new))) => {
            if old.only_excluded != new.only_excluded {
                found.push(path.clone());
            } else if !old.children.is_shared_with(&new.children) {
                children_differences(path, old, new, found);
            }
        }
        (Some(old), Some(new)) if old == new => {}
        _ => found.push(path.clone()),
    }
}

fn children_differences(
    path: &SyncPath,
    old: &Directory,
    new: &Directory,
    found: &mut Vec<SyncPath>,
) {
    let (mut olds, mut news) = (old.children.iter().peekable(), new.children.iter().peekable());
    loop {
        let name = match (olds.peek(), news.peek()) {
            (None, None) => return,
            (Some((name, _)), None) | (None, Some((name, _))) => name,
            (Some((one, _)), Some((other, _))) => one.min(other),
        };
        let one = olds.next_if(|(other, _)| other == name).map(|(_, entry)| entry);
        let other = news.next_if(|(other, _)| other == name).map(|(_, entry)| entry);
        let same_file = matches!((one, other), (Some(Entry::File(one)), Some(Entry::File(other))) if one == other);
        if !same_file {
            differences(&path.join(name), one, other, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Digest, File};
    use crate::path::Name;

    fn file(text: &str) -> Entry {
        let digest = Digest::of(text.as_bytes());
        Entry::File(File { digest, size: text.len() as u64, mode: 0o644, mtime_ns: 0 })
    }

    fn directory(children: Vec<(&str, Entry)>) -> Entry {
        let name = |name: &str| Name::parse(name.as_bytes()).expect("a name");
        let children = children.into_iter().map(|(n, entry)| (name(n), entry)).collect();
        Entry::Directory(Directory { mode: 0o755, only_excluded: false, children })
    }

    fn path(text: &str) -> SyncPath {
        SyncPath::parse(text.as_bytes()).expect("a path")
    }

    fn diff(old: &Entry, new: &Entry) -> Vec<String> {
        let mut found = Vec::new();
        differences(&SyncPath::root(), Some(old), Some(new), &mut found);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_clone_that_is_changed_leaves_the_other_tree_alone_and_shares_the_rest() {
        let before = directory(vec![
            ("a", directory(vec![("x", file("1"))])),
            ("b", directory(vec![("y", file("2"))])),
        ]);
        let mut after = before.clone();
        assert!(after.put(&path("a/x"), Some(file("3"))));
        assert!(after.put(&path("a/new"), Some(directory(vec![("z", file("4"))]))));
        assert_eq!(diff(&before, &after), ["a/new", "a/x"]);
        let b = |tree: &Entry| tree.find(&path("b")).and_then(Entry::as_directory).cloned();
        let (one, other) = (b(&before).expect("b"), b(&after).expect("b"));
        assert!(one.children.is_shared_with(&other.children));
        assert!(after.put(&path("a"), None));
        assert_eq!(diff(&before, &after), ["a"]);
    }

    #[test]
    fn what_has_no_parent_is_refused() {
        let mut tree = directory(vec![("f", file("1"))]);
        let before = tree.clone();
        assert!(!tree.put(&path("f/x"), Some(file("2"))));
        assert!(!tree.put(&path("no/x"), Some(file("2"))));
        assert!(tree.put(&path("no/x"), None));
        assert!(!tree.put(&SyncPath::root(), None));
        assert_eq!(diff(&before, &tree), [] as [&str; 0]);
    }

    #[test]
    fn a_directory_put_without_its_children_keeps_them() {
        let mut tree = directory(vec![("d", directory(vec![("x", file("1"))]))]);
        assert!(tree.put_shallow(&path("d"), Some(directory(vec![]))));
        assert!(tree.find(&path("d/x")).is_some());
        assert!(tree.put_shallow(&path("d"), Some(file("2"))));
        assert_eq!(tree.find(&path("d")), Some(&file("2")));
    }
}
