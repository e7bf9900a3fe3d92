//! Which paths may have become different since the last plan.
//!
//! A plan looks at these and at nothing else, so its cost is that of the change and not of the tree.
//! Too many cost time, one too few is a change that waits for the next full rescan.

use std::collections::BTreeMap;

use skync_agent::path::{Name, SyncPath};

/// A set of paths, each with everything below it, as a tree of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// This path is dirty, with everything below.
    whole: bool,
    below: BTreeMap<Name, Dirty>,
}

impl Dirty {
    /// Everything.
    pub fn all() -> Self {
        Self { whole: true, below: BTreeMap::new() }
    }

    /// Adds a path with everything below it.
    pub fn add(&mut self, path: &SyncPath) {
        let mut node = self;
        for name in path.names() {
            if node.whole {
                return;
            }
            // Parts of a checked path are checked.
            let Ok(name) = Name::parse(name) else { return };
            node = node.below.entry(name).or_default();
        }
        *node = Self::all();
    }

    /// True if no path is in it.
    pub fn is_empty(&self) -> bool {
        !self.whole && self.below.is_empty()
    }

    /// True if the path of this node is dirty, with everything below.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// The names below which something is dirty; of no use if the whole is.
    pub fn names(&self) -> impl Iterator<Item = (&Name, &Self)> {
        self.below.iter()
    }

    /// True if a plan for these paths decides about `path` anew: it is in the set, or something
    /// below it is.
    pub fn touches(&self, path: &SyncPath) -> bool {
        let mut node = self;
        for name in path.names() {
            if node.whole {
                return true;
            }
            match node.below.get(name) {
                Some(next) => node = next,
                None => return false,
            }
        }
        !node.is_empty()
    }

    /// Takes a path out again, if it was added by itself.
    pub fn remove(&mut self, path: &SyncPath) {
        let names: Vec<&[u8]> = path.names().collect();
        self.remove_names(&names);
    }

    fn remove_names(&mut self, names: &[&[u8]]) {
        match names {
            [] => self.whole = false,
            [name, rest @ ..] => {
                if let Some(child) = self.below.get_mut(*name) {
                    child.remove_names(rest);
                    if child.is_empty() {
                        self.below.remove(*name);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::trees::path;

    #[test]
    fn a_path_is_touched_if_it_or_something_above_or_below_it_is_dirty() {
        let mut dirty = Dirty::default();
        assert!(dirty.is_empty() && !dirty.touches(&path("a")));
        dirty.add(&path("a/b"));
        for touched in ["", "a", "a/b", "a/b/c/d"] {
            assert!(dirty.touches(&path(touched)), "{touched}");
        }
        for clean in ["b", "a/c", "a/bb"] {
            assert!(!dirty.touches(&path(clean)), "{clean}");
        }
        assert!(Dirty::all().touches(&path("x/y")));
    }

    #[test]
    fn a_directory_takes_what_is_below_it_in() {
        let mut dirty = Dirty::default();
        dirty.add(&path("a/b/c"));
        dirty.add(&path("a"));
        dirty.add(&path("a/x"));
        let mut only = Dirty::default();
        only.add(&path("a"));
        assert_eq!(dirty, only);
        dirty.add(&SyncPath::root());
        assert_eq!(dirty, Dirty::all());
    }

    #[test]
    fn what_is_taken_out_leaves_the_rest() {
        let mut dirty = Dirty::default();
        dirty.add(&path("a/b"));
        dirty.add(&path("a/c"));
        dirty.remove(&path("a/b"));
        assert!(!dirty.touches(&path("a/b")) && dirty.touches(&path("a/c")));
        dirty.remove(&path("a/c"));
        assert!(dirty.is_empty());
    }
}
