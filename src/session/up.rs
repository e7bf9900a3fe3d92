//! One `skync up`, in the session: the first synchronisation, then what happens, until its client
//! leaves or dies. And the calls that drive a mirror: flush, resume, down.
//!
//! Each runs as a task of its own, so that a client that dies takes nothing with it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use crate::error::{CliError, ExitCode};
use crate::session::events::{
    Events, failure, notes_of, progress_to_client, summary, tell_lines, tell_of,
};
use crate::session::journal::MountRecord;
use crate::session::lifecycle::{Lifecycle, Mirror, User};
use crate::session::mount_calls::{tell_note, wanted};
use crate::session::mount_table::Which;
use crate::session::proto::session_event::Event;
use crate::session::proto::{Finished, SyncSummary, UpRequest};
use crate::session::sandbox::How;
use crate::session::server::{News, Session};
use crate::session::view::Activity;
use crate::session::ways::Way;
use crate::session::wish::{Wish, given_up, interrupted};

/// How long commands that are given up may take to leave.
const GIVE_UP_PATIENCE: Duration = Duration::from_secs(10);

/// Between two states that a client is shown.
pub(super) const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// Runs one `Up` from its request to its last event.
pub(super) async fn run(
    session: Arc<Session>,
    request: UpRequest,
    wishes: watch::Receiver<Wish>,
    events: Events,
) {
    let news = session.news.subscribe();
    let begun = tokio::select! {
        begun = begin(&session, &request, &events) => begun,
        // Dropped in between it leaves nothing half done: what is there goes with the last user,
        // and a mount right here.
        () = given_up(wishes.clone()) => Err(interrupted("the mirror had started")),
        () = events.gone() => Err(interrupted("the mirror had started")),
    };
    let mut finished = Finished::default();
    match begun {
        Ok(first) => {
            finished.sync = first;
            if !request.hold {
                tokio::select! {
                    () = session.with_setup(&events, follow(&session, &events, news)) => {}
                    () = given_up(wishes) => {}
                    () = events.gone() => {}
                }
                unmount(&session, &request.id, &events).await;
                finished.sync = bring_home(&session, &events).await.or(finished.sync);
            }
        }
        Err(error) => {
            unmount(&session, &request.id, &events).await;
            events.send(failure(error)).await;
        }
    }
    session.forget_wish(&request.id);
    leave(&session, User::Up, finished, &events).await;
}

/// What was mounted with an `Up` goes with it, also under who uses it: its sandbox goes, too.
async fn unmount(session: &Session, id: &[u8], events: &Events) {
    if let (_, Err((at, stays))) = session.unmount(Which::OfUp(id), false).await {
        let text = format!("warning: `{}` was unmounted although {}", at.display(), stays.words());
        events.note(text).await;
        let (_, left) = session.unmount(Which::OfUp(id), true).await;
        if let Err((at, stays)) = left {
            events
                .note(format!("warning: `{}` is still mounted: {}", at.display(), stays.words()))
                .await;
        }
    }
}

/// Brings the sandbox up if there is none, synchronises, and lets the mirror begin.
async fn begin(
    session: &Arc<Session>,
    request: &UpRequest,
    events: &Events,
) -> Result<Option<SyncSummary>, CliError> {
    for pattern in &request.exclude {
        let mut patterns = session.mirror_exclude();
        if !patterns.contains(pattern) {
            patterns.push(pattern.clone());
        }
    }
    let mount = request.mount.as_ref().map(wanted).transpose()?;
    if let Some(mount) = &mount {
        tell_note(session.check_mount(mount, Some(&request.id)).await?, events).await;
    }
    if session.is_paused() {
        if request.hold {
            session.life(Lifecycle::hold);
            session.record_hold().await;
        }
        let is_missing = mount.is_some_and(|mount| !session.mounts.places().contains(&mount.at));
        let nothing = if is_missing { "; nothing is mounted: `skync mount` does so" } else { "" };
        events.note(format!("the mirror is paused: `skync resume` goes on{nothing}")).await;
        return Ok(None);
    }
    session.ensure_live_shown(Some(events)).await?;
    let synchronised = session.synchronise(Some(events), How::Whole).await;
    let halted = matches!(session.view.borrow().activity(), Activity::Halted(_));
    if synchronised.is_ok() || halted {
        let at = mount.as_ref().map(|mount| mount.at.clone());
        if let Some(mount) = mount {
            mount_with(session, mount, request, events).await?;
        }
        // What is halted waits for a person's word, with the mirror there to take it.
        session.life(|life| {
            if request.hold {
                life.hold();
            }
            life.begin_mirror();
        });
        if let (true, Some(at)) = (request.hold, at) {
            // A mirror in the background keeps it; it goes by `unmount` or `down`.
            session.keep_mount(&at).await;
        }
        session.record_hold().await;
    }
    match synchronised {
        Ok((report, ..)) => {
            if request.hold {
                tell_of(&report, events).await;
            } else {
                // Conflicts and problems are in the state that it follows.
                tell_lines(notes_of(&report), events).await;
            }
            Ok(Some(summary(&report)))
        }
        Err(_) if halted && !request.hold => Ok(None),
        Err(error) => Err(error),
    }
}

