//! The requests of a [`DirectorySource`].

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::{AtFlags, FallocateFlags, RenameFlags, SeekFrom};
use tokio::sync::mpsc;

use super::disk::{attributes_of, error_of, io_error};
use super::{DirectorySource, ReadAsked, Request, WriteAsked, remember};
use crate::source::{
    Allocate, Answer, Attributes, Change, Changed, Entry, Fetched, FileKind, Handle, Listing, Make,
    OpenHow, Owner, Place, Reading, Seek, Seen, SetAttributes, Source, SourceError, Space, Urgency,
};

/// Bytes of one read, one write, one fetched file.
const CONTENT_BYTES_MAX: u64 = 1024 * 1024;
/// Answers that wait for a slow reader of a list or of fetched files.
const ANSWERS_COUNT_MAX: usize = 64;

impl DirectorySource {
    /// Counts a request and lets its way there pass.
    async fn begin(&self, request: Request) -> Answer<()> {
        *self.state().counts.entry(request).or_default() += 1;
        let behaviour = self.state().behaviour;
        let mut cut = self.shared.outage.subscribe();
        let reachable = async { cut.wait_for(|cut| !cut).await.is_ok() };
        if tokio::time::timeout(behaviour.deadline, reachable).await.is_err() {
            return Err(SourceError::Unreachable);
        }
        self.half_way().await;
        let mut state = self.state();
        match state.faults.iter().position(|(kind, _)| *kind == request) {
            Some(at) => Err(state.faults.remove(at).1),
            None => Ok(()),
        }
    }

    async fn half_way(&self) {
        let behaviour = self.state().behaviour;
        let jitter = self.any_below(behaviour.jitter.as_micros() as u64 + 1);
        let half = (behaviour.latency + Duration::from_micros(jitter)) / 2;
        if !half.is_zero() {
            tokio::time::sleep(half).await;
        }
    }

    /// Does one request: the way there, the act, and the way back.
    async fn answer<T>(
        &self,
        request: Request,
        act: impl FnOnce(&Self) -> Answer<T>,
    ) -> Answer<Seen<T>> {
        self.begin(request).await?;
        let stamp = self.stamp();
        let what = act(self)?;
        self.half_way().await;
        Ok(Seen { stamp, what })
    }

    fn keep(&self, handle: Handle, file: File, path: PathBuf) {
        self.state().handles.insert(handle, (Arc::new(file), path));
    }

    fn file_of(&self, reading: Reading) -> Answer<Arc<File>> {
        let how = OpenHow { read: true, ..OpenHow::default() };
        match reading {
            Reading::Open(handle) => Ok(self.handle(handle)?.0),
            Reading::OpenAs(handle, place) => {
                let (file, _) = self.disk().open_file(&place, how)?;
                self.keep(handle, file, place.path);
                Ok(self.handle(handle)?.0)
            }
            Reading::At(place) => Ok(Arc::new(self.disk().open_file(&place, how)?.0)),
        }
    }

    /// What a change in a directory has led to, told as well.
    fn changed(&self, directory: &Path, name: &OsStr, content: bool) -> Answer<Changed> {
        let disk = self.disk();
        let changed = Changed {
            object: disk.entry(directory, name).ok().map(|entry| entry.attributes),
            directory: disk.attributes(directory)?,
            before: None,
        };
        self.echo(&directory.join(name), content);
        Ok(changed)
    }

    async fn list_to(
        self,
        from: Place,
        entries_max: usize,
        to: mpsc::Sender<Answer<Seen<Listing>>>,
    ) {
        if let Err(error) = self.begin(Request::List).await {
            let _ = to.send(Err(error)).await;
            return;
        }
        let mut waiting = std::collections::VecDeque::from([from.path.clone()]);
        let mut listed = 0;
        let mut device = None;
        self.half_way().await;
        while let Some(path) = waiting.pop_front() {
            let is_first = device.is_none();
            if !is_first && listed >= entries_max {
                return;
            }
            let stamp = self.stamp();
            let followed = self.state().behaviour.followed;
            let checked = if is_first { self.disk().parent(&from).map(drop) } else { Ok(()) };
            let listing = match checked.and_then(|()| self.disk().list(&path, followed)) {
                Ok(listing) => listing,
                Err(error) if is_first => {
                    let _ = to.send(Err(error)).await;
                    return;
                }
                Err(_) => continue,
            };
            let on = *device.get_or_insert(listing.attributes.object.device);
            listed += listing.entries.len();
            let below = listing.entries.iter().filter(|entry| {
                entry.attributes.kind == FileKind::Directory && entry.attributes.object.device == on
            });
            waiting.extend(below.map(|entry| path.join(&entry.name)));
            if to.send(Ok(Seen { stamp, what: listing })).await.is_err() {
                return;
            }
        }
    }

