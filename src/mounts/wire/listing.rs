//! Puts directories together from the parts in which they come.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use skync_agent::proto::FilesListing;
use skync_mount::Answer;
use skync_mount::source::{Attributes, Entry, FileKind, Listing};

use super::{attributes, bad, entry, newest, path};

/// Names of the largest directory, and of all that are read ahead beyond what was asked for: as
/// many as a mount keeps.
const ENTRIES_MAX: usize = 1_000_000;

/// The directories of one request, in the making.
pub(in crate::mounts) struct Gather {
    /// What was asked for.
    directory: PathBuf,
    /// Names that may still come.
    left: usize,
    /// Directories that were told whole.
    count: usize,
    open: Option<Part>,
}

/// A directory of which more comes.
struct Part {
    path: PathBuf,
    attributes: Attributes,
    entries: Vec<Entry>,
    followed: bool,
}

impl Gather {
    /// Nothing yet of a directory and what is below it.
    pub(in crate::mounts) fn new(directory: &Path, entries_max: usize) -> Self {
        let left = entries_max.saturating_add(ENTRIES_MAX);
        Self { directory: directory.to_owned(), left, count: 0, open: None }
    }

    /// Takes the next part: a directory if that is the last one of it, and the newest time that was
    /// seen.
    ///
    /// # Errors
    /// If it is not the next part of what was asked for, or of too much.
    pub(in crate::mounts) fn take(&mut self, part: FilesListing) -> Answer<(Option<Listing>, i64)> {
        let path = path(&part.path)?;
        let own = attributes(part.attributes.as_ref())?;
        if own.kind != FileKind::Directory {
            return Err(bad("a listing of what is no directory"));
        }
        // Directories are paid for as well: there could be no end of empty ones.
        let cost = part.entries.len() + 1;
        self.left = self.left.checked_sub(cost).ok_or_else(|| bad("more than was asked for"))?;
        let mut gathered = match self.open.take() {
            Some(open) if open.path == path => open,
            Some(_) => return Err(bad("a directory that breaks off")),
            None if self.is_next(&path) => {
                Part { path, attributes: own, entries: Vec::new(), followed: part.followed }
            }
            None => return Err(bad("a directory that was not asked for")),
        };
        gathered.followed &= part.followed;
        gathered.attributes = own;
        let mut newest_ns = part.attributes.as_ref().map_or(0, newest);
        gathered.entries.reserve(part.entries.len());
        for wire in part.entries {
            newest_ns = newest_ns.max(wire.attributes.as_ref().map_or(0, newest));
            gathered.entries.push(entry(wire)?);
        }
        if part.unfinished {
            self.open = Some(gathered);
            return Ok((None, newest_ns));
        }
        self.count += 1;
        let Part { path, attributes, entries, followed } = gathered;
        if !are_different(&entries) {
            return Err(bad("a name that comes twice in a directory"));
        }
        Ok((Some(Listing { path, attributes, entries, followed }), newest_ns))
    }

    /// True if the directory that was asked for has been told, and nothing broke off.
    pub(in crate::mounts) fn is_whole(&self) -> bool {
        self.count > 0 && self.open.is_none()
    }

    fn is_next(&self, path: &Path) -> bool {
        if self.count == 0 { path == self.directory } else { path.starts_with(&self.directory) }
    }
}

fn are_different(entries: &[Entry]) -> bool {
    let mut names = HashSet::with_capacity(entries.len());
    entries.iter().all(|entry| names.insert(entry.name.as_os_str()))
}
