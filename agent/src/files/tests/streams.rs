//! Streams of mounts, over the whole gRPC stack but HTTP/2.

use std::collections::VecDeque;

use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::proto::agent_client::AgentClient;
use crate::proto::agent_server::AgentServer;
use crate::proto::{
    FilesClose, FilesEnd, FilesList, FilesLook, FilesOpen, FilesOpenHow, FilesRead, FilesWrite,
};
use crate::serve::Links;
use crate::service::Service;

/// An agent, and a root.
pub(super) struct Agent {
    links: Arc<Links>,
    /// Of the link that there is now.
    service: Arc<Service>,
    pub(super) root: PathBuf,
    base: tempfile::TempDir,
    id: u64,
}

/// One stream of a mount.
pub(super) struct Lane {
    requests: mpsc::Sender<FilesRequest>,
    replies: tonic::Streaming<FilesReply>,
    pub(super) begun: FilesBegun,
    last: u64,
    /// Changes that came while something else was waited for.
    changes: VecDeque<crate::proto::FilesChange>,
}

impl Agent {
    pub(super) fn new() -> Self {
        Self::with_life(MOUNT_LIFE)
    }

    fn with_life(life: Duration) -> Self {
        let base = tempfile::tempdir().expect("a directory");
        let root = base.path().join("root");
        fs::create_dir(&root).expect("made");
        let links = Links::of_nobody(base.path(), Files::with_life(life));
        let service = Arc::new(Service::new(Arc::clone(&links)));
        Self { links, service, root, base, id: 1 }
    }

    /// The link was lost, and there is another one; the agent may not know yet of the first's end.
    fn relink(&mut self) {
        self.service = Arc::new(Service::new(Arc::clone(&self.links)));
    }

    /// Sends a first request and gives the first reply.
    async fn begin(&self, first: Request) -> Result<(Lane, Reply), Status> {
        let (requests, receive) = mpsc::channel(16);
        let mut client = AgentClient::new(AgentServer::from_arc(Arc::clone(&self.service)));
        let first = FilesRequest { id: 1, request: Some(first) };
        requests.send(first).await.expect("there is room");
        let replies = client.files(ReceiverStream::new(receive)).await?.into_inner();
        let (begun, changes) = (FilesBegun::default(), VecDeque::new());
        let mut lane = Lane { requests, replies, begun, last: 1, changes };
        let first = lane.next().await.expect("a first reply");
        assert_eq!(first.id, 1);
        Ok((lane, first.reply.expect("it says something")))
    }

    /// What watches the mount.
    pub(super) fn watch(&self) -> Option<Arc<Watch>> {
        let mounts = self.links.files.mounts();
        mounts.values().next().and_then(|known| known.mount.watch())
    }

    pub(super) async fn lane(&self, changes: bool) -> Lane {
        self.lane_of(self.id, changes).await
    }

    async fn lane_of(&self, id: u64, changes: bool) -> Lane {
        let begun = self.begin(Request::Begin(self.beginning(id, changes))).await;
        match begun.expect("it begins") {
            (lane, Reply::Begun(begun)) => Lane { begun, ..lane },
            (_, other) => panic!("not begun: {other:?}"),
        }
    }

    fn beginning(&self, id: u64, changes: bool) -> FilesBegin {
        let mount = u128::from(id).to_be_bytes().to_vec();
        let root = self.root.as_os_str().as_encoded_bytes().to_vec();
        FilesBegin { mount, root, changes, round: 0 }
    }

    async fn refusal(&self, begin: FilesBegin) -> FilesError {
        match self.begin(Request::Begin(begin)).await.expect("a reply") {
            (mut lane, Reply::Problem(problem)) => {
                assert!(lane.next().await.is_none(), "that was all");
                problem.error()
            }
            (_, other) => panic!("not refused: {other:?}"),
        }
    }
}

impl Lane {
    pub(super) async fn next(&mut self) -> Option<FilesReply> {
        let next = tokio::time::timeout(PATIENCE, self.replies.next()).await;
        next.expect("it does not take so long")?.ok()
    }