    async fn fetch_to(self, files: Vec<Place>, to: mpsc::Sender<Fetched>) {
        let begun = self.begin(Request::Fetch).await;
        self.half_way().await;
        for (index, place) in files.into_iter().enumerate() {
            let stamp = self.stamp();
            let content = begun.clone().and_then(|()| self.whole(&place));
            let content = content.map(|what| Seen { stamp, what });
            if to.send(Fetched { index, content }).await.is_err() {
                return;
            }
        }
    }

    fn whole(&self, place: &Place) -> Answer<(Attributes, Bytes)> {
        let how = OpenHow { read: true, ..OpenHow::default() };
        let (file, attributes) = self.disk().open_file(place, how)?;
        if attributes.size > CONTENT_BYTES_MAX {
            return Err(SourceError::TooLarge);
        }
        let content = read_from(&file, 0, attributes.size as usize)?;
        Ok((attributes, content))
    }
}

/// A read or write that is being answered, also if its end is not waited for.
struct Counted<'a>(&'a AtomicU64);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn read_from(file: &File, offset: u64, length: usize) -> Answer<Bytes> {
    let mut content = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut content[filled..], offset + filled as u64).map_err(io_error)? {
            0 => break,
            count => filled += count,
        }
    }
    content.truncate(filled);
    Ok(content.into())
}

impl Source for DirectorySource {
    async fn root(&self) -> Answer<Seen<Attributes>> {
        self.answer(Request::Root, |source| source.disk().attributes(Path::new(""))).await
    }

    fn list(&self, directory: Place, entries_max: usize) -> mpsc::Receiver<Answer<Seen<Listing>>> {
        let (to, answers) = mpsc::channel(ANSWERS_COUNT_MAX);
        tokio::spawn(self.clone().list_to(directory, entries_max, to));
        answers
    }

    fn forget(&self, _directories: Vec<PathBuf>) {
        *self.state().counts.entry(Request::Forget).or_default() += 1;
    }

    async fn look(&self, directory: Place, name: OsString) -> Answer<Seen<Entry>> {
        self.answer(Request::Look, |source| source.disk().look(&directory, &name)).await
    }

    async fn attributes(&self, place: Place, open: Option<Handle>) -> Answer<Seen<Attributes>> {
        self.answer(Request::Attributes, |source| match open {
            Some(handle) => attributes_of(source.handle(handle)?.0),
            None => source.disk().attributes_at(&place),
        })
        .await
    }

    async fn read(
        &self,
        file: Reading,
        offset: u64,
        length: u32,
        urgency: Urgency,
    ) -> Answer<Bytes> {
        let at_once = 1 + self.shared.reading.fetch_add(1, Ordering::Relaxed);
        let _counted = Counted(&self.shared.reading);
        let asked = ReadAsked { offset, length, urgency, at_once };
        remember(&mut self.state().reads, asked);
        let answer = self.answer(Request::Read, |source| {
            if u64::from(length) > CONTENT_BYTES_MAX {
                return Err(SourceError::Invalid);
            }
            read_from(&*source.file_of(file)?, offset, length as usize)
        });
        answer.await.map(|seen| seen.what)
    }

    fn fetch(&self, files: Vec<Place>) -> mpsc::Receiver<Fetched> {
        let (to, answers) = mpsc::channel(ANSWERS_COUNT_MAX);
        remember(&mut self.state().fetches, files.len());
        tokio::spawn(self.clone().fetch_to(files, to));
        answers
    }

    async fn open(&self, place: Place, handle: Handle, how: OpenHow) -> Answer<Seen<Attributes>> {
        self.answer(Request::Open, |source| {
            let (file, attributes) = source.disk().open_file(&place, how)?;
            source.keep(handle, file, place.path.clone());
            if how.truncate {
                source.echo(&place.path, true);
            }
            Ok(attributes)
        })
        .await
    }

    async fn create(
        &self,
        directory: Place,
        name: OsString,
        handle: Handle,
        how: OpenHow,
        owner: Owner,
    ) -> Answer<Seen<Changed>> {
        self.answer(Request::Create, |source| {
            let (file, is_new) = source.disk().create_file(&directory, &name, how, owner)?;
            let attributes = attributes_of(&file)?;
            source.keep(handle, file, directory.path.join(&name));
            let changed = source.changed(&directory.path, &name, is_new || how.truncate)?;
            Ok(Changed { object: Some(attributes), ..changed })
        })
        .await
    }

    fn close(&self, handle: Handle) {
        let mut state = self.state();
        *state.counts.entry(Request::Close).or_default() += 1;
        state.handles.remove(&handle);
    }

    async fn write(&self, handle: Handle, offset: u64, data: Bytes) -> Answer<Seen<Attributes>> {
        let at_once = 1 + self.shared.writing.fetch_add(1, Ordering::Relaxed);
        let _counted = Counted(&self.shared.writing);
        let asked = WriteAsked { offset, length: data.len(), at_once };
        remember(&mut self.state().writes, asked);
        self.answer(Request::Write, |source| {
            if data.len() as u64 > CONTENT_BYTES_MAX {
                return Err(SourceError::Invalid);
            }
            let (file, path) = source.handle(handle)?;
            // A file that was opened to append goes to its end, whatever the offset.
            file.write_all_at(&data, offset).map_err(io_error)?;
            source.echo(&path, true);
            attributes_of(file)
        })
        .await
    }

