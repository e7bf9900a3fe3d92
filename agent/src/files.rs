//! The files of the sandbox for mounts: the RPC `Files`.
//!
//! A mount is shared by its streams and outlives them for a while, so that the next link finds its
//! open files. A stream (`stream`) has a few threads, which do what is asked (`answer`) unless it
//! is done on the spot (`at_once`): list (`list`), read and write (`content`), change (`change`).
//! What is listed is watched (`watch`), and what happens there is told (`tell`).
//!
//! Nothing here is decided: whether something may be done is the matter of the host's kernel, which
//! knows permissions, and of this system, which checks them again. But all that comes is input, and
//! no path leaves the root (`place`, [`crate::disk`]).

mod answer;
mod at_once;
mod change;
mod content;
mod list;
mod mount;
mod outbox;
mod place;
mod problem;
mod stream;
mod system;
mod tell;
mod watch;

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Status, Streaming};

use crate::disk::{DiskError, Root};
use crate::proto::files_reply::Reply;
use crate::proto::files_request::Request;
use crate::proto::{FilesBegin, FilesBegun, FilesError, FilesReply, FilesRequest};
use mount::{Mount, Opened, Stamps};
use place::to_wire;
use problem::Problem;
use stream::FilesReplies;
use watch::Watch;

/// Most mounts at a time. Past it one that has no stream goes; if all have, there is no more.
const MOUNT_COUNT_MAX: usize = 8;
/// How long a mount without streams is kept: a session that comes back has its files open still.
const MOUNT_LIFE: Duration = Duration::from_secs(600);

/// What is under way for an older link may take so long. Past it the session has to try again.
const IDLE_PATIENCE: Duration = Duration::from_secs(10);

type MountId = [u8; 16];

/// What a stream is told. If the link breaks, it is dropped, and with it the stream.
pub type Replies = Pin<Box<dyn futures_util::Stream<Item = Result<FilesReply, Status>> + Send>>;

/// The mounts of an agent.
#[derive(Debug)]
pub struct Files {
    mounts: Mutex<HashMap<MountId, Known>>,
    stamps: Arc<Stamps>,
    life: Duration,
    links: AtomicU64,
}

/// A mount, and who uses it.
#[derive(Debug)]
struct Known {
    mount: Arc<Mount>,
    streams: usize,
    /// When the last stream ended, if none is left.
    left: Option<Instant>,
}

/// A stream's use of its mount; it ends with the last clone.
#[derive(Debug)]
pub(super) struct Stay {
    files: Arc<Files>,
    id: MountId,
    mount: Arc<Mount>,
}

impl Stay {
    fn mount(&self) -> &Arc<Mount> {
        &self.mount
    }

    /// The session needs the mount no more.
    fn end(&self) {
        let mut mounts = self.files.mounts();
        if mounts.get(&self.id).is_some_and(|known| Arc::ptr_eq(&known.mount, &self.mount)) {
            mounts.remove(&self.id);
        }
        drop(mounts);
        end_soon(Arc::clone(&self.mount));
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.files.leave(self.id, &self.mount);
    }
}

impl Files {
    /// None yet.
    pub fn new() -> Arc<Self> {
        Self::with_life(MOUNT_LIFE)
    }

    fn with_life(life: Duration) -> Arc<Self> {
        let (mounts, stamps) = (Mutex::default(), Arc::new(Stamps::new()));
        Arc::new(Self { mounts, stamps, life, links: AtomicU64::new(1) })
    }

    /// A number for a new link.
    pub(crate) fn next_link(&self) -> u64 {
        self.links.fetch_add(1, Ordering::SeqCst)
    }

    /// Serves one stream, as if all came over one link that lasts.
    ///
    /// # Errors
    /// If it does not start with its beginning, or breaks.
    pub async fn serve(
        self: &Arc<Self>,
        requests: Streaming<FilesRequest>,
    ) -> Result<Replies, Status> {
        self.serve_link(0, requests).await
    }

    /// Serves one stream of a link.
    pub(crate) async fn serve_link(
        self: &Arc<Self>,
        link: u64,
        mut requests: Streaming<FilesRequest>,
    ) -> Result<Replies, Status> {
        let first = requests.message().await?;
        let Some(FilesRequest { id, request: Some(Request::Begin(begin)) }) = first else {
            return Err(Status::invalid_argument("a stream of files starts with its beginning"));
        };
        let files = Arc::clone(self);
        let beginning = tokio::task::spawn_blocking(move || files.begin(link, &begin)).await;
        match beginning.map_err(|_| Status::internal("a thread of the agent failed"))? {
            Ok((mut replies, begun)) => {
                replies.begin(FilesReply { id, ..begun }, requests);
                Ok(Box::pin(replies))
            }
            Err(problem) => {
                let refused = FilesReply { id, ..answer::failed(&problem) };
                Ok(Box::pin(futures_util::stream::iter([Ok(refused)])))
            }
        }
    }

