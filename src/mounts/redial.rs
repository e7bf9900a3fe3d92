//! Opens the streams of a mount over every link that comes, and says what became of the files.

use std::sync::Arc;
use std::time::Duration;

use skync_agent::proto::agent_client::AgentClient;
use skync_agent::proto::files_reply::Reply;
use skync_agent::proto::files_request::Request;
use skync_agent::proto::{FilesBegin, FilesBegun, FilesEnd, FilesReply};
use skync_mount::SourceError;
use skync_mount::source::{Attributes, Change, FileKind, Handle, Seen, Stamp};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};

use super::ask::{Lanes, Reach, Shared};
use super::lane::{Lane, Requests};
use super::{MountWay, wire};
use crate::backoff;
use crate::channel::Channel;

/// Streams that have not begun by then never will.
const BEGIN_PATIENCE: Duration = Duration::from_secs(10);
/// Before streams are tried again over a link that is said to be open: at first …
const RETRY_MIN: Duration = Duration::from_millis(100);
/// … and at most.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// The agent ends the streams of a mount that has ended within this.
const END_PATIENCE: Duration = Duration::from_secs(2);
/// Largest message of a mount, in bytes: a piece of 1 MiB and what belongs to it.
const MESSAGE_BYTES_MAX: usize = (1 << 20) + (256 << 10);

/// Keeps the streams of a mount open.
pub(super) struct Redial {
    pub(super) shared: Arc<Shared>,
    pub(super) ways: watch::Receiver<MountWay>,
    pub(super) ending: Arc<Notify>,
    /// The mount, and where its root is.
    pub(super) mount: [u8; 16],
    pub(super) root: Vec<u8>,
    pub(super) known: Option<Known>,
    /// How often streams were opened.
    pub(super) round: u64,
}

/// What is known of the files from the links before.
pub(super) struct Known {
    sandbox: String,
    root: Attributes,
    /// Added to stamps: what the agents before had come to.
    base: u64,
    stamp_max: u64,
    /// What the last agent may still hold open.
    closes: Vec<Handle>,
}

/// Why there are no streams.
enum Failed {
    /// The link is not what it was said to be.
    Link,
    /// The agent does not want to, or cannot.
    Refused(SourceError),
}

/// A stream that has begun.
struct Begun {
    requests: Requests,
    replies: Streaming<FilesReply>,
    begun: FilesBegun,
    stamp: u64,
}

