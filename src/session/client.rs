//! The command line's end: finds the session of a project, or starts one.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use skync_agent::sizes::MESSAGE_BYTES_MAX;
use tokio::net::UnixStream;
use tonic::{Code, Status};

use crate::channel::{Channel, origin};
use crate::error::{CliError, ExitCode, LIMITS};
use crate::session::proto::session_client::SessionClient;
use crate::session::{Spec, key, socket};
use crate::state::Places;
use crate::ui::visible;

/// A session that ends holds its lock until its sandbox is gone; this is longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries to reach a session that another command is starting or ending.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// A session that is ending takes nobody; the next one is started as soon as it has gone.
const TRIES_MAX: u32 = 1500;
/// How long the processes of a session that has ended may take to go.
const GOODBYE: Duration = Duration::from_secs(5);

/// A connection to a session.
pub struct Connection {
    /// The session's calls.
    pub client: SessionClient<Channel>,
    channel: Channel,
    /// The keeper, if this command started the session.
    keeper: Option<Child>,
}

impl Connection {
    /// The session of that project and profile, if one runs.
    pub async fn find(places: &Places, root: &Path, profile: &str) -> Option<Self> {
        let stream = UnixStream::connect(socket(places, &key(root, profile))).await.ok()?;
        let channel = Channel::open(stream).await.ok()?;
        let client = SessionClient::with_origin(channel.clone(), origin())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Some(Self { client, channel, keeper: None })
    }

    /// The session of that project and profile; started if none runs.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn find_or_start(places: &Places, spec: &Spec) -> Result<Self, CliError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = Self::find(places, &spec.root, &spec.profile.name).await {
                return Ok(found);
            }
            match start(spec)? {
                Started::Ready(keeper) => {
                    if let Some(mut found) =
                        Self::find(places, &spec.root, &spec.profile.name).await
                    {
                        found.keeper = Some(keeper);
                        return Ok(found);
                    }
                }
                Started::Busy if Instant::now() < deadline => {}
                Started::Busy => {
                    let message = "another session of this project does not come to an end";
                    return Err(CliError::new(ExitCode::Failed, message)
                        .hint("`skync status` shows it, `skync down` ends it"));
                }
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    /// Asks the session of that project and profile, started if none runs. One that is ending, or that
    /// has died, takes nobody: then the next one is asked. So it must be something that can be asked
    /// twice.
    ///
    /// # Errors
    /// If it does not start, or refuses.
    pub async fn ask<T>(
        places: &Places,
        spec: &Spec,
        mut ask: impl AsyncFnMut(&mut Self) -> Result<T, Status>,
    ) -> Result<(Self, T), CliError> {
        for _ in 0..TRIES_MAX {
            let mut connection = Self::find_or_start(places, spec).await?;
            match ask(&mut connection).await {
                Ok(answer) => return Ok((connection, answer)),
                Err(status) if status.code() == Code::Unavailable => {
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
                Err(_) if connection.has_ended().await => {}
                Err(status) => return Err(broken(&status)),
            }
        }
        Err(does_not_end())
    }

    /// True if the session has hung up, after a call that failed: that shows a moment later.
    pub async fn has_ended(&self) -> bool {
        tokio::time::timeout(RETRY_INTERVAL, self.closed()).await.is_ok()
    }

    /// Returns when the session has hung up.
    pub async fn closed(&self) {
        self.channel.closed().await;
    }

    /// Waits until the processes of a session that has ended are gone, so that a command leaves
    /// nothing when it returns.
    pub async fn goodbye(mut self, ending: &[u32]) {
        if ending.is_empty() {
            // It goes on, and its keeper with it.
            return;
        }
        let deadline = Instant::now() + GOODBYE;
        while Instant::now() < deadline {
            // Our own child stays a zombie until it is waited for.
            let kept = self
                .keeper
                .as_mut()
                .is_some_and(|keeper| keeper.try_wait().is_ok_and(|status| status.is_none()));
            let own = self.keeper.as_ref().map(Child::id);
            let left = ending.iter().any(|pid| Some(*pid) != own && is_there(*pid));
            if !kept && !left {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The call itself failed.
pub fn broken(status: &Status) -> CliError {
    let message = format!("the session failed: {}", visible(status.message()));
    CliError::new(ExitCode::Failed, message).hint(
        "`skync status` and `skync ps -a` show what there is; `session.log` in the state directory says \
         more",
    )
}

/// It has said that it ends, again and again, and is still there.
pub fn does_not_end() -> CliError {
    let message = "the session of this project is ending and does not end";
    CliError::new(ExitCode::Failed, message).hint(
        "try again; `session.log` in the state directory (`skync doctor` names it) says what it \
         waits for",
    )
}

/// A process has that number, a zombie among them.
fn is_there(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

enum Started {
    Ready(Child),
    /// Another session of the project holds the lock.
    Busy,
}

/// Starts a keeper, which starts a session, and waits for its first word.
fn start(spec: &Spec) -> Result<Started, CliError> {
    let failed = |error: &std::io::Error| {
        CliError::new(ExitCode::Failed, "cannot start a session")
            .because(error)
            .hint(LIMITS)
            .hint("if skync was installed anew meanwhile, the same command starts the new one")
    };
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut keeper = Command::new(program)
        .arg("__session")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // The user's directory must not be held by a process that lives on.
        .current_dir("/")
        .spawn()
        .map_err(|error| failed(&error))?;
    if let Some(mut input) = keeper.stdin.take() {
        let json = serde_json::to_vec(spec).unwrap_or_default();
        input.write_all(&json).map_err(|error| failed(&error))?;
    }
    let mut word = String::new();
    if let Some(output) = keeper.stdout.take() {
        BufReader::new(output).read_line(&mut word).map_err(|error| failed(&error))?;
    }
    match word.trim_end() {
        "ready" => Ok(Started::Ready(keeper)),
        "busy" => {
            let _ = keeper.wait();
            Ok(Started::Busy)
        }
        said => {
            let _ = keeper.wait();
            let why = said.strip_prefix("failed: ").unwrap_or("it ended without a word");
            Err(CliError::new(ExitCode::Failed, format!("the session did not start: {why}"))
                .hint("its log is `session.log` in the state directory (`skync doctor` names it)"))
        }
    }
}
