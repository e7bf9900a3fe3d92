//! An agent that says what a test tells it to, over the real wire, with nothing behind it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use skync::channel::{Channel, origin};
use skync::config::SyncMode;
use skync::sync::engine::{Engine, SyncError};
use skync::sync::report::Report;
use skync_agent::entry::Digest;
use skync_agent::pack::{self, Packer};
use skync_agent::proto::agent_client::AgentClient;
use skync_agent::proto::agent_server::{Agent, AgentServer};
use skync_agent::proto::{
    self, ApplyRequest, Chunk, Held, Kind, Offered, Packed, ScanEntry, SupplyReply, Wanted,
};
use skync_agent::sizes::MESSAGE_BYTES_MAX;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::pair;

type Scans = dyn Fn(usize) -> Vec<ScanEntry> + Send + Sync;
type Supplies = dyn Fn(&Wanted) -> Vec<Chunk> + Send + Sync;
type States = tokio::sync::mpsc::UnboundedSender<Result<proto::FollowReply, Status>>;
type Holds = dyn Fn(&Offered) -> Held + Send + Sync;
type Replies<T> = Response<ReceiverStream<Result<T, Status>>>;

/// What the agent says.
#[derive(Clone)]
pub struct FakeAgent {
    scans: Arc<Scans>,
    supplies: Arc<Supplies>,
    holds: Arc<Holds>,
    received: Arc<AtomicU64>,
    packed: Arc<AtomicU64>,
    pace: Duration,
    packs: Option<fn(Packed) -> Packed>,
    count: Arc<AtomicUsize>,
    told: Arc<AtomicU64>,
    followed: Arc<Mutex<Option<States>>>,
    follow: Arc<AtomicU64>,
}

impl FakeAgent {
    /// An agent that answers each scan, counted from 0, with these entries.
    pub fn scanning(scans: impl Fn(usize) -> Vec<ScanEntry> + Send + Sync + 'static) -> Self {
        let supplies = Arc::new(|_: &Wanted| Vec::new());
        let holds = Arc::new(|_: &Offered| Held::default());
        let (received, count, followed) = (Arc::default(), Arc::default(), Arc::default());
        let (scans, told) = (Arc::new(scans), Arc::default());
        let (pace, packed, follow) = (Duration::ZERO, Arc::default(), Arc::default());
        Self {
            scans,
            supplies,
            holds,
            received,
            packed,
            pace,
            packs: None,
            count,
            told,
            followed,
            follow,
        }
    }

    /// The same agent behind a link that takes so long for each message to it.
    pub fn slow(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    /// The same agent, which sends content packed, after this was done to it.
    pub fn packing(mut self, packs: fn(Packed) -> Packed) -> Self {
        self.packs = Some(packs);
        self
    }

    /// The same agent, which says that it holds this of what it is offered.
    pub fn holding(mut self, holds: impl Fn(&Offered) -> Held + Send + Sync + 'static) -> Self {
        self.holds = Arc::new(holds);
        self
    }

    /// Bytes of content that it has been sent.
    pub fn received(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received)
    }

    /// Bytes of packed messages that it has been sent.
    pub fn packed(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.packed)
    }

    /// The same agent, which sends these chunks when it is asked for a file.
    pub fn supplying(
        mut self,
        supplies: impl Fn(&Wanted) -> Vec<Chunk> + Send + Sync + 'static,
    ) -> Self {
        self.supplies = Arc::new(supplies);
        self
    }

    /// Tells the next state.
    fn tell(&self, changes: Vec<proto::Change>, outcomes: Vec<proto::CallOutcome>) -> u64 {
        let seq = self.told.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(followed) = &*self.followed.lock().expect("not poisoned") {
            let state = proto::FollowReply { seq, changes, outcomes, ..Default::default() };
            let _ = followed.send(Ok(state));
        }
        seq
    }

    async fn client(self) -> AgentClient<Channel> {
        let (near, far) = tokio::io::duplex(1 << 20);
        let service = AgentServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(usize::MAX);
        let serving = http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(far), TowerToHyperService::new(service));
        tokio::spawn(serving);
        let channel = Channel::open(near).await.expect("HTTP/2");
        AgentClient::with_origin(channel, origin())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

/// The engine of a project whose sandbox is a [`FakeAgent`].
pub struct Deceived {
    runtime: Runtime,
    engine: Engine,
    host: PathBuf,
    _base: tempfile::TempDir,
}

