//! The one place where an error of a source becomes a number of the kernel.

use rustix::io::Errno;

use crate::source::SourceError;

/// The number that a process sees.
pub fn of(error: &SourceError) -> Errno {
    match error {
        SourceError::NotFound => Errno::NOENT,
        SourceError::Stale => Errno::STALE,
        SourceError::Exists => Errno::EXIST,
        SourceError::NotEmpty => Errno::NOTEMPTY,
        SourceError::IsDirectory => Errno::ISDIR,
        SourceError::NotDirectory => Errno::NOTDIR,
        SourceError::Denied => Errno::ACCESS,
        SourceError::NotPermitted => Errno::PERM,
        SourceError::ReadOnly => Errno::ROFS,
        SourceError::NoSpace => Errno::NOSPC,
        SourceError::Quota => Errno::DQUOT,
        SourceError::TooLarge => Errno::FBIG,
        SourceError::TooManyLinks => Errno::MLINK,
        SourceError::NameTooLong => Errno::NAMETOOLONG,
        SourceError::Loop => Errno::LOOP,
        SourceError::OtherDevice => Errno::XDEV,
        SourceError::Busy => Errno::BUSY,
        SourceError::Running => Errno::TXTBSY,
        SourceError::Nothing => Errno::NXIO,
        SourceError::Invalid => Errno::INVAL,
        SourceError::Exhausted => Errno::NOMEM,
        SourceError::Unsupported => Errno::OPNOTSUPP,
        SourceError::Unreachable | SourceError::Failed(_) => Errno::IO,
    }
}
