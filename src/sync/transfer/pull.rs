//! From the sandbox to the host.
//!
//! The sandbox is not trusted: a chunk that is not of the file that was asked for, or more of it
//! than was announced, or a copy where nothing was said of what the host has, fails that step; the
//! digest is verified where it is written. A copy is always from the path that is being changed,
//! whatever the sandbox says.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use skync_agent::delta::has_signature;
use skync_agent::endpoint::Endpoint;
use skync_agent::entry::{Digest, Entry, File};
use skync_agent::follow::Follower;
use skync_agent::pack;
use skync_agent::path::SyncPath;
use skync_agent::proto::agent_client::AgentClient;
use skync_agent::proto::{self, SupplyReply, SupplyRequest, Wanted};
use skync_agent::transition::{self, Chunk, Piece, Status};
use skync_agent::wire;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::reuse::{self, Reuse};
use super::{
    Counters, MESSAGE_BYTES, MESSAGE_STEPS, MESSAGES_WAITING_MAX, Outcomes, SIGNATURES_WAITING_MAX,
    STEP_BYTES, TransferError, Tried, needed, transition_of,
};
use crate::channel::Channel;
use crate::sync::plan::Step;

/// Carries steps from the sandbox to the host.
///
/// # Errors
/// If the link breaks. What was written until then is in the outcomes of nobody; the next scan
/// finds it.
pub async fn pull(
    host: &Arc<Follower>,
    sandbox: AgentClient<Channel>,
    steps: &Arc<Vec<Step>>,
    sources: &Arc<HashMap<SyncPath, SyncPath>>,
    durable: bool,
    counters: &Arc<Counters>,
    reuse: Reuse,
) -> Result<Outcomes, TransferError> {
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    counters.begin(steps);
    let (sources, counters_there) = (Arc::clone(sources), Arc::clone(counters));
    let link = Link { sandbox, sources, durable, counters: counters_there };
    let ways = steps.iter().enumerate().map(|(number, step)| Way::of(number, step, &reuse));
    let ways = ways.collect();
    let tried = link.carry(host, Arc::clone(steps), ways, reuse).await?;
    let failed = tried.failed();
    if failed.is_empty() {
        return Ok(tried.outcomes);
    }
    let again: Vec<Step> = failed.iter().map(|step| steps[*step].clone()).collect();
    counters.begin(&again);
    let ways = vec![Way::Whole; again.len()];
    let outcomes = link.carry(host, Arc::new(again), ways, Reuse::default()).await?.outcomes;
    Ok(tried.with(&failed, outcomes))
}

/// How the content of a step gets here, if it needs one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// It travels.
    Whole,
    /// It is copied from this path.
    Copy(SyncPath),
    /// It is staged before an earlier step.
    Rescued,
    /// It travels as far as it is not staged, or in the present file if that is to be looked at.
    Rest { of_present: bool },
}

impl Way {
    fn of(number: usize, step: &Step, reuse: &Reuse) -> Self {
        match reuse.source(number) {
            Some(reuse::Source::Path(path)) => return Self::Copy(path.clone()),
            Some(reuse::Source::Rescued) => return Self::Rescued,
            None => {}
        }
        let file = needed(step);
        let present = step.expected.as_ref().and_then(Entry::as_file);
        let is_large = |file: &File| has_signature(file.size);
        Self::Rest { of_present: file.is_some_and(is_large) && present.is_some_and(is_large) }
    }
}

/// The calls of one pull.
struct Link {
    sandbox: AgentClient<Channel>,
    /// Where the sandbox has the content of a step, if not at its own path.
    sources: Arc<HashMap<SyncPath, SyncPath>>,
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
        let (want, wanted) = mpsc::channel(SIGNATURES_WAITING_MAX);
        // One small value for a step, and the asking must not wait for the writing.
        let (decide, decided) = mpsc::unbounded_channel();
        let asker = Asker {
            host: Arc::clone(host.endpoint()),
            sources: Arc::clone(&self.sources),
            want,
            batch: Vec::new(),
            bytes: 0,
            decide,
            claimed: HashSet::new(),
            counters: Arc::clone(&self.counters),
        };
        let asked = Arc::clone(&steps);
        tokio::task::spawn_blocking(move || asker.ask(&asked, ways));
        let (chunks_in, chunks) = mpsc::channel(MESSAGES_WAITING_MAX);
        let (host, counters) = (Arc::clone(host), Arc::clone(&self.counters));
        let durable = self.durable;
        let writer = tokio::task::spawn_blocking(move || {
            let source = Source::new(&steps, reuse, chunks, decided, &counters);
            write(&host, source, durable)
        });
        let mut sandbox = self.sandbox.clone();
        let mut replies = sandbox.supply(ReceiverStream::new(wanted)).await?.into_inner();
        let broken = loop {
            match replies.message().await {
                Ok(Some(mut reply)) => {
                    self.counters.received(&reply);
                    if let Some(packed) = &reply.packed {
                        reply = match pack::unpack::<SupplyReply>(packed) {
                            Ok(reply) => reply,
                            Err(error) => break Some(error.into()),
                        };
                    }
                    if chunks_in.send(reply.chunks).await.is_err() {
                        break None;
                    }
                }
                Ok(None) => break None,
                Err(status) => break Some(status.into()),
            }
        };
        drop(chunks_in);
        let tried = writer.await?;
        match broken {
            None => Ok(tried),
            Some(error) => Err(error),
        }
    }
}

