//! The part of a test server that runs inside of a sandbox, as its first process.
//!
//! It listens on a unix socket that it shares with the part outside. A request with the header
//! [`PORT_HEADER`] goes to that port inside; every other one is for the provider's own service.
//! Clients cannot reach it but through the part outside, which strips headers of these names.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tower_service::Service;

use crate::proxy::drained;

pub mod port;
pub mod reaper;
pub mod users;

pub mod daytona;
pub mod e2b;

/// Names the port inside that a request is for.
pub const PORT_HEADER: &str = "x-inside-port";
/// On a 502: nobody listens on the port that the request was for.
pub const CLOSED_HEADER: &str = "x-inside-closed";

/// Serves a sandbox until SIGTERM. `kind` is `e2b` or `daytona`.
pub fn main(kind: &str, arguments: &[&str]) -> ExitCode {
    let options: HashMap<&str, &str> =
        arguments.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let served = runtime.and_then(|runtime| runtime.block_on(Box::pin(run(kind, &options))));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(kind: &str, options: &HashMap<&str, &str>) -> io::Result<()> {
    let missing = |name: &str| io::Error::other(format!("the option {name} is missing"));
    let socket = Path::new(options.get("--socket").ok_or_else(|| missing("--socket"))?);
    let config = Path::new(options.get("--config").ok_or_else(|| missing("--config"))?);
    let reaper = reaper::Reaper::start()?;
    let router = match kind {
        "e2b" => e2b::router(read(config)?, reaper)?,
        "daytona" => daytona::router(read(config)?, reaper)?,
        "daytona-daemon" => daytona::daemon(read(config)?, reaper)?,
        _ => return Err(io::Error::other("the kind is e2b or daytona")),
    };
    let mut term = signal(SignalKind::terminate())?;
    // Left by the run before, after a reboot.
    let _ = tokio::fs::remove_file(socket).await;
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666))?;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(Box::pin(http(stream, router.clone())));
                }
            }
            _ = term.recv() => return Ok(()),
        }
    }
}

fn read<T: DeserializeOwned>(config: &Path) -> io::Result<T> {
    serde_json::from_slice(&fs::read(config)?).map_err(io::Error::other)
}

async fn http(stream: UnixStream, router: Router) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut router = router.clone();
        async move {
            let request = request.map(drained);
            let port = request.headers().get(PORT_HEADER);
            let port = port.and_then(|port| port.to_str().ok()?.parse().ok());
            match port {
                Some(port) => Ok::<_, Infallible>(port::forward(request, port).await),
                None => router.call(request).await,
            }
        }
    });
    let io = TokioIo::new(stream);
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
    // An error is a client that went away.
    let _ = connection.with_upgrades().await;
}
