//! The records of one directory: a sorted vector, shared until one of two changes it.

use std::slice;
use std::sync::Arc;

use super::FileRecord;
use crate::path::Name;

/// A vector that is full grows by this part of its length, so that memory is not left empty: what
/// a scan finds comes at its right size, and few files are added one by one.
const GROWTH_DIVISOR: usize = 8;

/// The records of the files of one directory, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::scan) struct Group(Arc<Vec<(Name, FileRecord)>>);

impl Group {
    /// Takes records that are sorted by name, each name once.
    pub(in crate::scan) fn of_sorted(records: Vec<(Name, FileRecord)>) -> Self {
        debug_assert!(records.is_sorted_by(|a, b| a.0 < b.0), "sorted by name, each once");
        Self(Arc::new(records))
    }

    /// True if both are the same piece of memory, and so are equal without a look.
    pub(super) fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(in crate::scan) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> slice::Iter<'_, (Name, FileRecord)> {
        self.0.iter()
    }

    /// The record of a name, and the name as it is shared.
    pub(in crate::scan) fn get(&self, name: &Name) -> Option<&(Name, FileRecord)> {
        self.find(name).ok().map(|at| &self.0[at])
    }

    /// Adds or replaces a record; says whether that made a difference.
    pub(super) fn insert(&mut self, name: Name, record: FileRecord) -> bool {
        match self.find(&name) {
            Ok(at) if self.0[at].1 == record => return false,
            Ok(at) => Arc::make_mut(&mut self.0)[at].1 = record,
            Err(at) => {
                let records = Arc::make_mut(&mut self.0);
                if records.len() == records.capacity() {
                    records.reserve_exact(1 + records.len() / GROWTH_DIVISOR);
                }
                records.insert(at, (name, record));
            }
        }
        true
    }

    pub(super) fn remove(&mut self, name: &Name) -> Option<FileRecord> {
        let at = self.find(name).ok()?;
        Some(Arc::make_mut(&mut self.0).remove(at).1)
    }

    fn find(&self, name: &Name) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(name))
    }
}
