//! `skync pause`: lets nothing move between the two sides.

use serde_json::json;

use crate::cli::SessionOf;
use crate::commands::{Context, follow, no_session};
use crate::error::{CliError, ExitCode};
use crate::session::proto::PauseRequest;
use crate::ui::print;

/// Pauses the mirror; what was being carried over is through when it returns.
///
/// # Errors
/// If nothing is mirrored.
pub async fn run(args: &SessionOf, context: &Context) -> Result<ExitCode, CliError> {
    let mut connection =
        context.find_session(args.root.as_deref()).await?.ok_or_else(no_session)?;
    let reply = connection.client.pause(PauseRequest {}).await;
    if !reply.map_err(|status| follow::broken(&status))?.into_inner().paused {
        let message = "nothing is mirrored, so there is nothing to pause";
        return Err(CliError::new(ExitCode::NotFound, message)
            .hint("a command that runs in the sandbox synchronises before and after itself only"));
    }
    context.tell("the mirror is paused: nothing moves until `skync resume`");
    if context.json {
        print(&format!("{}\n", json!({ "schema_version": 1, "ok": true, "paused": true })))?;
    }
    Ok(ExitCode::Done)
}
