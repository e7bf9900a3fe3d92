//! One client that is attached to an operation: its output and what becomes of it to the client, its
//! input to the command, over as many links as it takes.
//!
//! Nothing is kept here: output is asked for again from where the client has it, and the client
//! keeps its input until the command's side has taken it.

mod absent;
mod joined;
mod pump;

use std::sync::Arc;
use std::time::Duration;

use skync_agent::proto::attach_begin::From as FromWhere;
use skync_agent::proto::attach_request::Request as ToAgent;
use skync_agent::proto::{self as agent, AttachBegin, AttachRequest};
use tokio::sync::oneshot;
use tonic::{Code, Streaming};

pub(super) use self::absent::absent;
pub(super) use self::joined::{Joined, start};
use self::pump::{Down, up};
use crate::config::RECONNECT_TIMEOUT;
use crate::link::Link;
use crate::session::events::{Events, failure};
use crate::session::exec::outcome_unknown;
use crate::session::operations::{Attachment, Operation, Over, Phase, Place};
use crate::session::proto::session_event::Event;
use crate::session::proto::{
    self, ExecRequest, Finished, LinkNews, OperationState, Started, TerminalSize, join,
};
use crate::session::server::Session;
use crate::session::ways::{Outage, Way};

/// Between two words on a link that is lost.
const NEWS_INTERVAL: Duration = Duration::from_millis(500);
/// A call that fails although the link is open is made again after this.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How a client is attached.
pub(super) struct Terms {
    pub(super) from: FromWhere,
    /// It has the input, and its going counts.
    pub(super) input: bool,
    pub(super) terminal: Option<TerminalSize>,
    pub(super) no_follow: bool,
    pub(super) only: Option<u32>,
    /// Only how it ends.
    pub(super) wait: bool,
    /// It leaves as soon as the command runs.
    pub(super) leave_started: bool,
    /// It leaves as soon as the command has ended.
    pub(super) leave_ended: bool,
    pub(super) attachment: proto::Attachment,
    /// It has asked for the operation and has not been attached yet: what it sees is drawn for it.
    is_first: bool,
    /// It has been told that it is attached.
    is_attached: bool,
    /// Where the attachment comes with which its command was started.
    joined: Option<oneshot::Receiver<Joined>>,
}

impl Terms {
    /// Of a client that asks for a new operation.
    pub(super) fn of_begin(begin: &proto::Begin) -> Self {
        Self {
            from: FromWhere::Offset(0),
            input: !begin.detach,
            terminal: begin.terminal,
            no_follow: false,
            only: None,
            wait: begin.detach,
            leave_started: begin.detach,
            leave_ended: begin.no_wait,
            attachment: begin.attachment.unwrap_or_default(),
            is_first: true,
            is_attached: false,
            joined: None,
        }
    }

    /// The same client; its command will be started with it attached.
    pub(super) fn joining(self, joined: oneshot::Receiver<Joined>) -> Self {
        Self { joined: Some(joined), ..self }
    }

    /// Of a client that joins one.
    pub(super) fn of_join(join: &proto::Join) -> Self {
        let from = match join.from {
            Some(join::From::Offset(offset)) => FromWhere::Offset(offset),
            Some(join::From::Lines(lines)) => FromWhere::Lines(lines),
            Some(join::From::SinceMs(since)) => FromWhere::SinceMs(since),
            Some(join::From::Untaken(_)) | None => FromWhere::Untaken(true),
        };
        Self {
            from,
            input: join.input,
            terminal: join.terminal,
            no_follow: join.no_follow,
            only: join.only,
            wait: join.wait,
            leave_started: false,
            leave_ended: false,
            attachment: join.attachment.unwrap_or_default(),
            is_first: false,
            is_attached: false,
            joined: None,
        }
    }
}

/// Carries on with one client until it has heard the end, or has left.
pub(super) async fn run(
    session: Arc<Session>,
    operation: Arc<Operation>,
    terms: Terms,
    requests: Streaming<ExecRequest>,
    events: Events,
    mut attachment: Attachment,
) {
    attachment.reads(!terms.wait && !terms.leave_started);
    let _person = terms.attachment.person.then(|| session.person_comes());
    let outage = None;
    let mut client = Client {
        session,
        operation,
        terms,
        requests,
        events,
        attachment,
        closed: Vec::new(),
        exit_told: false,
        outage,
    };
    client.follow().await;
}

struct Client {
    session: Arc<Session>,
    operation: Arc<Operation>,
    terms: Terms,
    requests: Streaming<ExecRequest>,
    events: Events,
    attachment: Attachment,
    /// Streams that nobody reads any more.
    closed: Vec<u32>,
    exit_told: bool,
    /// The link is lost, as this client has been told.
    outage: Option<Outage>,
}

