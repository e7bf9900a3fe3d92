//! A Daytona-compatible server: the control plane at `/api`, the proxy at `/toolbox`.
//!
//! # Layout
//!
//! - `api`, `create`, `list`, `changes`, `previews`: the calls of the control plane.
//! - `model`, `world`: a sandbox, and all that a server knows.
//! - `lifecycle`: states, and the clocks that stop, archive and delete.
//! - `edge`: the proxy in front of the sandboxes.
//! - `quirks`: what the real one does only at times.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, Request, State as Shared};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::container;
use crate::program;
use crate::wire::{self, Wire};

mod api;
mod changes;
pub(crate) mod clock;
mod create;
mod docker;
mod edge;
mod errors;
mod lifecycle;
mod list;
mod model;
mod previews;
mod quirks;
mod world;

pub use model::State;
pub use quirks::Quirks;

pub use crate::record::Recorded;

use quirks::Fate;
use world::{Order, World};

/// The one organization. A key that is a JWT needs it in `X-Daytona-Organization-ID`.
pub const ORGANIZATION: &str = "6f1c1c4e-0000-4000-8000-000000000001";
/// How often a sweep is tried again.
const SWEEPS_MAX: u32 = 20;
/// What the proxy keeps of a request to send it again.
const REPLAYED_BYTES_MAX: usize = 256 << 10;
/// The version that the control plane says it has.
const API_VERSION: &str = "0.190.0";
/// The version that the daemon says it has.
pub(crate) const DAEMON_VERSION: &str = "v0.190.0";

/// The program `test-servers daytona`.
pub fn main(arguments: &[&str]) -> ExitCode {
    program::run(arguments, |program| {
        let mut options = Options::new(&program.program);
        program.image.clone_into(&mut options.image);
        program.key.clone_into(&mut options.key);
        options.port = program.port;
        let server = Daytona::start(options);
        let (url, wire) = (server.url(), server.wire().clone());
        (server, url, wire)
    })
}

/// The query of a request, in its order, with repeated names.
type Pairs = Query<Vec<(String, String)>>;

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program `test-servers`, that runs inside of the sandboxes, too.
    pub program: PathBuf,
    /// The image of the snapshots; nothing is pulled.
    pub image: String,
    /// The port on 127.0.0.1; 0 is any.
    pub port: u16,
    /// The API key that is let in.
    pub key: String,
    /// How long a minute of an interval is: a second, for a test of auto-stop.
    pub minute: Duration,
    /// How long each state lasts that a sandbox only passes through.
    pub step: Duration,
}

impl Options {
    /// The usual ones.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            image: "skync-test/speckit:1.2.3".to_owned(),
            port: 0,
            key: format!("dtn_{}", clock::random_hex::<16>()),
            minute: Duration::from_secs(60),
            step: Duration::from_millis(30),
        }
    }
}

/// A sandbox as a test sees it.
#[derive(Clone, Debug)]
pub struct SandboxView {
    /// Its id.
    pub id: String,
    /// Its name; the id, when it was given none.
    pub name: String,
    /// Its labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Where it is in its life; destroyed ones are shown, too.
    pub state: State,
    /// The container behind it.
    pub container: Option<String>,
    /// The token of its previews.
    pub token: String,
    /// The minutes after which it is stopped when idle.
    pub auto_stop: i64,
    /// The minutes after its stop at which it is deleted.
    pub auto_delete: i64,
    /// How long it has been idle.
    pub idle: Duration,
}

/// A running server. Dropped, it ends with all of its sandboxes.
pub struct Daytona {
    world: Arc<World>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Daytona {
    /// Starts a server on a thread of its own.
    ///
    /// # Panics
    ///
    /// The port is taken, or there is no docker.
    pub fn start(options: Options) -> Self {
        let (told, ready) = std::sync::mpsc::channel();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("a runtime can be made");
            runtime.block_on(async move {
                let (world, listener) = prepare(options).await;
                let _ = told.send(Arc::clone(&world));
                Box::pin(run(world, listener, ended)).await;
            });
        });
        let world = ready.recv().expect("the server starts");
        Self { world, end: Some(end), thread: Some(thread) }
    }

    /// `http://127.0.0.1:PORT`: the control plane is at `/api` of it, the toolbox at `/toolbox`.
    pub fn url(&self) -> String {
        self.world.base.clone()
    }

    /// What `DAYTONA_API_URL` has to be.
    pub fn api_url(&self) -> String {
        format!("{}/api", self.world.base)
    }

    /// The API key that is let in.
    pub fn key(&self) -> String {
        self.world.key()
    }

    /// Lets another key in, and the one before no more.
    pub fn set_key(&self, key: &str) {
        self.world.set_key(key);
    }

    /// The switches of the connections.
    pub fn wire(&self) -> &Wire {
        &self.world.wire
    }

    /// The switches of the service.
    pub fn quirks(&self) -> &Quirks {
        &self.world.quirks
    }

    /// All sandboxes that there are or were.
    pub fn sandboxes(&self) -> Vec<SandboxView> {
        self.world.all().into_iter().map(view).collect()
    }

    /// Removes a sandbox as if it were deleted behind the clients' backs. By its id.
    pub fn destroy(&self, id: &str) {
        self.world.order(id, Order::Destroy);
    }

    /// Stops a sandbox behind the clients' backs, as auto-stop does. By its id.
    pub fn stop(&self, id: &str) {
        self.world.order(id, Order::Stop);
    }

    /// Kills the daemon of a sandbox, as an OOM does: the state stays `started`, and the toolbox
    /// and the previews answer with empty 502s until it is stopped and started. By its id.
    pub fn kill_daemon(&self, id: &str) {
        self.world.order(id, Order::KillDaemon);
    }

    /// The requests that came, at most the last 4096.
    pub fn requests(&self) -> Vec<Recorded> {
        self.world.requests()
    }
}

