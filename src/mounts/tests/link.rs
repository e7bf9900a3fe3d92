//! Links to a service of files in this process, which tests cut.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use skync_agent::files::Replies;
use skync_agent::proto::agent_client::AgentClient;
use skync_agent::proto::{FilesReply, FilesRequest};
use skync_agent::sizes::MESSAGE_BYTES_MAX;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use crate::channel::{Channel, origin};
use crate::mounts::MountWay;

/// Bytes that are on their way at a time.
const ON_THE_WAY_BYTES: usize = 1 << 20;
/// Bytes that are carried at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Answers one stream.
pub(super) type Serve = dyn Fn(Streaming<FilesRequest>) -> Serving + Send + Sync;
/// A stream that is about to be answered.
pub(super) type Serving = BoxFuture<'static, Result<Replies, Status>>;

/// The links that a source is given, and what is at their other end.
pub(super) struct Links {
    ways: watch::Sender<MountWay>,
    serve: Arc<Serve>,
    serving: Option<AbortHandle>,
    carrying: Option<watch::Receiver<()>>,
}

impl Links {
    /// No link yet.
    pub(super) fn new(
        serve: impl Fn(Streaming<FilesRequest>) -> Serving + Send + Sync + 'static,
    ) -> (Self, watch::Receiver<MountWay>) {
        let (ways, receive) = watch::channel(MountWay::Lost);
        (Self { ways, serve: Arc::new(serve), serving: None, carrying: None }, receive)
    }

    /// Opens a link to the sandbox of this id.
    pub(super) async fn open(&mut self, sandbox: &str) {
        self.open_for(sandbox, u64::MAX).await;
    }

    /// Opens a link that ends after so many bytes, both directions together.
    pub(super) async fn open_for(&mut self, sandbox: &str, bytes: u64) {
        let (near, middle) = tokio::io::duplex(ON_THE_WAY_BYTES);
        let (far_middle, far) = tokio::io::duplex(ON_THE_WAY_BYTES);
        let (ended, is_open) = watch::channel(());
        self.carrying = Some(is_open);
        tokio::spawn(async move {
            carry(middle, far_middle, bytes).await;
            drop(ended);
        });
        let service = TowerToHyperService::new(Service(Arc::clone(&self.serve)));
        let serving = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(skync_agent::sizes::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(skync_agent::sizes::LINK_WINDOW_BYTES)
            .serve_connection(TokioIo::new(far), service);
        self.serving = Some(tokio::spawn(serving).abort_handle());
        // It may have ended already.
        let Ok(channel) = Channel::open(near).await else { return };
        let client = AgentClient::with_origin(channel, origin())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        self.ways.send_replace(MountWay::Open(client, sandbox.to_owned()));
    }

    /// Cuts the link; nobody tells the source.
    pub(super) fn cut(&mut self) {
        self.serving.take().expect("a link").abort();
    }

    /// Returns when the link has ended.
    pub(super) async fn ended(&mut self) {
        if let Some(carrying) = &mut self.carrying {
            // Nothing is ever sent.
            let _ = carrying.changed().await;
        }
    }

    /// Says that the link is lost.
    pub(super) fn lose(&self) {
        self.ways.send_replace(MountWay::Lost);
    }

    /// Says that the sandbox is gone.
    pub(super) fn give_up(&self) {
        self.ways.send_replace(MountWay::Gone);
    }
}

/// Carries bytes both ways until one end has ended or so many have gone through.
async fn carry(mut near: DuplexStream, mut far: DuplexStream, mut bytes: u64) {
    let (mut out, mut home) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    while bytes > 0 {
        let (read, piece, to) = tokio::select! {
            read = near.read(&mut out) => (read, &out, &mut far),
            read = far.read(&mut home) => (read, &home, &mut near),
        };
        let Some(read) = read.ok().filter(|read| *read > 0) else { return };
        let read = read.min(usize::try_from(bytes).unwrap_or(usize::MAX));
        if to.write_all(&piece[..read]).await.is_err() {
            return;
        }
        bytes -= read as u64;
    }
}

/// The one call, whatever its name.
#[derive(Clone)]
struct Service(Arc<Serve>);

impl tower_service::Service<Request<Incoming>> for Service {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let method = Method(Arc::clone(&self.0));
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<FilesReply, FilesRequest>::default())
                .apply_max_message_size_config(Some(MESSAGE_BYTES_MAX), Some(usize::MAX));
            Ok(grpc.streaming(method, request).await)
        })
    }
}

struct Method(Arc<Serve>);

impl tower_service::Service<tonic::Request<Streaming<FilesRequest>>> for Method {
    type Response = tonic::Response<Replies>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<Streaming<FilesRequest>>) -> Self::Future {
        let serving = (self.0)(request.into_inner());
        Box::pin(async move { Ok(tonic::Response::new(serving.await?)) })
    }
}