fn write(host: &Follower, mut source: Source<'_>, durable: bool) -> Tried {
    let mut reported = Vec::new();
    host.apply(None, &mut source, &mut |outcome| reported.push(outcome));
    let mut tried = source.tried;
    tried.report(&source.sent, reported);
    if durable && let Err(error) = host.endpoint().sync() {
        // What was not synced must not be recorded (I2).
        tracing::warn!(%error, "the host's file system could not be synced");
        tried.outcomes.fill(None);
    }
    tried
}

/// What was decided about the content of a step.
#[derive(Debug)]
enum Decision {
    /// It was asked for, from this byte on; copies from the present file are expected or not.
    Asked { prefix: u64, has_copies: bool },
    /// It is copied from this path.
    Copy(SyncPath),
    /// It is staged.
    Staged,
}

/// Asks for what is not here, in the order of the steps.
struct Asker {
    host: Arc<Endpoint>,
    sources: Arc<HashMap<SyncPath, SyncPath>>,
    want: mpsc::Sender<SupplyRequest>,
    batch: Vec<Wanted>,
    bytes: usize,
    decide: mpsc::UnboundedSender<Decision>,
    /// Staged contents that a step takes: the next one that needs them must ask.
    claimed: HashSet<Digest>,
    counters: Arc<Counters>,
}

impl Asker {
    fn ask(mut self, steps: &[Step], ways: Vec<Way>) {
        for (step, way) in steps.iter().zip(ways) {
            let Some(file) = needed(step) else { continue };
            if self.decide_on(step, file, way).is_break() {
                return;
            }
        }
        // If the writer is gone there is nobody to ask for.
        let _ = self.flush();
    }

    fn decide_on(&mut self, step: &Step, file: &File, way: Way) -> ControlFlow<()> {
        let staging = self.host.staging();
        let (decision, held) = match way {
            Way::Copy(path) => (Decision::Copy(path), None),
            Way::Rescued => (Decision::Staged, None),
            Way::Rest { .. }
                if !self.claimed.contains(&file.digest) && staging.has(&file.digest) =>
            {
                self.claimed.insert(file.digest);
                (Decision::Staged, None)
            }
            Way::Whole => {
                (Decision::Asked { prefix: 0, has_copies: false }, Some(proto::Held::default()))
            }
            Way::Rest { of_present } => {
                let part = staging.part_of(&file.digest);
                let prefix = if part <= file.size { part } else { 0 };
                if of_present {
                    // What is ready is asked for while the present file is read.
                    self.flush()?;
                }
                let signed = if of_present { self.host.sign(&step.path) } else { None };
                let decision = Decision::Asked { prefix, has_copies: signed.is_some() };
                (decision, Some(wire::signed_to_wire(prefix, signed)))
            }
        };
        if self.decide.send(decision).is_err() {
            return ControlFlow::Break(());
        }
        let Some(held) = held else { return ControlFlow::Continue(()) };
        self.bytes += held.signature.len() + STEP_BYTES;
        self.batch.push(Wanted {
            path: self.sources.get(&step.path).unwrap_or(&step.path).as_bytes().to_vec(),
            digest: file.digest.0.to_vec(),
            size: file.size,
            held: Some(held),
        });
        if self.bytes >= MESSAGE_BYTES || self.batch.len() >= MESSAGE_STEPS {
            return self.flush();
        }
        ControlFlow::Continue(())
    }

