//! A sandbox that this process reaches: by a WebSocket to the agent's port, or through envd.
//!
//! What is in the way is looked into before anything is said: E2B answers for a sandbox that is
//! paused, ended and on its way with the same words (`reference/e2b.md`, Appendix B).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::time::Instant;

use super::api::{Access, Api};
use super::connect::ConnectError;
use super::envd::{Envd, EnvdError};
use super::errors::{failed, gone, refused, unreachable};
use super::settings::Settings;
use super::stream::ProcessStream;
use crate::config::E2bLink;
use crate::driver::http::{Answer, Client, Repeat, Trouble, host_of};
use crate::driver::launch::Place;
use crate::driver::listening::Listening;
use crate::driver::{ByteStream, DriverError, ErrorKind};

/// A WebSocket takes one round trip, behind a TLS handshake; where it takes longer there is another way,
/// which is to have its time, too.
const WEBSOCKET_PATIENCE: Duration = Duration::from_millis(2500);
/// After one that could not be had the next is tried so much later.
const WEBSOCKET_PAUSE: Duration = Duration::from_secs(60);
/// Looks whether the agent of a state directory runs: its file, since a number may be another's by now.
const AGENT_LIVES: &str = "pid=$(cat \"$0/agent.pid\") && [ \"/proc/$pid/exe\" -ef \"$1\" ] || \
    { tail -c 2000 \"$0/agent.log\"; exit 9; }";
/// Between two tries, while a sandbox is on its way.
const INTERVAL: Duration = Duration::from_millis(300);
/// What a sandbox that is woken lives at least; the session renews it.
pub(super) const SHORT: Duration = Duration::from_secs(60);

/// A sandbox that can be dialled.
pub(super) struct Live {
    pub(super) client: Client,
    settings: Arc<Settings>,
    first_only: Arc<AtomicBool>,
    /// Where the agent is.
    pub(super) place: Place,
    /// Where it serves WebSockets.
    port: u16,
    path: String,
    /// Changes when a token does. Held for a look-up and never while waiting.
    access: Mutex<Arc<Access>>,
    json_only: Arc<AtomicBool>,
    /// envd takes no `StreamInput`.
    pub(super) no_stream_input: AtomicBool,
    /// No WebSocket before then.
    no_websocket_until: Mutex<Option<Instant>>,
    /// Until when the provider keeps it, as far as we have asked for.
    promised: Mutex<Option<Instant>>,
    /// The agent may have ended.
    suspect: AtomicBool,
}

/// What one dial has tried already.
#[derive(Clone, Copy, Debug, Default)]
struct Tried {
    /// New tokens.
    tokens: bool,
    /// A WebSocket, which could not be had.
    websocket: bool,
}

/// What is in the way of a stream.
enum Obstacle {
    /// Another way is open.
    OtherWay(String),
    /// The edge does not find the sandbox.
    NotFound,
    /// A token is not accepted.
    Token(Box<Answer>),
    /// Not now.
    Busy(Duration, String),
    Trouble(Trouble),
    Failed(DriverError),
}

impl Live {
    pub(super) fn new(
        client: Client,
        settings: Arc<Settings>,
        first_only: Arc<AtomicBool>,
        (access, json_only): (Access, Arc<AtomicBool>),
        place: Place,
        (port, path): (u16, String),
    ) -> Self {
        Self {
            client,
            settings,
            first_only,
            place,
            port,
            path,
            access: Mutex::new(Arc::new(access)),
            json_only,
            no_stream_input: AtomicBool::new(false),
            no_websocket_until: Mutex::new(None),
            promised: Mutex::new(None),
            suspect: AtomicBool::new(false),
        }
    }

    fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn api(&self) -> Api<'_> {
        let first_only = &self.first_only;
        Api { client: &self.client, settings: &self.settings, first_only }
    }

    pub(super) fn envd(&self) -> Envd {
        let (client, settings) = (self.client.clone(), Arc::clone(&self.settings));
        Envd { client, settings, access: self.access(), json_only: Arc::clone(&self.json_only) }
    }

    /// True if it was given clearly more than `time` from now on.
    pub(super) fn outlives(&self, time: Duration) -> bool {
        const SLACK: Duration = Duration::from_secs(5);
        let promised = *self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        promised.is_some_and(|until| until > Instant::now() + time + SLACK)
    }

    /// The provider keeps it for `time` from now on.
    pub(super) fn promise(&self, time: Duration) {
        let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        *promised = Some(Instant::now() + time);
    }

    /// A WebSocket could not be had, or carried nothing: the next one is tried later.
    fn pause_websocket(&self) {
        let mut pause = self.no_websocket_until.lock().unwrap_or_else(PoisonError::into_inner);
        *pause = Some(Instant::now() + WEBSOCKET_PAUSE);
    }

    /// What leads to the agent has ended in a way that it may have ended, too.
    pub(super) fn suspect_agent(&self) {
        self.suspect.store(true, Ordering::Relaxed);
    }

    /// How the agent ended, if there is reason to look and it has.
    pub(super) async fn agent_ending(&self) -> Option<String> {
        if !self.suspect.load(Ordering::Relaxed) {
            return None;
        }
        let script = AGENT_LIVES;
        let (state, executable) = (self.place.state(), self.place.executable.clone());
        let arguments = ["-c".to_owned(), script.to_owned(), state, executable];
        let finished = self.envd().run("/bin/sh", &arguments, None).await.ok()?;
        match finished.code {
            Some(9) => {
                let said = crate::driver::excerpt::printable(&finished.output);
                let colon = if said.is_empty() { "" } else { ": " };
                Some(format!("its agent has ended{colon}{said}"))
            }
            _ => {
                self.suspect.store(false, Ordering::Relaxed);
                None
            }
        }
    }

    /// Opens a byte stream to the agent.
    ///
    /// # Errors
    /// [`ErrorKind::Gone`] if the sandbox is.
    pub(super) async fn dial(
        self: &Arc<Self>,
        patience: Duration,
    ) -> Result<Box<dyn ByteStream>, DriverError> {
        let deadline = Instant::now() + patience;
        let mut tried = Tried::default();
        loop {
            let obstacle = match self.attempt(deadline, tried).await {
                Ok(stream) => return Ok(stream),
                Err(obstacle) => obstacle,
            };
            let (wait, why) = match obstacle {
                Obstacle::OtherWay(why) => {
                    tracing::info!(why, "no WebSocket to the sandbox: through envd, then");
                    tried.websocket = true;
                    (Duration::ZERO, why)
                }
                Obstacle::NotFound => (INTERVAL, self.look().await?),
                Obstacle::Token(answer) if tried.tokens => {
                    return Err(refused("reach the agent in the sandbox", &answer));
                }
                Obstacle::Token(_) => {
                    tried.tokens = true;
                    self.renew_access().await?;
                    (Duration::ZERO, "a token of the sandbox was renewed".to_owned())
                }
                Obstacle::Busy(wait, why) => (wait, why),
                Obstacle::Trouble(trouble) => {
                    let access = self.access();
                    let domain = access.domain.as_deref();
                    let url = self.settings.port_url(&access.id, domain, self.port);
                    return Err(unreachable("reach the sandbox", host_of(&url), &trouble));
                }
                Obstacle::Failed(error) => return Err(error),
            };
            if Instant::now() + wait >= deadline {
                let message = format!("the agent in the sandbox cannot be reached: {why}");
                return Err(DriverError::new(ErrorKind::Unreachable, message)
                    .hint("`link` in the profile says which way is taken: `auto` tries both"));
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(
        self: &Arc<Self>,
        deadline: Instant,
        tried: Tried,
    ) -> Result<Box<dyn ByteStream>, Obstacle> {
        let link = self.settings.config.link;
        let paused = *self.no_websocket_until.lock().unwrap_or_else(PoisonError::into_inner);
        let by_websocket = match link {
            E2bLink::WebSocket => true,
            E2bLink::Stream => false,
            E2bLink::Auto => !tried.websocket && paused.is_none_or(|until| until <= Instant::now()),
        };
        if by_websocket {
            return self.websocket(deadline, link == E2bLink::Auto, tried.tokens).await;
        }
        let opened = tokio::time::timeout_at(deadline, ProcessStream::open(Arc::clone(self)));
        let silent = |_| Err(EnvdError::Trouble(Trouble::Silent(WEBSOCKET_PATIENCE)));
        match opened.await.unwrap_or_else(silent) {
            Ok(stream) => {
                if tried.websocket {
                    // The way is open, and a WebSocket could not be had on it.
                    self.pause_websocket();
                }
                Ok(Box::new(stream))
            }
            Err(error) => Err(self.obstacle(error)),
        }
    }

    async fn websocket(
        self: &Arc<Self>,
        deadline: Instant,
        has_other_way: bool,
        renewed: bool,
    ) -> Result<Box<dyn ByteStream>, Obstacle> {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = (left / 2).min(WEBSOCKET_PATIENCE);
        let request = self.envd().request(Method::GET, self.port, &self.path);
        let request = request.patience(left).repeat(Repeat::Never);
        let why = match self.client.websocket(&request).await {
            Ok(Ok(stream)) => {
                let mut proof = Proof { live: Arc::clone(self), is_there: false };
                // It goes along, and is dropped with the stream.
                return Ok(Box::new(Listening::new(stream, move || proof.give())));
            }
            Ok(Err(answer)) => match edge(&answer) {
                Edge::NotFound => return Err(Obstacle::NotFound),
                Edge::Busy(wait) if !has_other_way => {
                    return Err(Obstacle::Busy(wait, answer.words));
                }
                Edge::Busy(_) => answer.words,
                Edge::Token if !renewed && self.has_traffic_token() => {
                    return Err(Obstacle::Token(Box::new(answer)));
                }
                Edge::Token | Edge::Other => answer.words,
            },
            // There is no network, for the other way neither.
            Err(trouble @ Trouble::Connect(_)) => return Err(Obstacle::Trouble(trouble)),
            Err(trouble) if !has_other_way => return Err(Obstacle::Trouble(trouble)),
            Err(trouble) => trouble.to_string(),
        };
        self.suspect_agent();
        if has_other_way {
            return Err(Obstacle::OtherWay(why));
        }
        Err(Obstacle::Busy(INTERVAL, why))
    }

    fn has_traffic_token(&self) -> bool {
        self.access().traffic_access_token.is_some()
    }

    /// What keeps a program from being started.
    fn obstacle(&self, error: EnvdError) -> Obstacle {
        match error {
            EnvdError::Trouble(trouble) => Obstacle::Trouble(trouble),
            EnvdError::Refused(answer) => match edge(&answer) {
                Edge::NotFound => Obstacle::NotFound,
                Edge::Busy(wait) => Obstacle::Busy(wait, answer.words),
                Edge::Token => Obstacle::Token(answer),
                Edge::Other if answer.status == StatusCode::BAD_GATEWAY => {
                    Obstacle::Busy(INTERVAL, answer.words)
                }
                Edge::Other => Obstacle::Failed(refused("start the agent's bridge", &answer)),
            },
            EnvdError::Connect(error) => {
                self.suspect_agent();
                Obstacle::Failed(failed("start the agent's bridge", &error))
            }
        }
    }

    /// The edge does not find it: it is gone, or paused and then woken, or on its way; which, in
    /// words.
    async fn look(&self) -> Result<String, DriverError> {
        let id = self.access().id.clone();
        if self.settings.debug {
            return Err(gone(&id));
        }
        match self.api().detail(&id).await? {
            None => Err(gone(&id)),
            Some((detail, _)) if detail.is_paused() => {
                tracing::info!(id, "the sandbox is paused: it is woken");
                self.renew_access().await?;
                Ok("the sandbox was paused, and is woken".to_owned())
            }
            Some(_) => Ok("E2B does not find the sandbox, although it runs".to_owned()),
        }
    }

    /// Asks for the tokens anew, which wakes the sandbox if it is paused.
    async fn renew_access(&self) -> Result<(), DriverError> {
        let access = self.access();
        let mut fresh = self.api().connect(&access.id, SHORT).await?;
        if fresh.traffic_access_token.is_none() {
            fresh.traffic_access_token.clone_from(&access.traffic_access_token);
        }
        *self.access.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        Ok(())
    }
}

/// Of a WebSocket nobody knows at first whether it carries anything: some things in between open one,
/// and then let nothing through.
struct Proof {
    live: Arc<Live>,
    is_there: bool,
}

impl Proof {
    fn give(&mut self) {
        self.is_there = true;
    }
}

impl Drop for Proof {
    fn drop(&mut self) {
        if !self.is_there {
            self.live.pause_websocket();
        }
    }
}

/// What the edge in front of the sandboxes means.
#[derive(Debug, PartialEq, Eq)]
enum Edge {
    NotFound,
    Token,
    Busy(Duration),
    Other,
}

fn edge(answer: &Answer) -> Edge {
    const SOON: Duration = Duration::from_secs(1);
    match answer.status.as_u16() {
        502 if answer.words.contains("was not found") => Edge::NotFound,
        401 | 403 => Edge::Token,
        409 => Edge::Busy(SOON),
        429 | 503 => Edge::Busy(answer.retry_after().unwrap_or(SOON)),
        _ => Edge::Other,
    }
}

/// What a call into a sandbox that is being made failed with.
pub(super) fn envd_error(doing: &str, error: &EnvdError) -> DriverError {
    match error {
        EnvdError::Trouble(trouble) => unreachable(doing, "the sandbox", trouble),
        EnvdError::Refused(answer) => refused(doing, answer),
        EnvdError::Connect(error) => failed(doing, error),
    }
}

/// True for what passes by itself while a sandbox starts.
pub(super) fn passes(error: &EnvdError) -> bool {
    match error {
        EnvdError::Trouble(Trouble::Connect(_) | Trouble::Broken(_)) => true,
        EnvdError::Refused(answer) => matches!(answer.status.as_u16(), 409 | 429 | 502 | 503),
        EnvdError::Connect(ConnectError { code, .. }) => code == "unavailable",
        EnvdError::Trouble(Trouble::Silent(_)) => false,
    }
}
