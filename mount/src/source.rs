//! What a filesystem needs of the place where the files are.
//!
//! Requests name an object by where it is and by what it is ([`Place`]): a source needs no table of
//! its own, and a name that means another object by now is noticed instead of written to.
//!
//! # What is newer
//! Replies and changes overtake each other on the way. Whatever says what an object is like comes
//! with a [`Stamp`]: a number that the source took *before* it looked. Of two that are about the
//! same name, or the same object, the one with the higher stamp counts. It may be the older look,
//! but then what happened in between is a change of its own, with a higher stamp, still to come.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::mpsc;

/// Rises with every look at the files; see the module's text. 0 is older than anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub u64);

/// Something that was true when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<T> {
    /// When that was, in the source's own count.
    pub stamp: Stamp,
    /// What was seen.
    pub what: T,
}

/// A file or directory itself, whatever its names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// The file system that it is on.
    pub device: u64,
    /// Its number there. Numbers of what was removed are used again.
    pub inode: u64,
    /// When it was made, nanoseconds since 1970, where the file system tells; else 0. With it a
    /// number that was used again is another object.
    pub born_ns: i64,
}

/// Where something is and what must be there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Below the root, without `.` and `..`; empty for the root itself.
    pub path: PathBuf,
    /// What must be there: with another device or inode the request is [`SourceError::Stale`].
    pub object: ObjectId,
}

/// A file that is open in the source. The filesystem chooses the number and never uses it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u64);

/// What kind of object it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharDevice,
}

/// What `stat` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Which object.
    pub object: ObjectId,
    /// Its kind.
    pub kind: FileKind,
    /// Twelve permission bits.
    pub mode: u16,
    /// Number of names.
    pub links: u32,
    /// Owner, as a number of the source.
    pub uid: u32,
    /// Group, as a number of the source.
    pub gid: u32,
    /// Device number of a device.
    pub rdev: u32,
    /// Bytes.
    pub size: u64,
    /// Bytes on the disk, in blocks of 512.
    pub blocks: u64,
    /// Last read.
    pub accessed: SystemTime,
    /// Last change of content.
    pub modified: SystemTime,
    /// Last change of anything.
    pub changed: SystemTime,
}

/// One name of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Any bytes but `/` and NUL, at most 255; neither `.` nor `..`.
    pub name: OsString,
    /// What it means.
    pub attributes: Attributes,
    /// Of a symbolic link: the target, as it is. Nothing if it could not be read.
    pub target: Option<OsString>,
}

/// All names of one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Where the directory is.
    pub path: PathBuf,
    /// The directory's own attributes.
    pub attributes: Attributes,
    /// In no order.
    pub entries: Vec<Entry>,
    /// Changes in it are told from now on. If not, it has to be looked at again and again.
    pub followed: bool,
}

/// A file's whole content, or why there is none.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Counts the files that were asked for, from 0.
    pub index: usize,
    /// The content and what the file was like; the two fit each other.
    pub content: Result<Seen<(Attributes, Bytes)>, SourceError>,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenHow {
    /// It is read.
    pub read: bool,
    /// It is written.
    pub write: bool,
    /// Every write goes to its end.
    pub append: bool,
    /// It is made empty.
    pub truncate: bool,
    /// Of a new file: it must not be there yet.
    pub exclusive: bool,
}

/// Whose a new object is, and who may do what with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Twelve permission bits; the caller's umask has been applied.
    pub mode: u16,
    /// Owner and group, as numbers of the source; nothing: the source's own.
    pub ids: Option<(u32, u32)>,
}

/// What to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Make {
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Symlink(OsString),
    /// A FIFO, a socket, a device with this number, or a file that is not opened.
    Node(FileKind, u32),
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The source's own clock.
    Now,
    /// This one.
    At(SystemTime),
}

/// What to change of an object; nothing of it: left as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttributes {
    /// Twelve permission bits.
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Bytes.
    pub size: Option<u64>,
    /// Last read.
    pub accessed: Option<SetTime>,
    /// Last change of content.
    pub modified: Option<SetTime>,
}

/// What a change of a directory has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The object that was made, linked, moved or removed; nothing if it is gone for good.
    pub object: Option<Attributes>,
    /// The directory that it is, or was, in.
    pub directory: Attributes,
    /// Of a move: the directory that it was in before.
    pub before: Option<Attributes>,
}

/// How room for a file is made or taken away (`fallocate`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// There is room, and the file becomes as long as that.
    Extend,
    /// There is room beyond its end.
    Keep,
    /// A hole, as zeros; the size stays.
    Hole,
    /// Zeros; the size grows if need be.
    Zeros,
}

