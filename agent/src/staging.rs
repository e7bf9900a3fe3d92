//! Content waits here, by digest and checked, until a transition moves it to its place.
//!
//! The staging directory belongs to us and lies outside every synchronised tree. On the root's
//! file system, content is written in it and renamed into place; on another one a rename cannot
//! do that, so content is written (or copied) beside its destination under a name that starts with
//! [`TEMP_PREFIX`], which every scan and every rule set skips.
//!
//! Whole content that an interrupted run left is kept and used again, after its hash was checked,
//! and so is the beginning of a large one, which is checked once the rest has come. Everything else
//! in the directory is swept when it is opened: one process at a time uses it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rustix::io::Errno;

use crate::disk::{DirFd, DiskError, Kind, Meta, READ_WINDOW_BYTES, Root};
use crate::entry::Digest;
use crate::path::{Name, SyncPath};
use crate::scan::{digest_of, now_ns};

/// How the names of our temporary files in a synchronised tree begin. Always excluded, whatever
/// the rules say.
pub const TEMP_PREFIX: &str = ".skync-tmp-";

/// Content of at most this many bytes stays in memory until it is written. The wire's limit for
/// content that travels inside one message.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;

/// The beginning of a content of at least this many bytes is kept when the rest does not come.
pub const PART_BYTES_MIN: u64 = 1 << 20;

/// How the name of a kept beginning ends, after the digest of the whole.
const PART_SUFFIX: &str = ".part";

/// How the names of contents begin that are being written, before the digest of the whole.
const WRITING_PREFIX: &str = "part-";

/// A temporary file in a tree is stale once nobody wrote to it for this long.
const TEMP_STALE_NS: i64 = 10 * 60 * 1_000_000_000;

/// Content that was kept and is not used for this long is removed when the directory is opened.
const KEPT_STALE_NS: i64 = 7 * 24 * 3600 * 1_000_000_000;

/// Why content was not staged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StagingError {
    /// A system call failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// More came than was announced.
    #[error("more than the announced {0} bytes came")]
    TooLong(u64),
    /// Less came than was announced.
    #[error("{actual} bytes came, {expected} were announced")]
    TooShort {
        /// The announced size.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// The content is not what was announced.
    #[error("the content that came has another hash than announced")]
    WrongDigest,
    /// No beginning of that content is here that ends at this byte.
    #[error("the first {0} bytes of the content are not here")]
    NoPart(u64),
}

impl StagingError {
    /// True if the disk is full or the quota used up.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_no_space())
    }
}

/// The staging directory of one root.
#[derive(Debug)]
pub struct Staging {
    directory: DirFd,
    /// Content goes beside its destination, because a rename from here does not get there.
    is_apart: AtomicBool,
    counter: AtomicU64,
    /// Makes names in the tree differ from those of another process.
    run: u64,
    /// Content in the directory whose hash was checked by this process.
    checked: Mutex<HashSet<Digest>>,
}

/// Whole content, checked, in the staging directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    /// BLAKE3 of the content.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// Content on its way to its place.
#[derive(Clone, Debug)]
pub enum Content {
    /// Small and in memory, not checked yet.
    Inline(Bytes),
    /// In the staging directory.
    Staged(Staged),
}

impl Staging {
    /// Opens (or makes) the staging directory for `root`, and sweeps what an earlier run left
    /// unfinished.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(directory: &Path, root: &Root) -> Result<Self, DiskError> {
        let fail = |errno| DiskError::at("open the staging directory", directory, errno);
        let io = |error: std::io::Error| fail(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        let is_new = !directory.exists();
        std::fs::create_dir_all(directory).map_err(io)?;
        if is_new {
            use std::os::unix::fs::PermissionsExt;
            let private = std::fs::Permissions::from_mode(0o700);
            std::fs::set_permissions(directory, private).map_err(io)?;
        }
        let fd = DirFd::open(directory).map_err(fail)?;
        let device = Meta::of(&fd).map_err(fail)?.device;
        let staging = Self {
            directory: fd,
            is_apart: AtomicBool::new(device != root.device()),
            counter: AtomicU64::new(0),
            run: now_ns().unsigned_abs() ^ (u64::from(std::process::id()) << 40),
            checked: Mutex::default(),
        };
        staging.sweep_own().map_err(fail)?;
        Ok(staging)
    }

