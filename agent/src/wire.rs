//! Turns messages of the wire into checked values and back.
//!
//! What comes from the other end is input, however well it proved itself: names are validated
//! (invariant I7), digests must have their length, trees must be in order. Nothing past this module
//! sees an unchecked message.

mod content;
mod state;
mod tree;

pub use content::{
    CHUNK_BYTES_MAX, chunk_from_wire, chunk_to_wire, held_from_wire, signed_to_wire,
};
pub use state::{StateReader, StateWriter, TreeState};
pub use tree::TREE_ENTRIES_MAX;

use crate::delta::SignatureError;
use crate::entry::{Digest, Directory, Entry, File};
use crate::path::{PATH_BYTES_MAX, PathError, SyncPath};
use crate::proto;
use crate::rules::{RuleFile, RuleSet};
use crate::transition::{Outcome, Status, Step, Transition};

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
    /// A signature that is not of such a file.
    #[error("a signature in a message is not valid")]
    Signature(#[from] SignatureError),
    /// A packed message that is none, or too large.
    #[error("a packed message is not valid")]
    Packed,
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
            children: crate::entry::Children::default(),
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
        proto::step::Step::Chunk(chunk) => Ok(Step::Chunk(chunk_from_wire(chunk)?)),
    }
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