/// What to look for in a sparse file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// The next byte that is not in a hole.
    Data,
    /// The next hole; the end of a file is one.
    Hole,
}

/// How much room there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Blocks.
    pub blocks: u64,
    /// Free ones.
    pub blocks_free: u64,
    /// Free ones that anybody may have.
    pub blocks_available: u64,
    /// Objects that there may be.
    pub files: u64,
    /// How many more there may be.
    pub files_free: u64,
    /// Bytes of the longest name.
    pub name_bytes_max: u32,
}

/// How soon something is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody waits for it.
    Now,
    /// Somebody may want it soon: it must not be in the way of the other.
    Ahead,
}

/// What is read: an open file, or one at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It is open.
    Open(Handle),
    /// It is opened for reading by this request and stays open as this handle.
    OpenAs(Handle, Place),
    /// It is opened for this request only.
    At(Place),
}

/// Something changed in the source, or became another source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are the large one")]
pub enum Change {
    /// A name of a directory that is followed: it is new, gone, means another object, or the object
    /// changed. It is told of what the filesystem itself did, too.
    Entry {
        /// Where the directory is.
        directory: PathBuf,
        /// The directory's own attributes now, if they could be read.
        directory_attributes: Option<Attributes>,
        /// The name.
        name: OsString,
        /// What it means now; nothing: it is gone.
        entry: Option<Entry>,
        /// The content may have changed, whatever the times say.
        content: bool,
        /// When it was looked at.
        stamp: Stamp,
    },
    /// Too much at once to tell, or it cannot be followed any more: nothing is known of what is at
    /// or below this path, and it has to be listed again.
    Below(PathBuf),
    /// The source could be reached again after it could not: changes may have been missed anywhere.
    /// Open handles are open still.
    Missed,
    /// It is another source: everything that was known, and every handle, means nothing any more.
    /// The root's attributes are given.
    Anew(Seen<Attributes>),
}

/// Why a request failed. [`crate::errno`] turns each into one number, in one exhaustive match.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// No such name or object (any more).
    #[error("no such file")]
    NotFound,
    /// Another object is there, or the handle is not open (any more).
    #[error("another object is there by now")]
    Stale,
    /// The name is taken.
    #[error("it exists")]
    Exists,
    /// The directory has entries.
    #[error("the directory is not empty")]
    NotEmpty,
    /// A directory where a file is needed.
    #[error("it is a directory")]
    IsDirectory,
    /// A file where a directory is needed.
    #[error("it is no directory")]
    NotDirectory,
    /// The permission bits do not allow it.
    #[error("permission denied")]
    Denied,
    /// Only its owner, or root, may do that.
    #[error("operation not permitted")]
    NotPermitted,
    /// The source, or the mount, is read-only.
    #[error("it is read-only")]
    ReadOnly,
    /// No room.
    #[error("no room")]
    NoSpace,
    /// No room within the owner's quota.
    #[error("the quota is used up")]
    Quota,
    /// The file would be too large.
    #[error("the file would be too large")]
    TooLarge,
    /// The object has as many names as it can have.
    #[error("too many links")]
    TooManyLinks,
    /// The name, or the path, is too long.
    #[error("the name is too long")]
    NameTooLong,
    /// A symbolic link is in the way.
    #[error("a symbolic link is in the way")]
    Loop,
    /// The two are on different file systems.
    #[error("it is on another file system")]
    OtherDevice,
    /// Something uses it: a mount point, the source's own root.
    #[error("it is in use")]
    Busy,
    /// A program that runs cannot be written.
    #[error("it is a program that runs")]
    Running,
    /// There is nothing there, or nobody at the other end (`ENXIO`).
    #[error("there is nothing there")]
    Nothing,
    /// It makes no sense.
    #[error("invalid argument")]
    Invalid,
    /// The source has no more file descriptors or memory.
    #[error("the source has no more resources")]
    Exhausted,
    /// The source cannot do this at all.
    #[error("not supported")]
    Unsupported,
    /// The source could not be reached within the deadline; what it did is not known.
    #[error("the sandbox cannot be reached")]
    Unreachable,
    /// Anything else, for the log.
    #[error("{0}")]
    Failed(String),
}

/// What a request comes to.
pub type Answer<T> = Result<T, SourceError>;

