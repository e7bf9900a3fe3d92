//! A byte stream to the agent through envd alone: the output of a `skync-agent bridge`, and its
//! input. It works wherever envd is reached, and is the way where no WebSocket can be had.
//!
//! Input goes by `StreamInput`, one request for all of it. A server that does not have it says so at
//! once, and then each piece is a `SendInput`, one round trip each. Until the agent has said something
//! nobody knows whether what was sent has arrived, so until then it is kept.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf, WriteHalf,
    duplex, split,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::connect::{ConnectError, envelope};
use super::envd::{EnvdError, Events};
use super::live::Live;
use super::process::{Codec, Event, Program, stream_data, stream_keepalive, stream_start};
use crate::driver::excerpt::Tail;
use crate::driver::http::{Trouble, whole};

/// Bytes on their way between the link and envd.
const HELD_BYTES: usize = 1 << 20;
/// Most bytes of one message: envd writes 64 KiB at a time into a pipe.
const PIECE_BYTES: usize = 256 << 10;
/// A `StreamInput` on which nothing was sent for so long says that it lives.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// An agent that has heard the link's greeting answers within this; else the input does not
/// arrive: something in between keeps the request until it ends.
const PROOF_PATIENCE: Duration = Duration::from_millis(2500);

/// A byte stream to a process.
pub(super) struct ProcessStream {
    near: DuplexStream,
    /// How it ended.
    end: Arc<Mutex<Option<String>>>,
    /// Ends what carries the bytes.
    _alive: mpsc::Sender<()>,
}

impl ProcessStream {
    /// Starts the agent's bridge in the sandbox.
    pub(super) async fn open(live: Arc<Live>) -> Result<Self, EnvdError> {
        let bridge = Bridge::start(&live).await?;
        let (near, far) = duplex(HELD_BYTES);
        let (alive, gone) = mpsc::channel(1);
        let end = Arc::new(Mutex::new(None));
        tokio::spawn(carry(live, bridge, far, Arc::clone(&end), gone));
        Ok(Self { near, end, _alive: alive })
    }
}

/// A `skync-agent bridge` that runs.
struct Bridge {
    codec: Codec,
    pid: u32,
    events: Events,
}

impl Bridge {
    async fn start(live: &Live) -> Result<Self, EnvdError> {
        let arguments = ["bridge".to_owned(), "--state".to_owned(), live.place.state()];
        let executable = live.place.executable.clone();
        let program = Program { command: &executable, arguments: &arguments, input: true };
        let (codec, mut events) = live.envd().start(&program).await?;
        loop {
            match events.next().await? {
                Event::Started(pid) => return Ok(Self { codec, pid, events }),
                Event::Ended(_, how) => return Err(ConnectError::new("internal", how).into()),
                Event::Output(_) | Event::Error(_) | Event::Other => {}
            }
        }
    }
}

/// How the carrying of bytes ended.
enum Carried {
    /// For good; how, if that is an error.
    Ended(Option<String>),
    /// What was sent by a stream has not arrived: another bridge gets it, piece by piece.
    Again(Vec<u8>),
}

/// Carries bytes between the link and bridges, of which there is more than one only if the first has
/// not heard anything.
async fn carry(
    live: Arc<Live>,
    mut bridge: Bridge,
    far: DuplexStream,
    end: Arc<Mutex<Option<String>>>,
    mut gone: mpsc::Receiver<()>,
) {
    let (mut input, mut output) = split(far);
    let mut unproved = Vec::new();
    let how = loop {
        let (proof, is_proved) = watch::channel(false);
        let carrier = Carrier { live: Arc::clone(&live), codec: bridge.codec, pid: bridge.pid };
        let carried = tokio::select! {
            how = carrier.down(bridge.events, &mut output, proof) => Carried::Ended(how),
            carried = carrier.up(&mut input, is_proved, unproved) => carried,
            _ = gone.recv() => Carried::Ended(None),
        };
        // It would live on: a stream that breaks ends no process. That it cannot be reached is why
        // we are here, most of the time.
        if let Err(error) = live.envd().kill(carrier.codec, carrier.pid).await {
            tracing::debug!(%error, "the bridge in the sandbox was not ended");
        }
        match carried {
            Carried::Ended(how) => break how,
            Carried::Again(sent) => unproved = sent,
        }
        tracing::info!("what is streamed into the sandbox does not arrive: piece by piece, then");
        live.no_stream_input.store(true, Ordering::Relaxed);
        bridge = match Bridge::start(&live).await {
            Ok(bridge) => bridge,
            Err(error) => break Some(error.to_string()),
        };
    };
    *end.lock().unwrap_or_else(PoisonError::into_inner) = how;
    drop((input, output));
}

struct Carrier {
    live: Arc<Live>,
    codec: Codec,
    pid: u32,
}

impl Carrier {
    /// From the process; how it ended, if that is an error.
    async fn down(
        &self,
        mut events: Events,
        output: &mut WriteHalf<DuplexStream>,
        proof: watch::Sender<bool>,
    ) -> Option<String> {
        let mut said = Tail::default();
        loop {
            match events.next().await {
                Ok(Event::Output(bytes)) => {
                    proof.send_replace(true);
                    if output.write_all(&bytes).await.is_err() {
                        return None;
                    }
                }
                Ok(Event::Error(bytes)) => said.push(&bytes),
                Ok(Event::Ended(code, how)) => {
                    self.live.suspect_agent();
                    return (code != Some(0)).then(|| format!("{how}: {}", said.lines()));
                }
                Ok(Event::Started(_) | Event::Other) => {}
                Err(error) => return Some(error.to_string()),
            }
        }
    }