/// Why a link is not used any more.
enum Pumped {
    /// The command has ended, and all it wrote is here.
    Ended,
    /// All that there was to see is here.
    Seen,
    /// The client is gone.
    Left,
    /// The link has ended.
    Broken,
}

impl Client {
    async fn follow(&mut self) {
        let mut phases = self.operation.phase.subscribe();
        loop {
            let phase = phases.borrow_and_update().clone();
            let (place, runs) = match phase {
                Phase::Over(over) => return self.finish(&over).await,
                Phase::Preparing => (None, false),
                Phase::Running(place) => (Some(place), true),
                Phase::Ending(place, exit) => {
                    // A client that only waits hears of the end here.
                    if let Some(exit) = exit.filter(|_| self.terms.wait && !self.exit_told) {
                        self.tell_exit(exit).await;
                    }
                    (Some(place), true)
                }
            };
            if self.exit_told && self.terms.leave_ended {
                return self.leave(OperationState::OperationEnding).await;
            }
            if runs && self.terms.leave_started {
                self.started(place.as_ref(), None).await;
                return self.leave(OperationState::OperationRunning).await;
            }
            let idle = self.terms.wait || self.exit_told || place.is_none();
            let Some(place) = place.filter(|_| !idle) else {
                tokio::select! {
                    changed = phases.changed() => if changed.is_err() { return },
                    () = self.events.gone() => return,
                    () = self.tell_progress(), if self.exit_told => {}
                }
                continue;
            };
            match self.over_a_link(&place, &mut phases).await {
                Pumped::Ended | Pumped::Broken => {}
                Pumped::Seen => return self.leave(self.operation.state()).await,
                Pumped::Left => return,
            }
        }
    }

    /// Tells how far the results are on their way home, for ever.
    async fn tell_progress(&self) {
        let mut views = self.session.view.subscribe();
        while views.changed().await.is_ok() {
            let progress = views.borrow_and_update().reply.progress.clone();
            if let Some(progress) = progress {
                self.events.offer(Event::Progress(progress));
            }
        }
    }

    /// Follows the operation over the link that there is, or waits for the next.
    async fn over_a_link(
        &mut self,
        place: &Place,
        phases: &mut tokio::sync::watch::Receiver<Phase>,
    ) -> Pumped {
        let mut ways = self.session.ways.subscribe();
        let way = ways.borrow_and_update().clone();
        match way {
            Way::Open(open) if open.1.id == place.sandbox.id => {
                let pumped = self.pump(&open.0, place).await;
                if matches!(pumped, Pumped::Broken) {
                    // Its end shows, or the operation's does.
                    tokio::select! {
                        _ = ways.changed() => {}
                        _ = phases.changed() => {}
                        () = tokio::time::sleep(RETRY_INTERVAL) => {}
                        () = self.events.gone() => return Pumped::Left,
                    }
                }
                pumped
            }
            Way::Lost(outage) => self.wait_for_link(outage, &mut ways, phases).await,
            // The operation's own task says what that means.
            Way::Open(_) | Way::None | Way::Gone(_) => {
                tokio::select! {
                    _ = phases.changed() => Pumped::Broken,
                    () = self.events.gone() => Pumped::Left,
                }
            }
        }
    }

    async fn wait_for_link(
        &mut self,
        outage: Outage,
        ways: &mut tokio::sync::watch::Receiver<Way>,
        phases: &mut tokio::sync::watch::Receiver<Phase>,
    ) -> Pumped {
        let patience = match (self.terms.attachment.person, self.terms.attachment.reconnect_ms) {
            (true, _) => None,
            (false, 0) => {
                Some(self.session.profile().reconnect_timeout.unwrap_or(RECONNECT_TIMEOUT))
            }
            (false, ms) => Some(Duration::from_millis(ms)),
        };
        if patience.is_some_and(|patience| outage.lasts() >= patience) {
            return self.give_up(&outage).await;
        }
        let now = tokio::time::Instant::now();
        let retry = outage.retry_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        self.events.offer(Event::Link(LinkNews {
            up: false,
            lost_ms: millis(outage.lasts()),
            retry_ms: millis(retry),
            why: outage.why.clone(),
        }));
        self.outage = Some(outage);
        tokio::select! {
            _ = ways.changed() => Pumped::Broken,
            _ = phases.changed() => Pumped::Broken,
            () = tokio::time::sleep(NEWS_INTERVAL) => Pumped::Broken,
            () = self.events.gone() => Pumped::Left,
        }
    }

    /// The link does not come back in the time that this client has.
    async fn give_up(&mut self, outage: &Outage) -> Pumped {
        let id = self.operation.id.short();
        let seconds = outage.lasts().as_secs();
        let message = format!(
            "the link has been lost for {seconds} s ({}); the command had started and its outcome \
             is not known",
            outage.why
        );
        let error = outcome_unknown(&message)
            .hint(format!("`skync attach {id}` goes on with it once the sandbox can be reached"))
            .hint("`--reconnect-timeout` sets how long to wait");
        self.events.send(failure(error)).await;
        Pumped::Seen
    }