impl Deceived {
    /// A project with these files.
    pub fn new(agent: FakeAgent, files: &[&str]) -> Self {
        let base = tempfile::Builder::new().prefix("skd").tempdir().expect("a directory");
        let path = base.path().canonicalize().expect("a path");
        let host = path.join("outside/project");
        for name in ["outside/bystander", "outside/project/anchor"].iter().chain(files) {
            let file = if name.starts_with("outside") { path.join(name) } else { host.join(name) };
            std::fs::create_dir_all(file.parent().expect("a parent")).expect("made");
            std::fs::File::create(file).expect("made");
        }
        let runtime = pair::runtime();
        let client = runtime.block_on(agent.client());
        let settings = pair::settings(&host, Path::new("/sandbox"), SyncMode::TwoWaySafe);
        let opened = pair::open_host(&path, &host);
        let engine = Engine::new(opened, client, &[1; 16], settings, Vec::new());
        Self { runtime, engine: engine.expect("an engine"), host, _base: base }
    }

    /// The project.
    pub fn host(&self) -> &Path {
        &self.host
    }

    /// The directory around the project, in which nothing may ever change.
    pub fn outside(&self) -> &Path {
        self.host.parent().expect("it is in one")
    }

    /// Synchronises once.
    pub fn sync(&mut self) -> Result<Report, SyncError> {
        self.runtime.block_on(self.engine.synchronise())
    }
}

/// An entry of a scan, of any kind, with nothing else in it.
pub fn entry(depth: u32, name: &[u8], kind: Kind) -> ScanEntry {
    let entry = proto::Entry { kind: kind.into(), mode: 0o755, ..proto::Entry::default() };
    ScanEntry { depth, name: name.to_vec(), entry: Some(entry) }
}

/// A file of a scan, with this content.
pub fn file(depth: u32, name: &[u8], content: &[u8]) -> ScanEntry {
    let mut file = entry(depth, name, Kind::File);
    if let Some(entry) = &mut file.entry {
        entry.digest = Digest::of(content).0.to_vec();
        entry.size = content.len() as u64;
    }
    file
}

/// A symbolic link of a scan.
pub fn link(depth: u32, name: &[u8], target: &[u8]) -> ScanEntry {
    let mut link = entry(depth, name, Kind::Symlink);
    if let Some(entry) = &mut link.entry {
        entry.target = target.to_vec();
    }
    link
}

fn stream<T: Send + 'static>(messages: Vec<T>) -> Replies<T> {
    let (send, receive) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        for message in messages {
            if send.send(Ok(message)).await.is_err() {
                return;
            }
        }
    });
    Response::new(ReceiverStream::new(receive))
}

/// The reply as an agent sends it over a slow link.
fn packed(reply: &SupplyReply) -> Packed {
    let mut packer = Packer::default();
    // As long as 8 MiB would take at 40 MiB/s.
    packer.timed(8 << 20, || std::thread::park_timeout(Duration::from_millis(200)));
    packer.pack(reply).expect("it gets smaller")
}

fn no<T>() -> Result<T, Status> {
    Err(Status::unimplemented("not part of the test"))
}

#[tonic::async_trait]
impl Agent for FakeAgent {
    async fn prepare(
        &self,
        _: Request<proto::PrepareRequest>,
    ) -> Result<Response<proto::PrepareReply>, Status> {
        Ok(Response::new(proto::PrepareReply::default()))
    }

    type FollowStream = UnboundedReceiverStream<Result<proto::FollowReply, Status>>;

    async fn follow(
        &self,
        request: Request<proto::FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        self.follow.store(request.into_inner().name, Ordering::Relaxed);
        let (send, receive) = tokio::sync::mpsc::unbounded_channel();
        *self.followed.lock().expect("not poisoned") = Some(send);
        let entries = (self.scans)(0);
        self.tell(vec![proto::Change { entries, ..Default::default() }], Vec::new());
        Ok(Response::new(UnboundedReceiverStream::new(receive)))
    }

    /// The next scan is what there is now.
    async fn flush(
        &self,
        _: Request<proto::FlushRequest>,
    ) -> Result<Response<proto::FlushReply>, Status> {
        let entries = (self.scans)(self.count.fetch_add(1, Ordering::Relaxed));
        let seq = self.tell(vec![proto::Change { entries, ..Default::default() }], Vec::new());
        let follow = self.follow.load(Ordering::Relaxed);
        Ok(Response::new(proto::FlushReply { seq, follow }))
    }

