//! Carries the steps of a plan to the side that they change, with the content they need.
//!
//! Either way it is one stream without a turn per file: steps and content go out as fast as the
//! receiver takes them, outcomes come back. Content is read on one side and verified by digest on
//! the other; what changed in between is left for the next round. Reading and writing happen on
//! blocking threads, every channel is bounded, and no file is held in memory whole.
//!
//! What the receiver has already does not travel:
//!
//! - content that it holds under another path ([`reuse`]): it copies it,
//! - content that is staged there from an earlier try, whole or the beginning of it,
//! - the parts of a large file that its present version has in common
//!   ([`skync_agent::delta`]).
//!
//! The last two need its word first. The host asks the agent beside the stream of steps, which
//! waits only when it gets to such a file ([`push`]); what the host itself holds it tells when it
//! asks for a file ([`pull`]). All of it is belief until the digest of the whole was found right.
//! Where it was not (a file changed meanwhile), the step is stale, and the same transfer sends it
//! once more, whole: nothing depends on what was believed, and nothing is tried for ever.
//!
//! Memory for one transfer at most, on either side: two files' signatures and an index, 8 MiB for
//! 4 GiB files, and what the channels and HTTP/2 windows hold, some 16 MiB.

mod pull;
mod push;
pub mod reuse;

use std::sync::atomic::{AtomicU64, Ordering};

use prost::Message;
use skync_agent::entry::{Entry, File};
use skync_agent::transition::{Outcome, Status, Transition};
use skync_agent::wire;

use super::core::Outcomes;
use super::plan::Step;

pub use pull::pull;
pub use push::push;

/// Messages between a blocking thread and the link.
const MESSAGES_WAITING_MAX: usize = 8;
/// Messages that may hold signatures, which are up to 1.5 MiB each.
const SIGNATURES_WAITING_MAX: usize = 1;
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
    /// Bytes that are through, whether they travelled or were there.
    pub bytes: AtomicU64,
    /// Bytes of the messages to the sandbox.
    pub wire_out: AtomicU64,
    /// Bytes of the messages from the sandbox.
    pub wire_in: AtomicU64,
}

impl Counters {
    fn begin(&self, steps: &[Step]) {
        for file in steps.iter().filter_map(needed) {
            self.files_total.fetch_add(1, Ordering::Relaxed);
            self.bytes_total.fetch_add(file.size, Ordering::Relaxed);
        }
    }

    fn moved(&self, bytes: u64, last: bool) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.files.fetch_add(u64::from(last), Ordering::Relaxed);
    }

    fn sent(&self, message: &impl Message) -> usize {
        let bytes = message.encoded_len();
        self.wire_out.fetch_add(bytes as u64, Ordering::Relaxed);
        bytes
    }

    fn received(&self, message: &impl Message) {
        self.wire_in.fetch_add(message.encoded_len() as u64, Ordering::Relaxed);
    }
}

/// The file whose content a step needs: none if the content is there already.
pub fn needed(step: &Step) -> Option<&File> {
    let new = step.new.as_ref()?.as_file()?;
    let old = step.expected.as_ref().and_then(Entry::as_file);
    if old.is_some_and(|old| old.same_content(new)) { None } else { Some(new) }
}

fn transition_of(step: &Step) -> Transition {
    Transition { path: step.path.clone(), expected: step.expected.clone(), new: step.new.clone() }
}

/// How the steps of one try ended.
struct Tried {
    outcomes: Outcomes,
    /// Steps of which not all content travelled, because the receiver was believed to have it.
    spared: Vec<usize>,
}

impl Tried {
    /// Puts what the receiver reported, by the number of the transition, where it belongs.
    fn report(&mut self, sent: &[usize], reported: Vec<Outcome>) {
        for Outcome { index, status } in reported {
            let step = usize::try_from(index).ok().and_then(|index| sent.get(index));
            if let Some(&step) = step {
                self.outcomes[step] = Some(status);
            }
        }
    }

    /// The steps whose content has to be sent whole: what the receiver was believed to have did
    /// not make it.
    fn failed(&self) -> Vec<usize> {
        let is_stale = |step: &usize| self.outcomes[*step] == Some(Status::Stale);
        self.spared.iter().copied().filter(is_stale).collect()
    }

    /// The outcomes, with those of the second try of some steps.
    fn with(mut self, retried: &[usize], outcomes: Outcomes) -> Outcomes {
        for (step, outcome) in retried.iter().zip(outcomes) {
            self.outcomes[*step] = outcome;
        }
        self.outcomes
    }
}
