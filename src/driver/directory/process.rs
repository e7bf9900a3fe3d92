//! The agent of a directory sandbox as a process: started, watched, stopped.
//!
//! Nothing is ever signalled that was not seen to run the sandbox's own agent file, or to be a
//! descendant of such a process; and always through a descriptor, so that a process id that was
//! used again is never hit.

use std::collections::HashSet;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Place;
use super::files::failed;
use crate::driver::excerpt::Tail;
use crate::driver::{DriverError, ErrorKind};

/// How long the agent's `stop` may take: it gives operations 5 s, and itself as much.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// How long processes may take to go after SIGKILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is looked whether they have gone.
const KILL_INTERVAL: Duration = Duration::from_millis(5);

/// How long a file that was just written may seem busy to `exec`, because another thread's child
/// still holds it open.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Variables that the agent gets from this process; operations see what is in its environment.
const VARIABLES: [&str; 7] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ"];

/// An agent that this process started.
pub(super) struct Running {
    /// Where it listens.
    pub(super) socket: PathBuf,
    ending: watch::Receiver<Option<String>>,
}

impl Running {
    /// How it ended, if it has: completes "the agent …".
    pub(super) fn ending(&self) -> Option<String> {
        self.ending.borrow().clone()
    }

    /// Waits until it has ended.
    pub(super) async fn ended(&self) -> String {
        let mut ending = self.ending.clone();
        let seen = match ending.wait_for(Option::is_some).await {
            Ok(seen) => seen.clone(),
            Err(_) => None,
        };
        seen.unwrap_or_else(|| "has ended".to_owned())
    }
}

/// Starts the agent; it outlives this process.
pub(super) async fn start(
    agent: &Path,
    place: &Place,
    socket: &Path,
    lease: Duration,
) -> Result<Running, DriverError> {
    let log = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(place.log());
    let log = log.map_err(|error| failed("write", &place.log(), error))?;
    let mut command = Command::new(agent);
    command
        .arg("serve")
        .arg("--state")
        .arg(place.state())
        .arg("--lease-ms")
        .arg(lease.as_millis().to_string())
        .arg("--listen")
        .arg("--socket")
        .arg(socket)
        .arg("--cleanup")
        .arg(&place.0)
        .arg("--setsid")
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| {
            name.to_str().is_some_and(|name| VARIABLES.contains(&name) || name.starts_with("LC_"))
        }))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    let deadline = Instant::now() + BUSY_TIMEOUT;
    let mut ticks = tokio::time::interval(KILL_INTERVAL);
    let mut child = loop {
        match command.spawn() {
            Ok(child) => break child,
            Err(error)
                if error.kind() == std::io::ErrorKind::ExecutableFileBusy
                    && Instant::now() < deadline =>
            {
                ticks.tick().await;
            }
            Err(error) => {
                let message = format!("cannot start the agent `{}`", agent.display());
                return Err(DriverError::new(ErrorKind::Failed, message).source(error).hint(
                    "if its file system is mounted `noexec`, set `base` in the profile to another",
                ));
            }
        }
    };
    let (sender, ending) = watch::channel(None);
    tokio::spawn(async move {
        let how = match child.wait().await {
            Ok(status) => words(status),
            Err(error) => format!("cannot be waited for: {error}"),
        };
        sender.send_replace(Some(how));
    });
    Ok(Running { socket: socket.to_owned(), ending })
}

fn words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The end of the agent's log, to be put behind a sentence; empty if there is none.
pub(super) fn last_words(log: &Path) -> String {
    let read = || -> std::io::Result<Tail> {
        // More than a tail keeps.
        const BYTES: u64 = 16 * 1024;
        let mut file = std::fs::File::open(log)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(BYTES)))?;
        let (mut bytes, mut tail) = (Vec::new(), Tail::default());
        file.take(BYTES).read_to_end(&mut bytes)?;
        tail.push(&bytes);
        Ok(tail)
    };
    let said = read().unwrap_or_default().lines();
    if said.is_empty() { said } else { format!(": {said}") }
}

/// Stops the agent with everything that it started; returns when no process is left.
///
/// # Errors
/// If something is left, or cannot be seen to be gone.
pub(super) async fn stop(agent: &Path, state: &Path, socket: &Path) -> Result<(), DriverError> {
    // The agent may remove its own file while it ends; its number is what it is known by.
    let Some(file) = file_number(agent)? else {
        return Ok(());
    };
    if running(file)?.is_empty() {
        return Ok(());
    }
    let mut command = Command::new(agent);
    command
        .args(["stop".as_ref(), "--state".as_ref(), state.as_os_str()])
        .args(["--socket".as_ref(), socket.as_os_str()])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    match tokio::time::timeout(STOP_TIMEOUT, command.status()).await {
        Ok(Ok(status)) if status.success() => {}
        // What is left is ended below in any case.
        Ok(Ok(status)) => tracing::debug!(%status, "the agent's `stop` failed"),
        Ok(Err(error)) => tracing::debug!(%error, "the agent's `stop` did not start"),
        Err(_) => tracing::debug!("the agent's `stop` takes too long"),
    }
    kill(file).await
}

