//! Forwarding of HTTP requests over another stream, both ways as bytes come, with upgrades.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::header;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::AbortHandle;

mod drained;

pub(crate) use drained::drained;

/// By which all that hangs on it is ended at once.
#[derive(Default)]
pub struct Cords {
    number: watch::Sender<u64>,
}

/// What one forwarded request hangs on.
#[derive(Clone)]
pub struct Cord {
    /// What is counted up to cut, and its count when this cord was made; none is never cut.
    number: Option<(watch::Receiver<u64>, u64)>,
}

impl Cords {
    /// Returns a cord that the next [`Self::cut`] cuts.
    pub fn cord(&self) -> Cord {
        let number = self.number.subscribe();
        let own = *number.borrow();
        Cord { number: Some((number, own)) }
    }

    /// Ends everything that hangs on a cord of before.
    pub fn cut(&self) {
        self.number.send_modify(|number| *number += 1);
    }
}

impl Cord {
    /// Returns one that nobody cuts.
    pub fn uncut() -> Self {
        Self { number: None }
    }

    /// Waits until it is cut; the end of its [`Cords`] cuts it, too.
    pub async fn cut(self) {
        match self.number {
            None => std::future::pending().await,
            Some((mut number, own)) => {
                let _ = number.wait_for(|number| *number != own).await;
            }
        }
    }
}

/// Sends a request over `stream` and returns the response, whose body still comes over it. When
/// both sides upgrade, bytes are copied from then on.
///
/// # Errors
///
/// The other side gave no response, or the cord was cut before it did.
pub async fn forward<S>(
    stream: S,
    mut request: Request<Body>,
    cord: Cord,
) -> io::Result<Response<Body>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let is_upgrade = request.headers().contains_key(header::UPGRADE);
    let client = is_upgrade.then(|| hyper::upgrade::on(&mut request));
    clean(request.headers_mut(), is_upgrade);
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(io::Error::other)?;
    let task = tokio::spawn(connection.with_upgrades());
    let connection = Connection(task.abort_handle());
    let answer = tokio::select! {
        answer = sender.send_request(request) => answer.map_err(io::Error::other)?,
        () = cord.clone().cut() => return Err(io::ErrorKind::ConnectionReset.into()),
    };
    let mut response = answer;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = client
    {
        let server = hyper::upgrade::on(&mut response);
        tokio::spawn(Box::pin(exchange(client, server, cord, connection)));
        return Ok(response.map(|_| Body::empty()));
    }
    clean(response.headers_mut(), false);
    let cut: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(cord.cut());
    Ok(response.map(|inner| Body::new(Forwarded { inner, cut, _connection: connection })))
}

/// Copies bytes between two upgraded connections until either ends or the cord is cut.
async fn exchange(
    client: hyper::upgrade::OnUpgrade,
    server: hyper::upgrade::OnUpgrade,
    cord: Cord,
    _connection: Connection,
) {
    let copy = async {
        let Ok((client, server)) = tokio::try_join!(client, server) else { return };
        let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    };
    tokio::select! {
        () = Box::pin(copy) => {}
        () = cord.cut() => {}
    }
}

/// Removes what is of one connection only: each side frames bodies anew.
fn clean(headers: &mut HeaderMap, is_upgrade: bool) {
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove("keep-alive");
    if !is_upgrade {
        headers.remove(header::CONNECTION);
        headers.remove(header::UPGRADE);
    }
}

/// Ends the connection with its last user.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A response body that breaks off when its cord is cut.
struct Forwarded {
    inner: Incoming,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    _connection: Connection,
}

impl http_body::Body for Forwarded {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())));
        }
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        frame.map(|frame| frame.map(|frame| frame.map_err(io::Error::other)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}
