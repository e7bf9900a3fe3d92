//! Content: reading, many small files at once, writing, and what an open file can do besides.

use std::sync::Arc;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use super::answer::{Answer, Send, checked, failed, timeless};
use super::mount::{Mount, OpenFile};
use super::place::{Place, to_wire};
use super::problem::Problem;
use crate::disk::{Attributes, DirFd, find_data};
use crate::path::SyncPath;
use crate::proto::files_reply::Reply;
use crate::proto::{
    FilesAllocate, FilesAt, FilesContent, FilesContents, FilesError, FilesFetch, FilesRead,
    FilesReply, FilesRoom, FilesSeek, FilesSync, FilesWrite,
};

/// Most bytes that are read or written by one request, and of a file that is fetched.
pub(super) const CONTENT_BYTES_MAX: u32 = 1 << 20;
/// Bytes of one reply: the first are on their way while the next are read.
const PIECE_BYTES: u32 = 256 << 10;
/// Bytes of contents after which a message of them is sent.
const CONTENTS_BYTES: usize = 256 << 10;
/// What a content costs besides its bytes, about.
const CONTENT_OVERHEAD_BYTES: usize = 128;
/// How often a file that changes while it is fetched is read; past it, it is left out.
const FETCH_COUNT_MAX: u32 = 3;

impl Mount {
    pub(super) fn read(&self, read: &FilesRead, send: Send<'_>) {
        if let Err(problem) = self.read_pieces(read, send) {
            send(failed(&problem));
        }
    }

    fn read_pieces(&self, read: &FilesRead, send: Send<'_>) -> Result<(), Problem> {
        let (mut offset, mut left) = (read.offset, read.length);
        if left > CONTENT_BYTES_MAX {
            return Err(Problem::invalid("so much is not read at once"));
        }
        let file = self.file_to_read(&Place::parse(read.file.as_ref())?, read.open_as)?;
        loop {
            let length = left.min(PIECE_BYTES);
            let data = read_at(&file, offset, length as usize)?;
            left -= length;
            offset = offset.saturating_add(length.into());
            let more = data.len() == length as usize && left > 0;
            let reply = Some(Reply::Data(data.into()));
            if !send(FilesReply { more, reply, ..Default::default() }) || !more {
                return Ok(());
            }
        }
    }

    fn file_to_read(&self, place: &Place, open_as: u64) -> Result<Arc<OpenFile>, Problem> {
        if place.handle != 0 {
            return self.file(place.handle);
        }
        if open_as != 0
            && let Ok(file) = self.file(open_as)
        {
            return Ok(file);
        }
        let (file, _) = checked(self.root.open_carefully(&place.path, OFlags::RDONLY)?, place)?;
        if open_as != 0 {
            self.keep(open_as, Arc::clone(&file))?;
        }
        Ok(file)
    }

    /// Reads many small files. Messages go out while further files are read.
    pub(super) fn fetch(&self, fetch: &FilesFetch, send: Send<'_>) {
        let mut gathered = FilesContents::default();
        let mut bytes = 0;
        let mut directory = None;
        let mut send = |contents: FilesContents, more| {
            send(FilesReply { more, reply: Some(Reply::Contents(contents)), ..Default::default() })
        };
        for (index, at) in (0..).zip(&fetch.files) {
            let stamp = self.stamps.next();
            let content = match self.fetch_file(at, &mut directory) {
                Ok((attributes, data)) => {
                    let attributes = Some(to_wire(&attributes));
                    FilesContent { index, stamp, attributes, data, problem: None }
                }
                Err(problem) => {
                    let problem = Some(problem.to_wire());
                    FilesContent { index, stamp, problem, ..Default::default() }
                }
            };
            let costs = content.data.len() + CONTENT_OVERHEAD_BYTES;
            if bytes > 0 && bytes + costs > CONTENTS_BYTES {
                bytes = 0;
                if !send(std::mem::take(&mut gathered), true) {
                    return;
                }
            }
            bytes += costs;
            gathered.contents.push(content);
        }
        send(gathered, false);
    }

