//! Request bodies that are read to their end, whether somebody wants them or not.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::runtime::Handle;

/// Bytes that are read of a body that nobody wants. With more, the connection is closed.
const UNWANTED_BYTES_MAX: usize = 64 << 20;

/// Returns a body whose rest is read when it is dropped.
///
/// Otherwise hyper would close a connection whose request was answered early, and a client that
/// is still sending, or that sends its next request, would see that and not its answer.
pub(crate) fn drained(body: Incoming) -> Body {
    Body::new(Drained { inner: Some(body) })
}

struct Drained {
    /// None at its end.
    inner: Option<Incoming>,
}

impl http_body::Body for Drained {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(inner).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.inner = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| http_body::SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let rest = self.inner.take().filter(|rest| !http_body::Body::is_end_stream(rest));
        if let (Some(mut rest), Ok(runtime)) = (rest, Handle::try_current()) {
            runtime.spawn(async move {
                let mut left = UNWANTED_BYTES_MAX;
                while let Some(Ok(frame)) = rest.frame().await {
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    let Some(less) = left.checked_sub(length) else { return };
                    left = less;
                }
            });
        }
    }
}
