//! Starting the program of an operation, on three pipes or a terminal of its own.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Pid;

use super::terminal::Terminal;
use crate::bridge::widen;
use crate::operation::program;
use crate::own;
use crate::proto::{StartFailure, StartReply, StartRequest};

/// A program that runs, and our ends of its streams.
pub(super) struct Started {
    pub(super) leader: Pid,
    /// Nothing if it reads end-of-file at once.
    pub(super) input: Option<OwnedFd>,
    /// Standard output and error. With a terminal, all output comes from `output`.
    pub(super) output: OwnedFd,
    pub(super) error: Option<OwnedFd>,
    pub(super) terminal: Option<Terminal>,
}

/// The program's ends of its streams.
struct Given {
    input: OwnedFd,
    output: OwnedFd,
    error: OwnedFd,
    terminal: bool,
}

/// Starts what is asked for.
///
/// # Errors
/// The reply that says why it does not run.
pub(super) fn start(request: &StartRequest) -> Result<Started, StartReply> {
    let failed = |error: io::Error| {
        let why = format!("cannot make the command's streams: {error}");
        program::refusal(StartFailure::StartFailed, why)
    };
    let (given, mut started) = streams(request).map_err(failed)?;
    started.leader = spawn(request, &given)?;
    Ok(started)
}

fn streams(request: &StartRequest) -> io::Result<(Given, Started)> {
    let leader = Pid::INIT;
    let null = || std::fs::File::open("/dev/null").map(OwnedFd::from);
    if let Some(size) = &request.terminal {
        let (terminal, far) = Terminal::open(size)?;
        let given_input = if request.no_input { null()? } else { far.try_clone()? };
        let input = if request.no_input { None } else { Some(terminal.descriptor()?) };
        let given =
            Given { input: given_input, output: far.try_clone()?, error: far, terminal: true };
        let output = terminal.descriptor()?;
        return Ok((
            given,
            Started { leader, input, output, error: None, terminal: Some(terminal) },
        ));
    }
    let (given_input, input) = if request.no_input {
        (null()?, None)
    } else {
        let (read, write) = wide_pipe()?;
        (read, Some(write))
    };
    let (output, given_output) = wide_pipe()?;
    let (error, given_error) = wide_pipe()?;
    let given =
        Given { input: given_input, output: given_output, error: given_error, terminal: false };
    Ok((given, Started { leader, input, output, error: Some(error), terminal: None }))
}

/// Its reading and its writing end.
fn wide_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    widen(&write);
    Ok((read, write))
}

fn spawn(request: &StartRequest, given: &Given) -> Result<Pid, StartReply> {
    let text = |bytes: &Vec<u8>| OsString::from_vec(bytes.clone());
    let invalid = |what: &str| program::refusal(StartFailure::StartFailed, what.to_owned());
    let (name, arguments) = request.argv.split_first().ok_or_else(|| invalid("no command"))?;
    let directory = PathBuf::from(text(&request.directory));
    let mut environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    for variable in &request.environment {
        let (name, value) = (text(&variable.name), text(&variable.value));
        environment.retain(|(other, _)| *other != name);
        environment.push((name, value));
    }
    let path = environment
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
        .envs(environment);
    let started = give(&mut command, given).and_then(|()| command.spawn());
    match started {
        Ok(child) => pid_of(&child),
        Err(error) if is_script_without_interpreter(&error) => {
            spawn_by_shell(&file, request, given)
        }
        Err(error) => Err(program::spawn_failure(&file, &error)),
    }
}

fn give(command: &mut Command, given: &Given) -> io::Result<()> {
    command
        .stdin(Stdio::from(given.input.try_clone()?))
        .stdout(Stdio::from(given.output.try_clone()?))
        .stderr(Stdio::from(given.error.try_clone()?));
    if given.terminal {
        own::lead_terminal(command);
    } else {
        // Ctrl-C goes to the whole group, as a terminal would send it.
        command.process_group(0);
    }
    Ok(())
}

/// A text file without `#!` is run by `sh`, as every shell does.
fn is_script_without_interpreter(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error())
}

fn spawn_by_shell(file: &Path, request: &StartRequest, given: &Given) -> Result<Pid, StartReply> {
    let noexec = io::Error::from_raw_os_error(rustix::io::Errno::NOEXEC.raw_os_error());
    let failure = || program::spawn_failure(file, &noexec);
    let start = std::fs::read(file).map_err(|_| failure())?;
    // A binary for another machine is no script: say so instead of feeding it to a shell.
    if start.iter().take(256).any(|&byte| byte == 0) || !Path::new("/bin/sh").exists() {
        return Err(failure());
    }
    let mut by_shell = request.clone();
    by_shell.argv[0] = file.as_os_str().as_encoded_bytes().to_vec();
    by_shell.argv.insert(0, b"/bin/sh".to_vec());
    spawn(&by_shell, given)
}

fn pid_of(child: &std::process::Child) -> Result<Pid, StartReply> {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| program::refusal(StartFailure::StartFailed, "no process id".to_owned()))
}
