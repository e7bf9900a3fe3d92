//! From the host to the sandbox.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use skync_agent::delta::has_signature;
use skync_agent::endpoint::Endpoint;
use skync_agent::entry::{Entry, File};
use skync_agent::follow::Follower;
use skync_agent::pack::Packer;
use skync_agent::path::SyncPath;
use skync_agent::proto::agent_client::AgentClient;
use skync_agent::proto::{self, ApplyRequest, OfferRequest, Offered};
use skync_agent::staging::PART_BYTES_MIN;
use skync_agent::transition::{self, Chunk, Held, Piece, Status};
use skync_agent::wire;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::reuse::{Reuse, Source};
use super::{
    Counters, MESSAGE_BYTES, MESSAGE_STEPS, MESSAGES_WAITING_MAX, Outcomes, SIGNATURES_WAITING_MAX,
    STEP_BYTES, TransferError, Tried, needed, transition_of,
};
use crate::channel::Channel;
use crate::sync::plan::Step;
use crate::sync::replay::Replay;

/// A content of at least this many bytes is asked for even in a sandbox that has no file yet: a
/// first synchronisation that was interrupted may have left its beginning, and one turn of the link
/// does not count against so much.
const OFFER_ALWAYS_BYTES_MIN: u64 = 64 << 20;

/// Carries steps from the host to the sandbox.
///
/// # Errors
/// If the link breaks; outcomes that came before are lost with it, which is safe (invariant I2).
pub async fn push(
    host: &Arc<Follower>,
    sandbox: AgentClient<Channel>,
    replay: &Arc<Replay>,
    steps: &Arc<Vec<Step>>,
    durable: bool,
    counters: &Arc<Counters>,
    reuse: Reuse,
) -> Result<Outcomes, TransferError> {
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    counters.begin(steps);
    let (replay, counters_there) = (Arc::clone(replay), Arc::clone(counters));
    let link = Link { sandbox, replay, durable, counters: counters_there };
    let ways = steps.iter().enumerate().map(|(number, step)| Way::of(number, step, &reuse));
    let ways = ways.collect();
    let tried = link.carry(host, Arc::clone(steps), ways, reuse).await?;
    let failed = tried.failed();
    if failed.is_empty() {
        return Ok(tried.outcomes);
    }
    let again: Vec<Step> = failed.iter().map(|step| steps[*step].clone()).collect();
    counters.begin(&again);
    let ways = again.iter().map(|step| if needed(step).is_some() { Way::Whole } else { Way::None });
    let ways = ways.collect();
    let outcomes = link.carry(host, Arc::new(again), ways, Reuse::default()).await?.outcomes;
    Ok(tried.with(&failed, outcomes))
}

/// How the content of a step gets there.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// It needs none.
    None,
    /// It travels.
    Whole,
    /// The sandbox copies it from this path.
    Copy(SyncPath),
    /// The sandbox has staged it before an earlier step.
    Rescued,
    /// The sandbox says first what it holds of it, its present file included or not.
    Ask { of_present: bool },
}

impl Way {
    fn of(number: usize, step: &Step, reuse: &Reuse) -> Self {
        let Some(file) = needed(step) else { return Self::None };
        let present = step.expected.as_ref().and_then(Entry::as_file);
        let of_present =
            has_signature(file.size) && present.is_some_and(|present| has_signature(present.size));
        let may_be_staged = file.size >= OFFER_ALWAYS_BYTES_MIN
            || (file.size >= PART_BYTES_MIN && !reuse.receiver_is_empty);
        match reuse.source(number) {
            Some(Source::Path(path)) => Self::Copy(path.clone()),
            Some(Source::Rescued) => Self::Rescued,
            None if of_present || may_be_staged => Self::Ask { of_present },
            None => Self::Whole,
        }
    }
}

/// The calls of one push.
struct Link {
    sandbox: AgentClient<Channel>,
    /// Where the outcomes come.
    replay: Arc<Replay>,
    durable: bool,
    counters: Arc<Counters>,
}

