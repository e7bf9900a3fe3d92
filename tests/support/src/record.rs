//! What a server was asked, and the answers that a test put in the place of its own.

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use http::{Response, StatusCode};

use crate::wire::{Reset, lock};

/// Requests that are kept; older ones are forgotten.
const RECORDED_MAX: usize = 10_000;

/// One request that was answered. Values of headers are not kept: secrets are among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The method, in capitals.
    pub method: String,
    /// The path with the query.
    pub path: String,
    /// The status of the answer.
    pub status: u16,
    /// The names of the request's headers, in lower case.
    pub headers: Vec<String>,
}

/// An answer in the place of the server's own.
struct Failure {
    matcher: String,
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    times: u32,
}

/// The requests of a server, and the failures that wait for some of them.
#[derive(Default)]
pub struct Log {
    recorded: Mutex<VecDeque<Recorded>>,
    failures: Mutex<Vec<Failure>>,
    /// Requests whose answers are lost: how they begin, and how many.
    losses: Mutex<Vec<(String, u32)>>,
}

impl Log {
    /// Returns the requests that were answered, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.recorded).iter().cloned().collect()
    }

    /// Answers the next `times` requests whose `METHOD /path?query` begins with `matcher`.
    pub fn fail_next(
        &self,
        matcher: &str,
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
        times: u32,
    ) {
        let matcher = matcher.to_owned();
        lock(&self.failures).push(Failure { matcher, status, headers, body, times });
    }

    /// Does what the next `times` requests ask that begin so, but drops the connection in the place
    /// of the answer. It is recorded all the same.
    pub fn lose_next(&self, matcher: &str, times: u32) {
        lock(&self.losses).push((matcher.to_owned(), times));
    }

    fn is_lost(&self, line: &str) -> bool {
        let mut losses = lock(&self.losses);
        losses.retain(|(_, times)| *times > 0);
        let lost = losses.iter_mut().find(|(matcher, _)| line.starts_with(matcher.as_str()));
        lost.map(|(_, times)| *times -= 1).is_some()
    }

    /// Answers the request, by a failure that waits for it or by `next`, and records it. It is
    /// meant for a middleware around the whole router.
    pub async fn answer(&self, request: Request, next: Next) -> Response<Body> {
        let method = request.method().to_string();
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let headers = request.headers().keys().map(|name| name.as_str().to_owned()).collect();
        let line = format!("{method} {path}");
        let is_lost = self.is_lost(&line);
        let mut response = match self.failure(&line) {
            Some(response) => response,
            None => next.run(request).await,
        };
        if is_lost {
            response.extensions_mut().insert(Reset);
        }
        let mut recorded = lock(&self.recorded);
        if recorded.len() == RECORDED_MAX {
            recorded.pop_front();
        }
        let status = response.status().as_u16();
        recorded.push_back(Recorded { method, path, status, headers });
        response
    }

    fn failure(&self, line: &str) -> Option<Response<Body>> {
        let mut failures = lock(&self.failures);
        failures.retain(|failure| failure.times > 0);
        let failure = failures.iter_mut().find(|failure| line.starts_with(&failure.matcher))?;
        failure.times -= 1;
        let mut response = Response::builder().status(failure.status);
        for (name, value) in &failure.headers {
            response = response.header(name, value);
        }
        let response = response.body(Body::from(failure.body.clone()));
        Some(response.unwrap_or_else(|_| {
            let mut response = Response::new(Body::from("a failure that is no HTTP response"));
            *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
            response
        }))
    }
}
