//! A byte stream to the agent: a WebSocket through Daytona's proxy to the agent's port.
//!
//! The proxy answers 502 without a word for a port without listener, for a sandbox that is not up
//! and for trouble of its own, so what an answer means is looked up in the sandbox's state. Where
//! the proxy does not know the way to a port, the documented preview of the port is taken.

use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use super::access;
use super::api::Api;
use super::condition::Condition;
use super::errors::{LOG_IN, refused, unreachable};
use super::live::{Live, Lives};
use super::shell::Probed;
use super::toolbox::{self, Toolbox};
use crate::credentials::Secret;
use crate::driver::http::{Answer, Request};
use crate::driver::{ByteStream, DriverError, ErrorKind, Sandbox};

/// One attempt.
const ONCE: Duration = Duration::from_secs(10);
/// Between two of them, at first and at most.
const INTERVAL: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(1);
/// After so many failures the agent itself is looked for.
const FAILURES_UNTIL_PROBE: u32 = 2;

const DOING: &str = "reach the agent in the sandbox";

/// One dialling.
pub(super) struct Dialling<'a> {
    pub(super) api: Api<'a>,
    pub(super) lives: &'a Lives,
    pub(super) sandbox: &'a Sandbox,
    pub(super) deadline: Instant,
}

impl Dialling<'_> {
    fn left(&self, at_most: Duration) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).min(at_most)
    }

    /// How long one of several ways may take: none of them uses up what is left for the others.
    fn half(&self) -> Duration {
        (self.left(Duration::MAX) / 2).min(ONCE)
    }

    /// Tries until there is a stream, it is clear that there will be none, or the time is over.
    pub(super) async fn dial(&self) -> Result<Box<dyn ByteStream>, DriverError> {
        let (mut failures, mut interval) = (0, INTERVAL);
        loop {
            let live = self.lives.of(&self.sandbox.id).ok_or_else(|| {
                let name = &self.sandbox.name;
                let message = format!("the sandbox `{name}` was not made by this session");
                DriverError::new(ErrorKind::Gone, message)
            })?;
            let error = match self.through_proxy(&live).await {
                Ok(stream) => return Ok(stream),
                Err(error) if error.is_refusal() => return Err(error),
                Err(error) => error,
            };
            tracing::debug!(%error, "the agent is not reached yet");
            failures += 1;
            self.examine(&live, failures).await?;
            if Instant::now() + interval >= self.deadline {
                return Err(error);
            }
            tokio::time::sleep(interval).await;
            interval = interval.mul_f64(1.5).min(INTERVAL_MAX);
        }
    }

    /// With the token of the sandbox: an older proxy hands on to whoever listens at the port what it
    /// is let in with, and the key is good for more than this one sandbox.
    async fn through_proxy(&self, live: &Live) -> Result<Box<dyn ByteStream>, DriverError> {
        let id = &self.sandbox.id;
        let mut token = None;
        if !live.needs_key {
            token = match &live.token {
                Some(token) => Some(token.clone()),
                None => self.renew_token().await?,
            };
        }
        let mut was_refused = false;
        while let Some(own) = token.take() {
            let opened = self.open(self.to_port(live).await?, Some(&own), self.half()).await?;
            let answer = match opened {
                Ok(stream) => return Ok(stream),
                Err(answer) => answer,
            };
            match answer.status.as_u16() {
                404 => return self.through_preview(live).await,
                300..=399 | 401 | 403 if !was_refused => {
                    // Daytona changes it at each start of the sandbox.
                    token = self.renew_token().await?.filter(|new| *new != own);
                }
                300..=399 | 401 | 403 => {}
                _ => return Err(no_way(&answer)),
            }
            was_refused = true;
        }
        match self.open(self.to_port(live).await?, None, self.half()).await? {
            Ok(stream) => {
                self.lives.change(id, |live| live.needs_key |= was_refused);
                Ok(stream)
            }
            Err(answer) if answer.status.as_u16() == 404 => self.through_preview(live).await,
            Err(answer) => Err(no_way(&answer)),
        }
    }

    async fn to_port(&self, live: &Live) -> Result<Request, DriverError> {
        let path = format!("/proxy/{}{}", live.port, live.path);
        toolbox::request(&self.api, &live.toolbox, Method::GET, &path).await
    }

    async fn renew_token(&self) -> Result<Option<Secret>, DriverError> {
        let token = self.api.token(&self.sandbox.id, self.half()).await?;
        self.lives.change(&self.sandbox.id, |live| live.token.clone_from(&token));
        Ok(token)
    }

    async fn through_preview(&self, live: &Live) -> Result<Box<dyn ByteStream>, DriverError> {
        let preview = self.api.preview(&self.sandbox.id, live.port, self.half()).await?;
        let url = format!("{}{}", preview.url.trim_end_matches('/'), live.path);
        let request = self.api.request_to(Method::GET, &url).await?;
        let token = Secret::new(preview.token);
        match self.open(request, Some(&token), self.left(ONCE)).await? {
            Ok(stream) => Ok(stream),
            Err(answer) => Err(no_way(&answer)),
        }
    }

    /// With the token alone if there is one, else with the key.
    async fn open(
        &self,
        mut request: Request,
        token: Option<&Secret>,
        patience: Duration,
    ) -> Result<Result<Box<dyn ByteStream>, Answer>, DriverError> {
        let opened = match token {
            None => self.api.websocket(&request.patience(patience)).await,
            Some(token) => {
                access::withdraw(&mut request);
                let request = request.secret("x-daytona-preview-token", "", token);
                self.api.websocket_without_key(&request.patience(patience)).await
            }
        };
        opened.map_err(|trouble| unreachable(DOING, &trouble))
    }

    /// Looks what is the matter.
    ///
    /// # Errors
    /// If there is nothing to wait for.
    async fn examine(&self, live: &Live, failures: u32) -> Result<(), DriverError> {
        let (id, name) = (&self.sandbox.id, &self.sandbox.name);
        let gone = |message: String| Err(DriverError::new(ErrorKind::Gone, message));
        let found = match self.api.sandbox(id, self.half()).await {
            Ok(Some(found)) => found,
            Ok(None) => return gone(format!("the sandbox `{name}` is gone")),
            Err(error) if error.is_refusal() => return Err(error),
            // What was said of the attempt itself is told.
            Err(_) => return Ok(()),
        };
        match Condition::of(&found) {
            Condition::Gone => return gone(format!("the sandbox `{name}` is gone")),
            Condition::Down(reason) => {
                return gone(format!("the sandbox `{name}` has stopped: {reason}"));
            }
            Condition::Rising => return Ok(()),
            Condition::Up => {}
        }
        let Some(url) = found.toolbox() else { return Ok(()) };
        self.lives.change(id, |live| live.toolbox.clone_from(&url));
        if failures < FAILURES_UNTIL_PROBE {
            return Ok(());
        }
        let toolbox = Toolbox::new(self.api, url);
        match toolbox.probe(&live.session, self.left(ONCE)).await {
            Ok(Probed::Dead { reason, .. }) => {
                gone(format!("no agent runs in the sandbox `{name}`: {reason}"))
            }
            Ok(Probed::Alive { port }) => {
                self.lives.change(id, |live| live.port = port);
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }
}

/// A handshake was refused. Whoever is not let in is sent to a page for browsers.
fn no_way(answer: &Answer) -> DriverError {
    let mut error = refused(DOING, answer);
    if answer.status.is_redirection() {
        error.kind = ErrorKind::Auth;
        error.message = format!("cannot {DOING}: Daytona does not let the key in");
        error.hints = vec![LOG_IN.to_owned()];
    }
    error
}
