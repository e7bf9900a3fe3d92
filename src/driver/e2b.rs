//! Sandboxes at E2B, or at whoever is compatible with it.
//!
//! The control plane makes a sandbox that ends at a set time, which the session moves on: that is its
//! lease, and needs nobody alive on the host. Through envd, which runs in every sandbox, our agent
//! is put there and started; it is reached by a WebSocket to its port where that can be had, and
//! through envd otherwise. With `on_timeout = "pause"` a sandbox whose time is over is paused with
//! all that runs in it, and woken by the next dial.
//!
//! In reading order: `settings` is where E2B is, `api` the control plane, `connect`, `process` and
//! `envd` what is said to a sandbox, `create` makes one, `live` and `stream` reach it, `errors` says
//! what went wrong. Facts and their sources: `reference/e2b.md`. Headers of HTTP/2 are never
//! needed, and its way through the edge is not safe, so all is HTTP/1.1.

mod api;
mod connect;
mod create;
mod envd;
mod errors;
mod live;
mod process;
mod settings;
mod stream;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use skync_agent::websocket::path_of;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use self::api::{Api, Detail};
use self::create::Creation;
use self::live::{Live, envd_error};
use self::settings::Settings;
use crate::config::E2bConfig;
use crate::credentials::Surroundings;
use crate::driver::http::Client;
use crate::driver::{
    AgentSource, ByteStream, Driver, DriverError, ErrorKind, LinkSecret, Progress, Sandbox,
    SandboxSpec, SandboxState, Usage, check_session_id, label,
};

/// The label with the agent's file name: only on what we keep ourselves.
const AGENT_LABEL: &str = "skync.agent";
/// How long a sandbox that is ended may still be known.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(30);
const REMOVAL_INTERVAL: Duration = Duration::from_millis(200);

/// Where the control plane is, by the environment.
pub(super) fn address(config: &E2bConfig, surroundings: &Surroundings) -> String {
    Settings::new(config, surroundings.clone()).api
}

/// The e2b driver.
pub struct E2b {
    settings: Arc<Settings>,
    client: OnceCell<Client>,
    /// The server has no second version of its control plane.
    first_only: Arc<AtomicBool>,
    /// What this process made or took over, by sandbox id. A mutex, because calls of the trait may
    /// run side by side; it is held for a look-up and never while waiting.
    live: Mutex<HashMap<String, Arc<Live>>>,
    /// The sandboxes of sessions, as long as nobody has seen them go: by session.
    known: Mutex<HashMap<String, String>>,
}

impl E2b {
    /// A driver with these settings; connects to nothing yet.
    pub fn new(config: &E2bConfig, surroundings: Surroundings) -> Self {
        Self {
            settings: Arc::new(Settings::new(config, surroundings)),
            client: OnceCell::new(),
            first_only: Arc::default(),
            live: Mutex::default(),
            known: Mutex::default(),
        }
    }

    async fn client(&self) -> Result<&Client, DriverError> {
        self.client.get_or_try_init(|| async { Client::new() }).await
    }

    async fn api(&self) -> Result<Api<'_>, DriverError> {
        let client = self.client().await?;
        Ok(Api { client, settings: &self.settings, first_only: &self.first_only })
    }

    fn live(&self, id: &str) -> Option<Arc<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn insert(&self, session: &str, id: &str, live: Live) {
        self.known().insert(session.to_owned(), id.to_owned());
        let mut all = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(id.to_owned(), Arc::new(live));
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, id: &str) {
        self.known().retain(|_, known| known != id);
        self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Nothing is to be expected of one that is proved to be gone.
    fn forget_if_gone(&self, error: &DriverError, id: Option<&str>) {
        if error.kind == ErrorKind::Gone
            && let Some(id) = id
        {
            self.forget(id);
        }
    }

    async fn creation<'a>(&'a self, spec: &'a SandboxSpec) -> Result<Creation<'a>, DriverError> {
        let (api, json_only) = (self.api().await?, Arc::default());
        let (settings, first_only) = (Arc::clone(&self.settings), Arc::clone(&self.first_only));
        Ok(Creation { api, settings, first_only, json_only, spec })
    }
}

