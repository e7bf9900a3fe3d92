//! Reads a file's content for the other side, and makes sure that it is what was asked for.

use std::io::Read;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use rustix::io::Errno;

use super::Chunk;
use crate::disk::{DiskError, DiskErrorKind, Kind, Meta, READ_WINDOW_BYTES, Root};
use crate::entry::{Directory, Entry, File};
use crate::path::SyncPath;
use crate::scan::{DigestError, digest_of};

/// Why a file's content was not (wholly) given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadProblem {
    /// It does not hold what was asked for; the next scan finds out what it holds.
    #[error("`{0}` changed since it was read")]
    Changed(SyncPath),
    /// A system call failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The receiver asked to stop.
    #[error("the reading of `{0}` was stopped")]
    Stopped(SyncPath),
}

/// What is at a path, without children: nothing if there is no such path. A file is read for its
/// digest.
///
/// # Errors
/// If it cannot be read or keeps changing.
pub fn entry_at(root: &Root, path: &SyncPath) -> Result<Option<Entry>, ReadProblem> {
    let fail = |errno| ReadProblem::Disk(DiskError::new("read", path, errno));
    let (directory, name) = match root.parent_of(path) {
        Err(error) if error.kind() == DiskErrorKind::Missing => return Ok(None),
        other => other?,
    };
    let meta = match directory.stat(&name) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.map_err(fail)?,
    };
    let entry = match meta.kind {
        Kind::Directory => Entry::Directory(Directory { mode: meta.mode, ..Directory::default() }),
        Kind::Symlink => Entry::Symlink(directory.read_link(&name).map_err(fail)?),
        Kind::Other => Entry::Untracked,
        Kind::File => {
            let go = AtomicBool::new(false);
            match digest_of(&directory, &name, &mut Vec::new(), &go) {
                Ok((meta, record)) => Entry::File(File {
                    digest: record.digest,
                    size: meta.size,
                    mode: meta.mode,
                    mtime_ns: meta.mtime_ns,
                }),
                Err(DigestError::Errno(errno)) => return Err(fail(errno)),
                Err(_) => return Err(ReadProblem::Changed(path.clone())),
            }
        }
    };
    Ok(Some(entry))
}

/// Gives the content of a file in chunks of at most 256 KiB, in order, without holding more than
/// two of them.
///
/// The last chunk is given only after the digest of the whole was found right, so whoever has it
/// has what was asked for. An empty file is one empty chunk.
///
/// # Errors
/// See [`ReadProblem`]; the chunks that were given then have no end.
pub fn read_content(
    root: &Root,
    path: &SyncPath,
    expected: &File,
    mut sink: impl FnMut(Chunk) -> ControlFlow<()>,
) -> Result<(), ReadProblem> {
    let changed = || ReadProblem::Changed(path.clone());
    let fail = |errno| ReadProblem::Disk(DiskError::new("read", path, errno));
    let mut file = root.open_file(path).map_err(|error| match error.kind() {
        DiskErrorKind::Missing | DiskErrorKind::NotADirectory => changed(),
        _ => error.into(),
    })?;
    let meta = Meta::of(&file).map_err(fail)?;
    if meta.kind != Kind::File || meta.size != expected.size {
        return Err(changed());
    }
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    let mut give = |offset, data, last| {
        let chunk = Chunk { digest: expected.digest, offset, data, last };
        match sink(chunk) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ReadProblem::Stopped(path.clone())),
        }
    };
    loop {
        let left = expected.size - offset;
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(READ_WINDOW_BYTES);
        let mut window = vec![0; wanted];
        file.read_exact(&mut window).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => changed(),
            _ => fail(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        })?;
        hasher.update(&window);
        let data = Bytes::from(window);
        if (data.len() as u64) < left {
            let length = data.len() as u64;
            give(offset, data, false)?;
            offset += length;
            continue;
        }
        if *hasher.finalize().as_bytes() != expected.digest.0 {
            return Err(changed());
        }
        return give(offset, data, true);
    }
}
