//! One directory: its names, what they are, and the work that they make.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Content, Node, Place, Thread, Walk, Work, lock};
use crate::disk::{DirFd, Kind, Meta, reason};
use crate::entry::Entry;
use crate::path::{Name, PATH_BYTES_MAX};
use crate::rules::DirectoryRules;
use crate::scan::cache::Group;
use crate::scan::{DEPTH_MAX, ScanError, TARGET_BYTES_MAX};
use crate::staging::TEMP_PREFIX;

/// Files hashed as one piece of work: enough to make the queue cheap, few enough to share.
const BATCH_FILE_COUNT_MAX: usize = 64;
/// Bytes after which a batch is full, so that large files spread over the threads.
const BATCH_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Why a directory was not listed.
pub(super) enum Stop {
    Directory(rustix::io::Errno),
    Scan(ScanError),
}

impl From<rustix::io::Errno> for Stop {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Directory(errno)
    }
}

impl From<ScanError> for Stop {
    fn from(error: ScanError) -> Self {
        Self::Scan(error)
    }
}

/// One directory while its names are looked at.
struct Listing<'a> {
    walk: &'a Walk<'a>,
    node: &'a Arc<Node>,
    directory: &'a Arc<DirFd>,
    rules: &'a DirectoryRules,
    old: Option<&'a Group>,
    content: Content,
    /// Files to be hashed: position and size.
    unknown: Vec<(usize, u64)>,
    below: Vec<Work>,
}

impl Listing<'_> {
    fn add(&mut self, thread: &mut Thread, mut name: Name, kind: Option<Kind>) {
        let cut = thread.path.len();
        thread.path.extend_from_slice(name.as_bytes());
        let entry = self.look(thread, &mut name, kind);
        thread.path.truncate(cut);
        if let Some(entry) = entry {
            self.content.directory.children.push((name, entry));
        }
    }

    /// The entry of one name, or a placeholder for what is read later; nothing if it is excluded
    /// or went away. A name that the cache knows becomes the cache's, which is shared.
    fn look(&mut self, thread: &mut Thread, name: &mut Name, kind: Option<Kind>) -> Option<Entry> {
        let kind = match kind {
            Some(kind) => kind,
            None => self.stat(thread, name)?.ok()?.kind,
        };
        if self.walk.reader.rules.is_excluded_in(self.rules, &thread.path, kind == Kind::Directory)
        {
            if name.as_bytes().starts_with(TEMP_PREFIX.as_bytes()) {
                // Ours, and gone soon: no reason to keep the directory.
                thread.temporaries.push(self.node.path.join(name));
            } else {
                self.content.excluded += 1;
            }
            return None;
        }
        if thread.path.len() > PATH_BYTES_MAX {
            return Some(thread.problem(&self.node.path.join(name), too_long()));
        }
        match kind {
            Kind::Directory => Some(self.go_below(thread, name)),
            Kind::File => {
                match self.stat(thread, name)? {
                    Ok(meta) if meta.kind == Kind::File => Some(self.file(thread, name, &meta)),
                    // It changed its kind a moment ago; the event of that change comes.
                    Ok(_) => Some(thread.problem(
                        &self.node.path.join(name),
                        "it changes while it is read".to_owned(),
                    )),
                    Err(entry) => Some(entry),
                }
            }
            Kind::Symlink => match read_symlink(self.directory, name) {
                Ok(entry) => entry,
                Err(reason) => Some(thread.problem(&self.node.path.join(name), reason)),
            },
            Kind::Other => Some(Entry::Untracked),
        }
    }

    /// Nothing if it went away; an entry if it could not be asked.
    fn stat(&self, thread: &mut Thread, name: &Name) -> Option<Result<Meta, Entry>> {
        match self.directory.stat_listed(name) {
            Ok(meta) => Some(Ok(meta)),
            Err(rustix::io::Errno::NOENT) => None,
            Err(errno) => Some(Err(thread.problem(&self.node.path.join(name), reason(errno)))),
        }
    }

    fn file(&mut self, thread: &mut Thread, name: &mut Name, meta: &Meta) -> Entry {
        let at = self.content.directory.children.len();
        if let Some((shared, record)) = self.old.and_then(|old| old.get(name)) {
            *name = shared.clone();
            if record.holds_for(meta) {
                self.content.kept += 1;
                return thread.file(meta, record);
            }
        }
        self.unknown.push((at, meta.size));
        Entry::Untracked
    }

    fn go_below(&mut self, thread: &mut Thread, name: &Name) -> Entry {
        let path = self.node.path.join(name);
        if self.node.depth + 1 > DEPTH_MAX {
            return thread.problem(&path, too_deep());
        }
        let rules = self.walk.reader.rules.child(self.rules, &path);
        let at = self.content.directory.children.len();
        let node = Node::new(Some((Arc::clone(self.node), at)), path, self.node.depth + 1);
        let place = Place::In(Arc::clone(self.directory), name.clone());
        self.below.push(Work::Directory { node, place, rules });
        Entry::Untracked
    }
}

