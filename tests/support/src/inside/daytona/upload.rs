//! Files that come in: streamed to the disk, in place, and so not atomic.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use axum::Json;
use axum::body::Body;
use axum::extract::multipart::{Field, Multipart};
use axum::extract::{FromRequest, Query, Request, State as Shared};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use futures_util::{Stream, StreamExt};
use serde_json::json;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::errors::ToolError;
use super::{Answer, Daemon, Daemons, needed};

/// Many files in one request: parts `files[i].path`, and after it anywhere `files[i].file`. What
/// can be written is, also when others cannot.
pub(super) async fn bulk(Shared(daemon): Daemons, mut parts: Multipart) -> Answer {
    let (mut paths, mut files, mut errors) = (HashMap::new(), Vec::new(), Vec::new());
    loop {
        let field = match parts.next_field().await {
            Ok(Some(field)) => field,
            Ok(None) => break,
            Err(error) => {
                errors.push(error.body_text());
                break;
            }
        };
        let name = field.name().unwrap_or_default().to_owned();
        if let Some(index) = name.strip_suffix(".path") {
            match field.text().await {
                Ok(path) => drop(paths.insert(index.to_owned(), path)),
                Err(error) => errors.push(error.body_text()),
            }
        } else if let Some(index) = name.strip_suffix(".file") {
            let Some(path) = paths.get(index) else {
                errors.push(format!("missing path metadata for {name}"));
                continue;
            };
            match Box::pin(write(&daemon.path(path), field_bytes(field))).await {
                Ok(bytes) => files.push(json!({"path": path, "bytes": bytes})),
                Err(error) => errors.push(error.message().to_owned()),
            }
        }
    }
    if errors.is_empty() {
        return Ok(Json(json!({"files": files})).into_response());
    }
    let answer = Json(json!({"errors": errors, "files": files}));
    Ok((StatusCode::BAD_REQUEST, answer).into_response())
}

type Pairs = Query<Vec<(String, String)>>;

/// One file, in the part `file`.
pub(super) async fn single(
    Shared(daemon): Daemons,
    Query(pairs): Pairs,
    parts: Multipart,
) -> Answer {
    single_part(&daemon, needed(&pairs, "path")?, parts).await
}

async fn single_part(daemon: &Daemon, path: &str, mut parts: Multipart) -> Answer {
    while let Some(field) =
        parts.next_field().await.map_err(|error| ToolError::bad(error.body_text()))?
    {
        if field.name() == Some("file") {
            Box::pin(write(&daemon.path(path), field_bytes(field))).await?;
            return Ok(written(path));
        }
    }
    Err(ToolError::bad("file is required"))
}

/// One file, in a part or as the body itself.
pub(super) async fn single_or_raw(
    Shared(daemon): Daemons,
    Query(pairs): Pairs,
    request: Request<Body>,
) -> Answer {
    let path = needed(&pairs, "path")?;
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if kind.is_some_and(|kind| kind.starts_with("multipart/")) {
        let parts = Multipart::from_request(request, &()).await;
        let parts = parts.map_err(|error| ToolError::bad(error.body_text()))?;
        return single_part(&daemon, path, parts).await;
    }
    let bytes = request.into_body().into_data_stream();
    let bytes = bytes.map(|piece| piece.map_err(|error| error.to_string()));
    Box::pin(write(&daemon.path(path), bytes)).await?;
    Ok(written(path))
}

fn written(path: &str) -> axum::response::Response {
    let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
    Json(json!({"name": name, "path": path, "type": "file"})).into_response()
}

fn field_bytes(field: Field<'_>) -> impl Stream<Item = Result<bytes::Bytes, String>> {
    field.map(|piece| piece.map_err(|error| error.body_text()))
}

/// Writes a file as its bytes come.
async fn write(
    path: &Path,
    bytes: impl Stream<Item = Result<bytes::Bytes, String>>,
) -> Result<u64, ToolError> {
    let failed = |error: std::io::Error| ToolError::of_file(path, &error);
    let mut bytes = std::pin::pin!(bytes);
    let opened = match path.parent().map(fs::create_dir_all).transpose() {
        Ok(_) => File::create(path).await,
        Err(error) => Err(error),
    };
    let mut count = 0;
    let mut file = match opened {
        Ok(file) => file,
        Err(error) => {
            // The parts after it are of other files, and come only when this one was taken.
            while bytes.next().await.is_some() {}
            return Err(failed(error));
        }
    };
    while let Some(piece) = bytes.next().await {
        let piece = piece.map_err(ToolError::bad)?;
        file.write_all(&piece).await.map_err(failed)?;
        count += piece.len() as u64;
    }
    file.flush().await.map_err(failed)?;
    Ok(count)
}
