//! A conflict, or what a person decided about it.

use skync_agent::entry::{Directory, Entry};

use super::{Trio, Walk};
use crate::sync::decide::{Choice, beside, contents};
use crate::sync::plan::{Change, Conflict, ConflictKind, Copy, Side};
use crate::sync::tracked::{holds_untracked, is_absent, tracked};

impl<'a> Walk<'a> {
    /// Reports a conflict, unless a decision about just these versions can be carried out.
    pub(super) fn conflict(&mut self, at: Trio<'a>, kind: ConflictKind) {
        let directory = [at.host, at.sandbox].into_iter().flatten().find_map(Entry::as_directory);
        let mut conflict = Conflict {
            path: self.path(),
            host: at.host.map(Entry::shallow),
            sandbox: at.sandbox.map(Entry::shallow),
            ancestor: at.ancestor.map(Entry::shallow),
            contents: directory.map(contents),
            kind,
        };
        let done = match self.decisions.choice(&conflict) {
            None => Err(kind),
            Some(choice) => {
                self.settle_decided(choice, at, &conflict).map_err(ConflictKind::Blocked)
            }
        };
        match done {
            Ok(()) => self.plan.decided.push(conflict.path),
            Err(kind) => {
                conflict.kind = kind;
                self.plan.conflicts.push(conflict);
            }
        }
    }

    /// Plans what was decided.
    ///
    /// # Errors
    /// The side with something that is never written over.
    fn settle_decided(
        &mut self,
        choice: Choice,
        at: Trio<'a>,
        conflict: &Conflict,
    ) -> Result<(), Side> {
        let to = match choice {
            Choice::Sandbox => Side::Host,
            Choice::Host => Side::Sandbox,
            Choice::Both if is_absent(at.host) => Side::Host,
            Choice::Both if is_absent(at.sandbox) => Side::Sandbox,
            Choice::Both if !self.is_kept_beside(at, conflict)? => return Ok(()),
            Choice::Both => Side::Sandbox,
        };
        if self.try_write(to, at) { Ok(()) } else { Err(to) }
    }

    /// True if the host has the sandbox's version under another name; else plans that it gets it.
    ///
    /// # Errors
    /// The sandbox, if something there is never written over.
    fn is_kept_beside(&mut self, at: Trio<'a>, conflict: &Conflict) -> Result<bool, Side> {
        // Asked first: half of it done would leave a copy and the conflict.
        if at.sandbox.is_some_and(holds_untracked) {
            return Err(Side::Sandbox);
        }
        let (Some(version), Some((parent, name))) =
            (at.sandbox.and_then(tracked), conflict.path.split())
        else {
            return Err(Side::Sandbox);
        };
        for name in beside(&name, version.as_directory().is_some()) {
            let path = parent.join(&name);
            let find = |tree: Option<&'a Entry>| tree.and_then(|tree| tree.find(&path));
            let (host, sandbox) = (find(self.root.host), find(self.root.sandbox));
            let is_planned = |copy: &Copy| copy.change.path == path;
            // What the ancestor has and the sandbox has not is about to be deleted on the host.
            let is_new = sandbox.is_none() && find(self.root.ancestor).is_none();
            let is_version = |entry: Option<&Entry>| entry.is_some_and(|e| is_all_of(e, &version));
            if is_version(host) && (is_new || is_version(sandbox)) {
                return Ok(true);
            }
            // A name is used again if what is there is a part of the version, from an earlier try:
            // one that never gets further must not fill the disk with others.
            let is_free = host.is_none_or(|there| is_part_of(there, &version));
            if is_new && is_free && !self.plan.copies.iter().any(is_planned) {
                let old = host.and_then(tracked);
                let change = Change { path, old, new: Some(version) };
                self.plan.copies.push(Copy { conflict: conflict.clone(), change });
                return Ok(false);
            }
        }
        Err(Side::Sandbox)
    }
}

/// True if both have the same content. Who may execute or read it is no reason for another copy:
/// the file system may not know such things.
fn is_all_of(entry: &Entry, version: &Entry) -> bool {
    is_part_of(entry, version) && is_part_of(version, entry)
}

/// True if everything in `entry` is in `version` with the same content.
fn is_part_of(entry: &Entry, version: &Entry) -> bool {
    match (entry, version) {
        (Entry::File(file), Entry::File(version)) => file.same_content(version),
        (Entry::Symlink(target), Entry::Symlink(version)) => target == version,
        (Entry::Directory(directory), Entry::Directory(version)) => {
            are_parts_of(directory, version)
        }
        _ => false,
    }
}

fn are_parts_of(directory: &Directory, version: &Directory) -> bool {
    for (name, child) in &directory.children {
        match version.child(name.as_bytes()) {
            Some(version) if is_part_of(child, version) => {}
            Some(_) | None => return false,
        }
    }
    !directory.only_excluded
}
