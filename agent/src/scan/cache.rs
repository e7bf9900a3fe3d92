//! Digests that need not be computed again.
//!
//! Grouped by directory and shared, so that a scan which finds a directory unchanged passes the
//! group on, and the difference of two caches is found without looking into such groups. A file
//! costs 88 bytes: its record and a reference to the name that the tree holds.
//!
//! A record is a fact about a file as it once was, and says itself whether it still holds. So one
//! that is old or missing costs a reading and nothing else, whoever writes here in what order.

mod group;

use std::collections::{BTreeMap, BTreeSet};

use super::digest::RACY_NS;
use crate::disk::{Kind, Meta};
use crate::entry::Digest;
use crate::path::SyncPath;
pub(super) use group::Group;

/// What a file's metadata was when its digest was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRecord {
    /// Bytes.
    pub size: u64,
    /// Time of the last change of content, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Time of the last change of anything, nanoseconds since 1970.
    pub ctime_ns: i64,
    /// Inode number.
    pub inode: u64,
    /// BLAKE3 of the content.
    pub digest: Digest,
    /// When the reading began, nanoseconds since 1970.
    pub recorded_ns: i64,
}

impl FileRecord {
    pub(crate) fn new(meta: &Meta, digest: Digest, recorded_ns: i64) -> Self {
        Self {
            size: meta.size,
            mtime_ns: meta.mtime_ns,
            ctime_ns: meta.ctime_ns,
            inode: meta.inode,
            digest,
            recorded_ns,
        }
    }

    /// True if a file with this metadata must still hold what was recorded.
    ///
    /// Size, both times and the inode have to match, and the record must have been made at least a
    /// second after the file's last change: a change right after the reading can carry the same
    /// time as one right before, as clocks of file systems are coarse.
    pub fn holds_for(&self, meta: &Meta) -> bool {
        meta.kind == Kind::File
            && self.size == meta.size
            && self.mtime_ns == meta.mtime_ns
            && self.ctime_ns == meta.ctime_ns
            && self.inode == meta.inode
            && self.recorded_ns.saturating_sub(self.mtime_ns.max(self.ctime_ns)) >= RACY_NS
    }
}

/// The digests of a tree's files with what tells whether they still hold.
#[derive(Clone, Debug, Default)]
pub struct StatCache {
    /// By directory; none is empty.
    groups: BTreeMap<SyncPath, Group>,
    /// What changed since it was last taken, if anybody wants to know.
    log: Option<BTreeSet<SyncPath>>,
}

