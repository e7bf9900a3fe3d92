//! Makes messages smaller while the link is what a transfer waits for.
//!
//! Whole messages are compressed, not files: many small files in one message compress as well as a
//! large one. It begins once the sender has been seen to wait for the link most of the time, and
//! the link to be slower than `SLOW_BYTES_PER_SECOND`; it does not ask which driver or network
//! that is. The compressor does several times as much, but on a machine where a slow disk is what
//! the receiver waits for, it would take the processor for nothing, and looks just like a slow
//! link: that is why the limit is not the compressor's own speed. What does not get smaller goes as
//! it is, and the next messages are not tried.
//!
//! Memory: the compressor's tables, less than 1 MiB, for each transfer that compresses.

use std::time::{Duration, Instant};

use prost::Message;

use crate::proto::Packed;
use crate::wire::WireError;

/// A link that takes less than this in a second is worth the compressor's time.
const SLOW_BYTES_PER_SECOND: u64 = 64 << 20;
/// After so many bytes it is decided anew. What the channels and the windows of HTTP/2 take at once
/// is less, so whoever has sent this has waited if there was a reason to.
const WINDOW_BYTES: u64 = 4 << 20;
/// After waiting for so long it is decided too.
const WINDOW_WAITED: Duration = Duration::from_millis(200);
/// A message that does not get smaller than this, in percent, goes as it is.
const PAYING_PERCENT_MAX: usize = 90;
/// Messages that are not tried after one that did not get smaller, at most; from one on it doubles.
const SKIPPED_MAX: u32 = 32;
/// Smaller messages go as they are, bytes.
const MESSAGE_BYTES_MIN: usize = 1 << 10;
/// A message that says it is larger than this is refused, bytes.
const UNPACKED_BYTES_MAX: usize = 4 << 20;
/// The fastest but the negative ones: the link is to be filled, not the processor.
const LEVEL: i32 = 1;

/// What a sender knows of its link, and the compressor.
#[derive(Default)]
pub struct Packer {
    pace: Pace,
    compressor: Option<zstd_safe::CCtx<'static>>,
    /// Messages that are not tried.
    skip: u32,
    /// Messages that will not be tried after the next failure.
    skip_next: u32,
}

impl Packer {
    /// The message, made smaller; nothing if it is to go as it is.
    pub fn pack(&mut self, message: &impl Message) -> Option<Packed> {
        if !self.pace.is_slow {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        let plain = message.encode_to_vec();
        if !(MESSAGE_BYTES_MIN..=UNPACKED_BYTES_MAX).contains(&plain.len()) {
            return None;
        }
        let packed = self.compress(&plain);
        if packed.is_some() {
            self.skip_next = 0;
        } else {
            self.skip_next = (self.skip_next * 2).clamp(1, SKIPPED_MAX);
            self.skip = self.skip_next;
        }
        // It is within the limit.
        packed.map(|data| Packed { data: data.into(), size: plain.len() as u32 })
    }

    fn compress(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        if self.compressor.is_none() {
            self.compressor = zstd_safe::CCtx::try_create();
        }
        // What does not fit does not pay.
        let mut packed = vec![0; plain.len() / 100 * PAYING_PERCENT_MAX];
        let length = self.compressor.as_mut()?.compress(&mut packed[..], plain, LEVEL).ok()?;
        packed.truncate(length);
        Some(packed)
    }

    /// Sends, and notes how long that took. `bytes` are those that go over.
    pub fn timed<T>(&mut self, bytes: usize, send: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let sent = send();
        let ended = Instant::now();
        self.pace.sent(bytes as u64, begun, ended);
        sent
    }
}

/// How fast the link takes what it is given.
#[derive(Debug, Default)]
struct Pace {
    since: Option<Instant>,
    bytes: u64,
    waited: Duration,
    is_slow: bool,
}

impl Pace {
    fn sent(&mut self, bytes: u64, begun: Instant, ended: Instant) {
        let since = *self.since.get_or_insert(begun);
        self.bytes += bytes;
        self.waited += ended.saturating_duration_since(begun);
        if self.is_slow || (self.bytes < WINDOW_BYTES && self.waited < WINDOW_WAITED) {
            // Once slow, a link stays it for the rest of the transfer: that the sender waits no
            // longer is because of the compressor.
            return;
        }
        let took = ended.saturating_duration_since(since);
        let possible = u128::from(SLOW_BYTES_PER_SECOND) * took.as_micros() / 1_000_000;
        self.is_slow = self.waited * 2 > took && u128::from(self.bytes) < possible;
        (self.since, self.bytes, self.waited) = (Some(ended), 0, Duration::ZERO);
    }
}

/// The message that was packed.
///
/// # Errors
/// If it says that it is too large, is not of the size that it says, or is no message.
pub fn unpack<M: Message + Default>(packed: &Packed) -> Result<M, WireError> {
    let size = usize::try_from(packed.size).ok().filter(|size| *size <= UNPACKED_BYTES_MAX);
    // The buffer is never grown: a bomb does not fit.
    let mut plain = vec![0; size.ok_or(WireError::Packed)?];
    let length = zstd_safe::decompress(&mut plain[..], &packed.data);
    if length.map_err(|_| WireError::Packed)? != plain.len() {
        return Err(WireError::Packed);
    }
    M::decode(plain.as_slice()).map_err(|_| WireError::Packed)
}

#[cfg(test)]
mod tests;
