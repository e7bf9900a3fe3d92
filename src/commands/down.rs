//! `skync down`: ends the session of a project and removes its sandbox.

use serde_json::json;

use crate::cli::DownArgs;
use crate::commands::operations::{self, document};
use crate::commands::{Context, find_project, follow};
use crate::error::{CliError, ExitCode};
use crate::session::proto::{DownRequest, OperationState};
use crate::ui::{print, status_view, visible};

/// Most commands in the background that are named.
const HINTS_MAX: usize = 5;

/// Ends the session, after what is in the sandbox has come home.
///
/// # Errors
/// If that would lose something and `--discard` is not given.
pub async fn run(args: &DownArgs, context: &Context) -> Result<ExitCode, CliError> {
    let Some(mut connection) = context.find_session(args.root.as_deref()).await? else {
        context.tell("no session of this project runs");
        return said(context, false);
    };
    let request = DownRequest { discard: args.discard };
    let events = connection.client.down(request).await.map_err(|status| follow::broken(&status))?;
    if let Err(mut error) = follow::to_the_end(connection, events.into_inner(), context).await {
        error.hints.extend(in_the_background(args, context).await);
        return Err(error);
    }
    context.tell("the session has ended and its sandbox is gone");
    said(context, true)
}

/// How to stop what runs without a terminal in which Ctrl-C could.
async fn in_the_background(args: &DownArgs, context: &Context) -> Vec<String> {
    let Ok(project) = find_project(args.root.as_deref(), true) else { return Vec::new() };
    let live = operations::all(context).await.unwrap_or_default().into_iter();
    let runs = live.filter(|live| {
        let is_running = live.operation.state() == OperationState::OperationRunning;
        is_running && live.operation.clients == 0 && live.spec.root == project.root
    });
    let hint = |live: operations::Live| {
        let command = document::short(&status_view::words(&live.operation.argv));
        format!("`skync cancel {}` stops `{}`", live.id.short(), visible(&command))
    };
    runs.map(hint).take(HINTS_MAX).collect()
}

fn said(context: &Context, ended: bool) -> Result<ExitCode, CliError> {
    if context.json {
        print(&format!("{}\n", json!({ "schema_version": 1, "ok": true, "ended": ended })))?;
    }
    Ok(ExitCode::Done)
}
