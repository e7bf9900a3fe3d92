//! Carries the steps of a plan to the side that they change, with the content they need.
//!
//! Either way it is one stream without a turn per file: steps and content go out as fast as the
//! receiver takes them, outcomes come back. Content is read on one side and verified by digest on
//! the other; what changed in between is left for the next round. Reading and writing happen on
//! blocking threads, every channel is bounded, and no file is held in memory whole.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skync_agent::endpoint::Endpoint;
use skync_agent::entry::{Entry, File};
use skync_agent::follow::Follower;
use skync_agent::path::SyncPath;
use skync_agent::proto::agent_client::AgentClient;
use skync_agent::proto::{self, ApplyRequest, Chunk, SupplyRequest, Wanted};
use skync_agent::transition::{self, Outcome, Status, Transition};
use skync_agent::wire;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::core::Outcomes;
use super::plan::Step;
use super::replay::Replay;
use crate::channel::Channel;

/// Messages between a blocking thread and the link.
const MESSAGES_WAITING_MAX: usize = 8;
/// Bytes of content after which a message is sent.
const MESSAGE_BYTES: usize = 256 << 10;
/// Steps after which a message is sent.
const MESSAGE_STEPS: usize = 512;
/// What a step costs in a message besides its content, about.
const STEP_BYTES: usize = 128;

/// Why a transfer ended before its time. Steps without an outcome may have been done or not; the
/// next scan tells.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The link broke, or the agent said no.
    #[error("the transfer broke off: {}", .0.message())]
    Link(#[from] tonic::Status),
    /// The other end broke the contract.
    #[error("the agent sent something malformed")]
    Wire(#[from] wire::WireError),
    /// A thread of ours failed.
    #[error("a thread failed")]
    Thread(#[from] tokio::task::JoinError),
}

/// What has gone over, for a progress display.
#[derive(Debug, Default)]
pub struct Counters {
    /// Files in the transfers that have begun.
    pub files_total: AtomicU64,
    /// Files that are through.
    pub files: AtomicU64,
    /// Bytes in the transfers that have begun.
    pub bytes_total: AtomicU64,
    /// Bytes that are through.
    pub bytes: AtomicU64,
}

impl Counters {
    fn begin(&self, steps: &[Step]) {
        for file in steps.iter().filter_map(needed) {
            self.files_total.fetch_add(1, Ordering::Relaxed);
            self.bytes_total.fetch_add(file.size, Ordering::Relaxed);
        }
    }

    fn moved(&self, bytes: usize, last: bool) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.files.fetch_add(u64::from(last), Ordering::Relaxed);
    }
}

/// The file whose content a step needs: none if the content is there already.
pub fn needed(step: &Step) -> Option<&File> {
    let new = step.new.as_ref()?.as_file()?;
    let old = step.expected.as_ref().and_then(Entry::as_file);
    if old.is_some_and(|old| old.same_content(new)) { None } else { Some(new) }
}

fn transition_of(step: &Step) -> transition::Step {
    transition::Step::Transition(Transition {
        path: step.path.clone(),
        expected: step.expected.clone(),
        new: step.new.clone(),
    })
}

/// Carries steps from the host to the sandbox.
///
/// # Errors
/// If the link breaks; outcomes that came before are lost with it, which is safe (invariant I2).
pub async fn push(
    host: &Arc<Follower>,
    mut sandbox: AgentClient<Channel>,
    replay: &Arc<Replay>,
    steps: &Arc<Vec<Step>>,
    durable: bool,
    counters: &Arc<Counters>,
) -> Result<Outcomes, TransferError> {
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    counters.begin(steps);
    let call = replay.begin(steps);
    let (send, receive) = mpsc::channel(MESSAGES_WAITING_MAX);
    let (source, there) = (Arc::clone(host), (Arc::clone(steps), Arc::clone(replay)));
    let counters = Arc::clone(counters);
    let reader = tokio::task::spawn_blocking(move || {
        let (steps, replay) = there;
        let mut sender = Sender { send, batch: Vec::new(), bytes: 0, durable, call };
        read_out(source.endpoint(), &steps, &replay, &counters, &mut sender)
    });
    let applied = async {
        let reply = sandbox.apply(ReceiverStream::new(receive)).await?.into_inner();
        // The outcomes come with the states of the tree.
        replay.reached(reply.seq).await.map_err(tonic::Status::unavailable)
    };
    let applied = applied.await;
    let mut outcomes = replay.finish(call);
    let unread = reader.await?;
    applied?;
    for (step, status) in unread {
        host.mark(&steps[step].path);
        outcomes[step] = Some(status);
    }
    Ok(outcomes)
}

/// Sends the steps with their content. Returns those whose content could not be read.
fn read_out(
    host: &Endpoint,
    steps: &[Step],
    replay: &Replay,
    counters: &Counters,
    sender: &mut Sender,
) -> Vec<(usize, Status)> {
    let mut unread = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        if let Some(file) = needed(step) {
            let result = host.read(&step.path, file, &mut |chunk| {
                counters.moved(chunk.data.len(), chunk.last);
                sender.chunk(wire::chunk_to_wire(chunk))
            });
            if let Err(problem) = result {
                // It changed since it was read, most likely; the next round sees what it is now.
                tracing::debug!(path = %step.path, %problem, "not sent");
                unread.push((index, Status::Stale));
                continue;
            }
        }
        replay.sending(sender.call, index);
        if sender.step(wire::step_to_wire(transition_of(step)), STEP_BYTES).is_break() {
            break;
        }
    }
    // If the link is gone there is nobody to send to; the caller's reading of replies tells.
    let _ = sender.flush();
    unread
}

