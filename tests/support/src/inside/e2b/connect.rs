//! The Connect protocol: unary calls and streams, in JSON and binary, over plain HTTP/1.1.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, Response, StatusCode, header};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// Flag of the envelope that ends a stream.
const END_OF_STREAM: u8 = 2;
/// Flag of a compressed envelope; nothing here compresses.
const COMPRESSED: u8 = 1;
/// Bytes before an envelope's message.
const ENVELOPE_HEAD_BYTES: usize = 5;
/// Bytes of a unary request; a SendInput may carry a lot.
const UNARY_BYTES_MAX: usize = 256 << 20;

/// An error of a call, as the client gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConnectError {
    pub code: &'static str,
    pub message: String,
}

/// What a call gives.
pub(super) type Outcome<T> = Result<T, ConnectError>;

impl ConnectError {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn json(&self) -> serde_json::Value {
        json!({ "code": self.code, "message": self.message, "details": [] })
    }

    fn status(&self) -> StatusCode {
        let number = match self.code {
            "invalid_argument" | "failed_precondition" | "out_of_range" => 400,
            "unauthenticated" => 401,
            "permission_denied" => 403,
            "not_found" => 404,
            "already_exists" | "aborted" => 409,
            "resource_exhausted" => 429,
            "canceled" => 499,
            "unimplemented" => 501,
            "unavailable" => 503,
            "deadline_exceeded" => 504,
            _ => 500,
        };
        StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Answers a unary call with the error.
    pub(super) fn unary(&self) -> Response<Body> {
        respond(self.status(), "application/json", self.json().to_string().into())
    }
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Json,
    Proto,
}

impl Codec {
    fn of_unary(headers: &HeaderMap) -> Option<Self> {
        match content_type(headers) {
            "application/json" => Some(Self::Json),
            "application/proto" => Some(Self::Proto),
            _ => None,
        }
    }

    fn of_stream(headers: &HeaderMap) -> Option<Self> {
        match content_type(headers) {
            "application/connect+json" => Some(Self::Json),
            "application/connect+proto" => Some(Self::Proto),
            _ => None,
        }
    }

    fn unary_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Proto => "application/proto",
        }
    }

    fn stream_type(self) -> &'static str {
        match self {
            Self::Json => "application/connect+json",
            Self::Proto => "application/connect+proto",
        }
    }

    fn decode<T: Message + Default + DeserializeOwned>(self, bytes: &[u8]) -> Outcome<T> {
        let decoded = match self {
            Self::Json => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
            Self::Proto => T::decode(bytes).map_err(|error| error.to_string()),
        };
        decoded.map_err(|error| ConnectError::new("invalid_argument", error))
    }

    fn encode<T: Message + Serialize>(self, message: &T) -> Vec<u8> {
        match self {
            Self::Json => serde_json::to_vec(message).expect("messages have only text keys"),
            Self::Proto => message.encode_to_vec(),
        }
    }

    /// Wraps a message of a stream that is written already.
    pub(super) fn written(message: &[u8]) -> Bytes {
        envelope(0, message)
    }

    /// Writes one message of a stream.
    pub(super) fn envelope<T: Message + Serialize>(self, message: &T) -> Bytes {
        envelope(0, &self.encode(message))
    }
}

fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

fn envelope(flags: u8, message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(ENVELOPE_HEAD_BYTES + message.len());
    bytes.put_u8(flags);
    bytes.put_u32(message.len() as u32);
    bytes.put_slice(message);
    bytes.freeze()
}

/// Writes the end of a stream.
pub(super) fn end_of_stream(error: Option<&ConnectError>) -> Bytes {
    let end = match error {
        None => json!({}),
        Some(error) => json!({ "error": error.json() }),
    };
    envelope(END_OF_STREAM, end.to_string().as_bytes())
}

fn respond(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let response = Response::builder().status(status).header(header::CONTENT_TYPE, kind);
    response.body(body).expect("the header is a constant")
}

fn unsupported() -> Response<Body> {
    respond(StatusCode::UNSUPPORTED_MEDIA_TYPE, "text/plain", Body::empty())
}

/// How long the client waits for the whole call.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("connect-timeout-ms")?.to_str().ok()?;
    value.parse().ok().map(Duration::from_millis)
}

