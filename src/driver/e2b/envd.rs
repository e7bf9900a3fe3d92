//! One sandbox's envd: files go in, programs run to their end, processes are talked to.
//!
//! Requests find the sandbox by two headers, and by the host's name unless `E2B_SANDBOX_URL` says
//! otherwise. `Connect-Timeout-Ms` is never sent: for a process it is the longest life.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::{Method, StatusCode};
use serde_json::json;

use super::api::Access;
use super::connect::{ConnectError, Decoder, Frame, envelope, error_of};
use super::process::{Codec, Event, Program, event, send_input, start};
use super::settings::{ENVD_PORT, Settings};
use crate::driver::AgentBinary;
use crate::driver::http::{Answer, Client, Repeat, Request, Trouble, encode, trouble, whole};

/// A call that does not last.
const PATIENCE: Duration = Duration::from_secs(30);
/// A program that is run to its end.
const PROGRAM_PATIENCE: Duration = Duration::from_secs(60);
/// The agent on its way into the sandbox, over a slow line.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(300);
/// Seconds of silence after which envd says that it lives: the proxies cut what is silent for longer.
const KEEPALIVE_SECONDS: &str = "30";
/// The end of a stream follows the process's end at once.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);
/// Most bytes that a program run to its end may write.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// From this version of envd on a file can be sent as it is.
const RAW_UPLOAD: [u32; 3] = [0, 5, 7];

/// Why a call into the sandbox failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnvdError {
    /// There was no answer.
    #[error(transparent)]
    Trouble(#[from] Trouble),
    /// The edge or envd said no before anything was done.
    #[error("{}", .0.words)]
    Refused(Box<Answer>),
    /// envd said no.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// How a program ended.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    pub(super) code: Option<i32>,
    pub(super) output: String,
    pub(super) error: String,
}

/// The envd of one sandbox.
#[derive(Clone)]
pub(super) struct Envd {
    pub(super) client: Client,
    pub(super) settings: Arc<Settings>,
    pub(super) access: Arc<Access>,
    /// It speaks JSON alone.
    pub(super) json_only: Arc<AtomicBool>,
}

impl Envd {
    fn codec(&self) -> Codec {
        if self.json_only.load(Ordering::Relaxed) { Codec::Json } else { Codec::Proto }
    }

    /// A request to a port of the sandbox.
    pub(super) fn request(&self, method: Method, port: u16, path: &str) -> Request {
        let Access { id, domain, envd_access_token, traffic_access_token, .. } = &*self.access;
        let base = self.settings.port_url(id, domain.as_deref(), port);
        let request = Request::new(method, format!("{base}{path}"))
            .patience(PATIENCE)
            .header("e2b-sandbox-id", id)
            .header("e2b-sandbox-port", &port.to_string())
            .header("accept", "*/*");
        match (port, envd_access_token, traffic_access_token) {
            (ENVD_PORT, Some(token), _) => request.secret("x-access-token", "", token),
            (ENVD_PORT, None, _) | (_, _, None) => request,
            (_, _, Some(token)) => request.secret("e2b-traffic-access-token", "", token),
        }
    }

    fn call(&self, method: &str, content_type: &str) -> Request {
        let request = self
            .request(Method::POST, ENVD_PORT, &format!("/{method}"))
            .header("connect-protocol-version", "1")
            .header("content-type", content_type);
        match &self.settings.config.user {
            Some(user) => {
                let user = STANDARD.encode(format!("{user}:"));
                request.header("authorization", &format!("Basic {user}"))
            }
            None => request,
        }
    }

    async fn unary(&self, method: &str, codec: Codec, body: Vec<u8>) -> Result<Answer, EnvdError> {
        let request = Request { body: body.into(), ..self.call(method, codec.unary()) };
        checked(self.client.send(&request).await?)
    }

    /// Makes a directory with those above it, for the user that commands run as.
    ///
    /// # Errors
    /// One that is there already is none.
    pub(super) async fn make_directory(&self, path: &str) -> Result<(), EnvdError> {
        let body = json!({ "path": path }).to_string().into_bytes();
        match self.unary("filesystem.Filesystem/MakeDir", Codec::Json, body).await {
            Err(EnvdError::Connect(error)) if error.code == "already_exists" => Ok(()),
            made => made.map(drop),
        }
    }

