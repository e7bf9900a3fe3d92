//! The byte stream of an attached `exec`: its stdin and stdout as one.
//!
//! Standard error is no part of the stream; it goes to the log, and into the error if the
//! process ends before it said anything else.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bollard::container::LogOutput;
use bollard::errors::Error;
use bytes::{Buf, Bytes};
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::engine::said;
use crate::driver::excerpt::{Tail, printable};

type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;
type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// An attached `exec` as a byte stream.
pub(super) struct ExecStream {
    output: Output,
    input: Input,
    /// What came and was not read yet: at most one frame of the engine.
    pending: Bytes,
    /// Nothing has come from stdout so far.
    silent: bool,
    complaints: Tail,
}

impl ExecStream {
    /// Joins the two halves that the engine gave.
    pub(super) fn new(output: Output, input: Input) -> Self {
        Self { output, input, pending: Bytes::new(), silent: true, complaints: Tail::default() }
    }

    fn ended(&self) -> io::Result<()> {
        let complaints = self.complaints.lines();
        if !self.silent || complaints.is_empty() {
            return Ok(());
        }
        let message = format!("the agent's bridge ended: {complaints}");
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, message))
    }
}

impl AsyncRead for ExecStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.pending.is_empty() {
            match ready!(self.output.as_mut().poll_next(cx)) {
                None => return Poll::Ready(self.ended()),
                Some(Ok(LogOutput::StdOut { message })) => {
                    self.silent = false;
                    self.pending = message;
                }
                Some(Ok(LogOutput::StdErr { message })) => {
                    let text = printable(&String::from_utf8_lossy(&message));
                    tracing::debug!(bridge = text, "the agent's bridge said");
                    self.complaints.push(&message);
                }
                Some(Ok(LogOutput::StdIn { .. })) => {}
                Some(Ok(LogOutput::Console { message })) => {
                    // At its end the decoder gives what was left of a frame in this way.
                    let text = printable(&String::from_utf8_lossy(&message));
                    let message = format!("the engine sent bytes outside of a frame: {text}");
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, message)));
                }
                Some(Err(error)) => {
                    return Poll::Ready(Err(io::Error::other(said(&error))));
                }
            }
        }
        let count = self.pending.len().min(buffer.remaining());
        buffer.put_slice(&self.pending[..count]);
        self.pending.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ExecStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.input.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::io::AsyncReadExt;

    use super::*;

    fn of(output: Vec<Result<LogOutput, Error>>) -> ExecStream {
        ExecStream::new(Box::pin(stream::iter(output)), Box::pin(tokio::io::sink()))
    }

    fn out(bytes: &'static [u8]) -> Result<LogOutput, Error> {
        Ok(LogOutput::StdOut { message: Bytes::from_static(bytes) })
    }

    fn err(bytes: &'static [u8]) -> Result<LogOutput, Error> {
        Ok(LogOutput::StdErr { message: Bytes::from_static(bytes) })
    }

    #[tokio::test]
    async fn standard_error_and_empty_frames_are_no_part_of_the_stream() {
        let mut stream = of(vec![out(b"ab"), err(b"no\x1b"), out(b""), out(b"\0\xff")]);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"ab\0\xff");
    }

    #[tokio::test]
    async fn a_bridge_that_only_complains_is_an_error_that_says_so() {
        let error =
            of(vec![err(b"no such\x07 file\n")]).read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.to_string(), "the agent's bridge ended: no such\u{fffd} file");
        assert_eq!(of(vec![]).read_to_end(&mut Vec::new()).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn bytes_outside_of_a_frame_are_an_error() {
        let odd = Ok(LogOutput::Console { message: Bytes::from_static(b"HTTP/1.1") });
        let error = of(vec![out(b"x"), odd]).read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
