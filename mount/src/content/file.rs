//! What is known of the content of one object that is open, cached or on its way.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::NodeId;
use super::front::Mark;
use super::writes::Writes;
use crate::source::{Handle, ObjectId, SourceError};

/// A content. A node number can come to mean another object while the old one is still open: then
/// there are two of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileId(pub(super) u64);

/// What a request that several may wait for came to.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// What is there from the beginning of the range; shorter than it at the end of the file. Not
    /// `sure`: something changed meanwhile, so that it may not fit what comes beside it.
    Data { bytes: Bytes, sure: bool },
    /// It failed.
    Failed(SourceError),
    /// Nothing came of it; whoever needs the range asks again.
    Again,
}

/// Where the outcome is told.
pub(super) type Teller = watch::Sender<Option<Outcome>>;
/// Where it is waited for.
pub(super) type Waiter = watch::Receiver<Option<Outcome>>;

/// A range that was asked for.
pub(super) struct Coming {
    /// Where it ends; a whole file has no end.
    pub(super) end: u64,
    /// Which request.
    pub(super) number: u64,
    /// To wait for it.
    pub(super) outcome: Waiter,
}

/// A file of the source that is open for reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// Not yet.
    None,
    /// A request that opens it is on its way: others name the place until it is answered.
    Opening(Handle),
    /// It is.
    Open(Handle),
}

/// See the module's text.
pub(super) struct File {
    /// Which node.
    pub(super) node: NodeId,
    /// Which object; nothing is known of it if the tree did not say.
    pub(super) object: Option<ObjectId>,
    /// Another one after each change.
    pub(super) version: u64,
    /// Where it ends, if a read found out.
    pub(super) ended: Option<u64>,
    /// By where they begin; they overlap neither each other nor what is cached. What changes takes
    /// them out: their replies are not kept then.
    pub(super) coming: BTreeMap<u64, Coming>,
    /// Shared by all that read it; closed with the last of them.
    pub(super) reader: Reader,
    /// How often the kernel has it open.
    pub(super) opens: usize,
    /// What was written.
    pub(super) writes: Writes,
    /// Something of `writes` was sent.
    pub(super) progress: Arc<Notify>,
    /// Somebody waits until what is being written is quiet.
    pub(super) timed: bool,
    /// When it was last written to.
    pub(super) written: Option<tokio::time::Instant>,
    /// It was fetched before anybody asked, and nobody did yet.
    pub(super) mark: Option<Mark>,
}

impl File {
    pub(super) fn new(node: NodeId, object: Option<ObjectId>, version: u64) -> Self {
        Self {
            node,
            object,
            version,
            ended: None,
            coming: BTreeMap::new(),
            reader: Reader::None,
            opens: 0,
            writes: Writes::default(),
            progress: Arc::default(),
            timed: false,
            written: None,
            mark: None,
        }
    }

    /// True if it is the content of that object.
    pub(super) fn is_of(&self, object: ObjectId) -> bool {
        self.object.is_none_or(|own| {
            let born = own.born_ns == object.born_ns || own.born_ns == 0 || object.born_ns == 0;
            own.device == object.device && own.inode == object.inode && born
        })
    }

    /// The range that was asked for in which `at` is.
    pub(super) fn coming_at(&self, at: u64) -> Option<(u64, &Coming)> {
        let (start, coming) = self.coming.range(..=at).next_back()?;
        (at < coming.end).then_some((*start, coming))
    }

    /// Where the gap around `at` begins and ends, as far as what is coming tells.
    pub(super) fn gap(&self, at: u64) -> (u64, u64) {
        let before = self.coming.range(..=at).next_back();
        let after = self.coming.range(at..).next();
        let low = before.map_or(0, |(_, coming)| coming.end);
        (low.min(at), after.map_or(u64::MAX, |(start, _)| *start))
    }

    /// What is on its way for a range must not be kept: it changes now.
    pub(super) fn spoil(&mut self, from: u64, until: u64) {
        self.coming.retain(|start, coming| *start >= until || coming.end <= from);
    }
}