    /// To the process; first what was sent to another one, in vain.
    async fn up(
        &self,
        input: &mut ReadHalf<DuplexStream>,
        is_proved: watch::Receiver<bool>,
        mut unproved: Vec<u8>,
    ) -> Carried {
        if !self.live.no_stream_input.load(Ordering::Relaxed) {
            match self.by_stream(input, is_proved, &mut unproved).await {
                Ok(()) => return Carried::Ended(None),
                Err(Refusal::Unknown) => {
                    tracing::info!("the sandbox takes no stream of input: piece by piece, then");
                    self.live.no_stream_input.store(true, Ordering::Relaxed);
                }
                Err(Refusal::Silent) => return Carried::Again(unproved),
                Err(Refusal::Failed(how)) => return Carried::Ended(Some(how)),
            }
        }
        let mut pieces = Some(Bytes::from(unproved)).filter(|bytes| !bytes.is_empty());
        loop {
            let bytes = match pieces.take() {
                Some(bytes) => bytes,
                None => match read_piece(input).await {
                    Some(bytes) => bytes,
                    None => return Carried::Ended(None),
                },
            };
            if let Err(error) = self.live.envd().send_input(self.codec, self.pid, &bytes).await {
                return Carried::Ended(Some(error.to_string()));
            }
        }
    }

    /// All input in one request. What is not known to have arrived is in `unproved`.
    async fn by_stream(
        &self,
        input: &mut ReadHalf<DuplexStream>,
        mut is_proved: watch::Receiver<bool>,
        unproved: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let (messages, body) = mpsc::channel::<Bytes>(4);
        let body = reqwest::Body::wrap_stream(ReceiverStream::new(body).map(io::Result::Ok));
        let live = Arc::clone(&self.live);
        let request = live.envd().stream_input(self.codec);
        let client = live.client.clone();
        let answer = async move {
            let response = client.begin(&request, body).await?;
            let answer = whole(&request, response).await?;
            Ok::<_, Trouble>((answer.status, answer.body))
        };
        tokio::pin!(answer);
        let send = |message: Vec<u8>| messages.send(envelope(&message));
        let _ = send(stream_start(self.codec, self.pid)).await;
        let proof_deadline = tokio::time::sleep(PROOF_PATIENCE);
        tokio::pin!(proof_deadline);
        let mut proved = false;
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return Err(refusal(answer, proved)),
                changed = is_proved.changed(), if !proved => if changed.is_ok() {
                    proved = true;
                    unproved.clear();
                },
                () = &mut proof_deadline, if !proved && !unproved.is_empty() => {
                    return Err(Refusal::Silent);
                }
                piece = read_piece(input) => {
                    let Some(bytes) = piece else { return Ok(()) };
                    if !proved {
                        unproved.extend_from_slice(&bytes);
                    }
                    // If nobody takes it, the answer says why.
                    let _ = send(stream_data(self.codec, &bytes)).await;
                }
                () = tokio::time::sleep(KEEPALIVE) => {
                    let _ = send(stream_keepalive(self.codec)).await;
                }
            }
        }
    }
}

/// Why input by a stream ended.
enum Refusal {
    /// The server does not know of it: nothing has arrived.
    Unknown,
    /// Nobody says anything: what was sent is kept somewhere in between.
    Silent,
    Failed(String),
}

fn refusal(answer: Result<(http::StatusCode, Bytes), Trouble>, proved: bool) -> Refusal {
    let error = match answer {
        Ok((status, body)) if status == http::StatusCode::OK => stream_error(&body),
        Ok((status, body)) => super::connect::error_of(status, &body),
        Err(trouble) => return Refusal::Failed(trouble.to_string()),
    };
    if !proved && error.is_unimplemented() {
        return Refusal::Unknown;
    }
    Refusal::Failed(error.to_string())
}

fn stream_error(body: &[u8]) -> ConnectError {
    let mut decoder = super::connect::Decoder::default();
    decoder.push(body);
    while let Ok(Some(frame)) = decoder.next() {
        if let super::connect::Frame::End(Err(error)) = frame {
            return error;
        }
    }
    ConnectError::new("unavailable", "the stream of input ended")
}

/// Some bytes of the link; nothing at its end.
async fn read_piece(input: &mut ReadHalf<DuplexStream>) -> Option<Bytes> {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    // Not to be cancelled in the middle: `read_buf` loses nothing if it is.
    match input.read_buf(&mut piece).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(piece.into()),
    }
}

impl AsyncRead for ProcessStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.near).poll_read(context, buffer);
        let is_end = matches!(read, Poll::Ready(Ok(()))) && buffer.filled().len() == before;
        if is_end && let Some(how) = self.end.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            return Poll::Ready(Err(io::Error::other(how)));
        }
        read
    }
}

impl AsyncWrite for ProcessStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.near).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.near).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.near).poll_shutdown(context)
    }
}
