//! When a link that says nothing is dead: a pure decision, with the time as an argument.
//!
//! HTTP/2's own keep-alive is not used, because three things must be told apart that look the same
//! to it: a link that is dead, a machine that slept (drop the link and dial at once, whatever
//! its sockets still say), and a process of ours that did not get to run (which proves nothing
//! about the link, as VS Code found; `reference/exec.md` §3).

use std::time::Duration;

/// How often a quiet link is asked whether it is alive …
const INTERVAL: Duration = Duration::from_secs(5);
/// … and while a person sits at a terminal of it.
const INTERVAL_OF_PERSON: Duration = Duration::from_secs(2);
/// It is dead when nothing has been heard for so many intervals: 15 s, or 6 s with a person.
const INTERVALS_MAX: u32 = 3;
/// The two clocks differ by less unless the machine slept.
const SLEEP_MIN: Duration = Duration::from_secs(3);
/// Woken later than this after the time that was asked for, we did not get to run.
const STALL_MIN: Duration = Duration::from_secs(2);

/// What two clocks of the kernel say, each since the link was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// Time in which the machine ran.
    pub running: Duration,
    /// The same, and time in which it slept.
    pub passed: Duration,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Nothing before this time of [`Clocks::running`].
    Wait(Duration),
    /// Ask whether the other end is there, then as [`Beat::Wait`].
    Ask(Duration),
    /// Give the link up.
    Dead(Death),
}

/// Why a link is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Nothing was heard for too long.
    Silent,
    /// The machine slept: whatever was open may not be any more.
    Slept,
}

/// The heartbeat of one link.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heartbeat {
    /// When it was last looked at.
    last: Clocks,
    /// When it was to be looked at again.
    due: Duration,
    /// What is heard before this does not count: we did not get to run.
    excused: Duration,
    asked: Option<Duration>,
}

impl Heartbeat {
    /// Decides by the time and by when something was last heard, both of [`Clocks::running`].
    pub fn poll(&mut self, now: Clocks, heard: Duration, person: bool) -> Beat {
        let interval = if person { INTERVAL_OF_PERSON } else { INTERVAL };
        let slept = (now.passed - self.last.passed).saturating_sub(now.running - self.last.running);
        if slept >= SLEEP_MIN {
            return Beat::Dead(Death::Slept);
        }
        if self.due > Duration::ZERO && now.running > self.due + STALL_MIN {
            self.excused = now.running;
        }
        self.last = now;
        let heard = heard.max(self.excused);
        if now.running >= heard + interval * INTERVALS_MAX {
            return Beat::Dead(Death::Silent);
        }
        let ask_at = match self.asked.filter(|asked| *asked >= heard) {
            // Once for each interval of silence.
            Some(asked) => asked + interval,
            None => heard + interval,
        };
        if now.running < ask_at {
            self.due = ask_at;
            return Beat::Wait(ask_at);
        }
        self.asked = Some(now.running);
        self.due = now.running + interval;
        Beat::Ask(self.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(seconds: u64) -> Clocks {
        Clocks { running: s(seconds), passed: s(seconds) }
    }

    #[test]
    fn a_link_that_is_heard_of_is_never_asked() {
        let mut heartbeat = Heartbeat::default();
        for second in 1..100 {
            let beat = heartbeat.poll(at(second), s(second), false);
            assert_eq!(beat, Beat::Wait(s(second + 5)));
        }
    }

    #[test]
    fn silence_is_asked_about_and_ends_after_three_intervals() {
        for (person, step) in [(false, 5), (true, 2)] {
            let mut heartbeat = Heartbeat::default();
            let mut beat = |time| heartbeat.poll(at(time), s(0), person);
            assert_eq!(beat(0), Beat::Wait(s(step)));
            assert_eq!(beat(step), Beat::Ask(s(2 * step)));
            assert_eq!(beat(2 * step), Beat::Ask(s(3 * step)));
            assert_eq!(beat(3 * step), Beat::Dead(Death::Silent));
        }
    }

    #[test]
    fn an_answer_starts_the_count_anew() {
        let mut heartbeat = Heartbeat::default();
        assert_eq!(heartbeat.poll(at(5), s(0), false), Beat::Ask(s(10)));
        assert_eq!(heartbeat.poll(at(10), s(6), false), Beat::Wait(s(11)));
        assert_eq!(heartbeat.poll(at(11), s(6), false), Beat::Ask(s(16)));
    }

    #[test]
    fn a_machine_that_slept_dials_again_at_once() {
        let mut heartbeat = Heartbeat::default();
        heartbeat.poll(at(1), s(1), false);
        let awake = Clocks { running: s(2), passed: s(1802) };
        assert_eq!(heartbeat.poll(awake, s(2), false), Beat::Dead(Death::Slept));
    }

    #[test]
    fn a_process_that_did_not_run_blames_itself() {
        let mut heartbeat = Heartbeat::default();
        assert_eq!(heartbeat.poll(at(0), s(0), false), Beat::Wait(s(5)));
        // Nothing could be heard in 60 s, because nobody listened.
        assert_eq!(heartbeat.poll(at(60), s(0), false), Beat::Wait(s(65)));
        assert_eq!(heartbeat.poll(at(65), s(0), false), Beat::Ask(s(70)));
    }
}
