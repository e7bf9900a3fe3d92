//! The calls of `proto/session.proto`, each handed to the module that carries it out.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::config::OnDisconnect;
use crate::error::{CliError, ExitCode};
use crate::operation::{OperationId, Record};
use crate::session::attach::{self, Terms};
use crate::session::content;
use crate::session::events::{Events, failure};
use crate::session::exec::{self, Creator};
use crate::session::lifecycle::{Lifecycle, User};
use crate::session::mount_calls;
use crate::session::operations::{Operation, Phase};
use crate::session::overview;
use crate::session::proto::session_event::Event;
use crate::session::proto::{
    Begin, CancelReply, CancelRequest, ContentReply, ContentRequest, ControlReply, ControlRequest,
    DownRequest, ExecRequest, Finished, FlushRequest, Join, MountRequest, OperationsReply,
    OperationsRequest, PauseReply, PauseRequest, ResumeRequest, SessionEvent, StatusReply,
    StatusRequest, UnmountRequest, UpRequest, Usage, UsageReply, UsageRequest, exec_request, join,
    session_server,
};
use crate::session::server::{Session, end_unused, now_ms};
use crate::session::succession;
use crate::session::supervise::{self, SIGINT, SIGKILL};
use crate::session::up::{self, STATUS_INTERVAL, Why};
use crate::session::ways::Way;
use crate::session::wish::Wish;

/// How long an operation goes on when its client has gone without a word, if nobody says otherwise.
const DISCONNECT_MS: u64 = 10 * 60 * 1000;
/// Events that wait for a client; output waits in the sandbox.
const EVENTS_WAITING_MAX: usize = 16;
/// What a sandbox uses is nice to know, and nobody is to wait for it.
const USAGE_PATIENCE: Duration = Duration::from_secs(2);

/// A session, as its clients see it.
pub(super) struct Service(pub(super) Arc<Session>);

type EventStream = Pin<Box<dyn Stream<Item = Result<SessionEvent, Status>> + Send>>;
type StatusStream = Pin<Box<dyn Stream<Item = Result<StatusReply, Status>> + Send>>;

impl Service {
    fn join(&self, user: User) -> Result<(), Status> {
        let joined = self.0.life(|life| life.join(user));
        if joined { Ok(()) } else { Err(Status::unavailable("the session is ending")) }
    }

    fn wishes_of(&self, id: &[u8]) -> watch::Receiver<Wish> {
        let (wish, wishes) = watch::channel(Wish::default());
        self.0.wishes().insert(id.to_vec(), wish);
        wishes
    }

    /// A client asks for a command; once more, it joins the one it asked for.
    fn begin(
        &self,
        mut begin: Begin,
        requests: Streaming<ExecRequest>,
    ) -> Result<Response<EventStream>, Status> {
        let id = OperationId::from_bytes(&begin.id)
            .ok_or_else(|| Status::invalid_argument("an operation's id has 16 bytes"))?;
        let terms = Terms::of_begin(&begin);
        let (events, stream) = channel();
        let known = self.0.operations().get(&id).cloned();
        if let Some(known) = known {
            if known.is_same(&begin) {
                let attachment = known.attach(terms.input);
                let session = Arc::clone(&self.0);
                tokio::spawn(attach::run(session, known, terms, requests, events, attachment));
            } else {
                tokio::spawn(refuse(events, "another command has this operation's id".to_owned()));
            }
            return Ok(stream);
        }
        if self.0.store.knows(id) {
            // It was asked for before, and may have run.
            let session = Arc::clone(&self.0);
            tokio::spawn(async move {
                attach::absent(&session, &id.to_vec(), Some(0), &events).await;
                events.read_to_the_end().await;
                end_unused(session, Duration::ZERO).await;
            });
            return Ok(stream);
        }
        if let Some(taken) = self.name_is_taken(&begin.name) {
            tokio::spawn(refuse(events, taken));
            return Ok(stream);
        }
        self.join(User::Command)?;
        let wishes = self.wishes_of(&begin.id);
        let operation = Arc::new(self.operation(id, &mut begin));
        self.0.operations().insert(id, Arc::clone(&operation));
        let attachment = operation.attach(terms.input);
        let (hand_over, joined) = oneshot::channel();
        let terms = terms.joining(joined);
        let creator = Creator { events: events.clone(), joined: hand_over };
        let session = Arc::clone(&self.0);
        tokio::spawn(exec::run(session, Arc::clone(&operation), wishes, creator));
        let session = Arc::clone(&self.0);
        tokio::spawn(attach::run(session, operation, terms, requests, events, attachment));
        Ok(stream)
    }

    fn operation(&self, id: OperationId, begin: &mut Begin) -> Operation {
        let profile = self.0.profile();
        let disconnect_ms = match begin.disconnect_ms {
            0 => profile.on_disconnect.map_or(DISCONNECT_MS, OnDisconnect::to_ms),
            ms => ms,
        };
        let mut record = Record::new(id, self.0.root(), profile.name.clone(), &begin.argv);
        record.name.clone_from(&begin.name);
        record.began_ms = now_ms();
        record.detached = begin.detach;
        record.terminal = begin.terminal.is_some();
        record.disconnect_ms = disconnect_ms;
        Operation::new(begin.clone(), record, succession::patience_of(disconnect_ms))
    }

