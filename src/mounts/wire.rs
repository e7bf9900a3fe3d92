//! Requests as messages, and checked values from replies.
//!
//! What comes from a sandbox is input: names and paths must be ones, sizes must be possible, and a
//! reply must be one to what was asked. Nothing past this module sees an unchecked message.

mod listing;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use skync_agent::path::{Name, PATH_BYTES_MAX, SyncPath};
use skync_agent::proto::files_change::Change as WireChange;
use skync_agent::proto::files_reply::Reply;
use skync_agent::proto::{
    FilesAt, FilesAttributes, FilesChanges, FilesContent, FilesEntry, FilesEntryChange, FilesError,
    FilesOpenHow, FilesOwner, FilesProblem, FilesReply, FilesRoom, FilesSet, FilesSpace, FilesTime,
};
use skync_mount::source::{
    Allocate, Attributes, Change, Changed, Entry, Fetched, FileKind, Handle, ObjectId, OpenHow,
    Owner, Place, Reading, Seen, SetAttributes, SetTime, Space, Stamp,
};
use skync_mount::{Answer, SourceError};

pub(super) use self::listing::Gather;

/// Bytes of the largest file that is fetched whole, and of the largest piece that is read.
pub(super) const PIECE_BYTES_MAX: usize = 1 << 20;
/// Bytes of a content that is copied out of its message.
const COPIED_BYTES_MAX: usize = 128 << 10;
/// Bytes that a problem may have to say.
const WORDS_BYTES_MAX: usize = 200;
/// The bits of `st_mode` that are the type.
const TYPE_BITS: u32 = 0o170_000;

/// Of a reply that breaks the contract.
pub(super) fn bad(what: &str) -> SourceError {
    SourceError::Failed(format!("the agent's answer makes no sense: {what}"))
}

/// A path below the root, as it is told.
pub(super) fn path_to_wire(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

/// A name, as it is told.
pub(super) fn name_to_wire(name: &OsString) -> Vec<u8> {
    name.as_bytes().to_vec()
}

/// What is at a place.
pub(super) fn at(place: &Place) -> FilesAt {
    FilesAt {
        path: path_to_wire(&place.path),
        device: place.object.device,
        inode: place.object.inode,
        handle: 0,
    }
}

/// An open file, or what is at a place.
pub(super) fn at_or_open(place: &Place, open: Option<Handle>) -> FilesAt {
    FilesAt { handle: open.map_or(0, |handle| handle.0), ..at(place) }
}

/// An open file.
pub(super) fn opened(handle: Handle) -> FilesAt {
    FilesAt { handle: handle.0, ..FilesAt::default() }
}

/// What is read, and the handle that it is kept open as.
pub(super) fn reading(file: &Reading) -> (FilesAt, u64) {
    match file {
        Reading::Open(handle) => (opened(*handle), 0),
        Reading::OpenAs(handle, place) => (at(place), handle.0),
        Reading::At(place) => (at(place), 0),
    }
}

/// How a file is opened.
pub(super) fn how_to_wire(how: OpenHow) -> FilesOpenHow {
    let OpenHow { read, write, append, truncate, exclusive } = how;
    FilesOpenHow { read, write, append, truncate, exclusive }
}

/// Whose a new object is.
pub(super) fn owner_to_wire(owner: Owner) -> FilesOwner {
    let (uid, gid) = owner.ids.unwrap_or_default();
    FilesOwner { mode: owner.mode.into(), has_ids: owner.ids.is_some(), uid, gid }
}

/// How the room of a file changes.
pub(super) fn room_to_wire(how: Allocate) -> FilesRoom {
    match how {
        Allocate::Extend => FilesRoom::Extend,
        Allocate::Keep => FilesRoom::Keep,
        Allocate::Hole => FilesRoom::Hole,
        Allocate::Zeros => FilesRoom::Zeros,
    }
}

/// What changes of an object.
pub(super) fn set_to_wire(at: FilesAt, change: &SetAttributes) -> FilesSet {
    FilesSet {
        at: Some(at),
        mode: change.mode.map(u32::from),
        uid: change.uid,
        gid: change.gid,
        size: change.size,
        atime: change.accessed.map(time_to_wire),
        mtime: change.modified.map(time_to_wire),
    }
}

fn time_to_wire(time: SetTime) -> FilesTime {
    match time {
        SetTime::Now => FilesTime { now: true, ns: 0 },
        SetTime::At(time) => FilesTime { now: false, ns: nanoseconds(time) },
    }
}

/// Since 1970; what does not fit is the nearest that does.
pub(super) fn nanoseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |before| -before)
        }
    }
}

