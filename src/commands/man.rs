//! `skync man`: the manual, made from the same definitions as the help.

use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, roman};
use serde_json::json;

use super::Context;
use crate::cli::{Cli, ManArgs};
use crate::error::{CliError, ExitCode};
use crate::state;
use crate::ui::print;
use crate::ui::render::SCHEMA_VERSION;

/// What a page says of the environment. A test compares it with what the sources read.
const ENVIRONMENT: [(&str, &str); 18] = [
    ("SKYNC_PROFILE", "The profile to use, unless --profile names one."),
    ("SKYNC_KEY", "Any key of a profile in capitals, as in SKYNC_IMAGE: it wins over the files."),
    ("SKYNC_LOG", "What is logged, as in `skync=debug`; else --verbose says it."),
    (
        "SKYNC_AGENT_DIR",
        "A directory of agents, `skync-agent-MACHINE`, in place of those in the program.",
    ),
    (
        "SKYNC_E2B_TOKEN, SKYNC_DAYTONA_TOKEN",
        "The key of a provider; it outranks the provider's own variables and the keychain.",
    ),
    (
        "XDG_CONFIG_HOME, XDG_CONFIG_DIRS",
        "Where the configuration is; else ~/.config and /etc/xdg.",
    ),
    (
        "XDG_STATE_HOME",
        "Where sessions, logs and sandboxes of the directory driver are; else ~/.local/state.",
    ),
    ("XDG_RUNTIME_DIR", "Where the sockets of sessions are; else /run/user/UID or /tmp/skync-UID."),
    ("NO_COLOR", "Not empty: no colours. Progress is shown all the same."),
    ("FORCE_COLOR, CLICOLOR_FORCE", "Not empty and not 0: colours, also off a terminal."),
    ("TERM", "`dumb`: no colours, and plain lines of progress."),
    ("CI", "Not empty, 0 or false: plain lines of progress."),
    ("COMPLETE", "Set by a shell's script of completions."),
    ("DOCKER_HOST, DOCKER_CONTEXT, DOCKER_CONFIG", "Which engine is meant, as Docker has it."),
    (
        "E2B_API_KEY, E2B_DOMAIN, E2B_API_URL, E2B_SANDBOX_URL, E2B_DEBUG",
        "As E2B's own tools have them.",
    ),
    (
        "DAYTONA_API_KEY, DAYTONA_API_URL, DAYTONA_TARGET, DAYTONA_JWT_TOKEN, DAYTONA_ORGANIZATION_ID",
        "As Daytona's own tools have them.",
    ),
    ("HTTPS_PROXY, NO_PROXY", "How providers are reached."),
    (
        "GIT_AUTHOR_*, GIT_COMMITTER_*, SPECIFY_*, SPECKIT_*",
        "Passed on to commands, with a few others.",
    ),
];

const FILES: [(&str, &str); 6] = [
    ("$XDG_CONFIG_HOME/skync/config.toml", "The profiles, and which is used."),
    (
        "skync.toml, skync.local.toml",
        "The project's own settings, in its root; the second is for one person.",
    ),
    (
        ".skyncignore",
        "What is not synchronised, in the syntax of gitignore; in any directory of the project.",
    ),
    ("$XDG_STATE_HOME/skync/session.log", "What the sessions have to say."),
    (
        "$XDG_STATE_HOME/skync/operations",
        "Commands, and what they wrote, for a day after their end.",
    ),
    ("~/.remote/PROFILE", "Where a sandbox is mounted."),
];