    fn begin(
        self: &Arc<Self>,
        link: u64,
        begin: &FilesBegin,
    ) -> Result<(FilesReplies, FilesReply), Problem> {
        let (stay, resumed) = self.enter(begin)?;
        let mount = Arc::clone(&stay.mount);
        let mut replies = FilesReplies::start(stay).map_err(|_| FilesError::Exhausted)?;
        // What came over streams before, the session asks again or has given up: done later than
        // what it asks now, it would do harm.
        let opened = Opened { link, round: begin.round };
        for older in mount.take_over(opened, replies.stream()).ok_or(FilesError::Busy)? {
            older.close();
            if !older.wait_idle(IDLE_PATIENCE) {
                return Err(FilesError::Busy.into());
            }
        }
        let stamp = self.stamps.next();
        let root = mount.attributes()?;
        if begin.changes {
            // Where it cannot be watched, everything else works.
            let watch = Watch::new(&mount.root, Arc::clone(&self.stamps)).ok().map(Arc::new);
            replies.watch(watch);
        }
        let begun = FilesBegun {
            root: Some(to_wire(&root)),
            resumed,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        };
        let reply = Some(Reply::Begun(begun));
        Ok((replies, FilesReply { stamp, reply, ..Default::default() }))
    }

    /// Finds or makes the mount; says whether it was known.
    fn enter(self: &Arc<Self>, begin: &FilesBegin) -> Result<(Stay, bool), Problem> {
        let id: MountId = begin
            .mount
            .as_slice()
            .try_into()
            .map_err(|_| Problem::invalid("the id of a mount has 16 bytes"))?;
        if !begin.root.starts_with(b"/") || begin.root.contains(&0) {
            return Err(Problem::invalid("a root is an absolute path"));
        }
        let path = PathBuf::from(OsString::from_vec(begin.root.clone()));
        let stay = |mount: &Arc<Mount>| {
            let (files, mount) = (Arc::clone(self), Arc::clone(mount));
            Stay { files, id, mount }
        };
        // Before the lock is taken: a server may never answer.
        let opened = Root::open(&path).map(|root| Mount::new(root, Arc::clone(&self.stamps)));
        let mut mounts = self.mounts();
        if let Some(known) = mounts.get_mut(&id) {
            if known.mount.root.path() != path {
                return Err(Problem::invalid("the mount has another root"));
            }
            // Another directory that came to its place is another mount, unless it cannot be used.
            if opened.as_ref().map_or(true, |opened| opened.root.is_same(&known.mount.root)) {
                known.streams += 1;
                known.left = None;
                return Ok((stay(&known.mount), true));
            }
        }
        let mount = Arc::new(opened.map_err(|error| problem_of(&error))?);
        let before = mounts.remove(&id);
        let evicted = make_room(&mut mounts)?;
        let stay = stay(&mount);
        mounts.insert(id, Known { mount, streams: 1, left: None });
        drop(mounts);
        before.into_iter().chain(evicted).for_each(|gone| gone.mount.end());
        Ok((stay, false))
    }

    /// A stream ended.
    fn leave(self: &Arc<Self>, id: MountId, mount: &Arc<Mount>) {
        let mut mounts = self.mounts();
        let Some(known) = mounts.get_mut(&id) else { return };
        if !Arc::ptr_eq(&known.mount, mount) {
            return;
        }
        known.streams = known.streams.saturating_sub(1);
        if known.streams > 0 {
            return;
        }
        known.left = Some(Instant::now());
        drop(mounts);
        // Without a runtime the agent ends, and everything with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let files = Arc::clone(self);
            runtime.spawn(async move {
                tokio::time::sleep(files.life).await;
                files.expire(id);
            });
        }
    }

    /// Ends a mount that nobody has used for its life.
    fn expire(&self, id: MountId) {
        let mut mounts = self.mounts();
        let is_over = |known: &Known| known.left.is_some_and(|left| left.elapsed() >= self.life);
        if mounts.get(&id).is_some_and(is_over)
            && let Some(known) = mounts.remove(&id)
        {
            drop(mounts);
            end_soon(known.mount);
        }
    }

    fn mounts(&self) -> MutexGuard<'_, HashMap<MountId, Known>> {
        // No call under the lock leaves the map half changed.
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a mount. From now on nothing is opened for it; to close its files may take long.
fn end_soon(mount: Arc<Mount>) {
    mount.refuse();
    tokio::task::spawn_blocking(move || mount.end());
}

/// Gives the mount that has to go for another one, if one has to.
fn make_room(mounts: &mut HashMap<MountId, Known>) -> Result<Option<Known>, Problem> {
    if mounts.len() < MOUNT_COUNT_MAX {
        return Ok(None);
    }
    let unused = mounts.iter().filter_map(|(id, known)| Some((known.left?, *id))).min();
    let (_, id) = unused.ok_or_else(|| Problem::from(FilesError::Exhausted))?;
    Ok(mounts.remove(&id))
}

fn problem_of(error: &DiskError) -> Problem {
    Problem { message: error.to_string(), ..Problem::from(error.errno()) }
}

#[cfg(test)]
mod tests;
