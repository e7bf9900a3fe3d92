//! Daytona's own program in a sandbox: it runs commands to their end, and takes files.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::api::Api;
use super::errors::{read, refused, unreachable};
use super::multipart;
use super::shell::{self, Probed};
use crate::driver::excerpt::printable;
use crate::driver::http::{Repeat, Request};
use crate::driver::{DriverError, ErrorKind};

/// A sandbox that has started answers within this.
const READY_PATIENCE: Duration = Duration::from_secs(20);
/// One question whether it does.
const READY_ONCE: Duration = Duration::from_secs(8);
/// Between two of them, at first and at most.
const READY_INTERVAL: Duration = Duration::from_millis(50);
const READY_INTERVAL_MAX: Duration = Duration::from_millis(500);
/// A slow way out takes its time for an agent of some megabytes.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(300);
/// The version of the protocol that is spoken here.
const VERSION: &str = "0.190.0";

/// The toolbox of one sandbox.
pub(super) struct Toolbox<'a> {
    api: Api<'a>,
    url: String,
}

/// How a command ended.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Executed {
    #[serde(default)]
    pub(super) exit_code: i64,
    /// Standard output and error in one.
    #[serde(default)]
    pub(super) result: String,
}

impl<'a> Toolbox<'a> {
    /// The one at this address, the sandbox's id in it.
    pub(super) fn new(api: Api<'a>, url: String) -> Self {
        Self { api, url }
    }

    async fn request(&self, method: Method, path: &str) -> Result<Request, DriverError> {
        request(&self.api, &self.url, method, path).await
    }

    /// Waits until it answers: a sandbox is said to have started a little earlier.
    pub(super) async fn wait(&self) -> Result<(), DriverError> {
        let doing = "reach the sandbox that has started";
        let deadline = Instant::now() + READY_PATIENCE;
        let mut interval = READY_INTERVAL;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let request = self.request(Method::GET, "/version").await?;
            let request = request.repeat(Repeat::Never).patience(left.min(READY_ONCE));
            let error = match self.api.send(&request).await {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                Ok(answer) if matches!(answer.status.as_u16(), 400 | 404 | 429 | 502..=504) => {
                    refused(doing, &answer)
                }
                Ok(answer) => return Err(refused(doing, &answer)),
                Err(trouble) => unreachable(doing, &trouble),
            };
            if Instant::now() + interval >= deadline {
                return Err(error);
            }
            tokio::time::sleep(interval).await;
            interval = interval.mul_f64(1.5).min(READY_INTERVAL_MAX);
        }
    }

    /// Runs a script that may be run twice.
    pub(super) async fn execute(
        &self,
        doing: &str,
        script: &str,
        patience: Duration,
    ) -> Result<Executed, DriverError> {
        let body =
            json!({ "command": shell::command(script), "timeout": patience.as_secs().max(1) });
        let request = self.request(Method::POST, "/process/execute").await?.json(&body);
        // The shell and the way there take their time as well.
        let request = request.repeat(Repeat::Always).patience(patience + READY_ONCE);
        read(doing, &self.api.call(doing, &request).await?)
    }

    /// Looks whether the agent of a session lives.
    pub(super) async fn probe(
        &self,
        session: &str,
        patience: Duration,
    ) -> Result<Probed, DriverError> {
        let doing = "see whether the agent runs in the sandbox";
        let executed = self.execute(doing, &shell::probe(session), patience).await?;
        Probed::read(&executed.result).ok_or_else(|| {
            let message = format!("cannot {doing}: {}", printable(&executed.result));
            DriverError::new(ErrorKind::Failed, message)
                .hint("the sandbox needs `/bin/sh`, and a directory that its user can write to")
        })
    }

    /// Puts files in their places, whose directories exist.
    pub(super) async fn upload(&self, files: &[(String, Bytes)]) -> Result<(), DriverError> {
        #[derive(Deserialize)]
        struct Reply {
            #[serde(default)]
            files: Vec<Written>,
        }
        #[derive(Deserialize)]
        struct Written {
            path: String,
            bytes: u64,
        }
        let doing = "put the agent into the sandbox";
        let form = multipart::form(files)?;
        let mut request = self
            .request(Method::POST, "/files/bulk-upload")
            .await?
            .header("content-type", &form.content_type)
            .repeat(Repeat::Always)
            .patience(UPLOAD_PATIENCE);
        request.body = form.body;
        let reply: Reply = read(doing, &self.api.call(doing, &request).await?)?;
        for written in &reply.files {
            let sent = files.iter().find(|(path, _)| *path == written.path);
            if sent.is_some_and(|(_, content)| content.len() as u64 != written.bytes) {
                let message = format!("cannot {doing}: only a part of `{}` arrived", written.path);
                return Err(DriverError::new(ErrorKind::Failed, message)
                    .hint("the sandbox's disk may be full"));
            }
        }
        Ok(())
    }
}

/// A request to a toolbox.
pub(super) async fn request(
    api: &Api<'_>,
    toolbox: &str,
    method: Method,
    path: &str,
) -> Result<Request, DriverError> {
    let request = api.request_to(method, &format!("{toolbox}{path}")).await?;
    Ok(request.header("x-daytona-sdk-version", VERSION))
}
