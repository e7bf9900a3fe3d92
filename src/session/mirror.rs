//! The mirror: as long as there is an `up`, whatever changes is carried over; and a link that ends
//! is mended, with or without an `up`. A sandbox that is gone is made anew for an `up` or a mount.
//!
//! It is one task for the session's whole life, because what it must notice (a link's end under a
//! sandbox that is kept) does not depend on whether anybody mirrors. It waits without the lock on
//! the sandbox, and no error ends it. Idle, it waits for a change and nothing else: there is no
//! timer but after a failure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::backoff::{self, chance};
use crate::error::CliError;
use crate::session::lifecycle::Mirror;
use crate::session::sandbox::{Condition, How};
use crate::session::server::{Duty, Session};
use crate::session::view::Activity;
use crate::sync::inbox::Inbox;

/// A full disk is tried again this often: room comes back when a person makes some.
const FULL_INTERVAL: Duration = Duration::from_secs(5);
/// What was halted is looked at again no sooner: the root may be back.
const HALTED_INTERVAL: Duration = Duration::from_secs(5);
/// The first wait after a failure; each further one is twice as long, less up to a half by chance …
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// … up to this, for about two minutes …
const BACKOFF_SOON_MAX: Duration = Duration::from_secs(5);
const SOON_MAX: u32 = 30;
/// … and then up to this: soon enough for a person who has just started an engine again.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Mirrors until the session ends.
pub(super) async fn run(session: Arc<Session>) {
    let mut duties = session.duty.subscribe();
    let mut ways = session.ways.subscribe();
    // Failures in a row.
    let mut failures = 0;
    loop {
        let duty = *duties.borrow_and_update();
        ways.mark_unchanged();
        if duty.ending {
            return;
        }
        let done = match session.condition().await {
            Condition::Whole { inbox, link } => {
                let due = due(&session, duty, &inbox, failures);
                tokio::select! {
                    biased;
                    _ = duties.changed() => continue,
                    () = link.closed() => Ok(()),
                    due = due => carry(&session, due).await,
                }
            }
            condition @ (Condition::Broken | Condition::Missing) => {
                let is_missing = matches!(condition, Condition::Missing);
                let Some(repair) = needed(duty, is_missing) else {
                    // A command has been counted before its sandbox is there: the link that is then
                    // opened is to be looked after too.
                    tokio::select! {
                        changed = duties.changed() => if changed.is_err() {
                            return;
                        },
                        _ = ways.changed() => {}
                    }
                    continue;
                };
                if !after(&session, &mut duties, failures).await {
                    continue;
                }
                carry_out(&session, repair).await
            }
        };
        failures = match &done {
            Ok(()) => 0,
            Err(error) => {
                tracing::warn!(%error, failures, "the mirror will try again");
                failures + 1
            }
        };
    }
}

/// What is to be done about a sandbox that is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repair {
    /// Nobody uses it: what is in it comes home, and all may end.
    BringHome,
    /// It is made if it is not there, and mended otherwise.
    Make,
    /// Its link is opened again; one that is gone is given up.
    Mend,
}

/// What is needed; nothing if nobody needs the sandbox.
fn needed(duty: Duty, is_missing: bool) -> Option<Repair> {
    match (duty.mirror, is_missing) {
        (Mirror::On, _) => Some(Repair::Make),
        (Mirror::Off, false) if duty.kept => Some(Repair::BringHome),
        // Whoever is in a mount finds the project again.
        (Mirror::Off, true) if duty.mounted => Some(Repair::Make),
        (Mirror::Off, false) if duty.busy || duty.mounted => Some(Repair::Mend),
        (Mirror::Paused, false) => Some(Repair::Mend),
        (Mirror::Off | Mirror::Paused, _) => None,
    }
}

async fn carry_out(session: &Session, repair: Repair) -> Result<(), CliError> {
    match repair {
        Repair::BringHome => {
            if session.bring_home().await? {
                session.end();
            }
            Ok(())
        }
        Repair::Make => make(session).await,
        Repair::Mend => session.mend_only().await,
    }
}

/// What is to be done, once it is time.
enum Due {
    /// This was seen to change at that time.
    Change(Instant),
    /// It failed before: what was seen then may be lost.
    Again,
}

