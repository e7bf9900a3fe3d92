//! `skync completions`: the script with which a shell asks us, and our answers.
//!
//! An answer reads files and does nothing else: no session is asked, nothing is written, and what cannot
//! be read is not there. A person who presses Tab must not wait, nor see an error in the line.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Command, CommandFactory};
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use clap_complete::env::{CompleteEnv, Shells};
use serde_json::json;

use super::Context;
use crate::cli::{Cli, CompletionsArgs, Global, Shell};
use crate::error::{CliError, ExitCode};
use crate::operation::{Record, RecordState, Store};
use crate::ui::print;
use crate::ui::render::SCHEMA_VERSION;

/// The variable with which a shell's script asks for an answer.
pub const VARIABLE: &str = "COMPLETE";
/// The kinds of sandboxes.
const DRIVERS: [&str; 5] = ["docker", "e2b", "daytona", "directory", "local"];
/// Most operations, the newest, that are offered.
const OPERATIONS_MAX: usize = 50;
/// Most programs that are offered for the first word of a command.
const PROGRAMS_MAX: usize = 200;

/// Prints the script.
///
/// # Errors
/// If standard output cannot be written.
pub fn run(args: &CompletionsArgs, context: &Context) -> Result<ExitCode, CliError> {
    let name = shell_name(args.shell);
    let shells = Shells::builtins();
    let mut script = Vec::new();
    let written = shells.completer(name).map(|shell| {
        // By its name, so that the script is the same wherever it is installed.
        shell.write_registration(VARIABLE, "skync", "skync", "skync", &mut script)
    });
    if !matches!(written, Some(Ok(()))) {
        return Err(CliError::new(ExitCode::Failed, format!("there is no script for `{name}`"))
            .hint("`skync completions --help` lists the shells"));
    }
    let script = String::from_utf8_lossy(&script);
    if context.json {
        let document = json!({
            "schema_version": SCHEMA_VERSION,
            "ok": true,
            "shell": name,
            "script": script,
        });
        print(&format!("{document}\n"))?;
    } else {
        print(&script)?;
    }
    Ok(ExitCode::Done)
}

fn shell_name(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
        Shell::Elvish => "elvish",
        Shell::Powershell => "powershell",
    }
}

/// Answers a shell, if it is one that asks; true if it was.
pub fn answer(arguments: &[OsString]) -> bool {
    if std::env::var_os(VARIABLE).is_none() {
        return false;
    }
    let current = std::env::current_dir().ok();
    let answered = CompleteEnv::with_factory(command)
        .bin("skync")
        .completer("skync")
        .try_complete(arguments.to_vec(), current.as_deref());
    // The shell's line is no place for an error.
    answered.unwrap_or(true)
}

/// The commands that are offered, with what is to be said for their arguments. Those that are hidden are
/// not there at all: a hidden candidate shows if there is no other.
fn command() -> Command {
    let all = Cli::command();
    let shown = all.get_subcommands().filter(|verb| !verb.is_hide_set());
    let root = Command::new("skync")
        .disable_help_subcommand(true)
        .args(all.get_arguments().cloned())
        .subcommands(shown.cloned());
    informed(root)
}

/// Gives the arguments of a command and of those below it their candidates: by what they are called, so
/// that a new verb has them, too.
fn informed(command: Command) -> Command {
    let verb = command.get_name().to_owned();
    let is_of_profiles = ["use", "show", "remove", "validate"].contains(&verb.as_str());
    command
        .mut_args(|argument| {
            let id = argument.get_id().as_str().to_owned();
            let value = argument.get_value_names().and_then(|names| names.first().cloned());
            match (id.as_str(), value.as_deref().unwrap_or_default()) {
                ("profile", "NAME") => argument.add(ArgValueCandidates::new(profiles)),
                ("name", _) if is_of_profiles => argument.add(ArgValueCandidates::new(profiles)),
                ("driver", _) => argument.add(ArgValueCandidates::new(drivers)),
                (_, "OPERATION") if verb == "cancel" => {
                    argument.add(ArgValueCandidates::new(|| operations(true)))
                }
                (_, "OPERATION") => argument.add(ArgValueCandidates::new(|| operations(false))),
                (_, "DIR") => argument.add(ArgValueCompleter::new(PathCompleter::dir())),
                (_, "PATH" | "FILE") => argument.add(ArgValueCompleter::new(PathCompleter::any())),
                ("command", "COMMAND") => argument.add(ArgValueCompleter::new(Words)),
                ("topic", "COMMAND") => argument.add(ArgValueCandidates::new(topics)),
                _ => argument,
            }
        })
        .mut_subcommands(informed)
}

fn context() -> Option<Context> {
    Context::new(&Global::default()).ok()
}

fn profiles() -> Vec<CompletionCandidate> {
    let Some(config) = context().and_then(|context| context.config().ok()) else {
        return Vec::new();
    };
    let candidate = |name: String| {
        let driver = match config.profile(&name) {
            Some(Ok(profile)) => profile.driver.name(),
            Some(Err(_)) | None => "it has problems",
        };
        CompletionCandidate::new(&name).help(Some(driver.into()))
    };
    config.names().into_iter().map(candidate).collect()
}

fn drivers() -> Vec<CompletionCandidate> {
    DRIVERS.map(CompletionCandidate::new).into()
}

fn topics() -> Vec<CompletionCandidate> {
    let all = Cli::command();
    let verbs = all.get_subcommands().filter(|verb| !verb.is_hide_set());
    let names = verbs.map(|verb| verb.get_name().to_owned());
    names.chain(["exit-codes".to_owned()]).map(CompletionCandidate::new).collect()
}

/// The operations that are written down here, those that run first.
fn operations(running: bool) -> Vec<CompletionCandidate> {
    let records = context().and_then(|context| {
        // Opening the store would make it.
        let is_there = context.places.state.join("operations").is_dir();
        is_there.then(|| Store::open(&context.places).ok()?.list().ok()).flatten()
    });
    let mut records = records.unwrap_or_default();
    let runs = |record: &Record| record.state == RecordState::Running;
    records.retain(|record| !running || runs(record));
    records.sort_by_key(|record| (!runs(record), std::cmp::Reverse(record.began_ms)));
    let candidate = |(order, record): (usize, Record)| {
        let words = record.argv.join(" ");
        let word = if record.name.is_empty() { record.id.short() } else { record.name };
        let help = format!("{}: {}", record.state.word(), crate::ui::visible(&words));
        CompletionCandidate::new(word).help(Some(help.into())).display_order(Some(order))
    };
    records.into_iter().take(OPERATIONS_MAX).enumerate().map(candidate).collect()
}

/// The words of a command that runs in the sandbox: a program, then paths. What programs are there
/// nobody knows here; most that one calls are here as well.
struct Words;

impl ValueCompleter for Words {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        self.complete_at(0, current)
    }

    fn complete_at(&self, index: usize, current: &OsStr) -> Vec<CompletionCandidate> {
        let mut found = PathCompleter::any().complete(current);
        let text = current.to_string_lossy();
        if index == 0 && !text.is_empty() && !text.contains('/') {
            found.extend(programs(&text));
        }
        found
    }
}

fn programs(prefix: &str) -> Vec<CompletionCandidate> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let entries = directories.iter().filter_map(|directory| std::fs::read_dir(directory).ok());
    let names =
        entries.flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names.dedup();
    names.into_iter().take(PROGRAMS_MAX).map(CompletionCandidate::new).collect()
}
