//! What is done with a command while it runs, whether its link is open or not: its end is waited
//! for, wishes are carried out, and it is stopped if nobody comes back to it.

use std::sync::Arc;
use std::time::Duration;

use skync_agent::proto::{CancelRequest, DetachRequest, Exit, SignalRequest, WaitRequest};
use tokio::sync::watch;
use tonic::{Code, Status};

use crate::link::Link;
use crate::session::operations::{Operation, Place};
use crate::session::server::Session;
use crate::session::ways::Way;
use crate::session::wish::{Wish, next_wish};

/// Time between the steps of stopping a command, if nobody says otherwise.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// A call that failed over a link that has ended: its end shows within this.
pub(super) const LINK_END_SHOWS: Duration = Duration::from_secs(1);

/// What a client's death, TERM or hang-up mean for its command, so that it can end cleanly.
pub(super) const SIGINT: u32 = 2;
pub(super) const SIGTERM: u32 = 15;
pub(super) const SIGKILL: u32 = 9;

/// How a command that ran has ended.
pub(super) enum End {
    /// It ended.
    Exited(Exit),
    /// Its outcome will never be known; why, in words for a person.
    Lost(String),
}

/// Waits until a command has ended, over as many links as it takes.
pub(super) async fn to_the_end(
    session: &Arc<Session>,
    operation: &Arc<Operation>,
    place: &Place,
    wishes: watch::Receiver<Wish>,
) -> End {
    tokio::select! {
        end = ended(session, operation, place) => end,
        () = obey(session, operation, wishes) => End::Lost("nobody is left to wait for it".into()),
        () = operation.given_up() => End::Lost("its sandbox was given up".into()),
        () = mind_absence(session, operation) => End::Lost("nobody is left to wait for it".into()),
    }
}

async fn ended(session: &Session, operation: &Operation, place: &Place) -> End {
    let mut ways = session.ways.subscribe();
    loop {
        let way = ways.borrow_and_update().clone();
        match way {
            Way::Open(open) if open.1.id == place.sandbox.id => {
                let request = WaitRequest { id: operation.id.to_vec() };
                let wait = over(&open.0, |mut client| async move { client.wait(request).await });
                let waited = tokio::select! {
                    waited = wait => waited,
                    // It comes a turn of the link sooner, if the command is quick.
                    exit = operation.exit() => Some(Ok(exit)),
                };
                match waited {
                    Some(Ok(exit)) if exit.unknown => {
                        return End::Lost("its supervisor in the sandbox was killed".to_owned());
                    }
                    Some(Ok(exit)) => return End::Exited(exit),
                    Some(Err(status)) => {
                        return End::Lost(format!(
                            "the agent in the sandbox knows nothing of it: {}",
                            status.message()
                        ));
                    }
                    None => {}
                }
            }
            Way::Gone(words) => return End::Lost(words),
            Way::None | Way::Open(_) => {
                return End::Lost(format!("the sandbox `{}` was removed", place.sandbox.name));
            }
            Way::Lost(_) => {}
        }
        if ways.changed().await.is_err() {
            return End::Lost("the session is ending".to_owned());
        }
    }
}

/// Makes a call over a link; nothing if the link ends before it is answered, or an answer that is
/// about the call itself.
async fn over<T, F>(
    link: &Link,
    call: impl FnOnce(skync_agent::proto::agent_client::AgentClient<crate::channel::Channel>) -> F,
) -> Option<Result<T, Status>>
where
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    let answer = tokio::select! {
        answer = call(link.client.clone()) => answer.map(tonic::Response::into_inner),
        () = link.closed() => return None,
    };
    match answer {
        Ok(answer) => Some(Ok(answer)),
        Err(status) if is_answer(&status) => Some(Err(status)),
        Err(status) => {
            tracing::debug!(%status, "a call over the link failed");
            // A call over a link that breaks fails a moment before the end of the link shows.
            if tokio::time::timeout(LINK_END_SHOWS, link.closed()).await.is_ok() {
                return None;
            }
            Some(Err(status))
        }
    }
}

/// True for what an agent says itself, as against a call that did not get through.
fn is_answer(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::NotFound
            | Code::AlreadyExists
            | Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::DeadlineExceeded
            | Code::Unimplemented
    )
}

