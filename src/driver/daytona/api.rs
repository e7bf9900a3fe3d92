//! Daytona's control plane: the requests, without any thought about when to make them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::Value;

use super::access::Access;
use super::errors::{is_missing, read, refused, unreachable};
use super::model::{Address, Page, Preview, Sandbox};
use crate::credentials::{Keys, Secret};
use crate::driver::excerpt::Tail;
use crate::driver::http::encode;
use crate::driver::http::{Answer, Client, Repeat, Request, Trouble};
use crate::driver::{ByteStream, DriverError, ErrorKind, key};

/// A request that only asks is answered within this, or the network is away.
pub(super) const ASK_PATIENCE: Duration = Duration::from_secs(20);
/// Daytona may hold a creation for 30 s.
const CREATE_PATIENCE: Duration = Duration::from_secs(75);
/// More pages than an organisation can have sandboxes.
const PAGES_MAX: usize = 100;
/// One that previews are given for.
const ANY_PORT: u16 = 3000;
/// A build's log is for an error that is told anyway.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

/// What became of a creation.
pub(super) enum Created {
    /// It was begun.
    Begun(Box<Sandbox>),
    /// There is one of this name already.
    Taken,
    /// The answer was lost: it may have been begun or not.
    Unclear(DriverError),
    /// It was refused.
    Refused(DriverError),
}

/// The ways in that requests were signed with, the newest last; what was refused is told from what
/// is current by them. A mutex, as in [`key::Refused`].
#[derive(Default)]
pub(super) struct Refused {
    keys: key::Refused,
    signed: Mutex<Vec<Access>>,
}

/// More than change while a request is on its way.
const SIGNED_MAX: usize = 8;

impl Refused {
    fn remember(&self, access: &Access) {
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        if signed.last() != Some(access) {
            signed.retain(|one| one != access);
            signed.push(access.clone());
            let excess = signed.len().saturating_sub(SIGNED_MAX);
            signed.drain(..excess);
        }
    }

    /// What a request is signed with.
    fn signer(&self, request: &Request) -> Option<Access> {
        let signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        signed.iter().rev().find(|one| one.has_signed(request)).cloned()
    }
}

/// The control plane, with the key of this moment.
#[derive(Clone, Copy)]
pub(super) struct Api<'a> {
    client: &'a Client,
    keys: &'a Keys,
    refused: &'a Refused,
}

impl<'a> Api<'a> {
    pub(super) fn new(client: &'a Client, keys: &'a Keys, refused: &'a Refused) -> Self {
        Self { client, keys, refused }
    }

    pub(super) async fn access(&self) -> Result<Access, DriverError> {
        let first = Access::of(self.keys).await?;
        let access = match self.refused.keys.is_replaced(first.token()) {
            true => first.other(self.keys).await.unwrap_or(first),
            false => first,
        };
        self.refused.remember(&access);
        Ok(access)
    }

    /// Sends a request that the key signs. If that is refused it is sent once more, then with another
    /// key if there is one.
    pub(super) async fn send(&self, request: &Request) -> Result<Answer, Trouble> {
        let mut answer = self.client.send(request).await?;
        let Some(sent) = self.refused.signer(request) else { return Ok(answer) };
        if is_missing(&answer) && sent.is_replacement() {
            // It may be there for the key that this one stands for: it is not gone.
            return Ok(Answer { status: StatusCode::UNAUTHORIZED, ..answer });
        }
        if answer.status == StatusCode::UNAUTHORIZED && self.refused.keys.is_news(sent.token()) {
            answer = self.client.send(request).await?;
            self.forget_if(&sent, &answer).await;
        }
        let Some(other) = self.other(&sent, &answer).await else { return Ok(answer) };
        let second = self.client.send(&other.sign_anew(request.clone())).await?;
        if is_missing(&second) && other.is_replacement() {
            return Ok(answer);
        }
        if second.status != StatusCode::UNAUTHORIZED {
            self.refused.keys.replace(sent.token());
        }
        Ok(second)
    }

