//! Where in the trash an object goes, and the copy of one that cannot be moved there.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use skync_agent::disk::{DirFd, DiskError, Kind, Meta, set_mode, set_mtime};
use skync_agent::path::{Name, SyncPath};
use skync_agent::transition::{Doomed, Loss};

/// How often a path can be lost in one batch. Past it the next change of it fails and is tried
/// again in a later batch: a burst is over at some time.
const TIMES_MAX: u32 = 1000;
/// Batches that begin in the same nanosecond, of several processes.
const SAME_TIME_MAX: i64 = 1000;
/// A copy that is not whole has this name, and nothing else ever has: it is in no project, for
/// the rules exclude it everywhere.
pub(super) const PART: &str = ".skync-tmp-part";
/// How much is copied at once, bytes.
const WINDOW_BYTES: usize = 256 << 10;

/// The name of the batch that began then; names order as times do.
pub(super) fn batch_name(began_ns: i64) -> String {
    format!("{:020}", began_ns.max(0))
}

/// When the batch of that name began; nothing if it is none.
pub(super) fn began(name: &str) -> Option<i64> {
    let is_ours = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
    is_ours.then(|| name.parse().ok()).flatten()
}

/// The directory in a batch for what was lost that way for the so many-th time, from 1.
pub(super) fn shelf_name(loss: Loss, times: u32) -> String {
    let word = match loss {
        Loss::Overwritten => "overwritten",
        Loss::Deleted => "deleted",
    };
    if times == 1 { word.to_owned() } else { format!("{word}-{times}") }
}

/// What a directory in a batch is for: the reverse of [`shelf_name`].
pub(super) fn loss_of(name: &str) -> Option<(Loss, u32)> {
    let (word, times) = match name.split_once('-') {
        Some((word, times)) => (word, times.parse().ok()?),
        None => (name, 1),
    };
    match word {
        "overwritten" => Some((Loss::Overwritten, times)),
        "deleted" => Some((Loss::Deleted, times)),
        _ => None,
    }
}

/// Makes the directory of a new batch.
pub(super) fn begin(trash: &Path, now_ns: i64) -> Result<(i64, Shelf), DiskError> {
    let fail = |errno| DiskError::at("keep old versions in", trash, errno);
    let directory = DirFd::open(trash).map_err(fail)?;
    for began_ns in now_ns..now_ns.saturating_add(SAME_TIME_MAX) {
        let name = checked(&batch_name(began_ns));
        match directory.make_directory(&name, 0o700) {
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(fail(errno)),
            Ok(()) => {
                let batch = directory.open_directory(&name).map_err(fail)?;
                return Ok((began_ns, Shelf { batch, last: None }));
            }
        }
    }
    Err(fail(Errno::EXIST))
}

/// The directory of one batch.
#[derive(Debug)]
pub(super) struct Shelf {
    batch: DirFd,
    /// The last directory that something went to: what is lost is often lost together.
    last: Option<(String, SyncPath, Arc<DirFd>)>,
}

impl Shelf {
    /// The directory and name for an object; nothing has that name yet.
    pub(super) fn place(&mut self, doomed: &Doomed<'_>) -> Result<(Arc<DirFd>, Name), Errno> {
        let (parent, name) = doomed.path.split().ok_or(Errno::INVAL)?;
        for times in 1..=TIMES_MAX {
            let shelf = shelf_name(doomed.loss, times);
            let directory = match self.directory(&shelf, &parent) {
                // Something lost before has the name of a directory, or the reverse.
                Err(Errno::NOTDIR | Errno::LOOP) => continue,
                other => other?,
            };
            match directory.stat(&name) {
                Err(Errno::NOENT) => return Ok((directory, name)),
                Ok(_) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EXIST)
    }

    fn directory(&mut self, shelf: &str, parent: &SyncPath) -> Result<Arc<DirFd>, Errno> {
        if let Some((of, path, directory)) = &self.last
            && (of.as_str(), path) == (shelf, parent)
        {
            return Ok(Arc::clone(directory));
        }
        let mut directory = open_or_make(&self.batch, &checked(shelf))?;
        for name in parent.names() {
            let name = Name::parse(name).map_err(|_| Errno::INVAL)?;
            directory = open_or_make(&directory, &name)?;
        }
        let directory = Arc::new(directory);
        self.last = Some((shelf.to_owned(), parent.clone(), Arc::clone(&directory)));
        Ok(directory)
    }
}

fn open_or_make(parent: &DirFd, name: &Name) -> Result<DirFd, Errno> {
    match parent.open_directory(name) {
        Err(Errno::NOENT) => {
            parent.make_directory(name, 0o700)?;
            parent.open_directory(name)
        }
        other => other,
    }
}

/// Why an object was not copied.
pub(super) enum CopyError {
    /// It is not what was compared, or changed meanwhile.
    Changed,
    /// A system call failed.
    Errno(Errno),
}

impl From<Errno> for CopyError {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<std::io::Error> for CopyError {
    fn from(error: std::io::Error) -> Self {
        Self::Errno(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

/// Copies an object that cannot be moved: it gets its name once it is whole.
pub(super) fn copy(doomed: &Doomed<'_>, to: &DirFd, name: &Name) -> Result<(), CopyError> {
    match doomed.meta.kind {
        Kind::Symlink => {
            let target = doomed.directory.read_link(doomed.name)?;
            Ok(to.make_symlink(name, &target)?)
        }
        Kind::File => {
            let part = checked(PART);
            let copied = copy_file(doomed, to, &part).and_then(|()| {
                to.rename_new(&part, to, name)?;
                Ok(())
            });
            if copied.is_err() {
                // What stays counts for nothing and goes with its batch.
                let _ = to.remove_file(&part);
            }
            copied
        }
        Kind::Directory | Kind::Other => Err(Errno::INVAL.into()),
    }
}

fn copy_file(doomed: &Doomed<'_>, to: &DirFd, part: &Name) -> Result<(), CopyError> {
    let mut from = doomed.directory.open_file(doomed.name)?;
    let meta = doomed.meta;
    let is_same = |now: &Meta| {
        now.is_same_object(meta) && (now.size, now.mtime_ns) == (meta.size, meta.mtime_ns)
    };
    let mut file = to.create_file(part, 0o600)?;
    let mut window = vec![0; WINDOW_BYTES];
    let mut copied = 0_u64;
    loop {
        let count = from.read(&mut window)?;
        if count == 0 {
            break;
        }
        file.write_all(&window[..count])?;
        copied += count as u64;
    }
    if copied != meta.size || !is_same(&Meta::of(&from)?) {
        return Err(CopyError::Changed);
    }
    set_mode(&file, meta.mode)?;
    Ok(set_mtime(&file, meta.mtime_ns)?)
}

fn checked(text: &str) -> Name {
    Name::parse(text.as_bytes()).expect("our own names are short and hold no slash")
}
