//! What a person is told while the way to the command is broken: nothing at first, then one line
//! that changes, or off a terminal one line for the loss and one for the end of it. Pure: the
//! present is an argument.

use std::time::{Duration, Instant};

/// What is over sooner is not worth a word.
const QUIET: Duration = Duration::from_secs(2);
/// How often the line changes.
const TICK: Duration = Duration::from_millis(200);
/// Off a terminal one loss in this time is told: a link that flutters must not fill a log.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The link between the session and the sandbox.
    Link,
    /// The session itself is gone.
    Session,
}

/// How to tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// On the line that changes in place.
    Shown(String),
    /// That line is to vanish.
    Cleared,
    /// In a line that stays.
    Line(String),
}

#[derive(Debug)]
struct Loss {
    what: Broken,
    since: Instant,
    retry: Instant,
    why: String,
    told: bool,
}

/// What was told, and what is to be told next.
#[derive(Debug)]
pub(super) struct LinkTalk {
    is_live: bool,
    /// `~.` is a way out.
    has_escapes: bool,
    loss: Option<Loss>,
    told: Option<Instant>,
}

impl LinkTalk {
    pub(super) fn new(is_live: bool) -> Self {
        Self { is_live, has_escapes: false, loss: None, told: None }
    }

    /// From now on a person can type `~.`.
    pub(super) fn has_escapes(&mut self, has_escapes: bool) {
        self.has_escapes = has_escapes;
    }

    /// It is broken for so long, and tried again after that time.
    pub(super) fn lost(
        &mut self,
        what: Broken,
        for_so_long: Duration,
        retry: Duration,
        why: &str,
        now: Instant,
    ) {
        let since = now.checked_sub(for_so_long).unwrap_or(now);
        let retry = now + retry;
        match &mut self.loss {
            // A session that takes over has a link of its own to open: for a person it is one loss.
            Some(loss) => {
                (loss.what, loss.retry) = (what, retry);
                loss.since = loss.since.min(since);
                why.clone_into(&mut loss.why);
            }
            None => self.loss = Some(Loss { what, since, retry, why: why.to_owned(), told: false }),
        }
    }

    /// It is whole again.
    pub(super) fn found(&mut self, now: Instant) -> Option<Told> {
        let loss = self.loss.take().filter(|loss| loss.told)?;
        if self.is_live {
            return Some(Told::Cleared);
        }
        let after = seconds(now.duration_since(loss.since));
        Some(Told::Line(match loss.what {
            Broken::Link => format!("link is open again after {after}, nothing is lost"),
            Broken::Session => format!("joined its successor after {after}, nothing is lost"),
        }))
    }

    /// For how long it has been broken.
    pub(super) fn lost_for(&self, now: Instant) -> Option<Duration> {
        self.loss.as_ref().map(|loss| now.duration_since(loss.since))
    }

    /// When [`LinkTalk::tick`] has something to say.
    pub(super) fn next_tick(&self, now: Instant) -> Option<Instant> {
        let loss = self.loss.as_ref()?;
        let first = loss.since + QUIET;
        if self.is_live {
            return Some(if loss.told { now + TICK } else { first });
        }
        let earliest = self.told.map_or(first, |told| first.max(told + PLAIN_INTERVAL));
        (!loss.told).then_some(earliest)
    }

    /// What to tell now.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Told> {
        let loss = self.loss.as_mut()?;
        let is_early = now.duration_since(loss.since) < QUIET;
        let is_again = !self.is_live && self.told.is_some_and(|told| now < told + PLAIN_INTERVAL);
        if is_early || is_again || (loss.told && !self.is_live) {
            return None;
        }
        loss.told = true;
        self.told = Some(now);
        let lost = seconds(now.duration_since(loss.since));
        if !self.is_live {
            return Some(Told::Line(match (loss.what, loss.why.as_str()) {
                (Broken::Session, _) => "the session ended; joining its successor".to_owned(),
                (Broken::Link, "") => format!("link lost {lost}, command still running"),
                (Broken::Link, why) => format!("link lost {lost} ({why}), command still running"),
            }));
        }
        let retry = match loss.retry.saturating_duration_since(now).as_millis() {
            0 => "trying now".to_owned(),
            ms => format!("retry in {}.{} s", ms / 1000, ms / 100 % 10),
        };
        let mut text = match loss.what {
            Broken::Link => format!("link lost {lost}, command still running, {retry}"),
            Broken::Session => {
                format!("the session ended {lost} ago; joining its successor, {retry}")
            }
        };
        if self.has_escapes {
            text += ", Enter ~. detaches";
        }
        Some(Told::Shown(text))
    }
}

