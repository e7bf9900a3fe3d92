//! The Connect protocol as envd speaks it: messages in envelopes, and errors.
//!
//! A stream is a sequence of envelopes (one byte of flags, four of length, the message); its last one
//! is JSON and the only place where a stream's error shows, since its HTTP status is always 200. Wire
//! format: connectrpc.com/docs/protocol, `reference/e2b.md` §2.2.

use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;

use crate::driver::excerpt::printable;

/// The flag of a compressed message, which is never asked for.
const COMPRESSED: u8 = 0x01;
/// The flag of the last envelope.
const END: u8 = 0x02;
/// Bytes before each message.
const HEAD_BYTES: usize = 5;
/// A longer message is none of envd's: it sends 32 KiB at a time.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What a call ended with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub(super) struct ConnectError {
    /// A word of the protocol: `not_found`, `unavailable`, …
    pub(super) code: String,
    /// For a person.
    pub(super) message: String,
}

impl ConnectError {
    pub(super) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }

    /// True if the server does not know the call.
    pub(super) fn is_unimplemented(&self) -> bool {
        self.code == "unimplemented"
    }
}

#[derive(Deserialize)]
struct Trailer {
    error: Option<ErrorBody>,
}

#[derive(Deserialize)]
struct ErrorBody {
    // A proxy's error has a number here.
    code: Option<serde_json::Value>,
    message: Option<String>,
}

/// The error of a unary call, or of a stream that did not begin.
pub(super) fn error_of(status: http::StatusCode, body: &[u8]) -> ConnectError {
    let body: Option<ErrorBody> = serde_json::from_slice(body).ok();
    let (code, message) = body.map_or((None, None), |body| (body.code, body.message));
    let code = match code {
        Some(serde_json::Value::String(code)) => code,
        _ => code_of(status.as_u16()).to_owned(),
    };
    let message = message.filter(|text| !text.is_empty());
    let message = message.unwrap_or_else(|| format!("HTTP status {status}"));
    ConnectError { code, message: printable(&message) }
}

fn code_of(status: u16) -> &'static str {
    match status {
        400 => "invalid_argument",
        401 => "unauthenticated",
        403 => "permission_denied",
        404 | 405 | 415 | 501 => "unimplemented",
        409 => "already_exists",
        413 | 429 | 507 => "resource_exhausted",
        502 | 503 => "unavailable",
        504 => "deadline_exceeded",
        _ => "unknown",
    }
}

/// A message in its envelope.
pub(super) fn envelope(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(HEAD_BYTES + message.len());
    framed.extend_from_slice(&[0]);
    // Our own messages are far below 4 GiB.
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(message);
    framed.freeze()
}

/// One envelope.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A message.
    Message(Bytes),
    /// The end.
    End(Result<(), ConnectError>),
}

/// Takes a stream apart.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    held: BytesMut,
}

impl Decoder {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next envelope, if all of it is there.
    ///
    /// # Errors
    /// If this is no stream of envelopes.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, ConnectError> {
        let Some((head, _)) = self.held.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let [flags, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        if length > MESSAGE_BYTES_MAX || flags & COMPRESSED != 0 || flags & !(COMPRESSED | END) != 0
        {
            return Err(ConnectError::new("internal", "envd sends something else than messages"));
        }
        if self.held.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        self.held.advance(HEAD_BYTES);
        let message = self.held.split_to(length).freeze();
        if flags & END == 0 {
            return Ok(Some(Frame::Message(message)));
        }
        let trailer: Trailer = serde_json::from_slice(&message)
            .map_err(|_| ConnectError::new("internal", "the end of a stream is no JSON"))?;
        Ok(Some(Frame::End(match trailer.error {
            None => Ok(()),
            Some(error) => {
                let code = error.code.and_then(|code| code.as_str().map(str::to_owned));
                let message = printable(&error.message.unwrap_or_default());
                Err(ConnectError { code: code.unwrap_or_else(|| "unknown".to_owned()), message })
            }
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_comes_byte_by_byte_is_taken_apart() {
        let mut bytes = envelope(b"abc").to_vec();
        bytes.extend_from_slice(&envelope(b""));
        bytes.extend_from_slice(b"\x02\x00\x00\x00\x02{}");
        let mut decoder = Decoder::default();
        let mut found = Vec::new();
        for byte in bytes {
            decoder.push(&[byte]);
            found.extend(decoder.next().expect("well formed"));
        }
        let message = |text: &'static str| Frame::Message(Bytes::from(text));
        assert_eq!(found, [message("abc"), message(""), Frame::End(Ok(()))]);
    }

    #[test]
    fn the_error_of_a_stream_is_in_its_last_envelope() {
        let text = br#"{"error":{"code":"unavailable","message":"it ended"},"metadata":{}}"#;
        let mut decoder = Decoder::default();
        decoder.push(&[2, 0, 0, 0, text.len() as u8]);
        decoder.push(text);
        let end = decoder.next().expect("well formed");
        assert_eq!(end, Some(Frame::End(Err(ConnectError::new("unavailable", "it ended")))));
    }

    #[test]
    fn what_is_no_stream_is_refused() {
        for bytes in
            [&b"<html>"[..], &[1, 0, 0, 0, 0], &[0, 255, 255, 255, 255], b"\x02\0\0\0\x01x"]
        {
            let mut decoder = Decoder::default();
            decoder.push(bytes);
            assert!(decoder.next().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn an_error_of_a_proxy_is_told_by_its_status() {
        let status = |code| http::StatusCode::from_u16(code).expect("a status");
        let error = error_of(status(502), br#"{"sandboxId":"i","message":"no","code":502}"#);
        assert_eq!(error, ConnectError::new("unavailable", "no"));
        let error =
            error_of(status(404), br#"{"code":"not_found","message":"no pid","details":[]}"#);
        assert_eq!(error, ConnectError::new("not_found", "no pid"));
        assert!(error_of(status(404), b"404 page not found").is_unimplemented());
        assert_eq!(error_of(status(504), b"").message, "HTTP status 504 Gateway Timeout");
    }
}
