//! `skync down`: ends the session of a project and removes its sandbox.

use std::path::PathBuf;

use serde_json::json;

use crate::cli::DownArgs;
use crate::commands::Context;
use crate::error::{CliError, ExitCode};
use crate::project::Project;
use crate::session::client::Connection;
use crate::session::proto::DownRequest;
use crate::session::proto::exec_event::Event;
use crate::ui::progress::Progress;
use crate::ui::{print, visible};

/// Ends the session, after what is in the sandbox has come home.
///
/// # Errors
/// If that would lose something and `--discard` is not given.
pub async fn run(args: &DownArgs, context: &Context) -> Result<ExitCode, CliError> {
    let profile = context.select()?.profile;
    let current = std::env::current_dir().map_err(|error| {
        CliError::new(ExitCode::Failed, "cannot find the current directory").because(&error)
    })?;
    let home = std::env::var_os("HOME").map(PathBuf::from);
    // A session of the home directory, once forced, must be able to end.
    let project = Project::find(&current, args.root.as_deref(), home.as_deref(), true)?;
    let Some(mut connection) =
        Connection::find(&context.places, &project.root, &profile.name).await
    else {
        context.tell("no session of this project runs");
        return said(context, false);
    };
    let request = DownRequest { discard: args.discard };
    let events = connection.client.down(request).await.map_err(|status| failed(&status))?;
    let (mut events, progress) = (events.into_inner(), Progress::new(context));
    while let Some(event) = events.message().await.map_err(|status| failed(&status))? {
        match event.event {
            Some(Event::Progress(shown)) => progress.step(&shown.step),
            Some(Event::Note(text)) => progress.note(&text),
            Some(Event::Failure(failure)) => {
                progress.clear();
                let code = ExitCode::from_number(failure.code);
                let mut error = CliError::new(code, visible(&failure.message));
                error.hints = failure.hints;
                return Err(error);
            }
            Some(Event::Finished(finished)) => {
                progress.clear();
                connection.goodbye(&finished.ending).await;
                context.tell("the session has ended and its sandbox is gone");
                return said(context, true);
            }
            Some(Event::Started(_) | Event::Output(_) | Event::Exit(_)) | None => {}
        }
    }
    Err(CliError::new(ExitCode::Failed, "the session ended without saying whether all is gone")
        .hint("`skync gc` shows and removes what is left"))
}

fn failed(status: &tonic::Status) -> CliError {
    CliError::new(ExitCode::Failed, format!("the session failed: {}", status.message()))
}

fn said(context: &Context, ended: bool) -> Result<ExitCode, CliError> {
    if context.json {
        print(&format!("{}\n", json!({ "schema_version": 1, "ok": true, "ended": ended })))?;
    }
    Ok(ExitCode::Done)
}
