//! gRPC over a byte stream that is already open: HTTP/2 by hyper, without a connector or a pool.
//!
//! Both uses (a session to its agent, the command to its session) must see the end of their one
//! connection, which tonic's own channel hides behind reconnecting.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use skync_agent::sizes::{FRAME_BYTES_MAX, LINK_WINDOW_BYTES, STREAM_WINDOW_BYTES};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tonic::body::Body;

/// Where requests go by name; nothing resolves it.
pub fn origin() -> Uri {
    Uri::from_static("http://skync")
}

/// One HTTP/2 connection, as tonic's clients want it.
#[derive(Clone, Debug)]
pub struct Channel {
    requests: http2::SendRequest<Body>,
    open: watch::Receiver<bool>,
    closing: Arc<Notify>,
}

impl Channel {
    /// Starts HTTP/2 on the stream.
    ///
    /// # Errors
    /// If the other end does not take part.
    pub async fn open<S>(stream: S) -> Result<Self, hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let tasks = Tasks::default();
        let (requests, connection) = http2::Builder::new(tasks.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(LINK_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_send_buf_size(1 << 20)
            .handshake(TokioIo::new(stream))
            .await?;
        let (tell, open) = watch::channel(true);
        let closing = Arc::new(Notify::new());
        let closed = Arc::clone(&closing);
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                },
                // One of the tasks has the stream, and would keep it open and answer the other end's
                // pings as long as a call goes on: that end would take the link for alive.
                () = closed.notified() => tasks.lock().abort_all(),
            }
            tell.send_replace(false);
        });
        Ok(Self { requests, open, closing })
    }

    /// Ends the connection; every call over it fails.
    pub fn close(&self) {
        self.closing.notify_one();
    }

    /// False once the connection has ended.
    pub fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// Returns when the connection has ended.
    pub async fn closed(&self) {
        let mut open = self.open.clone();
        // The sender is dropped only after it has said so.
        let _ = open.wait_for(|open| !open).await;
    }
}

/// What HTTP/2 does in the background for one connection.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        // Tasks are added and removed one at a time: the set is whole after any panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let mut tasks = self.lock();
        // Those that have ended make room.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

impl tower_service::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = std::pin::Pin<
        Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send + 'static>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.requests.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.requests.send_request(request))
    }
}
