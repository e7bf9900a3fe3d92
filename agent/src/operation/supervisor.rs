//! The process that owns one operation: parent of the command and subreaper of all it starts.
//!
//! Each operation has one, so that what belongs to an operation is known for certain, whatever it
//! forks. Standard streams are the command's own pipes, made by the agent and passed through: no
//! byte is copied here. The process stays until no descendant is left (a daemon that the command
//! put into the background lives on, as it would in a shell) or until the agent goes away; then
//! it kills what is left.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, wait};

use super::frame::Frame;
use super::processes::{Swept, kill_all, signal_and_wait};
use super::{memory, program};
use crate::proto::{Exit, StartFailure, StartReply, StartRequest};

/// The kernel's out-of-memory killer takes the command, not the agent that must tell of it.
const COMMAND_OOM_SCORE: &str = "500";

/// Runs the operation that the first frame on `control` asks for; returns when nothing is left.
///
/// # Errors
/// If the agent goes away before it has said what to run.
pub fn supervise(control: OwnedFd) -> std::io::Result<()> {
    let control = UnixStream::from(control);
    let Some(Frame::Start(request)) = Frame::read(&control)? else {
        return Err(std::io::Error::other("the agent said nothing"));
    };
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    // Only a container has a limit of its own; elsewhere this may be refused, which is no matter.
    lower_own_claim_to_memory();
    let kills_before = memory::kills();
    let leader = match spawn(&request) {
        Ok(leader) => leader,
        Err(reply) => return Frame::Started(reply).write(&control),
    };
    // Our own copies of the pipes would keep the agent from seeing their end.
    let null: OwnedFd = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map(Into::into)
        .or_else(|_| control.as_fd().try_clone_to_owned())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    let pid = leader.as_raw_nonzero().get().unsigned_abs();
    Frame::Started(StartReply { pid, ..StartReply::default() }).write(&control)?;

    let commands = control.try_clone()?;
    std::thread::spawn(move || {
        obey(&commands, leader);
        std::process::exit(0);
    });
    reap(&control, leader, kills_before);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a file of the kernel, not of a user")]
fn lower_own_claim_to_memory() {
    if std::fs::write("/proc/self/oom_score_adj", COMMAND_OOM_SCORE).is_err() {
        // Without /proc nothing can be done about it.
    }
}

fn spawn(request: &StartRequest) -> Result<Pid, StartReply> {
    let text = |bytes: &Vec<u8>| OsString::from_vec(bytes.clone());
    let invalid = |what: &str| program::refusal(StartFailure::StartFailed, what.to_owned());
    let (name, arguments) = request.argv.split_first().ok_or_else(|| invalid("no command"))?;
    let directory = PathBuf::from(text(&request.directory));
    let mut command_environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    for variable in &request.environment {
        let (name, value) = (text(&variable.name), text(&variable.value));
        command_environment.retain(|(other, _)| *other != name);
        command_environment.push((name, value));
    }
    let path = command_environment
        .iter()
        .find(|(name, _)| name == "PATH")
        .map_or_else(|| program::PATH_DEFAULT.into(), |(_, value)| value.clone());
    let file = program::find(&text(name), &path, &directory)?;
    let mut command = Command::new(&file);
    command
        .arg0(text(name))
        .args(arguments.iter().map(text))
        .current_dir(&directory)
        .env_clear()
        .envs(command_environment)
        // Ctrl-C goes to the whole group, as a terminal would send it.
        .process_group(0);
    match command.spawn() {
        Ok(child) => pid_of(&child),
        Err(error) if is_script_without_interpreter(&error) => spawn_by_shell(&file, request),
        Err(error) => Err(program::spawn_failure(&file, &error)),
    }
}

/// A text file without `#!` is run by `sh`, as every shell does.
fn is_script_without_interpreter(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error())
}

fn spawn_by_shell(file: &Path, request: &StartRequest) -> Result<Pid, StartReply> {
    let noexec = std::io::Error::from_raw_os_error(rustix::io::Errno::NOEXEC.raw_os_error());
    let failure = || program::spawn_failure(file, &noexec);
    let start = std::fs::read(file).map_err(|_| failure())?;
    // A binary for another machine is no script: say so instead of feeding it to a shell.
    if start.iter().take(256).any(|&byte| byte == 0) || !Path::new("/bin/sh").exists() {
        return Err(failure());
    }
    let mut by_shell = request.clone();
    by_shell.argv[0] = file.as_os_str().as_encoded_bytes().to_vec();
    by_shell.argv.insert(0, b"/bin/sh".to_vec());
    spawn(&by_shell)
}

fn pid_of(child: &std::process::Child) -> Result<Pid, StartReply> {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| program::refusal(StartFailure::StartFailed, "no process id".to_owned()))
}

/// Waits for every child; tells the agent when the command itself has ended.
fn reap(control: &UnixStream, leader: Pid, kills_before: u64) {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == leader => {
                let exit = exit_of(status, memory::kills() > kills_before);
                // If the agent is gone, `obey` ends this process.
                let _ = Frame::Exited(exit).write(control);
            }
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn exit_of(status: WaitStatus, memory_kill: bool) -> Exit {
    let status = ExitStatus::from_raw(status.as_raw());
    let signal = status.signal().unwrap_or(0).unsigned_abs();
    let code = status.code().unwrap_or(0).unsigned_abs();
    // A shell reports the kill of its child as 128 + 9.
    let killed = signal == 9 || code == 137;
    let out_of_memory = memory_kill && killed;
    let memory_limit = if out_of_memory { memory::limit().unwrap_or(0) } else { 0 };
    Exit { code, signal, out_of_memory, memory_limit, ..Exit::default() }
}

/// Does what the agent says until it goes away, then kills everything.
fn obey(commands: &UnixStream, leader: Pid) {
    let (me, nobody) = (rustix::process::getpid(), HashSet::new());
    while let Ok(Some(frame)) = Frame::read(commands) {
        match frame {
            Frame::Signal(number) => {
                if let Some(signal) = signal_of(number) {
                    let _ = rustix::process::kill_process_group(leader, signal);
                }
            }
            Frame::Cancel { signal, grace_ms } => {
                let swept = cancel(me, signal, Duration::from_millis(grace_ms.into()));
                let Swept { stopped, survivors } = swept;
                let _ = Frame::Cancelled { stopped, survivors }.write(commands);
            }
            Frame::Start(_) | Frame::Started(_) | Frame::Cancelled { .. } | Frame::Exited(_) => {}
        }
    }
    kill_all(me, &nobody, HashSet::new());
}

/// The ladder: the given signal, TERM, KILL, with `grace` between.
fn cancel(me: Pid, first: u32, grace: Duration) -> Swept {
    let nobody = HashSet::new();
    let mut seen = HashSet::new();
    let first = signal_of(first).unwrap_or(Signal::TERM);
    seen.extend(signal_and_wait(me, &nobody, first, grace));
    if first != Signal::TERM {
        seen.extend(signal_and_wait(me, &nobody, Signal::TERM, grace));
    }
    kill_all(me, &nobody, seen)
}

fn signal_of(number: u32) -> Option<Signal> {
    i32::try_from(number).ok().and_then(Signal::from_named_raw)
}