    pub(super) async fn send(&mut self, request: Request) -> u64 {
        self.last += 1;
        let request = FilesRequest { id: self.last, request: Some(request) };
        self.requests.send(request).await.expect("it is taken");
        self.last
    }

    /// All replies to a request that was sent.
    pub(super) async fn replies(&mut self, id: u64) -> Vec<FilesReply> {
        let mut replies = Vec::new();
        loop {
            let reply = self.next().await.expect("the stream goes on");
            match reply.reply {
                Some(Reply::Changes(changes)) => self.changes.extend(changes.changes),
                _ if reply.id != id => {}
                _ => {
                    let more = reply.more;
                    replies.push(reply);
                    if !more {
                        return replies;
                    }
                }
            }
        }
    }

    pub(super) async fn ask(&mut self, request: Request) -> Reply {
        let id = self.send(request).await;
        let last = self.replies(id).await.pop().and_then(|reply| reply.reply);
        last.expect("it says something")
    }

    pub(super) async fn listings(&mut self, path: &str) -> Vec<FilesListing> {
        let list = FilesList { directory: at(path), entries_max: 1000 };
        let id = self.send(Request::List(list)).await;
        let listing = |reply: FilesReply| match reply.reply {
            Some(Reply::Listing(listing)) => listing,
            other => panic!("no listing: {other:?}"),
        };
        self.replies(id).await.into_iter().map(listing).collect()
    }

    /// The next change.
    pub(super) async fn change(&mut self) -> crate::proto::files_change::Change {
        while self.changes.is_empty() {
            let reply = self.next().await.expect("the stream goes on").reply;
            match reply {
                Some(Reply::Changes(changes)) => self.changes.extend(changes.changes),
                other => panic!("no change: {other:?}"),
            }
        }
        self.changes.pop_front().and_then(|change| change.change).expect("a change")
    }

    async fn error(&mut self, request: Request) -> FilesError {
        match self.ask(request).await {
            Reply::Problem(problem) => problem.error(),
            other => panic!("it was done: {other:?}"),
        }
    }
}

fn open(path: &str, handle: u64) -> Request {
    Request::Open(FilesOpen { file: at(path), handle, how: None })
}

fn read(handle: u64) -> Request {
    let file = super::handle(handle);
    Request::Read(FilesRead { file, open_as: 0, offset: 0, length: 100 })
}

#[tokio::test]
async fn a_stream_begins_with_the_root() {
    let agent = Agent::new();
    let lane = agent.lane(true).await;
    let real = fs::metadata(&agent.root).expect("there");
    let root = lane.begun.root.expect("told");
    assert_eq!(root.inode, std::os::unix::fs::MetadataExt::ino(&real));
    assert!(!lane.begun.resumed);
    assert_eq!(lane.begun.uid, rustix::process::geteuid().as_raw());
    let second = agent.lane(false).await;
    assert!(second.begun.resumed, "another stream of the same mount");
}

#[tokio::test]
async fn a_stream_that_begins_otherwise_is_refused() {
    let agent = Agent::new();
    let look = Request::Look(FilesLook { directory: at(""), name: b"a".to_vec() });
    let status = agent.begin(look).await.err().expect("it does not begin");
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    let begin = agent.beginning(1, false);
    let bad = FilesBegin { mount: vec![1; 15], ..begin.clone() };
    assert_eq!(agent.refusal(bad).await, FilesError::Invalid);
    let bad = FilesBegin { root: b"root".to_vec(), ..begin.clone() };
    assert_eq!(agent.refusal(bad).await, FilesError::Invalid);
    let missing = agent.base.path().join("missing").into_os_string().into_encoded_bytes();
    let bad = FilesBegin { root: missing, ..begin.clone() };
    assert_eq!(agent.refusal(bad).await, FilesError::NotFound);
    let mut lane = agent.lane(false).await;
    assert_eq!(lane.error(Request::Begin(begin.clone())).await, FilesError::Invalid);
    let other = agent.base.path().to_path_buf().into_os_string().into_encoded_bytes();
    let bad = FilesBegin { root: other, ..begin };
    assert_eq!(agent.refusal(bad).await, FilesError::Invalid, "it has another root");
}

