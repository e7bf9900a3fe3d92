//! `POST /files`: files are written in place, as one body or as parts of a form.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Multipart, Query, Request, State};
use axum::response::IntoResponse;
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, Response, StatusCode, header};
use rustix::io::Errno;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;

use super::entry::{is_dir, make_dirs};
use super::files::files_user;
use super::spawn::resolve;
use super::users::User;
use super::{Envd, Quirk, error};

/// Headers of this prefix are metadata of the file.
const METADATA_PREFIX: &str = "x-metadata-";

/// Why an upload failed.
struct Problem {
    status: StatusCode,
    message: String,
}

impl Problem {
    fn bad(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }
}

impl From<io::Error> for Problem {
    fn from(problem: io::Error) -> Self {
        let status = match Errno::from_io_error(&problem) {
            Some(Errno::NOSPC | Errno::DQUOT) => StatusCode::INSUFFICIENT_STORAGE,
            Some(Errno::ISDIR | Errno::NOTDIR) => StatusCode::BAD_REQUEST,
            // A program that runs cannot be overwritten, either: ETXTBSY.
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, message: problem.to_string() }
    }
}

pub(super) async fn upload(
    State(envd): State<Arc<Envd>>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response<Body> {
    let user = match files_user(&query) {
        Ok(user) => user,
        Err(response) => return *response,
    };
    if Quirk::DiskFull.is_on(request.headers()) {
        return error(StatusCode::INSUFFICIENT_STORAGE, "not enough disk space available");
    }
    let path = query.get("path").filter(|path| !path.is_empty());
    match Box::pin(write(&envd, path, &user, request)).await {
        Ok(written) => axum::Json(written).into_response(),
        Err(problem) => error(problem.status, &problem.message),
    }
}

async fn write(
    envd: &Envd,
    path: Option<&String>,
    user: &User,
    request: Request,
) -> Result<Vec<Value>, Problem> {
    let headers = request.headers().clone();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let kind = text(header::CONTENT_TYPE).unwrap_or_default().to_owned();
    let is_gzip = match text(header::CONTENT_ENCODING) {
        None | Some("" | "identity") => false,
        Some("gzip") => true,
        Some(other) => return Err(Problem::bad(format!("unsupported encoding: {other}"))),
    };
    let metadata = metadata(&headers);
    if kind.starts_with("application/octet-stream") && envd.is_at_least((0, 5, 7)) {
        let path = path.ok_or_else(|| Problem::bad("the path is missing"))?;
        let path = resolve(path, user);
        store(&path, user, request.into_body().into_data_stream(), is_gzip).await?;
        return Ok(vec![written(&path, &metadata)]);
    }
    if !kind.starts_with("multipart/form-data") {
        return Err(Problem::bad(format!("unsupported content type: {kind}")));
    }
    let form = Multipart::from_request(request, &()).await;
    let mut form = form.map_err(|problem| Problem::bad(problem.to_string()))?;
    let mut all = Vec::new();
    loop {
        let part = form.next_field().await;
        let Some(part) = part.map_err(|problem| Problem::bad(problem.to_string()))? else { break };
        if part.name() != Some("file") {
            continue;
        }
        // One file may be named by the query; several are named by their parts.
        let named = path.map(String::as_str).or_else(|| part.file_name());
        let named = named.ok_or_else(|| Problem::bad("a part has no filename"))?;
        let path = resolve(named, user);
        store(&path, user, part, is_gzip).await?;
        all.push(written(&path, &metadata));
    }
    Ok(all)
}

fn metadata(headers: &HeaderMap) -> HashMap<String, String> {
    let pairs = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix(METADATA_PREFIX)?;
        Some((name.to_owned(), value.to_str().ok()?.to_owned()))
    });
    pairs.collect()
}

fn written(path: &Path, metadata: &HashMap<String, String>) -> Value {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut value = json!({ "path": path.to_string_lossy(), "name": name, "type": "file" });
    if !metadata.is_empty() {
        value["metadata"] = json!(metadata);
    }
    value
}

/// Opens a file for an upload: emptied in place, with its old mode, through symlinks.
async fn create(path: &Path, user: &User) -> Result<File, Problem> {
    if is_dir(path) {
        return Err(Problem::bad(format!("path is a directory: {}", path.display())));
    }
    if let Some(parent) = path.parent() {
        make_dirs(parent, user.uid, user.gid)?;
    }
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o666).open(path).await?;
    std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid))?;
    Ok(file)
}

/// Writes as the bytes come: an upload that breaks off leaves what had come.
async fn store<S, E>(path: &Path, user: &User, mut body: S, is_gzip: bool) -> Result<(), Problem>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    let mut file = create(path, user).await?;
    let mut decoder = is_gzip.then(|| MultiGzDecoder::new(Vec::new()));
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(|problem| Problem::bad(format!("error reading: {problem}")))?;
        match &mut decoder {
            None => file.write_all(&bytes).await?,
            Some(decoder) => {
                decoder.write_all(&bytes).map_err(|problem| Problem::bad(problem.to_string()))?;
                let bytes = std::mem::take(decoder.get_mut());
                file.write_all(&bytes).await?;
            }
        }
    }
    if let Some(decoder) = decoder {
        let rest = decoder.finish().map_err(|problem| Problem::bad(problem.to_string()))?;
        file.write_all(&rest).await?;
    }
    Ok(file.flush().await?)
}

#[derive(Deserialize)]
pub(super) struct Compose {
    source_paths: Vec<String>,
    destination: String,
    username: Option<String>,
}

/// Puts files together to one, and removes them.
pub(super) async fn compose(
    State(envd): State<Arc<Envd>>,
    axum::Json(request): axum::Json<Compose>,
) -> Response<Body> {
    if !envd.is_at_least((0, 5, 5)) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let query = request.username.map(|name| ("username".to_owned(), name)).into_iter().collect();
    let user = match files_user(&query) {
        Ok(user) => user,
        Err(response) => return *response,
    };
    let destination = resolve(&request.destination, &user);
    let sources: Vec<_> = request.source_paths.iter().map(|path| resolve(path, &user)).collect();
    match Box::pin(concatenate(&destination, &sources, &user)).await {
        Ok(()) => axum::Json(written(&destination, &HashMap::new())).into_response(),
        Err(problem) => error(problem.status, &problem.message),
    }
}

async fn concatenate(to: &Path, sources: &[PathBuf], user: &User) -> Result<(), Problem> {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".compose");
    let temporary = to.with_file_name(name);
    let mut file = create(&temporary, user).await?;
    for source in sources {
        let mut part = File::open(source).await.map_err(|problem| {
            let status = StatusCode::NOT_FOUND;
            Problem { status, message: format!("{}: {problem}", source.display()) }
        })?;
        tokio::io::copy(&mut part, &mut file).await?;
    }
    file.flush().await?;
    tokio::fs::rename(&temporary, to).await?;
    for source in sources {
        tokio::fs::remove_file(source).await?;
    }
    Ok(())
}
