//! `GET /files`: the bytes of a file, whole, in part or compressed.

use std::collections::HashMap;
use std::io::{self, SeekFrom, Write};
use std::path::Path;

use axum::body::Body;
use axum::extract::{Query, Request};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::Stream;
use http::{HeaderMap, Response, StatusCode, header};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::entry::is_dir;
use super::spawn::resolve;
use super::users::User;
use super::{error, named_user};

/// Bytes of one read.
const CHUNK_BYTES: usize = 64 << 10;

/// Finds whose files are meant: unlike calls, `/files` has a query for it.
pub(super) fn files_user(query: &HashMap<String, String>) -> Result<User, Box<Response<Body>>> {
    let name = query.get("username").map(String::as_str).filter(|name| !name.is_empty());
    named_user(name).map_err(|problem| Box::new(error(StatusCode::UNAUTHORIZED, &problem.message)))
}

pub(super) async fn download(
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response<Body> {
    let user = match files_user(&query) {
        Ok(user) => user,
        Err(response) => return *response,
    };
    let path = resolve(query.get("path").map_or("", String::as_str), &user);
    match open(&path, request.headers()).await {
        Ok(response) => response,
        Err(problem) => {
            let status = match problem.kind() {
                io::ErrorKind::NotFound => StatusCode::NOT_FOUND,
                io::ErrorKind::IsADirectory => StatusCode::BAD_REQUEST,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            error(status, &format!("path '{}': {problem}", path.display()))
        }
    }
}

async fn open(path: &Path, headers: &HeaderMap) -> io::Result<Response<Body>> {
    if is_dir(path) {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut file = File::open(path).await?;
    let metadata = file.metadata().await?;
    let length = metadata.len();
    let modified = metadata.modified()?;
    let response = Response::builder()
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::LAST_MODIFIED, httpdate::fmt_http_date(modified))
        .header(header::VARY, "Accept-Encoding");
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let since = httpdate::parse_http_date(text(header::IF_MODIFIED_SINCE));
    // Dates have whole seconds only.
    let is_unchanged = |since| {
        modified
            .duration_since(since)
            .map_or(true, |later: std::time::Duration| later.as_secs() == 0)
    };
    let response = if since.is_ok_and(is_unchanged) {
        response.status(StatusCode::NOT_MODIFIED).body(Body::empty())
    } else if accepts_gzip(text(header::ACCEPT_ENCODING)) {
        let body = Body::from_stream(gzip(file));
        response.header(header::CONTENT_ENCODING, "gzip").body(body)
    } else {
        match range(text(header::RANGE), length) {
            Range::Whole => response
                .header(header::CONTENT_LENGTH, length)
                .header(header::ACCEPT_RANGES, "bytes")
                .body(Body::from_stream(chunks(file, length))),
            Range::Part(from, to) => {
                file.seek(SeekFrom::Start(from)).await?;
                response
                    .status(StatusCode::PARTIAL_CONTENT)
                    .header(header::CONTENT_LENGTH, to + 1 - from)
                    .header(header::CONTENT_RANGE, format!("bytes {from}-{to}/{length}"))
                    .body(Body::from_stream(chunks(file, to + 1 - from)))
            }
            Range::Outside => response
                .status(StatusCode::RANGE_NOT_SATISFIABLE)
                .header(header::CONTENT_RANGE, format!("bytes */{length}"))
                .body(Body::empty()),
        }
    };
    response.map_err(io::Error::other)
}

fn accepts_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|word| word.split(';').next().is_some_and(|name| name.trim() == "gzip"))
}

enum Range {
    Whole,
    /// First and last byte.
    Part(u64, u64),
    Outside,
}

/// Reads one range; several at once are not needed, and answered with the whole.
fn range(text: &str, length: u64) -> Range {
    let bounds = text.strip_prefix("bytes=").filter(|bounds| !bounds.contains(','));
    let Some((from, to)) = bounds.and_then(|bounds| bounds.split_once('-')) else {
        return Range::Whole;
    };
    match (from.parse::<u64>(), to.parse::<u64>()) {
        (Ok(from), _) if from >= length => Range::Outside,
        (Ok(from), Ok(to)) if to >= from => Range::Part(from, to.min(length - 1)),
        (Ok(from), Err(_)) if to.is_empty() => Range::Part(from, length - 1),
        (Err(_), Ok(count)) if from.is_empty() && count > 0 && length > 0 => {
            Range::Part(length.saturating_sub(count), length - 1)
        }
        _ => Range::Whole,
    }
}

/// Reads at most so many bytes of a file. One that shrinks meanwhile breaks the answer off.
fn chunks(file: File, length: u64) -> impl Stream<Item = io::Result<Bytes>> {
    futures_util::stream::unfold((file, length), async |(mut file, left)| {
        if left == 0 {
            return None;
        }
        let mut buffer = vec![0; CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES))];
        let read = match file.read(&mut buffer).await {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer.truncate(count);
                Ok(Bytes::from(buffer))
            }
            Err(problem) => Err(problem),
        };
        let left = read.as_ref().map_or(0, |bytes| left - bytes.len() as u64);
        Some((read, (file, left)))
    })
}

fn gzip(file: File) -> impl Stream<Item = io::Result<Bytes>> {
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    futures_util::stream::unfold(Some((file, encoder)), async |state| {
        let (mut file, mut encoder) = state?;
        let mut buffer = vec![0; CHUNK_BYTES];
        let read = async {
            loop {
                let count = file.read(&mut buffer).await?;
                if count == 0 {
                    return Ok::<_, io::Error>(true);
                }
                encoder.write_all(&buffer[..count])?;
                if !encoder.get_ref().is_empty() {
                    return Ok(false);
                }
            }
        };
        match read.await {
            Ok(true) => Some((encoder.finish().map(Bytes::from), None)),
            Ok(false) => {
                let bytes = std::mem::take(encoder.get_mut());
                Some((Ok(Bytes::from(bytes)), Some((file, encoder))))
            }
            Err(problem) => Some((Err(problem), None)),
        }
    })
}
