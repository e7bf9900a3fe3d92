//! `skync init`: sets up a profile for a project, with at most four questions.
//!
//! `look` finds out what there is, `propose` says what fits (pure), `questions` asks, `written` makes
//! the draft that is shown and then written.

mod look;
mod propose;
mod questions;
mod written;

use serde_json::{Value, json};

use crate::cli::InitArgs;
use crate::commands::{Context, profile};
use crate::config::layers::PROJECT_FILE;
use crate::error::{CliError, ExitCode};
use crate::ui::prompt::{Standard, Terminal};
use crate::ui::render::SCHEMA_VERSION;
use crate::ui::{print, visible};
use look::Found;
use questions::{Asked, Place};
use written::Draft;

/// Sets up a profile.
///
/// # Errors
/// If nobody can be asked and `--yes` is not given, if a setting is wrong, or if the file cannot be
/// written; then nothing was.
pub fn run(args: &InitArgs, context: &Context) -> Result<ExitCode, CliError> {
    let asks = !args.yes && !args.dry_run;
    if asks {
        can_ask(context)?;
    }
    if let Some(driver @ "local") = args.driver.as_deref() {
        let message = format!("`{driver}` needs no profile: it runs commands in place");
        return Err(CliError::new(ExitCode::Usage, message).hint("`skync use local` chooses it"));
    }
    let found = look::around(args, asks);
    if args.project {
        found.project.clone()?;
    }
    let mut terminal = Standard;
    let failed = |error| {
        CliError::new(ExitCode::Failed, "cannot ask")
            .because(&error)
            .hint("`skync init --yes` takes the proposals without a question")
    };
    let answers = match asks {
        false => questions::proposed(args, &found),
        true => match questions::ask(args, &found, &mut terminal).map_err(failed)? {
            Asked::Answer(answers) => answers,
            Asked::End => return Err(given_up()),
        },
    };
    let project = found.project.as_deref().ok();
    let draft = written::draft(&answers, args.name.as_deref(), &context.places, project)?;
    if asks && !draft.is_there {
        let text = format!("\nThis will be written into {}\n", draft.shown());
        terminal.show(&text).map_err(failed)?;
        if !questions::confirm(&mut terminal).map_err(failed)? {
            return Err(given_up());
        }
    }
    let writes = !args.dry_run && !draft.is_there;
    if writes {
        draft.write(&context.places)?;
    }
    if context.json {
        print(&format!("{}\n", document(&draft, writes, context, &found)))?;
    } else if args.dry_run {
        print(&would_be(&draft))?;
    } else {
        tell(&draft, context, &found);
    }
    Ok(ExitCode::Done)
}

/// Somebody must be there to answer.
fn can_ask(context: &Context) -> Result<(), CliError> {
    if context.can_ask() {
        return Ok(());
    }
    let why = if context.json { "`--json` asks nothing" } else { "there is no terminal to ask on" };
    Err(CliError::new(ExitCode::Usage, format!("{why}, and `--yes` is not given"))
        .hint("`skync init --yes` takes the proposals; `skync init --dry-run` shows them")
        .hint("--driver, --image, --exclude, --name, and --project or --user, say it instead"))
}

fn given_up() -> CliError {
    CliError::new(ExitCode::Interrupted, "nothing was written")
        .hint("`skync init --yes` takes the proposals without a question")
}

fn would_be(draft: &Draft) -> String {
    if draft.is_there {
        return format!(
            "nothing: `{}` is there already, with these settings\n",
            draft.profile.name
        );
    }
    format!("would write into {}", draft.shown())
}

/// The driver whose key is not there.
fn missing_key(draft: &Draft, found: &Found) -> Option<&'static str> {
    match (draft.profile.driver.name(), found.keys) {
        ("e2b", [false, _]) => Some("e2b"),
        ("daytona", [_, false]) => Some("daytona"),
        _ => None,
    }
}

/// What to do next, one command or sentence each.
fn next(draft: &Draft, found: &Found) -> Vec<String> {
    let name = &draft.profile.name;
    let mut next = Vec::new();
    if let Some(driver) = missing_key(draft, found) {
        next.push(format!("skync auth login {driver}    there is no key for it yet"));
    }
    if !draft.is_active {
        next.push(format!("skync use {name}    makes it the one that is used"));
    }
    next.push("skync exec CMD    runs a command there, on this project's files".to_owned());
    if found.kind == propose::Kind::SpecKit || found.is_empty && found.project.is_ok() {
        let what = "begins a spec-kit project; without --force it asks";
        next.push(format!("skync exec specify init --here --force    {what}"));
    }
    next
}

fn tell(draft: &Draft, context: &Context, found: &Found) {
    let name = &draft.profile.name;
    let file = visible(&draft.file.to_string_lossy());
    let kind = found.kind.words();
    match draft.is_there {
        true => context.tell(&format!("`{name}` is in `{file}` already, with these settings")),
        false => context.tell(&format!("wrote the profile `{name}` into `{file}`, for {kind}")),
    }
    if draft.file.ends_with(PROJECT_FILE) {
        context
            .tell("what is for you alone goes into `skync.local.toml`; keep that one out of git");
    }
    context.tell("next:");
    for line in next(draft, found) {
        context.tell(&format!("  {line}"));
    }
}

fn document(draft: &Draft, written: bool, context: &Context, found: &Found) -> Value {
    let place = if draft.file.ends_with(PROJECT_FILE) { Place::Project } else { Place::User };
    json!({
        "schema_version": SCHEMA_VERSION,
        "ok": true,
        "written": written,
        "file": draft.file.to_string_lossy(),
        "place": if place == Place::Project { "project" } else { "user" },
        "profile": profile::document(&draft.profile, context),
        "active": draft.is_active,
        "text": draft.new,
        "missing_key": missing_key(draft, found),
        "next": next(draft, found),
    })
}