#[async_trait]
impl Driver for E2b {
    async fn validate(&self) -> Vec<DriverError> {
        if self.settings.debug {
            return Vec::new();
        }
        let check = async {
            let api = self.api().await?;
            self.account().await?;
            let template = self.settings.template();
            match api.has_template(template).await? {
                Some(false) => {
                    let message = format!("E2B has no template `{template}`");
                    Err(DriverError::new(ErrorKind::NotFound, message)
                        .hint("`e2b template list` shows the templates that the key may use"))
                }
                Some(true) | None => Ok(()),
            }
        };
        check.await.err().into_iter().collect()
    }

    async fn account(&self) -> Result<Option<String>, DriverError> {
        if !self.settings.debug {
            // Any call shows whether the key is good; none says whose it is.
            let none = BTreeMap::from([(label::SESSION.to_owned(), "none".to_owned())]);
            self.api().await?.list(&none).await?;
        }
        Ok(None)
    }

    async fn create(
        &self,
        spec: &SandboxSpec,
        secret: &LinkSecret,
        agents: &dyn AgentSource,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Sandbox, DriverError> {
        check_session_id(&spec.session)?;
        // One that stopped, or whose making came no further: it may hold what nobody else has.
        let known = self.known().get(&spec.session).cloned();
        let creation = self.creation(spec).await?;
        let made = Box::pin(creation.carry_out(known.as_deref(), secret, agents, progress)).await;
        let (sandbox, live) =
            made.inspect_err(|error| self.forget_if_gone(error, known.as_deref()))?;
        self.insert(&spec.session, &sandbox.id, live);
        Ok(sandbox)
    }

    async fn dial(
        &self,
        sandbox: &Sandbox,
        patience: Duration,
    ) -> Result<Box<dyn ByteStream>, DriverError> {
        let live = self.live(&sandbox.id).ok_or_else(|| {
            let message = format!("the sandbox `{}` was not made by this session", sandbox.name);
            DriverError::new(ErrorKind::Gone, message)
        })?;
        live.dial(patience).await
    }

    async fn adopt(&self, sandbox: &Sandbox, spec: &SandboxSpec) -> Result<(), DriverError> {
        check_session_id(&spec.session)?;
        self.known().insert(spec.session.clone(), sandbox.id.clone());
        let lost = |why: &str| {
            DriverError::new(ErrorKind::Gone, format!("the sandbox `{}`: {why}", sandbox.name))
        };
        let secret = std::fs::read(spec.runtime.join("secret")).ok();
        let secret: [u8; 32] = secret
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| lost("the secret of its link is lost"))?;
        let creation = self.creation(spec).await?;
        let access = creation.reach(&sandbox.id).await;
        let access = access.inspect_err(|error| self.forget_if_gone(error, Some(&sandbox.id)))?;
        let file = sandbox.labels.get(AGENT_LABEL).map(String::as_str).unwrap_or_default();
        let place = creation.place(file);
        let envd = creation.envd(access.clone());
        let port = envd.read(&format!("{}/port", place.state())).await;
        let port = port.map_err(|error| envd_error("look for the agent in the sandbox", &error))?;
        let port = port
            .and_then(|bytes| std::str::from_utf8(&bytes).ok()?.trim().parse().ok())
            .ok_or_else(|| lost("no agent runs in it any more"))?;
        let live = creation.live(access, place, (port, path_of(&secret)));
        live.suspect_agent();
        if let Some(how) = live.agent_ending().await {
            return Err(lost(&how));
        }
        self.insert(&spec.session, &sandbox.id, live);
        Ok(())
    }