/// Mounts the sandbox for an `Up`.
async fn mount_with(
    session: &Arc<Session>,
    wanted: MountRecord,
    request: &UpRequest,
    events: &Events,
) -> Result<(), CliError> {
    let at = wanted.at.display().to_string();
    let came = session.mount(wanted, Some(request.id.clone())).await?;
    tell_note(came.note, events).await;
    let is = if came.had { "is mounted already" } else { "is mounted" };
    events.note(format!("the sandbox {is} at {at}")).await;
    Ok(())
}

/// Tells what happens, until the client is gone or the session has ended.
async fn follow(session: &Session, events: &Events, mut news: broadcast::Receiver<News>) {
    let mut views = session.view.subscribe();
    views.mark_changed();
    loop {
        let event = tokio::select! {
            // News first: it came before the state that it led to.
            biased;
            told = news.recv() => match told {
                Ok(News::Moved(batch)) => Event::Moved((*batch).clone()),
                Ok(News::Note(text)) => Event::Note(text),
                Err(RecvError::Lagged(missed)) => {
                    Event::Note(format!("… {missed} lines were left out"))
                }
                Err(RecvError::Closed) => return,
            },
            changed = views.changed() => match changed {
                Ok(()) => {
                    let mut reply = views.borrow_and_update().reply.clone();
                    session.measured(&mut reply);
                    Event::Status(reply)
                }
                Err(_) => return,
            },
        };
        let is_status = matches!(event, Event::Status(_));
        if !events.send(event).await {
            return;
        }
        if is_status {
            // Only so often; news waits with it, so that the two stay in order.
            tokio::time::sleep(STATUS_INTERVAL).await;
        }
    }
}

/// What the sandbox holds comes home before its last user leaves. With others it need not, and
/// must not while they want nothing to move.
pub(super) async fn bring_home(session: &Session, events: &Events) -> Option<SyncSummary> {
    let (alone, paused) = session.life(|life| (life.is_last(), life.mirror() == Mirror::Paused));
    if (paused && !alone) || !session.is_live().await {
        return None;
    }
    let how = if alone { How::Last } else { How::Whole };
    match session.synchronise(Some(events), how).await {
        Ok((report, ..)) => {
            tell_lines(notes_of(&report), events).await;
            Some(summary(&report))
        }
        Err(error) => {
            events.note(format!("warning: {error}")).await;
            None
        }
    }
}

/// Leaves the session, tells its client how, and ends the session if it was the last.
pub(super) async fn leave(session: &Session, user: User, finished: Finished, events: &Events) {
    let (left, gone) = session.leave(user).await;
    if let Err(error) = gone {
        events.note(format!("warning: {error}")).await;
    }
    let ends = !left.ending.is_empty();
    let finished = Finished {
        ending: left.ending,
        kept: left.kept.unwrap_or_default(),
        goes_on: left.goes_on,
        ..finished
    };
    events.send(Event::Finished(finished)).await;
    if ends {
        events.read_to_the_end().await;
        session.end();
    }
}

/// Why a `Flush` or `Resume` is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// A person waits for what was done before.
    Flush,
    /// A pause ends.
    Resume,
    /// What was halted is allowed.
    Accept,
}

/// Runs one `Flush` or `Resume`: makes both sides the same and tells what that did.
pub(super) async fn flush(session: Arc<Session>, why: Why, events: Events) {
    let mut finished = Finished::default();
    match flushed(&session, why, &events).await {
        Ok(done) => finished.sync = Some(done),
        Err(error) => {
            events.send(failure(error)).await;
        }
    }
    leave(&session, User::Command, finished, &events).await;
}

