//! Putting the agent into a sandbox that runs, and starting it there.

use std::time::Duration;

use bytes::Bytes;

use super::shell::{self, Prepared};
use super::toolbox::Toolbox;
use crate::driver::excerpt::printable;
use crate::driver::launch::{self, Launched, Place};
use crate::driver::{AgentSource, DriverError, ErrorKind, LinkSecret, Progress, SandboxSpec};

/// Where the agent listens: on loopback, which Daytona's proxy reaches, on one of the ports that it
/// can be asked about.
const WEB: &str = "127.0.0.1:3000-9999";
/// Making some directories.
const PREPARE_PATIENCE: Duration = Duration::from_secs(30);
/// The agent itself gives up after 15 s; one that it replaces may take 8 s to end.
const LAUNCH_PATIENCE: Duration = Duration::from_secs(45);

/// Makes an agent run with `secret`. One that was there is replaced, and its operations go on.
pub(super) async fn install(
    toolbox: &Toolbox<'_>,
    spec: &SandboxSpec,
    secret: &LinkSecret,
    agents: &dyn AgentSource,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Launched, DriverError> {
    toolbox.wait().await?;
    progress(Progress::Step("putting the agent into the sandbox".to_owned()));
    let prepared = prepare(toolbox, &spec.session).await?;
    let agent = agents.agent(&prepared.machine)?;
    let name = agent.file_name();
    let place = Place::new(prepared.directory(&spec.session), &name);
    let arguments = place.arguments(spec, WEB, &prepared.home)?;

    let mut files = Vec::new();
    // One that runs cannot be written, and its operations are known by its file.
    let is_there = prepared.agents.contains(&(name.clone(), agent.bytes.len() as u64));
    if !is_there {
        files.push((place.executable.clone(), agent.bytes.clone()));
    }
    files.push((format!("{}/secret", place.state()), Bytes::copy_from_slice(&secret.0)));
    toolbox.upload(&files).await?;

    let script = shell::launch(&place, &arguments);
    let doing = "start the agent in the sandbox";
    let executed = toolbox.execute(doing, &script, LAUNCH_PATIENCE).await?;
    launch::answer(&executed.result)
}

async fn prepare(toolbox: &Toolbox<'_>, session: &str) -> Result<Prepared, DriverError> {
    let doing = "make a place for the agent in the sandbox";
    let executed = toolbox.execute(doing, &shell::prepare(session), PREPARE_PATIENCE).await?;
    Prepared::read(&executed.result).ok_or_else(|| {
        let said = match printable(&executed.result) {
            said if said.is_empty() => format!("its shell ends with {}", executed.exit_code),
            said => said,
        };
        DriverError::new(ErrorKind::Failed, format!("cannot {doing}: {said}"))
            .hint("the image needs `/bin/sh`, and a directory that its user can write to")
    })
}
