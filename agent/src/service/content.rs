//! The calls that carry content: what is to be written, what is held of it, what is wanted.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::{MESSAGES_WAITING_MAX, Replies, endpoint_status, join_status, wire_status};
use crate::endpoint::Endpoint;
use crate::entry::File;
use crate::follow::Follower;
use crate::pack::{self, Packer};
use crate::proto;
use crate::wire::{self, WireError};

/// Bytes of content after which a message of a supply is sent.
const SUPPLY_BYTES_PER_MESSAGE: usize = 256 << 10;
/// What a chunk costs besides its data, about.
const CHUNK_BYTES: usize = 64;
/// Messages that may hold signatures, which are up to 1.5 MiB each, between the link and a thread.
const SIGNATURES_WAITING_MAX: usize = 1;

/// Changes the tree as the session says. Returns the number of a state with all outcomes.
pub(super) async fn apply(
    follower: Arc<Follower>,
    requests: Streaming<proto::ApplyRequest>,
) -> Result<u64, Status> {
    let (steps_in, steps_out) = mpsc::channel(MESSAGES_WAITING_MAX);
    tokio::spawn(take_steps(requests, steps_in));
    let applied = tokio::task::spawn_blocking(move || apply_steps(&follower, steps_out));
    applied.await.map_err(join_status)?
}

/// Says what is here of the contents that the session would send.
pub(super) fn offer(
    follower: Arc<Follower>,
    mut requests: Streaming<proto::OfferRequest>,
) -> Replies<proto::OfferReply> {
    let (offers_in, mut offers) = mpsc::channel(MESSAGES_WAITING_MAX);
    let (send, receive) = mpsc::channel(SIGNATURES_WAITING_MAX);
    tokio::spawn(async move {
        while let Ok(Some(request)) = requests.message().await {
            if offers_in.send(request.files).await.is_err() {
                return;
            }
        }
    });
    tokio::task::spawn_blocking(move || {
        while let Some(files) = offers.blocking_recv() {
            for file in files {
                let reply = match held(follower.endpoint(), &file) {
                    Ok(held) => Ok(proto::OfferReply { held: vec![held] }),
                    Err(error) => Err(wire_status(error)),
                };
                let broken = reply.is_err();
                if send.blocking_send(reply).is_err() || broken {
                    return;
                }
            }
        }
    });
    Response::new(ReceiverStream::new(receive))
}

fn held(endpoint: &Endpoint, offered: &proto::Offered) -> Result<proto::Held, WireError> {
    let digest = wire::digest(&offered.digest)?;
    if endpoint.staging().has(&digest) {
        return Ok(proto::Held { whole: true, ..proto::Held::default() });
    }
    let signed = match offered.path.as_slice() {
        [] => None,
        path => endpoint.sign(&wire::path(path)?),
    };
    Ok(wire::signed_to_wire(endpoint.staging().part_of(&digest), signed))
}

/// Sends what the session wants.
pub(super) fn supply(
    follower: Arc<Follower>,
    mut requests: Streaming<proto::SupplyRequest>,
) -> Replies<proto::SupplyReply> {
    let (wanted_in, wanted) = mpsc::channel(SIGNATURES_WAITING_MAX);
    let (send, receive) = mpsc::channel(MESSAGES_WAITING_MAX);
    tokio::spawn(async move {
        while let Ok(Some(request)) = requests.message().await {
            if wanted_in.send(request.wanted).await.is_err() {
                return;
            }
        }
    });
    tokio::task::spawn_blocking(move || supply_files(&follower, wanted, &send));
    Response::new(ReceiverStream::new(receive))
}

async fn take_steps(
    mut requests: Streaming<proto::ApplyRequest>,
    steps: mpsc::Sender<Result<proto::ApplyRequest, Status>>,
) {
    loop {
        let message = match requests.message().await {
            Ok(Some(message)) => Ok(message),
            Ok(None) => return,
            Err(status) => Err(status),
        };
        let broken = message.is_err();
        if steps.send(message).await.is_err() || broken {
            return;
        }
    }
}

