//! What a tree is made of: files, directories, symbolic links, and what cannot be synchronised.
//!
//! Equality of two entries is what synchronisation cares about, no more: content, whether the owner
//! may execute it, whether it is private to the owner, and a link's target. Times and the other
//! permission bits travel (a new file gets them, under the receiver's umask) but never make a
//! difference, so two sides with another umask or a coarser clock do not send a file back and forth.
//! That is finer than mutagen's executable bit alone: spec-kit's 0600 files must stay 0600.

use std::fmt;

use crate::path::{PathError, SyncPath};

mod children;
mod edit;

pub use children::Children;
pub use edit::differences;

/// BLAKE3 of a file's content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Takes a digest from the wire or a database; `None` unless it has 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex()[..12])
    }
}

/// A regular file.
#[derive(Clone, Debug)]
pub struct File {
    /// BLAKE3 of the content.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// The nine permission bits.
    pub mode: u16,
    /// Time of the last change of content, nanoseconds since 1970.
    pub mtime_ns: i64,
}

impl File {
    /// The owner may execute it.
    pub fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0
    }

    /// Nobody but the owner may do anything with it.
    pub fn is_private(&self) -> bool {
        self.mode & 0o077 == 0
    }

    /// Same content, whatever the permissions.
    pub fn same_content(&self, other: &Self) -> bool {
        self.digest == other.digest && self.size == other.size
    }
}

impl PartialEq for File {
    fn eq(&self, other: &Self) -> bool {
        self.same_content(other)
            && self.is_executable() == other.is_executable()
            && self.is_private() == other.is_private()
    }
}

impl Eq for File {}

/// A directory and what is in it.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// The nine permission bits, for whoever makes it anew.
    pub mode: u16,
    /// It holds excluded or untracked content and nothing else. Never set in an ancestor.
    pub only_excluded: bool,
    /// Sorted by name, each name once.
    pub children: Children,
}

impl Directory {
    /// The entry of that name.
    pub fn child(&self, name: &[u8]) -> Option<&Entry> {
        self.children
            .binary_search_by(|(other, _)| other.as_bytes().cmp(name))
            .ok()
            .map(|at| &self.children[at].1)
    }
}

impl PartialEq for Directory {
    /// Modes and `only_excluded` are no part of equality.
    fn eq(&self, other: &Self) -> bool {
        self.children == other.children
    }
}

impl Eq for Directory {}

/// One object of a tree. Absence is `None` of an `Option<Entry>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Directory(Directory),
    /// A regular file.
    File(File),
    /// A symbolic link, with its target as stored. Never followed.
    Symlink(Box<[u8]>),
    /// Something never synchronised: a socket, a device, a FIFO.
    Untracked,
    /// Something that could not be read, and why. Nothing at or below it is touched.
    Problem(String),
}

impl Default for Entry {
    /// An empty directory, as a root is before anything is known of it.
    fn default() -> Self {
        Self::Directory(Directory::default())
    }
}

impl Entry {
    /// The directory, if it is one.
    pub fn as_directory(&self) -> Option<&Directory> {
        match self {
            Self::Directory(directory) => Some(directory),
            Self::File(_) | Self::Symlink(_) | Self::Untracked | Self::Problem(_) => None,
        }
    }

    /// The file, if it is one.
    pub fn as_file(&self) -> Option<&File> {
        match self {
            Self::File(file) => Some(file),
            Self::Directory(_) | Self::Symlink(_) | Self::Untracked | Self::Problem(_) => None,
        }
    }

    /// This entry without its children.
    #[must_use]
    pub fn shallow(&self) -> Self {
        match self {
            Self::Directory(directory) => Self::Directory(Directory {
                mode: directory.mode,
                only_excluded: directory.only_excluded,
                children: Children::default(),
            }),
            other => other.clone(),
        }
    }

    /// Equal without regard to children: two directories always are.
    pub fn shallow_eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Directory(_), Self::Directory(_)) => true,
            _ => self == other,
        }
    }

    /// The entry at `path` below this one.
    pub fn find(&self, path: &SyncPath) -> Option<&Self> {
        path.names().try_fold(self, |entry, name| entry.as_directory()?.child(name))
    }

    /// Number of entries in this tree, itself included.
    pub fn count(&self) -> u64 {
        1 + self
            .as_directory()
            .map_or(0, |directory| directory.children.iter().map(|(_, e)| e.count()).sum())
    }

    /// A word for a person: `file`, `directory`, …
    pub fn kind_word(&self) -> &'static str {
        match self {
            Self::Directory(_) => "directory",
            Self::File(_) => "file",
            Self::Symlink(_) => "symbolic link",
            Self::Untracked => "special file",
            Self::Problem(_) => "unreadable entry",
        }
    }
}

/// Why a tree is not one (invariant I11).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A name is not one.
    #[error("a name in the tree is not valid")]
    Name(#[from] PathError),
    /// Names are not in order, or one stands twice.
    #[error("the names in `{0}` are out of order")]
    Order(SyncPath),
    /// A kind that may not be in this tree.
    #[error("`{0}` is of a kind that may not be here")]
    Kind(SyncPath),
}

/// Checks what must hold of every ancestor: names in order and once, only entries that can be
/// synchronised (invariant I11).
///
/// # Errors
/// Names the first path that breaks it.
pub fn validate_ancestor(path: &SyncPath, entry: &Entry) -> Result<(), TreeError> {
    match entry {
        Entry::File(_) | Entry::Symlink(_) => Ok(()),
        Entry::Untracked | Entry::Problem(_) => Err(TreeError::Kind(path.clone())),
        Entry::Directory(directory) => {
            if !directory.children.windows(2).all(|pair| pair[0].0 < pair[1].0) {
                return Err(TreeError::Order(path.clone()));
            }
            directory
                .children
                .iter()
                .try_for_each(|(name, child)| validate_ancestor(&path.join(name), child))
        }
    }
}
