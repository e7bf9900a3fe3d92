//! A provider gives a new sandbox minutes, and the session moves its time on only once it is in use: while
//! it is being prepared, this does.

use std::convert::Infallible;
use std::time::Duration;

use crate::driver::{Driver, ErrorKind, Sandbox};
use crate::session::setup::show::Show;

/// When it is moved on first: a third of the shortest time that any driver gives a new sandbox.
const FIRST: Duration = Duration::from_secs(20);
/// After a failure.
const RETRY: Duration = Duration::from_secs(15);

/// Moves the sandbox's time on for as long as this is waited for, each time by `time`; it never ends.
pub(super) async fn hold(
    driver: &dyn Driver,
    sandbox: &Sandbox,
    time: Duration,
    show: &Show,
) -> Infallible {
    let (mut next, mut is_failing) = (FIRST, false);
    loop {
        tokio::time::sleep(next).await;
        next = match driver.renew(sandbox, time).await {
            Ok(None) => std::future::pending().await,
            Ok(Some(promised)) => {
                is_failing = false;
                promised / 3
            }
            // Whoever follows the command finds out that it is gone.
            Err(error) => {
                if error.kind != ErrorKind::Gone && !std::mem::replace(&mut is_failing, true) {
                    let what = "warning: the sandbox's time is not renewed while it is prepared";
                    show.note(format!("{what}: {error}"));
                }
                RETRY
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use tokio::time::Instant;

    use super::*;
    use crate::driver::{
        AgentSource, ByteStream, DriverError, LinkSecret, Progress, SandboxSpec, SandboxState,
    };

    /// A provider of whom only the sandbox's time is asked.
    struct Provider {
        until: Mutex<Instant>,
        asked: Mutex<u32>,
    }

    #[async_trait]
    impl Driver for Provider {
        async fn renew(
            &self,
            _: &Sandbox,
            time: Duration,
        ) -> Result<Option<Duration>, DriverError> {
            let mut until = self.until.lock().expect("no panic");
            assert!(*until > Instant::now(), "it has ended");
            let mut asked = self.asked.lock().expect("no panic");
            *asked += 1;
            // One answer in between is lost.
            if *asked == 2 {
                return Err(DriverError::new(ErrorKind::Unreachable, "no answer"));
            }
            *until = Instant::now() + time;
            Ok(Some(time))
        }

        async fn validate(&self) -> Vec<DriverError> {
            unreachable!()
        }

        async fn create(
            &self,
            _: &SandboxSpec,
            _: &LinkSecret,
            _: &dyn AgentSource,
            _: &(dyn Fn(Progress) + Send + Sync),
        ) -> Result<Sandbox, DriverError> {
            unreachable!()
        }

        async fn dial(&self, _: &Sandbox, _: Duration) -> Result<Box<dyn ByteStream>, DriverError> {
            unreachable!()
        }

        async fn adopt(&self, _: &Sandbox, _: &SandboxSpec) -> Result<(), DriverError> {
            unreachable!()
        }

        async fn state(&self, _: &Sandbox) -> Result<SandboxState, DriverError> {
            unreachable!()
        }

        async fn remove(&self, _: &Sandbox) -> Result<(), DriverError> {
            unreachable!()
        }

        async fn find(&self, _: &BTreeMap<String, String>) -> Result<Vec<Sandbox>, DriverError> {
            unreachable!()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sandbox_outlives_a_preparation_of_an_hour() {
        let until = Mutex::new(Instant::now() + Duration::from_secs(60));
        let provider = Provider { until, asked: Mutex::new(0) };
        let sandbox = Sandbox {
            id: "x".to_owned(),
            name: "x".to_owned(),
            root: "/p".into(),
            ephemeral: true,
            labels: BTreeMap::new(),
        };
        let show = Show::default();
        let held = hold(&provider, &sandbox, Duration::from_secs(60), &show);
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, held).await.is_err());
        assert!(*provider.until.lock().expect("no panic") > Instant::now());
        assert!(*provider.asked.lock().expect("no panic") < 200);
    }
}
