//! What changes from moment to moment and is no news: it is added to what clients are told when they
//! are told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::session::proto::{LogLine, StatusReply};
use crate::session::server::{Session, now_ms};
use crate::session::ways::Way;

/// Lines that are remembered; older ones are in the log file.
const LINES_MAX: usize = 50;
/// Characters of a line that are remembered.
const LINE_CHARS_MAX: usize = 500;

/// What a session knows of itself beside its view.
#[derive(Debug, Default)]
pub(super) struct Moment {
    log: Mutex<VecDeque<LogLine>>,
    /// Until when the sandbox is promised, milliseconds since 1970; 0: nobody has.
    lease_ms: AtomicU64,
}

impl Moment {
    /// A person is told this.
    pub(super) fn log(&self, text: &str) {
        let text = text.chars().take(LINE_CHARS_MAX).collect();
        // Each change leaves it whole.
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == LINES_MAX {
            log.pop_front();
        }
        log.push_back(LogLine { at_ms: now_ms(), text });
    }

    /// The provider keeps the sandbox for so long; nothing: there is no such promise.
    pub(super) fn promised(&self, time: Option<Duration>) {
        let until = time.map_or(0, |time| {
            now_ms().saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
        });
        self.lease_ms.store(until, Ordering::Relaxed);
    }
}

impl Session {
    /// What the session is and does, as of now, with what a person was told.
    pub(super) fn told(&self) -> StatusReply {
        let mut reply = self.view.borrow().reply.clone();
        self.measured(&mut reply);
        let log = self.moment.log.lock().unwrap_or_else(PoisonError::into_inner);
        reply.log = log.iter().cloned().collect();
        reply
    }

    /// Adds how things are at this moment.
    pub(super) fn measured(&self, reply: &mut StatusReply) {
        let way = self.ways.now();
        self.mounts.measure(&mut reply.mounts, matches!(way, Way::Lost(_)));
        match way {
            Way::Open(open) => {
                let time = open.0.round_trip().unwrap_or_default();
                reply.round_trip_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            }
            Way::Lost(outage) => {
                let left = outage.retry_at.map(|at| {
                    at.saturating_duration_since(tokio::time::Instant::now()).as_millis()
                });
                reply.retry_ms = left.map_or(0, |left| now_ms() + u64::try_from(left).unwrap_or(0));
            }
            Way::None | Way::Gone(_) => {}
        }
        reply.lease_ms = self.moment.lease_ms.load(Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_remembered_and_no_line_without_end() {
        let moment = Moment::default();
        for number in 0..60 {
            moment.log(&format!("{number}"));
        }
        moment.log(&"x".repeat(10_000));
        let log = moment.log.lock().expect("whole");
        assert_eq!((log.len(), log[0].text.as_str()), (LINES_MAX, "11"));
        assert_eq!(log[LINES_MAX - 1].text.len(), LINE_CHARS_MAX);
    }

    #[test]
    fn a_promise_is_told_as_a_time_and_its_lack_as_none() {
        let moment = Moment::default();
        moment.promised(Some(Duration::from_secs(60)));
        assert!(moment.lease_ms.load(Ordering::Relaxed) > now_ms());
        moment.promised(None);
        assert_eq!(moment.lease_ms.load(Ordering::Relaxed), 0);
    }
}
