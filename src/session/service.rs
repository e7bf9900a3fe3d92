//! The calls of `proto/session.proto`, each handed to the module that carries it out.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::session::content;
use crate::session::events::Events;
use crate::session::exec::{self, Wish};
use crate::session::lifecycle::{Lifecycle, User};
use crate::session::proto::{
    ContentReply, ContentRequest, ControlReply, ControlRequest, DownRequest, ExecRequest,
    FlushRequest, PauseReply, PauseRequest, ResumeRequest, SessionEvent, StatusReply,
    StatusRequest, UpRequest, exec_request, session_server,
};
use crate::session::server::Session;
use crate::session::up::{self, STATUS_INTERVAL, Why};

/// Events that wait for a client; output waits in the sandbox.
const EVENTS_WAITING_MAX: usize = 16;

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

    fn flush(&self, why: Why) -> Result<Response<EventStream>, Status> {
        self.join(User::Command)?;
        let (events, stream) = channel();
        tokio::spawn(up::flush(Arc::clone(&self.0), why, events));
        Ok(stream)
    }
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
        let Some(exec_request::Request::Begin(begin)) = first else {
            return Err(Status::invalid_argument("the first request has `begin`"));
        };
        self.join(User::Command)?;
        let wishes = self.wishes_of(&begin.id);
        let (events, stream) = channel();
        tokio::spawn(exec::run(Arc::clone(&self.0), begin, requests, wishes, events));
        Ok(stream)
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
        Ok(Response::new(self.0.view.borrow().reply.clone()))
    }

    type WatchStatusStream = StatusStream;

    async fn watch_status(
        &self,
        _request: Request<StatusRequest>,
    ) -> Result<Response<StatusStream>, Status> {
        let (send, receive) = mpsc::channel(1);
        let mut views = self.0.view.subscribe();
        views.mark_changed();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    changed = views.changed() => if changed.is_err() { return },
                    () = send.closed() => return,
                }
                let reply = views.borrow_and_update().reply.clone();
                if send.send(Ok(reply)).await.is_err() {
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

    type DownStream = EventStream;

    async fn down(&self, request: Request<DownRequest>) -> Result<Response<EventStream>, Status> {
        let discard = request.into_inner().discard;
        let (events, stream) = channel();
        tokio::spawn(up::down(Arc::clone(&self.0), discard, events));
        Ok(stream)
    }
}
