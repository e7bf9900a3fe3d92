//! The way into sandboxes: requests for envd and for ports, by two headers or by the host's name.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::world::{Sandbox, SandboxState, World};
use crate::inside::e2b::QUIRKS_HEADER;
use crate::inside::{CLOSED_HEADER, PORT_HEADER};
use crate::proxy;
use crate::wire::Reset;
use tail::Tail;

mod tail;

/// The port that envd has in every sandbox.
const ENVD_PORT: u16 = 49983;
/// Routes of envd that nobody outside reaches.
const INTERNAL: [&str; 7] =
    ["/init", "/freeze", "/unfreeze", "/collapse", "/fsfreeze", "/fsthaw", "/upgrade"];
/// Words of a browser's name: it gets pages in the place of JSON.
const BROWSERS: [&str; 7] = ["mozilla", "chrome", "safari", "firefox", "edge", "opera", "msie"];

/// Sends requests for a sandbox into it, and leaves the others to the API.
pub(super) async fn route(
    State(world): State<Arc<World>>,
    mut request: Request,
    next: Next,
) -> Response {
    // They are between the two parts of this server only.
    request.headers_mut().remove(PORT_HEADER);
    request.headers_mut().remove(QUIRKS_HEADER);
    match address(request.headers()) {
        Ok(None) => next.run(request).await,
        Ok(Some((id, port))) => Box::pin(enter(&world, &id, port, request)).await,
        Err(message) => (StatusCode::BAD_REQUEST, message).into_response(),
    }
}

/// Finds the sandbox and the port that a request is for.
fn address(headers: &HeaderMap) -> Result<Option<(String, u16)>, &'static str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match (text("e2b-sandbox-id"), text("e2b-sandbox-port")) {
        (Some(id), Some(port)) => {
            let port = port.parse().map_err(|_| "invalid sandbox port")?;
            Ok(Some((id.to_owned(), port)))
        }
        (Some(_), None) => Err("missing header E2b-Sandbox-Port"),
        (None, Some(_)) => Err("missing header E2b-Sandbox-Id"),
        (None, None) => Ok(text("host").and_then(host_address)),
    }
}

/// Reads `PORT-ID.domain`.
fn host_address(host: &str) -> Option<(String, u16)> {
    let (label, _) = host.split_once('.')?;
    let (port, id) = label.split_once('-')?;
    Some((id.to_owned(), port.parse().ok()?))
}

/// An error of the edge, as JSON, or as a page for browsers.
fn refuse(status: StatusCode, id: &str, port: Option<u16>, message: &str, ua: &str) -> Response {
    if BROWSERS.iter().any(|browser| ua.contains(browser)) {
        let page = format!("<!DOCTYPE html><html><body><h1>{status}</h1>{message}</body></html>");
        return (status, Html(page)).into_response();
    }
    let mut body = json!({ "sandboxId": id, "message": message, "code": status.as_u16() });
    if let Some(port) = port {
        body["port"] = Value::from(port);
    }
    (status, Json(body)).into_response()
}

async fn enter(world: &Arc<World>, id: &str, port: u16, mut request: Request) -> Response {
    let agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let agent = agent.unwrap_or_default().to_ascii_lowercase();
    let refuse = |status, port, message: &str| refuse(status, id, port, message, &agent);
    if world.quirks.take_transitioning() {
        let message = "The sandbox is still transitioning";
        return refuse(StatusCode::CONFLICT, None, message);
    }
    let missing = || refuse(StatusCode::BAD_GATEWAY, None, "The sandbox was not found");
    let Some(sandbox) = world.find(id) else { return missing() };
    let is_envd = port == ENVD_PORT;
    let is_trusted = is_trusted(&sandbox, is_envd, request.headers());
    if sandbox.life().state == SandboxState::Paused {
        if sandbox.wanted.auto_resume && !is_trusted {
            let message = "The sandbox can't be resumed with the credentials provided";
            return refuse(StatusCode::FORBIDDEN, None, message);
        }
        match sandbox.wake().await {
            Ok(true) => {}
            Ok(false) | Err(_) => return missing(),
        }
    }
    if is_envd {
        if INTERNAL.contains(&request.uri().path()) {
            return StatusCode::NOT_FOUND.into_response();
        }
        let quirks = HeaderValue::from_str(&world.quirks.envd()).expect("names are plain");
        request.headers_mut().insert(QUIRKS_HEADER, quirks);
        return forward(world, &sandbox, request, missing).await;
    }
    if !is_trusted {
        let message = "The traffic access token is missing or invalid";
        return refuse(StatusCode::FORBIDDEN, None, message);
    }
    if world.quirks.is_without_upgrade() {
        request.headers_mut().remove(header::UPGRADE);
        request.headers_mut().remove(header::CONNECTION);
    }
    let closed = |message| refuse(StatusCode::BAD_GATEWAY, Some(port), message);
    let closed = || closed("The sandbox is running but port is not open");
    if world.quirks.is_port_closed() {
        return closed();
    }
    request.headers_mut().insert(PORT_HEADER, HeaderValue::from(port));
    let response = forward(world, &sandbox, request, missing).await;
    if response.headers().contains_key(CLOSED_HEADER) { closed() } else { response }
}

/// Whether a request has what its port asks for. Envd itself looks at its token while it runs.
fn is_trusted(sandbox: &Sandbox, is_envd: bool, headers: &HeaderMap) -> bool {
    let (name, token) = if is_envd {
        ("x-access-token", &sandbox.envd_token)
    } else {
        ("e2b-traffic-access-token", &sandbox.traffic_token)
    };
    let given = headers.get(name).and_then(|value| value.to_str().ok());
    token.is_none() || given == token.as_deref()
}

/// Hands a request to the part inside.
async fn forward(
    world: &Arc<World>,
    sandbox: &Arc<Sandbox>,
    request: Request,
    missing: impl Fn() -> Response,
) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE).cloned();
    let is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/connect+"));
    let cord = sandbox.cord();
    let forwarded = async {
        let stream = sandbox.container.connect().await?;
        proxy::forward(stream, request, cord).await
    };
    match Box::pin(forwarded).await {
        Ok(response) if is_stream && response.status() == StatusCode::OK => {
            let (world, sandbox) = (world.clone(), sandbox.clone());
            response.map(|body| end_well(world, sandbox, body))
        }
        Ok(response) => response,
        Err(_) if world.quirks.is_plain_cut() => {
            (StatusCode::BAD_GATEWAY, axum::Extension(Reset)).into_response()
        }
        // Paused, killed or expired before there was an answer.
        Err(_) => missing(),
    }
}

/// Ends a stream whose sandbox ended with an error that says so. A pause just resets it.
fn end_well(world: Arc<World>, sandbox: Arc<Sandbox>, body: Body) -> Body {
    let state = Some((body.into_data_stream(), Tail::default()));
    Body::from_stream(futures_util::stream::unfold(state, move |state| {
        let (world, sandbox) = (world.clone(), sandbox.clone());
        async move {
            let (mut body, mut tail) = state?;
            match body.next().await? {
                Ok(bytes) => {
                    tail.pass(&bytes);
                    Some((Ok(bytes), Some((body, tail))))
                }
                Err(error) => {
                    let says_so = sandbox.life().is_gone && !world.quirks.is_plain_cut();
                    let end = says_so.then(|| tail.unavailable(&sandbox.id)).flatten();
                    Some((end.ok_or(error), None))
                }
            }
        }
    }))
}
