//! Reads a file's content for the other side, and makes sure that it is what was asked for.
//!
//! What the other side holds already is left out: the beginning of an interrupted transfer, and
//! whatever its own version of the file has in common.

use std::fs::File as OpenFile;
use std::io::Read;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use rustix::io::Errno;

use super::{Chunk, Piece};
use crate::delta::{Differ, Signature, Signer, Stretch, has_signature};
use crate::disk::{DiskError, DiskErrorKind, Kind, Meta, READ_WINDOW_BYTES, Root};
use crate::entry::{Digest, Directory, Entry, File};
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

/// What the receiver has of a content.
#[derive(Debug, Default)]
pub struct Held {
    /// Bytes at its beginning, which are staged.
    pub prefix: u64,
    /// What its present version of the file is made of.
    pub signature: Option<Signature>,
}

/// Gives the content of a file in chunks, in order, without holding more than three of 256 KiB
/// and what [`crate::delta`] needs.
///
/// Stretches that the receiver's version of the same path holds are given as copies. The last chunk
/// is given only after the digest of the whole was found right, so whoever has it has what was
/// asked for. An empty file is one empty chunk.
///
/// # Errors
/// See [`ReadProblem`]; the chunks that were given then have no end.
pub fn read_content(
    root: &Root,
    path: &SyncPath,
    expected: &File,
    held: Held,
    sink: impl FnMut(Chunk) -> ControlFlow<()>,
) -> Result<(), ReadProblem> {
    let changed = || ReadProblem::Changed(path.clone());
    let mut file = open(root, path, expected.size)?;
    if held.prefix > expected.size {
        return Err(changed());
    }
    let mut hasher = blake3::Hasher::new();
    let mut giver =
        Giver { path, digest: expected.digest, offset: held.prefix, waiting: None, sink };
    let mut differ = held.signature.map(|signature| Differ::new(signature, held.prefix));
    let mut offset = 0;
    while offset < expected.size {
        let mut window = next(&mut file, path, expected.size - offset)?;
        hasher.update(&window);
        let end = offset + window.len() as u64;
        let left_out = held.prefix.saturating_sub(offset).min(window.len() as u64);
        let fresh = window.split_off(usize::try_from(left_out).unwrap_or(window.len()));
        match &mut differ {
            Some(differ) => differ.feed(&fresh, &mut |stretch| giver.stretch(stretch))?,
            None if fresh.is_empty() => {}
            None => giver.give(Piece::Data(Bytes::from(fresh)))?,
        }
        offset = end;
    }
    if let Some(differ) = differ {
        differ.finish(&mut |stretch| giver.stretch(stretch))?;
    }
    if *hasher.finalize().as_bytes() == expected.digest.0 { giver.finish() } else { Err(changed()) }
}

/// The signature of a file as it is now; nothing if it has none or cannot be read.
///
/// Whether it is the version that somebody expects makes no difference: what is made with it is
/// checked.
pub fn sign_content(root: &Root, path: &SyncPath) -> Option<(u64, Vec<u8>)> {
    let mut file = root.open_file(path).ok()?;
    let meta = Meta::of(&file).ok()?;
    if meta.kind != Kind::File || !has_signature(meta.size) {
        return None;
    }
    let mut signer = Signer::new(meta.size);
    let mut left = meta.size;
    while left > 0 {
        let window = next(&mut file, path, left).ok()?;
        signer.feed(&window);
        left -= window.len() as u64;
    }
    Some((meta.size, signer.finish()))
}

fn open(root: &Root, path: &SyncPath, size: u64) -> Result<OpenFile, ReadProblem> {
    let changed = || ReadProblem::Changed(path.clone());
    let file = root.open_file(path).map_err(|error| match error.kind() {
        DiskErrorKind::Missing | DiskErrorKind::NotADirectory => changed(),
        _ => error.into(),
    })?;
    let meta = Meta::of(&file).map_err(|errno| DiskError::new("read", path, errno))?;
    if meta.kind == Kind::File && meta.size == size { Ok(file) } else { Err(changed()) }
}

/// The next window of a file of which so much is left.
fn next(file: &mut OpenFile, path: &SyncPath, left: u64) -> Result<Vec<u8>, ReadProblem> {
    let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(READ_WINDOW_BYTES);
    let mut window = vec![0; wanted];
    file.read_exact(&mut window).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => ReadProblem::Changed(path.clone()),
        _ => {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            DiskError::new("read", path, errno).into()
        }
    })?;
    Ok(window)
}

/// Makes chunks of pieces. The last one waits for the digest.
struct Giver<'a, S> {
    path: &'a SyncPath,
    digest: Digest,
    /// Where the next piece begins.
    offset: u64,
    waiting: Option<Chunk>,
    sink: S,
}

impl<S: FnMut(Chunk) -> ControlFlow<()>> Giver<'_, S> {
    fn stretch(&mut self, stretch: Stretch<'_>) -> Result<(), ReadProblem> {
        self.give(match stretch {
            Stretch::Literal(data) => Piece::Data(Bytes::copy_from_slice(data)),
            Stretch::Copy { offset, length } => {
                Piece::Copy { from: self.path.clone(), offset, length }
            }
        })
    }

    fn give(&mut self, piece: Piece) -> Result<(), ReadProblem> {
        let length = piece.length();
        let chunk = Chunk { digest: self.digest, offset: self.offset, piece, last: false };
        self.offset += length;
        match self.waiting.replace(chunk) {
            Some(chunk) => self.sink(chunk),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> Result<(), ReadProblem> {
        if self.waiting.is_none() {
            self.give(Piece::Data(Bytes::new()))?;
        }
        match self.waiting.take() {
            Some(chunk) => self.sink(Chunk { last: true, ..chunk }),
            None => Ok(()),
        }
    }

    fn sink(&mut self, chunk: Chunk) -> Result<(), ReadProblem> {
        match (self.sink)(chunk) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ReadProblem::Stopped(self.path.clone())),
        }
    }
}