impl Redial {
    /// Goes on until the mount ends.
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        loop {
            let way = self.ways.borrow_and_update().clone();
            match way {
                MountWay::Open(client, sandbox) => match self.begin(&client).await {
                    Ok(streams) => match self.meet(sandbox, streams) {
                        Ok((lanes, readers)) => {
                            let began = Instant::now();
                            if self.until_over(&lanes, readers).await {
                                return;
                            }
                            // An agent that ends what it has just begun is not asked all the time.
                            if began.elapsed() >= RETRY_MAX {
                                failures = 0;
                            }
                        }
                        Err(why) => self.shared.publish(Reach::Refused(why)),
                    },
                    Err(Failed::Refused(why)) => self.shared.publish(Reach::Refused(why)),
                    Err(Failed::Link) => self.lost(),
                },
                MountWay::Lost => {
                    failures = 0;
                    self.lost();
                }
                MountWay::Gone => self.shared.publish(Reach::Gone),
            }
            let is_open = matches!(&*self.ways.borrow(), MountWay::Open(..));
            let retry = backoff::wait(RETRY_MIN, RETRY_MAX, failures, backoff::chance());
            failures += 1;
            tokio::select! {
                () = self.ending.notified() => return,
                () = tokio::time::sleep(retry), if is_open => {}
                changed = self.ways.changed() => if changed.is_err() {
                    // Whoever had links is gone.
                    return self.shared.publish(Reach::Gone);
                },
            }
        }
    }

    /// An outage that goes on began when it did.
    fn lost(&self) {
        if !matches!(self.shared.state.borrow().0, Reach::Lost(_)) {
            self.shared.publish(Reach::Lost(Instant::now()));
        }
    }

    /// Begins all streams; fails at once if the link is another by then.
    async fn begin(&mut self, client: &AgentClient<Channel>) -> Result<[Begun; 4], Failed> {
        // What was asked over the streams before must be over when it is asked again.
        self.round += 1;
        let (mount, root, round) = (self.mount, &self.root, self.round);
        let open = |changes| {
            let begin = FilesBegin { mount: mount.to_vec(), root: root.clone(), changes, round };
            begin_one(client.clone(), begin)
        };
        let all = async { tokio::try_join!(open(true), open(false), open(false), open(false)) };
        tokio::select! {
            begun = tokio::time::timeout(BEGIN_PATIENCE, all) => {
                let (now, ahead, writes, lists) = begun.map_err(|_| Failed::Link)??;
                Ok([now, ahead, writes, lists])
            }
            _ = self.ways.changed() => {
                // It is to be seen by whoever looks next.
                self.ways.mark_changed();
                Err(Failed::Link)
            }
        }
    }

    /// Streams have begun: the files are the same as before, or others.
    fn meet(
        &mut self,
        sandbox: String,
        streams: [Begun; 4],
    ) -> Result<(Arc<Lanes>, JoinSet<()>), SourceError> {
        let first = &streams[0];
        let root = wire::attributes(first.begun.root.as_ref())?;
        if root.kind != FileKind::Directory {
            return Err(SourceError::NotDirectory);
        }
        if let Some(attributes) = &first.begun.root {
            self.shared.saw_at(wire::newest(attributes));
        }
        let resumed = streams.iter().all(|stream| stream.begun.resumed);
        let is_same = self.known.as_ref().is_some_and(|known| {
            let stamp = first.stamp.saturating_add(known.base);
            // An agent that was started again is new, whatever a begin said whose reply was lost.
            resumed
                && known.sandbox == sandbox
                && known.root.object == root.object
                && stamp >= known.stamp_max
        });
        let known = self.known.take();
        let is_first = known.is_none();
        let mut known = known.unwrap_or_else(|| Known {
            sandbox: sandbox.clone(),
            root,
            base: 0,
            stamp_max: 0,
            closes: Vec::new(),
        });
        if !is_same && !is_first {
            // Only as much as it takes: an agent whose clock is right has a higher one anyway.
            let base = known.stamp_max.saturating_add(1).saturating_sub(first.stamp);
            known = Known { base, closes: Vec::new(), sandbox, ..known };
            self.shared.forget_closes();
        }
        known.root = root;
        let seen = Seen { stamp: Stamp(first.stamp.saturating_add(known.base)), what: root };
        self.tell(seen, is_first, is_same);
        let closes = std::mem::take(&mut known.closes);
        let base = known.base;
        self.known = Some(known);
        Ok(self.serve(streams, base, closes))
    }

    /// Says what became of the files, before anything is asked of them.
    fn tell(&self, root: Seen<Attributes>, is_first: bool, is_same: bool) {
        self.shared.set_root(root);
        if is_first {
            return;
        }
        let change = if is_same { Change::Missed } else { Change::Anew(root) };
        // What is asked from now on is about them, and waits for a moment.
        self.shared.state.send_modify(|(reach, era)| {
            *reach = Reach::Lost(Instant::now());
            *era += u64::from(!is_same);
        });
        self.shared.tell(vec![change]);
    }

    /// Reads the streams, and lets requests through.
    fn serve(
        &self,
        streams: [Begun; 4],
        base: u64,
        closes: Vec<Handle>,
    ) -> (Arc<Lanes>, JoinSet<()>) {
        let mut readers = JoinSet::new();
        let [now, ahead, writes, lists] = streams.map(|stream| {
            let lane = Arc::new(Lane::new(stream.requests, base, stream.stamp));
            let shared = Arc::clone(&self.shared);
            let changes = move |told| {
                let changes = wire::changes(told);
                if !changes.is_empty() {
                    shared.tell(changes);
                }
            };
            readers.spawn(Arc::clone(&lane).run(stream.replies, changes));
            lane
        });
        let lanes = Arc::new(Lanes { now, ahead, writes, lists });
        self.shared.let_through(&lanes, closes);
        (lanes, readers)
    }

    /// Waits until one of the streams, their link or the mount has ended; true for the last.
    async fn until_over(&mut self, lanes: &Arc<Lanes>, mut readers: JoinSet<()>) -> bool {
        let [now, ahead, writes, lists] = lanes.all();
        let is_ending = tokio::select! {
            () = now.ended() => false,
            () = ahead.ended() => false,
            () = writes.ended() => false,
            () = lists.ended() => false,
            changed = self.ways.changed() => {
                if changed.is_ok() {
                    self.ways.mark_changed();
                }
                false
            }
            () = self.ending.notified() => true,
        };
        self.shared.publish(Reach::Lost(Instant::now()));
        if is_ending {
            self.shared.publish(Reach::Gone);
            now.tell(Request::End(FilesEnd {}));
            lanes.all().into_iter().for_each(|lane| lane.finish());
            let ended = async { while readers.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(END_PATIENCE, ended).await;
            return true;
        }
        readers.shutdown().await;
        if let Some(known) = &mut self.known {
            let highest = lanes.all().map(|lane| lane.stamp_max()).into_iter().max();
            known.stamp_max = known.stamp_max.max(highest.unwrap_or_default());
            known.closes = lanes.all().iter().flat_map(|lane| lane.closes()).collect();
        }
        false
    }
}

/// Begins one stream.
async fn begin_one(client: AgentClient<Channel>, begin: FilesBegin) -> Result<Begun, Failed> {
    let mut client = client.max_decoding_message_size(MESSAGE_BYTES_MAX);
    let (requests, stream) = Requests::beginning_with(Request::Begin(begin));
    let mut replies = client.files(stream).await.map_err(refused)?.into_inner();
    let reply = replies.message().await.map_err(refused)?.ok_or(Failed::Link)?;
    match reply.reply {
        Some(Reply::Begun(begun)) => Ok(Begun { requests, replies, begun, stamp: reply.stamp }),
        Some(Reply::Problem(problem)) => Err(Failed::Refused(wire::failure(&problem))),
        _ => Err(Failed::Refused(wire::bad("it is one to another request"))),
    }
}

/// What an agent says itself, as against a call that did not get through.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn refused(status: Status) -> Failed {
    tracing::debug!(%status, "a stream of the mount did not begin");
    Failed::Refused(match status.code() {
        Code::NotFound => SourceError::NotFound,
        Code::PermissionDenied => SourceError::Denied,
        Code::ResourceExhausted => SourceError::Exhausted,
        Code::Unimplemented => SourceError::Unsupported,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            SourceError::Failed(wire::words(status.message()))
        }
        _ => return Failed::Link,
    })
}
