//! The command: parses, dispatches, and turns the outcome into an exit code.

use std::ffi::OsString;
use std::process::ExitCode as ProcessExit;

use clap::Parser;
use skync::cli::{Cli, Command, Glimpse, Global};
use skync::commands::{self, Context, runtime};
use skync::credentials::mask::Masked;
use skync::error::{CliError, ExitCode};
use skync::ui::render::{self, SCHEMA_VERSION, Style};
use skync::ui::{print, say};
use tracing_subscriber::EnvFilter;

fn main() -> ProcessExit {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if commands::completions::answer(&arguments) {
        return ProcessExit::SUCCESS;
    }
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, arguments.get(1..).unwrap_or_default()),
    };
    start_log(&cli.global);
    let (json, style) = (cli.global.json, Style::of_stderr(cli.global.color));
    let exec = matches!(cli.command, Command::Exec(_));
    match run(cli) {
        Ok(code) => ProcessExit::from(code),
        Err(error) => {
            // Whatever fails outside the command fails before it: `exec` itself reports the rest.
            let before_start = exec && (error.code as u8) < ExitCode::OutcomeUnknown as u8;
            let error = if before_start { error.not_started() } else { error };
            render::error(&error, json, style);
            ProcessExit::from(error.code as u8)
        }
    }
}

/// Dispatches. The code is the process's own, since `exec` passes a command's through.
fn run(cli: Cli) -> Result<u8, CliError> {
    let context = Context::new(&cli.global)?;
    let done = match cli.command {
        Command::Profile(command) => {
            runtime()?.block_on(commands::profile::run(&command, &context))?
        }
        Command::Use(args) => commands::use_profile::run(&args, &context)?,
        Command::Auth(command) => {
            let runtime = runtime()?;
            let done = runtime.block_on(commands::auth::run(&command, &context));
            // The look-up of a provider's name that was given up: nothing else ends it.
            runtime.shutdown_background();
            done?
        }
        Command::Config(command) => commands::config::run(&command, &context)?,
        Command::Trust(args) => commands::trust::run(&args, &context)?,
        Command::Exec(args) => return commands::exec::run(&args, &context),
        Command::Ps(args) => runtime()?.block_on(commands::ps::run(&args, &context))?,
        Command::Logs(args) => runtime()?.block_on(commands::logs::run(&args, &context))?,
        Command::Attach(args) => return commands::attach::run(&args, &context),
        Command::Wait(args) => return commands::wait::run(&args, &context),
        Command::Cancel(args) => runtime()?.block_on(commands::cancel::run(&args, &context))?,
        Command::Up(args) => runtime()?.block_on(commands::up::run(&args, &context))?,
        Command::Status(args) => runtime()?.block_on(commands::status::run(&args, &context))?,
        Command::Flush(args) => runtime()?.block_on(commands::flush::run(&args, &context))?,
        Command::Pause(args) => runtime()?.block_on(commands::pause::run(&args, &context))?,
        Command::Resume(args) => runtime()?.block_on(commands::resume::run(&args, &context))?,
        Command::Conflicts(args) => commands::conflicts::run(&args, &context)?,
        Command::Resolve(args) => runtime()?.block_on(commands::resolve::run(&args, &context))?,
        Command::Undo(args) => commands::undo::run(&args, &context)?,
        Command::Mount(args) => runtime()?.block_on(commands::mount::run(&args, &context))?,
        Command::Unmount(args) => runtime()?.block_on(commands::unmount::run(&args, &context))?,
        Command::Down(args) => runtime()?.block_on(commands::down::run(&args, &context))?,
        Command::Gc(args) => runtime()?.block_on(commands::gc::run(&args, &context))?,
        Command::Completions(args) => commands::completions::run(&args, &context)?,
        Command::Man(args) => commands::man::run(&args, &context)?,
        Command::Help(args) => commands::help::run(&args, &context)?,
        Command::Init(args) => commands::init::run(&args, &context)?,
        Command::Doctor(args) => commands::doctor::run(&args, &context)?,
        Command::Session(args) => commands::session::run(&args, &context)?,
    };
    Ok(done as u8)
}

/// Says why the command line was not understood, or prints the help that it asked for.
fn refuse(error: &clap::Error, arguments: &[OsString]) -> ProcessExit {
    let glimpse = Glimpse::of(arguments);
    let text = |color: bool| {
        let text = error.render();
        if color { text.ansi().to_string() } else { text.to_string() }
    };
    if !error.use_stderr() {
        let shown = if glimpse.json {
            let text = text(false);
            let document =
                serde_json::json!({ "schema_version": SCHEMA_VERSION, "ok": true, "help": text });
            format!("{document}\n")
        } else {
            text(Style::of_stdout(glimpse.color).color)
        };
        return match print(&shown) {
            Ok(()) => ProcessExit::SUCCESS,
            Err(error) => {
                render::error(&error, glimpse.json, Style::of_stderr(glimpse.color));
                ProcessExit::from(error.code as u8)
            }
        };
    }
    let refusal = glimpse.error(error);
    let style = Style::of_stderr(glimpse.color);
    if glimpse.json {
        render::error(&refusal, true, style);
    } else {
        say(text(style.color).trim_end());
    }
    ProcessExit::from(refusal.code as u8)
}

/// Sends the log to stderr: nothing but warnings, unless `-v` or SKYNC_LOG ask for more; a program and
/// who wants errors only get none of these either.
fn start_log(global: &Global) {
    let default = match global.verbose {
        0 if global.json || global.quiet > 1 => "error",
        0 => "warn",
        1 => "skync=info,skync_agent=info,warn",
        _ => "skync=debug,skync_agent=debug,info",
    };
    let asked = std::env::var("SKYNC_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = EnvFilter::try_new(asked.as_deref().unwrap_or(default))
        .unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Also the session's log, which is its stderr.
        .with_writer(|| Masked(std::io::stderr()))
        .with_target(false)
        .without_time()
        .init();
}
