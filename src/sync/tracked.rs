//! What of a scanned tree counts as being there, for synchronisation.
//!
//! A scan also shows what is never synchronised: special files, entries that could not be read, and
//! directories that hold excluded content and nothing else. The last are the subtle ones, called
//! *husks* here. When one side deletes a directory, excluded content keeps a husk of it on the
//! other, which must neither bring the directory back nor be deleted again and again. So a husk
//! counts as absent, except beside a real directory at the same path: then both have the directory.

use skync_agent::entry::{Children, Directory, Entry};

/// True if nothing synchronisable is there: no entry, a special file, or a husk.
///
/// An entry that could not be read is not absent: nothing is known of it.
pub fn is_absent(entry: Option<&Entry>) -> bool {
    match entry {
        None | Some(Entry::Untracked) => true,
        Some(Entry::Directory(directory)) => is_husk(directory),
        Some(Entry::File(_) | Entry::Symlink(_) | Entry::Problem(_)) => false,
    }
}

/// True if excluded or special content is all that the directory holds, however deep.
///
/// An empty directory is no husk: it is synchronised.
pub fn is_husk(directory: &Directory) -> bool {
    for (_, child) in &directory.children {
        if !is_absent(Some(child)) {
            return false;
        }
    }
    directory.only_excluded || !directory.children.is_empty()
}

/// True if a directory could not be replaced by something else without destroying what was never
/// synchronised: at or below the entry is excluded, special or unreadable content.
///
/// A scan shows excluded content only where nothing else is in the directory; the rest is found by
/// the executor, which refuses to remove a directory that is not empty (invariant I5).
pub fn holds_untracked(entry: &Entry) -> bool {
    match entry {
        Entry::Untracked | Entry::Problem(_) => true,
        Entry::File(_) | Entry::Symlink(_) => false,
        Entry::Directory(directory) => {
            for (_, child) in &directory.children {
                if holds_untracked(child) {
                    return true;
                }
            }
            directory.only_excluded
        }
    }
}

/// True if something at or below the entry could not be read.
pub fn holds_problem(entry: &Entry) -> bool {
    match entry {
        Entry::Problem(_) => true,
        Entry::Directory(directory) => {
            for (_, child) in &directory.children {
                if holds_problem(child) {
                    return true;
                }
            }
            false
        }
        Entry::File(_) | Entry::Symlink(_) | Entry::Untracked => false,
    }
}

/// A copy of what is synchronised: without special files, unreadable entries and husks.
pub fn tracked(entry: &Entry) -> Option<Entry> {
    match entry {
        Entry::Untracked | Entry::Problem(_) => None,
        Entry::File(_) | Entry::Symlink(_) => Some(entry.clone()),
        Entry::Directory(directory) => {
            // Plain loops here and above: an iterator's closures would multiply the stack that a
            // deep tree needs.
            let mut children = Vec::with_capacity(directory.children.len());
            for (name, child) in &directory.children {
                if let Some(child) = tracked(child) {
                    children.push((name.clone(), child));
                }
            }
            // Only a directory that comes out empty can be a husk.
            if children.is_empty() && is_husk(directory) {
                return None;
            }
            let mode = directory.mode;
            Some(Entry::Directory(Directory {
                mode,
                only_excluded: false,
                children: children.into(),
            }))
        }
    }
}

/// This entry without its children, as it may stand in an ancestor; nothing if it may not.
pub fn shallow_tracked(entry: &Entry) -> Option<Entry> {
    match entry {
        Entry::Untracked | Entry::Problem(_) => None,
        Entry::File(_) | Entry::Symlink(_) => Some(entry.clone()),
        Entry::Directory(directory) => Some(Entry::Directory(Directory {
            mode: directory.mode,
            only_excluded: false,
            children: Children::default(),
        })),
    }
}

/// Number of files and symbolic links at or below an entry.
pub fn count_files(entry: Option<&Entry>) -> u64 {
    match entry {
        None | Some(Entry::Untracked | Entry::Problem(_)) => 0,
        Some(Entry::File(_) | Entry::Symlink(_)) => 1,
        Some(Entry::Directory(directory)) => {
            let mut count = 0;
            for (_, child) in &directory.children {
                count += count_files(Some(child));
            }
            count
        }
    }
}
