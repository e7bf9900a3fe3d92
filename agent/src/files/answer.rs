//! What each request comes to.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::FileType;

use super::mount::{Mount, OpenFile};
use super::place::{self, Place, to_wire};
use super::problem::Problem;
use crate::disk::{Attributes, DirFd, Root};
use crate::path::Name;
use crate::proto::files_reply::Reply;
use crate::proto::files_request::Request;
use crate::proto::{
    FilesAt, FilesEntry, FilesError, FilesLook, FilesReply, FilesSpace, FilesSpaceRequest,
};

/// Takes the replies to a request, all but their id; says whether anybody still wants them.
pub(super) type Send<'a> = &'a mut dyn FnMut(FilesReply) -> bool;

/// The one reply to a request, and when it was looked.
pub(super) type Answer = Result<(u64, Reply), Problem>;

/// An answer of no time.
pub(super) fn timeless(reply: Reply) -> Answer {
    Ok((0, reply))
}

impl Mount {
    /// Does what is asked for. `arrival` is a stamp of when the request came.
    pub(super) fn answer(&self, request: Option<&Request>, arrival: u64, send: Send<'_>) {
        let Some(request) = request else {
            send(failed(&Problem::invalid("a request is empty")));
            return;
        };
        let answer = match request {
            Request::List(list) => return self.list(list, send),
            Request::Read(read) => return self.read(read, send),
            Request::Fetch(fetch) => return self.fetch(fetch, send),
            Request::Forget(forget) => return self.forget(forget, arrival),
            Request::Close(close) => return self.close(close.handle),
            Request::Look(look) => self.look(look),
            Request::Attributes(at) => self.attributes_at(&self.root, at),
            Request::Open(open) => self.open_file(&self.root, open),
            Request::Create(create) => self.create(&self.root, create),
            Request::Write(write) => self.write(write),
            Request::Sync(sync) => self.sync(sync),
            Request::Allocate(allocate) => self.allocate(allocate),
            Request::Seek(seek) => self.seek(seek),
            Request::Set(set) => self.set(&self.root, set),
            Request::Make(make) => self.make(&self.root, make),
            Request::Link(link) => self.link(&self.root, link),
            Request::Rename(rename) => self.rename(&self.root, rename),
            Request::Remove(remove) => self.remove(&self.root, remove),
            Request::Space(FilesSpaceRequest {}) => self.space(),
            // Both are the stream's to understand.
            Request::Begin(_) | Request::End(_) => Err(Problem::invalid("it is out of place")),
        };
        send(only(answer));
    }

    fn look(&self, look: &FilesLook) -> Answer {
        let directory = Place::parse(look.directory.as_ref())?.directory(&self.root)?;
        let name = place::name(&look.name)?;
        let stamp = self.stamps.next();
        let entry = entry(&directory, &name, true)?;
        Ok((stamp, Reply::Found(entry)))
    }

    pub(super) fn attributes_at(&self, root: &Root, at: &FilesAt) -> Answer {
        let place = Place::parse(Some(at))?;
        match place.handle {
            0 => {
                let stamp = self.stamps.next();
                let (_, attributes) = place.object(root)?;
                Ok((stamp, found(&attributes)))
            }
            handle => self.found_open(&*self.file(handle)?),
        }
    }

    /// The answer with the attributes that an open file has now.
    pub(super) fn found_open(&self, file: &OpenFile) -> Answer {
        let stamp = self.stamps.next();
        Ok((stamp, found(&Attributes::of(&file.file)?)))
    }

    fn space(&self) -> Answer {
        let space = self.root.space()?;
        timeless(Reply::Space(FilesSpace {
            block_bytes: u32::try_from(space.f_frsize).unwrap_or(u32::MAX),
            blocks: space.f_blocks,
            blocks_free: space.f_bfree,
            blocks_available: space.f_bavail,
            files: space.f_files,
            files_free: space.f_ffree,
            name_bytes_max: u32::try_from(space.f_namemax).unwrap_or(u32::MAX),
        }))
    }

    fn forget(&self, forget: &crate::proto::FilesForget, arrival: u64) {
        if let Some(watch) = self.watch() {
            watch.forget(&forget.paths, arrival);
        }
    }
}

/// What a name means; `with_target` as well if it is a symbolic link. Reading that is an access, and
/// changes the link's own time of it.
pub(super) fn entry(
    directory: &DirFd,
    name: &Name,
    with_target: bool,
) -> Result<FilesEntry, Problem> {
    let attributes = Attributes::of_name(directory, name.as_os_str())?;
    let target = match attributes.kind() {
        // It can be another object by now: then there is none, and it is asked for again.
        FileType::Symlink if with_target => {
            directory.target_of(name.as_os_str()).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    let name = name.as_bytes().to_vec();
    Ok(FilesEntry { name, attributes: Some(to_wire(&attributes)), target })
}

/// An object without a name.
pub(super) fn found(attributes: &Attributes) -> Reply {
    let attributes = Some(to_wire(attributes));
    Reply::Found(FilesEntry { attributes, ..Default::default() })
}

/// The one reply.
pub(super) fn only(answer: Answer) -> FilesReply {
    match answer {
        Ok((stamp, reply)) => FilesReply { stamp, reply: Some(reply), ..Default::default() },
        Err(problem) => failed(&problem),
    }
}

/// It failed.
pub(super) fn failed(problem: &Problem) -> FilesReply {
    FilesReply { reply: Some(Reply::Problem(problem.to_wire())), ..Default::default() }
}

/// A file that was opened, if it is a regular one and the one that is meant.
pub(super) fn checked(
    file: OwnedFd,
    place: &Place,
) -> Result<(Arc<OpenFile>, Attributes), Problem> {
    let attributes = Attributes::of(&file)?;
    place.check(&attributes)?;
    match attributes.kind() {
        FileType::RegularFile => Ok((Arc::new(OpenFile::new(file, &attributes)), attributes)),
        FileType::Directory => Err(FilesError::IsDirectory.into()),
        _ => Err(FilesError::Unsupported.into()),
    }
}