impl StatCache {
    /// All records, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (SyncPath, &FileRecord)> {
        self.groups.iter().flat_map(|(directory, group)| {
            group.iter().map(move |(name, record)| (directory.join(name), record))
        })
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.groups.values().map(Group::len).sum()
    }

    /// True if there is no record.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The record of a file.
    pub fn get(&self, path: &SyncPath) -> Option<&FileRecord> {
        let (directory, name) = path.split()?;
        self.groups.get(&directory)?.get(&name).map(|(_, record)| record)
    }

    /// Adds or replaces the record of a file. The root is no file and is ignored.
    pub fn insert(&mut self, path: &SyncPath, record: FileRecord) {
        if let Some((directory, name)) = path.split()
            && self.groups.entry(directory).or_default().insert(name, record)
            && let Some(log) = &mut self.log
        {
            log.insert(path.clone());
        }
    }

    /// Takes the record of a file out.
    pub fn remove(&mut self, path: &SyncPath) -> Option<FileRecord> {
        let (directory, name) = path.split()?;
        let group = self.groups.get_mut(&directory)?;
        let record = group.remove(&name)?;
        if group.is_empty() {
            self.groups.remove(&directory);
        }
        if let Some(log) = &mut self.log {
            log.insert(path.clone());
        }
        Some(record)
    }

    /// From now on [`StatCache::take_log`] tells what changes, in this one and in its clones. A log
    /// that was begun goes on.
    pub fn start_log(&mut self) {
        self.log.get_or_insert_default();
    }

    /// The paths whose records were added, replaced or removed since this was last asked, in order;
    /// [`StatCache::get`] has what they are now. Empty if no log was begun.
    pub fn take_log(&mut self) -> Vec<SyncPath> {
        self.log.as_mut().map(std::mem::take).unwrap_or_default().into_iter().collect()
    }

    /// Takes over all records of `new`, its log not, and logs the difference.
    pub fn replace(&mut self, new: Self) {
        self.replace_below(&SyncPath::root(), new);
    }

    /// What to write and what to delete to make a stored copy of `old` equal to this one.
    pub fn changed_since(&self, old: &Self) -> (Vec<(SyncPath, FileRecord)>, Vec<SyncPath>) {
        let mut upserts = Vec::new();
        let mut removals = Vec::new();
        differences(&old.groups, &self.groups, |path, record| match record {
            Some(record) => upserts.push((path, *record)),
            None => removals.push(path),
        });
        (upserts, removals)
    }

    pub(super) fn group(&self, directory: &SyncPath) -> Option<&Group> {
        self.groups.get(directory)
    }

    pub(super) fn insert_group(&mut self, directory: SyncPath, group: Group) {
        if !group.is_empty() {
            self.groups.insert(directory, group);
        }
    }

    /// A copy of what is known of the files below a directory, without a log.
    pub(super) fn below(&self, directory: &SyncPath) -> Self {
        let groups = self.range(directory).map(|(at, group)| (at.clone(), group.clone()));
        Self { groups: groups.collect(), log: None }
    }

    /// Takes over what a scan found below a directory, which began with `known` of it. What others
    /// recorded meanwhile is kept, as the scan may have read the file before they wrote it.
    pub(super) fn merge_below(&mut self, directory: &SyncPath, known: &Self, mut found: Self) {
        for (at, group) in self.range(directory) {
            let before = known.groups.get(at);
            if before.is_some_and(|before| before.is_shared_with(group)) {
                continue;
            }
            for (name, record) in group.iter() {
                let known = before.and_then(|before| before.get(name)).map(|(_, record)| record);
                if known != Some(record) {
                    found.groups.entry(at.clone()).or_default().insert(name.clone(), *record);
                }
            }
        }
        self.replace_below(directory, found);
    }

    /// Forgets the files below a directory.
    pub(super) fn remove_below(&mut self, directory: &SyncPath) {
        self.replace_below(directory, Self::default());
    }

    fn replace_below(&mut self, directory: &SyncPath, new: Self) {
        let old = if directory.is_root() {
            std::mem::take(&mut self.groups)
        } else {
            let old: Vec<_> = self.range(directory).map(|(at, _)| at.clone()).collect();
            old.into_iter().filter_map(|at| self.groups.remove_entry(&at)).collect()
        };
        if let Some(log) = &mut self.log {
            differences(&old, &new.groups, |path, _| {
                log.insert(path);
            });
        }
        self.groups.extend(new.groups);
    }

    fn range(&self, directory: &SyncPath) -> impl Iterator<Item = (&SyncPath, &Group)> {
        self.groups.range(directory..).take_while(|(at, _)| at.is_within(directory))
    }
}

impl PartialEq for StatCache {
    /// Logs are no part of equality.
    fn eq(&self, other: &Self) -> bool {
        self.groups == other.groups
    }
}

impl Eq for StatCache {}

/// Gives each path whose record differs, with the new one.
fn differences(
    old: &BTreeMap<SyncPath, Group>,
    new: &BTreeMap<SyncPath, Group>,
    mut sink: impl FnMut(SyncPath, Option<&FileRecord>),
) {
    let empty = Group::default();
    for (directory, group) in new {
        let before = old.get(directory).unwrap_or(&empty);
        if group.is_shared_with(before) {
            continue;
        }
        for (name, record) in group.iter() {
            if before.get(name).map(|(_, record)| record) != Some(record) {
                sink(directory.join(name), Some(record));
            }
        }
        for (name, _) in before.iter().filter(|(name, _)| group.get(name).is_none()) {
            sink(directory.join(name), None);
        }
    }
    for (directory, group) in old.iter().filter(|(directory, _)| !new.contains_key(*directory)) {
        for (name, _) in group.iter() {
            sink(directory.join(name), None);
        }
    }
}

impl FromIterator<(SyncPath, FileRecord)> for StatCache {
    fn from_iter<I: IntoIterator<Item = (SyncPath, FileRecord)>>(records: I) -> Self {
        let mut cache = Self::default();
        for (path, record) in records {
            cache.insert(&path, record);
        }
        cache
    }
}

#[cfg(test)]
mod tests;