/// Prints the page of `skync`, or writes all.
///
/// # Errors
/// If they cannot be written.
pub fn run(args: &ManArgs, context: &Context) -> Result<ExitCode, CliError> {
    let mut root = Cli::command();
    root.build();
    let Some(directory) = &args.dir else {
        let page = page(&root)?;
        if context.json {
            let document = json!({ "schema_version": SCHEMA_VERSION, "ok": true, "page": page });
            print(&format!("{document}\n"))?;
        } else {
            print(&page)?;
        }
        return Ok(ExitCode::Done);
    };
    let written = write(&root, directory)?;
    if context.json {
        let document = json!({
            "schema_version": SCHEMA_VERSION,
            "ok": true,
            "directory": directory,
            "pages": written,
        });
        print(&format!("{document}\n"))?;
    } else {
        context.tell(&format!("{} pages are in `{}`", written.len(), directory.display()));
    }
    Ok(ExitCode::Done)
}

/// Writes the page of a command and of all below it; gives their names.
fn write(root: &Command, directory: &Path) -> Result<Vec<String>, CliError> {
    state::make_directory(directory)?;
    let mut waiting = vec![root];
    let mut written = Vec::new();
    while let Some(command) = waiting.pop() {
        let name = format!("{}.1", command.get_display_name().unwrap_or("skync"));
        state::write_atomic(&directory.join(&name), page(command)?.as_bytes(), 0o644)?;
        written.push(name);
        waiting.extend(command.get_subcommands().filter(|verb| !verb.is_hide_set()));
    }
    written.sort();
    Ok(written)
}

fn page(command: &Command) -> Result<String, CliError> {
    let man = Man::new(command.clone()).title(title(command)).manual("skync");
    let mut out = Vec::new();
    let is_root = command.get_display_name().is_none_or(|name| name == "skync");
    let parts = man
        .render_title(&mut out)
        .and_then(|()| man.render_name_section(&mut out))
        .and_then(|()| man.render_synopsis_section(&mut out))
        .and_then(|()| man.render_description_section(&mut out))
        .and_then(|()| man.render_options_section(&mut out))
        .and_then(|()| match command.get_subcommands().any(|verb| !verb.is_hide_set()) {
            true => man.render_subcommands_section(&mut out),
            false => Ok(()),
        })
        .and_then(|()| rest(command, is_root).to_writer(&mut out));
    parts.map_err(|error| {
        CliError::new(ExitCode::Failed, "the manual cannot be made")
            .because(&error)
            .hint("`skync --help` says the same")
    })?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn title(command: &Command) -> String {
    command.get_display_name().unwrap_or("skync").to_uppercase()
}

/// What is not an argument: examples, exit codes, variables, files.
fn rest(command: &Command, is_root: bool) -> Roff {
    let mut roff = Roff::new();
    if let Some(help) = command.get_after_long_help() {
        let help = help.to_string();
        // The codes have a section of their own.
        let (examples, codes) = match help.split_once("\nExit codes") {
            Some((examples, _)) => (examples, true),
            None => (help.as_str(), false),
        };
        as_it_is(&mut roff, "EXAMPLES", examples.strip_prefix("Examples:\n").unwrap_or(examples));
        if codes && !is_root {
            as_it_is(&mut roff, "EXIT STATUS", &crate::cli::exit_codes());
        }
    }
    if is_root {
        as_it_is(&mut roff, "EXIT STATUS", &crate::cli::exit_codes());
        terms(&mut roff, "ENVIRONMENT", &ENVIRONMENT);
        terms(&mut roff, "FILES", &FILES);
    } else {
        roff.control("SH", ["SEE ALSO"]);
        roff.text([
            Inline::Bold("skync".to_owned()),
            roman("(1) has the exit codes, the environment and the files."),
        ]);
    }
    roff
}

fn as_it_is(roff: &mut Roff, section: &str, text: &str) {
    roff.control("SH", [section]);
    roff.control("nf", []);
    for line in text.trim_end().lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

fn terms(roff: &mut Roff, section: &str, terms: &[(&str, &str)]) {
    roff.control("SH", [section]);
    for (term, text) in terms {
        roff.control("TP", []);
        roff.text([Inline::Bold((*term).to_owned())]);
        roff.text([roman(*text)]);
    }
}