    /// Does nothing, and says that all is done, twice, and of calls that nobody made.
    async fn apply(
        &self,
        request: Request<Streaming<proto::ApplyRequest>>,
    ) -> Result<Response<proto::ApplyReply>, Status> {
        let mut requests = request.into_inner();
        let status = proto::Status::Applied.into();
        let outcome = |call, index| {
            let outcome = Some(proto::Outcome { index, status, ..Default::default() });
            proto::CallOutcome { call, outcome }
        };
        let (mut outcomes, mut call) = (vec![outcome(u64::MAX, u64::MAX)], None);
        while let Some(mut request) = requests.message().await? {
            let call = *call.get_or_insert(request.call);
            tokio::time::sleep(self.pace).await;
            if let Some(packed) = &request.packed {
                self.packed.fetch_add(packed.data.len() as u64, Ordering::Relaxed);
                request = pack::unpack::<ApplyRequest>(packed).expect("it is the session's");
            }
            for step in request.steps {
                if let Some(proto::step::Step::Chunk(chunk)) = &step.step {
                    self.received.fetch_add(chunk.data.len() as u64, Ordering::Relaxed);
                    continue;
                }
                let index = outcomes.len() as u64 / 2;
                outcomes.extend([outcome(call, index), outcome(call, index)]);
            }
        }
        let seq = self.tell(Vec::new(), outcomes);
        Ok(Response::new(proto::ApplyReply { seq }))
    }

    type OfferStream = ReceiverStream<Result<proto::OfferReply, Status>>;

    async fn offer(
        &self,
        request: Request<Streaming<proto::OfferRequest>>,
    ) -> Result<Replies<proto::OfferReply>, Status> {
        let mut requests = request.into_inner();
        let mut replies = Vec::new();
        while let Some(request) = requests.message().await? {
            let held = request.files.iter().map(|offered| (self.holds)(offered)).collect();
            replies.push(proto::OfferReply { held });
        }
        Ok(stream(replies))
    }

    type SupplyStream = ReceiverStream<Result<proto::SupplyReply, Status>>;

    async fn supply(
        &self,
        request: Request<Streaming<proto::SupplyRequest>>,
    ) -> Result<Replies<proto::SupplyReply>, Status> {
        let mut requests = request.into_inner();
        let mut replies = Vec::new();
        while let Some(request) = requests.message().await? {
            let chunks = request.wanted.iter().map(|wanted| (self.supplies)(wanted));
            let plain = chunks.map(|chunks| SupplyReply { chunks, packed: None });
            replies.extend(plain.map(|reply| match self.packs {
                None => reply,
                Some(packs) => SupplyReply { packed: Some(packs(packed(&reply))), chunks: vec![] },
            }));
        }
        Ok(stream(replies))
    }

    async fn start(
        &self,
        _: Request<proto::StartRequest>,
    ) -> Result<Response<proto::StartReply>, Status> {
        no()
    }

    type AttachStream = ReceiverStream<Result<proto::AttachReply, Status>>;

    async fn attach(
        &self,
        _: Request<Streaming<proto::AttachRequest>>,
    ) -> Result<Replies<proto::AttachReply>, Status> {
        no()
    }

    async fn signal(
        &self,
        _: Request<proto::SignalRequest>,
    ) -> Result<Response<proto::SignalReply>, Status> {
        no()
    }

    async fn cancel(
        &self,
        _: Request<proto::CancelRequest>,
    ) -> Result<Response<proto::CancelReply>, Status> {
        no()
    }

    async fn wait(&self, _: Request<proto::WaitRequest>) -> Result<Response<proto::Exit>, Status> {
        no()
    }

    async fn detach(
        &self,
        _: Request<proto::DetachRequest>,
    ) -> Result<Response<proto::DetachReply>, Status> {
        no()
    }

    async fn operations(
        &self,
        _: Request<proto::OperationsRequest>,
    ) -> Result<Response<proto::OperationsReply>, Status> {
        no()
    }

    async fn forget(
        &self,
        _: Request<proto::ForgetRequest>,
    ) -> Result<Response<proto::ForgetReply>, Status> {
        no()
    }

    type FilesStream = ReceiverStream<Result<proto::FilesReply, Status>>;

    async fn files(
        &self,
        _: Request<Streaming<proto::FilesRequest>>,
    ) -> Result<Replies<proto::FilesReply>, Status> {
        Err(Status::unimplemented("it has no files"))
    }

    async fn ping(
        &self,
        _: Request<proto::PingRequest>,
    ) -> Result<Response<proto::PingReply>, Status> {
        Ok(Response::new(proto::PingReply {}))
    }

    async fn shutdown(
        &self,
        _: Request<proto::ShutdownRequest>,
    ) -> Result<Response<proto::ShutdownReply>, Status> {
        no()
    }
}
