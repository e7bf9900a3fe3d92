//! What the state of a sandbox means for the one that is in use.
//!
//! Ours are ephemeral: one that Daytona stops it destroys, with all that is in it, so a stopped one
//! is as good as gone. What can be started again are an agent that has died in a sandbox that runs,
//! a sandbox that somebody has paused, and one in an error that Daytona can recover.

use super::api::{ASK_PATIENCE, Api};
use super::model::{Sandbox, State};
use super::shell::Probed;
use super::toolbox::Toolbox;
use crate::driver::{DriverError, SandboxState};

/// How long a look at the agent may take.
const PROBE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// How a sandbox is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It runs.
    Up,
    /// It will run in a moment.
    Rising,
    /// It does not run, and may again.
    Down(String),
    /// It is gone, or will be in a moment.
    Gone,
}

impl Condition {
    pub(super) fn of(sandbox: &Sandbox) -> Self {
        let ephemeral = sandbox.is_ephemeral();
        let down = |what: &str| match sandbox.reason() {
            Some(reason) => Self::Down(format!("{what}: {reason}")),
            None => Self::Down(what.to_owned()),
        };
        match sandbox.state() {
            State::Started | State::Resizing | State::Snapshotting | State::Forking => Self::Up,
            State::PendingBuild
            | State::BuildingSnapshot
            | State::PullingSnapshot
            | State::Creating
            | State::Restoring
            | State::Starting
            | State::Resuming
            | State::Unknown => Self::Rising,
            State::Stopping | State::Stopped if ephemeral => Self::Gone,
            State::Stopping | State::Stopped => down("Daytona has stopped it"),
            State::Pausing | State::Paused => down("it is paused"),
            State::Archiving | State::Archived => down("it is archived"),
            State::Error => down("Daytona has an error with it"),
            State::BuildFailed => down("its image could not be built"),
            State::Destroying | State::Destroyed => Self::Gone,
        }
    }
}

/// How a sandbox of a session is, and its agent in it.
///
/// # Errors
/// If Daytona cannot be asked.
pub(super) async fn state(
    api: Api<'_>,
    id: &str,
    session: &str,
) -> Result<SandboxState, DriverError> {
    let Some(found) = api.sandbox(id, ASK_PATIENCE).await? else { return Ok(SandboxState::Gone) };
    match Condition::of(&found) {
        Condition::Gone => Ok(SandboxState::Gone),
        Condition::Down(reason) => {
            let lower = reason.to_lowercase();
            let out_of_memory = lower.contains("out of memory") || lower.contains("oom");
            Ok(SandboxState::Stopped { reason, out_of_memory })
        }
        Condition::Rising => Ok(SandboxState::Running),
        Condition::Up => {
            let Some(url) = found.toolbox() else { return Ok(SandboxState::Running) };
            match Toolbox::new(api, url).probe(session, PROBE_PATIENCE).await {
                Ok(Probed::Alive { .. }) => Ok(SandboxState::Running),
                Ok(Probed::Dead { reason, out_of_memory }) => {
                    Ok(SandboxState::Stopped { reason, out_of_memory })
                }
                Err(error) if error.is_refusal() => Err(error),
                // The state is all that is known: Daytona's own program may have been killed.
                Err(error) => {
                    tracing::debug!(%error, "the agent cannot be looked for");
                    Ok(SandboxState::Running)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_sandbox_is_gone_only_if_daytona_destroys_it() {
        let of = |text: &str| Condition::of(&serde_json::from_str(text).expect("a sandbox"));
        assert_eq!(of(r#"{"id":"i","state":"started"}"#), Condition::Up);
        assert_eq!(of(r#"{"id":"i","state":"stopped","autoDeleteInterval":0}"#), Condition::Gone);
        let down = |text: &str| Condition::Down(text.to_owned());
        let stopped = r#"{"id":"i","state":"stopped","autoDeleteInterval":-1}"#;
        assert_eq!(of(stopped), down("Daytona has stopped it"));
        let error = r#"{"id":"i","state":"error","errorReason":"disk full"}"#;
        assert_eq!(of(error), down("Daytona has an error with it: disk full"));
        assert_eq!(of(r#"{"id":"i","state":"new one"}"#), Condition::Rising);
        assert_eq!(of(r#"{"id":"i","state":"destroying"}"#), Condition::Gone);
    }
}