impl Drop for Daytona {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn view(sandbox: model::Sandbox) -> SandboxView {
    SandboxView {
        id: sandbox.id,
        name: sandbox.name,
        labels: sandbox.labels,
        state: sandbox.state,
        container: sandbox.container.map(|container| container.id().to_owned()),
        token: sandbox.token,
        auto_stop: sandbox.intervals.stop,
        auto_delete: sandbox.intervals.delete,
        idle: sandbox.active_at.elapsed(),
    }
}

/// Removes what servers left that are no more. Others that start now do the same, and docker removes
/// a container for one of them only: then there is less to do the next time.
async fn sweep() {
    let mut outcome = container::sweep().await;
    for _ in 0..SWEEPS_MAX {
        if outcome.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        outcome = container::sweep().await;
    }
    outcome.expect("docker answers");
}

async fn prepare(options: Options) -> (Arc<World>, TcpListener) {
    sweep().await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let listener = TcpListener::bind(address).await.expect("the port is free");
    let address = listener.local_addr().expect("a listener has an address");
    (Arc::new(World::new(options, format!("http://{address}"), Wire::new())), listener)
}

/// Serves until it is told to end, and removes all sandboxes then.
async fn run(world: Arc<World>, listener: TcpListener, ended: oneshot::Receiver<()>) {
    let router = router(&world);
    let clocks = tokio::spawn(lifecycle::watch_clocks(Arc::clone(&world)));
    let orders = tokio::spawn(lifecycle::obey(Arc::clone(&world)));
    tokio::select! {
        () = wire::serve(listener, router, world.wire.clone()) => {}
        _ = ended => {}
    }
    clocks.abort();
    orders.abort();
    world.cords.cut();
    lifecycle::remove_all(&world).await;
}

fn router(world: &Arc<World>) -> Router {
    Router::new()
        .nest("/api", api::router(world))
        .route("/toolbox/{id}/{*rest}", any(edge::toolbox))
        .route("/_preview/{name}/{port}", any(edge::preview_root))
        .route("/_preview/{name}/{port}/", any(edge::preview_root))
        .route("/_preview/{name}/{port}/{*rest}", any(edge::preview))
        .route("/_login", get(edge::login))
        .route("/_test/counts", get(counts))
        .fallback(nothing)
        .layer(middleware::from_fn_with_state(Arc::clone(world), around))
        .with_state(Arc::clone(world))
}

async fn nothing() -> Response {
    errors::ApiError::new(StatusCode::NOT_FOUND, "Not Found").into_response()
}

async fn counts(Shared(world): Shared<Arc<World>>) -> axum::Json<wire::Counts> {
    axum::Json(world.wire.counts())
}

/// Around every request: what is planned for it, the error's body, and the record.
async fn around(Shared(world): Shared<Arc<World>>, request: Request, next: Next) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let method = request.method().to_string();
    let headers = request.headers().keys().map(|name| name.as_str().to_owned()).collect();
    let response = match world.quirks.take_fate(&format!("{method} {path}")) {
        None => errors::write(next.run(request).await, &path),
        Some(Fate::Fail { status, headers, body }) => planned(status, headers, body),
        Some(Fate::Drop) => dropped(),
        Some(Fate::LoseReply) => {
            let _ = next.run(request).await;
            dropped()
        }
        Some(Fate::Replay) => errors::write(replayed(request, next).await, &path),
    };
    let is_dropped = response.extensions().get::<wire::Reset>().is_some();
    let status = if is_dropped { 0 } else { response.status().as_u16() };
    world.record(Recorded { method, path: without_secrets(path), status, headers });
    response
}

/// Does a request twice. Only small ones are replayed, and none that becomes a WebSocket.
async fn replayed(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, REPLAYED_BYTES_MAX).await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let again = || Request::from_parts(parts.clone(), body.clone().into());
    let first = next.clone().run(again()).await;
    // To its end: what it is answered with may still be under way.
    let _ = axum::body::to_bytes(first.into_body(), usize::MAX).await;
    next.run(again()).await
}

fn planned(status: u16, headers: Vec<(String, String)>, body: String) -> Response {
    let mut response = Response::new(axum::body::Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).expect("a planned status is one");
    for (name, value) in headers {
        let name: HeaderName = name.parse().expect("a planned header has a name");
        let value = HeaderValue::from_str(&value).expect("a planned header has a value");
        response.headers_mut().insert(name, value);
    }
    response
}

fn dropped() -> Response {
    let mut response = StatusCode::OK.into_response();
    response.extensions_mut().insert(wire::Reset);
    response
}

/// A token in a query is as good as one in a header, and is not kept either.
fn without_secrets(path: String) -> String {
    match path.find("DAYTONA_SANDBOX_AUTH_KEY=") {
        Some(at) => format!("{}DAYTONA_SANDBOX_AUTH_KEY=…", &path[..at]),
        None => path,
    }
}

/// The key of a request's `Authorization`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}
