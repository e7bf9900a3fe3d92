//! How a container of ours ends, seen while it happens.
//!
//! The engine removes the container as soon as it stops (AutoRemove), and its log with it; so
//! what the agent said and how it ended must be taken down by somebody who looks on.

use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::{AttachContainerOptionsBuilder, WaitContainerOptionsBuilder};
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::engine::{Engine, status};
use crate::driver::excerpt::{Tail, printable};
use crate::driver::{DriverError, ErrorKind, SandboxState};

/// How long the engine may take to tell the exit code of a container that it removed.
const EXIT_CODE_TIMEOUT: Duration = Duration::from_secs(5);

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ending {
    code: Option<i64>,
    out_of_memory: bool,
    /// What the engine said of it.
    error: String,
    /// The last lines of its log.
    log: String,
    /// The memory limit it had, bytes.
    memory: Option<u64>,
}

impl Ending {
    /// What happened, in words: completes "the container …".
    fn words(&self) -> String {
        let mut words = match (self.out_of_memory, self.code) {
            (true, _) => match self.memory {
                Some(limit) => format!("ran out of memory (limit: {})", mebibytes(limit)),
                None => "ran out of memory".to_owned(),
            },
            (false, Some(137)) => match self.memory {
                Some(limit) => format!(
                    "was killed (exit code 137: by its memory limit of {}, or from outside)",
                    mebibytes(limit)
                ),
                None => "was killed (exit code 137)".to_owned(),
            },
            (false, Some(code)) => format!("ended with exit code {code}"),
            (false, None) => "ended, and the engine does not say how".to_owned(),
        };
        for more in [&self.error, &self.log] {
            if !more.is_empty() {
                words.push_str(": ");
                words.push_str(more);
            }
        }
        words
    }

    /// The same as an error of a call that needed the container.
    pub(super) fn error(&self, name: &str) -> DriverError {
        let message = format!("the container `{name}` {}", self.words());
        if self.out_of_memory {
            return DriverError::new(ErrorKind::Exhausted, message)
                .hint("raise `memory` in the profile, or leave it out");
        }
        DriverError::new(ErrorKind::Gone, message)
    }

    /// The same as a state.
    pub(super) fn state(&self) -> SandboxState {
        SandboxState::Stopped { reason: self.words(), out_of_memory: self.out_of_memory }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

/// Looks on while a container runs. Dropping it stops looking, and nothing else.
pub(super) struct Monitor {
    ending: watch::Receiver<Option<Ending>>,
    task: JoinHandle<()>,
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Monitor {
    /// Attaches to a container that was created and is not started yet.
    ///
    /// # Errors
    /// What the engine said.
    pub(super) async fn attach(
        engine: &Engine,
        id: &str,
        memory: Option<u64>,
    ) -> Result<Self, DriverError> {
        let options =
            AttachContainerOptionsBuilder::new().stream(true).stdout(true).stderr(true).build();
        let attached = engine
            .call("attach to the container", engine.api.attach_container(id, Some(options)))
            .await?;
        let (sender, ending) = watch::channel(None);
        let (api, id) = (engine.api.clone(), id.to_owned());
        let task = tokio::spawn(async move {
            let mut output = attached.output;
            let mut tail = Tail::default();
            let read = async {
                while let Some(Ok(message)) = output.next().await {
                    let text = printable(&String::from_utf8_lossy(message.as_ref()));
                    tracing::debug!(agent = text, "the agent said");
                    tail.push(message.as_ref());
                }
            };
            if let Some(ending) = observe(&api, &id, read).await {
                let log = tail.lines();
                sender.send_replace(Some(Ending { log, memory, ..ending }));
            }
        });
        Ok(Self { ending, task })
    }

    /// How it ended, if it has.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.ending.borrow().clone()
    }

    /// Waits until it has ended; for ever if the engine was lost.
    pub(super) async fn ended(&self) -> Ending {
        let mut ending = self.ending.clone();
        let seen = match ending.wait_for(Option::is_some).await {
            Ok(seen) => seen.clone(),
            Err(_) => None,
        };
        match seen {
            Some(ending) => ending,
            None => std::future::pending().await,
        }
    }
}

/// Awaits `read`, then the end; `None` if the engine does not know of one.
async fn observe(
    api: &bollard::Docker,
    id: &str,
    read: impl Future<Output = ()>,
) -> Option<Ending> {
    let options = WaitContainerOptionsBuilder::new().condition("removed").build();
    let wait = api.wait_container(id, Some(options));
    let exit = tokio::spawn(async move {
        match std::pin::pin!(wait).next().await {
            Some(Ok(end)) => Some(end.status_code),
            Some(Err(Error::DockerContainerWaitError { code, .. })) => Some(code),
            Some(Err(_)) | None => None,
        }
    });
    let mut exit = AbortOnDrop(exit);
    read.await;
    // A stopped container can be asked in the moment before it is removed.
    match inspect(api, id).await {
        Inspected::Stopped(ending) => Some(ending),
        // It closed its outputs and goes on.
        Inspected::Running => {
            let code = (&mut exit.0).await.ok().flatten();
            match inspect(api, id).await {
                Inspected::Stopped(ending) => Some(ending),
                Inspected::Running | Inspected::Lost => None,
                Inspected::Gone => Some(Ending { code, ..Ending::default() }),
            }
        }
        Inspected::Lost => None,
        Inspected::Gone => {
            let code = tokio::time::timeout(EXIT_CODE_TIMEOUT, &mut exit.0).await;
            Some(Ending { code: code.ok().and_then(Result::ok).flatten(), ..Ending::default() })
        }
    }
}

struct AbortOnDrop(JoinHandle<Option<i64>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

enum Inspected {
    Running,
    Stopped(Ending),
    Gone,
    /// The engine does not answer: nothing is known.
    Lost,
}

async fn inspect(api: &bollard::Docker, id: &str) -> Inspected {
    match api.inspect_container(id, None).await {
        Ok(found) => match found.state.as_ref().map(ending_of) {
            Some(Some(ending)) => Inspected::Stopped(ending),
            Some(None) => Inspected::Running,
            None => Inspected::Lost,
        },
        Err(error) if status(&error) == Some(404) => Inspected::Gone,
        Err(_) => Inspected::Lost,
    }
}

/// How a container ended, by what the engine says of it; `None` while it runs.
pub(super) fn ending_of(state: &bollard::models::ContainerState) -> Option<Ending> {
    if state.running == Some(true) {
        return None;
    }
    Some(Ending {
        code: state.exit_code,
        out_of_memory: state.oom_killed == Some(true),
        error: state.error.as_deref().map(printable).unwrap_or_default(),
        ..Ending::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_says_how_and_what_the_agent_said_last() {
        let ending = Ending { code: Some(3), log: "bad secret".into(), ..Ending::default() };
        assert_eq!(
            ending.error("skync-1").to_string(),
            "the container `skync-1` ended with exit code 3: bad secret"
        );
        assert_eq!(ending.error("x").kind, ErrorKind::Gone);
    }

    #[test]
    fn running_out_of_memory_is_named_with_the_limit() {
        let ending = Ending {
            code: Some(137),
            out_of_memory: true,
            memory: Some(64 << 20),
            ..Ending::default()
        };
        let error = ending.error("x");
        assert_eq!(error.kind, ErrorKind::Exhausted);
        assert_eq!(error.to_string(), "the container `x` ran out of memory (limit: 64 MiB)");
        assert!(matches!(ending.state(), SandboxState::Stopped { out_of_memory: true, .. }));
    }
}