impl Walk<'_> {
    /// Reads one directory into its node and gives the work below it.
    pub(super) fn list(
        &self,
        thread: &mut Thread,
        node: &Arc<Node>,
        place: Place,
        rules: &DirectoryRules,
    ) -> Result<Vec<Work>, Stop> {
        let directory = Arc::new(match place {
            Place::Open(directory) => directory,
            Place::In(parent, name) => parent.open_directory(&name)?,
        });
        self.watch(node, &directory);
        let meta = Meta::of(&*directory)?;
        let mut names = directory.list(&mut thread.names)?;
        let count = names.len() as u64;
        if self.entries.fetch_add(count, Ordering::Relaxed) + count > self.reader.entry_count_max {
            return Err(ScanError::TooManyEntries(self.reader.entry_count_max).into());
        }
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut rules = rules.clone();
        self.reader.rules.with_names(&mut rules, |wanted| {
            names.binary_search_by(|(name, _)| name.as_bytes().cmp(wanted)).is_ok()
        });
        let mut listing = Listing {
            walk: self,
            node,
            directory: &directory,
            rules: &rules,
            old: self.cache.group(&node.path),
            content: Content::default(),
            unknown: Vec::new(),
            below: Vec::new(),
        };
        listing.content.directory.mode = meta.mode;
        listing.content.directory.children.reserve_exact(names.len());
        thread.path.clear();
        thread.path.extend_from_slice(node.path.as_bytes());
        if !node.path.is_root() {
            thread.path.push(b'/');
        }
        for (name, kind) in names {
            listing.add(thread, name, kind);
        }
        let Listing { content, unknown, mut below, .. } = listing;
        *lock(&node.content) = content;
        below.extend(batches(node, &directory, unknown));
        Ok(below)
    }

    /// Before the directory is listed: what is made in between is an event and in the listing.
    fn watch(&self, node: &Node, directory: &DirFd) {
        if let Some(watcher) = self.reader.watcher {
            let mut unwatched = lock(&self.unwatched);
            if unwatched.is_none() {
                *unwatched = watcher.add(&node.path, directory).err();
            }
        }
    }
}

/// The entry of a symbolic link; nothing if it went away.
///
/// # Errors
/// Why there is none, for a person.
pub(in crate::scan) fn read_symlink(
    directory: &DirFd,
    name: &Name,
) -> Result<Option<Entry>, String> {
    match directory.read_link(name) {
        Ok(target) if target.len() <= TARGET_BYTES_MAX => Ok(Some(Entry::Symlink(target))),
        Ok(_) => Err(format!("the link's target is longer than {TARGET_BYTES_MAX} bytes")),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(errno) => Err(reason(errno)),
    }
}

pub(in crate::scan) fn too_long() -> String {
    format!("its path is longer than {PATH_BYTES_MAX} bytes")
}

pub(in crate::scan) fn too_deep() -> String {
    format!("it is more than {DEPTH_MAX} levels deep")
}

fn batches(node: &Arc<Node>, directory: &Arc<DirFd>, unknown: Vec<(usize, u64)>) -> Vec<Work> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut bytes = u64::MAX;
    for (at, size) in unknown {
        match batches.last_mut() {
            Some(batch) if bytes < BATCH_BYTES_MAX && batch.len() < BATCH_FILE_COUNT_MAX => {
                batch.push(at);
                bytes += size;
            }
            _ => {
                batches.push(vec![at]);
                bytes = size;
            }
        }
    }
    let hash =
        |files| Work::Hash { node: Arc::clone(node), directory: Arc::clone(directory), files };
    batches.into_iter().map(hash).collect()
}
