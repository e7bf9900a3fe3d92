//! Sandboxes that are Docker containers.
//!
//! With `image`, a container of our own whose first process is the agent: when the agent ends,
//! because it is told to or because its lease runs out, the engine removes the container, without
//! anybody on the host. With `container`, our agent beside the processes of a container that is
//! not ours and is never removed by us.
//!
//! In reading order: `address` and `engine` reach the engine, `image`, `user` and
//! `archive` are what a creation needs, `container` and `named` (with `running` and
//! `command`) are the two kinds of sandbox, `prepared` keeps what was made of an image, `link`, `stream` and `monitor` are how a live one is reached and watched.

mod address;
mod archive;
mod command;
mod container;
mod engine;
mod examine;
mod image;
mod link;
mod monitor;
mod named;
mod prepared;
mod running;
mod stream;
mod user;
mod validate;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptionsBuilder;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use self::address::Surroundings;
use self::engine::{Engine, status};
pub use self::examine::{Engaged, Examined, engine_address, examine, local_images};
use self::image::ImageName;
use self::link::Live;
use crate::config::DockerConfig;
use crate::driver::{
    AgentSource, ByteStream, Driver, DriverError, ErrorKind, LinkSecret, Progress, Sandbox,
    SandboxSpec, SandboxState, check_session_id, label,
};

/// Where everything of ours is in a container.
const AGENT_DIR: &str = "/.skync";

/// The label with the project's path in the sandbox, which can differ from the one on the host.
const ROOT_LABEL: &str = "skync.root";

/// The docker driver.
pub struct Docker {
    config: DockerConfig,
    surroundings: Surroundings,
    engine: OnceCell<Engine>,
    /// What this process made, by sandbox id. A mutex, because calls of the trait may run side by
    /// side; it is held for a look-up and never while waiting.
    live: Mutex<HashMap<String, Arc<Live>>>,
}

impl Docker {
    /// A driver with these settings; connects to nothing yet.
    pub fn new(config: &DockerConfig) -> Self {
        Self {
            config: config.clone(),
            surroundings: Surroundings::of_process(),
            engine: OnceCell::new(),
            live: Mutex::default(),
        }
    }

    /// The engine, which has answered once.
    async fn engine(&self) -> Result<&Engine, DriverError> {
        self.engine
            .get_or_try_init(|| async {
                let address = self.surroundings.address(self.config.host.as_deref())?;
                Engine::connect(address).await
            })
            .await
    }

    fn live(&self, id: &str) -> Option<Arc<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn forget(&self, id: &str) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    async fn find_containers(
        &self,
        engine: &Engine,
        labels: &BTreeMap<String, String>,
    ) -> Result<Vec<Sandbox>, DriverError> {
        let mut wanted: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        wanted.push(label::VERSION.to_owned());
        let filters = HashMap::from([("label", wanted)]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let call = engine.api.list_containers(Some(options));
        let found = engine.call("list the containers", call).await?;
        Ok(found.into_iter().filter_map(sandbox_of).collect())
    }

    /// Removes a container that carries our labels, and no other.
    async fn remove_container(
        &self,
        engine: &Engine,
        sandbox: &Sandbox,
    ) -> Result<(), DriverError> {
        let found = match engine.try_call(engine.api.inspect_container(&sandbox.id, None)).await {
            Ok(found) => found,
            Err(error) if status(&error) == Some(404) => return Ok(()),
            Err(error) => {
                return Err(
                    engine.error(&format!("look at the container `{}`", sandbox.name), error)
                );
            }
        };
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        let session = sandbox.labels.get(label::SESSION);
        if !labels.contains_key(label::VERSION) || labels.get(label::SESSION) != session {
            let message = format!("the container `{}` does not carry our labels", sandbox.name);
            return Err(DriverError::new(ErrorKind::Denied, message)
                .hint("it was not made by skync, and is not removed by it"));
        }
        container::remove(engine, found.id.as_deref().unwrap_or(&sandbox.id)).await
    }
}

#[async_trait]
impl Driver for Docker {
    async fn validate(&self) -> Vec<DriverError> {
        let mut problems = validate::offline(&self.config);
        match self.engine().await {
            Ok(engine) => problems.extend(validate::online(engine, &self.config).await),
            Err(error) => problems.push(error),
        }
        problems
    }

