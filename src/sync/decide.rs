//! What a person said about conflicts, and for how long it holds. Pure.
//!
//! A decision holds for exactly the two versions that the person saw. If either has changed since,
//! it is void: the conflict shows again and nothing is written. Of a directory a conflict carries
//! no children, so what is in it is compared by [`contents`]: whoever says "the host's file" about a
//! directory of the sandbox has agreed to lose what was in it then, not what came later.
//!
//! | choice | what is planned |
//! |---|---|
//! | host | the sandbox becomes what the host is |
//! | sandbox | the host becomes what the sandbox is, once, also in a one-way mode |
//! | both | the host's version stays at the path on both sides, the sandbox's stands beside it on both, as `name (sandbox).ext` |
//!
//! *Both* takes two rounds, so that nothing is overwritten before its copy was seen on a disk: the
//! first brings the sandbox's version to the host under its new name ([`super::plan::Copy`]), the
//! second, which finds it there, writes the host's version into the sandbox (and takes the copy
//! there, as any new file).
//! Where only one side has something, *both* keeps that.
//!
//! Content that is not synchronised is never written over, whatever was said: see [`refusal`]. A
//! decision that could not be carried out for it is not used, so it is void as well.

use std::collections::BTreeMap;

use skync_agent::entry::{Digest, Directory, Entry};
use skync_agent::path::{NAME_BYTES_MAX, Name, SyncPath};

use super::plan::{Conflict, ConflictKind, Side};

#[cfg(test)]
mod tests;

/// Whose version of a conflict is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Choice {
    /// The host's.
    Host,
    /// The sandbox's. For a guarded path this is the yes.
    Sandbox,
    /// The host's at the path, the sandbox's beside it.
    Both,
}

/// A choice, and the two versions that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whose version is wanted.
    pub choice: Choice,
    /// What the host had, without children.
    pub host: Option<Entry>,
    /// What the sandbox had, without children.
    pub sandbox: Option<Entry>,
    /// What was in the one that is a directory, see [`Conflict::contents`].
    pub contents: Option<Digest>,
}

impl Decision {
    /// That choice about a conflict as it was shown.
    ///
    /// # Errors
    /// Why the choice cannot be carried out, for a person to read.
    pub fn about(conflict: &Conflict, choice: Choice) -> Result<Self, String> {
        match refusal(conflict, choice) {
            Some(reason) => Err(reason),
            None => Ok(Self {
                choice,
                host: conflict.host.clone(),
                sandbox: conflict.sandbox.clone(),
                contents: conflict.contents,
            }),
        }
    }

    /// True if the conflict is about the same two versions still.
    pub fn holds_for(&self, conflict: &Conflict) -> bool {
        same(self.host.as_ref(), conflict.host.as_ref())
            && same(self.sandbox.as_ref(), conflict.sandbox.as_ref())
            && self.contents == conflict.contents
    }
}

fn same(one: Option<&Entry>, other: Option<&Entry>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.shallow_eq(other),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Why a choice cannot be made about a conflict, for a person to read; nothing if it can.
pub fn refusal(conflict: &Conflict, choice: Choice) -> Option<String> {
    let blocked = |side: Side| {
        format!(
            "`{}`: content on the {side} that is not synchronised is in the way and is never \
             written over; move it away there",
            conflict.path
        )
    };
    match (conflict.kind, choice) {
        (ConflictKind::Blocked(Side::Host), Choice::Sandbox) => Some(blocked(Side::Host)),
        (ConflictKind::Blocked(Side::Sandbox), Choice::Host | Choice::Both) => {
            Some(blocked(Side::Sandbox))
        }
        (ConflictKind::Guarded | ConflictKind::LeavesRoot, Choice::Both) => {
            Some(format!("`{}` is held back: it can be taken or discarded", conflict.path))
        }
        (_, Choice::Both) if conflict.path.is_root() => {
            Some("there is nothing beside the project itself".to_owned())
        }
        (
            ConflictKind::BothChanged
            | ConflictKind::SandboxChanged
            | ConflictKind::Blocked(_)
            | ConflictKind::Guarded
            | ConflictKind::LeavesRoot,
            _,
        ) => None,
    }
}

/// The decisions of a session, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decisions(BTreeMap<SyncPath, Decision>);

impl Decisions {
    /// None.
    pub const fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// Takes a decision; an older one about the same path is forgotten.
    pub fn insert(&mut self, path: SyncPath, decision: Decision) {
        self.0.insert(path, decision);
    }

    /// True if nothing was decided.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each with its path, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&SyncPath, &Decision)> {
        self.0.iter()
    }

    /// What was said about just this conflict.
    pub fn choice(&self, conflict: &Conflict) -> Option<Choice> {
        let decision = self.0.get(&conflict.path)?;
        decision.holds_for(conflict).then_some(decision.choice)
    }

    /// Takes out those that a plan looked at and did not use, and returns their paths: they are
    /// spent, or void because a version changed. `used` is [`super::plan::Plan::decided`].
    pub fn take_unused(
        &mut self,
        used: &[SyncPath],
        looked_at: impl Fn(&SyncPath) -> bool,
    ) -> Vec<SyncPath> {
        let is_unused = |path: &&SyncPath| looked_at(path) && !used.contains(path);
        let unused: Vec<_> = self.0.keys().filter(is_unused).cloned().collect();
        for path in &unused {
            self.0.remove(path);
        }
        unused
    }

    /// Forgets the decision about a path.
    pub fn remove(&mut self, path: &SyncPath) {
        self.0.remove(path);
    }
}

