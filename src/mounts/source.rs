//! The files of a sandbox, as a filesystem wants them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use skync_agent::proto::files_reply::Reply;
use skync_agent::proto::files_request::Request;
use skync_agent::proto::{
    FilesAllocate, FilesForget, FilesLook, FilesOpen, FilesRead, FilesSeek, FilesSpaceRequest,
    FilesSync, FilesWrite,
};
use skync_mount::source::{
    Allocate, Attributes, Change, Changed, Entry, Fetched, Handle, Listing, Make, OpenHow, Owner,
    Place, Reading, Seek, Seen, SetAttributes, Space, Urgency,
};
use skync_mount::{Answer, Source, SourceError};
use tokio::runtime;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use super::ask::{Reach, Shared, Which};
use super::doubt::Changing;
use super::lane::Got;
use super::many;
use super::redial::Redial;
use super::wire::{self, PIECE_BYTES_MAX};
use super::{MountSettings, MountWay};

/// Directories that wait for whoever asked for them.
const LISTINGS_WAITING_MAX: usize = 64;
/// Contents that wait for whoever asked for them.
const CONTENTS_WAITING_MAX: usize = 256;
/// A mount that has ended is not waited for longer.
const END_PATIENCE: Duration = Duration::from_secs(4);
/// Bytes, about, of one message that says what is forgotten.
const FORGET_BYTES_MAX: usize = 256 << 10;

/// A sandbox's files, over the links of a session.
pub struct LinkSource {
    shared: Arc<Shared>,
    runtime: runtime::Handle,
    ending: Arc<Notify>,
    redial: Mutex<Option<JoinHandle<()>>>,
    /// Files that are open to append: what is written to them must not be written twice. A lock of
    /// its own, held for a moment, when such a file is opened or closed or its write is in doubt.
    appending: Mutex<std::collections::HashSet<Handle>>,
}

impl LinkSource {
    /// The files below a root, over each link that `ways` tells of; on the runtime that it is
    /// called in.
    ///
    /// # Errors
    /// If the machine has no random numbers: two mounts would be taken for one.
    pub fn new(settings: MountSettings, ways: watch::Receiver<MountWay>) -> std::io::Result<Self> {
        let mut mount = [0; 16];
        getrandom::fill(&mut mount).map_err(std::io::Error::other)?;
        let shared = Arc::new(Shared::new(settings.patience));
        let ending = Arc::new(Notify::new());
        let redial = Redial {
            shared: Arc::clone(&shared),
            ways,
            ending: Arc::clone(&ending),
            mount,
            root: wire::path_to_wire(&settings.root),
            known: None,
            round: 0,
        };
        let runtime = runtime::Handle::current();
        let redial = Mutex::new(Some(runtime.spawn(redial.run())));
        Ok(Self { shared, runtime, ending, redial, appending: Mutex::default() })
    }

    /// True while requests have to wait for a link.
    pub fn is_waiting(&self) -> bool {
        !matches!(self.shared.state.borrow().0, Reach::Open(_))
    }

    /// The mount is gone: the agent closes what it has open. Requests fail from now on.
    pub async fn end(&self) {
        let redial = self.redial.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.ending.notify_one();
        if let Some(mut redial) = redial
            && tokio::time::timeout(END_PATIENCE, &mut redial).await.is_err()
        {
            // Over a link that is as good as gone; the agent ends the mount by itself in a while.
            redial.abort();
        }
        self.shared.publish(Reach::Gone);
    }

    fn appending(&self) -> MutexGuard<'_, std::collections::HashSet<Handle>> {
        // One insert or remove at a time: it is whole after any panic.
        self.appending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the agent, if there is a link.
    fn tell(&self, request: Request) {
        if let Reach::Open(lanes) = &self.shared.state.borrow().0 {
            lanes.now.tell(request);
        }
    }
}