/// Gathers steps into messages.
struct Sender {
    send: mpsc::Sender<ApplyRequest>,
    batch: Vec<proto::Step>,
    bytes: usize,
    durable: bool,
    call: u64,
}

impl Sender {
    fn chunk(&mut self, chunk: Chunk) -> ControlFlow<()> {
        let bytes = chunk.data.len();
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
        self.bytes = 0;
        let request = ApplyRequest { steps, durable: self.durable, call: self.call };
        match self.send.blocking_send(request) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

/// Carries steps from the sandbox to the host. `sources` says where the sandbox has the content of a
/// step, if not at its own path.
///
/// # Errors
/// If the link breaks. What was written until then is in the outcomes of nobody; the next scan
/// finds it.
pub async fn pull(
    host: &Arc<Follower>,
    mut sandbox: AgentClient<Channel>,
    steps: &Arc<Vec<Step>>,
    sources: &Arc<HashMap<SyncPath, SyncPath>>,
    durable: bool,
    counters: &Arc<Counters>,
) -> Result<Outcomes, TransferError> {
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    counters.begin(steps);
    let (want, wanted) = mpsc::channel(MESSAGES_WAITING_MAX);
    tokio::spawn(ask(Arc::clone(steps), Arc::clone(sources), want));
    let (chunks_in, chunks) = mpsc::channel(MESSAGES_WAITING_MAX);
    let (host, steps, counters) = (Arc::clone(host), Arc::clone(steps), Arc::clone(counters));
    let writer = tokio::task::spawn_blocking(move || {
        let mut source = Source::new(&steps, chunks, &counters);
        let mut reported = Vec::new();
        host.apply(None, &mut source, &mut |outcome| reported.push(outcome));
        let mut outcomes = source.outcomes;
        for Outcome { index, status } in reported {
            let step = usize::try_from(index).ok().and_then(|index| source.sent.get(index));
            if let Some(&step) = step {
                outcomes[step] = Some(status);
            }
        }
        if durable && let Err(error) = host.endpoint().sync() {
            // What was not synced must not be recorded (I2).
            tracing::warn!(%error, "the host's file system could not be synced");
            outcomes.fill(None);
        }
        outcomes
    });
    let mut replies = sandbox.supply(ReceiverStream::new(wanted)).await?.into_inner();
    let broken = loop {
        match replies.message().await {
            Ok(Some(reply)) => {
                if chunks_in.send(reply.chunks).await.is_err() {
                    break None;
                }
            }
            Ok(None) => break None,
            Err(status) => break Some(status),
        }
    };
    drop(chunks_in);
    let outcomes = writer.await?;
    match broken {
        None => Ok(outcomes),
        Some(status) => Err(status.into()),
    }
}

async fn ask(
    steps: Arc<Vec<Step>>,
    sources: Arc<HashMap<SyncPath, SyncPath>>,
    want: mpsc::Sender<SupplyRequest>,
) {
    let mut wanted = steps.iter().filter_map(|step| {
        needed(step).map(|file| Wanted {
            path: sources.get(&step.path).unwrap_or(&step.path).as_bytes().to_vec(),
            digest: file.digest.0.to_vec(),
            size: file.size,
        })
    });
    loop {
        let batch: Vec<_> = wanted.by_ref().take(MESSAGE_STEPS).collect();
        if batch.is_empty() || want.send(SupplyRequest { wanted: batch }).await.is_err() {
            return;
        }
    }
}

/// Where a [`Source`] is.
#[derive(Clone, Copy)]
enum At {
    /// Before this step.
    Step(usize),
    /// In the content of this step, of which so many bytes have come.
    Content(usize, u64),
    /// Behind the content of this step.
    Received(usize),
}

/// The steps for the host, each right after the content it needs.
///
/// The sandbox is not trusted: a chunk that is not of the file that was asked for, or more of it
/// than was announced, fails that step; the digest is verified where it is written.
struct Source<'a> {
    steps: &'a [Step],
    at: At,
    waiting: VecDeque<Chunk>,
    chunks: mpsc::Receiver<Vec<Chunk>>,
    counters: &'a Counters,
    sent: Vec<usize>,
    outcomes: Outcomes,
}

impl<'a> Source<'a> {
    fn new(steps: &'a [Step], chunks: mpsc::Receiver<Vec<Chunk>>, counters: &'a Counters) -> Self {
        let (waiting, sent) = (VecDeque::new(), Vec::new());
        let outcomes = vec![None; steps.len()];
        Self { steps, at: At::Step(0), waiting, chunks, counters, sent, outcomes }
    }

