//! What a server knows: its sandboxes, its key, its switches, and the requests that it saw.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{mpsc, watch};

use super::Options;
use super::errors::ApiError;
use super::model::{Sandbox, State};
use super::quirks::Quirks;
use crate::proxy::Cords;
use crate::record::Recorded;
use crate::wire::Wire;

/// Requests that are kept; of more the oldest are forgotten.
const REQUESTS_MAX: usize = 4096;

/// A link that lets in who has it, to one port, for a time.
#[derive(Clone, Debug)]
pub(crate) struct SignedLink {
    pub(crate) sandbox: String,
    pub(crate) port: u16,
    pub(crate) until: Instant,
}

/// What a test does to a sandbox behind the clients' backs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Stop,
    Destroy,
    KillDaemon,
}

/// Everything that the tasks of one server share.
pub(crate) struct World {
    pub(crate) options: Options,
    /// `http://127.0.0.1:PORT`.
    pub(crate) base: String,
    pub(crate) wire: Wire,
    pub(crate) quirks: Arc<Quirks>,
    /// Every forwarded request hangs on them.
    pub(crate) cords: Cords,
    key: Mutex<String>,
    sandboxes: Mutex<BTreeMap<String, Sandbox>>,
    links: Mutex<BTreeMap<String, SignedLink>>,
    requests: Mutex<VecDeque<Recorded>>,
    changes: watch::Sender<u64>,
    orders: mpsc::UnboundedSender<(String, Order)>,
    /// Taken by the one task that obeys.
    ordered: Mutex<Option<mpsc::UnboundedReceiver<(String, Order)>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(crate) fn new(options: Options, base: String, wire: Wire) -> Self {
        let (orders, ordered) = mpsc::unbounded_channel();
        Self {
            orders,
            ordered: Mutex::new(Some(ordered)),
            key: Mutex::new(options.key.clone()),
            options,
            base,
            wire,
            quirks: Arc::default(),
            cords: Cords::default(),
            sandboxes: Mutex::default(),
            links: Mutex::default(),
            requests: Mutex::default(),
            changes: watch::Sender::default(),
        }
    }

    pub(crate) fn key(&self) -> String {
        lock(&self.key).clone()
    }

    pub(crate) fn set_key(&self, key: &str) {
        key.clone_into(&mut lock(&self.key));
    }

    /// Adds a sandbox, unless its name is taken.
    pub(crate) fn insert(&self, sandbox: Sandbox) -> Result<(), ApiError> {
        let mut all = lock(&self.sandboxes);
        if all.values().any(|other| is_there(other) && other.name == sandbox.name) {
            let text = format!("Sandbox with name {} already exists", sandbox.name);
            return Err(ApiError::conflict(text));
        }
        all.insert(sandbox.id.clone(), sandbox);
        Ok(())
    }

    /// The sandbox of an id or a name, unless it is destroyed.
    pub(crate) fn find(&self, name: &str) -> Result<Sandbox, ApiError> {
        let all = lock(&self.sandboxes);
        let by_id = all.get(name).filter(|sandbox| is_there(sandbox));
        by_id
            .or_else(|| all.values().find(|sandbox| is_there(sandbox) && sandbox.name == name))
            .cloned()
            .ok_or_else(|| ApiError::no_sandbox(name))
    }

    pub(crate) fn find_by_id(&self, id: &str) -> Option<Sandbox> {
        lock(&self.sandboxes).get(id).filter(|sandbox| is_there(sandbox)).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Sandbox> {
        lock(&self.sandboxes).values().cloned().collect()
    }

    /// Changes a sandbox, by its id, if there is one.
    pub(crate) fn change<T>(&self, id: &str, change: impl FnOnce(&mut Sandbox) -> T) -> Option<T> {
        let result = lock(&self.sandboxes).get_mut(id).map(change);
        self.changes.send_modify(|number| *number += 1);
        result
    }

    /// Waits until a sandbox is in none of the moving states.
    pub(crate) async fn settled(&self, id: &str) {
        let mut changes = self.changes.subscribe();
        while self.find_by_id(id).is_some_and(|sandbox| sandbox.state.is_moving()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    pub(crate) fn add_link(&self, token: String, link: SignedLink) {
        lock(&self.links).insert(token, link);
    }

    pub(crate) fn remove_link(&self, token: &str) {
        lock(&self.links).remove(token);
    }

    /// The sandbox and the port of a signed link that still holds.
    pub(crate) fn link(&self, token: &str) -> Option<SignedLink> {
        lock(&self.links).get(token).filter(|link| link.until > Instant::now()).cloned()
    }

    /// Asks for something that no client asked for.
    pub(crate) fn order(&self, id: &str, order: Order) {
        let _ = self.orders.send((id.to_owned(), order));
    }

    /// The orders, for the one who obeys them.
    pub(crate) fn orders(&self) -> mpsc::UnboundedReceiver<(String, Order)> {
        lock(&self.ordered).take().expect("one task obeys")
    }

    pub(crate) fn record(&self, request: Recorded) {
        let mut requests = lock(&self.requests);
        if requests.len() == REQUESTS_MAX {
            requests.pop_front();
        }
        requests.push_back(request);
    }

    pub(crate) fn requests(&self) -> Vec<Recorded> {
        lock(&self.requests).iter().cloned().collect()
    }
}

fn is_there(sandbox: &Sandbox) -> bool {
    sandbox.state != State::Destroyed
}
