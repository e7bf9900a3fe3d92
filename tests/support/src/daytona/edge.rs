//! The proxy in front of the sandboxes: `/toolbox/{id}/…` to the daemon, `/toolbox/{id}/proxy/{port}`
//! and `/_preview/{id or token}/{port}/…` to a port.
//!
//! Previews have paths and no host names of their own, for want of a wildcard DNS on loopback.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Path, Request, State as Shared};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::task::AbortHandle;

use super::errors;
use super::model::{Sandbox, State};
use super::world::World;
use super::{bearer, lifecycle};
use crate::inside;
use crate::inside::CLOSED_HEADER;
use crate::inside::daytona::{KILL_PATH, PORT_HEADER};
use crate::proxy;

/// A preview's other way to name its token.
const TOKEN_HEADER: &str = "x-daytona-preview-token";
const TOKEN_QUERY: &str = "DAYTONA_SANDBOX_AUTH_KEY=";
const SKIP_ACTIVITY: &str = "x-daytona-skip-last-activity-update";

/// A request for a sandbox's daemon.
pub(crate) async fn toolbox(
    Shared(world): Shared<Arc<World>>,
    Path((id, rest)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let error = |status, message: &str| errors::of_proxy(status, message, &method, &path);
    let sandbox = world.find_by_id(&id);
    let is_known = sandbox.as_ref().is_some_and(|sandbox| has_token(&request, &sandbox.token));
    if !is_known && bearer(request.headers()) != Some(&*world.key()) {
        return error(StatusCode::UNAUTHORIZED, "unauthorized: Bearer token is invalid");
    }
    let Some(sandbox) = sandbox else {
        return error(StatusCode::NOT_FOUND, "sandbox not found");
    };
    if let Some(status) = refusal(&world, &sandbox) {
        return match status {
            StatusCode::BAD_GATEWAY => errors::empty(status),
            _ => error(status, "sandbox is not running"),
        };
    }
    let Some(port) = rest.strip_prefix("proxy/") else {
        if format!("/{rest}") == KILL_PATH {
            return error(StatusCode::NOT_FOUND, "404 page not found");
        }
        return forward(&world, &sandbox, request, 2, None).await;
    };
    if !world.quirks.has_port_proxy() {
        return error(StatusCode::NOT_FOUND, "404 page not found");
    }
    match port.split('/').next().unwrap_or_default().parse() {
        Ok(port) => forward(&world, &sandbox, request, 4, Some(port)).await,
        Err(_) => error(StatusCode::BAD_REQUEST, "invalid port"),
    }
}

/// A request for a port's preview, below its first path.
pub(crate) async fn preview(
    Shared(world): Shared<Arc<World>>,
    Path((name, port, _)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    to_preview(&world, &name, &port, request).await
}

/// A request for a port's preview, at its root.
pub(crate) async fn preview_root(
    Shared(world): Shared<Arc<World>>,
    Path((name, port)): Path<(String, String)>,
    request: Request,
) -> Response {
    to_preview(&world, &name, &port, request).await
}

async fn to_preview(world: &Arc<World>, name: &str, port: &str, request: Request) -> Response {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let error = |status, message: &str| errors::of_proxy(status, message, &method, &path);
    let Ok(port) = port.parse::<u16>() else {
        return error(StatusCode::BAD_REQUEST, "invalid port");
    };
    let link = world.link(name).filter(|link| link.port == port);
    let id = link.as_ref().map_or(name, |link| &link.sandbox);
    let Some(sandbox) = world.find_by_id(id) else {
        return errors::to_login(&world.base);
    };
    let is_in = sandbox.public
        || link.is_some()
        || bearer(request.headers()) == Some(&*world.key())
        || has_token(&request, &sandbox.token);
    if !is_in {
        return errors::to_login(&world.base);
    }
    match refusal(world, &sandbox) {
        Some(StatusCode::BAD_GATEWAY) => errors::empty(StatusCode::BAD_GATEWAY),
        Some(status) => error(status, "sandbox is not running"),
        None => forward(world, &sandbox, request, 3, Some(port)).await,
    }
}

fn has_token(request: &Request, token: &str) -> bool {
    let header = request.headers().get(TOKEN_HEADER).and_then(|value| value.to_str().ok());
    let query = request.uri().query().unwrap_or_default();
    let query = query.split('&').find_map(|pair| pair.strip_prefix(TOKEN_QUERY));
    header == Some(token) || query == Some(token)
}

/// What the proxy answers because of the state that a sandbox is in.
fn refusal(world: &World, sandbox: &Sandbox) -> Option<StatusCode> {
    match sandbox.state {
        State::Started => {}
        State::Stopping | State::Starting | State::Restoring | State::Destroying => {
            return Some(StatusCode::BAD_GATEWAY);
        }
        _ => return Some(StatusCode::BAD_REQUEST),
    }
    world.change(&sandbox.id, |sandbox| {
        let (left, status) = &mut sandbox.toolbox_failures;
        (*left > 0).then(|| {
            *left -= 1;
            StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY)
        })
    })?
}

/// Hands a request to the daemon, or to a port beside it, without so many segments of its path.
async fn forward(
    world: &Arc<World>,
    sandbox: &Sandbox,
    mut request: Request,
    segments: usize,
    port: Option<u16>,
) -> Response {
    *request.uri_mut() = inner_uri(request.uri(), segments);
    let counts = !request.headers().contains_key(SKIP_ACTIVITY);
    clean(request.headers_mut(), sandbox, port);
    let Some(container) = &sandbox.container else {
        return errors::empty(StatusCode::BAD_GATEWAY);
    };
    let Ok(stream) = container.connect().await else {
        return errors::empty(StatusCode::BAD_GATEWAY);
    };
    let activity = counts.then(|| Activity::start(world, &sandbox.id));
    let stream = Counted { stream, _activity: activity };
    match Box::pin(proxy::forward(stream, request, world.cords.cord())).await {
        Ok(response) if response.headers().contains_key(CLOSED_HEADER) => {
            errors::empty(StatusCode::BAD_GATEWAY)
        }
        Ok(response) => response,
        Err(_) => errors::empty(StatusCode::BAD_GATEWAY),
    }
}

/// The path as the client wrote it, escapes and all, without the segments that lead to the sandbox.
fn inner_uri(outer: &Uri, segments: usize) -> Uri {
    let path = outer.path();
    let path = path.match_indices('/').nth(segments).map_or("/", |(at, _)| &path[at..]);
    let query = outer.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{path}{query}").parse().unwrap_or_else(|_| Uri::from_static("/"))
}

/// Takes away what is the proxy's business, or could be mistaken for its own words.
fn clean(headers: &mut HeaderMap, sandbox: &Sandbox, port: Option<u16>) {
    headers.remove(inside::PORT_HEADER);
    headers.remove(PORT_HEADER);
    headers.remove(TOKEN_HEADER);
    headers.remove(SKIP_ACTIVITY);
    if !sandbox.public {
        headers.remove(AUTHORIZATION);
    }
    if let Some(port) = port {
        headers.insert(PORT_HEADER, HeaderValue::from(port));
    }
}

/// Kills the daemon of a sandbox, that is `started` all the same.
pub(crate) async fn kill_daemon(sandbox: &Sandbox) {
    let Some(container) = &sandbox.container else { return };
    let Ok(stream) = container.connect().await else { return };
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(KILL_PATH);
    request.headers_mut().insert(HOST, HeaderValue::from_static("inside"));
    let _ = Box::pin(proxy::forward(stream, request, proxy::Cord::uncut())).await;
}

/// An open request: it counts as activity at once, and again and again until it is dropped.
struct Activity(AbortHandle);

impl Activity {
    fn start(world: &Arc<World>, id: &str) -> Self {
        let (world, id) = (Arc::clone(world), id.to_owned());
        let task = tokio::spawn(async move {
            let period = lifecycle::activity_period(world.options.minute);
            while world.change(&id, Sandbox::touch).is_some() {
                tokio::time::sleep(period).await;
            }
        });
        Self(task.abort_handle())
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The way to the daemon. Whoever ends it ends the activity: a whole answer, or either end of a
/// WebSocket.
struct Counted {
    stream: UnixStream,
    _activity: Option<Activity>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A page for a browser that is not let in.
pub(crate) async fn login() -> Response {
    Response::new(Body::from("<html><title>Log in to Daytona</title></html>"))
}
