//! Files before a command and after it: the sandbox has everything of the host when the command
//! starts, and the host everything of the sandbox when it has ended.

use std::sync::Arc;
use std::time::Duration;

use skync_agent::proto::StateNumber;

use crate::driver::{Progress, Sandbox};
use crate::error::{CliError, ExitCode};
use crate::link::Link;
use crate::session::events::{Events, progress_to_client, tell_of};
use crate::session::exec::Clock;
use crate::session::operations::Operation;
use crate::session::proto::session_event::Event;
use crate::session::sandbox::{How, Told};
use crate::session::server::Session;
use crate::session::ways::Way;
use crate::sync::engine;
use crate::sync::report::{Report, changes};

/// How long synchronising before a command may make no progress, if nobody says otherwise.
const SYNC_PATIENCE: Duration = Duration::from_secs(60);
/// The end of a link shows within this after a call over it has failed.
const LINK_END_SHOWS: Duration = Duration::from_millis(50);

/// Brings the sandbox up if there is none, and everything of the host into it.
pub(super) async fn prepare(
    session: &Arc<Session>,
    operation: &Operation,
    events: &Events,
    clock: &mut Clock,
) -> Result<(Sandbox, Report), CliError> {
    let begin = &operation.begin;
    if session.is_paused() {
        return Err(paused("its command would not see the files as they are"));
    }
    let tell = events.clone();
    let progress =
        move |progress: Progress| tell.offer(Event::Progress(progress_to_client(progress)));
    let patience = match begin.sync_timeout_ms {
        0 => SYNC_PATIENCE,
        ms => Duration::from_millis(ms),
    };
    // What was written to a mount before is there for the command.
    session.settle_mounts().await;
    let (report, sandbox) = loop {
        let asked = ask(session);
        let live = session.ensure_live(&begin.exclude, &progress);
        if let Err(error) = session.with_setup(events, live).await {
            // A command that is begun while the link is lost waits for it, as one that runs.
            mended(session, patience, error).await?;
            continue;
        }
        clock.timings.sandbox_us += clock.lap();
        let used = UsedLink::of(session);
        let how = asked.map_or(How::Whole, How::After);
        let synchronise = session.synchronise(Some(events), how);
        let synchronised = patiently(session, patience, Box::pin(synchronise));
        match synchronised.await {
            Ok((report, _, sandbox)) => break (report, sandbox),
            Err(error) => still_there(session, &used, patience, error).await?,
        }
    };
    clock.timings.sync_in_us = clock.lap();
    if report.no_space[1] {
        let open = changes(report.open[1]);
        return Err(CliError::new(
            ExitCode::Exhausted,
            format!("the sandbox's disk is full: no room for {open} of the host"),
        )
        .hint("give the sandbox more room, or exclude what it does not need (`--exclude`)")
        .hint("the profile's `root` puts the project elsewhere in it: `/dev/shm` is small there"));
    }
    tell_of(&report, events).await;
    Ok((sandbox, report))
}

/// Has the sandbox asked what was done there until now, while the mirror may still be at work.
fn ask(session: &Session) -> Option<Told> {
    let Way::Open(open) = session.ways.now() else { return None };
    let asked = tokio::spawn(engine::ask(open.0.client));
    Some(Box::pin(async move { asked.await.ok().flatten() }))
}

/// The link that work was begun over, to see after a failure whether that was its end.
pub(super) struct UsedLink(Option<Link>);

impl UsedLink {
    /// The one that is open now.
    pub(super) fn of(session: &Session) -> Self {
        match session.ways.now() {
            Way::Open(open) => Self(Some(open.0)),
            Way::None | Way::Lost(_) | Way::Gone(_) => Self(None),
        }
    }

    /// True if it has ended: another one may be open by now, dialled within a moment.
    pub(super) async fn has_ended(&self, session: &Session) -> bool {
        // A call over a link that breaks fails a moment before the end of the link shows.
        let ended = match &self.0 {
            Some(link) => tokio::time::timeout(LINK_END_SHOWS, link.closed()).await.is_ok(),
            None => true,
        };
        let way = session.ways.now();
        matches!(way, Way::Lost(_)) || (ended && matches!(way, Way::Open(_)))
    }
}