async fn flushed(session: &Session, why: Why, events: &Events) -> Result<SyncSummary, CliError> {
    session.settle_mounts().await;
    let (was_paused, mirror) = session.life(|life| {
        let was_paused = why != Why::Flush && life.resume();
        (was_paused, life.mirror())
    });
    match (why, mirror) {
        (_, Mirror::Paused) => {
            return Err(CliError::new(ExitCode::Conflict, "the mirror is paused")
                .hint("`skync resume` goes on"));
        }
        (Why::Resume, Mirror::Off) => {
            return Err(CliError::new(
                ExitCode::NotFound,
                "nothing is mirrored, so nothing is paused",
            )
            .hint("`skync up` mirrors the project"));
        }
        (Why::Resume, Mirror::On) if !was_paused => {
            events.note("the mirror is not paused".to_owned()).await;
        }
        (Why::Accept, _) if !matches!(session.view.borrow().activity(), Activity::Halted(_)) => {
            events.note("nothing is halted".to_owned()).await;
        }
        _ => {}
    }
    if mirror == Mirror::On {
        // What is missing or broken is made or mended now, and not when the mirror gets to it.
        let tell = |progress| events.offer(Event::Progress(progress_to_client(progress)));
        session.with_setup(events, session.ensure_live(&[], &tell)).await?;
    }
    let how = if why == Why::Accept { How::Accepted } else { How::Whole };
    let (report, ..) = session.synchronise(Some(events), how).await?;
    tell_of(&report, events).await;
    match report.no_space {
        [false, false] => Ok(summary(&report)),
        [host, _] => {
            let side = if host { "host" } else { "sandbox" };
            let open = crate::sync::report::changes(report.open[usize::from(!host)]);
            let message = format!("the {side}'s disk is full: no room for {open}");
            Err(CliError::new(ExitCode::Exhausted, message)
                .hint("make room, or exclude what is not needed there (`.skyncignore`)"))
        }
    }
}

/// A person gives up a sandbox that cannot be reached: so are the commands in it.
async fn give_up_what_is_out_of_reach(session: &Session) {
    if !matches!(session.ways.now(), Way::Lost(_)) {
        return;
    }
    let operations: Vec<_> = session.operations().values().cloned().collect();
    operations.iter().for_each(|operation| operation.give_up());
    let mut duties = session.duty.subscribe();
    let left = duties.wait_for(|duty| !duty.busy);
    let _ = tokio::time::timeout(GIVE_UP_PATIENCE, left).await;
}

/// Takes away what is mounted, before results come home. While others use the session it stays.
async fn unmount_for_down(session: &Session, discard: bool) -> Result<(), CliError> {
    if session.life(|life| life.users()) > 0 {
        return Ok(());
    }
    if discard {
        // What cannot be taken away must not keep what a person has given up.
        session.unmount_all().await;
        return Ok(());
    }
    let (_, done) = session.unmount(Which::All, false).await;
    done.map_err(|(at, stays)| {
        let error = stays.error(&at, "`skync down --discard`");
        CliError { message: format!("the session stays: {}", error.message), ..error }
    })
}

/// Runs one `Down`: brings home what it can, then ends the session unless that would lose
/// something.
pub(super) async fn down(session: Arc<Session>, discard: bool, events: Events) {
    if let Err(error) = unmount_for_down(&session, discard).await {
        events.send(failure(error)).await;
        return;
    }
    if !discard
        && session.life(|life| life.users()) == 0
        && session.is_live().await
        && let Err(error) = session.synchronise(Some(&events), How::Last).await
    {
        tracing::warn!(%error, "the last synchronisation failed");
    }
    if discard {
        give_up_what_is_out_of_reach(&session).await;
    }
    if let Err((why, used)) =
        session.life(|life| life.down(discard).map_err(|why| (why, life.users() > 0)))
    {
        let hint = match used {
            true => "end what runs first (Ctrl-C in its terminal)",
            false => "`skync down --discard` gives up what is only in the sandbox",
        };
        let error = CliError::new(ExitCode::Conflict, format!("the session stays: {why}"));
        events.send(failure(error.hint(hint))).await;
        return;
    }
    match session.tear_down().await {
        Ok(()) => {
            let ending = Session::processes();
            events.send(Event::Finished(Finished { ending, ..Finished::default() })).await
        }
        Err(error) => events.send(failure(error)).await,
    };
    events.read_to_the_end().await;
    session.end();
}
