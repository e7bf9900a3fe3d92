//! The sandbox's time at its provider, where it has one: moved on as long as the session lives.
//!
//! How long it is decides what a session that vanishes leaves behind. While nothing runs and all is
//! at home a minute is enough; a command, or what is in the sandbox alone, is worth as long as a lost
//! link is dialled. A provider that does not accept our key any more ends nothing: the link, commands
//! and files do not need it, and a person is told how long that holds.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Profile;
use crate::driver::{ErrorKind, Sandbox};
use crate::session::server::{Duty, Session};
use crate::session::ways::Way;

/// While nothing runs in the sandbox and nothing is in it alone (`design.md` §9).
const IDLE: Duration = Duration::from_secs(60);
/// After a failure.
const RETRY: Duration = Duration::from_secs(15);

/// How long the sandbox is to outlive the session, as things are.
fn wanted(profile: &Profile, duty: Duty) -> Duration {
    match profile.timeout() {
        Some(time) => time,
        None if duty.busy || duty.mounted || duty.unsynced => profile.outlives(),
        None => IDLE,
    }
}

/// What is known of the sandbox's time.
struct Lease {
    sandbox: Option<Sandbox>,
    /// Until when the provider has promised to keep it.
    until: Instant,
    /// How long it is to outlive the session.
    time: Duration,
    is_failing: bool,
}

impl Lease {
    fn look(&mut self, way: &Way, is_news: bool, time: Duration) {
        match way {
            // Whoever opened a link anew does not know what became of the time meanwhile.
            Way::Open(open) if is_news || self.sandbox.is_none() => {
                self.sandbox = Some(open.1.clone());
                self.until = Instant::now();
            }
            Way::None | Way::Gone(_) => self.sandbox = None,
            Way::Open(_) | Way::Lost(_) => {}
        }
        if std::mem::replace(&mut self.time, time) > time {
            // What is promised now is longer than what the sandbox is to outlive us.
            self.until = Instant::now();
        }
    }

    /// When it is to be renewed; nothing without a sandbox.
    fn due(&self) -> Option<Instant> {
        self.sandbox.as_ref()?;
        Some(self.until.checked_sub(self.time.mul_f32(2.0 / 3.0)).unwrap_or(self.until))
    }

    /// Renews it; false if its driver needs no such thing.
    async fn renew(&mut self, session: &Session) -> bool {
        let Some(sandbox) = &self.sandbox else { return true };
        let error = match session.driver.renew(sandbox, self.time).await {
            Ok(None) => return false,
            Ok(Some(promised)) => {
                self.until = Instant::now() + promised;
                session.moment.promised(Some(promised));
                if std::mem::take(&mut self.is_failing) {
                    session.tell("the sandbox's time is renewed again".to_owned());
                }
                return true;
            }
            Err(error) => error,
        };
        // Whoever dials one that is gone finds out.
        if error.kind != ErrorKind::Gone && !std::mem::replace(&mut self.is_failing, true) {
            let left = self.until.saturating_duration_since(Instant::now()).as_secs();
            let hints = error.hints.join("; ");
            session.tell(format!(
                "warning: the sandbox's time is not renewed: {error}; commands and files go on, and \
                 it ends in about {left} s unless that changes ({hints})"
            ));
        }
        true
    }
}

/// Renews the time of whatever sandbox there is until the session ends.
pub(super) async fn run(session: Arc<Session>) {
    let (mut ways, mut duties) = (session.ways.subscribe(), session.duty.subscribe());
    let (until, time) = (Instant::now(), Duration::ZERO);
    let mut lease = Lease { sandbox: None, until, time, is_failing: false };
    // After a failure, when to try again.
    let mut retry: Option<Instant> = None;
    loop {
        let duty = *duties.borrow_and_update();
        if duty.ending {
            return;
        }
        let is_news = ways.has_changed().unwrap_or(false);
        lease.look(&ways.borrow_and_update(), is_news, wanted(session.profile(), duty));
        if lease.sandbox.is_none() {
            session.moment.promised(None);
        }
        let due = lease.due().map(|due| retry.map_or(due, |retry| retry.max(due)));
        if due.is_some_and(|due| due <= Instant::now()) {
            if !lease.renew(&session).await {
                return;
            }
            retry =
                lease.due().filter(|due| *due <= Instant::now()).map(|_| Instant::now() + RETRY);
            continue;
        }
        let is_due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = is_due => {}
            changed = ways.changed() => if changed.is_err() { return },
            changed = duties.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DriverConfig, E2bConfig};

    #[test]
    fn what_runs_or_is_not_at_home_is_worth_more_than_a_minute() {
        let mut profile = Profile::new("dev", DriverConfig::E2b(E2bConfig::default()));
        let idle = Duty::default();
        let (busy, kept) = (Duty { busy: true, ..idle }, Duty { unsynced: true, ..idle });
        let of = |profile: &Profile| [idle, busy, kept].map(|duty| wanted(profile, duty).as_secs());
        assert_eq!(of(&profile), [60, 600, 600]);
        profile.reconnect_timeout = Some(Duration::from_secs(120));
        assert_eq!(of(&profile), [60, 120, 120]);
        let timeout = Some(Duration::from_secs(7200));
        profile.driver = DriverConfig::E2b(E2bConfig { timeout, ..E2bConfig::default() });
        assert_eq!(of(&profile), [7200, 7200, 7200]);
    }
}
