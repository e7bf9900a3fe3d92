//! The connection to an engine: bounded calls, and its errors in words that help.
//!
//! Knows nothing of sandboxes. Nothing here repeats a call that failed.

use std::future::Future;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{SystemInfo, SystemVersion};

use super::address::{Address, Endpoint};
use crate::driver::excerpt::printable;
use crate::driver::{DriverError, ErrorKind};

/// How long an engine may take to answer for the first time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long any later call may take; pulling an image has no such limit.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an engine may be silent while it pulls; a registry can be slow, a day it is not.
const PULL_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// What to do if it does what its API does not allow.
pub(super) const LOOK: &str =
    "see whether the engine is well: `docker version`, `docker info`; to start it again helps some";

/// The oldest API that has all that is used here: Docker 20.10.
const API_MIN: (u32, u32) = (1, 41);

/// An engine that has answered.
pub(super) struct Engine {
    /// Calls to it; most go through [`Engine::call`].
    pub(super) api: bollard::Docker,
    /// Where it is.
    pub(super) address: Address,
    /// What it said about itself when it answered first.
    pub(super) version: SystemVersion,
}

impl Engine {
    /// Connects and asks for the version.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`] names the address and what to start.
    pub(super) async fn connect(address: Address) -> Result<Self, DriverError> {
        let seconds = CALL_TIMEOUT.as_secs();
        let made = match &address.endpoint {
            Endpoint::Unix(path) => {
                let path = path.to_str().ok_or_else(|| {
                    let message =
                        format!("the engine's socket {address} has a name that is not UTF-8");
                    DriverError::new(ErrorKind::Invalid, message)
                        .hint("set DOCKER_HOST to another address of the engine")
                })?;
                bollard::Docker::connect_with_unix(path, seconds, bollard::API_DEFAULT_VERSION)
            }
            Endpoint::Tcp(host) => {
                bollard::Docker::connect_with_http(host, seconds, bollard::API_DEFAULT_VERSION)
            }
        };
        let api = made.map_err(|error| unreachable(&address, &error))?;
        let version = match tokio::time::timeout(CONNECT_TIMEOUT, api.version()).await {
            Ok(Ok(version)) => version,
            Ok(Err(error)) => return Err(translate(&address, "ask the engine its version", error)),
            Err(_) => return Err(unreachable(&address, &Error::RequestTimeoutError)),
        };
        Ok(Self { api, address, version })
    }

    /// The same engine, without the limit on how long it may be silent.
    pub(super) fn patient(&self) -> bollard::Docker {
        self.api.clone().with_timeout(PULL_TIMEOUT)
    }

    /// True if it listens on this machine, so that a socket of ours may be reached from it. Containers
    /// are Linux: elsewhere the engine is in a virtual machine, whoever made it.
    pub(super) fn is_local(&self) -> bool {
        cfg!(target_os = "linux") && matches!(self.address.endpoint, Endpoint::Unix(_))
    }

    /// Awaits a call for at most [`CALL_TIMEOUT`]; `doing` completes "cannot …".
    ///
    /// # Errors
    /// What the engine said, translated.
    pub(super) async fn call<T>(
        &self,
        doing: &str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, DriverError> {
        self.try_call(call).await.map_err(|error| self.error(doing, error))
    }

    /// As [`Engine::call`], with the engine's own error, for a caller that acts on its status.
    pub(super) async fn try_call<T>(
        &self,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::time::timeout(CALL_TIMEOUT, call).await.unwrap_or(Err(Error::RequestTimeoutError))
    }

    /// The error that a person sees.
    pub(super) fn error(&self, doing: &str, error: Error) -> DriverError {
        translate(&self.address, doing, error)
    }

    /// What the engine says about itself and its machine.
    pub(super) async fn info(&self) -> Result<SystemInfo, DriverError> {
        self.call("ask the engine about itself", self.api.info()).await
    }

    /// What is wrong with this engine for us, if anything.
    pub(super) fn unsuitable(&self, info: &SystemInfo) -> Option<DriverError> {
        let said = self.version.api_version.clone().unwrap_or_default();
        let parsed = said.split_once('.').and_then(|(major, minor)| {
            Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
        });
        if parsed.is_none_or(|version| version < API_MIN) {
            let message = format!(
                "the engine at {} speaks API `{}`, and {}.{} is the oldest that works",
                self.address,
                printable(&said),
                API_MIN.0,
                API_MIN.1
            );
            return Some(
                DriverError::new(ErrorKind::Invalid, message).hint("install Docker 20.10 or later"),
            );
        }
        if info.os_type.as_deref().is_some_and(|os| os != "linux") {
            let message = format!("the engine at {} does not run Linux containers", self.address);
            return Some(
                DriverError::new(ErrorKind::Invalid, message)
                    .hint("switch Docker Desktop to Linux containers"),
            );
        }
        None
    }
}

/// The HTTP status of an engine's answer, if it was one.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What the engine said, without control characters.
pub(super) fn said(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => printable(message),
        Error::DockerStreamError { error } => printable(error),
        other => printable(&other.to_string()),
    }
}