impl Drop for LinkSource {
    fn drop(&mut self) {
        let mut redial = self.redial.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(redial) = redial.take() {
            redial.abort();
        }
        // Lists that somebody still reads end with this.
        self.shared.publish(Reach::Gone);
    }
}

impl Source for LinkSource {
    async fn root(&self) -> Answer<Seen<Attributes>> {
        // It came with the streams.
        self.shared.lanes(&self.shared.term()).await?;
        self.shared.root_now().ok_or(SourceError::Unreachable)
    }

    fn list(&self, directory: Place, entries_max: usize) -> mpsc::Receiver<Answer<Seen<Listing>>> {
        let (send, receive) = mpsc::channel(LISTINGS_WAITING_MAX);
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn(many::list(shared, directory, entries_max, send));
        receive
    }

    fn forget(&self, directories: Vec<PathBuf>) {
        let (mut paths, mut bytes) = (Vec::new(), 0);
        for directory in &directories {
            bytes += directory.as_os_str().len();
            paths.push(wire::path_to_wire(directory));
            if bytes > FORGET_BYTES_MAX {
                let paths = std::mem::take(&mut paths);
                self.tell(Request::Forget(FilesForget { paths }));
                bytes = 0;
            }
        }
        if !paths.is_empty() {
            self.tell(Request::Forget(FilesForget { paths }));
        }
    }

    async fn look(&self, directory: Place, name: OsString) -> Answer<Seen<Entry>> {
        let look = || {
            let (directory, name) = (Some(wire::at(&directory)), wire::name_to_wire(&name));
            Request::Look(FilesLook { directory, name })
        };
        let reply = self.shared.ask(Which::Now, look).await?;
        self.shared.looked_up(reply, &name)
    }

    async fn attributes(&self, place: Place, open: Option<Handle>) -> Answer<Seen<Attributes>> {
        let ask = || Request::Attributes(wire::at_or_open(&place, open));
        self.shared.found(self.shared.ask(Which::Now, ask).await?)
    }

    async fn read(
        &self,
        file: Reading,
        offset: u64,
        length: u32,
        urgency: Urgency,
    ) -> Answer<Bytes> {
        let length_max = length as usize;
        if length_max > PIECE_BYTES_MAX {
            return Err(SourceError::Invalid);
        }
        let which = match urgency {
            Urgency::Now => Which::Now,
            Urgency::Ahead => Which::Ahead,
        };
        let read = || {
            let (file, open_as) = wire::reading(&file);
            Request::Read(FilesRead { file: Some(file), open_as, offset, length })
        };
        let term = self.shared.term();
        loop {
            if let Some(got) = self.shared.ask_for_data(&term, which, read, length_max).await? {
                return data(got, length_max);
            }
        }
    }

    fn fetch(&self, files: Vec<Place>) -> mpsc::Receiver<Fetched> {
        let (send, receive) = mpsc::channel(CONTENTS_WAITING_MAX);
        self.runtime.spawn(many::fetch(Arc::clone(&self.shared), files, send));
        receive
    }

    async fn open(&self, place: Place, handle: Handle, how: OpenHow) -> Answer<Seen<Attributes>> {
        if how.append {
            self.appending().insert(handle);
        }
        let open = || {
            let (file, how) = (Some(wire::at(&place)), Some(wire::how_to_wire(how)));
            Request::Open(FilesOpen { file, handle: handle.0, how })
        };
        self.shared.open_once(handle, open).await
    }

    async fn create(
        &self,
        directory: Place,
        name: OsString,
        handle: Handle,
        how: OpenHow,
        owner: Owner,
    ) -> Answer<Seen<Changed>> {
        if how.append {
            self.appending().insert(handle);
        }
        self.shared.change(Changing::Create { directory, name, handle, how, owner }).await
    }

    fn close(&self, handle: Handle) {
        self.appending().remove(&handle);
        self.shared.close(handle);
    }