/// Makes a call to the agent, over the next link if the present one ends. Nothing if there is no
/// such sandbox any more.
pub(super) async fn call<T, F>(
    session: &Session,
    sandbox: &str,
    call: impl Fn(skync_agent::proto::agent_client::AgentClient<crate::channel::Channel>) -> F,
) -> Option<Result<T, Status>>
where
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    let mut ways = session.ways.subscribe();
    loop {
        let way = ways.borrow_and_update().clone();
        match way {
            Way::Open(open) if open.1.id == sandbox => {
                if let Some(answer) = over(&open.0, &call).await {
                    return Some(answer);
                }
            }
            Way::Open(_) | Way::None | Way::Gone(_) => return None,
            Way::Lost(_) => {}
        }
        ways.changed().await.ok()?;
    }
}

/// Carries out wishes for ever.
async fn obey(session: &Arc<Session>, operation: &Arc<Operation>, wishes: watch::Receiver<Wish>) {
    let mut wishes = wishes;
    let mut seen = Wish::default();
    // What was wished between the start and now.
    let mut wish = *wishes.borrow_and_update();
    loop {
        if wish.cancel && !seen.cancel {
            // TERM and hang-up of the client are told as INT first, so that the command can end
            // cleanly. A second Ctrl-C has no signal of its own: INT has been tried.
            let told = wish.count > seen.count;
            let first = if told { SIGINT } else { SIGTERM };
            tokio::spawn(cancel(Arc::clone(session), Arc::clone(operation), first, None));
        } else if wish.count > seen.count {
            signal(session, operation, wish.signal).await;
        }
        seen = wish;
        wish = next_wish(&mut wishes).await;
    }
}

async fn signal(session: &Session, operation: &Operation, signal: u32) {
    let Some(place) = operation.place() else { return };
    let id = operation.id.to_vec();
    let told = call(session, &place.sandbox.id, |mut client| {
        let request = SignalRequest { id: id.clone(), signal };
        async move { client.signal(request).await }
    });
    if let Some(Err(error)) = told.await {
        tracing::warn!(%error, "a signal did not reach the command");
    }
}

/// Stops a command with everything that descends from it: how many were stopped, and how many are
/// left. Nothing if its sandbox is gone.
pub(super) async fn cancel(
    session: Arc<Session>,
    operation: Arc<Operation>,
    first: u32,
    grace: Option<Duration>,
) -> Option<Result<(u32, u32), Status>> {
    let place = operation.place()?;
    let asked = match operation.begin.grace_ms {
        0 => GRACE,
        ms => Duration::from_millis(ms.into()),
    };
    let grace_ms = u32::try_from(grace.unwrap_or(asked).as_millis()).unwrap_or(u32::MAX);
    let id = operation.id.to_vec();
    let answer = call(&session, &place.sandbox.id, |mut client| {
        let request = CancelRequest { id: id.clone(), signal: first, grace_ms };
        async move { client.cancel(request).await }
    });
    Some(match answer.await? {
        Ok(reply) => {
            tracing::info!(stopped = reply.stopped, left = reply.survivors, "cancelled");
            Ok((reply.stopped, reply.survivors))
        }
        Err(error) => {
            tracing::warn!(%error, "the cancel did not get through");
            Err(error)
        }
    })
}

/// Lets a command go on although its client leaves.
pub(super) async fn detach(session: &Session, operation: &Operation) {
    operation.presence.send_modify(|presence| presence.detached = true);
    operation.record().detached = true;
    let Some(place) = operation.place() else { return };
    let id = operation.id.to_vec();
    let told = call(session, &place.sandbox.id, |mut client| {
        let request = DetachRequest { id: id.clone() };
        async move { client.detach(request).await }
    });
    if let Some(Err(error)) = told.await {
        tracing::warn!(%error, "the agent was not told that an operation goes on");
    }
}

/// Stops a command that nobody has come back to in time; then goes on for ever.
async fn mind_absence(session: &Arc<Session>, operation: &Arc<Operation>) {
    let mut presence = operation.presence.subscribe();
    let mut had_owner = false;
    loop {
        let now = *presence.borrow_and_update();
        if now.detached && had_owner && now.owners == 0 {
            // While somebody was attached it waited for its reader.
            detach(session, operation).await;
        }
        had_owner = now.owners > 0;
        let since = now.absent_since.filter(|_| now.owners == 0 && !now.detached);
        let due = since.zip(operation.patience).map(|(since, patience)| since + patience);
        let Some(due) = due else {
            if presence.changed().await.is_err() {
                return std::future::pending().await;
            }
            continue;
        };
        tokio::select! {
            changed = presence.changed() => if changed.is_err() {
                return std::future::pending().await;
            },
            () = tokio::time::sleep_until(due) => {
                tracing::info!("nobody has come back to an operation: it is stopped");
                cancel(Arc::clone(session), Arc::clone(operation), SIGINT, None).await;
                return std::future::pending().await;
            }
        }
    }
}