/// "cannot DOING: WHY" with the kind that the answer stands for.
fn translate(address: &Address, doing: &str, error: Error) -> DriverError {
    if matches!(error, Error::RequestTimeoutError) {
        let limit = CALL_TIMEOUT.as_secs();
        let message =
            format!("cannot {doing}: the engine at {address} did not answer within {limit} s");
        return DriverError::new(ErrorKind::Unreachable, message)
            .hint("see whether `docker info` answers; the engine may be overloaded or stuck");
    }
    let why = said(&error);
    if status(&error).is_none() && io_kind(&error).is_some() {
        return unreachable(address, &error);
    }
    let (kind, hint) = classify(status(&error), &why);
    let message = if why.is_empty() {
        format!("cannot {doing}: the engine at {address} gave no reason")
    } else {
        format!("cannot {doing}: {why}")
    };
    let translated = DriverError::new(kind, message).source(error);
    match hint {
        Some(hint) => translated.hint(hint),
        None => translated,
    }
}

/// What an answer is to a caller. Engines say too much with status 500, so words decide first.
fn classify(status: Option<u16>, why: &str) -> (ErrorKind, Option<&'static str>) {
    let says = |part: &str| why.to_ascii_lowercase().contains(part);
    if says("no space left on device") || says("disk quota exceeded") {
        let hint = "free some room where the engine keeps its data: `docker system df`, `docker system prune`";
        return (ErrorKind::Exhausted, Some(hint));
    }
    if says("cannot allocate memory") {
        return (ErrorKind::Exhausted, Some("free some memory on the engine's machine"));
    }
    if says("marked read-only") || says("read-only file system") {
        let hint = "the container's file system must be writable for the agent: start it without `--read-only`";
        return (ErrorKind::Invalid, Some(hint));
    }
    if says("minimum memory limit") || says("range of cpus") {
        return (ErrorKind::Invalid, Some("change `memory` or `cpus` in the profile"));
    }
    if says("unable to find user") || says("unable to find group") || says("no matching entries in")
    {
        let hint =
            "set `user` in the profile to a number, or to a name that the image's /etc/passwd has";
        return (ErrorKind::Invalid, Some(hint));
    }
    if says("network") && says("not found") {
        let hint =
            "run `docker network ls` to see those there are, and set `network` in the profile";
        return (ErrorKind::NotFound, Some(hint));
    }
    if says("exec format error") {
        let hint =
            "the image is for a machine type that the engine cannot run; use one for its own";
        return (ErrorKind::NoAgent, Some(hint));
    }
    match status {
        Some(404) => (ErrorKind::NotFound, None),
        Some(401 | 403) => (ErrorKind::Denied, None),
        Some(400) => (ErrorKind::Invalid, None),
        _ => (ErrorKind::Failed, None),
    }
}

