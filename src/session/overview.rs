//! What the operations of a session are and use, for whoever asks.

use std::sync::Arc;
use std::time::Duration;

use skync_agent::proto::{OperationInfo, OperationsRequest};

use crate::operation::OperationId;
use crate::session::events::exit_to_client;
use crate::session::operations::{Operation, Phase};
use crate::session::proto;
use crate::session::server::Session;
use crate::session::ways::Way;

/// The agent says what operations use within this, or the rest is told without.
const PATIENCE: Duration = Duration::from_secs(2);

/// All operations, or one; oldest first.
pub(super) async fn operations(
    session: &Arc<Session>,
    id: Option<OperationId>,
) -> Vec<proto::Operation> {
    let mut known: Vec<Arc<Operation>> = session
        .operations()
        .values()
        .filter(|operation| id.is_none_or(|id| id == operation.id))
        .cloned()
        .collect();
    known.sort_by_key(|operation| (operation.record().began_ms, operation.id));
    let used = if known.is_empty() { Vec::new() } else { used(session, id).await };
    known
        .iter()
        .map(|operation| {
            let info = used.iter().find(|info| info.id == operation.id.to_vec());
            told(session, operation, info)
        })
        .collect()
}

async fn used(session: &Session, id: Option<OperationId>) -> Vec<OperationInfo> {
    let Way::Open(open) = session.ways.now() else { return Vec::new() };
    let mut client = open.0.client.clone();
    let request = OperationsRequest { id: id.map(OperationId::to_vec).unwrap_or_default() };
    match tokio::time::timeout(PATIENCE, client.operations(request)).await {
        Ok(Ok(reply)) => reply.into_inner().operations,
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

fn told(
    session: &Session,
    operation: &Operation,
    info: Option<&OperationInfo>,
) -> proto::Operation {
    let record = operation.record().clone();
    let presence = *operation.presence.borrow();
    let exit = match &*operation.phase.borrow() {
        Phase::Ending(_, exit) => *exit,
        Phase::Over(over) => over.exit,
        Phase::Preparing | Phase::Running(_) => info.and_then(|info| info.exit).map(exit_to_client),
    };
    let since = presence.absent_since.filter(|_| presence.owners == 0 && !presence.detached);
    let left = since.zip(operation.patience).map(|(since, patience)| {
        (since + patience).saturating_duration_since(tokio::time::Instant::now())
    });
    let expires_ms = left.map_or(0, |left| {
        crate::session::server::now_ms() + u64::try_from(left.as_millis()).unwrap_or(0)
    });
    let view = session.view.borrow();
    let info = info.cloned();
    let has_usage = info.is_some();
    let info = info.unwrap_or_default();
    proto::Operation {
        id: operation.id.to_vec(),
        name: record.name,
        argv: operation.begin.argv.clone(),
        state: operation.state().into(),
        detached: presence.detached,
        terminal: record.terminal,
        clients: presence.clients,
        began_ms: record.began_ms,
        exit,
        pid: operation.place().map_or(0, |place| place.pid),
        has_usage,
        processes: info.processes,
        cpu_ms: info.cpu_ms,
        memory_bytes: info.memory_bytes,
        read_bytes: info.read_bytes,
        written_bytes: info.written_bytes,
        output_bytes: info.output_bytes,
        lost_bytes: info.lost_bytes,
        link_up: view.reply.link_up,
        link_since_ms: view.reply.link_since_ms,
        sandbox: record.sandbox,
        expires_ms,
    }
}
