//! Replies, and numbers of requests that stand for something.

use fuser::{FileHandle, FopenFlags, Generation, ReplyAttr, ReplyEmpty, ReplyEntry, Request};
use rustix::fs::FallocateFlags;

use super::attr::{errno, file_attr, permissions};
use crate::content;
use crate::filesystem::{Caller, Opened, Shown};
use crate::source::{Allocate, Answer, Seek};

/// `SEEK_DATA` and `SEEK_HOLE`: all others the kernel does itself.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

pub(super) fn ours(handle: FileHandle) -> content::FileHandle {
    content::FileHandle(handle.0)
}

pub(super) fn caller(request: &Request, mode: u32) -> Caller {
    Caller { mode: permissions(mode), uid: request.uid(), gid: request.gid() }
}

pub(super) fn open_flags(opened: Opened, writes: bool) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    if opened.is_volatile {
        flags |= FopenFlags::FOPEN_DIRECT_IO;
    } else if opened.keeps_cache {
        flags |= FopenFlags::FOPEN_KEEP_CACHE;
    }
    if !writes {
        // Nothing can be left to write when it is closed.
        flags |= FopenFlags::FOPEN_NOFLUSH;
    }
    flags
}

pub(super) fn entry(reply: ReplyEntry, shown: &Shown) {
    reply.entry_with_ttls(
        &shown.attributes_ttl,
        &shown.entry_ttl,
        &file_attr(shown),
        Generation(shown.generation),
    );
}

pub(super) fn made(reply: ReplyEntry, answer: Answer<Shown>) {
    match answer {
        Ok(shown) => entry(reply, &shown),
        Err(error) => reply.error(errno(&error)),
    }
}

pub(super) fn attributes(reply: ReplyAttr, answer: Answer<Shown>) {
    match answer {
        Ok(shown) => reply.attr(&shown.attributes_ttl, &file_attr(&shown)),
        Err(error) => reply.error(errno(&error)),
    }
}

pub(super) fn done(reply: ReplyEmpty, answer: Answer<()>) {
    match answer {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(&error)),
    }
}

pub(super) fn seek_what(whence: i32) -> Option<Seek> {
    match whence {
        SEEK_DATA => Some(Seek::Data),
        SEEK_HOLE => Some(Seek::Hole),
        _ => None,
    }
}

pub(super) fn allocate_how(mode: i32) -> Option<Allocate> {
    let flags = FallocateFlags::from_bits_retain(mode.cast_unsigned());
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match flags {
        flags if flags.is_empty() => Some(Allocate::Extend),
        FallocateFlags::KEEP_SIZE => Some(Allocate::Keep),
        FallocateFlags::ZERO_RANGE => Some(Allocate::Zeros),
        flags if flags == hole => Some(Allocate::Hole),
        _ => None,
    }
}
