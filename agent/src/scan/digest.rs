//! The digest of one file, and whether it held still while it was read.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use super::cache::FileRecord;
use crate::disk::{DirFd, Kind, Meta, READ_WINDOW_BYTES};
use crate::entry::Digest;
use crate::path::Name;

/// A record is trusted if it was made at least this long after the file's last change.
pub(crate) const RACY_NS: i64 = 1_000_000_000;

/// How often a file that changes while it is read is read again, before it is a problem.
const READ_COUNT_MAX: u32 = 4;

/// Why a file has no digest.
#[derive(Debug)]
pub(crate) enum DigestError {
    Errno(Errno),
    /// It is no longer a regular file.
    NotAFile,
    /// It kept changing.
    Changing,
    /// The caller asked to stop.
    Cancelled,
}

impl DigestError {
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Errno(errno) => crate::disk::reason(*errno),
            Self::NotAFile => "it is no longer a file".to_owned(),
            Self::Changing => "it changes while it is read".to_owned(),
            Self::Cancelled => "cancelled".to_owned(),
        }
    }
}

impl From<Errno> for DigestError {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// Reads a file and gives its digest with the metadata that held before and after.
///
/// `window` is scratch space that a caller of many files keeps.
pub(crate) fn digest_of(
    directory: &DirFd,
    name: &Name,
    window: &mut Vec<u8>,
    cancelled: &AtomicBool,
) -> Result<(Meta, FileRecord), DigestError> {
    for _ in 0..READ_COUNT_MAX {
        let recorded_ns = now_ns();
        let mut file = directory.open_file(name)?;
        let before = Meta::of(&file)?;
        if before.kind != Kind::File {
            return Err(DigestError::NotAFile);
        }
        let needed = usize::try_from(before.size).unwrap_or(usize::MAX).clamp(1, READ_WINDOW_BYTES);
        if window.len() < needed {
            window.resize(needed, 0);
        }
        let Some(digest) = read_all(&mut file, before.size, window, cancelled)? else {
            continue;
        };
        if Meta::of(&file)? == before {
            return Ok((before, FileRecord::new(&before, digest, recorded_ns)));
        }
    }
    Err(DigestError::Changing)
}

/// The digest of `size` bytes; nothing if the file ended earlier. Whether it ends there is seen by
/// the size afterwards, which saves a read.
fn read_all(
    file: &mut std::fs::File,
    size: u64,
    window: &mut [u8],
    cancelled: &AtomicBool,
) -> Result<Option<Digest>, DigestError> {
    let mut hasher = blake3::Hasher::new();
    let mut left = size;
    while left > 0 {
        if cancelled.load(Ordering::Relaxed) {
            return Err(DigestError::Cancelled);
        }
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(window.len());
        match file.read(&mut window[..wanted]) {
            Ok(0) => return Ok(None),
            Ok(count) => {
                hasher.update(&window[..count]);
                left -= count as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO).into());
            }
        }
    }
    Ok(Some(Digest(*hasher.finalize().as_bytes())))
}

/// The time by the clock that file systems use, nanoseconds since 1970.
pub fn now_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec.saturating_mul(RACY_NS).saturating_add(now.tv_nsec as i64)
}