    async fn state(&self, sandbox: &Sandbox) -> Result<SandboxState, DriverError> {
        let detail = match self.settings.debug {
            true => None,
            false => match self.api().await?.detail(&sandbox.id).await? {
                None => {
                    self.forget(&sandbox.id);
                    return Ok(SandboxState::Gone);
                }
                detail => detail,
            },
        };
        // One that is paused is woken by the next dial, with all that runs in it.
        let is_paused = detail.is_some_and(|(detail, _)| detail.is_paused());
        let ending = match self.live(&sandbox.id) {
            Some(live) if !is_paused => live.agent_ending().await,
            Some(_) => None,
            // It was to be taken over, and could not be.
            None => self
                .known()
                .values()
                .any(|known| *known == sandbox.id)
                .then(|| "its agent has ended".to_owned()),
        };
        Ok(match ending {
            Some(reason) => SandboxState::Stopped { reason, out_of_memory: false },
            None => SandboxState::Running,
        })
    }

    fn is_remote(&self) -> bool {
        true
    }

    async fn renew(
        &self,
        sandbox: &Sandbox,
        time: Duration,
    ) -> Result<Option<Duration>, DriverError> {
        if self.settings.debug {
            return Ok(Some(time));
        }
        let api = self.api().await?;
        let live = self.live(&sandbox.id);
        let is_longer = live.as_ref().is_some_and(|live| live.outlives(time));
        if is_longer {
            // Only ever after it was given more: a command has ended.
            api.set_time(&sandbox.id, time).await?;
        } else {
            api.refresh(&sandbox.id, time).await?;
        }
        if let Some(live) = live {
            live.promise(time);
        }
        Ok(Some(time))
    }

    async fn usage(&self, sandbox: &Sandbox) -> Result<Option<Usage>, DriverError> {
        if self.settings.debug {
            return Ok(None);
        }
        self.api().await?.metrics(&sandbox.id).await
    }

    fn revives(&self) -> bool {
        true
    }

    async fn remove(&self, sandbox: &Sandbox) -> Result<(), DriverError> {
        if self.settings.debug {
            if let Some(live) = self.live(&sandbox.id) {
                let arguments = ["stop".to_owned(), "--state".to_owned(), live.place.state()];
                let stopped = live.envd().run(&live.place.executable, &arguments, None).await;
                stopped.map_err(|error| envd_error("end the agent in the sandbox", &error))?;
            }
            return Ok(());
        }
        let api = self.api().await?;
        match api.detail(&sandbox.id).await? {
            None => {
                self.forget(&sandbox.id);
                return Ok(());
            }
            Some((detail, _)) => check_labels(&detail, sandbox)?,
        }
        api.kill(&sandbox.id).await?;
        let deadline = Instant::now() + REMOVAL_PATIENCE;
        while api.detail(&sandbox.id).await?.is_some() {
            if Instant::now() >= deadline {
                let limit = REMOVAL_PATIENCE.as_secs();
                let message =
                    format!("the sandbox `{}` is still there {limit} s after its end", sandbox.id);
                return Err(DriverError::new(ErrorKind::Failed, message)
                    .hint(format!("try `e2b sandbox kill {}`", sandbox.id)));
            }
            tokio::time::sleep(REMOVAL_INTERVAL).await;
        }
        self.forget(&sandbox.id);
        Ok(())
    }

    async fn find(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Sandbox>, DriverError> {
        if self.settings.debug {
            return Ok(Vec::new());
        }
        let mut labels = labels.clone();
        labels.entry(label::VERSION.to_owned()).or_insert_with(|| "1".to_owned());
        let found = self.api().await?.list(&labels).await?;
        Ok(found.into_iter().map(sandbox_of).collect())
    }
}

fn sandbox_of(detail: Detail) -> Sandbox {
    let labels = detail.labels();
    let root = labels.get(label::PROJECT).map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let (name, id) = (detail.id.clone(), detail.id);
    Sandbox { id, name, root, ephemeral: true, labels }
}

/// Nothing that is not ours is ended.
fn check_labels(detail: &Detail, sandbox: &Sandbox) -> Result<(), DriverError> {
    let own = detail.labels();
    let session = sandbox.labels.get(label::SESSION);
    if own.contains_key(label::VERSION) && own.get(label::SESSION) == session {
        return Ok(());
    }
    let message = format!("the sandbox `{}` does not carry our labels", sandbox.id);
    Err(DriverError::new(ErrorKind::Denied, message)
        .hint("it was not made by skync, and is not removed by it"))
}