impl Link {
    async fn carry(
        &self,
        host: &Arc<Follower>,
        steps: Arc<Vec<Step>>,
        ways: Vec<Way>,
        reuse: Reuse,
    ) -> Result<Tried, TransferError> {
        let (send, receive) = mpsc::channel(MESSAGES_WAITING_MAX);
        let (held_in, held) = mpsc::channel(SIGNATURES_WAITING_MAX);
        let offered = offered(&steps, &ways);
        if !offered.is_empty() {
            tokio::spawn(ask(self.sandbox.clone(), offered, held_in, Arc::clone(&self.counters)));
        }
        let call = self.replay.begin(&steps);
        let (there, counters) = (Arc::clone(host), Arc::clone(&self.counters));
        let (batch, bytes, durable) = (Vec::new(), 0, self.durable);
        let packer = Packer::default();
        let given_up = Arc::new(AtomicBool::new(false));
        let _give_up = GiveUp(Arc::clone(&given_up));
        let sender = Sender { send, batch, bytes, durable, call, counters, packer, given_up };
        let (replay, sending) = (Arc::clone(&self.replay), Arc::clone(&steps));
        let reader = tokio::task::spawn_blocking(move || {
            let (read, host) = (Read::default(), there.endpoint());
            Reader { host, replay: &replay, held, sender, read }.read_out(&sending, &ways, &reuse)
        });
        let mut sandbox = self.sandbox.clone();
        let applied = async {
            let reply = sandbox.apply(ReceiverStream::new(receive)).await?.into_inner();
            self.counters.received(&reply);
            // The outcomes come with the states of the tree.
            self.replay.reached(reply.seq).await.map_err(tonic::Status::unavailable)
        };
        let applied = applied.await;
        let outcomes = self.replay.finish(call);
        let read = reader.await?;
        applied?;
        let mut tried = Tried { outcomes, spared: read.spared };
        for step in read.unread {
            host.mark(&steps[step].path);
            tried.outcomes[step] = Some(Status::Stale);
        }
        Ok(tried)
    }
}

