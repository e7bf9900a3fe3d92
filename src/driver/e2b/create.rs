//! Making a sandbox, with our agent in it.
//!
//! Five requests one after the other: the sandbox, its machine type, the agent and the project's
//! root (side by side), the agent's start, and its secret, which goes to its standard input so that
//! it stands in no argument, no environment and no file of a directory that others can read.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use skync_agent::websocket::path_of;
use tokio::time::Instant;

use super::AGENT_LABEL;
use super::api::{Access, Api};
use super::envd::{Envd, EnvdError};
use super::live::{Live, envd_error, passes};
use super::settings::{DEBUG_SANDBOX, Settings};
use crate::driver::launch::{Place, answer};
use crate::driver::{
    AgentBinary, AgentSource, DriverError, ErrorKind, LinkSecret, Progress, Sandbox, SandboxSpec,
};

/// Where the agents of all sessions are: envd makes it for whoever asks.
const AGENT_DIR: &str = "/.skync";
/// What a sandbox lives while it is being made: the agent may take minutes over a slow line.
pub(super) const CREATION_TIME: Duration = Duration::from_secs(240);
/// How long a new sandbox may take to answer.
const START_PATIENCE: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_millis(200);
/// Where the agent serves WebSockets: on all addresses, since the edge comes from outside. The range
/// holds nothing that development servers use.
const WEB: &str = "0.0.0.0:42000-42999";

/// One creation.
pub(super) struct Creation<'a> {
    pub(super) api: Api<'a>,
    pub(super) settings: Arc<Settings>,
    pub(super) first_only: Arc<AtomicBool>,
    pub(super) json_only: Arc<AtomicBool>,
    pub(super) spec: &'a SandboxSpec,
}

