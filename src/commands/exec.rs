//! `skync exec`: runs a command in the sandbox as if it ran here.

mod begin;
mod place;
pub(super) mod report;
pub(super) mod say;

use serde_json::json;

pub(super) use begin::grace_ms;

use self::report::Report;
use crate::cli::ExecArgs;
use crate::commands::attached::{self, First, Role, Wanted};
use crate::commands::{Context, attached::Outcome, current_directory, find_project, running};
use crate::config::{DriverConfig, Profile, RECONNECT_TIMEOUT};
use crate::error::CliError;
use crate::project::Project;
use crate::session::Spec;
use crate::ui::{print, render};

/// Runs the command; the code is the command's own, or one of skync's (see `--help`).
///
/// # Errors
/// What went wrong before the command started, or while its results came home.
pub fn run(args: &ExecArgs, context: &Context) -> Result<u8, CliError> {
    let report = args.report.as_deref().map(Report::new).transpose()?;
    let ran = execute(args, context, report.as_ref());
    if let (Some(report), Err(error)) = (&report, &ran) {
        // Where it could not be written, the error that it would have told matters more.
        let _ = report.write(&report::failed(&args.command, error));
    }
    ran
}

fn execute(args: &ExecArgs, context: &Context, report: Option<&Report>) -> Result<u8, CliError> {
    let selected = context.select_in(args.root.as_deref())?;
    let current = current_directory()?;
    if matches!(selected.profile.driver, DriverConfig::Local) {
        return place::run(args, &selected.profile, &current, context.json);
    }
    let project = find_project(args.root.as_deref(), args.force)?;
    if let Some(warning) = project.warning() {
        context.caution(&warning);
    }
    running::warn_of_older(context, &project.root, &selected.profile);
    let wanted = wanted(args, context, &project, &selected.profile)?;
    let spec = Spec {
        // The keeper that is started chooses the id; one that runs has its own.
        id: String::new(),
        root: project.root,
        profile: selected.profile,
    };
    let runtime = crate::commands::runtime()?;
    let outcome = runtime.block_on(attached::run(context, &spec, wanted));
    // A read of standard input may be under way in a thread: it must not hold us.
    runtime.shutdown_background();
    ended(args, context, &outcome?, report)
}

fn wanted(
    args: &ExecArgs,
    context: &Context,
    project: &Project,
    profile: &Profile,
) -> Result<Wanted, CliError> {
    let begin = begin::begin(args, context, project)?;
    let is_person = begin.attachment.is_some_and(|attachment| attachment.person);
    let limit = args.reconnect_timeout.or(profile.reconnect_timeout).unwrap_or(RECONNECT_TIMEOUT);
    Ok(Wanted {
        id: begin::id_of(&begin),
        first: First::Begin(Box::new(begin)),
        role: Role::Owner,
        detach: args.detach,
        reconnect: (!is_person).then_some(limit),
    })
}

/// Says what came of it, where that is not the command's own to say.
fn ended(
    args: &ExecArgs,
    context: &Context,
    outcome: &Outcome,
    report: Option<&Report>,
) -> Result<u8, CliError> {
    let (code, error) = outcome.code(args.detach);
    let facts = report::of(outcome, &args.command, code, error.as_ref());
    if let Some(report) = report {
        report.write(&facts)?;
    }
    if args.detach && error.is_none() && outcome.left.is_none() {
        let id = outcome.id;
        let name = args.name.clone().unwrap_or_default();
        print(&if context.json {
            let document =
                json!({ "schema_version": 1, "ok": true, "id": id.to_string(), "name": name });
            format!("{document}\n")
        } else {
            format!("{}\n", id.short())
        })?;
        return Ok(code);
    }
    if context.json {
        print(&format!("{}\n", report::event(facts)))?;
    }
    say::ended(outcome, context);
    match error {
        // It ran: the code is its own, or at least says that it did.
        Some(error) if outcome.exit.is_some() => {
            render::error(&error, context.json, context.style);
            Ok(code)
        }
        Some(error) => Err(error),
        None => Ok(code),
    }
}
