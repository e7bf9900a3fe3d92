//! An agent that answers what a test tells it to.

use std::time::Duration;

use skync_agent::files::Replies;
use skync_agent::proto::files_reply::Reply;
use skync_agent::proto::files_request::Request;
use skync_agent::proto::{
    FilesAttributes, FilesBegin, FilesBegun, FilesChanged, FilesEntry, FilesError, FilesListing,
    FilesProblem, FilesReply, FilesRequest,
};
use skync_mount::source::{Change, ObjectId, Place};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::link::Links;
use crate::mounts::{LinkSource, MountSettings};

/// How many streams a mount has.
pub(super) const LANES: usize = 4;
/// How long requests of these tests wait for a link.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A source, with an agent that does nothing by itself.
pub(super) struct Script {
    pub(super) links: Links,
    pub(super) source: std::sync::Arc<LinkSource>,
    /// Of the agent.
    stamp: u64,
    changes: mpsc::UnboundedReceiver<Change>,
    asked: mpsc::UnboundedReceiver<Asked>,
}

/// A request, and where its replies go.
pub(super) struct Asked {
    id: u64,
    /// What is asked.
    pub(super) request: Request,
    replies: mpsc::Sender<Result<FilesReply, Status>>,
}

impl Script {
    /// A source without a link.
    pub(super) fn new() -> Self {
        let (tell, asked) = mpsc::unbounded_channel();
        let (links, ways) = Links::new(move |mut requests| {
            let (replies, receive) = mpsc::channel(16);
            let tell = tell.clone();
            tokio::spawn(async move {
                while let Ok(Some(FilesRequest { id, request })) = requests.message().await {
                    let request = request.expect("a request");
                    let _ = tell.send(Asked { id, request, replies: replies.clone() });
                }
            });
            let replies: Replies = Box::pin(ReceiverStream::new(receive));
            Box::pin(std::future::ready(Ok(replies)))
        });
        let settings = MountSettings { root: "/sandbox".into(), patience: PATIENCE };
        let source = std::sync::Arc::new(LinkSource::new(settings, ways).expect("random numbers"));
        let (tell, changes) = mpsc::unbounded_channel();
        source.subscribe_to(tell);
        Self { links, source, stamp: 0, changes, asked }
    }

    /// A source with a link over which it has begun.
    pub(super) async fn begun() -> Self {
        let mut script = Self::new();
        script.link("box", false).await;
        script
    }

    /// Opens a link and answers the begin of all its streams; the stream with changes.
    pub(super) async fn link(&mut self, sandbox: &str, resumed: bool) -> Asked {
        self.stamp += 1000;
        self.link_at(sandbox, resumed, self.stamp).await
    }

    /// As [`Script::link`], with an agent whose stamps are here.
    pub(super) async fn link_at(&mut self, sandbox: &str, resumed: bool, stamp: u64) -> Asked {
        self.links.open(sandbox).await;
        let mut now = None;
        for _ in 0..LANES {
            let asked = self.next().await;
            let Request::Begin(FilesBegin { mount, root, changes, .. }) = &asked.request else {
                panic!("not a begin: {:?}", asked.request);
            };
            assert_eq!((mount.len(), root.as_slice()), (16, &b"/sandbox"[..]));
            let changes = *changes;
            let root = Some(directory(2));
            asked.answer(stamp, Reply::Begun(FilesBegun { root, resumed, uid: 0, gid: 0 })).await;
            if changes {
                assert!(now.replace(asked).is_none(), "changes are asked for twice");
            }
        }
        while self.source.is_waiting() {
            tokio::task::yield_now().await;
        }
        now.expect("a stream with changes")
    }

    /// The next request that comes.
    pub(super) async fn next(&mut self) -> Asked {
        let next = tokio::time::timeout(Duration::from_secs(600), self.asked.recv());
        next.await.expect("a request in time").expect("a stream")
    }

    /// The next change that the source tells.
    pub(super) async fn change(&mut self) -> Change {
        let next = tokio::time::timeout(Duration::from_secs(600), self.changes.recv());
        next.await.expect("a change in time").expect("a source")
    }

    /// Takes the next request, too, unless everything has come to rest.
    pub(super) async fn is_quiet_into(&mut self, all: &mut Vec<Asked>) -> bool {
        let asked = tokio::time::timeout(Duration::from_millis(1), self.asked.recv()).await;
        let before = all.len();
        all.extend(asked.ok().flatten());
        all.len() == before
    }

    /// True if nothing has been asked, once everything has come to rest.
    pub(super) async fn is_quiet(&mut self) -> bool {
        let asked = tokio::time::timeout(Duration::from_millis(1), self.asked.recv()).await;
        asked.is_err()
    }
}

impl LinkSource {
    fn subscribe_to(&self, tell: mpsc::UnboundedSender<Change>) {
        use skync_mount::Source as _;
        self.subscribe(Box::new(move |changes| {
            for change in changes {
                let _ = tell.send(change);
            }
        }));
    }
}

impl Asked {
    /// The only reply.
    pub(super) async fn answer(&self, stamp: u64, reply: Reply) {
        self.send(self.id, stamp, false, reply).await;
    }

    /// A reply of which more come.
    pub(super) async fn answer_part(&self, stamp: u64, reply: Reply) {
        self.send(self.id, stamp, true, reply).await;
    }

    /// It failed.
    pub(super) async fn fail(&self, error: FilesError) {
        let problem = FilesProblem { error: error.into(), message: "words".to_owned() };
        self.answer(0, Reply::Problem(problem)).await;
    }

    /// Its stream ends.
    pub(super) async fn hang_up(&self) {
        let _ = self.replies.send(Err(Status::unavailable("for a test"))).await;
    }

    /// A reply to this id.
    pub(super) async fn send(&self, id: u64, stamp: u64, more: bool, reply: Reply) {
        let reply = FilesReply { id, stamp, more, reply: Some(reply) };
        // The source may have hung up.
        let _ = self.replies.send(Ok(reply)).await;
    }
}

/// Objects of these tests are born one second after the other.
fn born_ns(inode: u64) -> i64 {
    i64::try_from(inode).expect("a small number") * 1_000_000_000
}

/// Attributes of a regular file.
pub(super) fn file(inode: u64) -> FilesAttributes {
    FilesAttributes {
        device: 1,
        inode,
        born_ns: born_ns(inode),
        mode: 0o100_644,
        links: 1,
        ctime_ns: born_ns(inode),
        ..FilesAttributes::default()
    }
}

/// Attributes of a directory.
pub(super) fn directory(inode: u64) -> FilesAttributes {
    FilesAttributes { mode: 0o040_755, ..file(inode) }
}

/// A file of this name.
pub(super) fn entry(name: &[u8], inode: u64) -> FilesEntry {
    FilesEntry { name: name.to_vec(), attributes: Some(file(inode)), target: Vec::new() }
}

/// What a change in the root has led to.
pub(super) fn changed(object: Option<FilesAttributes>) -> Reply {
    Reply::Changed(FilesChanged { object, directory: Some(directory(2)), before: None })
}

/// A whole directory.
pub(super) fn listing(path: &[u8], entries: Vec<FilesEntry>) -> FilesListing {
    FilesListing {
        path: path.to_vec(),
        attributes: Some(directory(2)),
        entries,
        followed: true,
        unfinished: false,
    }
}

/// A place of an object of these tests.
pub(super) fn place(path: &str, inode: u64) -> Place {
    Place { path: path.into(), object: ObjectId { device: 1, inode, born_ns: born_ns(inode) } }
}

/// The root of these tests.
pub(super) fn root() -> Place {
    place("", 2)
}
