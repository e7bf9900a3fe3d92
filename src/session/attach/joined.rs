//! A call of `Attach` that has begun.

use skync_agent::proto::agent_client::AgentClient;
use skync_agent::proto::attach_begin::From;
use skync_agent::proto::attach_reply::Reply;
use skync_agent::proto::attach_request::Request;
use skync_agent::proto::{AttachBegin, AttachReply, AttachRequest, StartReply, StartRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::channel::Channel;

/// Requests on their way to the agent.
const REQUESTS_WAITING_MAX: usize = 4;

/// An attachment. If nobody takes it, the agent sees a client that has gone.
pub(in crate::session) struct Joined {
    pub(super) requests: mpsc::Sender<AttachRequest>,
    pub(super) replies: Streaming<AttachReply>,
}

/// Joins an operation.
pub(super) async fn join(
    mut client: AgentClient<Channel>,
    begin: AttachBegin,
) -> Result<Joined, Status> {
    let (requests, receive) = mpsc::channel(REQUESTS_WAITING_MAX);
    // The channel is new and has room.
    let _ = requests.try_send(AttachRequest { request: Some(Request::Begin(begin)) });
    let replies = client.attach(ReceiverStream::new(receive)).await?.into_inner();
    Ok(Joined { requests, replies })
}

/// Starts an operation with its client attached: its output, its input, and its end come without
/// another turn of the link.
///
/// # Errors
/// As of `Start`, which it is: what is lost is asked again in the same way.
pub(in crate::session) async fn start(
    client: AgentClient<Channel>,
    request: StartRequest,
) -> Result<(StartReply, Joined), Status> {
    let begin = AttachBegin {
        id: request.id.clone(),
        from: Some(From::Offset(0)),
        input: true,
        start: Some(request),
        ..AttachBegin::default()
    };
    let mut joined = join(client, begin).await?;
    match joined.replies.message().await?.and_then(|reply| reply.reply) {
        Some(Reply::Started(started)) => Ok((started, joined)),
        _ => Err(Status::unavailable("the agent did not say how the start went")),
    }
}
