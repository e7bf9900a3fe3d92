//! A client of an operation: its requests to the supervisor, the supervisor's replies to it.

use std::pin::Pin;

use futures_util::stream::{self, Stream};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::AbortHandle;
use tonic::{Status, Streaming};

use super::operation_id;
use crate::operation::frame::{Frame, Frames};
use crate::operation::place::is_gone;
use crate::operation::{Operations, unknown_exit};
use crate::proto::attach_reply::Reply;
use crate::proto::attach_request::Request;
use crate::proto::{AttachReply, AttachRequest};

/// What a client is told. If the link breaks, it is dropped, and with it the connection.
pub(crate) type Replies = Pin<Box<dyn Stream<Item = Result<AttachReply, Status>> + Send>>;

/// Joins a client to its operation.
pub(super) async fn attach(
    operations: &Operations,
    mut requests: Streaming<AttachRequest>,
) -> Result<Replies, Status> {
    let first = requests.message().await?;
    let Some(AttachRequest { request: Some(Request::Begin(begin)) }) = first else {
        return Err(Status::invalid_argument("an attachment starts with its beginning"));
    };
    let operation = operations.find(operation_id(&begin.id)?).map_err(super::operation_status)?;
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
    let forward = tokio::spawn(forward(requests, to)).abort_handle();
    let client = Client { frames, _forward: Forward(forward), over: false };
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
        self.over = matches!(reply.reply, Some(Reply::Exit(_)));
        Some((Ok(reply), self))
    }
}
