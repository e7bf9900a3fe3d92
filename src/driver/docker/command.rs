//! A command in a container, to its end: how the agent there is told to stop and to clean up.

use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecResults};
use futures_util::StreamExt;

use super::engine::{Engine, LOOK};
use crate::driver::excerpt::Tail;
use crate::driver::{DriverError, ErrorKind};

/// How long a command may take: the agent's `stop` gives operations 5 s, and itself as much.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How a command ended.
pub(super) struct Finished {
    /// Its exit code; -1 if the engine does not say.
    pub(super) code: i64,
    said: Tail,
}

impl Finished {
    /// The code and the last lines of what it said.
    pub(super) fn words(&self) -> String {
        let said = self.said.lines();
        match said.as_str() {
            "" => format!("exit code {}", self.code),
            said => format!("exit code {}: {said}", self.code),
        }
    }
}

/// Runs a command in a container and waits for its end, at most [`TIMEOUT`].
///
/// # Errors
/// If it cannot be run, or does not end in time; a code other than 0 is no error here.
pub(super) async fn run(
    engine: &Engine,
    container: &str,
    user: Option<&str>,
    command: &[&str],
) -> Result<Finished, DriverError> {
    let options = CreateExecOptions {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
        user: user.map(str::to_owned),
        working_dir: Some("/".to_owned()),
        ..CreateExecOptions::default()
    };
    let doing = format!("run `{}` in the container", command.join(" "));
    let exec = engine.call(&doing, engine.api.create_exec(container, options)).await?;
    let started = engine.call(&doing, engine.api.start_exec(&exec.id, None)).await?;
    let mut said = Tail::default();
    if let StartExecResults::Attached { mut output, input: _input } = started {
        let read = async {
            while let Some(Ok(message)) = output.next().await {
                said.push(message.as_ref());
            }
        };
        if tokio::time::timeout(TIMEOUT, read).await.is_err() {
            let limit = TIMEOUT.as_secs();
            let message = format!("cannot {doing}: it did not end within {limit} s");
            return Err(DriverError::new(ErrorKind::Failed, message).hint(LOOK));
        }
    }
    let found = engine.call(&doing, engine.api.inspect_exec(&exec.id)).await?;
    Ok(Finished { code: found.exit_code.unwrap_or(-1), said })
}
