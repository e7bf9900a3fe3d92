//! `skync flush`: waits until everything that was done before is on both sides.

use serde_json::json;

use crate::cli::SessionOf;
use crate::commands::{Context, follow, no_session};
use crate::error::{CliError, ExitCode};
use crate::session::proto::{Finished, FlushRequest};
use crate::ui::print;
use crate::ui::status_view::count;

/// Synchronises what there is.
///
/// Conflicts and paths that cannot be synchronised are told and are no failure: what could be
/// carried over is on both sides.
///
/// # Errors
/// If there is no session, or it could not be done: no room, a halt, a broken link.
pub async fn run(args: &SessionOf, context: &Context) -> Result<ExitCode, CliError> {
    let mut connection =
        context.find_session(args.root.as_deref()).await?.ok_or_else(no_session)?;
    let events = connection.client.flush(FlushRequest {}).await;
    let events = events.map_err(|status| follow::broken(&status))?.into_inner();
    let finished = follow::to_the_end(connection, events, context).await?;
    said(&finished, context)
}

/// Says what a synchronisation did.
pub(super) fn said(finished: &Finished, context: &Context) -> Result<ExitCode, CliError> {
    let sync = finished.sync.clone().unwrap_or_default();
    if context.json {
        let document = json!({
            "schema_version": 1,
            "ok": true,
            "files_sent": sync.files_sent,
            "bytes_sent": sync.bytes_sent,
            "files_received": sync.files_received,
            "bytes_received": sync.bytes_received,
            "removed_in_sandbox": sync.removed_in_sandbox,
            "removed_on_host": sync.removed_on_host,
            "conflicts": sync.conflicts,
            "problems": sync.problems,
            "kept": finished.kept,
            "ended": !finished.ending.is_empty(),
        });
        print(&format!("{document}\n"))?;
        return Ok(ExitCode::Done);
    }
    let out = match (sync.conflicts.len() + sync.problems.len()) as u64 {
        0 => String::new(),
        1 => ", but for 1 path".to_owned(),
        left => format!(", but for {} paths", count(left)),
    };
    context.tell(&format!("both sides are the same{out}"));
    Ok(ExitCode::Done)
}
