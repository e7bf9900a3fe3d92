//! The last tree that both sides agreed on, and how it moves on after a plan was carried out.
//!
//! It changes only to what both sides were seen to hold or what an executor reports it wrote
//! (invariant I1). A record that lags behind the disks is safe, one that leads destroys data (I2),
//! so what does not fit is refused rather than forced, and every state it can be in is a valid tree
//! (I11).

use skync_agent::entry::{Entry, TreeError, validate_ancestor};
use skync_agent::path::SyncPath;

use super::plan::{Change, Step};
use super::tracked::{count_files, shallow_tracked};

#[cfg(test)]
mod tests;

/// One change of the ancestor: what is at one path from now on, without children. A directory
/// keeps the children it has; anything else, and nothing, takes them away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AncestorSet {
    /// Where.
    pub path: SyncPath,
    /// A directory, file or symbolic link; or nothing.
    pub entry: Option<Entry>,
}

/// The last tree that both sides agreed on. Always valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ancestor {
    root: Option<Entry>,
    /// Files and links in it, so that nobody has to count them.
    files: u64,
}

impl Ancestor {
    /// Takes a tree, of a manifest for example.
    ///
    /// # Errors
    /// Refuses what cannot be an ancestor (invariant I11).
    pub fn from_tree(root: Option<Entry>) -> Result<Self, TreeError> {
        if let Some(entry) = &root {
            validate_ancestor(&SyncPath::root(), entry)?;
        }
        let files = count_files(root.as_ref());
        Ok(Self { root, files })
    }

    /// Files and symbolic links in the tree.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// The tree.
    pub fn root(&self) -> Option<&Entry> {
        self.root.as_ref()
    }

    /// Lets `forget` take entries out: what is excluded from now on is agreed on no more. It must
    /// add nothing, and say whether it took something. The manifest may remember longer; what it gives
    /// back is taken out again.
    pub fn forget(&mut self, forget: impl FnOnce(Option<&mut Entry>) -> bool) {
        if forget(self.root.as_mut()) {
            self.files = count_files(self.root.as_ref());
        }
    }

    /// Lets `share` make the tree use memory of an equal one. It must change nothing.
    pub(super) fn share(&mut self, share: impl FnOnce(&mut Entry)) {
        if let Some(root) = &mut self.root {
            share(root);
        }
    }

    fn count(&self, path: &SyncPath) -> u64 {
        count_files(self.root.as_ref().and_then(|root| root.find(path)))
    }

    /// Makes one change. False, and nothing changed, if the path's parent is not a directory here,
    /// or if the entry is of a kind that is never synchronised.
    ///
    /// The cost is that of finding the path, and of moving its later siblings if it is new or gone.
    pub fn set(&mut self, path: &SyncPath, entry: Option<&Entry>) -> bool {
        let entry = match entry.map(shallow_tracked) {
            Some(None) => return false,
            Some(Some(entry)) => Some(entry),
            None => None,
        };
        // A directory that stays one keeps what is in it.
        let stays = matches!(entry, Some(Entry::Directory(_)));
        let is_directory = |entry: &Entry| entry.as_directory().is_some();
        let stays =
            stays && self.root.as_ref().and_then(|root| root.find(path)).is_some_and(is_directory);
        let before = if stays { 0 } else { self.count(path) };
        let is_set = self.put(path, entry);
        let after = if stays { 0 } else { self.count(path) };
        self.files = (self.files + after).saturating_sub(before);
        is_set
    }

    fn put(&mut self, path: &SyncPath, entry: Option<Entry>) -> bool {
        match (&mut self.root, entry) {
            (root, None) if path.is_root() => {
                *root = None;
                true
            }
            (Some(root), entry) => root.put_shallow(path, entry),
            (root @ None, Some(entry)) if path.is_root() => {
                *root = Some(entry);
                true
            }
            // What is not there has no children either.
            (None, entry) => entry.is_none(),
        }
    }

    /// Moves on after a plan: takes over what was agreed, then the steps that were applied.
    ///
    /// `steps` are those of both sides, each with whether the executor reports that the path now is
    /// as `new` says. A step that was skipped or failed, or has no report, leaves the old value,
    /// so a change that was carried out in part is recorded as just that part.
    ///
    /// Returns the changes that were made, in order, for the manifest.
    pub fn advance<'a>(
        &mut self,
        agreed: &[Change],
        steps: impl IntoIterator<Item = (&'a Step, bool)>,
    ) -> Vec<AncestorSet> {
        let applied = steps.into_iter().filter(|(_, applied)| *applied).map(|(step, _)| step);
        let agreed = agreed.iter().map(|change| (&change.path, change.new.as_ref()));
        let mut made = Vec::new();
        for (path, entry) in agreed.chain(applied.map(|step| (&step.path, step.new.as_ref()))) {
            if self.set(path, entry) {
                let entry = entry.and_then(shallow_tracked);
                made.push(AncestorSet { path: path.clone(), entry });
            }
        }
        made
    }
}
