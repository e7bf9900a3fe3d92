//! The verbs that explain the others, and the texts that all of them share: the table of exit codes
//! stands in the help, the manual and the README, and comes from [`ExitCode`] alone.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::error::ExitCode;

pub(super) const COMPLETIONS_HELP: &str = "\
Examples:
  source <(skync completions bash)          in ~/.bashrc
  source <(skync completions zsh)           in ~/.zshrc, behind `compinit`
  skync completions fish > ~/.config/fish/completions/skync.fish
  eval (skync completions elvish | slurp)   in ~/.config/elvish/rc.elv
  skync completions powershell | Out-String | Invoke-Expression

The script asks `skync` itself, which knows the profiles and the commands that run. It must be printed
again after an upgrade, so let the shell do that whenever it starts.";

pub(super) const MAN_HELP: &str = "\
Examples:
  skync man | man -l -                           read it here
  skync man --dir ~/.local/share/man/man1        then `man skync-exec`";

pub(super) const HELP_HELP: &str = "\
Examples:
  skync help exec          the same as `skync exec --help`
  skync help exit-codes    what the exit codes of all commands say";

const EXAMPLES: &str = "\
Examples:
  skync profile add dev --driver docker --image python:3.12
  skync exec pytest -q            run the tests in the sandbox, with this project's files
  skync exec -- make -j4          everything behind `--` belongs to the command
  skync exec -d ./train.py        in the background; `skync logs`, `attach`, `cancel`
  skync up                        keep the project mirrored, both ways, until Ctrl-C
  skync use local                 run commands in place from now on";

/// What stands behind the options in `skync --help`.
pub(super) fn root_help() -> String {
    format!(
        "{EXAMPLES}\n\n{}`skync exec --help` has those of `exec`, `attach` and `wait`.",
        of_every_command()
    )
}

/// The exit codes of all commands, as `skync help exit-codes` prints them.
pub fn exit_codes() -> String {
    format!("{}\n{}", of_every_command(), of_a_command())
}

fn of_every_command() -> String {
    let codes = ExitCode::ALL.into_iter().filter(|code| !code.is_of_a_command());
    let head = "Exit codes of every command but `exec`, `attach` and `wait`:";
    format!("{head}\n{}", rows(codes.map(|code| ((code as u8).to_string(), code.meaning()))))
}

/// The exit codes of those whose code is a command's.
fn of_a_command() -> String {
    format!("Exit codes of `exec`, `attach` and `wait`:\n{}", command_rows())
}

/// The rows of that table.
pub(super) fn command_rows() -> String {
    let own = ("N".to_owned(), "the command's own; 128+S if signal S ended it");
    let codes = ExitCode::ALL
        .into_iter()
        .filter(|code| code.is_of_a_command() || *code == ExitCode::Interrupted)
        .map(|code| ((code as u8).to_string(), code.meaning()));
    rows(std::iter::once(own).chain(codes))
}

fn rows(rows: impl Iterator<Item = (String, &'static str)>) -> String {
    rows.map(|(code, meaning)| format!("  {code:<5}{meaning}\n")).collect()
}

/// The shells that there are completions for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash
    Bash,
    /// Zsh
    Zsh,
    /// fish
    Fish,
    /// Elvish
    Elvish,
    /// PowerShell
    Powershell,
}

/// Arguments of `completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Args, Clone, Debug, Default)]
pub struct ManArgs {
    /// Write a page for every command into this directory; pages of that name are replaced
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Arguments of `help`.
#[derive(Args, Clone, Debug, Default)]
pub struct HelpArgs {
    /// A command, as in `profile add`; or `exit-codes`
    #[arg(value_name = "COMMAND")]
    pub topic: Vec<String>,
}