    /// A file's content with attributes that fit it. `last` is the directory of the file before:
    /// they come directory by directory.
    fn fetch_file(
        &self,
        at: &FilesAt,
        last: &mut Option<(SyncPath, DirFd)>,
    ) -> Result<(Attributes, Bytes), Problem> {
        let place = Place::parse(Some(at))?;
        let (parent, name) = place.path.split().ok_or(FilesError::IsDirectory)?;
        if last.as_ref().is_none_or(|(path, _)| *path != parent) {
            let directory = self.root.open_place(&parent)?;
            *last = Some((parent, directory));
        }
        let (_, directory) = last.as_ref().ok_or(FilesError::NotFound)?;
        let (file, mut before) = checked(directory.open_carefully(&name, OFlags::RDONLY)?, &place)?;
        for _ in 0..FETCH_COUNT_MAX {
            if before.size > CONTENT_BYTES_MAX.into() {
                return Err(FilesError::TooLarge.into());
            }
            let data = read_at(&file, 0, usize::try_from(before.size).unwrap_or(0))?;
            let after = Attributes::of(&file.file)?;
            if data.len() as u64 == before.size && is_unchanged(&before, &after) {
                return Ok((after, data.into()));
            }
            before = after;
        }
        Err(FilesError::Busy.into())
    }

    pub(super) fn write(&self, write: &FilesWrite) -> Answer {
        if write.data.len() > CONTENT_BYTES_MAX as usize {
            return Err(Problem::invalid("so much is not written at once"));
        }
        let file = self.file(write.handle)?;
        let (mut rest, mut offset) = (&*write.data, write.offset);
        while !rest.is_empty() {
            // To a file that was opened to append, the system itself takes no offset.
            let count = match rustix::io::pwrite(&file.file, rest, offset) {
                Err(Errno::INTR) => continue,
                Ok(0) => return Err(Errno::NOSPC.into()),
                other => other?,
            };
            rest = rest.get(count..).unwrap_or_default();
            offset = offset.saturating_add(count as u64);
        }
        self.found_open(&file)
    }

    pub(super) fn sync(&self, sync: &FilesSync) -> Answer {
        let file = self.file(sync.handle)?;
        match sync.data_only {
            true => rustix::fs::fdatasync(&file.file)?,
            false => rustix::fs::fsync(&file.file)?,
        }
        self.found_open(&file)
    }

    pub(super) fn allocate(&self, allocate: &FilesAllocate) -> Answer {
        let flags = match FilesRoom::try_from(allocate.how) {
            Ok(FilesRoom::Extend) => FallocateFlags::empty(),
            Ok(FilesRoom::Keep) => FallocateFlags::KEEP_SIZE,
            Ok(FilesRoom::Hole) => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            Ok(FilesRoom::Zeros) => FallocateFlags::ZERO_RANGE,
            Err(_) => return Err(Problem::invalid("there is no such way to allocate")),
        };
        let file = self.file(allocate.handle)?;
        rustix::fs::fallocate(&file.file, flags, allocate.offset, allocate.length)?;
        self.found_open(&file)
    }

    pub(super) fn seek(&self, seek: &FilesSeek) -> Answer {
        let file = self.file_to_read(&Place::parse(seek.file.as_ref())?, 0)?;
        timeless(Reply::Position(find_data(&file.file, seek.offset, seek.hole)?))
    }
}

/// So many bytes, or fewer at the end.
fn read_at(file: &OpenFile, offset: u64, length: usize) -> Result<Vec<u8>, Problem> {
    let mut data = Vec::with_capacity(length);
    while data.len() < length {
        let at = offset.checked_add(data.len() as u64).ok_or(Errno::INVAL)?;
        match rustix::io::pread(&file.file, spare_capacity(&mut data), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    // There may have been more room than was asked for.
    data.truncate(length);
    Ok(data)
}

fn is_unchanged(before: &Attributes, after: &Attributes) -> bool {
    (before.size, before.modified_ns, before.changed_ns)
        == (after.size, after.modified_ns, after.changed_ns)
}
