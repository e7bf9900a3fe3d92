//! The calls that mount a sandbox and take such mounts away.
//!
//! Each runs as a task of its own, so that a client that dies takes nothing with it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{MOUNT_TIMEOUT, MOUNT_TIMEOUT_MAX};
use crate::error::{CliError, ExitCode};
use crate::session::events::{Events, failure, summary, tell_of};
use crate::session::journal::MountRecord;
use crate::session::lifecycle::{Mirror, User};
use crate::session::mount_table::{Came, Which};
use crate::session::proto::{Finished, MountRequest, SyncSummary, UnmountRequest};
use crate::session::sandbox::How;
use crate::session::server::Session;
use crate::session::up::{bring_home, leave};
use crate::session::wish::interrupted;

/// Runs one `Mount`.
pub(super) async fn mount(session: Arc<Session>, request: MountRequest, events: Events) {
    let mut finished = Finished::default();
    match come(&session, &request, &events, &mut finished.sync).await {
        Ok(came) => {
            finished.had_mounted = came.had;
            finished.mounted = Some(came.info);
        }
        Err(error) => {
            events.send(failure(error)).await;
        }
    }
    leave(&session, User::Command, finished, &events).await;
}

async fn come(
    session: &Arc<Session>,
    request: &MountRequest,
    events: &Events,
    sync: &mut Option<SyncSummary>,
) -> Result<Came, CliError> {
    let wanted = wanted(request)?;
    let prepared = async {
        tell_note(session.check_mount(&wanted, None).await?, events).await;
        ready(session, events).await
    };
    *sync = tokio::select! {
        prepared = prepared => prepared?,
        // Nobody is there to use it.
        () = events.gone() => return Err(interrupted("the sandbox was mounted")),
    };
    let came = session.mount(wanted, None).await?;
    tell_note(came.note.clone(), events).await;
    Ok(came)
}

pub(super) async fn tell_note(note: Option<String>, events: &Events) {
    if let Some(note) = note {
        events.note(format!("note: {note}")).await;
    }
}

/// Sees that there is a sandbox, with the project in it. What a mirror does is left to it.
async fn ready(session: &Session, events: &Events) -> Result<Option<SyncSummary>, CliError> {
    match session.life(|life| life.mirror()) {
        // A pause lets nothing move, and needs no more than a sandbox to look into.
        Mirror::On | Mirror::Paused if session.is_live().await => return Ok(None),
        Mirror::Paused => {
            return Err(CliError::new(ExitCode::Conflict, "the mirror is paused")
                .hint("`skync resume` goes on, and the sandbox can be mounted then"));
        }
        Mirror::On | Mirror::Off => {}
    }
    session.ensure_live_shown(Some(events)).await?;
    let (report, ..) = session.synchronise(Some(events), How::Whole).await?;
    tell_of(&report, events).await;
    Ok(Some(summary(&report)))
}

/// Runs one `Unmount`.
pub(super) async fn unmount(session: Arc<Session>, request: UnmountRequest, events: Events) {
    let places: Vec<PathBuf> = request.at.into_iter().map(path).collect();
    let which = if places.is_empty() { Which::All } else { Which::At(&places) };
    let (gone, done) = session.unmount(which, request.force).await;
    if let Err((at, stays)) = done {
        for at in &gone {
            events.note(format!("`{}` is not mounted any more", at.display())).await;
        }
        events.send(failure(stays.error(&at, "`skync unmount --force`"))).await;
    }
    let sync = match gone.is_empty() {
        true => None,
        false => bring_home(&session, &events).await,
    };
    let unmounted = gone.into_iter().map(|at| at.into_os_string().into_vec()).collect();
    let finished = Finished { sync, unmounted, ..Finished::default() };
    leave(&session, User::Command, finished, &events).await;
}

/// What a client wants, checked.
///
/// # Errors
/// If it is not what our command line sends.
pub(super) fn wanted(request: &MountRequest) -> Result<MountRecord, CliError> {
    let (at, root) = (path(request.at.clone()), path(request.root.clone()));
    let is_plain = |path: &Path| {
        path.components().all(|part| !matches!(part, Component::ParentDir))
            && !path.as_os_str().as_encoded_bytes().contains(&0)
    };
    if !at.is_absolute() || at.parent().is_none() || !is_plain(&at) {
        let message = format!("nothing can be mounted at `{}`", at.display());
        return Err(
            CliError::new(ExitCode::Usage, message).hint("name a directory with `--at DIR`")
        );
    }
    if !is_plain(&root) {
        let message = format!("`{}` is not a plain path in the sandbox", root.display());
        return Err(CliError::new(ExitCode::Usage, message)
            .hint("`--root` is absolute, or below the project's root; without `..`"));
    }
    let timeout = match request.timeout_ms {
        0 => MOUNT_TIMEOUT,
        ms => Duration::from_millis(ms),
    };
    if timeout > MOUNT_TIMEOUT_MAX {
        // Whoever reads there could not be stopped for as long.
        let message = format!(
            "a mount waits for a lost link for at most {} minutes",
            MOUNT_TIMEOUT_MAX.as_secs() / 60
        );
        return Err(CliError::new(ExitCode::Usage, message)
            .hint("`--timeout TIME`, or `mount_timeout` in the profile, says how long"));
    }
    Ok(MountRecord {
        at,
        root,
        writable: request.writable,
        timeout,
        allow_other: request.allow_other,
        own_ids: request.own_ids,
        raw_symlinks: request.raw_symlinks,
        replay: !request.no_replay,
        with_up: false,
        made: Vec::new(),
    })
}

fn path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}