    /// Opens a WebSocket with the key; the answer instead if the server does not want one.
    pub(super) async fn websocket(
        &self,
        request: &Request,
    ) -> Result<Result<Box<dyn ByteStream>, Answer>, Trouble> {
        let mut answer = match self.client.websocket(request).await? {
            Ok(stream) => return Ok(Ok(stream)),
            Err(answer) => answer,
        };
        let Some(sent) = self.refused.signer(request) else { return Ok(Err(answer)) };
        if answer.status == StatusCode::UNAUTHORIZED && self.refused.keys.is_news(sent.token()) {
            answer = match self.client.websocket(request).await? {
                Ok(stream) => return Ok(Ok(stream)),
                Err(answer) => answer,
            };
            self.forget_if(&sent, &answer).await;
        }
        let Some(other) = self.other(&sent, &answer).await else { return Ok(Err(answer)) };
        let second = self.client.websocket(&other.sign_anew(request.clone())).await?;
        if second.as_ref().err().is_none_or(|second| second.status != StatusCode::UNAUTHORIZED) {
            self.refused.keys.replace(sent.token());
        }
        Ok(second)
    }

    /// Opens a WebSocket with what the request has; the key is not sent.
    pub(super) async fn websocket_without_key(
        &self,
        request: &Request,
    ) -> Result<Result<Box<dyn ByteStream>, Answer>, Trouble> {
        self.client.websocket(request).await
    }

    /// Has the keychain and the command asked again if the key is refused, and still what these say:
    /// a newer one is not to be blamed for it.
    async fn forget_if(&self, sent: &Access, answer: &Answer) {
        if answer.status == StatusCode::UNAUTHORIZED
            && self.access().await.is_ok_and(|current| current.token() == sent.token())
        {
            self.keys.forget();
        }
    }

    /// Another key than what was sent and refused, if there is one.
    async fn other(&self, sent: &Access, answer: &Answer) -> Option<Access> {
        if answer.status != StatusCode::UNAUTHORIZED {
            return None;
        }
        let current = self.access().await.ok()?;
        if current.token() != sent.token() && current.may_replace(sent) {
            return Some(current);
        }
        sent.other(self.keys).await
    }

    /// A request to a path of the control plane.
    pub(super) async fn request(&self, method: Method, path: &str) -> Result<Request, DriverError> {
        let access = self.access().await?;
        let request = Request::new(method, format!("{}{path}", access.api));
        Ok(access.sign(request).patience(ASK_PATIENCE))
    }

    /// A request to an address that the control plane has named.
    ///
    /// # Errors
    /// If the key must not be sent there.
    pub(super) async fn request_to(
        &self,
        method: Method,
        url: &str,
    ) -> Result<Request, DriverError> {
        let access = self.access().await?;
        if !access.may_go_to(url) {
            let message = "Daytona names an address to which the key cannot be sent safely";
            return Err(DriverError::new(ErrorKind::Invalid, message)
                .hint("it is not encrypted: see whether DAYTONA_API_URL is right"));
        }
        Ok(access.sign(Request::new(method, url)).patience(ASK_PATIENCE))
    }

    /// Sends a request; `doing` completes "cannot …". Any status is an answer.
    pub(super) async fn ask(&self, doing: &str, request: &Request) -> Result<Answer, DriverError> {
        self.send(request).await.map_err(|trouble| unreachable(doing, &trouble))
    }

