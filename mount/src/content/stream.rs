//! Whether somebody reads on, and how far ahead to read then: a decision about numbers.

/// The first window, bytes: what the kernel asks for at once, and the same ahead.
pub(super) const WINDOW_BYTES_MIN: u64 = 256 * 1024;
/// Going back so far is still reading on, bytes: the kernel's own read-ahead comes out of order.
const BACK_BYTES_MAX: u64 = 1024 * 1024;
/// Requests ahead are at least so large, bytes …
const REQUEST_BYTES_MIN: u64 = 256 * 1024;
/// … and at most, and no more than this fraction of the window, so that they overlap.
const REQUEST_BYTES_MAX: u64 = 1024 * 1024;
const REQUESTS_OF_WINDOW: u64 = 16;

/// One reader of one open file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stream {
    /// The furthest end of what was read.
    position: u64,
    /// Bytes to read ahead; 0 for a reader who jumps.
    window: u64,
    /// Where the window is next doubled.
    grows_at: u64,
    /// Until where it was asked for ahead.
    ahead_to: u64,
}

/// What to ask for ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ahead {
    /// From here …
    pub(super) from: u64,
    /// … until here, …
    pub(super) until: u64,
    /// … in requests that end at multiples of this.
    pub(super) request: u64,
}

impl Stream {
    /// True if the reader reads on.
    pub(super) fn is_in_order(&self) -> bool {
        self.window > 0
    }

    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// Takes a read into account. `room`: the largest window now.
    pub(super) fn read(&mut self, offset: u64, size: u64, room: u64) {
        let end = offset + size;
        let goes_on = match self.window {
            // From the start is in order; so is what begins where the last one ended.
            0 => offset == self.position,
            window => offset + BACK_BYTES_MAX >= self.position && offset <= self.position + window,
        };
        if !goes_on {
            let window = if offset == 0 { WINDOW_BYTES_MIN } else { 0 };
            *self = Self { position: end, window, grows_at: end, ahead_to: end };
            return;
        }
        if self.window == 0 {
            self.window = WINDOW_BYTES_MIN;
            (self.grows_at, self.ahead_to) = (end, end);
        }
        self.position = self.position.max(end);
        self.ahead_to = self.ahead_to.max(self.position);
        if self.position > self.grows_at {
            self.window = (self.window * 2).min(room.max(self.window));
            self.grows_at = self.position + self.window / 2;
        }
    }

    /// What to ask for ahead now, in a file that is so large.
    pub(super) fn ahead(&mut self, size: u64) -> Option<Ahead> {
        if self.window == 0 {
            return None;
        }
        let request =
            (self.window / REQUESTS_OF_WINDOW).clamp(REQUEST_BYTES_MIN, REQUEST_BYTES_MAX);
        let end = self.position + self.window;
        // Whole requests, but for the first and the last one of the file.
        let until = if end >= size { size } else { end - end % request };
        if until <= self.ahead_to {
            return None;
        }
        let from = std::mem::replace(&mut self.ahead_to, until);
        Some(Ahead { from, until, request })
    }

    /// Nothing was asked for from here on after all.
    pub(super) fn stop_at(&mut self, at: u64) {
        self.ahead_to = self.ahead_to.min(at.max(self.position));
    }
}
