//! Commands that run to their end within one request.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};

use super::super::reaper::End;
use super::errors::ToolError;
use super::{Answer, Daemon, Daemons, parse};

#[derive(Deserialize)]
struct Execute {
    command: String,
    cwd: Option<String>,
    envs: Option<BTreeMap<String, String>>,
    timeout: Option<u64>,
}

#[derive(Deserialize)]
struct CodeRun {
    code: String,
    argv: Option<Vec<String>>,
    envs: Option<BTreeMap<String, String>>,
    timeout: Option<u64>,
}

/// How a command ended, and all that it said.
struct Done {
    code: i32,
    output: String,
}

/// The shell of all commands: zsh or bash when the machine has them, else what it says, else sh.
pub(super) fn shell() -> String {
    let known = fs::read_to_string("/etc/shells").unwrap_or_default();
    let find = |name: &str| {
        let shells = known.lines().map(str::trim).filter(|line| line.ends_with(name));
        shells.map(str::to_owned).find(|path| Path::new(path).exists())
    };
    let usual = || std::env::var("SHELL").ok().filter(|path| Path::new(path).exists());
    find("/zsh").or_else(|| find("/bash")).or_else(usual).unwrap_or_else(|| "sh".to_owned())
}

/// Runs a command in a shell that reads it from its standard input.
pub(super) async fn execute(Shared(daemon): Daemons, body: Bytes) -> Answer {
    let request: Execute = parse(&body)?;
    if request.command.trim().is_empty() {
        return Err(ToolError::bad("empty command"));
    }
    let mut command = Command::new(shell());
    command.current_dir(daemon.path(request.cwd.as_deref().unwrap_or("")));
    command.envs(request.envs.unwrap_or_default());
    let script = format!("{}\n", request.command);
    let done = detached(daemon, command, script, request.timeout).await?;
    Ok(Json(json!({"exitCode": done.code, "result": done.output})).into_response())
}

/// Runs a piece of Python.
pub(super) async fn code_run(Shared(daemon): Daemons, body: Bytes) -> Answer {
    let request: CodeRun = parse(&body)?;
    let mut command = Command::new("python3");
    command.args(["-u", "-c", &request.code]).args(request.argv.unwrap_or_default());
    command.current_dir(&daemon.home).envs(request.envs.unwrap_or_default());
    let done = detached(daemon, command, String::new(), request.timeout).await?;
    let answer: Value = json!({
        "exitCode": done.code,
        "result": done.output,
        "artifacts": {"charts": []},
    });
    Ok(Json(answer).into_response())
}

/// Runs a command to its end, also when the client that asked for it goes away.
async fn detached(
    daemon: Arc<Daemon>,
    command: Command,
    input: String,
    timeout_s: Option<u64>,
) -> Result<Done, ToolError> {
    let task = tokio::spawn(Box::pin(run(daemon, command, input, timeout_s)));
    task.await.map_err(ToolError::internal)?
}

async fn run(
    daemon: Arc<Daemon>,
    mut command: Command,
    input: String,
    timeout_s: Option<u64>,
) -> Result<Done, ToolError> {
    let (reader, writer) = pipe().map_err(ToolError::internal)?;
    let copy = writer.try_clone().map_err(ToolError::internal)?;
    command.stdin(Stdio::piped()).stdout(copy).stderr(writer).process_group(0);
    let spawned = daemon.reaper.spawn(|| command.spawn());
    // With it go our ends of the pipe: what is open from now on is the command's.
    drop(command);
    let Ok((mut child, end)) = spawned else {
        return Ok(Done { code: -1, output: String::new() });
    };
    let group = Pid::from_child(&child);
    if let Some(stdin) = child.stdin.take() {
        tokio::spawn(feed(OwnedFd::from(stdin), input));
    }
    let whole = async {
        let mut output = Vec::new();
        let mut reader = Receiver::from_owned_fd(OwnedFd::from(reader))?;
        reader.read_to_end(&mut output).await?;
        let end = end.await.map_err(io::Error::other)?;
        Ok::<_, io::Error>((end, output))
    };
    let outcome = match timeout_s.filter(|seconds| *seconds > 0) {
        None => Ok(whole.await),
        Some(seconds) => tokio::time::timeout(Duration::from_secs(seconds), whole).await,
    };
    let Ok(outcome) = outcome else {
        let _ = kill_process_group(group, Signal::KILL);
        let (status, code) = (StatusCode::REQUEST_TIMEOUT, "PROCESS_EXECUTION_TIMEOUT");
        return Err(ToolError::new(status, code, "command execution timeout"));
    };
    let (end, output) = outcome.map_err(ToolError::internal)?;
    let code = match end {
        End::Exited(code) => code,
        End::Signaled(_) => -1,
    };
    Ok(Done { code, output: String::from_utf8_lossy(&output).into_owned() })
}

/// Writes a command's input and closes it. A command that does not read it is no error.
async fn feed(stdin: OwnedFd, input: String) {
    if let Ok(mut sender) = Sender::from_owned_fd(stdin) {
        let _ = sender.write_all(input.as_bytes()).await;
    }
}