/// A time as a person reads it: `7 s`, `12 min`, `3 h`.
pub(in crate::commands) fn seconds(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<Told> {
        Some(Told::Shown(text.to_owned()))
    }

    fn line(text: &str) -> Option<Told> {
        Some(Told::Line(text.to_owned()))
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_person_at_a_terminal_sees_one_line_that_changes() {
        let start = Instant::now();
        let mut talk = LinkTalk::new(true);
        talk.has_escapes(true);
        assert_eq!(talk.next_tick(start), None);
        talk.lost(Broken::Link, s(0), s(0), "", start);
        assert_eq!(talk.next_tick(start), Some(start + s(2)));
        assert_eq!(talk.tick(start + s(1)), None);
        talk.lost(Broken::Link, s(5), Duration::from_millis(3_800), "", start + s(5));
        let expected = "link lost 7 s, command still running, retry in 1.8 s, Enter ~. detaches";
        assert_eq!(talk.tick(start + s(7)), shown(expected));
        let expected = "link lost 9 s, command still running, trying now, Enter ~. detaches";
        assert_eq!(talk.tick(start + s(9)), shown(expected));
        assert_eq!(talk.found(start + s(10)), Some(Told::Cleared));
        assert_eq!(talk.next_tick(start + s(10)), None);
    }

    #[test]
    fn a_short_loss_is_not_told() {
        let start = Instant::now();
        for is_live in [true, false] {
            let mut talk = LinkTalk::new(is_live);
            talk.lost(Broken::Link, s(0), s(0), "", start);
            assert_eq!(talk.tick(start + Duration::from_millis(1_999)), None);
            assert_eq!(talk.found(start + Duration::from_millis(1_999)), None);
        }
    }

    #[test]
    fn off_a_terminal_there_is_one_line_for_the_loss_and_one_for_its_end() {
        let start = Instant::now();
        let mut talk = LinkTalk::new(false);
        talk.lost(Broken::Link, s(0), s(1), "no route", start);
        let expected = "link lost 2 s (no route), command still running";
        assert_eq!(talk.tick(start + s(2)), line(expected));
        assert_eq!(talk.tick(start + s(60)), None);
        assert_eq!(talk.next_tick(start + s(60)), None);
        let expected = "link is open again after 31 s, nothing is lost";
        assert_eq!(talk.found(start + s(31)), line(expected));
        // Soon after, another one: not a word, unless it lasts.
        talk.lost(Broken::Link, s(0), s(1), "", start + s(10));
        assert_eq!(talk.tick(start + s(13)), None);
        assert_eq!(talk.next_tick(start + s(13)), Some(start + s(32)));
        assert_eq!(talk.tick(start + s(32)), line("link lost 22 s, command still running"));
    }

    #[test]
    fn a_session_that_is_gone_and_the_link_of_its_successor_are_one_loss() {
        let start = Instant::now();
        let mut talk = LinkTalk::new(false);
        talk.lost(Broken::Session, s(0), s(0), "", start);
        assert_eq!(talk.tick(start + s(3)), line("the session ended; joining its successor"));
        talk.lost(Broken::Link, s(1), s(0), "", start + s(5));
        assert_eq!(talk.lost_for(start + s(6)), Some(s(6)));
        let expected = "link is open again after 8 s, nothing is lost";
        assert_eq!(talk.found(start + s(8)), line(expected));
    }
}
