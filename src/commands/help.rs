//! `skync help`: the help of a command, or the exit codes of all.

use clap::CommandFactory;
use serde_json::json;

use super::Context;
use crate::cli::{Cli, HelpArgs, exit_codes};
use crate::error::{CliError, ExitCode};
use crate::ui::print;
use crate::ui::render::{SCHEMA_VERSION, Style};

/// The word that is no command: it asks for the exit codes.
const EXIT_CODES: &str = "exit-codes";

/// Prints it.
///
/// # Errors
/// If there is no such command.
pub fn run(args: &HelpArgs, context: &Context) -> Result<ExitCode, CliError> {
    let is_codes = args.topic.len() == 1 && args.topic[0] == EXIT_CODES;
    let (text, codes) = if is_codes {
        let codes = ExitCode::ALL.map(
            |code| json!({ "code": code as u8, "kind": code.kind(), "meaning": code.meaning() }),
        );
        (exit_codes(), Some(codes))
    } else {
        (of_command(&args.topic, context)?, None)
    };
    if context.json {
        let mut document = json!({ "schema_version": SCHEMA_VERSION, "ok": true, "help": text });
        if let Some(codes) = codes {
            document["exit_codes"] = json!(codes);
        }
        print(&format!("{document}\n"))?;
    } else {
        print(&text)?;
    }
    Ok(ExitCode::Done)
}

fn of_command(topic: &[String], context: &Context) -> Result<String, CliError> {
    let mut command = Cli::command();
    command.build();
    for word in topic {
        let known: Vec<String> = command
            .get_subcommands()
            .filter(|found| !found.is_hide_set())
            .map(|found| found.get_name().to_owned())
            .collect();
        let Some(found) = command.find_subcommand(word).cloned() else {
            let message = format!("there is no command `{}`", crate::ui::visible(&topic.join(" ")));
            let error = CliError::new(ExitCode::NotFound, message);
            let error = match crate::config::nearest(word, known.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error,
            };
            return Err(error.hint("`skync help` lists them; `skync help exit-codes` the codes"));
        };
        command = found;
    }
    let help = command.render_long_help();
    let is_plain = context.json || !Style::of_stdout(context.color).color;
    Ok(if is_plain { help.to_string() } else { help.ansi().to_string() })
}
