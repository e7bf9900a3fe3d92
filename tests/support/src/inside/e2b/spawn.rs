//! Starting a process as a user, with pipes or on a terminal.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use tokio::fs::File;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::connect::{ConnectError, Outcome};
use super::process_messages::{ProcessConfig, Pty};
use crate::inside::reaper::{End, Reaper};
use crate::inside::users::User;

/// Makes the kernel kill the program before envd, then becomes the program: its id stays. That it
/// is missing is told by the shell, not by the call.
const WRAPPER: &str = "echo 100 >/proc/$$/oom_score_adj 2>/dev/null; exec \"$@\"";
/// Columns and rows when the client names none.
const PTY_SIZE: (u16, u16) = (80, 24);

/// What to start.
pub(super) struct Command {
    pub config: ProcessConfig,
    pub pty: Option<Pty>,
    pub has_stdin: bool,
    /// The environment of all processes; that of the request comes on top.
    pub env: HashMap<String, String>,
    pub cwd: PathBuf,
}

/// A process that was started.
pub(super) struct Spawned {
    pub pid: u32,
    pub end: oneshot::Receiver<End>,
    pub stdin: Stdin,
    pub outputs: Vec<Output>,
    pub terminal: Option<pty_process::blocking::Pty>,
}

/// Where input goes.
pub(super) enum Stdin {
    Pipe(pipe::Sender),
    Pty(File),
    Closed,
}

/// Where output comes from.
pub(super) enum Output {
    Stdout(pipe::Receiver),
    Stderr(pipe::Receiver),
    Pty(File),
}

/// Resolves a path as envd does: `~` and relative paths are in the user's home.
pub(super) fn resolve(path: &str, user: &User) -> PathBuf {
    let path = match path.strip_prefix('~') {
        Some(rest) => rest.trim_start_matches('/'),
        None => path,
    };
    user.home.join(path)
}

pub(super) fn spawn(reaper: &Reaper, command: Command, user: &User) -> Outcome<Spawned> {
    if !command.cwd.is_dir() {
        let message = format!("cwd '{}' does not exist", command.cwd.display());
        return Err(ConnectError::new("invalid_argument", message));
    }
    let env = environment(&command, user);
    let spawned = match &command.pty {
        Some(pty) => on_pty(reaper, &command, size(Some(pty)), &env, user),
        None => on_pipes(reaper, &command, &env, user),
    };
    spawned.map_err(|error| ConnectError::new("invalid_argument", error.to_string()))
}

/// Reads a terminal's size.
pub(super) fn size(pty: Option<&Pty>) -> pty_process::Size {
    let size = pty.and_then(|pty| pty.size);
    let bounded = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
    let (cols, rows) = size.map_or(PTY_SIZE, |size| (bounded(size.cols), bounded(size.rows)));
    pty_process::Size::new(rows, cols)
}

fn environment(command: &Command, user: &User) -> HashMap<String, String> {
    let mut env = HashMap::new();
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".into());
    env.insert("PATH".to_owned(), path);
    env.insert("HOME".to_owned(), user.home.display().to_string());
    env.insert("USER".to_owned(), user.name.clone());
    env.insert("LOGNAME".to_owned(), user.name.clone());
    env.extend(command.env.clone());
    env.extend(command.config.envs.clone());
    env
}

fn on_pipes(
    reaper: &Reaper,
    wanted: &Command,
    env: &HashMap<String, String>,
    user: &User,
) -> io::Result<Spawned> {
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", WRAPPER, "sh", &wanted.config.cmd]).args(&wanted.config.args);
    command.env_clear().envs(env).current_dir(&wanted.cwd).uid(user.uid).gid(user.gid);
    command.stdin(if wanted.has_stdin { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut child, end) = reaper.spawn(|| command.spawn())?;
    let stdin = match child.stdin.take() {
        Some(stdin) => Stdin::Pipe(pipe::Sender::from_owned_fd(stdin.into())?),
        None => Stdin::Closed,
    };
    let mut outputs = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        outputs.push(Output::Stdout(pipe::Receiver::from_owned_fd(stdout.into())?));
    }
    if let Some(stderr) = child.stderr.take() {
        outputs.push(Output::Stderr(pipe::Receiver::from_owned_fd(stderr.into())?));
    }
    Ok(Spawned { pid: child.id(), end, stdin, outputs, terminal: None })
}

fn on_pty(
    reaper: &Reaper,
    wanted: &Command,
    size: pty_process::Size,
    env: &HashMap<String, String>,
    user: &User,
) -> io::Result<Spawned> {
    let mut opened = None;
    // Opened where nothing else is started: for a moment others would inherit it.
    let (child, end) = reaper.spawn(|| {
        let (pty, child) = open(wanted, size, env, user)?;
        opened = Some(pty);
        Ok(child)
    })?;
    let pty = opened.expect("the process was started on it");
    let reads: OwnedFd = rustix::io::fcntl_dupfd_cloexec(&pty, 3)?;
    let writes: OwnedFd = rustix::io::fcntl_dupfd_cloexec(&pty, 3)?;
    let file = |fd: OwnedFd| File::from_std(fd.into());
    let (stdin, outputs) = (Stdin::Pty(file(writes)), vec![Output::Pty(file(reads))]);
    Ok(Spawned { pid: child.id(), end, stdin, outputs, terminal: Some(pty) })
}

fn open(
    wanted: &Command,
    size: pty_process::Size,
    env: &HashMap<String, String>,
    user: &User,
) -> io::Result<(pty_process::blocking::Pty, Child)> {
    let (pty, pts) = pty_process::blocking::open().map_err(io::Error::other)?;
    pty.resize(size).map_err(io::Error::other)?;
    let command = pty_process::blocking::Command::new("/bin/sh")
        .args(["-c", WRAPPER, "sh", &wanted.config.cmd])
        .args(&wanted.config.args)
        .env_clear()
        .envs(env)
        .current_dir::<&Path>(&wanted.cwd)
        .uid(user.uid)
        .gid(user.gid);
    let child = command.spawn(pts).map_err(io::Error::other)?;
    Ok((pty, child))
}