/// Applies the steps of one call; whatever ends the call early, each step is done or not begun.
fn apply_steps(
    follower: &Follower,
    mut messages: mpsc::Receiver<Result<proto::ApplyRequest, Status>>,
) -> Result<u64, Status> {
    let Some(first) = messages.blocking_recv() else {
        return Ok(*follower.seq().borrow());
    };
    let first = first?;
    let (durable, call) = (first.durable, first.call);
    let broken: Mutex<Option<Status>> = Mutex::new(None);
    let stop = |status| *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    let mut first = Some(Ok(first));
    let next = std::iter::from_fn(|| match first.take().or_else(|| messages.blocking_recv())? {
        Ok(message) => match steps_of(message) {
            Ok(steps) => Some(steps),
            Err(error) => {
                stop(wire_status(error));
                None
            }
        },
        Err(status) => {
            stop(status);
            None
        }
    });
    let steps = next.flatten().map_while(|step| match wire::step_from_wire(step) {
        Ok(step) => Some(step),
        Err(error) => {
            stop(wire_status(error));
            None
        }
    });
    follower.apply(Some(call), steps, &mut |_| {});
    if let Some(status) = broken.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(status);
    }
    if durable {
        // What was not synced must not be recorded (I2): then there is no reply.
        follower.endpoint().sync().map_err(endpoint_status)?;
    }
    Ok(*follower.seq().borrow())
}

fn steps_of(message: proto::ApplyRequest) -> Result<Vec<proto::Step>, WireError> {
    match &message.packed {
        None => Ok(message.steps),
        Some(packed) => Ok(pack::unpack::<proto::ApplyRequest>(packed)?.steps),
    }
}

/// Reads what is wanted and sends it, small files together.
fn supply_files(
    follower: &Follower,
    mut wanted: mpsc::Receiver<Vec<proto::Wanted>>,
    send: &mpsc::Sender<Result<proto::SupplyReply, Status>>,
) {
    let mut supply = Supply { send, chunks: Vec::new(), bytes: 0, packer: Packer::default() };
    while let Some(batch) = wanted.blocking_recv() {
        for file in batch {
            if let Err(error) = supply.file(follower, file) {
                let _ = send.blocking_send(Err(wire_status(error)));
                return;
            }
            if send.is_closed() {
                return;
            }
        }
    }
    // If the session is gone there is nobody to send to.
    let _ = supply.flush();
}

/// Gathers chunks into messages.
struct Supply<'a> {
    send: &'a mpsc::Sender<Result<proto::SupplyReply, Status>>,
    chunks: Vec<proto::Chunk>,
    bytes: usize,
    packer: Packer,
}

impl Supply<'_> {
    fn file(&mut self, follower: &Follower, file: proto::Wanted) -> Result<(), WireError> {
        let (path, digest) = (wire::path(&file.path)?, wire::digest(&file.digest)?);
        let held = wire::held_from_wire(file.held.unwrap_or_default(), file.size)?;
        let expected = File { digest, size: file.size, mode: 0, mtime_ns: 0 };
        let read = follower.endpoint().read(&path, &expected, held, &mut |chunk| {
            let mut chunk = wire::chunk_to_wire(chunk);
            if let Some(copy) = &mut chunk.copy {
                // It can be of no other file.
                copy.path.clear();
            }
            self.bytes += chunk.data.len() + CHUNK_BYTES;
            self.chunks.push(chunk);
            if self.bytes < SUPPLY_BYTES_PER_MESSAGE {
                return ControlFlow::Continue(());
            }
            self.flush()
        });
        if let Err(problem) = read {
            // It is not what the session was told: so it is read and told anew.
            follower.mark(&path);
            let (digest, problem) = (digest.0.to_vec(), problem.to_string());
            self.chunks.push(proto::Chunk { digest, problem, last: true, ..Default::default() });
        }
        Ok(())
    }

    fn flush(&mut self) -> ControlFlow<()> {
        self.bytes = 0;
        let chunks = std::mem::take(&mut self.chunks);
        let mut reply = proto::SupplyReply { chunks, packed: None };
        if let Some(packed) = self.packer.pack(&reply) {
            reply = proto::SupplyReply { chunks: Vec::new(), packed: Some(packed) };
        }
        let bytes = reply.encoded_len();
        match self.packer.timed(bytes, || self.send.blocking_send(Ok(reply))) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}
