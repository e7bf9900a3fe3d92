//! `skync exec` with the profile `local`: the command runs in place, without a sandbox (FR-008).

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::cli::ExecArgs;
use crate::config::Profile;
use crate::error::{CliError, ExitCode};

/// Becomes the command: same process, terminal, signals and exit code.
pub(super) fn run(args: &ExecArgs, profile: &Profile, current: &Path) -> Result<u8, CliError> {
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(CliError::new(ExitCode::Usage, "no command was given"));
    };
    let directory = args.workdir.as_ref().map_or(current.to_owned(), |dir| current.join(dir));
    if !directory.is_dir() {
        let message = format!("the directory `{}` is not there", directory.display());
        return Err(CliError::new(ExitCode::NotStarted, message));
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
    Err(CliError::new(code, format!("cannot run `{name}`")).because(&error))
}