    async fn write(&self, handle: Handle, offset: u64, data: Bytes) -> Answer<Seen<Attributes>> {
        if data.len() > PIECE_BYTES_MAX {
            return Err(SourceError::Invalid);
        }
        let write = || Request::Write(FilesWrite { handle: handle.0, offset, data: data.clone() });
        let term = self.shared.term();
        loop {
            if let Some(reply) = self.shared.ask_once(&term, Which::Writes, write).await? {
                return self.shared.found(reply);
            }
            if self.appending().contains(&handle) {
                return Err(SourceError::Unreachable);
            }
        }
    }

    async fn sync(&self, handle: Handle, data_only: bool) -> Answer<Seen<Attributes>> {
        let sync = || Request::Sync(FilesSync { handle: handle.0, data_only });
        self.shared.found(self.shared.ask(Which::Now, sync).await?)
    }

    async fn allocate(
        &self,
        handle: Handle,
        how: Allocate,
        offset: u64,
        length: u64,
    ) -> Answer<Seen<Attributes>> {
        let how = wire::room_to_wire(how).into();
        let allocate =
            || Request::Allocate(FilesAllocate { handle: handle.0, how, offset, length });
        self.shared.found(self.shared.ask(Which::Now, allocate).await?)
    }

    async fn seek(&self, file: Reading, offset: u64, what: Seek) -> Answer<u64> {
        let hole = what == Seek::Hole;
        let seek = || {
            let (file, _) = wire::reading(&file);
            Request::Seek(FilesSeek { file: Some(file), offset, hole })
        };
        wire::position(self.shared.ask(Which::Now, seek).await?)
    }

    async fn set_attributes(
        &self,
        place: Place,
        open: Option<Handle>,
        change: SetAttributes,
    ) -> Answer<Seen<Attributes>> {
        let set = || Request::Set(wire::set_to_wire(wire::at_or_open(&place, open), &change));
        self.shared.found(self.shared.ask(Which::Now, set).await?)
    }

    async fn make(
        &self,
        directory: Place,
        name: OsString,
        what: Make,
        owner: Owner,
    ) -> Answer<Seen<Changed>> {
        self.shared.change(Changing::Make { directory, name, what, owner }).await
    }

    async fn link(&self, object: Place, directory: Place, name: OsString) -> Answer<Seen<Changed>> {
        self.shared.change(Changing::Link { object, directory, name }).await
    }

    async fn rename(
        &self,
        from: (Place, OsString),
        to: (Place, OsString),
        no_replace: bool,
    ) -> Answer<Seen<Changed>> {
        self.shared.change(Changing::Rename { from, to, no_replace }).await
    }

    async fn remove(
        &self,
        directory: Place,
        name: OsString,
        is_directory: bool,
    ) -> Answer<Seen<Changed>> {
        self.shared.change(Changing::Remove { directory, name, is_directory }).await
    }

    async fn space(&self) -> Answer<Space> {
        let ask = || Request::Space(FilesSpaceRequest {});
        wire::space(self.shared.ask(Which::Now, ask).await?)
    }

    fn subscribe(&self, tell: Box<dyn Fn(Vec<Change>) + Send + Sync>) {
        self.shared.subscribe(Arc::from(tell));
    }
}

/// The bytes of a file that were asked for.
fn data(got: Got, length_max: usize) -> Answer<Bytes> {
    let last = match wire::whole(got.reply)? {
        Reply::Data(last) => last,
        other => return Err(wire::other_than(&other)),
    };
    let length = got.before.iter().map(Bytes::len).sum::<usize>() + last.len();
    if length > length_max {
        return Err(wire::bad("more than was asked for"));
    }
    if got.before.is_empty() {
        return Ok(last);
    }
    let mut whole = BytesMut::with_capacity(length);
    got.before.iter().for_each(|piece| whole.extend_from_slice(piece));
    whole.extend_from_slice(&last);
    Ok(whole.freeze())
}
