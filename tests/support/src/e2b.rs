//! A server that is to its clients what E2B is: the API, the edge, and envd in each sandbox.
//!
//! # Layout
//!
//! - `world`: the sandboxes and what happens to them over time.
//! - `create`, `lifecycle`, `list`, `templates`: the API's routes.
//! - `edge`: requests for envd and for ports of a sandbox.
//! - `quirks`: what a test can make go wrong.
//!
//! API and edge share one listener, so one URL is both `E2B_API_URL` and `E2B_SANDBOX_URL`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::container;
use crate::program::{self, Program};
use crate::record::Recorded;
use crate::wire::{self, Wire};

mod create;
mod edge;
mod error;
mod lifecycle;
mod list;
mod quirks;
mod templates;
mod world;

pub use quirks::Quirks;
pub use world::{SandboxState, SandboxView};

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program `test-servers`, which runs in each sandbox.
    pub program: PathBuf,
    /// The image of the template `base`.
    pub image: String,
    /// The port on 127.0.0.1, or 0 for any.
    pub port: u16,
    /// The API key that is accepted at first.
    pub key: String,
    /// More templates: name and image.
    pub templates: Vec<(String, String)>,
    /// How long a sandbox may run without a pause; the plan's limit.
    pub running_max: Duration,
}

impl Options {
    /// Returns what most tests need.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            image: program::IMAGE.to_owned(),
            port: 0,
            key: program::KEY.to_owned(),
            templates: Vec::new(),
            running_max: Duration::from_secs(24 * 3600),
        }
    }
}

/// A running server. Dropping it removes all its sandboxes.
pub struct E2b {
    world: Arc<world::World>,
    url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl E2b {
    /// Starts a server on a thread of its own, and waits until it listens.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    pub fn start(options: Options) -> Self {
        let port = options.port;
        let world = Arc::new(world::World::new(options));
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = mpsc::channel();
        let served = world.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("the machine can run threads");
            runtime.block_on(Box::pin(async {
                let listener = TcpListener::bind(("127.0.0.1", port)).await;
                let listener = listener.expect("the port is free");
                let _ = ready.send(listener.local_addr().expect("it is bound"));
                tokio::spawn(container::sweep());
                let serving = wire::serve(listener, router(served.clone()), served.wire.clone());
                tokio::select! {
                    () = serving => {}
                    _ = stopped => {}
                }
                served.remove_all().await;
            }));
        });
        let address = started.recv().expect("the server listens");
        let (stop, thread) = (Some(stop), Some(thread));
        Self { world, url: format!("http://{address}"), stop, thread }
    }

    /// Returns the base URL, of the API and of all sandboxes.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Returns the one API key that is accepted.
    pub fn key(&self) -> String {
        self.world.key()
    }

    /// Accepts another key from now on, and the old one no more.
    pub fn set_key(&self, key: &str) {
        self.world.set_key(key);
    }

    /// Returns the switches of all connections.
    pub fn wire(&self) -> &Wire {
        &self.world.wire
    }

    /// Returns what can be made to go wrong.
    pub fn quirks(&self) -> &Quirks {
        &self.world.quirks
    }

    /// Returns all sandboxes that there are, oldest first.
    pub fn sandboxes(&self) -> Vec<SandboxView> {
        self.world.views()
    }

    /// Returns the requests that were answered, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        self.world.log.requests()
    }
}

impl Drop for E2b {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The program `test-servers e2b`.
pub fn main(arguments: &[&str]) -> ExitCode {
    program::run(arguments, |program: &Program| {
        let server = E2b::start(Options {
            image: program.image.clone(),
            port: program.port,
            key: program.key.clone(),
            ..Options::new(&program.program)
        });
        let (url, wire) = (server.url(), server.wire().clone());
        (server, url, wire)
    })
}

fn router(world: Arc<world::World>) -> Router {
    let api = Router::new()
        .route("/v2/sandboxes", post(create::v2).get(list::v2))
        .route("/sandboxes", post(create::v1).get(list::v1))
        .route("/sandboxes/metrics", get(list::all_metrics))
        .route("/sandboxes/{id}", delete(lifecycle::kill).get(list::one))
        .route("/v2/sandboxes/{id}/connect", post(lifecycle::connect_v2))
        .route("/sandboxes/{id}/connect", post(lifecycle::connect_v1))
        .route("/sandboxes/{id}/resume", post(lifecycle::resume))
        .route("/sandboxes/{id}/timeout", post(lifecycle::timeout))
        .route("/sandboxes/{id}/refreshes", post(lifecycle::refresh))
        .route("/sandboxes/{id}/pause", post(lifecycle::pause))
        .route("/sandboxes/{id}/metrics", get(list::metrics))
        .route("/v2/templates", get(templates::list))
        .route("/templates", get(templates::list))
        .route("/templates/aliases/{alias}", get(templates::alias))
        .fallback(error::no_route)
        .layer(middleware::from_fn_with_state(world.clone(), error::authenticate));
    Router::new()
        .route("/health", get("Health check successful"))
        .route("/_test/counts", get(counts))
        .merge(api)
        .layer(middleware::from_fn_with_state(world.clone(), edge::route))
        .layer(middleware::from_fn_with_state(world.clone(), log))
        .with_state(world)
}

async fn log(State(world): State<Arc<world::World>>, request: Request, next: Next) -> Response {
    world.log.answer(request, next).await
}

async fn counts(State(world): State<Arc<world::World>>) -> Response {
    axum::Json(world.wire.counts()).into_response()
}