/// Stops the reading when the push is no longer waited for: the request goes on by itself
/// otherwise, to its end.
struct GiveUp(Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn offered(steps: &[Step], ways: &[Way]) -> Vec<Offered> {
    let asked = steps.iter().zip(ways).filter_map(|(step, way)| match way {
        Way::Ask { of_present } => Some((step, needed(step)?, *of_present)),
        Way::None | Way::Whole | Way::Copy(_) | Way::Rescued => None,
    });
    asked
        .map(|(step, file, of_present)| Offered {
            digest: file.digest.0.to_vec(),
            path: if of_present { step.path.as_bytes().to_vec() } else { Vec::new() },
        })
        .collect()
}

/// Asks the sandbox what it holds of these contents. Where it does not answer, it holds nothing.
async fn ask(
    mut sandbox: AgentClient<Channel>,
    mut offered: Vec<Offered>,
    held: mpsc::Sender<proto::Held>,
    counters: Arc<Counters>,
) {
    let mut requests = Vec::new();
    while !offered.is_empty() {
        let rest = offered.split_off(offered.len().min(MESSAGE_STEPS));
        let request = OfferRequest { files: std::mem::replace(&mut offered, rest) };
        counters.sent(&request);
        requests.push(request);
    }
    let answered = async {
        let mut replies = sandbox.offer(tokio_stream::iter(requests)).await?.into_inner();
        while let Some(reply) = replies.message().await? {
            counters.received(&reply);
            for answer in reply.held {
                if held.send(answer).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok::<(), tonic::Status>(())
    };
    if let Err(status) = answered.await {
        tracing::debug!(%status, "the sandbox did not say what it holds");
    }
}

/// What became of the steps on the reading side.
#[derive(Default)]
struct Read {
    /// Steps whose content could not be read. It changed since the scan, most likely; the next
    /// round sees what it is now.
    unread: Vec<usize>,
    /// See [`Tried::spared`].
    spared: Vec<usize>,
}

struct Reader<'a> {
    host: &'a Endpoint,
    replay: &'a Replay,
    /// What the sandbox holds of the contents that were offered, in order.
    held: mpsc::Receiver<proto::Held>,
    sender: Sender,
    read: Read,
}

impl Reader<'_> {
    fn read_out(mut self, steps: &[Step], ways: &[Way], reuse: &Reuse) -> Read {
        for (number, (step, way)) in steps.iter().zip(ways).enumerate() {
            for chunk in reuse.before(number) {
                let _ = self.sender.piece(chunk);
            }
            if let Some(file) = needed(step)
                && !self.content(number, step, file, way)
            {
                if self.sender.given_up.load(Ordering::Relaxed) {
                    break;
                }
                self.read.unread.push(number);
                continue;
            }
            self.replay.sending(self.sender.call, number);
            let transition = transition::Step::Transition(transition_of(step));
            if self.sender.step(wire::step_to_wire(transition), STEP_BYTES).is_break() {
                break;
            }
        }
        // If the link is gone there is nobody to send to; the caller's reading of replies tells.
        let _ = self.sender.flush();
        self.read
    }

    /// Nothing of the content need be sent.
    fn is_there(&mut self, number: usize, file: &File) -> bool {
        self.read.spared.push(number);
        self.sender.counters.moved(file.size, true);
        true
    }

    /// What the sandbox holds of the content whose turn it is.
    fn answer(&mut self) -> proto::Held {
        match self.held.try_recv() {
            Ok(held) => held,
            Err(_) => {
                // What is ready goes on while the sandbox looks. A break is seen at the next step.
                let _ = self.sender.flush();
                self.held.blocking_recv().unwrap_or_default()
            }
        }
    }

    /// Sends the content of a step as far as it has to be; false if it could not be read.
    fn content(&mut self, number: usize, step: &Step, file: &File, way: &Way) -> bool {
        let held = match way {
            Way::None | Way::Whole => Held::default(),
            Way::Copy(from) => {
                self.read.spared.push(number);
                let piece = Piece::Copy { from: from.clone(), offset: 0, length: file.size };
                let chunk = Chunk { digest: file.digest, offset: 0, piece, last: true };
                // A break is seen at the next step.
                let _ = self.sender.chunk(chunk);
                return true;
            }
            Way::Rescued => return self.is_there(number, file),
            Way::Ask { .. } => {
                let held = self.answer();
                if held.whole {
                    return self.is_there(number, file);
                }
                wire::held_from_wire(held, file.size).unwrap_or_default()
            }
        };
        if held.prefix > 0 || held.signature.is_some() {
            self.read.spared.push(number);
        }
        self.sender.counters.moved(held.prefix, false);
        let sender = &mut self.sender;
        let result = self.host.read(&step.path, file, held, &mut |chunk| sender.chunk(chunk));
        result
            .inspect_err(|problem| tracing::debug!(path = %step.path, %problem, "not sent"))
            .is_ok()
    }
}

/// Gathers steps into messages.
struct Sender {
    send: mpsc::Sender<ApplyRequest>,
    batch: Vec<proto::Step>,
    bytes: usize,
    durable: bool,
    call: u64,
    counters: Arc<Counters>,
    packer: Packer,
    /// Nobody takes what would be sent.
    given_up: Arc<AtomicBool>,
}

impl Sender {
    fn chunk(&mut self, chunk: Chunk) -> ControlFlow<()> {
        self.counters.moved(chunk.piece.length(), chunk.last);
        self.piece(chunk)
    }

    fn piece(&mut self, chunk: Chunk) -> ControlFlow<()> {
        let chunk = wire::chunk_to_wire(chunk);
        let bytes = chunk.data.len() + STEP_BYTES;
        self.step(proto::Step { step: Some(proto::step::Step::Chunk(chunk)) }, bytes)
    }

    fn step(&mut self, step: proto::Step, bytes: usize) -> ControlFlow<()> {
        self.batch.push(step);
        self.bytes += bytes;
        if self.bytes >= MESSAGE_BYTES || self.batch.len() >= MESSAGE_STEPS {
            return self.flush();
        }
        ControlFlow::Continue(())
    }

    fn flush(&mut self) -> ControlFlow<()> {
        let steps = std::mem::take(&mut self.batch);
        if self.given_up.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        if steps.is_empty() {
            return ControlFlow::Continue(());
        }
        self.bytes = 0;
        let (durable, call) = (self.durable, self.call);
        let mut request = ApplyRequest { steps, durable, call, packed: None };
        if let Some(packed) = self.packer.pack(&request) {
            request = ApplyRequest { steps: Vec::new(), durable, call, packed: Some(packed) };
        }
        let bytes = self.counters.sent(&request);
        match self.packer.timed(bytes, || self.send.blocking_send(request)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => {
                self.given_up.store(true, Ordering::Relaxed);
                ControlFlow::Break(())
            }
        }
    }
}
