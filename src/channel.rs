//! gRPC over a byte stream that is already open: HTTP/2 by hyper, without a connector or a pool.
//!
//! Both uses (a session to its agent, the command to its session) must see the end of their one
//! connection, which tonic's own channel hides behind reconnecting.

use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use skync_agent::serve::{FRAME_BYTES_MAX, LINK_WINDOW_BYTES, STREAM_WINDOW_BYTES};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tonic::body::Body;

/// A quiet connection is asked this often whether it is alive …
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// … and given up if it does not answer for this long.
const PING_PATIENCE: Duration = Duration::from_secs(10);

/// Where requests go by name; nothing resolves it.
pub fn origin() -> Uri {
    Uri::from_static("http://skync")
}

/// One HTTP/2 connection, as tonic's clients want it.
#[derive(Clone, Debug)]
pub struct Channel {
    requests: http2::SendRequest<Body>,
    open: watch::Receiver<bool>,
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
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(LINK_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_send_buf_size(1 << 20)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_PATIENCE)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await?;
        let (tell, open) = watch::channel(true);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
            tell.send_replace(false);
        });
        Ok(Self { requests, open })
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