    fn name_is_taken(&self, name: &str) -> Option<String> {
        let taken =
            !name.is_empty() && self.0.operations().values().any(|known| known.begin.name == name);
        taken.then(|| format!("an operation with the name `{name}` runs already"))
    }

    /// A client joins an operation.
    fn attach(&self, join: &Join, requests: Streaming<ExecRequest>) -> Response<EventStream> {
        let (events, stream) = channel();
        let session = Arc::clone(&self.0);
        let known =
            OperationId::from_bytes(&join.id).and_then(|id| self.0.operations().get(&id).cloned());
        match known {
            Some(operation) => {
                let terms = Terms::of_join(join);
                let attachment = operation.attach(terms.input);
                tokio::spawn(attach::run(session, operation, terms, requests, events, attachment));
            }
            None => {
                let id = join.id.clone();
                let from = match join.from {
                    _ if join.wait => Some(u64::MAX),
                    Some(join::From::Offset(offset)) => Some(offset),
                    // Rather too much than too little.
                    Some(join::From::Lines(_) | join::From::SinceMs(_)) => Some(0),
                    Some(join::From::Untaken(_)) | None => None,
                };
                tokio::spawn(async move {
                    attach::absent(&session, &id, from, &events).await;
                    events.read_to_the_end().await;
                    end_unused(session, Duration::ZERO).await;
                });
            }
        }
        stream
    }

    fn flush(&self, why: Why) -> Result<Response<EventStream>, Status> {
        self.join(User::Command)?;
        let (events, stream) = channel();
        tokio::spawn(up::flush(Arc::clone(&self.0), why, events));
        Ok(stream)
    }
}

/// Says no to a client that asked for a command.
async fn refuse(events: Events, why: String) {
    let error = CliError::new(ExitCode::NotStarted, why)
        .hint("`skync ps` lists what runs; choose another `--name`");
    events.send(failure(error)).await;
    events.send(Event::Finished(Finished::default())).await;
}

fn channel() -> (Events, Response<EventStream>) {
    let (send, receive) = mpsc::channel(EVENTS_WAITING_MAX);
    let stream: EventStream = Box::pin(ReceiverStream::new(receive));
    (Events::new(send), Response::new(stream))
}

#[tonic::async_trait]
impl session_server::Session for Service {
    type ExecStream = EventStream;

