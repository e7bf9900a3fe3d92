//! Requests to a provider's HTTP API: sent, sent again where that is safe, and what failed in words.
//!
//! HTTP/1.1 over one pool. That a request is sent again is part of the providers' contracts
//! (`Retry-After`, `Should-Retry`), so it is here and not in the session. What a provider answers is
//! untrusted: it is bounded, and no secret that was sent comes back in an error.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use skync_agent::websocket::WebSocket;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::backoff;
use crate::credentials::Secret;
use crate::driver::excerpt::printable;
use crate::driver::{ByteStream, DriverError, ErrorKind};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The proxies in front of the providers close connections that were idle for 60 s or more.
const POOL_IDLE: Duration = Duration::from_secs(50);
/// A longer answer is cut off.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// One try of a request that only asks takes so long at least.
const ATTEMPT_MIN: Duration = Duration::from_secs(4);
/// Nobody is asked to wait for longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// How often a request is sent again.
const REPEATS_MAX: u32 = 5;
/// The first wait before that; each further one is twice as long, less up to a half by chance …
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// … up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// When a request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Whatever became of it: a second time changes nothing.
    Always,
    /// Only if it is known not to have been carried out.
    Unless,
    /// Never.
    Never,
}

/// A request.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// In all, with everything that is sent again.
    pub(crate) patience: Duration,
    pub(crate) repeat: Repeat,
}

impl Request {
    /// A request without a body, that may be sent again if its method says so.
    pub(crate) fn new(method: Method, url: impl Into<String>) -> Self {
        let repeat = if method == Method::POST { Repeat::Unless } else { Repeat::Always };
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        Self { method, url: url.into(), headers, body, patience: Duration::from_secs(60), repeat }
    }

    /// Adds a header; one that cannot be sent is left out.
    #[must_use]
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// Adds a header that is never shown.
    #[must_use]
    pub(crate) fn secret(mut self, name: &'static str, prefix: &str, secret: &Secret) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(&format!("{prefix}{}", secret.reveal())) {
            value.set_sensitive(true);
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// Adds a body of JSON.
    #[must_use]
    pub(crate) fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = Bytes::from(body.to_string());
        self.header("content-type", "application/json")
    }

    /// Says how long to wait in all.
    #[must_use]
    pub(crate) fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Says when it may be sent again.
    #[must_use]
    pub(crate) fn repeat(mut self, repeat: Repeat) -> Self {
        self.repeat = repeat;
        self
    }

    /// A foreign text without the secrets of this request.
    fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in self.headers.values().filter(|value| value.is_sensitive()) {
            let secret = value.to_str().unwrap_or_default();
            let secret = secret.rsplit(' ').next().unwrap_or_default();
            // Nothing shorter is a secret, and replacing it would garble the text.
            if secret.len() >= 4 {
                text = text.replace(secret, "…");
            }
        }
        printable(&text)
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// What the provider says in it, for a person.
    pub(crate) words: String,
}

impl Answer {
    /// The body as a value; a text that is not one is an error in words.
    pub(crate) fn json<T: DeserializeOwned>(&self, what: &str) -> Result<T, DriverError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let message = format!("the provider's answer to {what} cannot be understood");
            DriverError::new(ErrorKind::Failed, message)
                .source(error)
                .hint("something between here and the provider may answer for it: a proxy, a login page")
                .hint("else the provider has changed: is there a newer skync?")
        })
    }

    /// A field of an error's body.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        body.get(name)?.as_str().map(str::to_owned)
    }

    /// How long the provider asks to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers)
    }
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// There is no connection.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// It takes too long.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// A pool of connections.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
}