    fn sweep_own(&self) -> Result<(), Errno> {
        let now = now_ns();
        for (name, _) in self.directory.list(&mut Vec::new())? {
            let Ok(meta) = self.directory.stat_listed(&name) else {
                continue;
            };
            if meta.kind == Kind::Directory {
                continue;
            }
            let is_worth_it =
                meta.kind == Kind::File && now.saturating_sub(meta.mtime_ns) < KEPT_STALE_NS;
            match owner_of(&name).filter(|_| is_worth_it) {
                Some((_, Left::Whole | Left::Part)) => {}
                // The process that wrote it was killed.
                Some((digest, Left::Writing)) if meta.size >= PART_BYTES_MIN => {
                    self.directory.rename_over(&name, &self.directory, &part_name(&digest))?;
                }
                Some((_, Left::Writing)) | None => self.directory.remove_file(&name)?,
            }
        }
        Ok(())
    }

    /// Begins to take content that does not stay in memory. With a size, more is refused as it
    /// comes and less at the end.
    ///
    /// # Errors
    /// What the system says.
    pub fn begin(&self, digest: Digest, size: Option<u64>) -> Result<Writer<'_>, StagingError> {
        let name = self.next_name(&format!("{WRITING_PREFIX}{}-", digest.hex()));
        let file = self
            .directory
            .create_file(&name, 0o600)
            .map_err(|errno| staging_error("make a file in", errno))?;
        let hasher = Box::new(blake3::Hasher::new());
        Ok(Writer { staging: self, name: Some(name), file, hasher, digest, size, written: 0 })
    }

    /// Goes on with a content of which the first `written` bytes are kept. They are read, so that
    /// the digest of the whole can be checked.
    ///
    /// # Errors
    /// [`StagingError::NoPart`] if another number of bytes is kept, or what the system says.
    pub fn resume(&self, digest: Digest, written: u64) -> Result<Writer<'_>, StagingError> {
        let missing = |_| StagingError::NoPart(written);
        if self.part_of(&digest) != written {
            return Err(StagingError::NoPart(written));
        }
        let name = self.next_name(&format!("{WRITING_PREFIX}{}-", digest.hex()));
        // Taken away under a name of ours: nobody else goes on with it.
        let kept = part_name(&digest);
        self.directory.rename_over(&kept, &self.directory, &name).map_err(missing)?;
        let file = self.directory.open_to_append(&name).map_err(missing)?;
        let hasher = Box::new(blake3::Hasher::new());
        let (name, size) = (Some(name), None);
        let mut writer = Writer { staging: self, name, file, hasher, digest, size, written: 0 };
        writer.read_kept()?;
        if writer.written == written { Ok(writer) } else { Err(StagingError::NoPart(written)) }
    }

    /// Bytes at the beginning of that content that are kept, see [`Staging::resume`].
    pub fn part_of(&self, digest: &Digest) -> u64 {
        self.directory.stat_listed(&part_name(digest)).map_or(0, |meta| meta.size)
    }

    /// Says whether whole content of that digest is here. Content of an earlier run is read and
    /// its hash checked first; it is removed if it is damaged.
    pub fn has(&self, digest: &Digest) -> bool {
        if lock(&self.checked).contains(digest) {
            return true;
        }
        let name = blob_name(digest);
        match digest_of(&self.directory, &name, &mut Vec::new(), &AtomicBool::new(false)) {
            Ok((_, record)) if record.digest == *digest => {
                lock(&self.checked).insert(*digest);
                true
            }
            Ok(_) => {
                // Damaged. If it cannot be removed, it fails the same check next time.
                let _ = self.directory.remove_file(&name);
                false
            }
            Err(_) => false,
        }
    }

    /// The content of that digest, if it is here, see [`Staging::has`].
    pub fn find(&self, digest: &Digest) -> Option<Staged> {
        let size =
            self.has(digest).then(|| self.directory.stat_listed(&blob_name(digest)).ok())??.size;
        Some(Staged { digest: *digest, size })
    }

    /// Whether content has to be written beside its destination.
    pub(crate) fn is_apart(&self) -> bool {
        self.is_apart.load(Ordering::Relaxed)
    }

    /// A rename from here failed with EXDEV although the device is the same (a bind mount, another
    /// file system mounted in the tree): from now on content goes beside its destination.
    pub(crate) fn set_apart(&self) {
        self.is_apart.store(true, Ordering::Relaxed);
    }

    pub(crate) fn directory(&self) -> &DirFd {
        &self.directory
    }

    /// A name that nobody else uses, here or in the tree.
    pub(crate) fn temp_name(&self) -> Name {
        self.next_name(TEMP_PREFIX)
    }

    fn next_name(&self, prefix: &str) -> Name {
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        checked_name(&format!("{prefix}{:x}-{count:x}", self.run))
    }

    /// Opens checked content for reading.
    pub(crate) fn open_staged(&self, staged: &Staged) -> Result<File, Errno> {
        self.directory.open_file(&blob_name(&staged.digest))
    }

    /// Takes content out under a temporary name in this directory, so that it can be given its
    /// mode and be renamed into place.
    pub(crate) fn take(&self, staged: &Staged) -> Result<Name, Errno> {
        let name = self.temp_name();
        self.directory.rename_over(&blob_name(&staged.digest), &self.directory, &name)?;
        lock(&self.checked).remove(&staged.digest);
        Ok(name)
    }

    /// Removes content that was copied to its place.
    pub(crate) fn forget(&self, staged: &Staged) {
        lock(&self.checked).remove(&staged.digest);
        // What stays here is swept when it is old.
        let _ = self.directory.remove_file(&blob_name(&staged.digest));
    }
}