impl FromIterator<(SyncPath, Decision)> for Decisions {
    fn from_iter<I: IntoIterator<Item = (SyncPath, Decision)>>(decisions: I) -> Self {
        Self(decisions.into_iter().collect())
    }
}

/// Which conflicts a person means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meant {
    /// Every one.
    All,
    /// Those at or below these paths.
    Paths(Vec<SyncPath>),
}

impl Meant {
    /// The conflicts that are meant, in their order, each once.
    ///
    /// # Errors
    /// The first path with no conflict at or below it.
    pub fn select<'a>(&self, conflicts: &'a [Conflict]) -> Result<Vec<&'a Conflict>, SyncPath> {
        let paths = match self {
            Self::All => return Ok(conflicts.iter().collect()),
            Self::Paths(paths) => paths,
        };
        let matches = |path: &SyncPath, conflict: &Conflict| conflict.path.is_within(path);
        let is_lost = |path: &&SyncPath| !conflicts.iter().any(|c| matches(path, c));
        if let Some(lost) = paths.iter().find(is_lost) {
            return Err(lost.clone());
        }
        let is_meant = |c: &&Conflict| paths.iter().any(|path| matches(path, c));
        Ok(conflicts.iter().filter(is_meant).collect())
    }
}

/// A digest of everything that is in a directory, as far as it makes a difference: names, kinds,
/// contents, who may execute and read; not times.
pub fn contents(directory: &Directory) -> Digest {
    let mut hasher = blake3::Hasher::new();
    add_below(&mut hasher, directory);
    Digest(*hasher.finalize().as_bytes())
}

fn add_below(hasher: &mut blake3::Hasher, directory: &Directory) {
    hasher.update(&[u8::from(directory.only_excluded)]);
    hasher.update(&(directory.children.len() as u64).to_be_bytes());
    for (name, child) in &directory.children {
        hasher.update(&(name.as_bytes().len() as u64).to_be_bytes()).update(name.as_bytes());
        match child {
            Entry::Directory(directory) => {
                hasher.update(b"d");
                add_below(hasher, directory);
            }
            Entry::File(file) => {
                hasher.update(b"f").update(&file.digest.0).update(&file.size.to_be_bytes());
                let classes = [u8::from(file.is_executable()), u8::from(file.is_private())];
                hasher.update(&classes);
            }
            Entry::Symlink(target) => {
                hasher.update(b"l").update(&(target.len() as u64).to_be_bytes()).update(target);
            }
            Entry::Untracked => drop(hasher.update(b"u")),
            Entry::Problem(_) => drop(hasher.update(b"p")),
        }
    }
}

/// The names for the sandbox's version beside the host's, best first, without end:
/// `name (sandbox).ext`, `name (sandbox) 2.ext`, … A directory's name has no extension.
///
/// A name that would be too long is cut in its stem.
pub fn beside(name: &Name, is_directory: bool) -> impl Iterator<Item = Name> {
    let bytes = name.as_bytes().to_vec();
    let dot = bytes.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0 && !is_directory);
    let stem_end = dot.unwrap_or(bytes.len());
    (1_u64..).filter_map(move |number| {
        let (stem, extension) = bytes.split_at(stem_end);
        let mark = match number {
            1 => " (sandbox)".to_owned(),
            _ => format!(" (sandbox) {number}"),
        };
        let room = NAME_BYTES_MAX.checked_sub(mark.len() + extension.len());
        // Without room for a stem the extension is none worth keeping.
        let (stem, extension) = match room {
            Some(1..) => (stem, extension),
            Some(0) | None => (&bytes[..], &b""[..]),
        };
        let stem = cut(stem, NAME_BYTES_MAX - mark.len() - extension.len());
        Name::parse(&[stem, mark.as_bytes(), extension].concat()).ok()
    })
}

/// At most so many bytes, and no half of a character.
fn cut(bytes: &[u8], bytes_max: usize) -> &[u8] {
    if bytes.len() <= bytes_max {
        return bytes;
    }
    let is_inside = |at: &usize| bytes[*at] & 0xc0 == 0x80;
    let end = (bytes_max.saturating_sub(3)..=bytes_max).rev().find(|at| !is_inside(at));
    &bytes[..end.unwrap_or(bytes_max)]
}
