//! Daytona's toolbox, inside of a sandbox.
//!
//! The first process is root's, to make the account and to wait for orphans. The daemon proper is a
//! child of it that runs as `daytona`: what that may not do, it may not do either. When somebody
//! kills it, requests find nobody and the sandbox stays `started`, as after the real one's OOM.
//!
//! # Layout
//!
//! - `front`: the first process, in front of the daemon.
//! - `shell`, `sessions`, `logs`, `pty`, `terminal`: processes.
//! - `files`, `upload`, `download`, `search`: files.
//! - `errors`, `socket`: what all of them answer with.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as Name, Request, State as Shared};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::reaper::Reaper;
use crate::daytona::DAEMON_VERSION;

mod download;
mod errors;
mod files;
mod front;
mod logs;
mod pty;
mod search;
mod sessions;
mod shell;
mod socket;
mod terminal;
mod upload;

use errors::ToolError;

const HOME: &str = "/home/daytona";

/// Names the port that a request is for; the part outside strips headers of this name.
pub(crate) const PORT_HEADER: &str = "x-daytona-inside-port";
/// Kills the daemon; the part outside alone can name it.
pub(crate) const KILL_PATH: &str = "/kill-daemon";

type Answer = Result<Response, ToolError>;
type Daemons = Shared<Arc<Daemon>>;

/// What the daemon's routes share.
struct Daemon {
    home: PathBuf,
    reaper: Reaper,
    sessions: Mutex<BTreeMap<String, Arc<sessions::Session>>>,
    ptys: Mutex<BTreeMap<String, Arc<pty::Pty>>>,
}

impl Daemon {
    /// A path of a request: a relative one is below the work directory.
    fn path(&self, path: &str) -> PathBuf {
        // Joined with nothing it would end with a slash.
        if path.is_empty() { self.home.clone() } else { self.home.join(path) }
    }
}

/// Starts the daemon, and returns the service that hands everything to it.
pub(super) fn router(_: Value, reaper: Reaper) -> io::Result<Router> {
    front::router(&reaper)
}

/// Runs a shell on a terminal: in a process of its own, see `terminal`.
pub fn terminal_main(arguments: &[&str]) -> ExitCode {
    terminal::main(arguments)
}

/// Returns the service of the daemon itself.
pub(super) fn daemon(_: Value, reaper: Reaper) -> io::Result<Router> {
    let daemon = Arc::new(Daemon {
        home: PathBuf::from(HOME),
        reaper,
        sessions: Mutex::default(),
        ptys: Mutex::default(),
    });
    Ok(Router::new()
        .route("/version", get(version))
        .route("/work-dir", get(directory))
        .route("/user-home-dir", get(directory))
        .route("/port", get(ports))
        .route("/port/{port}/in-use", get(in_use))
        .merge(processes())
        .merge(file_routes())
        .layer(middleware::from_fn(around))
        .layer(DefaultBodyLimit::disable())
        .with_state(daemon))
}

fn processes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/process/execute", post(shell::execute))
        .route("/process/code-run", post(shell::code_run))
        .route("/process/session", post(sessions::create).get(sessions::list))
        .route("/process/session/{session}", get(sessions::show).delete(sessions::remove))
        .route("/process/session/{session}/exec", post(sessions::exec))
        .route("/process/session/{session}/command/{command}", get(sessions::command))
        .route("/process/session/{session}/command/{command}/logs", get(logs::logs))
        .route("/process/session/{session}/command/{command}/input", post(sessions::input))
        .route("/process/pty", post(pty::create).get(pty::list))
        .route("/process/pty/create-connect", get(pty::create_and_connect))
        .route("/process/pty/{pty}", get(pty::info).delete(pty::remove))
        .route("/process/pty/{pty}/resize", post(pty::resize))
        .route("/process/pty/{pty}/connect", get(pty::connect))
}

fn file_routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/files", get(files::list).merge(delete(files::remove)))
        .route("/files/info", get(files::info))
        .route("/files/folder", post(files::folder))
        .route("/files/move", post(files::rename))
        .route("/files/permissions", post(files::permissions))
        .route("/files/bulk-upload", post(upload::bulk))
        .route("/files/upload", post(upload::single))
        .route("/files/upload-v2", post(upload::single_or_raw))
        .route("/files/download", get(download::download))
        .route("/files/bulk-download", post(download::bulk))
        .route("/files/search", get(search::search))
        .route("/files/find", get(search::find))
        .route("/files/replace", post(search::replace))
}

async fn around(mut request: Request, next: Next) -> Response {
    if let Some(port) = request.headers_mut().remove(PORT_HEADER) {
        let port = port.to_str().ok().and_then(|port| port.parse().ok()).unwrap_or(0);
        return to_port(request, port).await;
    }
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    errors::write(next.run(request).await, &method, &path)
}

/// Hands a request to whoever listens on a port. When it is nobody, it says so at once.
async fn to_port(request: Request, port: u16) -> Response {
    if listening().contains(&port) {
        return Box::pin(super::port::forward(request, port)).await;
    }
    let mut response = StatusCode::BAD_GATEWAY.into_response();
    response.headers_mut().insert(super::CLOSED_HEADER, port.into());
    response
}

async fn version() -> Json<Value> {
    Json(json!({"version": DAEMON_VERSION}))
}

async fn directory(Shared(daemon): Daemons) -> Json<Value> {
    Json(json!({"dir": daemon.home}))
}

async fn ports() -> Json<Value> {
    Json(json!({"ports": listening()}))
}

async fn in_use(Name(port): Name<String>) -> Answer {
    let port = port.parse::<u16>().ok().filter(|port| (3000..=9999).contains(port));
    let port = port.ok_or_else(|| ToolError::bad("port out of range (3000-9999)"))?;
    Ok(Json(json!({"isInUse": listening().contains(&port)})).into_response())
}

/// The TCP ports that somebody listens on.
fn listening() -> Vec<u16> {
    let text = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let mut ports: Vec<u16> = text
        .iter()
        .flatten()
        .flat_map(|text| text.lines().skip(1))
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let port = fields.get(1)?.rsplit_once(':')?.1;
            (*fields.get(3)? == "0A").then(|| u16::from_str_radix(port, 16).ok())?
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The body of a request as JSON.
fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, ToolError> {
    let text = if body.is_empty() { &b"{}"[..] } else { &body[..] };
    serde_json::from_slice(text).map_err(|error| ToolError::bad(error.to_string()))
}

/// A value of a query.
fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
}

/// A value of a query that there has to be.
fn needed<'a>(pairs: &'a [(String, String)], name: &str) -> Result<&'a str, ToolError> {
    value(pairs, name)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| ToolError::bad(format!("{name} is required")))
}

/// Whether there is a file or directory, behind symlinks.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
