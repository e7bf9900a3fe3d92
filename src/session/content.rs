//! One file of the sandbox, for a person who has to decide about it.

use skync_agent::entry::Digest;
use skync_agent::pack;
use skync_agent::proto::{SupplyReply, SupplyRequest, Wanted};

use crate::session::proto::ContentRequest;
use crate::session::server::Session;

/// Most bytes of a file that a person compares.
const BYTES_MAX: u64 = 1 << 20;

/// The content of a file; nothing if there is no sandbox, or the file is another one by now.
pub(super) async fn read(session: &Session, request: ContentRequest) -> Option<Vec<u8>> {
    let ContentRequest { path, digest, size } = request;
    let expected = Digest::from_slice(&digest).filter(|_| size <= BYTES_MAX)?;
    let mut client = session.link().await?.client;
    let wanted = vec![Wanted { path, digest, size, held: None }];
    let request = tokio_stream::once(SupplyRequest { wanted });
    let mut replies = client.supply(request).await.ok()?.into_inner();
    let mut data = Vec::new();
    while let Some(reply) = replies.message().await.ok()? {
        let reply = match &reply.packed {
            Some(packed) => pack::unpack::<SupplyReply>(packed).ok()?,
            None => reply,
        };
        for chunk in reply.chunks {
            data.extend_from_slice(&chunk.data);
            // The sandbox is not trusted: no more than was asked for is held.
            if !chunk.problem.is_empty() || data.len() as u64 > size {
                return None;
            }
        }
    }
    (Digest::of(&data) == expected).then_some(data)
}
