//! What is in a directory, shared between trees for as long as they are the same there.
//!
//! A session holds three trees (ancestor, host, sandbox) that are nearly always equal. A directory's
//! children are counted references, so a tree is cloned in no time, equal directories exist once,
//! and a comparison stops where two trees share. That is one entry per path for all three, which is
//! what `design.md` §5 wants of a node with three states, without giving up trees that pure
//! functions can work with.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::slice;
use std::sync::Arc;

use super::Entry;
use crate::path::Name;

/// The entries of a directory, sorted by name, each name once.
///
/// Reading is that of a vector. Changing copies the vector first if another tree shares it (the
/// entries in it stay shared); so to change a child costs the number of its siblings.
#[derive(Clone, Default)]
pub struct Children(Arc<Vec<(Name, Entry)>>);

impl Children {
    /// True if both are the same piece of memory, and so are equal without a look.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for Children {
    type Target = Vec<(Name, Entry)>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Children {
    fn deref_mut(&mut self) -> &mut Self::Target {
        Arc::make_mut(&mut self.0)
    }
}

impl PartialEq for Children {
    fn eq(&self, other: &Self) -> bool {
        self.is_shared_with(other) || self.0 == other.0
    }
}

impl Eq for Children {}

impl From<Vec<(Name, Entry)>> for Children {
    fn from(entries: Vec<(Name, Entry)>) -> Self {
        Self(Arc::new(entries))
    }
}

impl FromIterator<(Name, Entry)> for Children {
    fn from_iter<I: IntoIterator<Item = (Name, Entry)>>(entries: I) -> Self {
        entries.into_iter().collect::<Vec<_>>().into()
    }
}

impl<'a> IntoIterator for &'a Children {
    type Item = &'a (Name, Entry);
    type IntoIter = slice::Iter<'a, (Name, Entry)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Debug for Children {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
