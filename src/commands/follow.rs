//! Follows a call of the session that ends by itself, and shows what it tells meanwhile.

use tonic::Streaming;

use crate::commands::{Context, setup};
use crate::error::{CliError, ExitCode};
use crate::session::client::Connection;
pub(super) use crate::session::client::broken;
use crate::session::proto::session_event::Event;
use crate::session::proto::{Failure, Finished, Progress, SessionEvent};
use crate::ui::progress;
use crate::ui::visible;

/// Follows a call to its end.
///
/// # Errors
/// What the session says went wrong; that it went away.
pub(super) async fn to_the_end(
    connection: Connection,
    mut events: Streaming<SessionEvent>,
    context: &Context,
) -> Result<Finished, CliError> {
    let progress = progress::Progress::new(context);
    let mut setup = setup::Lines::default();
    let mut failed = None;
    while let Some(event) = events.message().await.map_err(|status| broken(&status))? {
        match event.event {
            Some(Event::Progress(shown)) => show(&progress, &shown),
            Some(Event::Note(text)) => progress.note(&text),
            Some(Event::Setup(news)) => setup.show(&news, &progress, context),
            Some(Event::Failure(failure)) => failed = Some(error_of(failure)),
            Some(Event::Finished(finished)) => {
                progress.clear();
                drop(events);
                say_kept(&finished, context);
                connection.goodbye(&finished.ending).await;
                return failed.map_or(Ok(finished), Err);
            }
            Some(
                Event::Started(_)
                | Event::Output(_)
                | Event::Exit(_)
                | Event::Status(_)
                | Event::Moved(_)
                | Event::Gap(_)
                | Event::InputTaken(_)
                | Event::Link(_)
                | Event::Evicted(_),
            )
            | None => {}
        }
    }
    progress.clear();
    Err(failed.unwrap_or_else(|| {
        let message = "the session ended without saying whether all is done";
        CliError::new(ExitCode::Failed, message).hint("`skync gc` shows and removes what is left")
    }))
}

/// Shows how far something is.
pub(super) fn show(progress: &progress::Progress, shown: &Progress) {
    if shown.files_total > 0 {
        return progress.transfer((shown.files, shown.files_total), (shown.done, shown.total));
    }
    if !shown.step.is_empty() {
        progress.step(&shown.step);
    }
    let total = (shown.total > 0).then_some(shown.total);
    if shown.done > 0 || total.is_some() {
        if shown.bytes {
            progress.bytes(shown.done, total);
        } else {
            progress.files(shown.done, total);
        }
    }
}

/// The session's error, for a person here.
pub(super) fn error_of(failure: Failure) -> CliError {
    let code = ExitCode::from_number(failure.code);
    let mut error = CliError::new(code, visible(&failure.message));
    error.hints = failure.hints;
    error.details = failure.details;
    error
}

/// Says that a sandbox was kept, and what to do.
pub(super) fn say_kept(finished: &Finished, context: &Context) {
    if finished.kept.is_empty() {
        return;
    }
    let text = format!("the sandbox is kept: {}", visible(&finished.kept));
    context.caution(&text);
    let text =
        "the next `skync exec` or `skync up` tries again; `skync down --discard` gives it up";
    context.caution(text);
}
