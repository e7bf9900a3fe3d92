//! Where a stream of envelopes is, so that an end can be put behind a whole one.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::json;

/// Bytes before an envelope's message.
const HEAD_BYTES: usize = 5;
/// Flag of the envelope that ends a stream.
const END_OF_STREAM: u8 = 2;

/// What is known of the envelope that passes.
#[derive(Debug, Default)]
pub(super) struct Tail {
    head: Vec<u8>,
    left: usize,
}

impl Tail {
    /// Follows the stream.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.left > 0 {
                let count = self.left.min(rest.len());
                self.left -= count;
                rest = &rest[count..];
            } else {
                let count = (HEAD_BYTES - self.head.len()).min(rest.len());
                self.head.extend_from_slice(&rest[..count]);
                rest = &rest[count..];
                if self.head.len() == HEAD_BYTES {
                    let length = [self.head[1], self.head[2], self.head[3], self.head[4]];
                    self.left = u32::from_be_bytes(length) as usize;
                    self.head.clear();
                }
            }
        }
    }

    /// Returns the end that says that the sandbox is no more, if it can be put here.
    pub(super) fn unavailable(&self, id: &str) -> Option<Bytes> {
        if self.left > 0 || !self.head.is_empty() {
            return None;
        }
        let message = format!("the connection to sandbox {id} ended before the stream completed");
        let end = json!({ "error": { "code": "unavailable", "message": message } }).to_string();
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES + end.len());
        bytes.put_u8(END_OF_STREAM);
        bytes.put_u32(end.len() as u32);
        bytes.put_slice(end.as_bytes());
        Some(bytes.freeze())
    }
}
