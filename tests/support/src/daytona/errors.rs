//! Errors as the control plane and the proxy write them.

use std::time::SystemTime;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::clock;

/// An error of the control plane. The path that it names is filled in by the layer around all
/// routes, which knows it.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
}

/// What [`ApiError`] leaves on its response for the layer that writes the body.
#[derive(Clone, Debug)]
pub(crate) struct Unwritten(String);

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Invalid credentials")
    }

    pub(crate) fn no_sandbox(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("Sandbox with ID or name {name} not found"))
    }

    pub(crate) fn busy() -> Self {
        Self::conflict("Sandbox state change in progress")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(Unwritten(self.message));
        response
    }
}

/// Writes the body of an error that a route has left unwritten; other responses are left alone.
pub(crate) fn write(response: Response, path: &str) -> Response {
    let Some(Unwritten(message)) = response.extensions().get::<Unwritten>().cloned() else {
        return response;
    };
    let status = response.status();
    let error = status.canonical_reason().unwrap_or("Error");
    let body = json!({
        "path": path,
        "timestamp": clock::iso(SystemTime::now()),
        "statusCode": status.as_u16(),
        "error": error,
        "message": message,
        "code": code(status),
        "source": "DAYTONA_API",
    });
    json_response(status, &body)
}

/// An error of the proxy in front of a sandbox's daemon.
pub(crate) fn of_proxy(status: StatusCode, message: &str, method: &str, path: &str) -> Response {
    let body = json!({
        "statusCode": status.as_u16(),
        "message": message,
        "code": code(status),
        "timestamp": clock::iso(SystemTime::now()),
        "path": path,
        "method": method,
        "source": "DAYTONA_PROXY",
    });
    json_response(status, &body)
}

/// What the proxy says when nobody is behind it: a status and no byte more.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Sends a browser to the login page: so a preview answers who is not let in, and not with a 401.
pub(crate) fn to_login(base: &str) -> Response {
    let mut response = empty(StatusCode::TEMPORARY_REDIRECT);
    if let Ok(place) = HeaderValue::from_str(&format!("{base}/_login")) {
        response.headers_mut().insert(LOCATION, place);
    }
    response
}

fn json_response(status: StatusCode, body: &serde_json::Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The short name of a status: `NOT_FOUND`.
fn code(status: StatusCode) -> String {
    let reason = status.canonical_reason().unwrap_or("Error");
    reason.to_ascii_uppercase().replace([' ', '-'], "_")
}