impl Client {
    /// A client; it connects to nothing yet.
    ///
    /// # Errors
    /// If the machine's certificates or proxies cannot be used.
    pub(crate) fn new() -> Result<Self, DriverError> {
        static PROVIDER: OnceLock<()> = OnceLock::new();
        PROVIDER.get_or_init(|| {
            // Another part of the process may have chosen the same already.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let http = reqwest::Client::builder()
            .http1_only()
            // Nothing that looks like a browser's: E2B's edge answers these with HTML.
            .user_agent(concat!("skync/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE)
            .tcp_nodelay(true)
            // A provider that sends us elsewhere would get our key there.
            .redirect(reqwest::redirect::Policy::none())
            .build();
        let http = http.map_err(|error| {
            DriverError::new(ErrorKind::Failed, "cannot set up connections").source(error).hint(
                "look at HTTPS_PROXY, and whether this system has certificates (`ca-certificates`)",
            )
        })?;
        Ok(Self { http })
    }

    /// Sends a request and reads the whole answer, whatever its status.
    pub(crate) async fn send(&self, request: &Request) -> Result<Answer, Trouble> {
        let deadline = Instant::now() + request.patience;
        let mut repeats = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = attempt_limit(request, left);
            let once = tokio::time::timeout(limit, self.once(request)).await;
            let once = once.unwrap_or(Err(Trouble::Silent(limit)));
            let Some(wait) = wait_before_repeat(request, &once, repeats) else { return once };
            if repeats == REPEATS_MAX || Instant::now() + wait >= deadline {
                return once.map(|answer| asks_to_wait(answer, wait));
            }
            repeats += 1;
            tracing::debug!(url = host_of(&request.url), repeats, "a request is sent again");
            tokio::time::sleep(wait).await;
        }
    }

    async fn once(&self, request: &Request) -> Result<Answer, Trouble> {
        let response = self.begin(request, request.body.clone().into()).await?;
        whole(request, response).await
    }

    /// Sends a request once, with this body, and returns as soon as the head of the answer is there.
    pub(crate) async fn begin(
        &self,
        request: &Request,
        body: reqwest::Body,
    ) -> Result<reqwest::Response, Trouble> {
        let call = self.http.request(request.method.clone(), &request.url);
        let call = call.headers(request.headers.clone()).body(body);
        call.send().await.map_err(|error| trouble(&error))
    }

    /// Opens a WebSocket; the answer instead if the server does not want one.
    pub(crate) async fn websocket(
        &self,
        request: &Request,
    ) -> Result<Result<Box<dyn ByteStream>, Answer>, Trouble> {
        let key = generate_key();
        let request = request
            .clone()
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", &key);
        let open = async {
            let response = self.begin(&request, reqwest::Body::default()).await?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Err(whole(&request, response).await?));
            }
            let headers = response.headers();
            let accepted = headers.get("sec-websocket-accept").map(HeaderValue::as_bytes);
            if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
                return Err(Trouble::Broken("the server does not speak WebSocket".to_owned()));
            }
            let upgraded = response.upgrade().await.map_err(|error| trouble(&error))?;
            let stream: Box<dyn ByteStream> = Box::new(WebSocket::client(upgraded).await);
            Ok(Ok(stream))
        };
        let opened = tokio::time::timeout(request.patience, open).await;
        opened.unwrap_or(Err(Trouble::Silent(request.patience)))
    }
}

/// Reads an answer to its end, which must come.
pub(crate) async fn whole(
    request: &Request,
    response: reqwest::Response,
) -> Result<Answer, Trouble> {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = BytesMut::new();
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        body.extend_from_slice(&piece.map_err(|error| trouble(&error))?);
        if body.len() > ANSWER_BYTES_MAX {
            return Err(Trouble::Broken("the answer does not end".to_owned()));
        }
    }
    let body = body.freeze();
    let words = request.clean(&words(&body));
    Ok(Answer { status, headers, body, words })
}

/// How long one try may take: of a request that only asks, less than all, since a connection that
/// died while nothing went over it answers nothing, and the next one is new.
fn attempt_limit(request: &Request, left: Duration) -> Duration {
    if request.method == Method::GET && request.repeat == Repeat::Always {
        left.min((request.patience / 3).max(ATTEMPT_MIN))
    } else {
        left
    }
}

/// Says how long a provider asks to wait that is not waited for.
fn asks_to_wait(mut answer: Answer, wait: Duration) -> Answer {
    if answer.retry_after().is_some() {
        answer.words = format!("{} (try again in {} s)", answer.words, wait.as_secs());
    }
    answer
}

/// How long to wait before a request is sent again; nothing if it is not to be.
fn wait_before_repeat(
    request: &Request,
    once: &Result<Answer, Trouble>,
    repeats: u32,
) -> Option<Duration> {
    let backoff = backoff::wait(BACKOFF_MIN, BACKOFF_MAX, repeats, backoff::chance());
    match once {
        _ if request.repeat == Repeat::Never => None,
        // It never got there.
        Err(Trouble::Connect(_)) => Some(backoff),
        Err(Trouble::Broken(_)) => (request.repeat == Repeat::Always).then_some(backoff),
        Err(Trouble::Silent(_)) => {
            let only_asks = request.method == Method::GET && request.repeat == Repeat::Always;
            only_asks.then_some(Duration::ZERO)
        }
        Ok(answer) => {
            let said = answer.headers.get("should-retry").map(HeaderValue::as_bytes);
            let again = match (said, answer.status.as_u16()) {
                (Some(b"false"), _) => false,
                // It was refused before anything was done.
                (Some(b"true"), _) | (None, 429 | 503) => true,
                (None, 502 | 504) => request.repeat == Repeat::Always,
                _ => false,
            };
            // At least what is asked for; more by chance, since others were told the same.
            again.then(|| answer.retry_after().map_or(backoff, |asked| asked + backoff / 2))
        }
    }
}

