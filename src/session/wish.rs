//! What clients want of a call that runs: a signal, its end.

use std::collections::HashMap;

use tokio::sync::watch;

use crate::error::{CliError, ExitCode};

/// What a client wants of its running call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    /// Signals asked for so far.
    pub(super) count: u32,
    /// The last one.
    pub(super) signal: u32,
    /// Stop it, whatever it takes.
    pub(super) cancel: bool,
}

/// The wishes of all running calls, by their ids.
pub(super) type Wishes = HashMap<Vec<u8>, watch::Sender<Wish>>;

/// The next wish; never, once there cannot be one any more.
pub(super) async fn next_wish(wishes: &mut watch::Receiver<Wish>) -> Wish {
    if wishes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    *wishes.borrow_and_update()
}

/// Returns when there is any wish: before a command has started, they all mean to give up.
pub(super) async fn given_up(mut wishes: watch::Receiver<Wish>) {
    next_wish(&mut wishes).await;
}

/// Interrupted before that.
pub(super) fn interrupted(before: &str) -> CliError {
    CliError::new(ExitCode::Interrupted, format!("interrupted before {before}"))
}
