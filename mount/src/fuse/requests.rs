//! Each request, as one call of the filesystem and one reply.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fuser::{
    BsdFileFlags, Errno, FileHandle, FopenFlags, Generation, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek,
    ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::Adapter;
use super::attr::{
    NOTHING, errno, file_attr, file_type, kind_of_mode, open_how, permissions, set_time,
};
use super::replies::{
    allocate_how, attributes, caller, done, entry, made, open_flags, ours, seek_what,
};
use crate::filesystem::{Found, Row};
use crate::notify::LOCAL_HANDLE;
use crate::source::{Make, SetAttributes, Source};

/// Bytes of one write: what one request of the kernel can have.
const WRITE_BYTES_MAX: u32 = 1024 * 1024;
/// Reads ahead, and the like, that the kernel has under way at once.
const BACKGROUND_COUNT_MAX: u16 = 64;

impl<S: Source> fuser::Filesystem for Adapter<S> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // The kernel is not to keep targets of symbolic links: one that moved may lead out of the
        // mount, and until it is told so, it would follow it.
        let wanted = [
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_BIG_WRITES,
            InitFlags::FUSE_MAX_PAGES,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_EXPLICIT_INVAL_DATA,
            InitFlags::FUSE_ASYNC_DIO,
        ];
        for flag in wanted {
            if config.add_capabilities(flag).is_err() {
                tracing::debug!(?flag, "the kernel cannot do this");
            }
        }
        if !config.capabilities().contains(InitFlags::FUSE_EXPLICIT_INVAL_DATA) {
            let _ = config.add_capabilities(InitFlags::FUSE_AUTO_INVAL_DATA);
        }
        // Each says the nearest value that is possible, where this one is not.
        let _ = config.set_max_write(WRITE_BYTES_MAX);
        let _ = config.set_max_background(BACKGROUND_COUNT_MAX);
        let _ = config.set_time_granularity(Duration::from_nanos(1));
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if self.is_local(request) {
            return self.lookup_locally(parent.0, name, reply);
        }
        let (fs, name) = (Arc::clone(&self.filesystem), name.to_owned());
        self.run(async move {
            match fs.lookup(parent.0, &name).await {
                Ok(Found::Node(shown)) => entry(reply, &shown),
                Ok(Found::Absent(ttl)) if ttl.is_zero() => reply.error(Errno::ENOENT),
                Ok(Found::Absent(ttl)) => reply.entry(&ttl, &NOTHING, Generation(0)),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn forget(&self, _: &Request, node: INodeNo, count: u64) {
        self.filesystem.forget(std::iter::once((node.0, count)));
    }

    fn getattr(&self, request: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        if self.is_local(request) {
            return self.getattr_locally(node.0, reply);
        }
        let fs = Arc::clone(&self.filesystem);
        self.run(async move { attributes(reply, fs.getattr(node.0).await) });
    }

    fn setattr(
        &self,
        request: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if self.is_local(request) {
            return self.getattr_locally(node.0, reply);
        }
        let fs = Arc::clone(&self.filesystem);
        let change = SetAttributes {
            mode: mode.map(permissions),
            uid,
            gid,
            size,
            accessed: accessed.map(set_time),
            modified: modified.map(set_time),
        };
        let handle = handle.map(ours);
        self.run_after_writes(async move {
            attributes(reply, fs.setattr(node.0, handle, change).await)
        });
    }

    fn readlink(&self, _: &Request, node: INodeNo, reply: ReplyData) {
        let fs = Arc::clone(&self.filesystem);
        self.run(async move {
            match fs.readlink(node.0).await {
                Ok(target) => reply.data(target.as_encoded_bytes()),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        match kind_of_mode(mode) {
            Some(kind) => self.make(request, parent, name, Make::Node(kind, rdev), mode, reply),
            None => reply.error(Errno::EPERM),
        }
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        self.make(request, parent, name, Make::Directory, mode, reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let what = Make::Symlink(OsString::from(target));
        self.make(request, parent, name, what, 0o777, reply);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(request, parent, name, false, reply);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(request, parent, name, true, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to_parent: INodeNo,
        to_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let no_replace = flags.contains(RenameFlags::RENAME_NOREPLACE);
        let fs = Arc::clone(&self.filesystem);
        let (name, to_name) = (name.to_owned(), to_name.to_owned());
        self.run_after_writes(async move {
            let (from, to) = ((parent.0, &*name), (to_parent.0, &*to_name));
            done(reply, fs.rename(from, to, no_replace).await);
        });
    }

    fn link(&self, _: &Request, node: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (fs, name) = (Arc::clone(&self.filesystem), name.to_owned());
        self.run_after_writes(async move { made(reply, fs.link(node.0, parent.0, &name).await) });
    }

    fn open(&self, request: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if self.is_local(request) {
            return reply.opened(FileHandle(LOCAL_HANDLE), FopenFlags::FOPEN_KEEP_CACHE);
        }
        let fs = Arc::clone(&self.filesystem);
        let how = open_how(flags);
        self.run_after_writes(async move {
            match fs.open(node.0, how).await {
                Ok(opened) => {
                    reply.opened(FileHandle(opened.handle.0), open_flags(opened, how.write));
                }
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        if self.is_local(request) {
            return self.create_locally(parent.0, name, reply);
        }
        let (fs, name) = (Arc::clone(&self.filesystem), name.to_owned());
        let how = open_how(OpenFlags(flags));
        let caller = caller(request, mode);
        self.run(async move {
            match fs.create(parent.0, &name, how, caller).await {
                Ok((shown, opened)) => reply.created(
                    &shown.attributes_ttl.min(shown.entry_ttl),
                    &file_attr(&shown),
                    Generation(shown.generation),
                    FileHandle(opened.handle.0),
                    open_flags(opened, how.write),
                ),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let fs = Arc::clone(&self.filesystem);
        self.run_after_writes(async move {
            match fs.read(ours(handle), offset, size).await {
                Ok(data) => reply.data(&data),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let fs = Arc::clone(&self.filesystem);
        // The thread's buffer is used again as soon as this returns.
        let data = Bytes::copy_from_slice(data);
        self.run_after_writes(async move {
            match fs.write(ours(handle), offset, data).await {
                Ok(count) => reply.written(count),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, handle: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        if handle.0 == LOCAL_HANDLE {
            return reply.ok();
        }
        let fs = Arc::clone(&self.filesystem);
        self.run_after_writes(async move { done(reply, fs.flush(ours(handle)).await) });
    }

    fn release(
        &self,
        _: &Request,
        node: INodeNo,
        handle: FileHandle,
        flags: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        if handle.0 != LOCAL_HANDLE {
            let writes = flags.acc_mode() != OpenAccMode::O_RDONLY;
            self.filesystem.release(node.0, ours(handle), writes);
        }
        reply.ok();
    }

    fn fsync(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        let fs = Arc::clone(&self.filesystem);
        self.run_after_writes(async move { done(reply, fs.fsync(ours(handle), data_only).await) });
    }

    fn opendir(&self, _: &Request, node: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let fs = Arc::clone(&self.filesystem);
        self.run(async move {
            match fs.opendir(node.0).await {
                Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let fs = Arc::clone(&self.filesystem);
        self.run(async move {
            let take = |row: &Row| {
                let node = INodeNo(row.shown.node);
                !reply.add(node, row.offset, file_type(row.shown.attributes.kind), &*row.name)
            };
            match fs.readdir(handle.0, offset, false, take).await {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn readdirplus(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let fs = Arc::clone(&self.filesystem);
        self.run(async move {
            let take = |row: &Row| {
                let shown = &row.shown;
                !reply.add(
                    INodeNo(shown.node),
                    row.offset,
                    &*row.name,
                    &shown.attributes_ttl.min(shown.entry_ttl),
                    &file_attr(shown),
                    Generation(shown.generation),
                )
            };
            match fs.readdir(handle.0, offset, true, take).await {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.filesystem.releasedir(handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        // Names are made and removed in the source, and only then here.
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let space = self.filesystem.statfs();
        let block = space.block_bytes.max(512);
        reply.statfs(
            space.blocks,
            space.blocks_free,
            space.blocks_available,
            space.files,
            space.files_free,
            block,
            space.name_bytes_max.clamp(1, 255),
            block,
        );
    }

    // Without an answer the kernel says ENOTSUP from then on, and does not ask again.
    fn setxattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: &[u8],
        _: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        _: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let Some(how) = allocate_how(mode) else { return reply.error(Errno::EOPNOTSUPP) };
        let fs = Arc::clone(&self.filesystem);
        self.run_after_writes(async move {
            done(reply, fs.allocate(node.0, ours(handle), how, offset, length).await);
        });
    }

    fn lseek(
        &self,
        _: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let (Ok(offset), Some(what)) = (u64::try_from(offset), seek_what(whence)) else {
            return reply.error(Errno::EINVAL);
        };
        let fs = Arc::clone(&self.filesystem);
        self.run_after_writes(async move {
            match fs.seek(node.0, ours(handle), offset, what).await {
                Ok(at) => reply.offset(i64::try_from(at).unwrap_or(i64::MAX)),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }
}

impl<S: Source> Adapter<S> {
    fn make(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        what: Make,
        mode: u32,
        reply: ReplyEntry,
    ) {
        if self.is_local(request) {
            return self.make_locally(parent.0, name, reply);
        }
        let (fs, name) = (Arc::clone(&self.filesystem), name.to_owned());
        let caller = caller(request, mode);
        self.run(async move { made(reply, fs.make(parent.0, &name, what, caller).await) });
    }

    fn remove(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        is_directory: bool,
        reply: ReplyEmpty,
    ) {
        if self.is_local(request) {
            return self.remove_locally(parent.0, name, reply);
        }
        let (fs, name) = (Arc::clone(&self.filesystem), name.to_owned());
        self.run(async move { done(reply, fs.remove(parent.0, &name, is_directory).await) });
    }
}