/// The engine cannot be reached: which address, why, what to start.
fn unreachable(address: &Address, error: &Error) -> DriverError {
    let start = "start the engine: `sudo systemctl start docker`, or Docker Desktop";
    let elsewhere =
        "if it is elsewhere, set `host` in the profile, DOCKER_HOST, or a docker context";
    let missing = matches!(error, Error::SocketNotFoundError(_));
    let io = if missing { Some(std::io::ErrorKind::NotFound) } else { io_kind(error) };
    let (why, hints): (String, &[&str]) = match (io, &address.endpoint) {
        (Some(std::io::ErrorKind::NotFound), Endpoint::Unix(_)) => {
            ("there is no such socket".into(), &[start, elsewhere])
        }
        (Some(std::io::ErrorKind::ConnectionRefused), _) => {
            ("nothing listens there".into(), &[start, elsewhere])
        }
        (Some(std::io::ErrorKind::PermissionDenied), _) => (
            "you may not open it".into(),
            &["join its group and log in again: `sudo usermod -aG docker $USER`"],
        ),
        _ if matches!(error, Error::RequestTimeoutError) => {
            let seconds = CONNECT_TIMEOUT.as_secs();
            (format!("it did not answer within {seconds} s"), &[start, elsewhere])
        }
        _ => (innermost(error), &[start, elsewhere]),
    };
    let message = format!("cannot reach a Docker engine at {address}: {why}");
    let mut unreachable = DriverError::new(ErrorKind::Unreachable, message);
    for hint in hints {
        unreachable = unreachable.hint(*hint);
    }
    unreachable
}

/// The kind of the I/O error that an error came from, if it came from one.
fn io_kind(error: &Error) -> Option<std::io::ErrorKind> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        next = cause.source();
    }
    None
}

/// The text of the innermost cause: the outer ones only say that something failed.
fn innermost(error: &Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    printable(&last.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(endpoint: Endpoint) -> Address {
        Address { endpoint, origin: "the default".into() }
    }

    #[tokio::test]
    async fn a_missing_socket_is_named_with_what_to_start() {
        let dir = tempfile::tempdir().unwrap();
        let error = Engine::connect(address(Endpoint::Unix(dir.path().join("no.sock"))))
            .await
            .err()
            .unwrap();
        assert_eq!(error.kind, ErrorKind::Unreachable);
        assert!(
            error.message.contains("no.sock` (the default): there is no such socket"),
            "{error}"
        );
        assert!(error.hints[0].contains("systemctl start docker"));
    }

    #[tokio::test]
    async fn a_dead_socket_and_a_dead_port_are_told_apart_from_a_missing_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for endpoint in [Endpoint::Unix(path), Endpoint::Tcp(free.to_string())] {
            let error = Engine::connect(address(endpoint)).await.err().unwrap();
            assert_eq!(error.kind, ErrorKind::Unreachable);
            assert!(error.message.contains("nothing listens there"), "{error}");
        }
    }

    #[tokio::test]
    async fn something_that_is_no_engine_is_an_error_and_no_panic() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let dir = tempfile::tempdir().unwrap();
        for (n, answer) in [
            "SSH-2.0-x\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
            "HTTP/1.1 500 No\r\ncontent-length: 5\r\n\r\n\x1b[2J!",
            "",
        ]
        .into_iter()
        .enumerate()
        {
            let path = dir.path().join(format!("{n}.sock"));
            let listener = tokio::net::UnixListener::bind(&path).unwrap();
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
            let error = Engine::connect(address(Endpoint::Unix(path))).await.err().unwrap();
            assert!(!error.message.contains('\x1b'), "{error}");
            server.await.unwrap();
        }
    }

    #[test]
    fn answers_are_classified_by_their_words_before_their_status() {
        let check = |status, why, kind| assert_eq!(classify(Some(status), why).0, kind, "{why}");
        check(500, "write /x: no space left on device", ErrorKind::Exhausted);
        check(400, "Minimum memory limit allowed is 6MB", ErrorKind::Invalid);
        check(404, "network nope not found", ErrorKind::NotFound);
        check(400, "OCI runtime create failed: exec format error", ErrorKind::NoAgent);
        check(
            500,
            "unable to find user bob: no matching entries in passwd file",
            ErrorKind::Invalid,
        );
        check(403, "container rootfs is marked read-only", ErrorKind::Invalid);
        check(403, "no", ErrorKind::Denied);
        check(500, "boom", ErrorKind::Failed);
    }
}
