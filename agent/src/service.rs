//! The calls of the wire contract, over the endpoint and the operations of this agent.
//!
//! It translates and nothing else: what a call means is in the modules it calls. Trees are read
//! and changed on blocking threads, and every channel between is bounded, so that a slow reader
//! slows the work instead of filling memory.

mod attach;
mod content;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::disk::Root;
use crate::endpoint::{Endpoint, EndpointError};
use crate::files;
use crate::follow::Follower;
use crate::operation::{Operation, OperationError, OperationId};
use crate::path::SyncPath;
use crate::proto;
use crate::proto::agent_server::Agent;
use crate::rules::Rules;
use crate::serve::Links;
use crate::wire::{self, StateWriter, WireError};

/// Messages between the link and a blocking thread.
const MESSAGES_WAITING_MAX: usize = 8;
/// How long an operation's end waits for the tree to be looked at. What takes longer than a turn of
/// the link is better asked for by itself.
const STATE_PATIENCE: Duration = Duration::from_millis(100);

/// The service of one link.
pub(crate) struct Service {
    links: Arc<Links>,
    /// Made by `Prepare`; kept by the agent, not the link, so that a new link finds it.
    follower: Arc<Mutex<Option<Arc<Follower>>>>,
    /// The number of the link among those that mounts came over.
    link: u64,
}

impl Service {
    pub(crate) fn new(links: Arc<Links>) -> Self {
        let follower = Arc::clone(&links.follower);
        let link = links.files.next_link();
        Self { links, follower, link }
    }

