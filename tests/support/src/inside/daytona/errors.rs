//! Errors as the toolbox writes them.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::daytona::clock;

/// An error of the toolbox; the layer around all routes writes its body, for it knows the path.
#[derive(Clone, Debug)]
pub(super) struct ToolError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ToolError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "CONFLICT", message)
    }

    pub(super) fn gone(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, code, message)
    }

    pub(super) fn internal(error: impl ToString) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "INTERNAL_SERVER_ERROR", error.to_string())
    }

    /// What went wrong with a file.
    pub(super) fn of_file(path: &Path, error: &io::Error) -> Self {
        let text = format!("{}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::NotFound => Self::new(StatusCode::NOT_FOUND, "FILE_NOT_FOUND", text),
            io::ErrorKind::PermissionDenied => {
                Self::new(StatusCode::FORBIDDEN, "FILE_ACCESS_DENIED", text)
            }
            _ => Self::bad(text),
        }
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The body that it has for a request.
    pub(super) fn body(&self, method: &str, path: &str) -> serde_json::Value {
        json!({
            "statusCode": self.status.as_u16(),
            "message": self.message,
            "code": self.code,
            "timestamp": clock::iso(SystemTime::now()),
            "path": path,
            "method": method,
            "source": "DAYTONA_DAEMON",
        })
    }
}

impl IntoResponse for ToolError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the body of an error that a route has left unwritten; other responses are left alone.
pub(super) fn write(response: Response, method: &str, path: &str) -> Response {
    match response.extensions().get::<ToolError>() {
        None => response,
        Some(error) => (error.status, Json(error.body(method, path))).into_response(),
    }
}
