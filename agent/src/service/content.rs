//! The calls that carry content: what is to be written, what is held of it, what is wanted.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::{MESSAGES_WAITING_MAX, Replies, endpoint_status, wire_status};
use crate::endpoint::Endpoint;
use crate::entry::File;
use crate::pack::{self, Packer};
use crate::proto;
use crate::wire::{self, WireError};

/// Outcomes in one message.
const OUTCOMES_PER_MESSAGE_MAX: usize = 512;
/// Bytes of content after which a message of a supply is sent.
const SUPPLY_BYTES_PER_MESSAGE: usize = 256 << 10;
/// What a chunk costs besides its data, about.
const CHUNK_BYTES: usize = 64;
/// Messages that may hold signatures, which are up to 1.5 MiB each, between the link and a thread.
const SIGNATURES_WAITING_MAX: usize = 1;

/// Changes the tree as the session says.
pub(super) fn apply(
    endpoint: Arc<Endpoint>,
    requests: Streaming<proto::ApplyRequest>,
) -> Replies<proto::ApplyReply> {
    let (steps_in, steps_out) = mpsc::channel(MESSAGES_WAITING_MAX);
    let (send, receive) = mpsc::channel(MESSAGES_WAITING_MAX);
    tokio::spawn(take_steps(requests, steps_in));
    tokio::task::spawn_blocking(move || apply_steps(&endpoint, steps_out, &send));
    Response::new(ReceiverStream::new(receive))
}

/// Says what is here of the contents that the session would send.
pub(super) fn offer(
    endpoint: Arc<Endpoint>,
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
                let reply = match held(&endpoint, &file) {
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
    endpoint: Arc<Endpoint>,
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
    tokio::task::spawn_blocking(move || supply_files(&endpoint, wanted, &send));
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
    endpoint: &Endpoint,
    mut messages: mpsc::Receiver<Result<proto::ApplyRequest, Status>>,
    send: &mpsc::Sender<Result<proto::ApplyReply, Status>>,
) {
    let mut durable = false;
    let broken: Mutex<Option<Status>> = Mutex::new(None);
    let steps = std::iter::from_fn(|| match messages.blocking_recv()? {
        Ok(message) => {
            durable |= message.durable;
            let unpacked = message.packed.as_ref().map(pack::unpack::<proto::ApplyRequest>);
            match unpacked.transpose() {
                Ok(unpacked) => Some(unpacked.unwrap_or(message).steps),
                Err(error) => {
                    *broken.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(wire_status(error));
                    None
                }
            }
        }
        Err(status) => {
            *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
            None
        }
    })
    .flatten()
    .map_while(|step| match wire::step_from_wire(step) {
        Ok(step) => Some(step),
        Err(error) => {
            *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(wire_status(error));
            None
        }
    });
    let mut outcomes = Vec::new();
    endpoint.apply(steps, &mut |outcome| {
        outcomes.push(wire::outcome_to_wire(outcome));
        if outcomes.len() >= OUTCOMES_PER_MESSAGE_MAX {
            let outcomes = std::mem::take(&mut outcomes);
            // If the session is gone the steps in hand are still finished.
            let _ = send.blocking_send(Ok(proto::ApplyReply { outcomes }));
        }
    });
    if durable && let Err(error) = endpoint.sync() {
        // What was not synced must not be recorded (I2): the last outcomes are not told.
        let _ = send.blocking_send(Err(endpoint_status(error)));
        return;
    }
    let _ = send.blocking_send(Ok(proto::ApplyReply { outcomes }));
    if let Some(status) = broken.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let _ = send.blocking_send(Err(status));
    }
}

/// Reads what is wanted and sends it, small files together.
fn supply_files(
    endpoint: &Endpoint,
    mut wanted: mpsc::Receiver<Vec<proto::Wanted>>,
    send: &mpsc::Sender<Result<proto::SupplyReply, Status>>,
) {
    let mut supply = Supply { send, chunks: Vec::new(), bytes: 0, packer: Packer::default() };
    while let Some(batch) = wanted.blocking_recv() {
        for file in batch {
            if let Err(error) = supply.file(endpoint, file) {
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
    fn file(&mut self, endpoint: &Endpoint, file: proto::Wanted) -> Result<(), WireError> {
        let (path, digest) = (wire::path(&file.path)?, wire::digest(&file.digest)?);
        let held = wire::held_from_wire(file.held.unwrap_or_default(), file.size)?;
        let expected = File { digest, size: file.size, mode: 0, mtime_ns: 0 };
        let read = endpoint.read(&path, &expected, held, &mut |chunk| {
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
