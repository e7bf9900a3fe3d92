//! Byte streams to the agent of a sandbox that this process made.
//!
//! Two ways: the agent dials a socket that the container sees (fast, engine on this machine
//! only), or an attached `exec` of the agent's `bridge` (always). The agent listens for the
//! bridge in both cases, so the second can stand in for the first.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use futures_util::FutureExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Instant;

use super::archive;
use super::engine::{Engine, LOOK};
use super::monitor::Monitor;
use super::stream::ExecStream;
use crate::driver::{ByteStream, DriverError, ErrorKind, Sandbox};

/// How long the end of a container may take to be known after a call to it failed.
const ENDING_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the agent may take to dial for the first time, before a socket that it perhaps
/// cannot see is given up. It takes some milliseconds.
const FIRST_DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// How often the engine is asked whether the agent listens; asked only until it does, once.
const LISTENING_INTERVAL: Duration = Duration::from_millis(20);

/// How large a piece of output the engine's stream may be read in.
const OUTPUT_BYTES: usize = 256 * 1024;

/// Where the agent is in a container, and as whom it runs.
#[derive(Clone, Debug)]
pub(super) struct AgentPlace {
    /// Its executable.
    pub(super) executable: String,
    /// Its state directory.
    pub(super) state: String,
    /// For `exec`: `None` is the container's own user.
    pub(super) user: Option<String>,
}

/// The socket that the agent dials.
pub(super) struct Socket {
    listener: UnixListener,
    /// The directory that the container sees.
    dir: PathBuf,
    dialled: AtomicBool,
    given_up: AtomicBool,
}

impl Socket {
    /// Its name in [`Socket::directory`].
    pub(super) const FILE: &'static str = "link.sock";

    /// Listens in `runtime/link`, which any user of a container may pass and nobody else reaches,
    /// because `runtime` is private.
    ///
    /// # Errors
    /// If the directory or the socket cannot be made; a path can be too long for a socket.
    pub(super) fn listen(runtime: &Path) -> Result<Self, DriverError> {
        let dir = runtime.join("link");
        let path = dir.join(Self::FILE);
        let listen = || -> std::io::Result<UnixListener> {
            match std::fs::DirBuilder::new().mode(0o755).create(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(error);
                }
                _ => {}
            }
            // The umask may have taken bits away that another user of the container needs.
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755))?;
            // Left by a session that was killed; nobody listens on it.
            remove_socket(&path)?;
            let listener = UnixListener::bind(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
            Ok(listener)
        };
        let listener = listen().map_err(|error| {
            let message = format!("cannot listen on the link's socket `{}`", path.display());
            DriverError::new(ErrorKind::Failed, message)
                .source(error)
                .hint("set `link = \"stdio\"` in the profile, which needs no socket")
        })?;
        let (dialled, given_up) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { listener, dir, dialled, given_up })
    }

    /// The directory that the container is to see.
    pub(super) fn directory(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Best effort: the session removes its whole runtime directory in the end.
        let _ = remove_socket(&self.dir.join(Self::FILE));
        let _ = rustix::fs::rmdir(&self.dir);
    }
}

