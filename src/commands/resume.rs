//! `skync resume`: ends a pause, or allows what was halted.

use crate::cli::ResumeArgs;
use crate::commands::{Context, flush, follow, no_session};
use crate::error::{CliError, ExitCode};
use crate::session::proto::ResumeRequest;

/// Goes on, and returns when both sides are the same.
///
/// # Errors
/// If there is no session, or the sides could not be synchronised.
pub async fn run(args: &ResumeArgs, context: &Context) -> Result<ExitCode, CliError> {
    let mut connection =
        context.find_session(args.root.as_deref()).await?.ok_or_else(no_session)?;
    let events = connection.client.resume(ResumeRequest { accept: args.accept }).await;
    let events = events.map_err(|status| follow::broken(&status))?.into_inner();
    let finished = follow::to_the_end(connection, events, context).await?;
    flush::said(&finished, context)
}