    fn transition(&mut self, index: usize) -> transition::Step {
        self.sent.push(index);
        transition_of(&self.steps[index])
    }

    /// The next chunk of the open file, as a step; nothing if the file failed.
    fn take(&mut self, chunk: Chunk, index: usize, taken: u64) -> Option<transition::Step> {
        let file = needed(&self.steps[index])?;
        if !chunk.problem.is_empty() {
            tracing::debug!(path = %self.steps[index].path, problem = chunk.problem, "not received");
            self.fail(index, Status::Stale);
            return None;
        }
        let after = taken + chunk.data.len() as u64;
        let fits = chunk.offset == taken
            && after <= file.size
            && chunk.digest == file.digest.0
            && (!chunk.last || after == file.size);
        let (last, length) = (chunk.last, chunk.data.len());
        let step = wire::chunk_from_wire(chunk).ok().filter(|_| fits);
        if step.is_none() {
            let problem = "the sandbox sent content that is not the file's".to_owned();
            self.fail(index, Status::Failed { problem, no_space: false });
            // Whatever else comes for it is not told apart from the next file: give up.
            self.chunks.close();
            self.waiting.clear();
            return None;
        }
        self.counters.moved(length, last);
        self.at = if last { At::Received(index) } else { At::Content(index, after) };
        step
    }

    fn fail(&mut self, index: usize, status: Status) {
        self.outcomes[index] = Some(status);
        self.at = At::Step(index + 1);
    }
}

impl Iterator for Source<'_> {
    type Item = transition::Step;

    fn next(&mut self) -> Option<transition::Step> {
        loop {
            match self.at {
                At::Step(index) if needed(self.steps.get(index)?).is_some() => {
                    self.at = At::Content(index, 0);
                }
                At::Step(index) | At::Received(index) => {
                    self.at = At::Step(index + 1);
                    return Some(self.transition(index));
                }
                At::Content(index, taken) => {
                    while self.waiting.is_empty() {
                        self.waiting.extend(self.chunks.blocking_recv()?);
                    }
                    let chunk = self.waiting.pop_front()?;
                    if let Some(step) = self.take(chunk, index, taken) {
                        return Some(step);
                    }
                }
            }
        }
    }
}