/// The files of a sandbox, or of a test.
///
/// No request blocks its thread. Each ends within the source's own deadline, with
/// [`SourceError::Unreachable`] if it must: a request that the kernel waits for cannot be killed.
/// Requests are carried out side by side: whoever needs one before another waits for it. Reading
/// requests may be repeated freely. A changing one that fails with `Unreachable` may have been
/// carried out; the source itself repeats only what it knows not to have been.
///
/// What comes from a source is not to be trusted: names, sizes and counts are checked by whoever
/// uses them.
pub trait Source: Send + Sync + 'static {
    /// The root directory; its object never changes but with [`Change::Anew`].
    fn root(&self) -> impl Future<Output = Answer<Seen<Attributes>>> + Send;

    /// Lists a directory and, nearest first, what is below it, until about `entries_max` entries
    /// are listed; always at least the directory itself, and that one first. Directories of other
    /// file systems are not gone into. What is listed is followed, if it can be.
    fn list(&self, directory: Place, entries_max: usize) -> mpsc::Receiver<Answer<Seen<Listing>>>;

    /// Changes in these directories need not be told any more.
    fn forget(&self, directories: Vec<PathBuf>);

    /// What a name means, where that is not followed.
    fn look(
        &self,
        directory: Place,
        name: OsString,
    ) -> impl Future<Output = Answer<Seen<Entry>>> + Send;

    /// The attributes of an open file, or of what is at a place.
    fn attributes(
        &self,
        place: Place,
        open: Option<Handle>,
    ) -> impl Future<Output = Answer<Seen<Attributes>>> + Send;

    /// Bytes of a file from `offset`; fewer than `length` only at its end. At most 1 MiB.
    fn read(
        &self,
        file: Reading,
        offset: u64,
        length: u32,
        urgency: Urgency,
    ) -> impl Future<Output = Answer<Bytes>> + Send;

    /// The whole content of many small files, in any order, one answer for each. What is larger
    /// than 1 MiB by now is [`SourceError::TooLarge`].
    fn fetch(&self, files: Vec<Place>) -> mpsc::Receiver<Fetched>;

    /// Opens a file.
    fn open(
        &self,
        place: Place,
        handle: Handle,
        how: OpenHow,
    ) -> impl Future<Output = Answer<Seen<Attributes>>> + Send;

    /// Makes a file if it is not there, and opens it.
    fn create(
        &self,
        directory: Place,
        name: OsString,
        handle: Handle,
        how: OpenHow,
        owner: Owner,
    ) -> impl Future<Output = Answer<Seen<Changed>>> + Send;

    /// Closes an open file. Nobody waits for it.
    fn close(&self, handle: Handle);

    /// Writes all of `data` (at most 1 MiB) at `offset`, or at the end of a file that was opened to
    /// append; on return it is in the source.
    fn write(
        &self,
        handle: Handle,
        offset: u64,
        data: Bytes,
    ) -> impl Future<Output = Answer<Seen<Attributes>>> + Send;

    /// Makes what was written durable.
    fn sync(
        &self,
        handle: Handle,
        data_only: bool,
    ) -> impl Future<Output = Answer<Seen<Attributes>>> + Send;

    /// Makes room in a file, or takes it away.
    fn allocate(
        &self,
        handle: Handle,
        how: Allocate,
        offset: u64,
        length: u64,
    ) -> impl Future<Output = Answer<Seen<Attributes>>> + Send;

    /// Where the next data, or hole, of a file is; [`SourceError::Nothing`] past its end.
    fn seek(
        &self,
        file: Reading,
        offset: u64,
        what: Seek,
    ) -> impl Future<Output = Answer<u64>> + Send;

    /// Changes attributes of what is at a place; the size of an open file by its handle.
    fn set_attributes(
        &self,
        place: Place,
        open: Option<Handle>,
        change: SetAttributes,
    ) -> impl Future<Output = Answer<Seen<Attributes>>> + Send;

    /// Makes something that is not opened; never replaces anything.
    fn make(
        &self,
        directory: Place,
        name: OsString,
        what: Make,
        owner: Owner,
    ) -> impl Future<Output = Answer<Seen<Changed>>> + Send;

    /// Gives an object (no directory) one more name.
    fn link(
        &self,
        object: Place,
        directory: Place,
        name: OsString,
    ) -> impl Future<Output = Answer<Seen<Changed>>> + Send;

    /// Gives an object another name; with `no_replace` one that is not taken.
    fn rename(
        &self,
        from: (Place, OsString),
        to: (Place, OsString),
        no_replace: bool,
    ) -> impl Future<Output = Answer<Seen<Changed>>> + Send;

    /// Removes a name: of a directory that is empty, or of anything else.
    fn remove(
        &self,
        directory: Place,
        name: OsString,
        is_directory: bool,
    ) -> impl Future<Output = Answer<Seen<Changed>>> + Send;

    /// How much room there is.
    fn space(&self) -> impl Future<Output = Answer<Space>> + Send;

    /// Tells changes in order from now on, from a thread of the source's, which must not be held up.
    fn subscribe(&self, tell: Box<dyn Fn(Vec<Change>) + Send + Sync>);
}
