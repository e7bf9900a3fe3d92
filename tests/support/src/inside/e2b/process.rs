//! `process.Process`: the calls by which clients run commands.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, Response};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::connect::{self, Codec, ConnectError, Envelopes, Outcome};
use super::process_messages::{
    Empty, Event, ListResponse, ProcessInput, SelectRequest, SendInputRequest, SendSignalRequest,
    Signal, StartRequest, StreamInput, StreamInputRequest, UpdateRequest,
};
use super::spawn;
use super::table::Process;
use super::{Envd, Quirk, user};

/// Silence after which a stream says that it lives, when the client names no interval.
const KEEPALIVE: Duration = Duration::from_secs(90);

type Shared = State<Arc<Envd>>;

pub(super) async fn list(State(envd): Shared, request: Request) -> Response<Body> {
    connect::unary(request, async move |_: Empty| {
        Ok(ListResponse { processes: envd.table.list().await })
    })
    .await
}

pub(super) async fn start(State(envd): Shared, request: Request) -> Response<Body> {
    let headers = request.headers().clone();
    connect::server_stream(request, async move |codec, message: StartRequest| {
        let (process, events) = begin(&envd, &headers, message).await?;
        if let Some(limit) = connect::timeout(&headers) {
            let process = process.clone();
            // Whoever started it may be gone by then: the time is that of the process.
            tokio::spawn(async move {
                tokio::time::sleep(limit).await;
                let _ = process.signal(rustix::process::Signal::KILL);
            });
        }
        Ok(follow(codec, &headers, events))
    })
    .await
}

async fn begin(
    envd: &Envd,
    headers: &HeaderMap,
    message: StartRequest,
) -> Outcome<(Arc<Process>, mpsc::Receiver<Event>)> {
    let user = user(headers)?;
    let missing = || ConnectError::new("invalid_argument", "the process is missing");
    let config = message.process.ok_or_else(missing)?;
    let cwd = match config.cwd.as_deref().filter(|cwd| !cwd.is_empty()) {
        Some(cwd) => spawn::resolve(cwd, &user),
        None => envd.workdir.clone().unwrap_or_else(|| user.home.clone()),
    };
    // The flag is newer than the call.
    let has_stdin = message.stdin.unwrap_or(true) || !envd.is_at_least((0, 3, 0));
    let command =
        spawn::Command { config, pty: message.pty, has_stdin, env: envd.env.clone(), cwd };
    envd.table.start(command, message.tag, &user).await
}

pub(super) async fn connect(State(envd): Shared, request: Request) -> Response<Body> {
    let headers = request.headers().clone();
    connect::server_stream(request, async move |codec, message: SelectRequest| {
        let events = envd.table.find(message.process)?.subscribe().await;
        Ok(follow(codec, &headers, events))
    })
    .await
}

/// What a stream of events is about to do.
struct Follow {
    codec: Codec,
    events: mpsc::Receiver<Event>,
    keepalive: Duration,
    deadline: Option<Instant>,
    loses_output: bool,
    next: Next,
}

enum Next {
    Event,
    EndOfStream,
    Nothing,
}

/// Streams events until the process ended or the client's time is over.
fn follow(
    codec: Codec,
    headers: &HeaderMap,
    events: mpsc::Receiver<Event>,
) -> impl Stream<Item = Bytes> + Send + use<> {
    let interval = headers.get("keepalive-ping-interval");
    let interval = interval.and_then(|value| value.to_str().ok()?.parse().ok());
    let state = Follow {
        codec,
        events,
        keepalive: interval.map_or(KEEPALIVE, Duration::from_secs),
        deadline: connect::timeout(headers).map(|limit| Instant::now() + limit),
        loses_output: Quirk::LoseOutput.is_on(headers),
        next: Next::Event,
    };
    futures_util::stream::unfold(state, async |mut state| {
        let bytes = state.next().await?;
        Some((bytes, state))
    })
}