    async fn create(
        &self,
        spec: &SandboxSpec,
        secret: &LinkSecret,
        agents: &dyn AgentSource,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Sandbox, DriverError> {
        check_session_id(&spec.session)?;
        if let Some(problem) = validate::offline(&self.config).into_iter().next() {
            return Err(problem);
        }
        let engine = self.engine().await?;
        let config = &self.config;
        let (sandbox, live) = match (config.image.as_deref(), config.container.as_deref()) {
            (_, Some(name)) => {
                Box::pin(named::create(engine, config, name, spec, secret, agents, progress))
                    .await?
            }
            (image, None) => {
                let name = ImageName::parse(image.unwrap_or_default())?;
                Box::pin(container::create(engine, config, &name, spec, secret, agents, progress))
                    .await?
            }
        };
        let mut all = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(sandbox.id.clone(), Arc::new(live));
        Ok(sandbox)
    }

    async fn dial(
        &self,
        sandbox: &Sandbox,
        patience: Duration,
    ) -> Result<Box<dyn ByteStream>, DriverError> {
        let live = self.live(&sandbox.id).ok_or_else(|| {
            let message = format!("the container `{}` was not made by this session", sandbox.name);
            DriverError::new(ErrorKind::Gone, message)
        })?;
        live.dial(self.engine().await?, sandbox, patience).await
    }

    async fn adopt(&self, sandbox: &Sandbox, spec: &SandboxSpec) -> Result<(), DriverError> {
        check_session_id(&spec.session)?;
        let engine = self.engine().await?;
        let live = if sandbox.ephemeral {
            container::adopt(engine, self.config.memory, sandbox, spec).await?
        } else {
            named::adopt(engine, self.config.user.clone(), sandbox).await?
        };
        let mut all = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(sandbox.id.clone(), Arc::new(live));
        Ok(())
    }

    async fn state(&self, sandbox: &Sandbox) -> Result<SandboxState, DriverError> {
        // What was seen of its end is the only record: the engine removes it at once.
        let live = self.live(&sandbox.id);
        if let Some(ending) = live.and_then(|live| live.monitor.as_ref()?.ending()) {
            return Ok(ending.state());
        }
        let engine = self.engine().await?;
        let found = match engine.try_call(engine.api.inspect_container(&sandbox.id, None)).await {
            Ok(found) => found,
            Err(error) if status(&error) == Some(404) => return Ok(SandboxState::Gone),
            Err(error) => {
                return Err(
                    engine.error(&format!("look at the container `{}`", sandbox.name), error)
                );
            }
        };
        match found.state.as_ref().and_then(monitor::ending_of) {
            Some(ending) => Ok(ending.state()),
            None if sandbox.ephemeral => Ok(SandboxState::Running),
            None => named::state(engine, sandbox).await,
        }
    }

    async fn remove(&self, sandbox: &Sandbox) -> Result<(), DriverError> {
        let engine = self.engine().await?;
        if sandbox.ephemeral {
            self.remove_container(engine, sandbox).await?;
        } else {
            let session = named::session_of(sandbox)?;
            named::remove(engine, sandbox, self.config.user.as_deref(), session).await?;
        }
        self.forget(&sandbox.id);
        Ok(())
    }

    async fn keep_prepared(&self, sandbox: &Sandbox) -> Result<(), DriverError> {
        prepared::keep(self.engine().await?, sandbox, self.config.user.as_deref()).await
    }

    async fn kept_bytes(&self, name: &str) -> Result<Option<u64>, DriverError> {
        prepared::bytes(self.engine().await?, name).await
    }

    async fn remove_kept(&self, name: &str) -> Result<(), DriverError> {
        prepared::remove(self.engine().await?, name).await
    }

    async fn nameless_kept(&self, owner: &str) -> Result<Vec<String>, DriverError> {
        prepared::nameless(self.engine().await?, owner).await
    }

    async fn find(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Sandbox>, DriverError> {
        let engine = self.engine().await?;
        match self.config.container.as_deref() {
            Some(name) => named::find(engine, name, labels).await,
            None => self.find_containers(engine, labels).await,
        }
    }
}

/// A listed container as a sandbox; `None` if the engine does not even say its id.
fn sandbox_of(found: ContainerSummary) -> Option<Sandbox> {
    let id = found.id?;
    let name = found.names.unwrap_or_default().into_iter().next().unwrap_or_default();
    let name = name.trim_start_matches('/').to_owned();
    // The image's own labels are among them.
    let labels: BTreeMap<String, String> = found
        .labels
        .unwrap_or_default()
        .into_iter()
        .filter(|(key, _)| key.starts_with("skync."))
        .collect();
    let root = labels.get(ROOT_LABEL).or_else(|| labels.get(label::PROJECT));
    let root = root.map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let name = if name.is_empty() { id.clone() } else { name };
    Some(Sandbox { id, name, root, ephemeral: true, labels })
}

/// True unless `bytes` hash to `sha256`.
fn hash_differs(bytes: &[u8], sha256: &[u8; 32]) -> bool {
    Sha256::digest(bytes).as_slice() != sha256
}
