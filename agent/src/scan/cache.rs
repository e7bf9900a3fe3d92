//! Digests that need not be computed again.
//!
//! Grouped by directory and shared, so that a scan which finds a directory unchanged passes the
//! group on, and the difference of two caches is found without looking into such groups.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::digest::RACY_NS;
use crate::disk::{Kind, Meta};
use crate::entry::Digest;
use crate::path::{Name, SyncPath};

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

pub(super) type Group = Arc<BTreeMap<Name, FileRecord>>;

/// The digests of a tree's files with what tells whether they still hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatCache {
    groups: HashMap<SyncPath, Group>,
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
        self.groups.values().map(|group| group.len()).sum()
    }

    /// True if there is no record.
    pub fn is_empty(&self) -> bool {
        self.groups.values().all(|group| group.is_empty())
    }

    /// The record of a file.
    pub fn get(&self, path: &SyncPath) -> Option<&FileRecord> {
        let (directory, name) = path.split()?;
        self.groups.get(&directory)?.get(&name)
    }

    /// Adds or replaces the record of a file. The root is no file and is ignored.
    pub fn insert(&mut self, path: &SyncPath, record: FileRecord) {
        if let Some((directory, name)) = path.split() {
            Arc::make_mut(self.groups.entry(directory).or_default()).insert(name, record);
        }
    }

    /// Takes the record of a file out.
    pub fn remove(&mut self, path: &SyncPath) -> Option<FileRecord> {
        let (directory, name) = path.split()?;
        let group = self.groups.get_mut(&directory)?;
        group.contains_key(&name).then(|| Arc::make_mut(group).remove(&name)).flatten()
    }

    /// What to write and what to delete to make a stored copy of `old` equal to this one.
    pub fn changed_since(&self, old: &Self) -> (Vec<(SyncPath, FileRecord)>, Vec<SyncPath>) {
        let mut upserts = Vec::new();
        let mut removals = Vec::new();
        let empty = Group::default();
        for (directory, group) in &self.groups {
            let before = old.groups.get(directory).unwrap_or(&empty);
            if Arc::ptr_eq(group, before) {
                continue;
            }
            let changed = group.iter().filter(|(name, record)| before.get(*name) != Some(record));
            upserts.extend(changed.map(|(name, record)| (directory.join(name), *record)));
            let gone = before.keys().filter(|name| !group.contains_key(*name));
            removals.extend(gone.map(|name| directory.join(name)));
        }
        for (directory, group) in &old.groups {
            if !self.groups.contains_key(directory) {
                removals.extend(group.keys().map(|name| directory.join(name)));
            }
        }
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
