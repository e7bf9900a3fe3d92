//! The authenticated connection between a session and the agent in its sandbox.
//!
//! A link ends for good; what was carried over it is taken up again over the next one, because
//! everything that is asked over a link can be asked again (`design.md` §3).

pub mod heartbeat;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use skync_agent::handshake::{HandshakeError, greet};
use skync_agent::proto::agent_client::AgentClient;
use skync_agent::proto::{AgentInfo, PingRequest};
use skync_agent::sizes::MESSAGE_BYTES_MAX;
use tokio::sync::watch;

use self::heartbeat::{Beat, Clocks, Heartbeat};
use crate::channel::{Channel, origin};
use crate::driver::listening::Listening;
use crate::driver::{Driver, DriverError, LinkSecret, Sandbox};

/// A new agent answers within this; a machine under heavy load takes its time.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The driver has no byte stream.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The two ends do not agree.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The agent does not answer.
    #[error("the agent did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// It is another binary than the one we put there.
    #[error("the agent that answers is not the one that was installed (its SHA-256 differs)")]
    Impostor,
    /// HTTP/2 did not start.
    #[error("the connection to the agent failed")]
    Http(#[from] hyper::Error),
}

/// An open link.
#[derive(Clone, Debug)]
pub struct Link {
    /// The agent's calls.
    pub client: AgentClient<Channel>,
    /// What it said of itself.
    pub agent: AgentInfo,
    channel: Channel,
    /// Microseconds; 0 until it was asked for the first time.
    round_trip_us: Arc<AtomicU64>,
}

impl Link {
    /// Dials the agent of `sandbox` and proves both ends to each other.
    ///
    /// `sha256` is what was installed, if that is known. While `person` is set, its end is noticed
    /// sooner.
    ///
    /// # Errors
    /// Anything that keeps the link from being open within `patience`, for each of its steps.
    pub async fn open(
        driver: &dyn Driver,
        sandbox: &Sandbox,
        secret: &LinkSecret,
        epoch: u64,
        patience: Duration,
        person: watch::Receiver<bool>,
    ) -> Result<Self, LinkError> {
        let stream = driver.dial(sandbox, patience).await?;
        let heard = Heard::default();
        let told = heard.clone();
        let mut stream = Listening::new(stream, move || told.hear());
        let greeting = greet(&mut stream, &secret.0, epoch);
        let agent = tokio::time::timeout(patience, greeting)
            .await
            .map_err(|_| LinkError::Silent(patience))??;
        let channel = Channel::open(stream).await?;
        let client = AgentClient::with_origin(channel.clone(), origin())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let round_trip_us = Arc::<AtomicU64>::default();
        let timed = Arc::clone(&round_trip_us);
        tokio::spawn(beat(channel.clone(), client.clone(), heard, person, timed));
        Ok(Self { client, agent, channel, round_trip_us })
    }

    /// False once the link has ended.
    pub fn is_open(&self) -> bool {
        self.channel.is_open()
    }

    /// How long the last question to a quiet link took to be answered; nothing if there was none yet.
    pub fn round_trip(&self) -> Option<Duration> {
        let us = self.round_trip_us.load(Ordering::Relaxed);
        (us > 0).then(|| Duration::from_micros(us))
    }

    /// Returns when the link has ended.
    pub async fn closed(&self) {
        self.channel.closed().await;
    }
}

/// Keeps an eye on a link until it has ended, and ends it when it is dead.
async fn beat(
    channel: Channel,
    client: AgentClient<Channel>,
    heard: Heard,
    mut person: watch::Receiver<bool>,
    round_trip_us: Arc<AtomicU64>,
) {
    let mut heartbeat = Heartbeat::default();
    loop {
        let is_person = *person.borrow_and_update();
        let now = heard.now();
        let until = match heartbeat.poll(now, heard.last(), is_person) {
            Beat::Wait(until) => until,
            Beat::Ask(until) => {
                let mut client = client.clone();
                let timed = Arc::clone(&round_trip_us);
                // Its answer is heard as any other byte.
                tokio::spawn(async move {
                    let asked = Instant::now();
                    if client.ping(PingRequest {}).await.is_ok() {
                        let us = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
                        timed.store(us.max(1), Ordering::Relaxed);
                    }
                });
                until
            }
            Beat::Dead(why) => {
                tracing::warn!(?why, "the link is given up");
                return channel.close();
            }
        };
        let changed = async {
            if person.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = channel.closed() => return,
            () = changed => {}
            () = tokio::time::sleep(until.saturating_sub(now.running)) => {}
        }
    }
}

/// When a byte last came over a link.
#[derive(Clone, Debug)]
struct Heard {
    opened: Clocks,
    /// Milliseconds since it was opened, in which the machine ran.
    last_ms: Arc<AtomicU64>,
}

impl Default for Heard {
    fn default() -> Self {
        Self { opened: clocks(), last_ms: Arc::default() }
    }
}

impl Heard {
    fn now(&self) -> Clocks {
        let now = clocks();
        let since = |now: Duration, then: Duration| now.saturating_sub(then);
        Clocks {
            running: since(now.running, self.opened.running),
            passed: since(now.passed, self.opened.passed),
        }
    }

    fn last(&self) -> Duration {
        Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }

    fn hear(&self) {
        let now = u64::try_from(self.now().running.as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
    }
}

#[cfg(target_os = "linux")]
fn clocks() -> Clocks {
    Clocks { running: time_of(ClockId::Monotonic), passed: time_of(ClockId::Boottime) }
}

/// Here the monotonic clock goes on while the machine sleeps, and the one of `Instant` does not
/// (`CLOCK_UPTIME_RAW`).
#[cfg(target_os = "macos")]
fn clocks() -> Clocks {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let running = START.get_or_init(std::time::Instant::now).elapsed();
    Clocks { running, passed: time_of(ClockId::Monotonic) }
}

fn time_of(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
    seconds + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}