fn blob_name(digest: &Digest) -> Name {
    checked_name(&digest.hex())
}

fn part_name(digest: &Digest) -> Name {
    checked_name(&format!("{}{PART_SUFFIX}", digest.hex()))
}

/// What an earlier run left under a name.
enum Left {
    Whole,
    Part,
    Writing,
}

/// The digest in the name of a file of ours.
fn owner_of(name: &Name) -> Option<(Digest, Left)> {
    let text = std::str::from_utf8(name.as_bytes()).ok()?;
    let (hex, left) = if let Some(rest) = text.strip_prefix(WRITING_PREFIX) {
        (rest.split_once('-')?.0, Left::Writing)
    } else if let Some(hex) = text.strip_suffix(PART_SUFFIX) {
        (hex, Left::Part)
    } else {
        (text, Left::Whole)
    };
    Some((Digest(*blake3::Hash::from_hex(hex).ok()?.as_bytes()), left))
}

fn checked_name(text: &str) -> Name {
    Name::parse(text.as_bytes()).expect("our own names are short and hold no slash")
}

fn staging_error(action: &'static str, errno: Errno) -> StagingError {
    DiskError::at(action, Path::new("the staging directory"), errno).into()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes one content piece by piece. Dropped before [`Writer::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Writer<'a> {
    staging: &'a Staging,
    /// Taken once the file has its final name.
    name: Option<Name>,
    file: File,
    hasher: Box<blake3::Hasher>,
    digest: Digest,
    size: Option<u64>,
    written: u64,
}

impl Writer<'_> {
    /// Takes in what is in the file already.
    fn read_kept(&mut self) -> Result<(), StagingError> {
        let mut window = vec![0; READ_WINDOW_BYTES];
        loop {
            match self.file.read(&mut window) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    self.hasher.update(&window[..count]);
                    self.written += count as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                    return Err(staging_error("read from", errno));
                }
            }
        }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// [`StagingError::TooLong`] if it is more than was announced, or what the system says.
    pub fn write(&mut self, data: &[u8]) -> Result<(), StagingError> {
        let written = self.written + data.len() as u64;
        if let Some(size) = self.size.filter(|size| written > *size) {
            return Err(StagingError::TooLong(size));
        }
        self.file.write_all(data).map_err(|error| {
            staging_error("write to", Errno::from_io_error(&error).unwrap_or(Errno::IO))
        })?;
        self.hasher.update(data);
        self.written = written;
        Ok(())
    }

    /// Bytes taken.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// BLAKE3 of the whole, as announced.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Keeps what was written, to go on with later, if it is much. What was kept before goes: an
    /// interrupted transfer leaves one, and a file that never rests must not leave many.
    pub fn keep(mut self) {
        if self.written < PART_BYTES_MIN {
            return;
        }
        let directory = &self.staging.directory;
        for (name, _) in directory.list(&mut Vec::new()).unwrap_or_default() {
            if matches!(owner_of(&name), Some((_, Left::Part))) {
                let _ = directory.remove_file(&name);
            }
        }
        let kept = self
            .name
            .as_ref()
            .map(|name| directory.rename_over(name, directory, &part_name(&self.digest)).is_ok());
        if kept == Some(true) {
            self.name = None;
        }
    }

    /// Checks the whole and keeps it by its digest.
    ///
    /// # Errors
    /// Another size or hash than announced; nothing is kept then.
    pub fn finish(mut self) -> Result<Staged, StagingError> {
        if let Some(expected) = self.size.filter(|size| *size != self.written) {
            return Err(StagingError::TooShort { expected, actual: self.written });
        }
        if *self.hasher.finalize().as_bytes() != self.digest.0 {
            return Err(StagingError::WrongDigest);
        }
        let directory = &self.staging.directory;
        if let Some(name) = &self.name {
            directory
                .rename_over(name, directory, &blob_name(&self.digest))
                .map_err(|errno| staging_error("rename in", errno))?;
            self.name = None;
            // What an earlier try left of it. There is none most of the time.
            let _ = directory.remove_file(&part_name(&self.digest));
        }
        lock(&self.staging.checked).insert(self.digest);
        Ok(Staged { digest: self.digest, size: self.written })
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // What cannot be removed now is swept when the directory is opened next.
            let _ = self.staging.directory.remove_file(name);
        }
    }
}

/// Copies checked content into `target` and checks it again: it is the last reader.
pub(crate) fn copy_checked(
    from: &mut File,
    target: &mut File,
    staged: &Staged,
) -> Result<bool, Errno> {
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    from.seek(SeekFrom::Start(0)).map_err(errno)?;
    let mut hasher = blake3::Hasher::new();
    let mut window = vec![0; READ_WINDOW_BYTES];
    loop {
        match from.read(&mut window) {
            Ok(0) => return Ok(*hasher.finalize().as_bytes() == staged.digest.0),
            Ok(count) => {
                hasher.update(&window[..count]);
                target.write_all(&window[..count]).map_err(errno)?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(errno(error)),
        }
    }
}

/// Removes temporary files of ours that a cut-off run left in the tree, given the paths that a
/// scan found. Files that were written to in the last ten minutes may be in use and stay, as does
/// everything that is not a file of our name. Returns how many were removed.
pub fn sweep(root: &Root, temporaries: &[SyncPath]) -> usize {
    sweep_at(root, temporaries, now_ns())
}

fn sweep_at(root: &Root, temporaries: &[SyncPath], now: i64) -> usize {
    let mut count = 0;
    for path in temporaries {
        let Ok((directory, name)) = root.parent_of(path) else {
            continue;
        };
        let is_stale = name.as_bytes().starts_with(TEMP_PREFIX.as_bytes())
            && directory.stat_listed(&name).is_ok_and(|meta| {
                matches!(meta.kind, Kind::File | Kind::Symlink)
                    && now.saturating_sub(meta.ctime_ns) >= TEMP_STALE_NS
            });
        if is_stale && directory.remove_file(&name).is_ok() {
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests;
