//! A command line that was not understood: what it was going to be, and what is said of it.

use std::ffi::OsString;

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::{Cli, ColorChoice};
use crate::error::{CliError, ExitCode};

/// What a command line that could not be parsed was going to be, as far as that is to be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Glimpse {
    /// It is `exec`, whose codes below 123 are the command's.
    pub exec: bool,
    /// Errors are wanted as JSON.
    pub json: bool,
    /// What `--color` says.
    pub color: ColorChoice,
}

impl Glimpse {
    /// Looks at the arguments behind the program's name.
    pub fn of(arguments: &[OsString]) -> Self {
        let with_value = flags_with_value();
        let mut glimpse = Self::default();
        let mut verb = false;
        let mut arguments = arguments.iter().filter_map(|argument| argument.to_str());
        while let Some(argument) = arguments.next() {
            if argument == "--json" {
                glimpse.json = true;
            } else if let Some(when) = argument.strip_prefix("--color=") {
                glimpse.color = color(when);
            } else if argument == "--color" {
                glimpse.color = arguments.next().map_or(ColorChoice::Auto, color);
            } else if with_value.iter().any(|flag| flag == argument) {
                arguments.next();
            } else if argument == "exec" && !verb {
                (glimpse.exec, verb) = (true, true);
            } else if argument == "--" || (glimpse.exec && !argument.starts_with('-')) {
                // What follows is the command's.
                break;
            } else if !argument.starts_with('-') {
                verb = true;
            }
        }
        glimpse
    }

    /// What a program is told of it.
    pub fn error(self, error: &clap::Error) -> CliError {
        let code = if self.exec { ExitCode::NotStarted } else { ExitCode::Usage };
        let is_missing = matches!(
            error.kind(),
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand
        );
        if is_missing {
            return CliError::new(code, "a command is missing")
                .hint("`skync --help` lists the commands");
        }
        let text = error.to_string();
        let mut paragraphs = text.split("\n\n");
        let first = paragraphs.next().unwrap_or_default();
        // A list of what is missing stands below its first line.
        let message: Vec<&str> = first.lines().map(str::trim).collect();
        let message = message.join(" ");
        let message = message.strip_prefix("error: ").unwrap_or(&message);
        let mut shown = CliError::new(code, message);
        for line in paragraphs.flat_map(str::lines).map(str::trim) {
            if let Some(tip) = line.strip_prefix("tip: ") {
                shown = shown.hint(tip);
            }
        }
        shown.hint("`--help` says what there is")
    }
}

/// The flags of every command that have a value behind them.
fn flags_with_value() -> Vec<String> {
    let command = Cli::command();
    let with_value = command.get_arguments().filter(|flag| flag.get_action().takes_values());
    with_value.filter_map(|flag| Some(format!("--{}", flag.get_long()?))).collect()
}

fn color(when: &str) -> ColorChoice {
    match when {
        "always" => ColorChoice::Always,
        "never" => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}