impl Follow {
    async fn next(&mut self) -> Option<Bytes> {
        match self.next {
            Next::Event => {}
            Next::EndOfStream => {
                self.next = Next::Nothing;
                return Some(connect::end_of_stream(None));
            }
            Next::Nothing => return None,
        }
        let silent = Instant::now() + self.keepalive;
        loop {
            let over = async {
                match self.deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                biased;
                () = over => {
                    self.next = Next::Nothing;
                    let error = ConnectError::new("deadline_exceeded", "context deadline exceeded");
                    return Some(connect::end_of_stream(Some(&error)));
                }
                event = self.events.recv() => event,
                () = sleep_until(silent) => Some(Event::Keepalive(Empty {})),
            };
            match &event {
                Some(Event::Data(_)) if self.loses_output => continue,
                Some(Event::End(_)) | None => self.next = Next::EndOfStream,
                Some(Event::Start(_) | Event::Data(_) | Event::Keepalive(_)) => {}
            }
            let Some(event) = event else {
                self.next = Next::Nothing;
                return Some(connect::end_of_stream(None));
            };
            let json = (self.codec == Codec::Json).then(|| event.output_json()).flatten();
            return Some(match json {
                Some(json) => Codec::written(json.as_bytes()),
                None => self.codec.envelope(&event.response()),
            });
        }
    }
}

pub(super) async fn update(State(envd): Shared, request: Request) -> Response<Body> {
    connect::unary(request, async move |message: UpdateRequest| {
        let process = envd.table.find(message.process)?;
        process.resize(spawn::size(message.pty.as_ref()))?;
        Ok(Empty {})
    })
    .await
}

pub(super) async fn send_input(State(envd): Shared, request: Request) -> Response<Body> {
    connect::unary(request, async move |message: SendInputRequest| {
        let process = envd.table.find(message.process)?;
        write(&process, message.input).await?;
        Ok(Empty {})
    })
    .await
}

async fn write(process: &Process, input: Option<ProcessInput>) -> Outcome<()> {
    let missing = || ConnectError::new("invalid_argument", "the input is missing");
    process.input(input.and_then(|input| input.input).ok_or_else(missing)?).await
}

pub(super) async fn stream_input(State(envd): Shared, request: Request) -> Response<Body> {
    let is_known = !Quirk::NoStreamInput.is_on(request.headers());
    connect::client_stream(request, async move |mut messages: Envelopes<StreamInputRequest>| {
        if !is_known {
            return Err(ConnectError::new("unimplemented", "StreamInput is not implemented"));
        }
        let mut process = None;
        while let Some(message) = messages.next().await? {
            match message.event {
                Some(StreamInput::Start(start)) => {
                    process = Some(envd.table.find(start.process)?);
                }
                Some(StreamInput::Data(data)) => {
                    let early = || ConnectError::new("invalid_argument", "data before the start");
                    write(process.as_deref().ok_or_else(early)?, data.input).await?;
                }
                Some(StreamInput::Keepalive(_)) | None => {}
            }
        }
        Ok(Empty {})
    })
    .await
}

pub(super) async fn send_signal(State(envd): Shared, request: Request) -> Response<Body> {
    connect::unary(request, async move |message: SendSignalRequest| {
        let process = envd.table.find(message.process)?;
        let signal = match Signal::try_from(message.signal) {
            Ok(Signal::Sigkill) => rustix::process::Signal::KILL,
            Ok(Signal::Sigterm) => rustix::process::Signal::TERM,
            Ok(Signal::Unspecified) | Err(_) => {
                return Err(ConnectError::new("unimplemented", "invalid signal"));
            }
        };
        process.signal(signal)?;
        Ok(Empty {})
    })
    .await
}

pub(super) async fn close_stdin(State(envd): Shared, request: Request) -> Response<Body> {
    connect::unary(request, async move |message: SelectRequest| {
        if !envd.is_at_least((0, 5, 2)) {
            return Err(ConnectError::new("unimplemented", "CloseStdin is not implemented"));
        }
        envd.table.find(message.process)?.close_stdin().await?;
        Ok(Empty {})
    })
    .await
}