    /// Follows the operation over this link.
    async fn pump(&mut self, link: &Link, place: &Place) -> Pumped {
        let handed = self.terms.joined.take().and_then(|mut joined| joined.try_recv().ok());
        let joined = async {
            match handed {
                Some(joined) => Ok(joined),
                None => joined::join(link.client.clone(), self.begin()).await,
            }
        };
        let joined = tokio::select! {
            joined = joined => joined,
            () = link.closed() => return Pumped::Broken,
            () = self.events.gone() => return Pumped::Left,
        };
        let Joined { requests: send, replies } = match joined {
            Ok(joined) => joined,
            Err(status) if status.code() == Code::NotFound => {
                // There is no output to wait for.
                self.attachment.reads(false);
                return Pumped::Ended;
            }
            Err(status) => {
                tracing::debug!(%status, "cannot attach");
                return Pumped::Broken;
            }
        };
        for stream in self.closed.clone() {
            let request = ToAgent::Close(i32::from(stream != 0));
            let _ = send.send(AttachRequest { request: Some(request) }).await;
        }
        let Self { requests, events, terms, closed, operation, outage, attachment, .. } = self;
        let mut down = Down { operation, events, terms, outage, attachment, place };
        tokio::select! {
            pumped = down.run(replies) => match pumped {
                Ok(exit) => {
                    self.tell_exit(exit).await;
                    Pumped::Ended
                }
                Err(pumped) => pumped,
            },
            () = up(requests, &send, closed, operation) => Pumped::Broken,
            () = link.closed() => Pumped::Broken,
            () = events.gone() => Pumped::Left,
        }
    }

    fn begin(&self) -> AttachBegin {
        let size =
            |size: TerminalSize| agent::TerminalSize { rows: size.rows, columns: size.columns };
        AttachBegin {
            id: self.operation.id.to_vec(),
            from: Some(self.terms.from),
            input: self.terms.input && self.attachment.is_owner(),
            terminal: self.terms.terminal.filter(|_| !self.terms.is_first).map(size),
            no_follow: self.terms.no_follow,
            only: self.terms.only.map(|only| i32::from(only != 0)),
            start: None,
        }
    }

    async fn started(&self, place: Option<&Place>, attached: Option<&agent::Attached>) {
        self.events.send(Event::Started(started(&self.operation, place, attached))).await;
    }

    async fn tell_exit(&mut self, exit: proto::Exit) {
        self.exit_told = true;
        self.events.send(Event::Exit(exit)).await;
        self.attachment.reads(false);
    }

    /// All is done.
    async fn finish(&mut self, over: &Over) {
        if let Some(exit) = over.exit.filter(|_| !self.exit_told) {
            if !self.terms.wait {
                self.tell_kept_output().await;
            }
            self.tell_exit(exit).await;
        }
        for note in &over.notes {
            self.events.note(note.clone()).await;
        }
        if let Some(failure) = &over.failure {
            self.events.send(Event::Failure(failure.clone())).await;
        }
        self.events.send(Event::Finished(over.finished.clone())).await;
        self.events.read_to_the_end().await;
    }

    /// It came when the sandbox had forgotten the operation: what it has not seen is kept here.
    async fn tell_kept_output(&self) {
        let from = match self.terms.from {
            FromWhere::Offset(offset) => offset,
            FromWhere::Untaken(_) => self.operation.record().taken,
            FromWhere::Lines(_) | FromWhere::SinceMs(_) => 0,
        };
        if !self.terms.is_attached {
            let attached = agent::Attached { output_offset: from, ..agent::Attached::default() };
            self.started(None, Some(&attached)).await;
        }
        let told = absent::replay(&self.session, self.operation.id, from, &self.events).await;
        if let Err(error) = told {
            self.events.note(format!("warning: its output cannot be read: {error}")).await;
        }
    }

    /// The client leaves; the operation goes on.
    async fn leave(&self, state: OperationState) {
        let finished = Finished { operation: state.into(), ..Finished::default() };
        self.events.send(Event::Finished(finished)).await;
    }
}

fn started(
    operation: &Operation,
    place: Option<&Place>,
    attached: Option<&agent::Attached>,
) -> Started {
    let attached = attached.copied().unwrap_or_default();
    Started {
        pid: place.map_or(0, |place| place.pid),
        sandbox: place.map(|place| place.sandbox.name.clone()).unwrap_or_default(),
        id: operation.id.to_vec(),
        name: operation.begin.name.clone(),
        terminal: attached.terminal,
        input_offset: attached.input_offset,
        output_offset: attached.output_offset,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
