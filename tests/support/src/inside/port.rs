//! Requests for a port of the sandbox: handed to whoever listens on it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Request, Response, StatusCode};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::{CLOSED_HEADER, PORT_HEADER};
use crate::proxy;

/// How often a port is dialled before it counts as closed, as the providers' edges do.
const TRIES: u32 = 5;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// Forwards a request to a port of this machine. When nobody listens it answers 502 with
/// [`CLOSED_HEADER`], from which the part outside makes the provider's own answer.
pub(super) async fn forward(mut request: Request<Body>, port: u16) -> Response<Body> {
    request.headers_mut().remove(PORT_HEADER);
    let Ok(stream) = dial(port).await else { return closed(port) };
    let _ = stream.set_nodelay(true);
    // Nothing cuts inside: who goes away outside ends the connection to here, and so the request.
    proxy::forward(stream, request, proxy::Cord::uncut()).await.unwrap_or_else(|_| {
        let mut response = Response::new(Body::from("the port gave no HTTP response"));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    })
}

async fn dial(port: u16) -> io::Result<TcpStream> {
    let mut outcome = Err(io::ErrorKind::ConnectionRefused.into());
    for attempt in 0..TRIES {
        if attempt > 0 {
            sleep(PAUSE).await;
        }
        outcome = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        if outcome.is_err() {
            outcome = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await;
        }
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn closed(port: u16) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response.headers_mut().insert(CLOSED_HEADER, HeaderValue::from(port));
    response
}