    /// The size of a file, bytes; nothing if it is not there.
    pub(super) async fn size(&self, path: &str) -> Result<Option<u64>, EnvdError> {
        let body = json!({ "path": path }).to_string().into_bytes();
        match self.unary("filesystem.Filesystem/Stat", Codec::Json, body).await {
            Err(EnvdError::Connect(error)) if error.code == "not_found" => Ok(None),
            Err(error) => Err(error),
            Ok(answer) => {
                let body: serde_json::Value =
                    serde_json::from_slice(&answer.body).unwrap_or_default();
                // 64 bits are a text in JSON; what is zero is left out.
                let size = body["entry"]["size"].as_str().and_then(|size| size.parse().ok());
                Ok(Some(size.unwrap_or(0)))
            }
        }
    }

    /// Writes the agent, with the directories above it; in place, so nobody may read it yet.
    pub(super) async fn upload(&self, path: &str, agent: &AgentBinary) -> Result<(), EnvdError> {
        let user = self.settings.config.user.as_deref();
        let user = user.map(|user| format!("&username={}", encode(user))).unwrap_or_default();
        let path = format!("/files?path={}{user}", encode(path));
        let request = self.request(Method::POST, ENVD_PORT, &path).patience(UPLOAD_PATIENCE);
        let request = request.repeat(Repeat::Always);
        let own = self.access.envd_version.as_deref().unwrap_or_default();
        let request = if version(own) >= RAW_UPLOAD {
            let request = request.header("content-type", "application/octet-stream");
            match &agent.packed {
                Some(packed) => {
                    let request = request.header("content-encoding", "gzip");
                    Request { body: packed.clone(), ..request }
                }
                // Whoever builds agents of their own is not far away: packing takes its time, too.
                None => Request { body: agent.bytes.clone(), ..request },
            }
        } else {
            const BOUNDARY: &str = "skync-7f1d0a52c3b94e86";
            let head = format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\
                 Content-Type: application/octet-stream\r\n\r\n"
            );
            let tail = format!("\r\n--{BOUNDARY}--\r\n");
            let body = [head.as_bytes(), &agent.bytes, tail.as_bytes()].concat();
            let kind = format!("multipart/form-data; boundary={BOUNDARY}");
            Request { body: body.into(), ..request.header("content-type", &kind) }
        };
        checked(self.client.send(&request).await?).map(drop)
    }

    /// Reads a small file; nothing if it is not there.
    pub(super) async fn read(&self, path: &str) -> Result<Option<Bytes>, EnvdError> {
        let path = format!("/files?path={}", encode(path));
        let request = self.request(Method::GET, ENVD_PORT, &path);
        let answer = self.client.send(&request.header("accept-encoding", "identity")).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            _ => checked(answer).map(|answer| Some(answer.body)),
        }
    }

    /// Starts a program and returns what happens to it; the first is always that it was started.
    pub(super) async fn start(&self, program: &Program<'_>) -> Result<(Codec, Events), EnvdError> {
        let codec = self.codec();
        match self.start_by(codec, program).await {
            // Nothing was started: a server that does not know the encoding says so in many ways.
            Err(EnvdError::Refused(answer))
                if codec == Codec::Proto
                    && matches!(answer.status.as_u16(), 400 | 404 | 405 | 415 | 501) =>
            {
                let started = self.start_by(Codec::Json, program).await?;
                self.json_only.store(true, Ordering::Relaxed);
                Ok((Codec::Json, started))
            }
            started => Ok((codec, started?)),
        }
    }

    async fn start_by(&self, codec: Codec, program: &Program<'_>) -> Result<Events, EnvdError> {
        let request = self
            .call("process.Process/Start", codec.streaming())
            .header("keepalive-ping-interval", KEEPALIVE_SECONDS);
        let body = envelope(&start(codec, program));
        let began = self.client.begin(&request, body.into());
        let response = tokio::time::timeout(PATIENCE, began)
            .await
            .unwrap_or(Err(Trouble::Silent(PATIENCE)))?;
        if response.status() != StatusCode::OK {
            return Err(EnvdError::Refused(Box::new(whole(&request, response).await?)));
        }
        let pieces = response.bytes_stream();
        let pieces = pieces.map(|piece| {
            piece.map_err(|error| ConnectError::new("unavailable", trouble(&error).to_string()))
        });
        Ok(Events { pieces: pieces.boxed(), decoder: Decoder::default(), codec })
    }

    /// Runs a program to its end, with these bytes as its standard input.
    ///
    /// # Errors
    /// If it could not be started or its end is not known.
    pub(super) async fn run(
        &self,
        command: &str,
        arguments: &[String],
        input: Option<&Bytes>,
    ) -> Result<Finished, EnvdError> {
        let program = Program { command, arguments, input: input.is_some() };
        let (codec, mut events) = self.start(&program).await?;
        let mut started = None;
        let finish = self.finish(codec, &mut events, input, &mut started);
        let finished = tokio::time::timeout(PROGRAM_PATIENCE, finish).await;
        let finished =
            finished.unwrap_or(Err(EnvdError::Trouble(Trouble::Silent(PROGRAM_PATIENCE))));
        if finished.is_ok() {
            tokio::spawn(events.drain());
        } else if let Some(pid) = started
            && let Err(error) = self.kill(codec, pid).await
        {
            tracing::debug!(%error, "a program in the sandbox was not ended");
        }
        finished
    }

    async fn finish(
        &self,
        codec: Codec,
        events: &mut Events,
        input: Option<&Bytes>,
        started: &mut Option<u32>,
    ) -> Result<Finished, EnvdError> {
        let (mut output, mut error) = (Vec::new(), Vec::new());
        loop {
            let (all, bytes) = match events.next().await? {
                Event::Started(pid) => {
                    *started = Some(pid);
                    if let Some(input) = input {
                        self.send_input(codec, pid, input).await?;
                    }
                    continue;
                }
                Event::Output(bytes) => (&mut output, bytes),
                Event::Error(bytes) => (&mut error, bytes),
                Event::Ended(code, _) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    return Ok(Finished { code, output: text(&output), error: text(&error) });
                }
                Event::Other => continue,
            };
            if all.len() < OUTPUT_BYTES_MAX {
                all.extend_from_slice(&bytes);
            }
        }
    }

    /// Writes to a process. One at a time: two are in no order.
    pub(super) async fn send_input(
        &self,
        codec: Codec,
        pid: u32,
        bytes: &Bytes,
    ) -> Result<(), EnvdError> {
        let body = send_input(codec, pid, bytes);
        self.unary("process.Process/SendInput", codec, body).await.map(drop)
    }

    /// Kills a process; one that has ended already is no error.
    pub(super) async fn kill(&self, codec: Codec, pid: u32) -> Result<(), EnvdError> {
        let body = super::process::kill(codec, pid);
        match self.unary("process.Process/SendSignal", codec, body).await {
            Err(EnvdError::Connect(error)) if error.code == "not_found" => Ok(()),
            killed => killed.map(drop),
        }
    }

    /// The request of `StreamInput`, whose body is sent as it comes.
    pub(super) fn stream_input(&self, codec: Codec) -> Request {
        self.call("process.Process/StreamInput", codec.streaming())
    }
}