fn time(ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    if ns < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

/// The type of a kind, as in `st_mode`.
pub(super) fn kind_to_wire(kind: FileKind) -> u32 {
    match kind {
        FileKind::Fifo => 0o010_000,
        FileKind::CharDevice => 0o020_000,
        FileKind::Directory => 0o040_000,
        FileKind::BlockDevice => 0o060_000,
        FileKind::File => 0o100_000,
        FileKind::Symlink => 0o120_000,
        FileKind::Socket => 0o140_000,
    }
}

fn kind(mode: u32) -> Answer<FileKind> {
    Ok(match mode & TYPE_BITS {
        0o010_000 => FileKind::Fifo,
        0o020_000 => FileKind::CharDevice,
        0o040_000 => FileKind::Directory,
        0o060_000 => FileKind::BlockDevice,
        0o100_000 => FileKind::File,
        0o120_000 => FileKind::Symlink,
        0o140_000 => FileKind::Socket,
        _ => return Err(bad("an object of no kind")),
    })
}

/// Moves what a message says of its age behind everything that came before, as an agent that was
/// started again counts from the beginning; the highest stamp in it.
pub(super) fn age(reply: &mut FilesReply, base: u64) -> u64 {
    let mut highest = 0;
    let mut raise = |stamp: &mut u64| {
        *stamp = stamp.saturating_add(base);
        highest = highest.max(*stamp);
    };
    raise(&mut reply.stamp);
    match &mut reply.reply {
        Some(Reply::Contents(contents)) => {
            contents.contents.iter_mut().for_each(|content| raise(&mut content.stamp));
        }
        Some(Reply::Changes(changes)) => {
            for change in &mut changes.changes {
                if let Some(WireChange::Entry(entry)) = &mut change.change {
                    raise(&mut entry.stamp);
                }
            }
        }
        _ => {}
    }
    highest
}

/// The clock of the sandbox was at least there when it looked.
pub(super) fn newest(attributes: &FilesAttributes) -> i64 {
    attributes.ctime_ns.max(attributes.born_ns)
}

/// What `stat` shows.
pub(super) fn attributes(wire: Option<&FilesAttributes>) -> Answer<Attributes> {
    let wire = wire.ok_or_else(|| bad("no attributes"))?;
    // The kernel's own limit: it counts in signed numbers.
    if wire.size > i64::MAX as u64 || wire.blocks > i64::MAX as u64 {
        return Err(bad("a size that no file has"));
    }
    Ok(Attributes {
        object: ObjectId { device: wire.device, inode: wire.inode, born_ns: wire.born_ns },
        kind: kind(wire.mode)?,
        mode: (wire.mode & 0o7777) as u16,
        links: wire.links,
        uid: wire.uid,
        gid: wire.gid,
        rdev: wire.rdev,
        size: wire.size,
        blocks: wire.blocks,
        accessed: time(wire.atime_ns),
        modified: time(wire.mtime_ns),
        changed: time(wire.ctime_ns),
    })
}

fn name(bytes: &[u8]) -> Answer<OsString> {
    let name = Name::parse(bytes).map_err(|error| bad(&error.to_string()))?;
    Ok(name.as_os_str().to_owned())
}

fn path(bytes: &[u8]) -> Answer<PathBuf> {
    let path = SyncPath::parse(bytes).map_err(|error| bad(&error.to_string()))?;
    Ok(path.as_path().to_owned())
}

/// One name and what it means.
fn entry(wire: FilesEntry) -> Answer<Entry> {
    let attributes = attributes(wire.attributes.as_ref())?;
    let name = name(&wire.name)?;
    let target = match (attributes.kind, wire.target) {
        (_, target) if target.is_empty() => None,
        (FileKind::Symlink, target) if target.len() <= PATH_BYTES_MAX && !target.contains(&0) => {
            Some(OsString::from_vec(target))
        }
        _ => return Err(bad("a target that no link has")),
    };
    Ok(Entry { name, attributes, target })
}

/// What a name means that was asked for.
pub(super) fn looked_up(reply: FilesReply, asked: &OsString) -> Answer<Seen<Entry>> {
    let stamp = Stamp(reply.stamp);
    match whole(reply)? {
        Reply::Found(mut found) => {
            if found.name.is_empty() {
                found.name = name_to_wire(asked);
            } else if found.name != asked.as_bytes() {
                return Err(bad("another name than the one asked for"));
            }
            Ok(Seen { stamp, what: entry(found)? })
        }
        other => Err(other_than(&other)),
    }
}

/// The attributes of what was asked for.
pub(super) fn found(reply: FilesReply) -> Answer<Seen<Attributes>> {
    let stamp = Stamp(reply.stamp);
    match whole(reply)? {
        Reply::Found(found) => Ok(Seen { stamp, what: attributes(found.attributes.as_ref())? }),
        other => Err(other_than(&other)),
    }
}

/// What a change has led to.
pub(super) fn changed(reply: FilesReply) -> Answer<Seen<Changed>> {
    let stamp = Stamp(reply.stamp);
    match whole(reply)? {
        Reply::Changed(changed) => {
            let optional = |wire: Option<FilesAttributes>| {
                wire.as_ref().map(|wire| attributes(Some(wire))).transpose()
            };
            let what = Changed {
                directory: attributes(changed.directory.as_ref())?,
                object: optional(changed.object)?,
                before: optional(changed.before)?,
            };
            Ok(Seen { stamp, what })
        }
        other => Err(other_than(&other)),
    }
}

/// An offset in a file.
pub(super) fn position(reply: FilesReply) -> Answer<u64> {
    match whole(reply)? {
        Reply::Position(position) if i64::try_from(position).is_ok() => Ok(position),
        Reply::Position(_) => Err(bad("an offset that no file has")),
        other => Err(other_than(&other)),
    }
}

/// How much room there is.
pub(super) fn space(reply: FilesReply) -> Answer<Space> {
    let wire = match whole(reply)? {
        Reply::Space(space) => space,
        other => return Err(other_than(&other)),
    };
    let FilesSpace { block_bytes, blocks, blocks_free, blocks_available, .. } = wire;
    // So that whoever counts in bytes can.
    let most = i64::MAX as u64 / u64::from(block_bytes.max(1));
    if block_bytes == 0 || blocks > most {
        return Err(bad("room that no disk has"));
    }
    Ok(Space {
        block_bytes,
        blocks,
        blocks_free: blocks_free.min(blocks),
        blocks_available: blocks_available.min(blocks),
        files: wire.files,
        files_free: wire.files_free.min(wire.files),
        name_bytes_max: wire.name_bytes_max,
    })
}

/// One content, of `count` that were asked for.
pub(super) fn content(wire: FilesContent, count: usize) -> Answer<Fetched> {
    let index = usize::try_from(wire.index).ok().filter(|index| *index < count);
    let index = index.ok_or_else(|| bad("a file that was not asked for"))?;
    if let Some(problem) = wire.problem {
        return Ok(Fetched { index, content: Err(failure(&problem)) });
    }
    let attributes = attributes(wire.attributes.as_ref())?;
    if wire.data.len() > PIECE_BYTES_MAX || attributes.size != wire.data.len() as u64 {
        return Err(bad("a content of another size than its file"));
    }
    // A small file that is kept must not keep the whole message with all its neighbours.
    let data = match wire.data.len() {
        0..=COPIED_BYTES_MAX => Bytes::copy_from_slice(&wire.data),
        _ => wire.data,
    };
    let seen = Seen { stamp: Stamp(wire.stamp), what: (attributes, data) };
    Ok(Fetched { index, content: Ok(seen) })
}

/// What changed; a change that makes no sense is one of everything.
pub(super) fn changes(wire: FilesChanges) -> Vec<Change> {
    let one = |change: WireChange| match change {
        WireChange::Entry(wire) => entry_change(wire),
        WireChange::Below(below) => path(&below).map(Change::Below),
    };
    let told = wire.changes.into_iter().filter_map(|change| change.change).map(one);
    told.map(|change| {
        change.unwrap_or_else(|error| {
            tracing::warn!(%error, "a change in the sandbox is not understood");
            Change::Below(PathBuf::new())
        })
    })
    .collect()
}

fn entry_change(wire: FilesEntryChange) -> Answer<Change> {
    let told = wire.entry.ok_or_else(|| bad("a change of nothing"))?;
    let directory_attributes =
        wire.directory_attributes.as_ref().map(|it| attributes(Some(it))).transpose()?;
    Ok(Change::Entry {
        directory: path(&wire.directory)?,
        directory_attributes,
        name: name(&told.name)?,
        entry: if told.attributes.is_some() { Some(entry(told)?) } else { None },
        content: wire.content,
        stamp: Stamp(wire.stamp),
    })
}

/// The only reply to a request.
pub(super) fn whole(reply: FilesReply) -> Answer<Reply> {
    match reply.reply {
        Some(Reply::Problem(problem)) => Err(failure(&problem)),
        Some(_) if reply.more => Err(bad("more than was asked for")),
        Some(reply) => Ok(reply),
        None => Err(bad("an empty one")),
    }
}

/// Of a reply to another request.
pub(super) fn other_than(_: &Reply) -> SourceError {
    bad("it is one to another request")
}

/// Why a request failed.
pub(super) fn failure(problem: &FilesProblem) -> SourceError {
    match problem.error() {
        FilesError::Other => SourceError::Failed(words(&problem.message)),
        FilesError::NotFound => SourceError::NotFound,
        FilesError::Stale => SourceError::Stale,
        FilesError::Exists => SourceError::Exists,
        FilesError::NotEmpty => SourceError::NotEmpty,
        FilesError::IsDirectory => SourceError::IsDirectory,
        FilesError::NotDirectory => SourceError::NotDirectory,
        FilesError::Denied => SourceError::Denied,
        FilesError::NotPermitted => SourceError::NotPermitted,
        FilesError::ReadOnly => SourceError::ReadOnly,
        FilesError::NoSpace => SourceError::NoSpace,
        FilesError::Quota => SourceError::Quota,
        FilesError::TooLarge => SourceError::TooLarge,
        FilesError::TooManyLinks => SourceError::TooManyLinks,
        FilesError::NameTooLong => SourceError::NameTooLong,
        FilesError::Loop => SourceError::Loop,
        FilesError::OtherDevice => SourceError::OtherDevice,
        FilesError::Busy => SourceError::Busy,
        FilesError::Running => SourceError::Running,
        FilesError::Nothing => SourceError::Nothing,
        FilesError::Invalid => SourceError::Invalid,
        FilesError::Exhausted => SourceError::Exhausted,
        FilesError::Unsupported => SourceError::Unsupported,
    }
}

/// What the sandbox has to say, so that no terminal and no log is told what to do by it.
pub(super) fn words(text: &str) -> String {
    let mut words = String::new();
    for c in text.chars().take_while({
        let mut bytes = 0;
        move |c| {
            bytes += c.len_utf8();
            bytes <= WORDS_BYTES_MAX
        }
    }) {
        if c.is_control() { words.extend(c.escape_default()) } else { words.push(c) }
    }
    words
}
