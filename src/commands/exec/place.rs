//! `skync exec` with the profile `local`: the command runs in place, without a sandbox (FR-008).

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::cli::ExecArgs;
use crate::config::Profile;
use crate::error::{CliError, ExitCode};

/// A command in place is a child of the user's shell: what a session would do for it nobody does.
fn refuse_what_needs_a_session(args: &ExecArgs, json: bool) -> Result<(), CliError> {
    let flags = [
        // Its output is the command's own, byte for byte.
        ("--json", json),
        ("--detach", args.detach),
        ("--name", args.name.is_some()),
        ("--timeout", args.timeout.is_some()),
        ("--report", args.report.is_some()),
    ];
    match flags.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => {
            let message =
                format!("`{flag}` does nothing with a profile that runs commands in place");
            Err(CliError::new(ExitCode::Usage, message)
                .hint("`--profile NAME` uses another; `skync profile list` shows them"))
        }
        None => Ok(()),
    }
}

/// Becomes the command: same process, terminal, signals and exit code.
pub(super) fn run(
    args: &ExecArgs,
    profile: &Profile,
    current: &Path,
    json: bool,
) -> Result<u8, CliError> {
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(CliError::new(ExitCode::Usage, "no command was given")
            .hint("name it behind the options: `skync exec make`"));
    };
    refuse_what_needs_a_session(args, json)?;
    let directory = args.workdir.as_ref().map_or(current.to_owned(), |dir| current.join(dir));
    if !directory.is_dir() {
        let message = format!("the directory `{}` is not there", directory.display());
        return Err(CliError::new(ExitCode::NotStarted, message)
            .hint("`--workdir DIR` is meant from the current directory"));
    }
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).envs(&profile.env);
    for wish in &args.env {
        // The whole environment goes along anyway, so a name alone asks for nothing.
        if let Some((name, value)) = wish.split_once('=') {
            command.env(name, value);
        }
    }
    let error = command.exec();
    let name = program.to_string_lossy();
    let code = match error.kind() {
        io::ErrorKind::NotFound => ExitCode::CommandNotFound,
        _ => ExitCode::NotExecutable,
    };
    Err(CliError::new(code, format!("cannot run `{name}`"))
        .because(&error)
        .hint("the profile runs commands on this machine; `--profile NAME` uses a sandbox"))
}
