//! What an operation wrote, taken home when it has ended: its sandbox, and the spool in it, go.
//!
//! What clients have taken passed through here, and the last of it is remembered; only what nobody
//! took is fetched.

use skync_agent::proto::attach_begin::From;
use skync_agent::proto::attach_reply::Reply;
use skync_agent::proto::attach_request::Request;
use skync_agent::proto::{AttachBegin, AttachRequest, ForgetRequest};

use crate::session::operations::{Operation, Phase};
use crate::session::server::Session;
use crate::session::ways::Way;

/// Keeps an ended operation's output on the host.
pub(super) async fn keep(session: &Session, operation: &Operation) {
    let written = match &*operation.phase.borrow() {
        Phase::Ending(_, Some(exit)) => Some(exit.output_bytes),
        Phase::Preparing | Phase::Running(_) | Phase::Ending(..) | Phase::Over(_) => None,
    };
    let pieces = operation.remembered();
    let end = pieces.last().map_or(0, |piece| piece.offset + piece.data.len() as u64);
    let kept = match written {
        Some(written) if end < written => fetch(session, operation).await,
        _ if pieces.is_empty() => Ok(()),
        _ => {
            let write = || -> Result<(), Box<dyn std::error::Error>> {
                let mut output = session.store.output_writer(operation.id)?;
                for piece in &pieces {
                    let stream = u8::from(piece.stream != 0);
                    output.append(stream, piece.offset, piece.time_ms, &piece.data)?;
                }
                Ok(output.flush()?)
            };
            write().map_err(|error| error.to_string())
        }
    };
    if let Err(error) = kept {
        tracing::warn!(error, "the output of an operation is not kept");
    }
}

/// Lets the sandbox forget an operation that is written down here. Nobody waits for that.
pub(super) fn forget(session: &Session, operation: &Operation) {
    let Way::Open(open) = session.ways.now() else { return };
    let mut client = open.0.client.clone();
    let request = ForgetRequest { id: operation.id.to_vec() };
    tokio::spawn(async move {
        if let Err(error) = client.forget(request).await {
            tracing::debug!(%error, "the agent did not forget an operation");
        }
    });
}

/// Takes home all that the spool has.
async fn fetch(session: &Session, operation: &Operation) -> Result<(), String> {
    let Way::Open(open) = session.ways.now() else {
        return Err("the sandbox cannot be reached".to_owned());
    };
    let begin = AttachBegin {
        id: operation.id.to_vec(),
        from: Some(From::Offset(0)),
        no_follow: true,
        ..AttachBegin::default()
    };
    let request = AttachRequest { request: Some(Request::Begin(begin)) };
    let mut client = open.0.client.clone();
    let replies = client.attach(tokio_stream::once(request)).await;
    let mut replies = replies.map_err(|status| status.message().to_owned())?.into_inner();
    let mut output =
        session.store.output_writer(operation.id).map_err(|error| error.to_string())?;
    let failed = |error: std::io::Error| error.to_string();
    while let Some(reply) = replies.message().await.map_err(|status| status.message().to_owned())? {
        match reply.reply {
            Some(Reply::Output(frame)) => {
                let stream = u8::from(frame.stream != 0);
                output.append(stream, frame.offset, frame.time_ms, &frame.data).map_err(failed)?;
            }
            Some(Reply::Exit(_)) => break,
            // A gap shows in the offset of what follows.
            Some(
                Reply::Attached(_)
                | Reply::Gap(_)
                | Reply::InputTaken(_)
                | Reply::Evicted(_)
                | Reply::Started(_),
            )
            | None => {}
        }
    }
    output.flush().map_err(failed)
}
