//! `skync cancel`: stops an operation and everything that descends from it.

use serde_json::json;

use crate::cli::CancelArgs;
use crate::commands::exec::say;
use crate::commands::operations::{self, Found, broken, lost, no_outcome};
use crate::commands::{Context, attached};
use crate::error::{CliError, ExitCode};
use crate::operation::OperationId;
use crate::session::proto::{CancelReply, CancelRequest};
use crate::ui::print;
use crate::ui::render::SCHEMA_VERSION;

/// Stops it; returns when nothing of it is left.
///
/// # Errors
/// If there is no such operation, or something of it could not be stopped.
pub async fn run(args: &CancelArgs, context: &Context) -> Result<ExitCode, CliError> {
    let ended = CancelReply { found: true, had_ended: true, ..CancelReply::default() };
    let (id, reply) = match operations::find(&args.operation, context).await? {
        Found::Kept(record) if record.exit.is_some() => (record.id, ended),
        Found::Kept(record) => return Err(nothing_to_stop(no_outcome(&record))),
        Found::Orphan(record, _) => return Err(nothing_to_stop(no_outcome(&lost(*record)))),
        Found::Live(live) => {
            let mut connection = live.session(context).await?;
            let request = CancelRequest {
                id: live.id.to_vec(),
                grace_ms: crate::commands::exec::grace_ms(args.grace),
                kill: args.kill,
            };
            let reply = connection.client.cancel(request).await;
            let reply = reply.map_err(|status| broken(&status))?.into_inner();
            // It was there a moment ago.
            (live.id, if reply.found { reply } else { ended })
        }
    };
    told(id, &reply, context)
}

/// Its session is gone: whoever cleans up after that stops what is left.
fn nothing_to_stop(mut error: CliError) -> CliError {
    error.code = ExitCode::Failed;
    error.hint(
        "what its session left is stopped and removed within a minute; `skync gc` does it at once",
    )
}

fn told(id: OperationId, reply: &CancelReply, context: &Context) -> Result<ExitCode, CliError> {
    if reply.survivors > 0 {
        let mut error = attached::survivors(reply.survivors, id);
        error.message =
            format!("{}; {}", say::stopped(reply.stopped, reply.survivors), error.message);
        return Err(error);
    }
    if context.json {
        let document = json!({
            "schema_version": SCHEMA_VERSION,
            "ok": true,
            "id": id.to_string(),
            "had_ended": reply.had_ended,
            "stopped": reply.stopped,
            "survivors": reply.survivors,
        });
        print(&format!("{document}\n"))?;
    } else if reply.had_ended {
        context.tell(&format!("{} had ended before", id.short()));
    } else {
        context.tell(&say::stopped(reply.stopped, reply.survivors));
    }
    Ok(ExitCode::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_survivor_is_an_error_and_what_had_ended_is_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let context = Context::below(directory.path());
        let told = |reply| told(OperationId::random(), &reply, &context);
        let stopped = CancelReply { found: true, stopped: 7, ..CancelReply::default() };
        assert_eq!(told(stopped).expect("done"), ExitCode::Done);
        let ended = CancelReply { found: true, had_ended: true, ..CancelReply::default() };
        assert_eq!(told(ended).expect("done"), ExitCode::Done);
        let error = told(CancelReply { survivors: 1, ..stopped }).expect_err("one is left");
        assert_eq!(error.code, ExitCode::Failed);
        let expected = "stopped 7 processes, 1 left; 1 process of the command could not be stopped";
        assert_eq!(error.message, expected);
    }
}