#[tokio::test]
async fn streams_of_a_mount_share_its_files_and_the_next_link_finds_them() {
    let mut agent = Agent::new();
    fs::write(agent.root.join("file"), "content").expect("written");
    let (mut first, mut second) = (agent.lane(true).await, agent.lane(false).await);
    first.ask(open("file", 1)).await;
    assert_eq!(second.ask(read(1)).await, Reply::Data("content".into()));
    agent.relink();
    let mut later = agent.lane(true).await;
    assert!(later.begun.resumed);
    assert!(first.next().await.is_none() && second.next().await.is_none(), "they are over");
    assert_eq!(later.ask(read(1)).await, Reply::Data("content".into()));
    let mut other = agent.lane_of(2, false).await;
    assert!(!other.begun.resumed, "another mount");
    assert_eq!(other.error(read(1)).await, FilesError::Stale);
}

#[tokio::test]
async fn nothing_of_an_older_link_is_done_after_a_newer_one_is_there() {
    let mut agent = Agent::new();
    fs::write(agent.root.join("file"), "content").expect("written");
    let mut older = agent.lane(true).await;
    let how = Some(FilesOpenHow { write: true, ..FilesOpenHow::default() });
    older.ask(Request::Open(FilesOpen { file: at("file"), handle: 1, how })).await;
    let write = |byte: u8| {
        let data = vec![byte; 1 << 17].into();
        Request::Write(FilesWrite { handle: 1, offset: 0, data })
    };
    for _ in 0..14 {
        older.send(write(1)).await;
    }
    agent.relink();
    let mut newer = agent.lane(true).await;
    newer.ask(write(2)).await;
    older.requests.send(FilesRequest { id: 99, request: Some(write(3)) }).await.ok();
    while older.next().await.is_some() {}
    newer.ask(open("file", 2)).await;
    let content = fs::read(agent.root.join("file")).expect("read");
    assert_eq!(content, vec![2; 1 << 17]);
}

#[tokio::test]
async fn streams_that_are_opened_anew_over_a_link_end_those_before_them() {
    let agent = Agent::new();
    let in_round = |round| FilesBegin { round, ..agent.beginning(agent.id, false) };
    let begun = async |round| {
        let begun = agent.begin(Request::Begin(in_round(round))).await.expect("a reply");
        assert!(matches!(begun.1, Reply::Begun(_)), "{:?}", begun.1);
        begun.0
    };
    let mut first = begun(1).await;
    let (mut second, mut beside) = (begun(2).await, begun(2).await);
    assert!(first.next().await.is_none(), "it has ended");
    assert_eq!(agent.refusal(in_round(1)).await, FilesError::Busy);
    for lane in [&mut second, &mut beside] {
        assert_eq!(lane.error(open("nothing", 1)).await, FilesError::NotFound);
    }
}

#[tokio::test]
async fn an_ended_mount_is_forgotten() {
    let agent = Agent::new();
    fs::write(agent.root.join("file"), "content").expect("written");
    let mut lane = agent.lane(true).await;
    lane.ask(open("file", 1)).await;
    lane.send(Request::End(FilesEnd {})).await;
    assert_eq!(lane.error(read(1)).await, FilesError::Stale);
    assert_eq!(lane.error(open("file", 2)).await, FilesError::Stale);
    let mut next = agent.lane(true).await;
    assert!(!next.begun.resumed);
    assert_eq!(next.error(read(1)).await, FilesError::Stale);
}

#[tokio::test]
async fn a_mount_that_nobody_comes_back_to_is_forgotten() {
    let agent = Agent::with_life(Duration::from_millis(20));
    let lane = agent.lane(true).await;
    drop(lane);
    let deadline = Instant::now() + PATIENCE;
    while !agent.links.files.mounts().is_empty() {
        assert!(Instant::now() < deadline, "it is still known");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!agent.lane(true).await.begun.resumed);
}

#[tokio::test]
async fn another_directory_in_the_place_of_the_root_is_another_mount() {
    let agent = Agent::new();
    fs::write(agent.root.join("file"), "content").expect("written");
    let mut lane = agent.lane(true).await;
    lane.ask(open("file", 1)).await;
    fs::rename(&agent.root, agent.base.path().join("away")).expect("moved");
    assert!(agent.lane(true).await.begun.resumed, "it may come back");
    fs::create_dir(&agent.root).expect("made");
    let mut next = agent.lane(true).await;
    assert!(!next.begun.resumed);
    assert_eq!(next.error(read(1)).await, FilesError::Stale);
}

