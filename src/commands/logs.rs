//! `skync logs`: what an operation has written, and with `-f` what it writes.

use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::cli::LogsArgs;
use crate::commands::operations::replay::{Start, replay, show, show_gap};
use crate::commands::operations::{self, Found, Live, broken, lost, now_ms};
use crate::commands::{Context, follow};
use crate::config::quantity::milliseconds;
use crate::error::{CliError, ExitCode};
use crate::operation::output::Piece;
use crate::operation::{Record, RecordState};
use crate::session::proto::exec_request::Request;
use crate::session::proto::join::From;
use crate::session::proto::session_event::Event;
use crate::session::proto::{ExecRequest, Join};
use crate::ui::{say, visible};

/// Shows the output.
///
/// # Errors
/// If there is no such operation, or its output cannot be read.
pub async fn run(args: &LogsArgs, context: &Context) -> Result<ExitCode, CliError> {
    match operations::find(&args.operation, context).await? {
        Found::Live(live) => of_session(args, &live, context).await,
        Found::Kept(record) => of_store(args, &record, context),
        Found::Orphan(record, _) => of_store(args, &lost(*record), context),
    }
}

fn of_store(args: &LogsArgs, record: &Record, context: &Context) -> Result<ExitCode, CliError> {
    let start = match (args.tail, args.since) {
        (Some(lines), _) => Start::Lines(lines),
        (None, Some(since)) => Start::Since(now_ms().saturating_sub(milliseconds(since))),
        (None, None) => Start::Offset(0),
    };
    replay(record, start, args.stream.map(crate::cli::StreamName::number), context)?;
    if record.state != RecordState::Ended {
        let id = record.id.short();
        let text = format!("`{id}` is {}: {}", record.state.word(), visible(&record.why));
        context.caution(&text);
    }
    Ok(ExitCode::Done)
}

async fn of_session(args: &LogsArgs, live: &Live, context: &Context) -> Result<ExitCode, CliError> {
    let mut connection = live.session(context).await?;
    let from = match (args.tail, args.since) {
        (Some(lines), _) => From::Lines(lines),
        (None, Some(since)) => From::SinceMs(now_ms().saturating_sub(milliseconds(since))),
        (None, None) => From::Offset(0),
    };
    let join = Join {
        id: live.id.to_vec(),
        from: Some(from),
        no_follow: !args.follow,
        only: args.stream.map(crate::cli::StreamName::number),
        ..Join::default()
    };
    // Nothing more is said, but the end of our words would be the end of our interest.
    let (send, receive) = tokio::sync::mpsc::unbounded_channel();
    let _ = send.send(ExecRequest { request: Some(Request::Join(join)) });
    let called = connection.client.exec(UnboundedReceiverStream::new(receive)).await;
    let mut events = called.map_err(|status| broken(&status))?.into_inner();
    let mut failed = None;
    while let Some(event) = events.message().await.map_err(|status| broken(&status))? {
        match event.event {
            Some(Event::Output(output)) => {
                let stream = u8::from(output.stream != 0);
                let (offset, time_ms) = (output.offset, output.time_ms);
                let piece = Piece { stream, offset, time_ms, data: output.data.into() };
                if !show(&piece, context)? {
                    return Ok(ExitCode::Done);
                }
            }
            Some(Event::Gap(gap)) => show_gap(&gap, context)?,
            Some(Event::Failure(failure)) => failed = Some(follow::error_of(failure)),
            Some(Event::Note(text)) if context.quiet < 2 && !context.json => say(&visible(&text)),
            Some(Event::Finished(_)) => return failed.map_or(Ok(ExitCode::Done), Err),
            Some(_) | None => {}
        }
    }
    Err(failed.unwrap_or_else(|| {
        CliError::new(ExitCode::Failed, "the session ended before the command did")
            .hint(format!("`skync logs {}` again shows what is known", live.id.short()))
    }))
}
