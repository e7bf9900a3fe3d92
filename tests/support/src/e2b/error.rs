//! Errors of the API, and who may use it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use super::world::World;

/// An error as the API answers it.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
    error_code: Option<&'static str>,
}

/// What a route gives.
pub(super) type Answer = Result<Response, ApiError>;

impl ApiError {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, message: message.into(), error_code: None }
    }

    /// Adds the name of the error that programs look at.
    pub(super) fn named(self, error_code: &'static str) -> Self {
        Self { error_code: Some(error_code), ..self }
    }

    /// No sandbox of that name, or no more.
    pub(super) fn no_sandbox(id: &str) -> Self {
        Self::new(404, format!("Sandbox {id} not found"))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({ "code": self.status.as_u16(), "message": self.message });
        if let Some(error_code) = self.error_code {
            body["error_code"] = json!(error_code);
        }
        (self.status, Json(body)).into_response()
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        Self::new(500, error.to_string()).named("internal_server_error")
    }
}

/// Reads a body that may be absent.
pub(super) fn body<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes)
        .map_err(|error| ApiError::new(400, format!("error parsing body: {error}")))
}

pub(super) async fn no_route(request: Request) -> ApiError {
    ApiError::new(404, format!("no matching operation was found: {}", request.uri().path()))
}

/// Lets through what has the API key, on routes that this server has.
pub(super) async fn authenticate(
    State(world): State<Arc<World>>,
    request: Request,
    next: Next,
) -> Response {
    if world.quirks.is_v1_only() && request.uri().path().starts_with("/v2/sandboxes") {
        return no_route(request).await.into_response();
    }
    let key = request.headers().get("x-api-key").and_then(|key| key.to_str().ok());
    match key {
        Some(key) if world.is_key(key) => next.run(request).await,
        Some(_) => ApiError::new(401, "Invalid API key").into_response(),
        None => ApiError::new(401, "missing X-API-Key header").into_response(),
    }
}
