//! How long to wait before something is tried again: twice as long each time, less by chance, so that
//! several who wait for the same do not all come at the same time.

use std::time::Duration;

/// `min` doubled so often, at most `max`, less up to a half; `chance` is between 0 and 1.
pub(crate) fn wait(min: Duration, max: Duration, doublings: u32, chance: f64) -> Duration {
    let doubled = min.saturating_mul(1 << doublings.min(16));
    doubled.min(max).mul_f64(1.0 - chance / 2.0)
}

/// A number between 0 and 1.
pub(crate) fn chance() -> f64 {
    let mut byte = [0];
    // Without chance all wait the longest.
    let _ = getrandom::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}
