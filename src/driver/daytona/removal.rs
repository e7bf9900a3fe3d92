//! Removing a sandbox, and being sure that it is gone.

use std::time::Duration;

use tokio::time::Instant;

use super::api::{ASK_PATIENCE, Api};
use super::model::{Sandbox, State};
use crate::driver::{DriverError, ErrorKind, label};

/// How long Daytona may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks, at first and at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Removes a sandbox of a session, and no other; returns when it is gone.
pub(super) async fn remove(
    api: Api<'_>,
    id: &str,
    name: &str,
    session: Option<&str>,
) -> Result<(), DriverError> {
    let Some(found) = api.sandbox(id, ASK_PATIENCE).await? else { return Ok(()) };
    if found.label(label::VERSION).is_none() || found.label(label::SESSION) != session {
        let message = format!("the sandbox `{name}` does not carry our labels");
        return Err(DriverError::new(ErrorKind::Denied, message)
            .hint("it was not made by skync, and is not removed by it"));
    }
    let doing = format!("remove the sandbox `{name}`");
    let deadline = Instant::now() + PATIENCE;
    let mut interval = LOOK_INTERVAL;
    let mut now = Some(found);
    while let Some(found) = &now
        && !is_going(found)
    {
        if api.delete(&doing, &found.id).await? {
            break;
        }
        // It is on its way from one state to another, and cannot be deleted until it is there.
        if Instant::now() >= deadline {
            let message = format!("cannot {doing}: Daytona says that its state is changing");
            return Err(
                DriverError::new(ErrorKind::Failed, message).hint("run `skync gc` in some minutes")
            );
        }
        wait(&mut interval).await;
        now = api.sandbox(&found.id, ASK_PATIENCE).await?;
    }
    wait_until_gone(api, id, name).await
}

/// Waits for a sandbox that is being destroyed.
pub(super) async fn wait_until_gone(api: Api<'_>, id: &str, name: &str) -> Result<(), DriverError> {
    let deadline = Instant::now() + PATIENCE;
    let mut interval = LOOK_INTERVAL;
    loop {
        match api.sandbox(id, ASK_PATIENCE).await? {
            None => return Ok(()),
            Some(found) if found.state() == State::Destroyed => return Ok(()),
            Some(found) if Instant::now() >= deadline => {
                let reason = found.reason().map(|reason| format!(" ({reason})"));
                let message = format!(
                    "the sandbox `{name}` is still there after {} s{}",
                    PATIENCE.as_secs(),
                    reason.unwrap_or_default()
                );
                return Err(DriverError::new(ErrorKind::Failed, message)
                    .hint("run `skync gc`, or delete it in Daytona's dashboard"));
            }
            Some(_) => wait(&mut interval).await,
        }
    }
}

fn is_going(sandbox: &Sandbox) -> bool {
    matches!(sandbox.state(), State::Destroying | State::Destroyed)
}

async fn wait(interval: &mut Duration) {
    tokio::time::sleep(*interval).await;
    *interval = interval.mul_f64(1.1).min(LOOK_INTERVAL_MAX);
}
