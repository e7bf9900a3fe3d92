//! How a client comes to a session that serves it, however often that takes.

use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::error::CliError;
use crate::session::Spec;
use crate::session::client::{Connection, broken, does_not_end};
use crate::session::proto::exec_request::Request;
use crate::session::proto::{ControlRequest, ExecRequest, SessionEvent};
use crate::state::Places;

/// A session that is ending takes nobody; the next one is started as soon as it has gone.
/// Cancelled commands have 20 s to end before that.
const TRIES_MAX: u32 = 1500;
/// So often a session may die while it is called.
const BREAKS_MAX: u32 = 100;
/// Between two of them.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// Least and most time between two tries to reach the successor of a session that is gone.
const BACKOFF_MS: (u64, u64) = (250, 5_000);

/// A session that serves this client.
pub(super) struct Open {
    pub(super) connection: Connection,
    pub(super) events: Streaming<SessionEvent>,
    /// Without a bound of its own: at most 1 MiB of input is on its way, and little else is said.
    pub(super) requests: UnboundedSender<ExecRequest>,
    /// In their order, and in a task: a signal must not wait for the answer to the one before.
    pub(super) controls: UnboundedSender<ControlRequest>,
}

/// A call that is being made.
pub(super) type Dialling = Pin<Box<dyn Future<Output = Result<Open, CliError>>>>;

/// Where a client is with its session.
pub(super) enum Line {
    Dialling(Dialling),
    Open(Box<Open>),
}

/// What the line says next.
pub(super) enum Said {
    Opened(Result<Box<Open>, CliError>),
    Event(Box<SessionEvent>),
    /// The session has hung up.
    Broken,
}

impl Line {
    pub(super) async fn next(&mut self) -> Said {
        match self {
            Self::Dialling(dialling) => Said::Opened(dialling.await.map(Box::new)),
            Self::Open(open) => match open.events.message().await {
                Ok(Some(event)) => Said::Event(Box::new(event)),
                Ok(None) | Err(_) => Said::Broken,
            },
        }
    }

    pub(super) fn open(&self) -> Option<&Open> {
        match self {
            Self::Open(open) => Some(open),
            Self::Dialling(_) => None,
        }
    }

    /// Says something, if anybody listens. What must not get lost is said again by who knows that
    /// it has not arrived.
    pub(super) fn say(&self, request: Request) {
        if let Some(open) = self.open() {
            let _ = open.requests.send(ExecRequest { request: Some(request) });
        }
    }

    pub(super) fn control(&self, request: ControlRequest) {
        if let Some(open) = self.open() {
            let _ = open.controls.send(request);
        }
    }
}

/// Calls the session of the project, after a while; starts one if there is none.
pub(super) fn dial(places: &Places, spec: &Spec, first: Request, wait: Duration) -> Dialling {
    let (places, spec) = (places.clone(), spec.clone());
    Box::pin(async move {
        tokio::time::sleep(wait).await;
        let mut breaks = 0;
        for _ in 0..TRIES_MAX {
            let mut connection = Connection::find_or_start(&places, &spec).await?;
            let (requests, receive) = unbounded_channel();
            let _ = requests.send(ExecRequest { request: Some(first.clone()) });
            match connection.client.exec(UnboundedReceiverStream::new(receive)).await {
                Ok(events) => {
                    let controls = controls(&connection);
                    let events = events.into_inner();
                    return Ok(Open { connection, events, requests, controls });
                }
                Err(status) if status.code() == Code::Unavailable => {
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
                // The session died while it was called. What was asked can be asked again.
                Err(status) if is_broken(&status) && breaks < BREAKS_MAX => {
                    breaks += 1;
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
                Err(status) => return Err(broken(&status)),
            }
        }
        Err(does_not_end())
    })
}

/// True for what no session says itself.
fn is_broken(status: &Status) -> bool {
    matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled)
}

fn controls(connection: &Connection) -> UnboundedSender<ControlRequest> {
    let mut client = connection.client.clone();
    let (send, mut receive) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(request) = receive.recv().await {
            // A session that is gone shows in its events.
            let _ = client.control(request).await;
        }
    });
    send
}

/// When to try again, and when to give up.
pub(super) struct Backoff {
    tries: u32,
    began: Option<Instant>,
    /// Nothing: never.
    limit: Option<Duration>,
}

impl Backoff {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { tries: 0, began: None, limit }
    }

    /// The session serves us: the next time begins anew.
    pub(super) fn reset(&mut self) {
        (self.tries, self.began) = (0, None);
    }

    pub(super) fn tries(&self) -> u32 {
        self.tries
    }

    /// How long to wait now; nothing if it has taken too long. The first try is at once; after that
    /// clients of one session must not all come at the same moment.
    pub(super) fn next(&mut self, now: Instant, random: u64) -> Option<Duration> {
        let began = *self.began.get_or_insert(now);
        if self.limit.is_some_and(|limit| now.duration_since(began) >= limit) {
            return None;
        }
        let (least, most) = BACKOFF_MS;
        let wait = match self.tries {
            0 => 0,
            tries => {
                let longest = least.saturating_mul(1 << tries.min(10)).min(most);
                least + random % (longest - least + 1)
            }
        };
        self.tries = self.tries.saturating_add(1);
        Some(Duration::from_millis(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_further_and_further_apart_until_it_has_taken_too_long() {
        let now = Instant::now();
        let mut backoff = Backoff::new(Some(Duration::from_secs(600)));
        assert_eq!(backoff.next(now, u64::MAX), Some(Duration::ZERO));
        for _ in 0..50 {
            let wait = backoff.next(now, rand(backoff.tries())).expect("in time");
            let ms = wait.as_millis();
            assert!((250..=5_000).contains(&ms), "{ms}");
        }
        assert_eq!(backoff.next(now + Duration::from_secs(600), 0), None);
        backoff.reset();
        assert_eq!(backoff.next(now + Duration::from_secs(600), 0), Some(Duration::ZERO));
        let mut endless = Backoff::new(None);
        endless.next(now, 0);
        assert!(endless.next(now + Duration::from_secs(1_000_000), 0).is_some());
    }

    fn rand(seed: u32) -> u64 {
        u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}
