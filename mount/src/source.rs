//! What a filesystem needs of the place where the files are.

use std::ffi::{OsStr, OsString};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

/// A file or directory of a source, for as long as the source lives. Stable across renames and
/// across mounts; never used again for another object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(pub u64);

/// What kind of object a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// Anything else; it can be listed and not opened.
    Special,
}

/// What `stat` shows of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Its kind.
    pub kind: FileKind,
    /// Bytes.
    pub size: u64,
    /// Bytes on the disk, in blocks of 512.
    pub blocks: u64,
    /// Twelve permission bits.
    pub mode: u16,
    /// Number of names.
    pub links: u32,
    /// Last change of content.
    pub modified: SystemTime,
    /// Last change of anything.
    pub changed: SystemTime,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name: any bytes but `/` and NUL.
    pub name: OsString,
    /// What it is.
    pub node: Node,
    /// So that listing a directory needs no call for each entry.
    pub attributes: Attributes,
}

/// Something changed in the source, by somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The node's attributes, and its content if it is a file.
    Content(Node),
    /// A name in this directory appeared, went, or means another node.
    Entry(Node, OsString),
    /// Too much at once to tell: everything below this node.
    Below(Node),
}

/// Why a call failed. The filesystem turns each into one errno, in one exhaustive match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceError {
    /// No such name or node (any more).
    NotFound,
    /// The name is taken.
    Exists,
    /// The directory has entries.
    NotEmpty,
    /// A directory where a file is needed.
    IsDirectory,
    /// A file where a directory is needed.
    NotDirectory,
    /// No rights.
    Denied,
    /// The source is, or is mounted, read-only.
    ReadOnly,
    /// No room.
    NoSpace,
    /// The name is too long or not one.
    InvalidName,
    /// The source cannot do this at all.
    Unsupported,
    /// The source could not be reached within the deadline; what it did is not known.
    Unreachable,
    /// Anything else, for the log.
    Failed(String),
}

/// The files of a sandbox, or of a test.
///
/// All calls block; the filesystem has threads. Every call ends within `deadline`, with
/// [`SourceError::Unreachable`] if it must: a request that the kernel waits for cannot be killed.
/// Reading calls may be repeated freely. A changing call that fails with `Unreachable` may have
/// happened; the caller looks before it repeats one.
pub trait Source: Send + Sync {
    /// The root directory.
    fn root(&self) -> Node;

    /// The attributes of a node.
    ///
    /// # Errors
    /// [`SourceError::NotFound`] if it is gone.
    fn attributes(&self, node: Node, deadline: Duration) -> Result<Attributes, SourceError>;

    /// All entries of a directory with their attributes, in one call.
    ///
    /// # Errors
    /// [`SourceError::NotDirectory`] if it is none.
    fn list(&self, directory: Node, deadline: Duration) -> Result<Vec<Listed>, SourceError>;

    /// Bytes of a file from `offset`; fewer than `length` only at its end.
    ///
    /// # Errors
    /// [`SourceError::IsDirectory`] if it is one.
    fn read(
        &self,
        file: Node,
        offset: u64,
        length: u32,
        deadline: Duration,
    ) -> Result<Bytes, SourceError>;

    /// The target of a symbolic link, as it is.
    ///
    /// # Errors
    /// [`SourceError::NotFound`] if it is gone.
    fn read_link(&self, link: Node, deadline: Duration) -> Result<OsString, SourceError>;

    /// Writes all of `data` at `offset`; on return it is in the source.
    ///
    /// # Errors
    /// [`SourceError::NoSpace`] with nothing or a part of it written.
    fn write(
        &self,
        file: Node,
        offset: u64,
        data: Bytes,
        deadline: Duration,
    ) -> Result<(), SourceError>;

    /// Makes a file, directory or (with a target) symbolic link; never replaces one.
    ///
    /// # Errors
    /// [`SourceError::Exists`] if the name is taken.
    fn create(
        &self,
        directory: Node,
        name: &OsStr,
        kind: FileKind,
        mode: u16,
        target: Option<&OsStr>,
        deadline: Duration,
    ) -> Result<Listed, SourceError>;

    /// Gives a node another name, replacing a file (or an empty directory) that has it.
    ///
    /// # Errors
    /// [`SourceError::NotEmpty`] if that is a directory with entries.
    fn rename(
        &self,
        from: (Node, &OsStr),
        to: (Node, &OsStr),
        deadline: Duration,
    ) -> Result<(), SourceError>;

    /// Removes a name; a directory only if it is empty.
    ///
    /// # Errors
    /// [`SourceError::NotEmpty`] if it is not.
    fn remove(&self, directory: Node, name: &OsStr, deadline: Duration) -> Result<(), SourceError>;

    /// Changes made by others from now on, in order, to `tell` until it returns false.
    fn subscribe(&self, tell: Box<dyn FnMut(Change) -> bool + Send>);
}