    /// Sends a request that has to succeed.
    pub(super) async fn call(&self, doing: &str, request: &Request) -> Result<Answer, DriverError> {
        let answer = self.ask(doing, request).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(refused(doing, &answer)) }
    }

    /// A sandbox by its id or name; nothing if there is none.
    pub(super) async fn sandbox(
        &self,
        name: &str,
        patience: Duration,
    ) -> Result<Option<Sandbox>, DriverError> {
        let doing = format!("look at the sandbox `{name}`");
        let request = self.request(Method::GET, &format!("/sandbox/{}", encode(name))).await?;
        let answer = self.ask(&doing, &request.patience(patience)).await?;
        match answer.status {
            _ if is_missing(&answer) => Ok(None),
            status if status.is_success() => read(&doing, &answer).map(Some),
            _ => Err(refused(&doing, &answer)),
        }
    }

    /// Begins a creation.
    pub(super) async fn create(&self, doing: &str, body: &Value) -> Result<Created, DriverError> {
        let request = self.request(Method::POST, "/sandbox").await?;
        let request = request.json(body).patience(CREATE_PATIENCE);
        let answer = match self.send(&request).await {
            Ok(answer) => answer,
            Err(trouble @ Trouble::Connect(_)) => {
                return Ok(Created::Refused(unreachable(doing, &trouble)));
            }
            Err(trouble) => return Ok(Created::Unclear(unreachable(doing, &trouble))),
        };
        Ok(match answer.status.as_u16() {
            200..300 => match read(doing, &answer) {
                Ok(sandbox) => Created::Begun(Box::new(sandbox)),
                Err(error) => Created::Unclear(error),
            },
            409 => Created::Taken,
            408 | 500.. => Created::Unclear(refused(doing, &answer)),
            _ => Created::Refused(refused(doing, &answer)),
        })
    }

    /// Has something done with a sandbox: `start`, `recover`, `autostop/1`.
    pub(super) async fn order(&self, id: &str, what: &str) -> Result<(), DriverError> {
        let verb = what.split('/').next().unwrap_or(what);
        let doing = format!("have Daytona carry out `{verb}` for the sandbox `{id}`");
        let request =
            self.request(Method::POST, &format!("/sandbox/{}/{what}", encode(id))).await?;
        // What is recovered already cannot be; the others may be said twice.
        let request = match verb {
            "recover" => request,
            _ => request.repeat(Repeat::Always),
        };
        let answer = self.ask(&doing, &request).await?;
        match answer.status {
            status if status.is_success() => Ok(()),
            _ if is_missing(&answer) => {
                let message = format!("cannot {doing}: there is no such sandbox any more");
                Err(DriverError::new(ErrorKind::Gone, message))
            }
            _ => Err(refused(&doing, &answer)),
        }
    }

    /// Has a sandbox deleted. False if that cannot be begun yet.
    pub(super) async fn delete(&self, doing: &str, id: &str) -> Result<bool, DriverError> {
        let request = self.request(Method::DELETE, &format!("/sandbox/{}", encode(id))).await?;
        let answer = self.ask(doing, &request).await?;
        match answer.status {
            status if status.is_success() || is_missing(&answer) => Ok(true),
            StatusCode::CONFLICT => Ok(false),
            _ => Err(refused(doing, &answer)),
        }
    }

    /// All sandboxes with these labels that the list has: it can be some seconds late.
    pub(super) async fn list(
        &self,
        labels: &BTreeMap<String, String>,
    ) -> Result<Vec<Sandbox>, DriverError> {
        let doing = "list the sandboxes";
        let labels = serde_json::to_string(labels).unwrap_or_default();
        let first = format!("/sandbox?limit=200&labels={}", encode(&labels));
        let (mut path, mut found) = (first.clone(), Vec::new());
        for _ in 0..PAGES_MAX {
            let answer = self.call(doing, &self.request(Method::GET, &path).await?).await?;
            let page: Page = read(doing, &answer)?;
            found.extend(page.items);
            match page.next_cursor.filter(|cursor| !cursor.is_empty()) {
                Some(cursor) => path = format!("{first}&cursor={}", encode(&cursor)),
                None => return Ok(found),
            }
        }
        let message = format!("cannot {doing}: the list does not end");
        Err(DriverError::new(ErrorKind::Failed, message)
            .hint("see in Daytona's dashboard how many sandboxes there are"))
    }

    /// Where a port is to be seen from outside.
    pub(super) async fn preview(
        &self,
        id: &str,
        port: u16,
        patience: Duration,
    ) -> Result<Preview, DriverError> {
        let doing = "find the way to the sandbox's agent";
        let path = format!("/sandbox/{}/ports/{port}/preview-url", encode(id));
        let request = self.request(Method::GET, &path).await?.patience(patience);
        read(doing, &self.call(doing, &request).await?)
    }

    /// What lets in to one sandbox alone, the same for all ports; nothing if this server has none.
    ///
    /// # Errors
    /// If there may be one, and it cannot be asked for.
    pub(super) async fn token(
        &self,
        id: &str,
        patience: Duration,
    ) -> Result<Option<Secret>, DriverError> {
        match self.preview(id, ANY_PORT, patience).await {
            Ok(preview) => {
                Ok(Some(Secret::new(preview.token)).filter(|one| !one.reveal().is_empty()))
            }
            Err(error) if error.kind == ErrorKind::Unreachable || error.is_refusal() => Err(error),
            Err(error) => {
                tracing::debug!(%error, "there is no token");
                Ok(None)
            }
        }
    }

    /// The end of an image build's log; empty if it is not to be had.
    pub(super) async fn build_log(&self, id: &str) -> String {
        let doing = "read the build's log";
        let read = async {
            let path = format!("/sandbox/{}/build-logs-url", encode(id));
            let request = self.request(Method::GET, &path).await?.patience(LOG_PATIENCE);
            let Address { url } = read(doing, &self.call(doing, &request).await?)?;
            let request = self.request_to(Method::GET, &url).await?.patience(LOG_PATIENCE);
            let answer = self.call(doing, &request).await?;
            let mut tail = Tail::default();
            tail.push(&answer.body);
            Ok::<_, DriverError>(tail.lines())
        };
        read.await.unwrap_or_default()
    }
}
