//! The request that starts a command, from the command line and the surroundings.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use crate::cli::ExecArgs;
use crate::commands::Context;
use crate::commands::attached::{attachment, terminal_size};
use crate::config::quantity::milliseconds;
use crate::environment;
use crate::error::CliError;
use crate::operation::OperationId;
use crate::project::Project;
use crate::session::proto::{Begin, Variable};

/// The whole request, with an id that was never used before.
pub(super) fn begin(
    args: &ExecArgs,
    context: &Context,
    project: &Project,
) -> Result<Begin, CliError> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let git = environment::git_settings(&project.root);
    let variables = environment::collect(std::env::vars_os(), &args.env, &git)?;
    environment::check_directories(&variables, &project.root)?;
    let workdir = args.workdir.clone().unwrap_or_default();
    // An absolute directory of the project is meant as the same place in the sandbox.
    let in_project = workdir.strip_prefix(&project.root).ok();
    let (directory, sandbox_directory) = match (workdir.is_absolute(), in_project) {
        (true, None) => (PathBuf::new(), workdir),
        (true, Some(inside)) => (inside.to_owned(), PathBuf::new()),
        (false, _) => (project.inside.join(&workdir), PathBuf::new()),
    };
    let input = io::stdin().is_terminal();
    let has_terminal = wants_terminal(args, input, io::stdout().is_terminal());
    if has_terminal && !input && !args.detach {
        let text =
            "stdin is not a terminal; the command gets one, and reads from it what comes here";
        context.caution(text);
    }
    let is_person = has_terminal && input && !args.detach;
    Ok(Begin {
        id: OperationId::random().to_vec(),
        argv: args.command.iter().map(|word| word.as_bytes().to_vec()).collect(),
        directory: directory.into_os_string().into_vec(),
        sandbox_directory: sandbox_directory.into_os_string().into_vec(),
        environment: variables
            .into_iter()
            .map(|(name, value)| Variable { name: name.into_vec(), value: value.into_vec() })
            .collect(),
        exclude: args.exclude.clone(),
        name: args.name.clone().unwrap_or_default(),
        terminal: has_terminal.then(terminal_size),
        no_input: args.detach,
        detach: args.detach,
        timeout_ms: args.timeout.map_or(0, milliseconds),
        grace_ms: grace_ms(args.grace),
        disconnect_ms: args.on_disconnect.map_or(0, crate::config::OnDisconnect::to_ms),
        spool_bytes: args.spool.unwrap_or(0),
        no_wait: args.no_wait,
        sync_timeout_ms: args.sync_timeout.map_or(0, milliseconds),
        attachment: Some(attachment(is_person, args.reconnect_timeout)),
    })
}

/// The id that [`begin`] chose.
pub(super) fn id_of(begin: &Begin) -> OperationId {
    OperationId::from_bytes(&begin.id).expect("`begin` made it of 16 bytes")
}

/// A time between the steps of stopping, for a message.
pub(in crate::commands) fn grace_ms(grace: Option<std::time::Duration>) -> u32 {
    grace.map_or(0, |grace| u32::try_from(milliseconds(grace)).unwrap_or(u32::MAX))
}

/// Both must be terminals: a program that reads or writes a pipe must not find carriage returns in
/// it, nor its standard error mixed with its output.
fn wants_terminal(args: &ExecArgs, input: bool, output: bool) -> bool {
    !args.no_tty && (args.tty || (input && output && !args.detach))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn a_terminal_is_given_if_both_ends_are_one_or_it_is_asked_for() {
        let wants = |line: &str, input, output| {
            let words = ["skync", "exec"].into_iter().chain(line.split(' '));
            match Cli::try_parse_from(words).expect("understood").command {
                Command::Exec(args) => wants_terminal(&args, input, output),
                other => panic!("unexpected: {other:?}"),
            }
        };
        assert!(wants("ls", true, true));
        assert!(!wants("ls", true, false) && !wants("ls", false, true));
        assert!(wants("-t ls", false, false) && wants("-it ls", false, true));
        assert!(!wants("-T ls", true, true) && !wants("-d ls", true, true));
        assert!(wants("-dt ls", false, false));
    }
}
