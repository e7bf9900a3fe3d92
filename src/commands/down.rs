//! `skync down`: ends the session of a project and removes its sandbox.

use serde_json::json;

use crate::cli::DownArgs;
use crate::commands::{Context, follow};
use crate::error::{CliError, ExitCode};
use crate::session::proto::DownRequest;
use crate::ui::print;

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
    follow::to_the_end(connection, events.into_inner(), context).await?;
    context.tell("the session has ended and its sandbox is gone");
    said(context, true)
}

fn said(context: &Context, ended: bool) -> Result<ExitCode, CliError> {
    if context.json {
        print(&format!("{}\n", json!({ "schema_version": 1, "ok": true, "ended": ended })))?;
    }
    Ok(ExitCode::Done)
}