/// After a failure: waits for the link, if that has ended.
///
/// # Errors
/// The failure, if it has another reason or the link does not come back in time.
async fn still_there(
    session: &Session,
    used: &UsedLink,
    patience: Duration,
    error: CliError,
) -> Result<(), CliError> {
    if !used.has_ended(session).await {
        return Err(error);
    }
    let deadline = tokio::time::Instant::now() + patience;
    if session.ways.is_mended_until(deadline).await { Ok(()) } else { Err(error) }
}

/// After a failure to reach the sandbox: waits for the link, if it is lost.
///
/// # Errors
/// The failure, if it has another reason or the link does not come back in time.
async fn mended(session: &Session, patience: Duration, error: CliError) -> Result<(), CliError> {
    if !matches!(session.ways.now(), Way::Lost(_)) {
        return Err(error);
    }
    let deadline = tokio::time::Instant::now() + patience;
    if session.ways.is_mended_until(deadline).await { Ok(()) } else { Err(error) }
}

/// Gives up when synchronising makes no progress for so long.
async fn patiently<T>(
    session: &Session,
    patience: Duration,
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let mut work = std::pin::pin!(work);
    let mut views = session.view.subscribe();
    let mut seen = views.borrow_and_update().reply.progress.clone();
    let mut deadline = tokio::time::Instant::now() + patience;
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = views.changed() => {
                let now = views.borrow_and_update().reply.progress.clone();
                if now != seen {
                    seen = now;
                    deadline = tokio::time::Instant::now() + patience;
                }
            }
            () = tokio::time::sleep_until(deadline) => {
                let seconds = patience.as_secs_f32();
                let message = format!(
                    "synchronising before the command has made no progress for {seconds} s"
                );
                return Err(CliError::new(ExitCode::NotStarted, message)
                    .hint("`skync status` says what is in the way")
                    .hint("`--sync-timeout` sets how long to wait"));
            }
        }
    }
}

/// Brings home what was done in the sandbox; `told` is a state that shows what the command did.
pub(super) async fn sync_out(
    session: &Arc<Session>,
    told: Option<StateNumber>,
    events: &Events,
) -> Result<Report, CliError> {
    if !session.is_there().await {
        // The sandbox is gone, and that has been said.
        return Ok(Report::default());
    }
    if session.is_paused() {
        return Err(paused("what the command wrote is still in the sandbox"));
    }
    session.mend_only().await?;
    let how = match told {
        _ if session.life(|life| life.is_last()) => How::Last,
        Some(state) => How::After(Box::pin(std::future::ready(Some(state)))),
        None => How::Whole,
    };
    let (report, ..) = session.synchronise(Some(events), how).await.map_err(|error| {
        error.hint(
            "the sandbox is kept with what the command wrote; run any `skync exec` to try again",
        )
    })?;
    tell_of(&report, events).await;
    // A script must not go on without results that it was promised.
    if report.failed[0] > 0 && !report.is_one_way {
        let failed = changes(report.failed[0]);
        let (code, message) = if report.no_space[0] {
            let message = format!("the host's disk is full: no room for {failed} of the sandbox");
            (ExitCode::Exhausted, message)
        } else {
            let message = format!("{failed} of the sandbox could not be written on the host");
            (ExitCode::Failed, message)
        };
        return Err(CliError::new(code, message).hint(
            "the sandbox is kept: once there is room, or it may be written, run any `skync exec`",
        ));
    }
    Ok(report)
}

/// Paused means that nothing moves, and a command is ordered between two synchronisations: it
/// neither moves files behind the back of who paused, nor runs on files that are not those here.
fn paused(so: &str) -> CliError {
    CliError::new(ExitCode::Conflict, format!("the mirror is paused: {so}"))
        .hint("`skync resume` goes on")
}