    fn flush(&mut self) -> ControlFlow<()> {
        self.bytes = 0;
        let wanted = std::mem::take(&mut self.batch);
        if wanted.is_empty() {
            return ControlFlow::Continue(());
        }
        let request = SupplyRequest { wanted };
        self.counters.sent(&request);
        match self.want.blocking_send(request) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

/// Where a [`Source`] is.
#[derive(Clone, Copy)]
enum At {
    /// Before this step.
    Step(usize),
    /// In the content of this step, of which so many bytes are there.
    Content { step: usize, taken: u64, has_copies: bool },
    /// Behind the content of this step.
    Received(usize),
}

/// The steps for the host, each right after the content it needs.
struct Source<'a> {
    steps: &'a [Step],
    reuse: Reuse,
    /// What goes before anything that comes.
    before: VecDeque<Chunk>,
    at: At,
    waiting: VecDeque<proto::Chunk>,
    chunks: mpsc::Receiver<Vec<proto::Chunk>>,
    decided: mpsc::UnboundedReceiver<Decision>,
    counters: &'a Counters,
    sent: Vec<usize>,
    tried: Tried,
}

impl<'a> Source<'a> {
    fn new(
        steps: &'a [Step],
        reuse: Reuse,
        chunks: mpsc::Receiver<Vec<proto::Chunk>>,
        decided: mpsc::UnboundedReceiver<Decision>,
        counters: &'a Counters,
    ) -> Self {
        let tried = Tried { outcomes: vec![None; steps.len()], spared: Vec::new() };
        let (at, sent) = (At::Step(0), Vec::new());
        let before = reuse.before(0).collect();
        let waiting = VecDeque::new();
        Self { steps, reuse, before, at, waiting, chunks, decided, counters, sent, tried }
    }

    /// Goes on to the step after this one.
    fn go_on(&mut self, index: usize) {
        self.at = At::Step(index + 1);
        self.before.extend(self.reuse.before(index + 1));
    }

    fn transition(&mut self, index: usize) -> transition::Step {
        self.go_on(index);
        self.sent.push(index);
        transition::Step::Transition(transition_of(&self.steps[index]))
    }

    /// Begins with the content of a step; gives the whole of it if it is a copy.
    fn begin(&mut self, index: usize, file: &File) -> Option<Option<Chunk>> {
        let decision = self.decided.blocking_recv()?;
        let is_spared = !matches!(decision, Decision::Asked { prefix: 0, has_copies: false });
        if is_spared {
            self.tried.spared.push(index);
        }
        self.at = At::Received(index);
        Some(match decision {
            Decision::Asked { prefix, has_copies } => {
                self.counters.moved(prefix, false);
                self.at = At::Content { step: index, taken: prefix, has_copies };
                None
            }
            Decision::Staged => {
                self.counters.moved(file.size, true);
                None
            }
            Decision::Copy(from) => {
                self.counters.moved(file.size, true);
                let piece = Piece::Copy { from, offset: 0, length: file.size };
                Some(Chunk { digest: file.digest, offset: 0, piece, last: true })
            }
        })
    }

    /// The next chunk of the open file; nothing if the file failed.
    fn take(
        &mut self,
        chunk: proto::Chunk,
        index: usize,
        taken: u64,
        has_copies: bool,
    ) -> Option<Chunk> {
        let step = &self.steps[index];
        let file = needed(step)?;
        if !chunk.problem.is_empty() {
            tracing::debug!(path = %step.path, problem = chunk.problem, "not received");
            // A second try would read the same.
            self.tried.spared.retain(|spared| *spared != index);
            self.fail(index, Status::Stale);
            return None;
        }
        let checked = wire::chunk_from_wire(chunk).ok().and_then(|mut chunk| {
            let after = taken.checked_add(chunk.piece.length())?;
            if let Piece::Copy { from, .. } = &mut chunk.piece {
                has_copies.then_some(())?;
                *from = step.path.clone();
            }
            let fits = chunk.offset == taken
                && after <= file.size
                && chunk.digest == file.digest
                && (!chunk.last || after == file.size);
            fits.then_some((chunk, after))
        });
        let Some((chunk, after)) = checked else {
            let problem = "the sandbox sent content that is not the file's".to_owned();
            self.fail(index, Status::Failed { problem, no_space: false });
            // Whatever else comes for it is not told apart from the next file: give up.
            self.chunks.close();
            self.waiting.clear();
            return None;
        };
        self.counters.moved(chunk.piece.length(), chunk.last);
        self.at = if chunk.last {
            At::Received(index)
        } else {
            At::Content { step: index, taken: after, has_copies }
        };
        Some(chunk)
    }

    fn fail(&mut self, index: usize, status: Status) {
        self.tried.outcomes[index] = Some(status);
        self.go_on(index);
    }
}

impl Iterator for Source<'_> {
    type Item = transition::Step;

    fn next(&mut self) -> Option<transition::Step> {
        loop {
            if let Some(chunk) = self.before.pop_front() {
                return Some(transition::Step::Chunk(chunk));
            }
            let chunk = match self.at {
                At::Step(index) => match needed(self.steps.get(index)?) {
                    Some(file) => self.begin(index, file)?,
                    None => return Some(self.transition(index)),
                },
                At::Received(index) => return Some(self.transition(index)),
                At::Content { step, taken, has_copies } => {
                    while self.waiting.is_empty() {
                        self.waiting.extend(self.chunks.blocking_recv()?);
                    }
                    let chunk = self.waiting.pop_front()?;
                    self.take(chunk, step, taken, has_copies)
                }
            };
            if let Some(chunk) = chunk {
                return Some(transition::Step::Chunk(chunk));
            }
        }
    }
}
