//! A client of an operation: its requests to the supervisor, the supervisor's replies to it.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::AbortHandle;
use tonic::{Status, Streaming};

use super::{operation_id, operation_status, with_state};
use crate::operation::frame::{Frame, Frames};
use crate::operation::place::is_gone;
use crate::operation::{OperationId, unknown_exit};
use crate::proto::attach_reply::Reply;
use crate::proto::attach_request::Request;
use crate::proto::{AttachBegin, AttachReply, AttachRequest, StartFailure};
use crate::serve::Links;

/// What a client is told. If the link breaks, it is dropped, and with it the connection.
pub(crate) type Replies = Pin<Box<dyn Stream<Item = Result<AttachReply, Status>> + Send>>;

/// Joins a client to its operation, which it may start.
pub(super) async fn attach(
    links: &Arc<Links>,
    mut requests: Streaming<AttachRequest>,
) -> Result<Replies, Status> {
    let first = requests.message().await?;
    let Some(AttachRequest { request: Some(Request::Begin(mut begin)) }) = first else {
        return Err(Status::invalid_argument("an attachment starts with its beginning"));
    };
    let id = operation_id(&begin.id)?;
    let Some(start) = begin.start.take() else { return join(links, id, begin, requests).await };
    if start.id != begin.id {
        return Err(Status::invalid_argument("an attachment starts its own operation"));
    }
    let started = links.operations.start(id, start).await.map_err(operation_status)?;
    let runs = started.failure() == StartFailure::StartOk;
    let started = stream::iter([Ok(AttachReply { reply: Some(Reply::Started(started)) })]);
    if !runs {
        return Ok(Box::pin(started));
    }
    // It runs, whatever comes now: that is told first.
    let replies = match join(links, id, begin, requests).await {
        Ok(replies) => replies,
        Err(status) => Box::pin(stream::iter([Err(status)])),
    };
    Ok(Box::pin(started.chain(replies)))
}

async fn join(
    links: &Arc<Links>,
    id: OperationId,
    begin: AttachBegin,
    requests: Streaming<AttachRequest>,
) -> Result<Replies, Status> {
    let operation = links.operations.find(id).map_err(operation_status)?;
    let waits = !begin.no_follow;
    let first = AttachRequest { request: Some(Request::Begin(begin)) };
    let (frames, to) = match operation.attach(first).await {
        Ok(joined) => joined,
        Err(error) if is_gone(&error) => {
            // With it went the output, and maybe what is known of its end.
            let exit = AttachReply { reply: Some(Reply::Exit(operation.wait().await)) };
            return Ok(Box::pin(stream::iter([Ok(exit)])));
        }
        Err(error) => return Err(Status::unavailable(error.to_string())),
    };
    let forward = Forward(tokio::spawn(forward(requests, to)).abort_handle());
    let links = waits.then(|| Arc::clone(links));
    let client = Client { frames, _forward: forward, links, over: false };
    Ok(Box::pin(stream::unfold(client, Client::next)))
}

/// Passes on what the client asks.
async fn forward(mut requests: Streaming<AttachRequest>, mut to: OwnedWriteHalf) {
    while let Ok(Some(request)) = requests.message().await {
        if Frame::Attach(request).write(&mut to).await.is_err() {
            break;
        }
    }
    // A client that asks nothing more may still listen; closing this would say that it is gone.
    std::future::pending().await
}

struct Client {
    frames: Frames<OwnedReadHalf>,
    _forward: Forward,
    /// For one that waits for the end.
    links: Option<Arc<Links>>,
    over: bool,
}

/// Ends with the client.
struct Forward(AbortHandle);

impl Drop for Forward {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Client {
    async fn next(mut self) -> Option<(Result<AttachReply, Status>, Self)> {
        if self.over {
            return None;
        }
        let reply = match self.frames.next().await {
            Ok(Some(Frame::End)) => return None,
            Ok(Some(frame)) => frame.into_reply()?,
            Ok(None) | Err(_) => AttachReply { reply: Some(Reply::Exit(unknown_exit())) },
        };
        let reply = match (reply.reply, &self.links) {
            (Some(Reply::Exit(exit)), links) => {
                self.over = true;
                let exit = match links {
                    Some(links) if !exit.unknown => with_state(links, exit).await,
                    Some(_) | None => exit,
                };
                Some(Reply::Exit(exit))
            }
            (reply, _) => reply,
        };
        Some((Ok(AttachReply { reply }), self))
    }
}