    async fn exec(
        &self,
        request: Request<Streaming<ExecRequest>>,
    ) -> Result<Response<EventStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|request| request.request);
        match first {
            Some(exec_request::Request::Begin(begin)) => self.begin(begin, requests),
            Some(exec_request::Request::Join(join)) => Ok(self.attach(&join, requests)),
            Some(_) | None => {
                Err(Status::invalid_argument("the first request has `begin` or `join`"))
            }
        }
    }

    async fn operations(
        &self,
        request: Request<OperationsRequest>,
    ) -> Result<Response<OperationsReply>, Status> {
        let id = OperationId::from_bytes(&request.into_inner().id);
        let operations = overview::operations(&self.0, id).await;
        Ok(Response::new(OperationsReply { operations }))
    }

    async fn cancel(
        &self,
        request: Request<CancelRequest>,
    ) -> Result<Response<CancelReply>, Status> {
        let request = request.into_inner();
        let operation = OperationId::from_bytes(&request.id)
            .and_then(|id| self.0.operations().get(&id).cloned());
        let Some(operation) = operation else {
            return Ok(Response::new(CancelReply::default()));
        };
        let (first, grace) = match (request.kill, request.grace_ms) {
            (true, _) => (SIGKILL, Some(Duration::ZERO)),
            (false, 0) => (SIGINT, None),
            (false, ms) => (SIGINT, Some(Duration::from_millis(ms.into()))),
        };
        let found = CancelReply { found: true, ..CancelReply::default() };
        if operation.place().is_none() {
            // Before it has started any wish gives it up; afterwards it changes nothing.
            if let Some(wish) = self.0.wishes().get(&request.id) {
                wish.send_modify(|wish| wish.cancel = true);
            }
            let had_ended = matches!(*operation.phase.borrow(), Phase::Over(_));
            return Ok(Response::new(CancelReply { had_ended, ..found }));
        }
        let had_ended = matches!(*operation.phase.borrow(), Phase::Ending(..));
        match supervise::cancel(Arc::clone(&self.0), operation, first, grace).await {
            Some(Ok((stopped, survivors))) => {
                Ok(Response::new(CancelReply { had_ended, stopped, survivors, ..found }))
            }
            Some(Err(status)) => Err(status),
            None => Ok(Response::new(CancelReply { had_ended: true, ..found })),
        }
    }

    type UpStream = EventStream;

    async fn up(&self, request: Request<UpRequest>) -> Result<Response<EventStream>, Status> {
        let request = request.into_inner();
        self.join(User::Up)?;
        let wishes = self.wishes_of(&request.id);
        let (events, stream) = channel();
        tokio::spawn(up::run(Arc::clone(&self.0), request, wishes, events));
        Ok(stream)
    }

    async fn control(
        &self,
        request: Request<ControlRequest>,
    ) -> Result<Response<ControlReply>, Status> {
        let request = request.into_inner();
        if request.detach {
            let operation = OperationId::from_bytes(&request.id)
                .and_then(|id| self.0.operations().get(&id).cloned());
            let Some(operation) = operation else {
                return Ok(Response::new(ControlReply { found: false }));
            };
            exec::let_go(&self.0, &operation).await;
            return Ok(Response::new(ControlReply { found: true }));
        }
        let wishes = self.0.wishes();
        let wish = wishes.get(&request.id);
        if let Some(wish) = wish {
            wish.send_modify(|wish| {
                wish.cancel |= request.cancel;
                if request.signal != 0 {
                    wish.count += 1;
                    wish.signal = request.signal;
                }
            });
        }
        Ok(Response::new(ControlReply { found: wish.is_some() }))
    }

    async fn status(
        &self,
        _request: Request<StatusRequest>,
    ) -> Result<Response<StatusReply>, Status> {
        Ok(Response::new(self.0.told()))
    }

    async fn usage(&self, _request: Request<UsageRequest>) -> Result<Response<UsageReply>, Status> {
        let Way::Open(open) = self.0.ways.now() else {
            return Ok(Response::new(UsageReply::default()));
        };
        let usage = tokio::time::timeout(USAGE_PATIENCE, self.0.driver.usage(&open.1)).await;
        let usage = match usage {
            Ok(Ok(usage)) => usage.map(|usage| Usage {
                milli_cpus: usage.milli_cpus.0,
                milli_cpus_max: usage.milli_cpus.1,
                memory: usage.memory.0,
                memory_max: usage.memory.1,
                disk: usage.disk.0,
                disk_max: usage.disk.1,
            }),
            Ok(Err(error)) => {
                tracing::debug!(%error, "what the sandbox uses is not known");
                None
            }
            Err(_) => None,
        };
        Ok(Response::new(UsageReply { usage }))
    }

    type WatchStatusStream = StatusStream;

    async fn watch_status(
        &self,
        _request: Request<StatusRequest>,
    ) -> Result<Response<StatusStream>, Status> {
        let (send, receive) = mpsc::channel(1);
        let session = Arc::clone(&self.0);
        let mut views = session.view.subscribe();
        views.mark_changed();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    changed = views.changed() => if changed.is_err() { return },
                    () = send.closed() => return,
                }
                // First, so that what changes meanwhile is told once more.
                views.mark_unchanged();
                if send.send(Ok(session.told())).await.is_err() {
                    return;
                }
                tokio::time::sleep(STATUS_INTERVAL).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    type FlushStream = EventStream;

    async fn flush(
        &self,
        _request: Request<FlushRequest>,
    ) -> Result<Response<EventStream>, Status> {
        self.flush(Why::Flush)
    }

    async fn pause(&self, _request: Request<PauseRequest>) -> Result<Response<PauseReply>, Status> {
        let paused = self.0.life(Lifecycle::pause);
        // What is being carried over is carried to its end.
        drop(self.0.state.lock().await);
        Ok(Response::new(PauseReply { paused }))
    }

    type ResumeStream = EventStream;

    async fn resume(
        &self,
        request: Request<ResumeRequest>,
    ) -> Result<Response<EventStream>, Status> {
        self.flush(if request.into_inner().accept { Why::Accept } else { Why::Resume })
    }

    async fn content(
        &self,
        request: Request<ContentRequest>,
    ) -> Result<Response<ContentReply>, Status> {
        let data = content::read(&self.0, request.into_inner()).await;
        let found = data.is_some();
        Ok(Response::new(ContentReply { found, data: data.unwrap_or_default() }))
    }

    type MountStream = EventStream;

    async fn mount(&self, request: Request<MountRequest>) -> Result<Response<EventStream>, Status> {
        self.join(User::Command)?;
        let (events, stream) = channel();
        tokio::spawn(mount_calls::mount(Arc::clone(&self.0), request.into_inner(), events));
        Ok(stream)
    }

    type UnmountStream = EventStream;

    async fn unmount(
        &self,
        request: Request<UnmountRequest>,
    ) -> Result<Response<EventStream>, Status> {
        self.join(User::Command)?;
        let (events, stream) = channel();
        tokio::spawn(mount_calls::unmount(Arc::clone(&self.0), request.into_inner(), events));
        Ok(stream)
    }

    type DownStream = EventStream;

    async fn down(&self, request: Request<DownRequest>) -> Result<Response<EventStream>, Status> {
        let discard = request.into_inner().discard;
        let (events, stream) = channel();
        tokio::spawn(up::down(Arc::clone(&self.0), discard, events));
        Ok(stream)
    }
}
