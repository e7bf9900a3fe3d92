//! What this process knows of the sandboxes that it has made or taken over.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::credentials::Secret;

/// How the agent of one sandbox is reached.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) session: String,
    /// The toolbox's address, which Daytona may change.
    pub(super) toolbox: String,
    /// Where the agent serves WebSockets …
    pub(super) port: u16,
    /// … under this path. It keeps strangers out, so it is not shown.
    pub(super) path: String,
    /// What lets in to this one sandbox, in the place of the key; Daytona changes it at each start.
    pub(super) token: Option<Secret>,
    /// It does not, at this server: only the key does.
    pub(super) needs_key: bool,
    /// Minutes without use after which Daytona stops the sandbox.
    pub(super) auto_stop: Option<u64>,
}

/// All of them.
///
/// A mutex, because calls of the driver may run side by side; it is held for a look-up and never
/// while waiting.
#[derive(Default)]
pub(super) struct Lives(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// By the sandbox's id.
    lives: HashMap<String, Live>,
    /// The ids of the sandboxes of sessions, as long as nobody has seen them go: what they hold may
    /// be nowhere else.
    known: HashMap<String, String>,
}

impl Lives {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn of(&self, id: &str) -> Option<Live> {
        self.with(|all| all.lives.get(id).cloned())
    }

    /// The id of the sandbox of a session.
    pub(super) fn of_session(&self, session: &str) -> Option<String> {
        self.with(|all| all.known.get(session).cloned())
    }

    /// A session has this sandbox, whatever runs in it.
    pub(super) fn know(&self, session: &str, id: &str) {
        self.with(|all| all.known.insert(session.to_owned(), id.to_owned()));
    }

    pub(super) fn remember(&self, id: &str, live: Live) {
        self.know(&live.session, id);
        self.with(|all| all.lives.insert(id.to_owned(), live));
    }

    /// It is gone.
    pub(super) fn forget(&self, id: &str) {
        self.with(|all| {
            all.known.retain(|_, known| known != id);
            all.lives.remove(id);
        });
    }

    /// Daytona has named another address, or has been told another time.
    pub(super) fn change(&self, id: &str, change: impl FnOnce(&mut Live)) {
        self.with(|all| all.lives.get_mut(id).map(change));
    }
}