    fn follower(&self) -> Result<Arc<Follower>, Status> {
        let follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner).clone();
        follower.ok_or_else(|| Status::failed_precondition("no root has been prepared"))
    }

    fn operation(&self, id: &[u8]) -> Result<Arc<Operation>, Status> {
        self.links.operations.find(operation_id(id)?).map_err(operation_status)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn wire_status(error: WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn endpoint_status(error: EndpointError) -> Status {
    let text = error_chain(&error);
    if error.is_no_space() { Status::resource_exhausted(text) } else { Status::internal(text) }
}

fn operation_status(error: OperationError) -> Status {
    match error {
        OperationError::Conflict => Status::already_exists(error.to_string()),
        OperationError::Unknown => Status::not_found(error.to_string()),
        OperationError::Running => Status::failed_precondition(error.to_string()),
        OperationError::Supervisor(_) => Status::unavailable(error_chain(&error)),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn late_status(error: std::io::Error) -> Status {
    Status::deadline_exceeded(error.to_string())
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn operation_id(id: &[u8]) -> Result<OperationId, Status> {
    id.try_into().map_err(|_| Status::invalid_argument("an operation's id has 16 bytes"))
}

type Replies<T> = Response<ReceiverStream<Result<T, Status>>>;

#[tonic::async_trait]
impl Agent for Service {
    async fn prepare(
        &self,
        request: Request<proto::PrepareRequest>,
    ) -> Result<Response<proto::PrepareReply>, Status> {
        let request = request.into_inner();
        let rules =
            wire::rules_from_wire(request.rules.unwrap_or_default()).map_err(wire_status)?;
        let path = std::path::PathBuf::from(os_string(request.root)?);
        let staging = self.links.staging.clone();
        let held = Arc::clone(&self.follower);
        let made = tokio::task::spawn_blocking(move || {
            let (root, created) = open_root(&path, request.create)?;
            let case_insensitive = root.is_case_insensitive()?;
            let reply = proto::PrepareReply { created, case_insensitive };
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            if held.as_ref().is_some_and(|follower| follower.is_of(&path, rules.version)) {
                return Ok(reply);
            }
            // Bad patterns were reported where they were written: on the host.
            let (compiled, _) = Rules::compile(&rules);
            let previous = held.as_ref().map(|follower| &**follower.endpoint());
            let endpoint = Endpoint::open(root, &staging, compiled, rules.version, previous)?;
            *held = Some(Arc::new(Follower::start(Arc::new(endpoint))?));
            Ok(reply)
        });
        let reply = made.await.map_err(join_status)?.map_err(endpoint_status)?;
        Ok(Response::new(reply))
    }

    type FollowStream = ReceiverStream<Result<proto::FollowReply, Status>>;

    async fn follow(
        &self,
        request: Request<proto::FollowRequest>,
    ) -> Result<Replies<proto::FollowReply>, Status> {
        let follower = self.follower()?;
        let request = request.into_inner();
        let version = wire::digest(&request.rules_version).map_err(wire_status)?;
        if version != follower.endpoint().rules_version() {
            return Err(Status::failed_precondition("the rules are of another version (I8)"));
        }
        let (send, receive) = mpsc::channel(MESSAGES_WAITING_MAX);
        tokio::task::spawn_blocking(move || tell(&follower, request.name, &send));
        Ok(Response::new(ReceiverStream::new(receive)))
    }

    async fn flush(
        &self,
        request: Request<proto::FlushRequest>,
    ) -> Result<Response<proto::FlushReply>, Status> {
        let follower = self.follower()?;
        let seq = follower.flush(request.into_inner().rescan).await;
        // Whoever reads now is told all states of this follower that come.
        let follow = follower.reader_name();
        Ok(Response::new(proto::FlushReply { seq, follow }))
    }

    async fn apply(
        &self,
        request: Request<Streaming<proto::ApplyRequest>>,
    ) -> Result<Response<proto::ApplyReply>, Status> {
        let seq = content::apply(self.follower()?, request.into_inner()).await?;
        Ok(Response::new(proto::ApplyReply { seq }))
    }

    type OfferStream = ReceiverStream<Result<proto::OfferReply, Status>>;

    async fn offer(
        &self,
        request: Request<Streaming<proto::OfferRequest>>,
    ) -> Result<Replies<proto::OfferReply>, Status> {
        Ok(content::offer(self.follower()?, request.into_inner()))
    }

    type SupplyStream = ReceiverStream<Result<proto::SupplyReply, Status>>;

    async fn supply(
        &self,
        request: Request<Streaming<proto::SupplyRequest>>,
    ) -> Result<Replies<proto::SupplyReply>, Status> {
        Ok(content::supply(self.follower()?, request.into_inner()))
    }

    async fn start(
        &self,
        request: Request<proto::StartRequest>,
    ) -> Result<Response<proto::StartReply>, Status> {
        let request = request.into_inner();
        let id = operation_id(&request.id)?;
        let reply = self.links.operations.start(id, request).await.map_err(operation_status)?;
        Ok(Response::new(reply))
    }

    type AttachStream = attach::Replies;

    async fn attach(
        &self,
        request: Request<Streaming<proto::AttachRequest>>,
    ) -> Result<Response<attach::Replies>, Status> {
        let replies = attach::attach(&self.links, request.into_inner()).await?;
        Ok(Response::new(replies))
    }

    async fn wait(
        &self,
        request: Request<proto::WaitRequest>,
    ) -> Result<Response<proto::Exit>, Status> {
        let operation = self.operation(&request.into_inner().id)?;
        let exit = operation.wait().await;
        Ok(Response::new(with_state(&self.links, exit).await))
    }

    async fn signal(
        &self,
        request: Request<proto::SignalRequest>,
    ) -> Result<Response<proto::SignalReply>, Status> {
        let request = request.into_inner();
        self.operation(&request.id)?.signal(request).await.map_err(late_status)?;
        Ok(Response::new(proto::SignalReply {}))
    }

    async fn cancel(
        &self,
        request: Request<proto::CancelRequest>,
    ) -> Result<Response<proto::CancelReply>, Status> {
        let request = request.into_inner();
        let reply = self.operation(&request.id)?.cancel(request).await.map_err(late_status)?;
        Ok(Response::new(reply))
    }

    async fn detach(
        &self,
        request: Request<proto::DetachRequest>,
    ) -> Result<Response<proto::DetachReply>, Status> {
        self.operation(&request.into_inner().id)?.detach().await.map_err(late_status)?;
        Ok(Response::new(proto::DetachReply {}))
    }

    async fn operations(
        &self,
        request: Request<proto::OperationsRequest>,
    ) -> Result<Response<proto::OperationsReply>, Status> {
        let id = request.into_inner().id;
        let only = if id.is_empty() { None } else { Some(operation_id(&id)?) };
        let operations = self.links.operations.list(only).await;
        Ok(Response::new(proto::OperationsReply { operations }))
    }

    async fn forget(
        &self,
        request: Request<proto::ForgetRequest>,
    ) -> Result<Response<proto::ForgetReply>, Status> {
        let id = operation_id(&request.into_inner().id)?;
        self.links.operations.forget(id).await.map_err(operation_status)?;
        Ok(Response::new(proto::ForgetReply {}))
    }

    type FilesStream = files::Replies;

    async fn files(
        &self,
        request: Request<Streaming<proto::FilesRequest>>,
    ) -> Result<Response<files::Replies>, Status> {
        Ok(Response::new(self.links.files.serve_link(self.link, request.into_inner()).await?))
    }

    async fn ping(
        &self,
        _request: Request<proto::PingRequest>,
    ) -> Result<Response<proto::PingReply>, Status> {
        Ok(Response::new(proto::PingReply {}))
    }

    async fn shutdown(
        &self,
        request: Request<proto::ShutdownRequest>,
    ) -> Result<Response<proto::ShutdownReply>, Status> {
        let grace = Duration::from_millis(request.into_inner().grace_ms.into());
        let swept = self.links.operations.stop_all(grace).await;
        self.links.ending.notify_one();
        let (stopped, survivors) = (swept.stopped, swept.survivors);
        Ok(Response::new(proto::ShutdownReply { stopped, survivors }))
    }
}

fn os_string(bytes: Vec<u8>) -> Result<std::ffi::OsString, Status> {
    use std::os::unix::ffi::OsStringExt;
    if !bytes.starts_with(b"/") || bytes.contains(&0) {
        return Err(Status::invalid_argument("a root is an absolute path"));
    }
    Ok(std::ffi::OsString::from_vec(bytes))
}

fn open_root(path: &Path, create: bool) -> Result<(Root, bool), EndpointError> {
    if create { Ok(Root::create(path)?) } else { Ok((Root::open(path)?, false)) }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn join_status(error: tokio::task::JoinError) -> Status {
    Status::internal(format!("a thread of the agent failed: {error}"))
}

/// The exit with a state that shows everything that was done until now, if there soon is one.
async fn with_state(links: &Links, exit: proto::Exit) -> proto::Exit {
    let follower = links.follower.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(follower) = follower else { return exit };
    let flushed = tokio::time::timeout(STATE_PATIENCE, follower.flush(false)).await;
    let follow = follower.reader_name();
    let state = flushed.ok().map(|seq| proto::StateNumber { follow, seq });
    proto::Exit { state, ..exit }
}

/// Sends the tree and then its changes, state by state, until somebody else follows or nobody
/// listens. While the link is slow, changes gather in the follower, path by path.
fn tell(follower: &Follower, name: u64, send: &mpsc::Sender<Result<proto::FollowReply, Status>>) {
    let runtime = tokio::runtime::Handle::current();
    let mut seq = follower.seq();
    let reader = follower.reader(name);
    let mut next = reader.take();
    if let Some(first) = &mut next {
        first.changed = vec![SyncPath::root()];
    }
    while let Some(taken) = next {
        let mut write = |reply| send.blocking_send(Ok(reply)).is_ok();
        let mut writer = StateWriter::new(&mut write);
        for (call, outcome) in taken.outcomes {
            writer.outcome(call, outcome);
        }
        for path in &taken.changed {
            writer.change(path, taken.tree.as_ref().and_then(|tree| tree.find(path)));
        }
        let lost = taken.lost.map(|error| error.to_string()).unwrap_or_default();
        // What was taken must not be held: steps would have to copy what they change in it.
        drop(taken.tree);
        if !writer.finish(taken.seq, lost, taken.unwatched.unwrap_or_default()) {
            return;
        }
        let again = runtime.block_on(async {
            tokio::select! {
                changed = seq.wait_for(|seq| *seq > taken.seq) => changed.is_ok(),
                () = send.closed() => false,
            }
        });
        if !again {
            return;
        }
        next = reader.take_news();
    }
}
