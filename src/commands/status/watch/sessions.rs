//! The sessions that there are, and what one of them says as long as it is there.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Event, Told};
use crate::commands::Context;
use crate::commands::operations::entries;
use crate::error::CliError;
use crate::session::client::Connection;
use crate::session::proto::{OperationsRequest, StatusRequest};
use crate::ui::watch::model::{Input, Name};

/// A session that has died is started again by its keeper, and takes over what there is, within this.
const SUCCESSOR_PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries to reach it.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// What operations use is asked this often while any runs …
const POLL: Duration = Duration::from_secs(1);
/// … and while none does.
const POLL_IDLE: Duration = Duration::from_secs(10);
/// A session that says nothing for so long does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The sessions of this user that answer a call, that of `own` first.
///
/// # Errors
/// If the journal cannot be read.
pub(super) async fn all(context: &Context, own: &Name) -> Result<Vec<Name>, CliError> {
    let mut names = Vec::new();
    for entry in entries(context)? {
        let name = Name { root: entry.root, profile: entry.profile.name };
        if Connection::find(&context.places, &name.root, &name.profile).await.is_some() {
            names.push(name);
        }
    }
    names.sort_by_key(|name| name != own);
    Ok(names)
}

/// Tells what a session says, and of its successors, until there is none any more.
pub(super) async fn follow(context: Context, name: Name, number: u64, told: Told) {
    let mut lost: Option<Instant> = None;
    loop {
        let found = Connection::find(&context.places, &name.root, &name.profile).await;
        if let Some(mut connection) = found {
            let asked = connection.client.watch_status(StatusRequest {});
            if let Ok(Ok(replies)) = tokio::time::timeout(PATIENCE, asked).await {
                lost = None;
                say(&told, number, Input::Connected).await;
                let news = Notify::new();
                let mut replies = replies.into_inner();
                let statuses = async {
                    let mut before = None;
                    while let Ok(Some(reply)) = replies.message().await {
                        if before.replace(reply.operations) != Some(reply.operations) {
                            news.notify_one();
                        }
                        say(&told, number, Input::Status(Box::new(reply))).await;
                    }
                };
                tokio::select! {
                    () = statuses => {}
                    () = poll(&connection, number, &told, &news) => {}
                }
            }
        }
        // What is not written down any more has ended as it should.
        let is_known = entries(&context).is_ok_and(|entries| {
            entries.iter().any(|e| e.root == name.root && e.profile.name == name.profile)
        });
        let since = *lost.get_or_insert_with(Instant::now);
        if !is_known || since.elapsed() > SUCCESSOR_PATIENCE {
            let _ = told.send((number, Event::Ended)).await;
            return;
        }
        say(&told, number, Input::Lost).await;
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// Asks again and again for what is not told by itself.
async fn poll(connection: &Connection, number: u64, told: &Told, news: &Notify) {
    let mut client = connection.client.clone();
    loop {
        let request = OperationsRequest::default();
        let operations = tokio::time::timeout(PATIENCE, client.operations(request)).await;
        let mut is_busy = false;
        match operations {
            Ok(Ok(reply)) => {
                let operations = reply.into_inner().operations;
                is_busy = operations.iter().any(|one| !one.state().is_over());
                say(told, number, Input::Connected).await;
                say(told, number, Input::Operations(operations)).await;
            }
            // Its end shows in the other stream.
            Ok(Err(_)) => {}
            Err(_) => say(told, number, Input::Lost).await,
        }
        let status = tokio::time::timeout(PATIENCE, client.status(StatusRequest {})).await;
        if let Ok(Ok(status)) = status {
            is_busy |= !status.get_ref().link_up && status.get_ref().link_since_ms > 0;
            say(told, number, Input::Status(Box::new(status.into_inner()))).await;
        }
        let pause = tokio::time::sleep(if is_busy { POLL } else { POLL_IDLE });
        tokio::select! {
            () = pause => {}
            () = news.notified() => {}
        }
    }
}

async fn say(told: &Told, number: u64, input: Input) {
    // The view has gone, and this task with it.
    let _ = told.send((number, Event::Input(Box::new(input)))).await;
}