/// Returns when there is something to carry over, and it is time to; perhaps never.
async fn due(session: &Session, duty: Duty, inbox: &Inbox, failures: u32) -> Due {
    if duty.mirror != Mirror::On {
        return std::future::pending().await;
    }
    let mut views = session.view.subscribe();
    loop {
        let activity = views.borrow_and_update().activity().clone();
        let wait = match activity {
            Activity::Starting | Activity::Settled => {
                inbox.changed().await;
                return Due::Change(Instant::now());
            }
            Activity::Full(_) => FULL_INTERVAL,
            Activity::Halted(_) => HALTED_INTERVAL,
            Activity::Failed(_) | Activity::Reconnecting(_) => backoff(failures, chance()),
        };
        let again = async {
            tokio::time::sleep(wait).await;
            if matches!(activity, Activity::Halted(_)) {
                // Each look is at everything, so that the halt also ends when its reason has; but
                // without a change it would only find the same.
                inbox.changed().await;
            }
        };
        tokio::select! {
            () = again => return Due::Again,
            // A command, or a person's word, has seen to it.
            _ = views.wait_for(|view| *view.activity() != activity) => {}
        }
    }
}

async fn carry(session: &Session, due: Due) -> Result<(), CliError> {
    match due {
        Due::Change(seen) => session.step(seen).await.map(|_| ()),
        Due::Again => session.again().await,
    }
}

/// Makes a sandbox, or mends the one there is, and synchronises it.
async fn make(session: &Session) -> Result<(), CliError> {
    if let Err(error) = session.ensure_live_shown(None).await {
        // Whoever looks should know that it is tried, and what is in the way.
        session.show(|view| view.act(Activity::Reconnecting(error.to_string())));
        return Err(error);
    }
    if session.life(|life| life.mirror()) == Mirror::On {
        return session.again().await;
    }
    // Whoever is in a mount finds the project again, as it is now.
    session.synchronise(None, How::Whole).await.map(|_| ())
}

/// Waits as long as so many failures ask for; false if the duty changed meanwhile.
async fn after(session: &Session, duties: &mut watch::Receiver<Duty>, failures: u32) -> bool {
    if failures == 0 {
        return true;
    }
    let until = tokio::time::Instant::now() + backoff(failures, chance());
    session.ways.retry_at(Some(until));
    let due = tokio::select! {
        _ = duties.changed() => false,
        () = tokio::time::sleep_until(until) => true,
    };
    session.ways.retry_at(None);
    due
}

/// How long to wait after so many failures in a row, at least one; `chance` is between 0 and 1.
/// Several who wait for the same must not all come at the same time.
fn backoff(failures: u32, chance: f64) -> Duration {
    let max = if failures < SOON_MAX { BACKOFF_SOON_MAX } else { BACKOFF_MAX };
    backoff::wait(BACKOFF_MIN, max, failures.saturating_sub(1), chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_made_or_mended_for_whoever_needs_it() {
        let of = |mirror, kept, busy, mounted| {
            let duty = Duty { mirror, kept, busy, mounted, ..Duty::default() };
            [false, true].map(|is_missing| needed(duty, is_missing))
        };
        let (make, mend) = (Some(Repair::Make), Some(Repair::Mend));
        assert_eq!(of(Mirror::On, false, false, false), [make, make]);
        assert_eq!(of(Mirror::Paused, true, true, true), [mend, None]);
        assert_eq!(of(Mirror::Off, false, false, false), [None, None]);
        assert_eq!(of(Mirror::Off, false, true, false), [mend, None]);
        assert_eq!(of(Mirror::Off, false, false, true), [mend, make]);
        assert_eq!(of(Mirror::Off, true, false, true), [Some(Repair::BringHome), make]);
    }

    #[test]
    fn waits_double_up_to_five_seconds_and_after_two_minutes_to_half_a_minute() {
        let millis = |failures| backoff(failures, 0.0).as_millis();
        assert_eq!([1, 2, 3, 4, 5, 6, 29].map(millis), [250, 500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!([30, u32::MAX].map(millis), [30_000, 30_000]);
        assert_eq!(backoff(6, 1.0), BACKOFF_SOON_MAX / 2);
    }
}