#[tokio::test]
async fn a_stream_of_a_root_that_was_replaced_ends() {
    let agent = Agent::new();
    let mut lane = agent.lane(true).await;
    fs::remove_dir(&agent.root).expect("removed");
    fs::create_dir(&agent.root).expect("made");
    let list = FilesList { directory: at(""), entries_max: 1 };
    lane.send(Request::List(list)).await;
    loop {
        let next = tokio::time::timeout(PATIENCE, lane.replies.next()).await.expect("in time");
        match next.expect("an end that says why") {
            Ok(_) => {}
            Err(status) => break assert_eq!(status.code(), tonic::Code::Aborted),
        }
    }
    assert!(!agent.lane(true).await.begun.resumed);
}

#[tokio::test]
async fn there_are_so_many_mounts_and_the_one_that_is_unused_longest_goes() {
    let agent = Agent::new();
    let mut lanes = Vec::new();
    for id in 1..=MOUNT_COUNT_MAX as u64 {
        lanes.push(agent.lane_of(id, false).await);
    }
    assert_eq!(agent.refusal(agent.beginning(99, false)).await, FilesError::Exhausted);
    drop(lanes.remove(3));
    let deadline = Instant::now() + PATIENCE;
    while agent.links.files.mounts().values().all(|known| known.left.is_none()) {
        assert!(Instant::now() < deadline, "it is still in use");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    agent.lane_of(99, false).await;
    assert!(!agent.links.files.mounts().contains_key(&4_u128.to_be_bytes()));
}

#[tokio::test]
async fn requests_are_answered_side_by_side_and_all_of_them() {
    let agent = Agent::new();
    for n in 0..100 {
        fs::write(agent.root.join(format!("f{n}")), vec![n; 300_000]).expect("written");
    }
    let mut lane = agent.lane(false).await;
    let mut waiting = std::collections::HashMap::new();
    for n in 0..100_u8 {
        let file = at(format!("f{n}"));
        let request = FilesRead { file, open_as: 0, offset: 0, length: 1 << 20 };
        let id = lane.send(Request::Read(request)).await;
        waiting.insert(id, (n, 0));
        // The reader is slower than the requests: replies wait, and then requests do.
        while waiting.len() > 90 || (n == 99 && !waiting.is_empty()) {
            let reply = lane.next().await.expect("the stream goes on");
            let (n, bytes) = waiting.get_mut(&reply.id).expect("it was asked for");
            let Some(Reply::Data(data)) = reply.reply else { panic!("no data") };
            assert!(data.iter().all(|byte| byte == n));
            *bytes += data.len();
            if !reply.more {
                assert_eq!(*bytes, 300_000);
                waiting.remove(&reply.id);
            }
        }
    }
}

#[tokio::test]
async fn what_was_asked_before_the_end_of_the_requests_is_answered() {
    let agent = Agent::new();
    fs::write(agent.root.join("file"), "content").expect("written");
    let mut lane = agent.lane(false).await;
    lane.ask(open("file", 1)).await;
    let id = lane.send(read(1)).await;
    let Lane { requests, replies, begun, last, changes } = lane;
    drop(requests);
    let (requests, _) = mpsc::channel(1);
    let mut lane = Lane { requests, replies, begun, last, changes };
    assert_eq!(lane.replies(id).await.len(), 1);
    assert!(lane.next().await.is_none());
}

#[tokio::test]
async fn what_has_no_id_has_no_reply() {
    let agent = Agent::new();
    let mut lane = agent.lane(false).await;
    let data = b"x".as_slice().into();
    let write = Request::Write(FilesWrite { handle: 5, offset: 0, data });
    let silent = FilesRequest { id: 0, request: Some(write) };
    lane.requests.send(silent).await.expect("taken");
    lane.send(Request::Close(FilesClose { handle: 5 })).await;
    assert_eq!(lane.listings("").await.len(), 1);
}
