//! One line on how an operation is, for `~s`.

use std::time::Duration;

use super::seconds;
use crate::channel::Channel;
use crate::operation::OperationId;
use crate::session::proto::session_client::SessionClient;
use crate::session::proto::{Operation, OperationState, OperationsRequest};
use crate::ui::status_view::size;
use crate::ui::visible;

/// How long a session may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the session, and says it in one line.
pub(super) async fn status(mut client: SessionClient<Channel>, id: OperationId) -> String {
    let request = OperationsRequest { id: id.to_vec() };
    let asked = tokio::time::timeout(PATIENCE, client.operations(request)).await;
    let reply = match asked {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(_)) => return "the session cannot say how the command is".to_owned(),
        Err(_) => return "the session does not answer".to_owned(),
    };
    match reply.operations.iter().find(|operation| operation.id == id.to_vec()) {
        Some(operation) => operation_line(operation, now_ms()),
        None => "the session does not know this command any more".to_owned(),
    }
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    crate::config::quantity::milliseconds(now.unwrap_or_default())
}

/// An operation in one line. Pure.
fn operation_line(operation: &Operation, now_ms: u64) -> String {
    let since = |then: u64| seconds(Duration::from_millis(now_ms.saturating_sub(then)));
    let state = match operation.state() {
        OperationState::OperationNone => "unknown",
        OperationState::OperationPreparing => "preparing",
        OperationState::OperationRunning => "running",
        OperationState::OperationEnding => "bringing results home",
        OperationState::OperationEnded => "ended",
        OperationState::OperationLost => "lost",
    };
    let mut parts = vec![format!("{state} {}", since(operation.began_ms))];
    if operation.has_usage {
        parts.push(match operation.processes {
            1 => "1 process".to_owned(),
            count => format!("{count} processes"),
        });
        parts.push(format!("CPU {}", seconds(Duration::from_millis(operation.cpu_ms))));
        parts.push(format!("memory {}", size(operation.memory_bytes)));
        let (read, written) = (size(operation.read_bytes), size(operation.written_bytes));
        parts.push(format!("I/O {read} in, {written} out"));
    }
    parts.push(format!("output {}", size(operation.output_bytes)));
    if operation.lost_bytes > 0 {
        parts.push(format!("{} of it not kept", size(operation.lost_bytes)));
    }
    let link = if operation.link_up { "up" } else { "lost" };
    parts.push(format!("link {link} {}", since(operation.link_since_ms)));
    parts.push(match operation.clients {
        1 => "1 client".to_owned(),
        clients => format!("{clients} clients"),
    });
    visible(&parts.join(" · "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_in_one_line() {
        let operation = Operation {
            state: OperationState::OperationRunning as i32,
            began_ms: 1_000,
            clients: 1,
            has_usage: true,
            processes: 3,
            cpu_ms: 12_000,
            memory_bytes: 1_500_000,
            output_bytes: 10,
            link_up: true,
            link_since_ms: 61_000,
            ..Operation::default()
        };
        assert_eq!(
            operation_line(&operation, 181_000),
            "running 3 min · 3 processes · CPU 12 s · memory 1.5 MB · I/O 0 B in, 0 B out · \
             output 10 B · link up 2 min · 1 client"
        );
    }
}