impl Creation<'_> {
    /// Makes a sandbox and starts the agent; in one that is `known` only the latter.
    ///
    /// # Errors
    /// What was made is removed, unless it was known.
    pub(super) async fn carry_out(
        &self,
        known: Option<&str>,
        secret: &LinkSecret,
        agents: &dyn AgentSource,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(Sandbox, Live), DriverError> {
        let template = self.settings.template();
        let (access, ephemeral) = match known {
            Some(id) => (self.reach(id).await?, true),
            None if self.settings.debug => (self.reach(DEBUG_SANDBOX).await?, false),
            None => {
                progress(Progress::Step(format!("making a sandbox of the template `{template}`")));
                (self.api.create(&self.spec.labels, CREATION_TIME).await?, true)
            }
        };
        let id = access.id.clone();
        let kind = (ephemeral, known.is_some());
        let error = match self.start(access, kind, secret, agents, progress).await {
            Ok(made) => return Ok(made),
            Err(error) => error,
        };
        if known.is_some() || self.settings.debug {
            return Err(error);
        }
        match self.api.kill(&id).await {
            Ok(()) => Err(error),
            Err(left) => Err(error
                .unclear()
                .hint(format!("the sandbox `{id}` was left behind ({left}): run `skync gc`"))),
        }
    }

    /// What reaches a sandbox that is there.
    ///
    /// # Errors
    /// [`ErrorKind::Gone`] if it is not.
    pub(super) async fn reach(&self, id: &str) -> Result<Access, DriverError> {
        if self.settings.debug {
            return Ok(Access {
                id: id.to_owned(),
                envd_version: None,
                domain: None,
                envd_access_token: None,
                traffic_access_token: None,
            });
        }
        // The session renews it once it has a link, which may take until the project has been read.
        self.api.connect(id, CREATION_TIME.max(self.spec.lease)).await
    }

    pub(super) fn place(&self, agent_file: &str) -> Place {
        Place::new(format!("{AGENT_DIR}/{}", self.spec.session), agent_file)
    }

    pub(super) fn envd(&self, access: Access) -> Envd {
        Envd {
            client: self.api.client.clone(),
            settings: Arc::clone(&self.settings),
            access: Arc::new(access),
            json_only: Arc::clone(&self.json_only),
        }
    }

    pub(super) fn live(&self, access: Access, place: Place, web: (u16, String)) -> Live {
        Live::new(
            self.api.client.clone(),
            Arc::clone(&self.settings),
            Arc::clone(&self.first_only),
            (access, Arc::clone(&self.json_only)),
            place,
            web,
        )
    }

    async fn start(
        &self,
        access: Access,
        (ephemeral, is_known): (bool, bool),
        secret: &LinkSecret,
        agents: &dyn AgentSource,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(Sandbox, Live), DriverError> {
        let envd = self.envd(access.clone());
        let (machine, home) = self.look_around(&envd).await?;
        let agent = agents.agent(&machine)?;
        let place = self.place(&agent.file_name());
        let arguments = place.arguments(self.spec, WEB, &home)?;
        progress(Progress::Step("putting the agent into the sandbox".to_owned()));
        let doing = "put the agent into the sandbox";
        let root = self.spec.root.to_string_lossy();
        // Where the user cannot make the root, envd can. If it cannot, the agent says why.
        let (uploaded, root_made) =
            tokio::join!(self.bring(&envd, &place, &agent, is_known), envd.make_directory(&root));
        uploaded.map_err(|error| envd_error(doing, &error))?;
        if let Err(error) = root_made {
            tracing::info!(%error, "the project's root could not be made by envd");
        }
        let mut shell = vec!["-c".to_owned(), "chmod 755 \"$0\" && exec \"$0\" \"$@\"".to_owned()];
        shell.push(place.executable.clone());
        shell.extend(arguments);
        let secret_bytes = Bytes::copy_from_slice(&secret.0);
        let finished = envd.run("/bin/sh", &shell, Some(&secret_bytes)).await;
        let finished = finished.map_err(|error| envd_error("start the agent", &error))?;
        let launched = answer(&format!("{}\n{}", finished.output, finished.error))?;
        let mut labels = self.spec.labels.clone();
        labels.insert(AGENT_LABEL.to_owned(), agent.file_name());
        let (id, root) = (access.id.clone(), launched.root);
        let sandbox = Sandbox { name: id.clone(), id, root, ephemeral, labels };
        Ok((sandbox, self.live(access, place, (launched.port, path_of(&secret.0)))))
    }

    /// Puts the agent there, unless it is: supervisors of operations may run the file, and then it
    /// cannot be written. What runs is proved by the link.
    async fn bring(
        &self,
        envd: &Envd,
        place: &Place,
        agent: &AgentBinary,
        is_known: bool,
    ) -> Result<(), EnvdError> {
        if is_known && envd.size(&place.executable).await? == Some(agent.bytes.len() as u64) {
            return Ok(());
        }
        envd.upload(&place.executable, agent).await
    }

    /// The machine type and the home of the user that commands run as.
    async fn look_around(&self, envd: &Envd) -> Result<(String, String), DriverError> {
        let script = "uname -m; printf '%s\\n' \"$HOME\"";
        let arguments = ["-c".to_owned(), script.to_owned()];
        let deadline = Instant::now() + START_PATIENCE;
        let finished = loop {
            match envd.run("/bin/sh", &arguments, None).await {
                Ok(finished) => break finished,
                Err(error) if passes(&error) && Instant::now() < deadline => {
                    tracing::debug!(%error, "the sandbox does not answer yet");
                    tokio::time::sleep(START_INTERVAL).await;
                }
                Err(error) => return Err(envd_error("run a program in the sandbox", &error)),
            }
        };
        let mut lines = finished.output.lines().map(str::to_owned);
        let machine = lines.next().filter(|machine| !machine.is_empty()).ok_or_else(|| {
            let said = crate::driver::excerpt::printable(&finished.error);
            let message = format!("the sandbox has no usable shell: {said}");
            DriverError::new(ErrorKind::Failed, message)
                .hint("choose a template that has `/bin/sh`, and a `user` who may use it")
        })?;
        let home = lines.next().filter(|home| home.starts_with('/'));
        Ok((machine, home.unwrap_or_else(|| "/tmp".to_owned())))
    }
}
