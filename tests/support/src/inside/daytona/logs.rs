//! What a session's command said: whole, or followed from its first byte.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::{Path as Name, Query, Request, State as Shared};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use futures_util::SinkExt;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::sessions::{Command, find_command};
use super::socket::{self, Socket};
use super::{Answer, Daemons, value};

/// Begins a piece of standard output.
pub(super) const STDOUT: [u8; 3] = [1; 3];
/// Begins a piece of standard error.
pub(super) const STDERR: [u8; 3] = [2; 3];
/// The most bytes of one frame.
const FRAME_BYTES_MAX: usize = 1 << 10;
/// Between two looks at the log.
const POLL: Duration = Duration::from_millis(20);
/// A log that is so long quiet after its command's end is whole.
const QUIET: Duration = Duration::from_secs(1);
/// Clients from this version on are told which stream is which.
const SPLIT_SINCE: [u32; 3] = [0, 167, 0];

/// Whether a client wants the two streams apart.
pub(super) fn is_split(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let offered = socket::offered(headers);
    let by_protocol = offered.iter().find_map(|name| name.strip_prefix("X-Daytona-SDK-Version~"));
    let version = text("x-daytona-sdk-version").or(by_protocol);
    text("x-daytona-split-output") == Some("true")
        || version.is_some_and(|version| parts(version) >= SPLIT_SINCE)
}

fn parts(version: &str) -> [u32; 3] {
    let mut parts = version.trim_start_matches('v').split(['.', '-']).map(str::parse);
    [(); 3].map(|()| parts.next().and_then(Result::ok).unwrap_or(0))
}

/// A log taken apart: `{output, stdout, stderr}`, or only `output`.
pub(super) fn split(log: &[u8], apart: bool) -> Value {
    let (mut all, mut streams, mut now) = (Vec::new(), [Vec::new(), Vec::new()], 0);
    let mut rest = log;
    while let Some(&byte) = rest.first() {
        if rest.starts_with(&STDOUT) || rest.starts_with(&STDERR) {
            now = usize::from(byte - 1);
            rest = &rest[3..];
            continue;
        }
        all.push(byte);
        streams[now].push(byte);
        rest = &rest[1..];
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let [stdout, stderr] = streams;
    match apart {
        true => json!({"output": text(&all), "stdout": text(&stdout), "stderr": text(&stderr)}),
        false => json!({"output": text(&all)}),
    }
}

/// The log of a command.
pub(super) async fn logs(
    Shared(daemon): Daemons,
    Name((session, id)): Name<(String, String)>,
    Query(pairs): Query<Vec<(String, String)>>,
    request: Request,
) -> Answer {
    let command = find_command(&daemon, &session, &id)?;
    let apart = is_split(request.headers());
    if value(&pairs, "follow") == Some("true") {
        if socket::is_wanted(request.headers()) {
            return socket::accept(request, move |socket| follow(command, socket, apart));
        }
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(Box::pin(tail(command, sender, false)));
        let bytes = ReceiverStream::new(receiver).map(Ok::<_, std::io::Error>);
        return Ok(Response::new(Body::from_stream(bytes)));
    }
    let log = fs::read(command.log()).unwrap_or_default();
    let answer = split(&log, apart);
    match apart {
        true => Ok(Json(answer).into_response()),
        false => Ok(answer["output"].as_str().unwrap_or_default().to_owned().into_response()),
    }
}

/// Sends a log from its first byte on, until its command has ended and it is quiet.
async fn follow(command: Arc<Command>, socket: Socket, apart: bool) {
    let (mut sink, mut stream) = socket.split();
    let (sender, mut pieces) = mpsc::channel(16);
    tokio::spawn(Box::pin(tail(command, sender, apart)));
    loop {
        tokio::select! {
            piece = pieces.recv() => {
                let Some(piece) = piece else { break };
                if sink.send(Message::Binary(piece)).await.is_err() {
                    return;
                }
            }
            // What a client sends is not looked at; pings are answered by reading.
            message = stream.next() => match message {
                Some(Ok(message)) if !message.is_close() => {}
                _ => return,
            },
        }
    }
    let _ = sink.send(socket::close(1000, "")).await;
    // The client closes first what it has been told to close.
    let _ = tokio::time::timeout(QUIET, async { while stream.next().await.is_some() {} }).await;
}

/// Reads a log as it grows, for as long as somebody takes it.
async fn tail(command: Arc<Command>, sender: mpsc::Sender<Bytes>, raw: bool) {
    let mut at = 0;
    let mut quiet_since = Instant::now();
    loop {
        let has_ended = command.code.borrow().is_some();
        let Ok(pieces) = read_from(&command, at, raw).await else { return };
        if pieces.is_empty() {
            if sender.is_closed() || has_ended && quiet_since.elapsed() >= QUIET {
                return;
            }
            tokio::time::sleep(POLL).await;
            continue;
        }
        quiet_since = Instant::now();
        for piece in pieces.chunks(FRAME_BYTES_MAX) {
            at += piece.len() as u64;
            if sender.send(Bytes::copy_from_slice(piece)).await.is_err() {
                return;
            }
        }
    }
}

/// What a log has from a place on: with markers, or counted and given without.
async fn read_from(command: &Command, at: u64, raw: bool) -> std::io::Result<Vec<u8>> {
    let mut file = tokio::fs::File::open(command.log()).await?;
    let mut bytes = Vec::new();
    if raw {
        file.seek(std::io::SeekFrom::Start(at)).await?;
        file.take(1 << 20).read_to_end(&mut bytes).await?;
        return Ok(bytes);
    }
    file.read_to_end(&mut bytes).await?;
    let mut clean = split(&bytes, false)["output"].as_str().unwrap_or_default().as_bytes().to_vec();
    Ok(clean.split_off(clean.len().min(usize::try_from(at).unwrap_or(usize::MAX))))
}
