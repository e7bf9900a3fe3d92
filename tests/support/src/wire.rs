//! A listener whose connections misbehave when a test says so: slow, cut, half-open, refused.
//!
//! It stands for the network and the load balancers between a client and a provider. It knows
//! nothing of what is served.

use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower_service::Service;

use crate::proxy::drained;

mod pump;
#[cfg(test)]
mod tests;

/// What goes wrong now.
#[derive(Clone, Debug, Default)]
struct Plan {
    /// Connections of an older number are cut.
    number: u64,
    /// Each byte is so long on its way.
    delay: Duration,
    /// Nothing moves, and nobody is told.
    stalled: bool,
    /// New connections are closed at once.
    refused: bool,
    /// A connection without a byte for so long is forgotten.
    idle: Option<Duration>,
    /// Random drops: which call asked for them, and the mean number of bytes between two.
    random: Option<(u64, u64)>,
}

struct Shared {
    plan: watch::Sender<Plan>,
    /// Bytes until everything is cut.
    budget: Mutex<Option<u64>>,
    dice: Mutex<u64>,
    connections: AtomicU64,
    requests: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

/// Switches of a listener's connections, shared with tests. A clone has the same switches.
#[derive(Clone)]
pub struct Wire {
    shared: Arc<Shared>,
}

/// What went over a listener since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Connections that were accepted.
    pub connections: u64,
    /// HTTP requests.
    pub requests: u64,
    /// Bytes that arrived from clients.
    pub bytes_up: u64,
    /// Bytes that were sent to clients.
    pub bytes_down: u64,
}

/// Put into a response's extensions: the connection is dropped instead, without a word.
#[derive(Clone, Copy, Debug)]
pub struct Reset;

impl Default for Wire {
    fn default() -> Self {
        Self::new()
    }
}

impl Wire {
    /// Returns switches that are all off.
    pub fn new() -> Self {
        let zero = AtomicU64::default;
        let shared = Shared {
            plan: watch::Sender::default(),
            budget: Mutex::default(),
            dice: Mutex::new(RandomState::new().build_hasher().finish()),
            connections: zero(),
            requests: zero(),
            up: zero(),
            down: zero(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Lets every byte arrive so much later, in each direction. Throughput stays: bytes wait in a
    /// queue, as on a long line. A new connection costs one round trip before its first byte.
    pub fn delay(&self, one_way: Duration) {
        self.shared.plan.send_modify(|plan| plan.delay = one_way);
    }

    /// Cuts all connections now; what was on its way is lost.
    pub fn cut(&self) {
        *lock(&self.shared.budget) = None;
        self.shared.plan.send_modify(|plan| plan.number += 1);
    }

    /// Cuts all connections after exactly so many more bytes, both directions together. Later
    /// calls take the place of earlier ones; a cut ends it.
    pub fn cut_after(&self, bytes: u64) {
        *lock(&self.shared.budget) = Some(bytes);
    }

    /// Drops each connection after a random number of bytes, `mean_bytes` on average; 0 is off.
    pub fn cut_randomly(&self, seed: u64, mean_bytes: u64) {
        *lock(&self.shared.dice) = seed;
        self.shared.plan.send_modify(|plan| {
            let generation = plan.random.map_or(0, |(generation, _)| generation) + 1;
            plan.random = Some((generation, mean_bytes));
        });
    }

    /// Forgets a connection that had no byte for so long, as a load balancer does: the server sees
    /// its end, the client hears of it when it sends the next byte.
    pub fn idle_cut(&self, after: Option<Duration>) {
        self.shared.plan.send_modify(|plan| plan.idle = after);
    }

    /// Lets nothing through while it is on. Every connection stays open, and new ones are accepted.
    pub fn stall(&self, on: bool) {
        self.shared.plan.send_modify(|plan| plan.stalled = on);
    }

    /// Closes new connections at once while it is on.
    pub fn refuse(&self, on: bool) {
        self.shared.plan.send_modify(|plan| plan.refused = on);
    }

    /// Returns what went over the listener since it began.
    pub fn counts(&self) -> Counts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            connections: load(&self.shared.connections),
            requests: load(&self.shared.requests),
            bytes_up: load(&self.shared.up),
            bytes_down: load(&self.shared.down),
        }
    }

    /// Counts one HTTP request. [`serve`] does it for each.
    pub fn note_request(&self) {
        self.shared.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many of `bytes` may still go through before everything is cut.
    fn spend(&self, bytes: u64) -> u64 {
        match &mut *lock(&self.shared.budget) {
            None => bytes,
            Some(budget) => {
                let allowed = bytes.min(*budget);
                *budget -= allowed;
                allowed
            }
        }
    }

    fn spent(&self) -> bool {
        *lock(&self.shared.budget) == Some(0)
    }

    /// Draws how many bytes a connection lives, exponentially distributed.
    fn draw(&self, mean: u64) -> u64 {
        let mut dice = lock(&self.shared.dice);
        // Splitmix64: a seed gives the same drops again, as far as connections come in order.
        *dice = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = *dice;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        (-(1.0 - unit).ln() * mean as f64) as u64
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves HTTP/1.1 with upgrades on all connections of the listener, until the future is dropped.
pub async fn serve(listener: TcpListener, router: Router, wire: Wire) {
    // Dropped with this future, it ends all connections.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((socket, _)) = listener.accept().await else { continue };
        if wire.shared.plan.borrow().refused {
            continue;
        }
        wire.shared.connections.fetch_add(1, Ordering::Relaxed);
        let _ = socket.set_nodelay(true);
        connections.spawn(pump::connection(socket, router.clone(), wire.clone()));
    }
}

/// Serves HTTP on one connection.
async fn http(stream: DuplexStream, router: Router, wire: Wire) {
    let service = service_fn(move |request: Request<Incoming>| {
        wire.note_request();
        let answer = router.clone().call(request.map(drained));
        async move {
            let response: Result<Response<_>, Infallible> = answer.await;
            let Ok(response) = response;
            match response.extensions().get::<Reset>() {
                // The one way to make hyper close without an answer.
                Some(Reset) => Err(io::Error::other("reset on purpose")),
                None => Ok(response),
            }
        }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // An error is a client that went away, or a reset on purpose.
    let _ = connection.with_upgrades().await;
}