    async fn sync(&self, handle: Handle, _data_only: bool) -> Answer<Seen<Attributes>> {
        self.answer(Request::Sync, |source| attributes_of(source.handle(handle)?.0)).await
    }

    async fn allocate(
        &self,
        handle: Handle,
        how: Allocate,
        offset: u64,
        length: u64,
    ) -> Answer<Seen<Attributes>> {
        self.answer(Request::Allocate, |source| {
            let (file, path) = source.handle(handle)?;
            let mode = match how {
                Allocate::Extend => FallocateFlags::empty(),
                Allocate::Keep => FallocateFlags::KEEP_SIZE,
                Allocate::Hole => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                Allocate::Zeros => FallocateFlags::ZERO_RANGE,
            };
            rustix::fs::fallocate(&*file, mode, offset, length).map_err(error_of)?;
            source.echo(&path, true);
            attributes_of(file)
        })
        .await
    }

    async fn seek(&self, file: Reading, offset: u64, what: Seek) -> Answer<u64> {
        let answer = self.answer(Request::Seek, |source| {
            let to = match what {
                Seek::Data => SeekFrom::Data(offset),
                Seek::Hole => SeekFrom::Hole(offset),
            };
            rustix::fs::seek(&*source.file_of(file)?, to).map_err(error_of)
        });
        answer.await.map(|seen| seen.what)
    }

    async fn set_attributes(
        &self,
        place: Place,
        open: Option<Handle>,
        change: SetAttributes,
    ) -> Answer<Seen<Attributes>> {
        self.answer(Request::SetAttributes, |source| {
            let open = open.map(|handle| source.handle(handle)).transpose()?;
            let file = open.as_ref().map(|(file, _)| &**file);
            source.disk().set(&place, file, change)?;
            let path = open.as_ref().map_or(&place.path, |(_, path)| path);
            source.echo(path, change.size.is_some());
            match file {
                Some(file) => attributes_of(file),
                None => source.disk().attributes_at(&place),
            }
        })
        .await
    }

    async fn make(
        &self,
        directory: Place,
        name: OsString,
        what: Make,
        owner: Owner,
    ) -> Answer<Seen<Changed>> {
        self.answer(Request::Make, |source| {
            source.disk().make(&directory, &name, &what, owner)?;
            source.changed(&directory.path, &name, false)
        })
        .await
    }

    async fn link(&self, object: Place, directory: Place, name: OsString) -> Answer<Seen<Changed>> {
        self.answer(Request::Link, |source| {
            source.disk().link(&object, &directory, &name)?;
            source.echo(&object.path, false);
            source.changed(&directory.path, &name, false)
        })
        .await
    }

    async fn rename(
        &self,
        from: (Place, OsString),
        to: (Place, OsString),
        no_replace: bool,
    ) -> Answer<Seen<Changed>> {
        self.answer(Request::Rename, |source| {
            let disk = source.disk();
            let (old, new) = (disk.parent(&from.0)?, disk.parent(&to.0)?);
            let flags = if no_replace { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
            rustix::fs::renameat_with(old, &from.1, new, &to.1, flags).map_err(error_of)?;
            source.echo(&from.0.path.join(&from.1), false);
            let changed = source.changed(&to.0.path, &to.1, false)?;
            Ok(Changed { before: disk.attributes(&from.0.path).ok(), ..changed })
        })
        .await
    }

    async fn remove(
        &self,
        directory: Place,
        name: OsString,
        is_directory: bool,
    ) -> Answer<Seen<Changed>> {
        self.answer(Request::Remove, |source| {
            let disk = source.disk();
            let parent = disk.parent(&directory)?;
            let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            // What it was is held on to, so that what is left of it can be told.
            let gone = disk.hold(&directory.path.join(&name)).ok();
            rustix::fs::unlinkat(parent, &name, flags).map_err(error_of)?;
            let left = gone.and_then(|gone| attributes_of(gone).ok());
            let changed = source.changed(&directory.path, &name, false)?;
            Ok(Changed { object: left.filter(|left| left.links > 0), ..changed })
        })
        .await
    }

    async fn space(&self) -> Answer<Space> {
        let answer = self.answer(Request::Space, |source| {
            let of = source.disk().space()?;
            Ok(Space {
                block_bytes: of.f_frsize as u32,
                blocks: of.f_blocks,
                blocks_free: of.f_bfree,
                blocks_available: of.f_bavail,
                files: of.f_files,
                files_free: of.f_ffree,
                name_bytes_max: of.f_namemax as u32,
            })
        });
        answer.await.map(|seen| seen.what)
    }

    fn subscribe(&self, tell: Box<dyn Fn(Vec<Change>) + Send + Sync>) {
        self.state().tell = Some(tell.into());
    }
}
