//! Turns messages of the wire into checked values and back.
//!
//! What comes from the other end is input, however well it proved itself: names are validated
//! (invariant I7), digests must have their length, trees must be in order. Nothing past this module
//! sees an unchecked message.

use crate::entry::{Digest, Directory, Entry, File};
use crate::path::{Name, PATH_BYTES_MAX, PathError, SyncPath};
use crate::proto;
use crate::rules::{RuleFile, RuleSet};
use crate::scan::DEPTH_MAX;
use crate::transition::{Chunk, Outcome, Status, Step, Transition};

/// Most entries of one message of a scan.
pub const ENTRIES_PER_MESSAGE_MAX: usize = 2000;
/// Most bytes of names and targets in one message of a scan.
const NAME_BYTES_PER_MESSAGE_MAX: usize = 512 << 10;
/// Most entries of a whole tree that this end will hold: 10 million, about 2 GB.
const TREE_ENTRIES_MAX: u64 = 10_000_000;
/// Deepest entry of a tree: what a scan finds in the deepest directory that it reads. A tree from
/// the other end that goes deeper could be written here, and never be read again.
const TREE_DEPTH_MAX: u32 = DEPTH_MAX as u32 + 1;
/// Longest piece of content in one chunk, in bytes.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// A message that breaks the contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A name or path.
    #[error("a name or path in a message is not valid")]
    Path(#[from] PathError),
    /// A digest, an identity or a version without its length.
    #[error("a digest in a message has not 32 bytes")]
    Digest,
    /// A kind of entry that may not be here.
    #[error("an entry in a message is of no valid kind")]
    Kind,
    /// A tree that is out of order, too deep or too large.
    #[error("a tree in a message is not one: {0}")]
    Tree(&'static str),
    /// A chunk that is too large or out of place.
    #[error("a chunk in a message is not valid")]
    Chunk,
    /// A message without its content.
    #[error("a message is empty")]
    Empty,
}

/// Takes a path from a message.
///
/// # Errors
/// If it could leave the root.
pub fn path(bytes: &[u8]) -> Result<SyncPath, WireError> {
    Ok(SyncPath::parse(bytes)?)
}

/// Takes a digest from a message.
///
/// # Errors
/// If it has another length than 32.
pub fn digest(bytes: &[u8]) -> Result<Digest, WireError> {
    Digest::from_slice(bytes).ok_or(WireError::Digest)
}

/// An entry without its children, as a message; `None` is absence.
pub fn entry_to_wire(entry: Option<&Entry>) -> proto::Entry {
    let kind = |kind: proto::Kind| proto::Entry { kind: kind.into(), ..proto::Entry::default() };
    match entry {
        None => kind(proto::Kind::Absent),
        Some(Entry::Untracked) => kind(proto::Kind::Untracked),
        Some(Entry::Directory(directory)) => proto::Entry {
            mode: directory.mode.into(),
            only_excluded: directory.only_excluded,
            ..kind(proto::Kind::Directory)
        },
        Some(Entry::File(file)) => proto::Entry {
            digest: file.digest.0.to_vec(),
            size: file.size,
            mode: file.mode.into(),
            mtime_ns: file.mtime_ns,
            ..kind(proto::Kind::File)
        },
        Some(Entry::Symlink(target)) => {
            proto::Entry { target: target.to_vec(), ..kind(proto::Kind::Symlink) }
        }
        Some(Entry::Problem(problem)) => {
            proto::Entry { problem: problem.clone(), ..kind(proto::Kind::Problem) }
        }
    }
}

/// An entry without its children, from a message.
///
/// # Errors
/// If the message breaks the contract.
pub fn entry_from_wire(entry: proto::Entry) -> Result<Option<Entry>, WireError> {
    // Nothing but the nine bits crosses: no setuid, whatever the other end says (I14).
    let mode = (entry.mode & 0o777) as u16;
    Ok(Some(match entry.kind() {
        proto::Kind::Absent => return Ok(None),
        proto::Kind::Untracked => Entry::Untracked,
        proto::Kind::Problem => Entry::Problem(entry.problem),
        proto::Kind::Directory => Entry::Directory(Directory {
            mode,
            only_excluded: entry.only_excluded,
            children: Vec::new(),
        }),
        proto::Kind::File => Entry::File(File {
            digest: digest(&entry.digest)?,
            size: entry.size,
            mode,
            mtime_ns: entry.mtime_ns,
        }),
        proto::Kind::Symlink => match entry.target.len() {
            1..=PATH_BYTES_MAX if !entry.target.contains(&0) => Entry::Symlink(entry.target.into()),
            _ => return Err(WireError::Kind),
        },
    }))
}

/// Calls `send` with the messages of a whole tree until it says no.
///
/// Returns false if `send` did.
pub fn tree_to_wire(root: &Entry, send: &mut impl FnMut(proto::ScanReply) -> bool) -> bool {
    let mut batch = Batch::default();
    batch.walk(0, &[], root, send) && batch.flush(send)
}

#[derive(Default)]
struct Batch {
    entries: Vec<proto::ScanEntry>,
    bytes: usize,
}

impl Batch {
    fn walk(
        &mut self,
        depth: u32,
        name: &[u8],
        entry: &Entry,
        send: &mut impl FnMut(proto::ScanReply) -> bool,
    ) -> bool {
        let wire = entry_to_wire(Some(entry));
        self.bytes += name.len() + wire.target.len() + wire.problem.len();
        self.entries.push(proto::ScanEntry { depth, name: name.to_vec(), entry: Some(wire) });
        let full = self.entries.len() >= ENTRIES_PER_MESSAGE_MAX
            || self.bytes >= NAME_BYTES_PER_MESSAGE_MAX;
        if full && !self.flush(send) {
            return false;
        }
        let Entry::Directory(directory) = entry else { return true };
        directory
            .children
            .iter()
            .all(|(name, child)| self.walk(depth + 1, name.as_bytes(), child, send))
    }

    fn flush(&mut self, send: &mut impl FnMut(proto::ScanReply) -> bool) -> bool {
        self.bytes = 0;
        self.entries.is_empty()
            || send(proto::ScanReply { entries: std::mem::take(&mut self.entries) })
    }
}

/// Builds a tree from the messages of a scan.
#[derive(Debug)]
pub struct TreeBuilder {
    /// The open directories, the root first, each with its name.
    open: Vec<(Option<Name>, Directory)>,
    done: Option<Entry>,
    count: u64,
    count_max: u64,
}

impl Default for TreeBuilder {
    fn default() -> Self {
        Self::limited(TREE_ENTRIES_MAX)
    }
}

impl TreeBuilder {
    fn limited(count_max: u64) -> Self {
        Self { open: Vec::new(), done: None, count: 0, count_max }
    }

    /// Takes the next entry, in depth-first order.
    ///
    /// # Errors
    /// If it is out of order or breaks the contract; the tree is of no use then.
    pub fn push(&mut self, entry: proto::ScanEntry) -> Result<(), WireError> {
        self.count += 1;
        if self.count > self.count_max || entry.depth > TREE_DEPTH_MAX {
            return Err(WireError::Tree("it is too large"));
        }
        let value = entry_from_wire(entry.entry.ok_or(WireError::Empty)?)?;
        let value = value.ok_or(WireError::Kind)?;
        if entry.depth == 0 {
            return self.push_root(&entry.name, value);
        }
        let name = Name::parse(&entry.name)?;
        let depth = entry.depth as usize;
        if depth > self.open.len() {
            return Err(WireError::Tree("a parent is missing"));
        }
        while self.open.len() > depth {
            self.close();
        }
        let Some((_, parent)) = self.open.last_mut() else {
            return Err(WireError::Tree("a parent is missing"));
        };
        if parent.children.last().is_some_and(|(last, _)| *last >= name) {
            return Err(WireError::Tree("names are out of order"));
        }
        match value {
            Entry::Directory(directory) => self.open.push((Some(name), directory)),
            value => parent.children.push((name, value)),
        }
        Ok(())
    }

    fn push_root(&mut self, name: &[u8], value: Entry) -> Result<(), WireError> {
        if self.count != 1 || !name.is_empty() {
            return Err(WireError::Tree("it has two roots"));
        }
        match value {
            Entry::Directory(directory) => self.open.push((None, directory)),
            value => self.done = Some(value),
        }
        Ok(())
    }

    /// Moves the innermost open directory into its parent.
    fn close(&mut self) {
        let Some((name, directory)) = self.open.pop() else { return };
        let entry = Entry::Directory(directory);
        match (name, self.open.last_mut()) {
            // Its order was checked against what came before when it was opened, and nothing
            // came after: later siblings close it first.
            (Some(name), Some((_, parent))) => parent.children.push((name, entry)),
            _ => self.done = Some(entry),
        }
    }

    /// The whole tree.
    ///
    /// # Errors
    /// If there was no root.
    pub fn finish(mut self) -> Result<Entry, WireError> {
        while !self.open.is_empty() {
            self.close();
        }
        self.done.ok_or(WireError::Empty)
    }
}

/// A step of a plan, as a message.
pub fn step_to_wire(step: Step) -> proto::Step {
    let step = match step {
        Step::Transition(transition) => proto::step::Step::Transition(proto::Transition {
            path: transition.path.as_bytes().to_vec(),
            expected: Some(entry_to_wire(transition.expected.as_ref())),
            new: Some(entry_to_wire(transition.new.as_ref())),
        }),
        Step::Chunk(chunk) => proto::step::Step::Chunk(chunk_to_wire(chunk)),
    };
    proto::Step { step: Some(step) }
}

/// A step of a plan, from a message.
///
/// # Errors
/// If the message breaks the contract.
pub fn step_from_wire(step: proto::Step) -> Result<Step, WireError> {
    match step.step.ok_or(WireError::Empty)? {
        proto::step::Step::Transition(transition) => Ok(Step::Transition(Transition {
            path: path(&transition.path)?,
            expected: entry_from_wire(transition.expected.unwrap_or_default())?,
            new: entry_from_wire(transition.new.unwrap_or_default())?,
        })),
        proto::step::Step::Chunk(chunk) => chunk_from_wire(chunk),
    }
}

/// A piece of content, as a message.
pub fn chunk_to_wire(chunk: Chunk) -> proto::Chunk {
    let Chunk { digest, offset, data, last } = chunk;
    let problem = String::new();
    proto::Chunk { digest: digest.0.to_vec(), offset, data, last, problem }
}

/// A piece of content, from a message.
///
/// # Errors
/// If it is too large.
pub fn chunk_from_wire(chunk: proto::Chunk) -> Result<Step, WireError> {
    if chunk.data.len() > CHUNK_BYTES_MAX {
        return Err(WireError::Chunk);
    }
    let proto::Chunk { offset, data, last, .. } = chunk;
    Ok(Step::Chunk(Chunk { digest: digest(&chunk.digest)?, offset, data, last }))
}

/// How a transition ended, as a message.
pub fn outcome_to_wire(outcome: Outcome) -> proto::Outcome {
    let (status, problem, no_space) = match outcome.status {
        Status::Applied => (proto::Status::Applied, String::new(), false),
        Status::Stale => (proto::Status::Stale, String::new(), false),
        Status::NotEmpty => (proto::Status::NotEmpty, String::new(), false),
        Status::Failed { problem, no_space } => (proto::Status::Failed, problem, no_space),
    };
    proto::Outcome { index: outcome.index, status: status.into(), problem, no_space }
}

/// How a transition ended, from a message.
pub fn outcome_from_wire(outcome: proto::Outcome) -> Outcome {
    let status = match outcome.status() {
        proto::Status::Applied => Status::Applied,
        proto::Status::Stale => Status::Stale,
        proto::Status::NotEmpty => Status::NotEmpty,
        proto::Status::Failed => {
            Status::Failed { problem: outcome.problem, no_space: outcome.no_space }
        }
    };
    Outcome { index: outcome.index, status }
}

/// The rules, as a message.
pub fn rules_to_wire(rules: &RuleSet) -> proto::RuleSet {
    let files = |files: &[RuleFile]| {
        files
            .iter()
            .map(|file| proto::RuleFile {
                directory: file.directory.as_bytes().to_vec(),
                text: file.text.clone(),
            })
            .collect()
    };
    proto::RuleSet {
        version: rules.version.0.to_vec(),
        defaults: rules.defaults.clone(),
        gitignore: files(&rules.gitignore),
        profile: rules.profile.clone(),
        skyncignore: files(&rules.skyncignore),
        command_line: rules.command_line.clone(),
    }
}

/// The rules, from a message.
///
/// # Errors
/// If a directory in them is no path, or the version is not theirs.
pub fn rules_from_wire(rules: proto::RuleSet) -> Result<RuleSet, WireError> {
    let files = |files: Vec<proto::RuleFile>| -> Result<Vec<RuleFile>, WireError> {
        files
            .into_iter()
            .map(|file| Ok(RuleFile { directory: path(&file.directory)?, text: file.text }))
            .collect()
    };
    let version = digest(&rules.version)?;
    let (gitignore, skyncignore) = (files(rules.gitignore)?, files(rules.skyncignore)?);
    let made =
        RuleSet::new(rules.defaults, gitignore, rules.profile, skyncignore, rules.command_line);
    if made.version == version { Ok(made) } else { Err(WireError::Digest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Entry {
        let file = |text: &str| {
            Entry::File(File {
                digest: Digest::of(text.as_bytes()),
                size: text.len() as u64,
                mode: 0o644,
                mtime_ns: 5,
            })
        };
        let name = |name: &str| Name::parse(name.as_bytes()).expect("a name");
        let directory = |children| {
            Entry::Directory(Directory { mode: 0o755, children, ..Directory::default() })
        };
        directory(vec![
            (name("a"), directory(vec![(name("x"), file("x")), (name("y"), directory(vec![]))])),
            (name("a-b"), file("z")),
            (name("l"), Entry::Symlink((*b"a/x").into())),
            (name("p"), Entry::Problem("denied".into())),
            (name("s"), Entry::Untracked),
        ])
    }

    fn entries(tree: &Entry) -> Vec<proto::ScanEntry> {
        let mut entries = Vec::new();
        assert!(tree_to_wire(tree, &mut |reply| {
            entries.extend(reply.entries);
            true
        }));
        entries
    }

    fn build(entries: Vec<proto::ScanEntry>) -> Result<Entry, WireError> {
        let mut builder = TreeBuilder::default();
        entries.into_iter().try_for_each(|entry| builder.push(entry))?;
        builder.finish()
    }

    #[test]
    fn a_tree_comes_back_as_it_went() {
        let tree = tree();
        assert_eq!(build(entries(&tree)), Ok(tree));
    }

    #[test]
    fn a_tree_with_hostile_names_or_order_is_refused() {
        for name in [&b".."[..], b"a/b", b"", b"a\0", &[b'x'; 256]] {
            let mut hostile = entries(&tree());
            hostile[2].name = name.to_vec();
            assert!(build(hostile).is_err(), "{name:?} was taken");
        }
        let mut swapped = entries(&tree());
        swapped.swap(1, 4);
        assert!(build(swapped).is_err());
        let mut twice = entries(&tree());
        let last = twice[6].clone();
        twice.push(last);
        assert!(build(twice).is_err());
        let mut deep = entries(&tree());
        deep[1].depth = 7;
        assert!(build(deep).is_err());
    }

    #[test]
    fn a_tree_that_is_too_large_or_too_deep_is_refused() {
        let all = entries(&tree());
        let count = all.len() as u64;
        let build = |count_max| {
            let mut builder = TreeBuilder::limited(count_max);
            all.iter().try_for_each(|entry| builder.push(entry.clone()))
        };
        assert_eq!(build(count), Ok(()));
        assert_eq!(build(count - 1), Err(WireError::Tree("it is too large")));
        let directory = all[0].entry.clone();
        let mut builder = TreeBuilder::default();
        for depth in 0..=TREE_DEPTH_MAX + 1 {
            let name = if depth == 0 { Vec::new() } else { b"d".to_vec() };
            let pushed = builder.push(proto::ScanEntry { depth, name, entry: directory.clone() });
            assert_eq!(pushed.is_ok(), depth <= TREE_DEPTH_MAX, "{depth}");
        }
    }

    #[test]
    fn setuid_does_not_cross() {
        let mut hostile = entries(&tree());
        if let Some(entry) = hostile[2].entry.as_mut() {
            entry.mode = 0o6755;
        }
        let tree = build(hostile).expect("a tree");
        let path = SyncPath::parse(b"a/x").expect("a path");
        let file = tree.find(&path).and_then(Entry::as_file).expect("a file");
        assert_eq!(file.mode, 0o755);
    }
}