/// True if a process is the agent with this file. Supervisors of operations run the same file and
/// may outlive it.
pub(super) fn serves(agent: &Path) -> Result<bool, DriverError> {
    Ok(serving(agent)?.is_some())
}

fn serving(agent: &Path) -> Result<Option<Seen>, DriverError> {
    let Some(file) = file_number(agent)? else { return Ok(None) };
    let is_agent = |seen: &Seen| {
        let line = std::fs::read(format!("/proc/{}/cmdline", seen.pid)).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(b"serve")
    };
    Ok(running(file)?.into_iter().find(is_agent))
}

/// Takes over an agent that another process started; nothing if it does not run.
///
/// # Errors
/// If processes cannot be looked at.
pub(super) fn adopt(agent: &Path, socket: &Path) -> Result<Option<Running>, DriverError> {
    let Some(seen) = serving(agent)? else { return Ok(None) };
    let pinned = i32::try_from(seen.pid).ok().and_then(Pid::from_raw);
    let pinned = pinned.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let Some(pinned) = pinned.filter(|_| look(seen.pid).is_some_and(|now| now == seen)) else {
        return Ok(None);
    };
    let (sender, ending) = watch::channel(None);
    // A thread that waits in the kernel; it ends with the agent or with this process.
    std::thread::spawn(move || {
        use rustix::event::{PollFd, PollFlags, poll};
        // It can be read once the process has ended. How it ended is its parent's to know.
        let wait = || poll(&mut [PollFd::new(&pinned, PollFlags::IN)], None);
        while wait() == Err(rustix::io::Errno::INTR) {}
        sender.send_replace(Some("has ended".to_owned()));
    });
    Ok(Some(Running { socket: socket.to_owned(), ending }))
}

/// Ends all processes that run `file`, and before them all that descend from these.
async fn kill(file: FileNumber) -> Result<(), DriverError> {
    let deadline = Instant::now() + KILL_TIMEOUT;
    let mut ticks = tokio::time::interval(KILL_INTERVAL);
    loop {
        let agents = running(file)?;
        if agents.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let left: Vec<String> = agents.iter().map(|seen| seen.pid.to_string()).collect();
            let message = format!("the agent's processes do not end: {}", left.join(", "));
            return Err(DriverError::new(ErrorKind::Failed, message)
                .hint("see what they wait for: `ps -o pid,stat,wchan,args`"));
        }
        // Orphans come back to the agent's supervisors, so while these live nothing gets away.
        let below = descendants(&agents)?;
        for seen in if below.is_empty() { agents } else { below } {
            signal(seen);
        }
        ticks.tick().await;
    }
}

/// Sends SIGKILL to a process that still is the one that was seen, once it is pinned.
fn signal(seen: Seen) {
    let Some(pid) = i32::try_from(seen.pid).ok().and_then(Pid::from_raw) else {
        return;
    };
    let Ok(pinned) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    if look(seen.pid).is_some_and(|now| now.started == seen.started)
        && let Err(error) = pidfd_send_signal(&pinned, Signal::KILL)
    {
        tracing::debug!(pid = seen.pid, %error, "not killed");
    }
}

/// Device and inode.
type FileNumber = (u64, u64);

fn file_number(path: &Path) -> Result<Option<FileNumber>, DriverError> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look at", path, error)),
    }
}

/// A process as it was seen; its number alone may be another's by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    pid: u32,
    parent: u32,
    /// In ticks since the machine started.
    started: u64,
}

/// The processes that run `file`.
fn running(file: FileNumber) -> Result<Vec<Seen>, DriverError> {
    let runs = |seen: &Seen| {
        // Cannot be read of a process that has ended, nor of one that is not ours.
        std::fs::metadata(format!("/proc/{}/exe", seen.pid))
            .is_ok_and(|found| (found.dev(), found.ino()) == file)
    };
    Ok(processes()?.into_iter().filter(runs).collect())
}

/// All descendants of `ancestors` that are not among these, and not this process.
fn descendants(ancestors: &[Seen]) -> Result<Vec<Seen>, DriverError> {
    let all = processes()?;
    let mut known: HashSet<u32> = ancestors.iter().map(|seen| seen.pid).collect();
    known.insert(std::process::id());
    let mut next: Vec<u32> = ancestors.iter().map(|seen| seen.pid).collect();
    let mut found = Vec::new();
    while let Some(parent) = next.pop() {
        for child in all.iter().filter(|seen| seen.parent == parent) {
            if known.insert(child.pid) {
                next.push(child.pid);
                found.push(*child);
            }
        }
    }
    Ok(found)
}

/// All processes that have not ended.
fn processes() -> Result<Vec<Seen>, DriverError> {
    let proc = Path::new("/proc");
    let entries = std::fs::read_dir(proc).map_err(|error| failed("list", proc, error))?;
    let names = entries.flatten().map(|entry| entry.file_name());
    Ok(names.filter_map(|name| look(name.to_str()?.parse().ok()?)).collect())
}

/// A process; `None` if it has ended.
fn look(pid: u32) -> Option<Seen> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name is in parentheses and can hold anything, parentheses too.
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    Some(Seen { pid, parent: fields.get(1)?.parse().ok()?, started: fields.get(19)?.parse().ok()? })
}
