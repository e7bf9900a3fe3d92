//! A session that goes on where an earlier process of it died: the sandbox, its operations, where it
//! is mounted, and whether it goes on without users.
//!
//! Clients that lived on come back at once; whoever does not within [`ORPHAN_PATIENCE`] died as well.
//! Then its command is stopped and what it wrote brought home: within 60 s nothing is left.

use std::sync::Arc;
use std::time::Duration;

use skync_agent::proto::{ForgetRequest, OperationsRequest};
use tokio::task::spawn_blocking;

use crate::error::{CliError, ExitCode};
use crate::operation::{OperationId, RecordState};
use crate::session::exec;
use crate::session::journal::{Entry, MountRecord};
use crate::session::lifecycle::User;
use crate::session::mount_place;
use crate::session::mount_table::Which;
use crate::session::operations::{Operation, Place};
use crate::session::server::{Session, now_ms};
use crate::session::ways::Way;
use crate::session::wish::Wish;

/// How long the clients of a session that died may take to come back.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(15);

/// Takes over what the earlier process had.
///
/// # Errors
/// If its sandbox may be there and cannot be reached.
pub(super) async fn take_over(session: &Arc<Session>, former: &Entry) -> Result<(), CliError> {
    tracing::info!(id = former.id, "going on where an earlier process of this session died");
    let mounts = former.mounts.clone();
    let is_there = former.sandbox.is_some();
    let dead = mounts.clone();
    // The keeper has done so, unless it died as well.
    let cleared = spawn_blocking(move || mount_place::clear(&dead, is_there)).await;
    if let Err(error) = cleared {
        tracing::warn!(%error, "what was mounted before is left as it is");
    }
    if !is_there || !session.adopt().await? {
        mounts.iter().for_each(MountRecord::remove_made);
        session.forget_mounts().await;
        write_down_lost(session);
        return Ok(());
    }
    if former.hold {
        session.mirror_exclude().clone_from(&former.exclude);
        session.life(|life| {
            life.hold();
            life.begin_mirror();
        });
    }
    take_over_operations(session).await?;
    write_down_lost(session);
    let session = Arc::clone(session);
    // An `up` that comes back finds its mount where it was.
    let turn = session.mounts.turn().await;
    tokio::spawn(async move {
        // Until it is through it counts as a command that runs.
        if !mounts.is_empty() && session.life(|life| life.join(User::Command)) {
            session.mount_again(turn, mounts).await;
            let (left, done) = session.leave(User::Command).await;
            if let Err(error) = done {
                tracing::warn!(%error, "something is left for the keeper to remove");
            }
            if !left.ending.is_empty() {
                return session.end();
            }
        } else {
            drop(turn);
        }
        tokio::time::sleep(ORPHAN_PATIENCE).await;
        let (gone, _) = session.unmount(Which::OfNobody, true).await;
        if !gone.is_empty() {
            tracing::info!(?gone, "nobody came back for it");
        }
        if session.life(|life| life.users()) > 0 {
            return;
        }
        session.end_once_home().await;
    });
    Ok(())
}

async fn take_over_operations(session: &Arc<Session>) -> Result<(), CliError> {
    let Way::Open(open) = session.ways.now() else { return Ok(()) };
    let (link, sandbox) = *open;
    let mut client = link.client;
    let reply = client.operations(OperationsRequest::default()).await.map_err(|status| {
        let message = format!("the agent failed: {}", status.message());
        CliError::new(ExitCode::Unreachable, message)
            .hint("try again: skync dials anew, and nothing of either side is lost")
    })?;
    for info in reply.into_inner().operations {
        let Some(id) = OperationId::from_bytes(&info.id) else { continue };
        // One that nobody wrote down is not of this session.
        let Ok(Some(record)) = session.store.read(id) else { continue };
        if record.state == RecordState::Ended {
            // Its end is written down; the sandbox was not told to forget it yet.
            let request = ForgetRequest { id: info.id };
            let mut client = client.clone();
            tokio::spawn(async move { client.forget(request).await });
            continue;
        }
        let place = Place { pid: info.pid, sandbox: sandbox.clone() };
        let patience = patience_of(record.disconnect_ms).map(|own| own.min(ORPHAN_PATIENCE));
        let operation = Arc::new(Operation::adopted(record, place, patience));
        if !session.life(|life| life.join(User::Command)) {
            return Ok(());
        }
        session.operations().insert(id, Arc::clone(&operation));
        let (wish, wishes) = tokio::sync::watch::channel(Wish::default());
        session.wishes().insert(id.to_vec(), wish);
        tokio::spawn(exec::go_on(Arc::clone(session), operation, wishes));
    }
    Ok(())
}

/// How long an operation goes on without its client; nothing: for ever.
pub(super) fn patience_of(disconnect_ms: u64) -> Option<Duration> {
    (disconnect_ms < u64::MAX).then(|| Duration::from_millis(disconnect_ms))
}

/// What is written down as running and does not run is lost.
fn write_down_lost(session: &Session) {
    let Ok(records) = session.store.list() else { return };
    let (root, profile) = (session.root(), session.profile().name.clone());
    for mut record in records {
        let is_ours = record.root == root && record.profile == profile;
        if !is_ours
            || record.state != RecordState::Running
            || session.operations().contains_key(&record.id)
        {
            continue;
        }
        record.state = RecordState::Lost;
        "the session that ran it died, and its sandbox with it".clone_into(&mut record.why);
        record.ended_ms = now_ms();
        if let Err(error) = session.store.finish(&record) {
            tracing::warn!(%error, "the end of an operation could not be written down");
        }
    }
}