/// Removes a socket of ours; one that is not there is no error.
fn remove_socket(path: &Path) -> std::io::Result<()> {
    match rustix::fs::unlink(path) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What this process knows of a sandbox that it made.
pub(super) struct Live {
    /// Where the agent is.
    pub(super) place: AgentPlace,
    /// The socket it dials; `None` for stdio.
    pub(super) socket: Option<Socket>,
    /// Whether stdio may stand in for the socket.
    pub(super) may_fall_back: bool,
    /// Looks on while a container of ours runs; `None` in one that is not ours.
    pub(super) monitor: Option<Monitor>,
    /// The `exec` that runs the agent in a container that is not ours.
    pub(super) exec: Option<String>,
    /// The agent was seen to listen.
    pub(super) listening: AtomicBool,
}

impl Live {
    /// The next stream to the agent, within `patience`.
    pub(super) async fn dial(
        &self,
        engine: &Engine,
        sandbox: &Sandbox,
        patience: Duration,
    ) -> Result<Box<dyn ByteStream>, DriverError> {
        let deadline = Instant::now() + patience;
        let failed = tokio::select! {
            // An agent that has dialled counts, even if its container has just ended.
            biased;
            stream = self.connect(engine, sandbox, deadline) => match stream {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            },
            error = self.ended(sandbox) => return Err(error),
        };
        // A call that failed because the container ended says less than how that ended, which is
        // known a moment later.
        let ended = tokio::time::timeout(ENDING_TIMEOUT, self.ended(sandbox));
        Err(ended.await.unwrap_or(failed))
    }

    async fn ended(&self, sandbox: &Sandbox) -> DriverError {
        match &self.monitor {
            Some(monitor) => monitor.ended().await.error(&sandbox.name),
            None => std::future::pending().await,
        }
    }

    async fn connect(
        &self,
        engine: &Engine,
        sandbox: &Sandbox,
        deadline: Instant,
    ) -> Result<Box<dyn ByteStream>, DriverError> {
        if let Some(socket) = &self.socket
            && !socket.given_up.load(Ordering::Relaxed)
        {
            let may_fall_back = self.may_fall_back && !socket.dialled.load(Ordering::Relaxed);
            let limit = if may_fall_back {
                deadline.min(Instant::now() + FIRST_DIAL_TIMEOUT)
            } else {
                deadline
            };
            match tokio::time::timeout_at(limit, newest(&socket.listener)).await {
                Ok(Ok(stream)) => {
                    socket.dialled.store(true, Ordering::Relaxed);
                    return Ok(Box::new(stream));
                }
                Ok(Err(error)) => {
                    let message = format!("the link's socket to `{}` failed", sandbox.name);
                    return Err(DriverError::new(ErrorKind::Failed, message)
                        .source(error)
                        .hint("set `link = \"stdio\"` in the profile, which needs no socket"));
                }
                Err(_) if may_fall_back => {
                    tracing::debug!("the agent does not see the link's socket; using exec");
                    socket.given_up.store(true, Ordering::Relaxed);
                }
                Err(_) => return Err(silent(sandbox)),
            }
        }
        match tokio::time::timeout_at(deadline, self.bridge(engine, sandbox)).await {
            Ok(stream) => stream,
            Err(_) => Err(silent(sandbox)),
        }
    }

    async fn bridge(
        &self,
        engine: &Engine,
        sandbox: &Sandbox,
    ) -> Result<Box<dyn ByteStream>, DriverError> {
        if !self.listening.load(Ordering::Relaxed) {
            self.await_listening(engine, sandbox).await?;
            self.listening.store(true, Ordering::Relaxed);
        }
        let AgentPlace { executable, state, user } = &self.place;
        let command = [executable, "bridge", "--state", state].map(str::to_owned);
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            // A terminal would change the bytes.
            tty: Some(false),
            cmd: Some(command.to_vec()),
            user: user.clone(),
            ..CreateExecOptions::default()
        };
        let doing = "open a stream to the agent";
        let exec = engine.call(doing, engine.api.create_exec(&sandbox.id, options)).await?;
        let options =
            StartExecOptions { output_capacity: Some(OUTPUT_BYTES), ..StartExecOptions::default() };
        match engine.call(doing, engine.api.start_exec(&exec.id, Some(options))).await? {
            StartExecResults::Attached { output, input } => {
                Ok(Box::new(ExecStream::new(output, input)))
            }
            StartExecResults::Detached => {
                let message = format!("cannot {doing}: the engine did not attach to it");
                Err(DriverError::new(ErrorKind::Failed, message).hint(LOOK))
            }
        }
    }

    /// Waits until the agent's socket is there; the caller limits how long.
    async fn await_listening(&self, engine: &Engine, sandbox: &Sandbox) -> Result<(), DriverError> {
        let path = format!("{}/agent.sock", self.place.state);
        let mut ticks = tokio::time::interval(LISTENING_INTERVAL);
        loop {
            ticks.tick().await;
            if archive::look(engine, &sandbox.id, &path).await?.is_some() {
                return Ok(());
            }
            if let Some(exec) = &self.exec {
                let found = engine.call("look at the agent", engine.api.inspect_exec(exec)).await?;
                if found.running == Some(false) {
                    let code = found.exit_code.unwrap_or(-1);
                    let message = format!(
                        "the agent in the container `{}` ended at once with exit code {code}",
                        sandbox.name
                    );
                    return Err(DriverError::new(ErrorKind::Gone, message).hint(
                        "the container may forbid it (`noexec`, another machine type): try \
                         `user = \"root\"` in the profile",
                    ));
                }
            }
        }
    }
}

/// The agent's newest connection. It has one open at a time and gives up one that nobody answers:
/// after a while in which nobody dialled, all that wait are dead but the last.
async fn newest(listener: &UnixListener) -> std::io::Result<UnixStream> {
    let (mut stream, _) = listener.accept().await?;
    while let Some(Ok((newer, _))) = listener.accept().now_or_never() {
        stream = newer;
    }
    Ok(stream)
}

fn silent(sandbox: &Sandbox) -> DriverError {
    let message = format!("the agent in the container `{}` does not answer", sandbox.name);
    DriverError::new(ErrorKind::Unreachable, message)
        .hint(format!("see what it says: `docker logs {}`", sandbox.name))
}