/// Seconds, as both providers say them; some have the name of a limit behind the header's.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let named = |name: &HeaderName| name.as_str().starts_with("retry-after-");
    let value = headers
        .get(RETRY_AFTER)
        .or_else(|| headers.iter().find(|(name, _)| named(name)).map(|(_, value)| value))?;
    let seconds: f64 = value.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().map(|asked| asked.min(RETRY_AFTER_MAX))
}

/// What an error's body says: the fields in which the providers put it, or the text.
fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4096)]).into_owned();
    let Ok(serde_json::Value::Object(fields)) = serde_json::from_slice(body) else { return text };
    for name in ["message", "error", "errors"] {
        match fields.get(name) {
            Some(serde_json::Value::String(said)) if !said.is_empty() => return said.clone(),
            Some(serde_json::Value::Array(all)) if !all.is_empty() => {
                let all = all.iter().map(|one| one.as_str().map_or(one.to_string(), str::to_owned));
                return all.collect::<Vec<_>>().join("; ");
            }
            _ => {}
        }
    }
    text
}

/// A text as a part of a URL.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// A text that nobody else comes upon.
///
/// # Errors
/// Without random bytes.
pub(crate) fn unique() -> Result<String, DriverError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| {
        let message = "the kernel gives no random bytes";
        DriverError::new(ErrorKind::Failed, message).source(std::io::Error::other(error))
    })?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A URL's host, for a log: what follows can hold what is not for everybody.
pub(crate) fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// What broke, without the URL.
pub(crate) fn trouble(error: &reqwest::Error) -> Trouble {
    // The outermost says the URL and nothing else; the innermost says what happened.
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let words = printable(&cause.to_string());
    if error.is_connect() { Trouble::Connect(words) } else { Trouble::Broken(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)]) -> Result<Answer, Trouble> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_static(name), HeaderValue::from_str(value).expect("text"));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        Ok(Answer { status, headers: map, body: Bytes::new(), words: String::new() })
    }

    #[test]
    fn what_was_refused_is_sent_again_and_what_may_have_been_done_is_not() {
        let post = Request::new(Method::POST, "http://x");
        let get = Request::new(Method::GET, "http://x");
        let again = |request: &Request, once: &Result<Answer, Trouble>| {
            wait_before_repeat(request, once, 0).is_some()
        };
        for (status, headers, of_post, of_get) in [
            (429, &[][..], true, true),
            (503, &[], true, true),
            (502, &[], false, true),
            (504, &[], false, true),
            (500, &[("should-retry", "true")], true, true),
            (429, &[("should-retry", "false")], false, false),
            (500, &[], false, false),
            (401, &[], false, false),
        ] {
            let once = answer(status, headers);
            assert_eq!((again(&post, &once), again(&get, &once)), (of_post, of_get), "{status}");
        }
        assert!(again(&post, &Err(Trouble::Connect(String::new()))));
        assert!(!again(&post, &Err(Trouble::Broken(String::new()))));
        assert!(again(&get, &Err(Trouble::Broken(String::new()))));
        let never = post.repeat(Repeat::Never);
        assert!(!again(&never, &answer(429, &[])));
    }

    #[test]
    fn retry_after_is_waited_for_under_any_of_its_names() {
        let get = Request::new(Method::GET, "http://x");
        for name in ["retry-after", "retry-after-sandbox-create"] {
            let wait = wait_before_repeat(&get, &answer(429, &[(name, "3")]), 0);
            assert!(wait.is_some_and(|wait| wait >= Duration::from_secs(3)), "{name}: {wait:?}");
        }
    }

    #[test]
    fn an_errors_words_are_found_wherever_they_are() {
        assert_eq!(words(br#"{"code":404,"message":"no such"}"#), "no such");
        assert_eq!(words(br#"{"error":"old style"}"#), "old style");
        assert_eq!(words(br#"{"errors":["a","b"],"files":[]}"#), "a; b");
        assert_eq!(words(b"upstream request timeout"), "upstream request timeout");
        assert_eq!(words(b""), "");
    }

    #[test]
    fn a_secret_that_comes_back_is_not_shown() {
        let secret = Secret::new("e2b_0123456789");
        let request = Request::new(Method::GET, "http://x")
            .secret("x-api-key", "", &secret)
            .secret("authorization", "Bearer ", &Secret::new("dtn_abcdef"));
        let text = request.clean("bad key e2b_0123456789 or dtn_abcdef\u{1b}[2J");
        assert_eq!(text, "bad key … or …\u{fffd}[2J");
    }
}
