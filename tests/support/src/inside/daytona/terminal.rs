//! The process between the daemon and a terminal's shell: it makes the terminal its own, then it
//! is the shell. (A process may do that only to itself, and std has no safe hook for it.)

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{ioctl_tiocsctty, setsid};

/// `PATH-OF-TERMINAL PROGRAM ARGUMENTS…`.
pub(super) fn main(arguments: &[&str]) -> ExitCode {
    let [terminal, program, rest @ ..] = arguments else { return ExitCode::from(2) };
    let error = match become_shell(terminal, program, rest) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    eprintln!("error: cannot run {program}: {error}");
    ExitCode::from(127)
}

fn become_shell(
    terminal: &str,
    program: &str,
    arguments: &[&str],
) -> io::Result<std::convert::Infallible> {
    setsid()?;
    let terminal = OpenOptions::new().read(true).write(true).open(terminal)?;
    ioctl_tiocsctty(&terminal)?;
    let (input, output) = (terminal.try_clone()?, terminal.try_clone()?);
    Err(Command::new(program).args(arguments).stdin(input).stdout(output).stderr(terminal).exec())
}
