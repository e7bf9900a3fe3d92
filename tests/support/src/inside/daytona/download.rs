//! Files that go out.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State as Shared};
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::errors::ToolError;
use super::{Answer, Daemon, Daemons, needed, parse};

/// Bytes of one read.
const PIECE_BYTES: usize = 64 << 10;
/// What divides the parts of a bulk download.
const BOUNDARY: &str = "DAYTONA-FILE-BOUNDARY";

/// A file, or the one range of it that is asked for.
pub(super) async fn download(
    Shared(daemon): Daemons,
    Query(pairs): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Answer {
    let path = daemon.path(needed(&pairs, "path")?);
    let (mut file, size) = open(&path).await?;
    let asked = headers.get(RANGE).and_then(|value| value.to_str().ok());
    let range =
        asked.and_then(|text| text.strip_prefix("bytes=")).filter(|text| !text.contains(','));
    let (from, end) = match range {
        None => (0, size),
        Some(text) => match parse_range(text, size) {
            Some(range) => range,
            None => {
                let mut response = StatusCode::RANGE_NOT_SATISFIABLE.into_response();
                put(&mut response, CONTENT_RANGE, &format!("bytes */{size}"));
                return Ok(response);
            }
        },
    };
    file.seek(SeekFrom::Start(from)).await.map_err(ToolError::internal)?;
    let mut response = Response::new(Body::from_stream(pieces(file, end - from)));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    put(&mut response, CONTENT_TYPE, "application/octet-stream");
    put(&mut response, CONTENT_DISPOSITION, &format!("attachment; filename=\"{name}\""));
    put(&mut response, ACCEPT_RANGES, "bytes");
    put(&mut response, CONTENT_LENGTH, &(end - from).to_string());
    if range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let last = end.saturating_sub(1);
        put(&mut response, CONTENT_RANGE, &format!("bytes {from}-{last}/{size}"));
    }
    Ok(response)
}

fn put(response: &mut Response, name: axum::http::HeaderName, text: &str) {
    if let Ok(text) = HeaderValue::from_bytes(text.as_bytes()) {
        response.headers_mut().insert(name, text);
    }
}

/// The first byte of a range and the one after its last.
fn parse_range(text: &str, size: u64) -> Option<(u64, u64)> {
    let (from, last) = text.split_once('-')?;
    if from.is_empty() {
        let count: u64 = last.parse().ok()?;
        return (count > 0).then(|| (size.saturating_sub(count), size));
    }
    let from: u64 = from.parse().ok()?;
    let end = match last {
        "" => size,
        last => last.parse::<u64>().ok()?.saturating_add(1).min(size),
    };
    (from < size && from < end).then_some((from, end))
}

async fn open(path: &Path) -> Result<(File, u64), ToolError> {
    let failed = |error: std::io::Error| ToolError::of_file(path, &error);
    let file = File::open(path).await.map_err(failed)?;
    let facts = file.metadata().await.map_err(failed)?;
    if facts.is_dir() {
        return Err(ToolError::bad("path must be a file"));
    }
    Ok((file, facts.len()))
}

fn pieces(file: File, size: u64) -> impl Stream<Item = std::io::Result<Bytes>> {
    stream::unfold(file.take(size), |mut file| async move {
        let mut piece = vec![0; PIECE_BYTES];
        match file.read(&mut piece).await {
            Ok(0) => None,
            Ok(count) => {
                piece.truncate(count);
                Some((Ok(Bytes::from(piece)), file))
            }
            Err(error) => Some((Err(error), file)),
        }
    })
}

#[derive(Deserialize)]
struct Paths {
    paths: Vec<String>,
}

/// Many files in one answer, each a part: `file`, or `error` for one that cannot be had.
pub(super) async fn bulk(Shared(daemon): Daemons, body: Bytes) -> Answer {
    let Paths { paths } = parse(&body)?;
    if paths.is_empty() {
        return Err(ToolError::bad("request body must be {\"paths\": [ ... ]} and non-empty"));
    }
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(Box::pin(write_parts(daemon, paths, sender)));
    let mut response = Response::new(Body::from_stream(ReceiverStream::new(receiver)));
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    put(&mut response, CONTENT_TYPE, &kind);
    Ok(response)
}

type Parts = mpsc::Sender<std::io::Result<Bytes>>;

async fn write_parts(daemon: Arc<Daemon>, paths: Vec<String>, to: Parts) {
    for name in paths {
        let path = daemon.path(&name);
        if Box::pin(write_part(&name, path, &to)).await.is_none() {
            return;
        }
    }
    let _ = to.send(Ok(Bytes::from(format!("--{BOUNDARY}--\r\n")))).await;
}

/// One part. `None` when nobody takes it, or the file fails in its midst: then the answer ends here.
async fn write_part(name: &str, path: PathBuf, to: &Parts) -> Option<()> {
    let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
    let head = |part: &str, kind: &str, size: u64| {
        Bytes::from(format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{part}\"; \
             filename=\"{quoted}\"\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n"
        ))
    };
    match open(&path).await {
        Ok((file, size)) => {
            to.send(Ok(head("file", "application/octet-stream", size))).await.ok()?;
            let mut pieces = Box::pin(pieces(file, size));
            while let Some(piece) = pieces.next().await {
                let is_fine = piece.is_ok();
                to.send(piece).await.ok().filter(|()| is_fine)?;
            }
        }
        Err(error) => {
            let body = error.body("POST", "/files/bulk-download").to_string();
            to.send(Ok(head("error", "application/json", body.len() as u64))).await.ok()?;
            to.send(Ok(Bytes::from(body))).await.ok()?;
        }
    }
    to.send(Ok(Bytes::from_static(b"\r\n"))).await.ok()
}
