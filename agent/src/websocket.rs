//! A WebSocket as a byte stream: the link's way through proxies that carry HTTP and nothing else.
//!
//! Only binary messages are sent, and where one ends and the next begins means nothing. There are no
//! pings of our own: the link's heartbeat sends bytes both ways more often than any proxy asks for.
//! Wire format: RFC 6455.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{
    Callback, ErrorResponse, Request, Response,
};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

/// Most bytes of a message that is sent. Some peers refuse a message of more than 64 KiB, and a larger
/// one saves nothing.
const SENT_BYTES_MAX: usize = 64 << 10;
/// Most bytes of a message that is taken: before the handshake of the link nobody is trusted.
const TAKEN_BYTES_MAX: usize = 1 << 20;

/// Where the agent serves WebSockets: known to whoever knows the link's secret, and telling nothing
/// of it. It only keeps strangers from the handshake, which is the proof.
pub fn path_of(secret: &[u8; 32]) -> String {
    let mut hasher =
        blake3::Hasher::new_derive_key("skync 2026-11-26 path of the agent's WebSocket");
    hasher.update(secret);
    format!("/skync/{}", &hasher.finalize().to_hex()[..32])
}

/// A byte stream over a WebSocket.
pub struct WebSocket<S> {
    inner: WebSocketStream<S>,
    /// What of the last message has not been read.
    rest: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// The client's end of a connection that has been upgraded.
    pub async fn client(stream: S) -> Self {
        let inner = WebSocketStream::from_raw_socket(stream, Role::Client, Some(config())).await;
        Self { inner, rest: Bytes::new() }
    }

    /// The server's end: answers the upgrade if it is for `path`, else with 404.
    ///
    /// # Errors
    /// If the peer asks for something else or goes away.
    pub async fn accept(stream: S, path: &str) -> io::Result<Self> {
        let gate = Gate { path };
        let accepted =
            tokio_tungstenite::accept_hdr_async_with_config(stream, gate, Some(config())).await;
        Ok(Self { inner: accepted.map_err(io_error)?, rest: Bytes::new() })
    }
}

struct Gate<'a> {
    path: &'a str,
}

impl Callback for Gate<'_> {
    fn on_request(self, request: &Request, response: Response) -> Result<Response, ErrorResponse> {
        if request.uri().path() == self.path {
            return Ok(response);
        }
        let mut refusal = ErrorResponse::new(None);
        *refusal.status_mut() = http::StatusCode::NOT_FOUND;
        Err(refusal)
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(TAKEN_BYTES_MAX))
        .max_frame_size(Some(TAKEN_BYTES_MAX))
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                // The library answers pings.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::other(
                        "text came over a WebSocket of bytes",
                    )));
                }
                Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed)) | None => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
            }
        }
        let count = buffer.remaining().min(self.rest.len());
        buffer.put_slice(&self.rest[..count]);
        self.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.inner).poll_ready(context)).map_err(io_error)?;
        let part = &bytes[..bytes.len().min(SENT_BYTES_MAX)];
        let message = Message::Binary(Bytes::copy_from_slice(part));
        Pin::new(&mut self.inner).start_send(message).map_err(io_error)?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context).map_err(io_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.inner).poll_close(context)) {
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(io_error(error))),
        }
    }
}

/// Listens on one of these ports, on the first that is free from a place chosen by chance on.
///
/// # Errors
/// If none is free.
pub async fn listen(address: IpAddr, ports: RangeInclusive<u16>) -> io::Result<TcpListener> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let count = u32::from(*ports.end()).saturating_sub(u32::from(*ports.start())) + 1;
    let first = u32::from(u16::from_be_bytes(bytes));
    for step in 0..count {
        let offset = (first + step) % count;
        let port = u16::try_from(u32::from(*ports.start()) + offset).map_err(io::Error::other)?;
        match TcpListener::bind(SocketAddr::new(address, port)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    Err(io::Error::from(io::ErrorKind::AddrInUse))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn upgraded(
        path: &str,
        asked: &str,
    ) -> (io::Result<WebSocket<tokio::io::DuplexStream>>, String) {
        let (mut near, far) = tokio::io::duplex(4096);
        let request = format!(
            "GET {asked} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        near.write_all(request.as_bytes()).await.expect("written");
        let accepted = WebSocket::accept(far, path).await;
        let mut answer = vec![0; 4096];
        let count = near.read(&mut answer).await.expect("an answer");
        (accepted, String::from_utf8_lossy(&answer[..count]).into_owned())
    }

    #[tokio::test]
    async fn another_path_is_not_found() {
        let path = path_of(&[7; 32]);
        let (accepted, answer) = upgraded(&path, "/skync/0").await;
        assert!(accepted.is_err());
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        let (accepted, answer) = upgraded(&path, &path).await;
        assert!(accepted.is_ok());
        // The example of RFC 6455.
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    }

    #[test]
    fn the_path_does_not_show_the_secret_and_differs_with_it() {
        assert_ne!(path_of(&[7; 32]), path_of(&[8; 32]));
        assert!(!path_of(&[7; 32]).contains("0707"));
    }

    #[tokio::test]
    async fn any_bytes_arrive_both_ways_and_the_end_is_an_end() {
        let (near, far) = tokio::io::duplex(1000);
        let mut client = WebSocket::client(near).await;
        let server = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        let mut server = WebSocket { inner: server, rest: Bytes::new() };
        let sent: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let echo = async {
            let mut received = vec![0; sent.len()];
            server.read_exact(&mut received).await.expect("read");
            server.write_all(&received).await.expect("written");
            server.flush().await.expect("flushed");
            let mut end = Vec::new();
            server.read_to_end(&mut end).await.expect("an end");
            assert!(end.is_empty());
        };
        let talk = async {
            client.write_all(&sent).await.expect("written");
            client.flush().await.expect("flushed");
            let mut back = vec![0; sent.len()];
            client.read_exact(&mut back).await.expect("read");
            assert!(back == sent);
            client.shutdown().await.expect("closed");
        };
        tokio::join!(echo, talk);
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_passed_over() {
        let address = IpAddr::from([127, 0, 0, 1]);
        let taken = listen(address, 0..=0).await.expect("any port");
        let port = taken.local_addr().expect("an address").port();
        let failed = listen(address, port..=port).await.expect_err("taken");
        assert_eq!(failed.kind(), io::ErrorKind::AddrInUse);
    }
}