/// Answers a unary call.
pub(super) async fn unary<Q, A, F>(request: Request, call: F) -> Response<Body>
where
    Q: Message + Default + DeserializeOwned,
    A: Message + Serialize,
    F: AsyncFnOnce(Q) -> Outcome<A>,
{
    let Some(codec) = Codec::of_unary(request.headers()) else { return unsupported() };
    let limit = timeout(request.headers()).unwrap_or(Duration::from_secs(24 * 3600));
    let answer = Box::pin(async {
        let body = axum::body::to_bytes(request.into_body(), UNARY_BYTES_MAX).await;
        let body = body.map_err(|error| ConnectError::new("canceled", error.to_string()))?;
        call(codec.decode(&body)?).await
    });
    let answer = tokio::time::timeout(limit, answer).await;
    match answer {
        Ok(Ok(answer)) => respond(StatusCode::OK, codec.unary_type(), codec.encode(&answer).into()),
        Ok(Err(error)) => error.unary(),
        Err(_) => ConnectError::new("deadline_exceeded", "context deadline exceeded").unary(),
    }
}

/// Answers a call whose answer is a stream. Errors of `call` come in the stream, too.
pub(super) async fn server_stream<Q, S, F>(request: Request, call: F) -> Response<Body>
where
    Q: Message + Default + DeserializeOwned,
    S: Stream<Item = Bytes> + Send + 'static,
    F: AsyncFnOnce(Codec, Q) -> Outcome<S>,
{
    let Some(codec) = Codec::of_stream(request.headers()) else { return unsupported() };
    let mut envelopes = Envelopes::new(codec, request.into_body());
    let stream = async {
        let message = envelopes.next().await?;
        let missing = || ConnectError::new("invalid_argument", "the message is missing");
        call(codec, message.ok_or_else(missing)?).await
    };
    let body = match stream.await {
        Ok(stream) => Body::from_stream(stream.map(Ok::<_, std::io::Error>)),
        Err(error) => whole(end_of_stream(Some(&error))),
    };
    respond(StatusCode::OK, codec.stream_type(), body)
}

/// Answers a call whose request is a stream.
pub(super) async fn client_stream<Q, A, F>(request: Request, call: F) -> Response<Body>
where
    Q: Message + Default + DeserializeOwned,
    A: Message + Serialize,
    F: AsyncFnOnce(Envelopes<Q>) -> Outcome<A>,
{
    let Some(codec) = Codec::of_stream(request.headers()) else { return unsupported() };
    let body = match call(Envelopes::new(codec, request.into_body())).await {
        Ok(answer) => {
            let mut body = BytesMut::from(codec.envelope(&answer));
            body.put(end_of_stream(None));
            body.freeze()
        }
        Err(error) => end_of_stream(Some(&error)),
    };
    respond(StatusCode::OK, codec.stream_type(), whole(body))
}

/// A stream that is known from the first: without a length, as all streams are.
fn whole(bytes: Bytes) -> Body {
    Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(bytes)]))
}

/// The messages of a request that is a stream.
pub(super) struct Envelopes<T> {
    codec: Codec,
    body: BodyDataStream,
    buffer: BytesMut,
    of: std::marker::PhantomData<fn() -> T>,
}

impl<T: Message + Default + DeserializeOwned> Envelopes<T> {
    fn new(codec: Codec, body: Body) -> Self {
        let (body, buffer) = (body.into_data_stream(), BytesMut::new());
        Self { codec, body, buffer, of: std::marker::PhantomData }
    }

    /// Returns the next message, or none at the end.
    pub(super) async fn next(&mut self) -> Outcome<Option<T>> {
        loop {
            if let Some((flags, message)) = self.complete() {
                match flags {
                    0 => return self.codec.decode(&message).map(Some),
                    COMPRESSED => {
                        return Err(ConnectError::new("unimplemented", "compressed envelope"));
                    }
                    _ => return Ok(None),
                }
            }
            match self.body.next().await {
                Some(Ok(bytes)) => self.buffer.extend_from_slice(&bytes),
                Some(Err(error)) => {
                    return Err(ConnectError::new("canceled", error.to_string()));
                }
                None if self.buffer.is_empty() => return Ok(None),
                None => {
                    return Err(ConnectError::new("invalid_argument", "incomplete envelope"));
                }
            }
        }
    }

    fn complete(&mut self) -> Option<(u8, Bytes)> {
        let head = self.buffer.get(..ENVELOPE_HEAD_BYTES)?;
        let flags = head[0];
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if self.buffer.len() < ENVELOPE_HEAD_BYTES + length {
            self.buffer.reserve(ENVELOPE_HEAD_BYTES + length - self.buffer.len());
            return None;
        }
        let mut whole = self.buffer.split_to(ENVELOPE_HEAD_BYTES + length);
        Some((flags, whole.split_off(ENVELOPE_HEAD_BYTES).freeze()))
    }
}
