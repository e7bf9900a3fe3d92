//! Names and relative paths, checked once where they enter (invariant I7).
//!
//! Both are bytes, because a Linux file name is bytes. A value of these types can be joined below
//! a root without leaving it by `..`; symbolic links are the business of [`crate::disk`].

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Longest name of one entry, in bytes (`NAME_MAX` on Linux).
pub const NAME_BYTES_MAX: usize = 255;
/// Longest relative path, in bytes: `PATH_MAX` less the NUL.
pub const PATH_BYTES_MAX: usize = 4095;

/// Why a name or a path was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Empty where a name is needed, or two slashes in a row.
    #[error("a name is empty")]
    Empty,
    /// `.` or `..`.
    #[error("`{0}` is not a name")]
    Dots(String),
    /// A slash or a NUL in a name.
    #[error("a name holds a slash or a NUL byte")]
    Forbidden,
    /// Longer than the limit.
    #[error("a name or path of {0} bytes is too long")]
    TooLong(usize),
}

/// The name of one entry in a directory. Clones share it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// Refuses what could not be one entry of a directory.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        check_name(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name for the operating system.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_visible(f, &self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

fn check_name(bytes: &[u8]) -> Result<(), PathError> {
    match bytes {
        b"" => Err(PathError::Empty),
        b"." | b".." => Err(PathError::Dots(String::from_utf8_lossy(bytes).into_owned())),
        _ if bytes.len() > NAME_BYTES_MAX => Err(PathError::TooLong(bytes.len())),
        _ if bytes.iter().any(|b| matches!(b, b'/' | 0)) => Err(PathError::Forbidden),
        _ => Ok(()),
    }
}

/// Writes bytes so that a terminal shows them and nothing in them can command it.
fn write_visible(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        for byte in chunk.invalid() {
            write!(f, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

/// A path below a root: names joined by `/`; the root itself is the empty path.
///
/// Paths order by their bytes with `/` before everything else, so a directory comes right before
/// what is in it.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct SyncPath(Box<[u8]>);

impl SyncPath {
    /// The root.
    pub fn root() -> Self {
        Self::default()
    }

    /// Checks and takes a `/`-separated path; empty is the root.
    ///
    /// # Errors
    /// Refuses absolute paths, `.`, `..`, empty parts, NUL and what is too long.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.is_empty() {
            return Ok(Self::root());
        }
        if bytes.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong(bytes.len()));
        }
        bytes.split(|&b| b == b'/').try_for_each(check_name)?;
        Ok(Self(bytes.into()))
    }

    /// True for the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path for the operating system, relative to the root.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The path of `name` in this directory. It may be longer than [`PATH_BYTES_MAX`]; the system
    /// call that meets it then says so.
    #[must_use]
    pub fn join(&self, name: &Name) -> Self {
        if self.is_root() {
            return Self(name.as_bytes().into());
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.0.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(&name.0);
        Self(bytes.into())
    }

    /// The directory that holds this path and the name in it; nothing for the root.
    pub fn split(&self) -> Option<(Self, Name)> {
        if self.is_root() {
            return None;
        }
        let (parent, name) = match self.0.iter().rposition(|&b| b == b'/') {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (&[][..], &self.0[..]),
        };
        Some((Self(parent.into()), Name(name.into())))
    }

    /// True if this path is in `directory`, at any depth.
    pub fn is_below(&self, directory: &Self) -> bool {
        !self.is_root() && self != directory && self.relative_to(directory).is_some()
    }

    /// This path as seen from `directory`, which is above it or the same; nothing if it is not.
    pub fn relative_to(&self, directory: &Self) -> Option<Self> {
        if directory.is_root() || self == directory {
            return Some(if self == directory { Self::root() } else { self.clone() });
        }
        let below = self.0.strip_prefix(&*directory.0)?.strip_prefix(b"/")?;
        Some(Self(below.into()))
    }

    /// The names from the root to this path.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|name| !name.is_empty())
    }

    /// True if this path is `directory` or below it.
    pub fn is_within(&self, directory: &Self) -> bool {
        directory.is_root()
            || self.0 == directory.0
            || (self.0.starts_with(&directory.0) && self.0.get(directory.0.len()) == Some(&b'/'))
    }
}

impl Ord for SyncPath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Name by name, said of bytes: a separator is less than whatever a name may go on with.
        let rank = |byte: u8| if byte == b'/' { 0 } else { u16::from(byte) + 1 };
        match self.0.iter().zip(&other.0).find(|(one, other)| one != other) {
            Some((one, other)) => rank(*one).cmp(&rank(*other)),
            None => self.0.len().cmp(&other.0.len()),
        }
    }
}

impl PartialOrd for SyncPath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for SyncPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str(".") } else { write_visible(f, &self.0) }
    }
}

impl fmt::Debug for SyncPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_leave_the_root_are_refused() {
        for bad in ["..", "a/../b", "/etc", "a//b", "a/", ".", "a/./b", "a\0b"] {
            assert!(SyncPath::parse(bad.as_bytes()).is_err(), "{bad:?} was taken");
        }
        assert!(SyncPath::parse(&[b'a'; 256]).is_err());
        assert!(SyncPath::parse("a/".repeat(2048).as_bytes()).is_err());
    }

    #[test]
    fn a_directory_sorts_right_before_what_is_in_it() {
        let mut paths: Vec<_> = ["a.b", "a/b", "a", "a-b", "b", ""]
            .iter()
            .map(|p| SyncPath::parse(p.as_bytes()).expect("a path"))
            .collect();
        paths.sort();
        let order: Vec<_> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(order, [".", "a", "a/b", "a-b", "a.b", "b"]);
    }

    #[test]
    fn paths_are_ordered_name_by_name() {
        let texts =
            ["", "a", "a/b", "a/b/c", "a.b", "a!", "ab", "a/\u{1}", "a\u{1}", "a\u{ff}/b", "b/a"];
        let path = |text: &str| SyncPath::parse(text.as_bytes()).expect("a path");
        for (one, other) in texts.iter().flat_map(|one| texts.iter().map(move |other| (one, other)))
        {
            let names = one.split('/').map(str::as_bytes).cmp(other.split('/').map(str::as_bytes));
            assert_eq!(path(one).cmp(&path(other)), names, "{one:?} and {other:?}");
        }
    }

    #[test]
    fn splitting_undoes_joining() {
        let name = Name::parse(b"na me'").expect("a name");
        for parent in ["", "a", "a/b"] {
            let parent = SyncPath::parse(parent.as_bytes()).expect("a path");
            assert_eq!(parent.join(&name).split(), Some((parent, name.clone())));
        }
    }

    #[test]
    fn control_characters_of_a_name_do_not_reach_the_terminal() {
        let name = Name::parse(b"a\x1b[2Jb\xff").expect("a name");
        assert_eq!(name.to_string(), "a\\u{1b}[2Jb\\xff");
    }
}
