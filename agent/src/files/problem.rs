//! Why a request failed: the one place where a number of the system becomes one of the wire.

use rustix::io::Errno;

use crate::path::PathError;
use crate::proto::{FilesError, FilesProblem};

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(super) error: FilesError,
    /// For the log; empty where the error says all.
    pub(super) message: String,
}

impl Problem {
    /// A request that breaks the contract.
    pub(super) fn invalid(message: &str) -> Self {
        Self { error: FilesError::Invalid, message: message.to_owned() }
    }

    pub(super) fn to_wire(&self) -> FilesProblem {
        FilesProblem { error: self.error.into(), message: self.message.clone() }
    }
}

impl From<FilesError> for Problem {
    fn from(error: FilesError) -> Self {
        Self { error, message: String::new() }
    }
}

impl From<Errno> for Problem {
    fn from(errno: Errno) -> Self {
        let error = of(errno);
        let message = match error {
            FilesError::Other => crate::disk::reason(errno),
            _ => String::new(),
        };
        Self { error, message }
    }
}

impl From<PathError> for Problem {
    fn from(error: PathError) -> Self {
        match error {
            PathError::TooLong(_) => FilesError::NameTooLong.into(),
            PathError::Empty | PathError::Dots(_) | PathError::Forbidden => {
                Self::invalid("a path or name is none")
            }
        }
    }
}

fn of(errno: Errno) -> FilesError {
    match errno {
        Errno::NOENT => FilesError::NotFound,
        // The second is what a handle says that was not opened for this.
        Errno::STALE | Errno::BADF => FilesError::Stale,
        Errno::EXIST => FilesError::Exists,
        Errno::NOTEMPTY => FilesError::NotEmpty,
        Errno::ISDIR => FilesError::IsDirectory,
        Errno::NOTDIR => FilesError::NotDirectory,
        Errno::ACCESS => FilesError::Denied,
        Errno::PERM => FilesError::NotPermitted,
        Errno::ROFS => FilesError::ReadOnly,
        Errno::NOSPC => FilesError::NoSpace,
        Errno::DQUOT => FilesError::Quota,
        Errno::FBIG => FilesError::TooLarge,
        Errno::MLINK => FilesError::TooManyLinks,
        Errno::NAMETOOLONG => FilesError::NameTooLong,
        Errno::LOOP => FilesError::Loop,
        Errno::XDEV => FilesError::OtherDevice,
        Errno::BUSY => FilesError::Busy,
        Errno::TXTBSY => FilesError::Running,
        Errno::NXIO | Errno::NODEV => FilesError::Nothing,
        Errno::INVAL | Errno::ILSEQ | Errno::OVERFLOW => FilesError::Invalid,
        Errno::NOMEM | Errno::MFILE | Errno::NFILE => FilesError::Exhausted,
        Errno::OPNOTSUPP | Errno::NOSYS => FilesError::Unsupported,
        _ => FilesError::Other,
    }
}