/// What envd refuses is told apart from what the edge in front of it refuses: only envd's errors
/// have a word for a code.
fn checked(answer: Answer) -> Result<Answer, EnvdError> {
    if answer.status.is_success() {
        return Ok(answer);
    }
    if answer.field("code").is_some() {
        return Err(error_of(answer.status, &answer.body).into());
    }
    Err(EnvdError::Refused(Box::new(answer)))
}

/// What happens to a process.
pub(super) struct Events {
    pieces: BoxStream<'static, Result<Bytes, ConnectError>>,
    decoder: Decoder,
    codec: Codec,
}

impl Events {
    /// Reads what follows the process's end, which is next to nothing: so the connection is there
    /// for the next request.
    async fn drain(mut self) {
        let all = async { while let Some(Ok(_)) = self.pieces.next().await {} };
        let _ = tokio::time::timeout(DRAIN_PATIENCE, all).await;
    }

    /// The next.
    ///
    /// # Errors
    /// If the stream ends without the process's end: the connection was lost, or the sandbox ended.
    pub(super) async fn next(&mut self) -> Result<Event, ConnectError> {
        loop {
            match self.decoder.next()? {
                Some(Frame::Message(message)) => return event(self.codec, &message),
                Some(Frame::End(Err(error))) => return Err(error),
                Some(Frame::End(Ok(()))) => {
                    let message = "the process's end was not told";
                    return Err(ConnectError::new("unavailable", message));
                }
                None => {}
            }
            let Some(piece) = self.pieces.next().await else {
                return Err(ConnectError::new("unavailable", "the connection ended"));
            };
            self.decoder.push(&piece?);
        }
    }
}

/// A version as numbers; what is none is taken for the newest.
fn version(text: &str) -> [u32; 3] {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    let mut next = || parts.next().flatten();
    match (next(), next(), next()) {
        (Some(major), Some(minor), patch) => [major, minor, patch.unwrap_or(0)],
        _ => [u32::MAX; 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(version("0.5.7") >= RAW_UPLOAD && version("0.10.0") >= RAW_UPLOAD);
        assert!(version("0.5.6") < RAW_UPLOAD && version("0.4") < RAW_UPLOAD);
        assert!(version("") >= RAW_UPLOAD && version("99.99.99") >= RAW_UPLOAD);
    }
}
