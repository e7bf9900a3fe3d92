//! A container of our own: made from an image, with the agent as its first process.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use bollard::models::{
    ContainerCreateBody, ContainerCreateResponse, HealthConfig, HostConfig, ImageInspect, Mount,
    MountType,
};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use tokio::time::Instant;

use super::archive::{Archive, make_directories, read};
use super::engine::{Engine, said, status};
use super::image::{self, ImageName};
use super::link::{AgentPlace, Live, Socket};
use super::monitor::Monitor;
use super::prepared::{self, Kept};
use super::user::{Ids, ids};
use super::{AGENT_DIR, ROOT_LABEL, hash_differs};
use crate::config::{DockerConfig, LinkKind};
use crate::driver::{
    AgentBinary, AgentSource, DriverError, ErrorKind, LinkSecret, Progress, Sandbox, SandboxSpec,
    label,
};

/// How long the engine may take until a container that it removed is gone.
const REMOVAL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// How often it is asked meanwhile.
const REMOVAL_INTERVAL: std::time::Duration = std::time::Duration::from_millis(20);

/// The state directory of the agent.
const STATE_DIR: &str = "/.skync/state";

/// Makes and starts a container for `spec`; on an error none is left.
pub(super) async fn create(
    engine: &Engine,
    config: &DockerConfig,
    name: &ImageName<'_>,
    spec: &SandboxSpec,
    secret: &LinkSecret,
    agents: &dyn AgentSource,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(Sandbox, Live), DriverError> {
    let image = image::obtain(engine, name, progress).await?;
    let of_what = format!("the image `{}`", name.full);
    let machine = image::machine(image.architecture.as_deref().unwrap_or_default(), &of_what)?;
    let agent = agents.agent(machine)?;
    let socket = match config.link {
        LinkKind::Stdio => None,
        LinkKind::Socket => Some(Socket::listen(&spec.runtime)?),
        LinkKind::Auto if shares_files(engine).await? => Socket::listen(&spec.runtime).ok(),
        LinkKind::Auto => None,
    };

    let wanted = spec.preparation.as_deref().filter(|_| config.setup_image);
    let unkept = wanted.and_then(|_| prepared::hindrance(name.full, &image));
    let kept = match wanted {
        Some(key) if unkept.is_none() => {
            let owner = spec.labels.get(label::OWNER).map(String::as_str).unwrap_or_default();
            Some(Kept::look(engine, key, owner, &image).await?)
        }
        Some(_) | None => None,
    };
    let mut plan = Plan { engine, config, name, spec, agent: &agent, image: &image, kept, unkept };
    progress(Progress::Step(format!("creating a container from `{}`", plan.source())));
    let (id, socket) = plan.make(socket).await?;
    let sandbox = Sandbox {
        id,
        name: container_name(spec),
        root: spec.root.clone(),
        ephemeral: true,
        labels: plan.labels(),
    };
    match plan.start(&sandbox.id, secret).await {
        Ok(monitor) => {
            let live = Live {
                place: AgentPlace {
                    executable: executable(&agent),
                    state: STATE_DIR.to_owned(),
                    user: None,
                },
                socket,
                may_fall_back: config.link == LinkKind::Auto,
                monitor: Some(monitor),
                exec: None,
                listening: AtomicBool::new(false),
            };
            Ok((sandbox, live))
        }
        Err(error) => match remove(engine, &sandbox.id).await {
            Ok(()) => Err(error),
            Err(left) => Err(error.hint(format!(
                "the container `{}` was left behind ({left}): run `skync gc`",
                sandbox.name
            ))),
        },
    }
}

/// Takes over a container that an earlier process of the same session made.
pub(super) async fn adopt(
    engine: &Engine,
    memory: Option<u64>,
    sandbox: &Sandbox,
    spec: &SandboxSpec,
) -> Result<Live, DriverError> {
    let gone = || {
        let message = format!("the container `{}` does not run any more", sandbox.name);
        DriverError::new(ErrorKind::Gone, message)
    };
    let found = match engine.try_call(engine.api.inspect_container(&sandbox.id, None)).await {
        Ok(found) => found,
        Err(error) if status(&error) == Some(404) => return Err(gone()),
        Err(error) => {
            return Err(engine.error(&format!("look at the container `{}`", sandbox.name), error));
        }
    };
    if found.state.and_then(|state| state.running) != Some(true) {
        return Err(gone());
    }
    // Its first process is the agent, and what that was started with cannot be changed from inside.
    let config = found.config.unwrap_or_default();
    let (mut words, rest) = (config.entrypoint.unwrap_or_default(), config.cmd.unwrap_or_default());
    words.extend(rest);
    let dials = words.iter().any(|word| word == "--dial");
    let executable = words.into_iter().next().unwrap_or_default();
    let socket = if dials { Some(Socket::listen(&spec.runtime)?) } else { None };
    let monitor = Some(Monitor::attach(engine, &sandbox.id, memory).await?);
    let place = AgentPlace { executable, state: STATE_DIR.to_owned(), user: None };
    let listening = AtomicBool::new(true);
    Ok(Live { place, socket, may_fall_back: dials, monitor, exec: None, listening })
}

/// True if a socket of this process can be reached from a container.
async fn shares_files(engine: &Engine) -> Result<bool, DriverError> {
    if !engine.is_local() {
        return Ok(false);
    }
    // Docker Desktop runs its engine in a virtual machine, into which no socket reaches.
    let system = engine.info().await?.operating_system.unwrap_or_default();
    Ok(!system.contains("Docker Desktop"))
}

fn container_name(spec: &SandboxSpec) -> String {
    format!("skync-{}", spec.session)
}

fn executable(agent: &AgentBinary) -> String {
    format!("{AGENT_DIR}/{}", agent.file_name())
}

/// What all steps of one creation need.
struct Plan<'a> {
    engine: &'a Engine,
    config: &'a DockerConfig,
    name: &'a ImageName<'a>,
    spec: &'a SandboxSpec,
    agent: &'a AgentBinary,
    /// What the profile names.
    image: &'a ImageInspect,
    /// What was made of it before, or is to be kept of what will be.
    kept: Option<Kept>,
    /// Why it is not kept although it is to be.
    unkept: Option<String>,
}

impl Plan<'_> {
    /// Makes the container; without the socket if the engine does not see it and need not.
    async fn make(
        &mut self,
        socket: Option<Socket>,
    ) -> Result<(String, Option<Socket>), DriverError> {
        match self.make_once(socket.as_ref().map(Socket::directory)).await {
            Err(error)
                if socket.is_some()
                    && self.config.link == LinkKind::Auto
                    && error.message.contains("bind source path") =>
            {
                tracing::debug!("the engine does not see the link's socket; using exec");
                Ok((self.make_once(None).await?, None))
            }
            made => made.map(|id| (id, socket)),
        }
    }

    async fn make_once(&mut self, link: Option<&Path>) -> Result<String, DriverError> {
        let name = container_name(self.spec);
        let doing = format!("create the container `{name}`");
        let mut made = self.ask(&name, link).await;
        if made.as_ref().is_err_and(|error| status(error) == Some(409)) {
            self.clear(&name).await?;
            made = self.ask(&name, link).await;
        }
        if made.as_ref().is_err_and(|error| status(error) == Some(404))
            && let Some(kept) = self.kept.as_mut().filter(|kept| kept.image.is_some())
        {
            // It went in the moment since it was seen: what it was made of is there.
            kept.image = None;
            made = self.ask(&name, link).await;
        }
        let made = made.map_err(|error| self.engine.error(&doing, error))?;
        for warning in &made.warnings {
            tracing::debug!(
                warning = crate::driver::excerpt::printable(warning),
                "the engine warns"
            );
        }
        Ok(made.id)
    }

    async fn ask(
        &self,
        name: &str,
        link: Option<&Path>,
    ) -> Result<ContainerCreateResponse, bollard::errors::Error> {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        self.engine.try_call(self.engine.api.create_container(Some(options), self.body(link))).await
    }

    /// The name of the image that the container is made from.
    fn source(&self) -> &str {
        match &self.kept {
            Some(kept) if kept.image.is_some() => &kept.name,
            Some(_) | None => self.name.full,
        }
    }

    /// What the engine is to make the container from.
    fn source_image(&self) -> &str {
        // The one that was looked at, whatever its name leads to by now.
        let kept = self.kept.as_ref().and_then(|kept| kept.image.as_deref());
        kept.unwrap_or(self.name.full)
    }

    /// What is done in it is to be kept as an image.
    fn is_to_be_kept(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.image.is_none())
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.spec.labels.clone();
        labels.insert(ROOT_LABEL.to_owned(), self.spec.root.to_string_lossy().into_owned());
        if let Some(kept) = &self.kept {
            kept.label(&mut labels);
        }
        if let Some(why) = &self.unkept {
            labels.insert(label::UNKEPT.to_owned(), why.clone());
        }
        labels
    }

    /// Removes a container that has our name and never ran: all that a crash in between leaves.
    ///
    /// # Errors
    /// If it ran: then it may hold what nobody else has.
    async fn clear(&self, name: &str) -> Result<(), DriverError> {
        let doing = format!("look at the container `{name}`");
        let found = self.engine.call(&doing, self.engine.api.inspect_container(name, None)).await?;
        let theirs = found.config.and_then(|config| config.labels).unwrap_or_default();
        let ours = theirs.contains_key(label::VERSION)
            && theirs.get(label::SESSION) == self.spec.labels.get(label::SESSION);
        let never_ran = found.state.and_then(|state| state.status)
            == Some(bollard::models::ContainerStateStatusEnum::CREATED);
        if ours && never_ran {
            return remove(self.engine, found.id.as_deref().unwrap_or(name)).await;
        }
        let message = format!("there is a container `{name}` already, and it is in use");
        Err(DriverError::new(ErrorKind::Failed, message)
            .hint("run `skync gc`, which removes it if its session is gone"))
    }

    fn body(&self, link: Option<&Path>) -> ContainerCreateBody {
        let mut command = vec![
            executable(self.agent),
            "serve".to_owned(),
            "--state".to_owned(),
            STATE_DIR.to_owned(),
            "--lease-ms".to_owned(),
            self.spec.lease.as_millis().to_string(),
        ];
        if link.is_some() {
            command.extend(["--dial".to_owned(), format!("{AGENT_DIR}/link/{}", Socket::FILE)]);
        }
        let config = self.image.config.as_ref();
        let has_check = config.is_some_and(|config| config.healthcheck.is_some());
        let has_signal = config.is_some_and(|config| config.stop_signal.is_some());
        ContainerCreateBody {
            image: Some(self.source_image().to_owned()),
            // All of it, and no `cmd`: an image that is made of the container would inherit that.
            entrypoint: Some(command),
            working_dir: Some("/".to_owned()),
            user: self.config.user.clone(),
            labels: Some(self.labels().into_iter().collect::<HashMap<_, _>>()),
            // Both would be the image's: they are made for its own first process, not for ours.
            healthcheck: has_check.then(|| HealthConfig {
                test: Some(vec!["NONE".to_owned()]),
                ..HealthConfig::default()
            }),
            stop_signal: has_signal.then(|| "SIGTERM".to_owned()),
            host_config: Some(self.host_config(link)),
            ..ContainerCreateBody::default()
        }
    }

    fn host_config(&self, link: Option<&Path>) -> HostConfig {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let memory = self.config.memory.map(signed);
        // A mount, not a bind: for a bind the engine would make the directory on its own machine.
        let link = link.map(|dir| Mount {
            typ: Some(MountType::BIND),
            source: Some(dir.to_string_lossy().into_owned()),
            target: Some(format!("{AGENT_DIR}/link")),
            read_only: Some(true),
            ..Mount::default()
        });
        let own = self.is_to_be_kept().then(prepared::own_volume);
        let mounts: Vec<Mount> = own.into_iter().chain(link).collect();
        HostConfig {
            auto_remove: Some(true),
            memory,
            // Without this the same amount of swap comes on top.
            memory_swap: memory,
            nano_cpus: self.config.milli_cpus.map(|cpus| signed(cpus.saturating_mul(1_000_000))),
            pids_limit: self.config.pids.map(signed),
            network_mode: self.config.network.clone(),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            // The agent must be the first process, also where the engine adds one by itself.
            init: Some(false),
            mounts: (!mounts.is_empty()).then_some(mounts),
            ..HostConfig::default()
        }
    }

    async fn start(&self, id: &str, secret: &LinkSecret) -> Result<Monitor, DriverError> {
        let of_image = self.image.config.as_ref().and_then(|config| config.user.as_deref());
        let user = self.config.user.as_deref().or(of_image).unwrap_or_default();
        let owner = ids(self.engine, id, user).await?;
        self.upload(id, owner, secret).await?;
        // What is to be kept is for any project: its root is made afterwards.
        if owner.uid != 0 && !self.is_to_be_kept() {
            make_directories(self.engine, id, &self.spec.root, owner).await?;
        }
        let monitor = Monitor::attach(self.engine, id, self.config.memory).await?;
        let doing = format!("start the container `{}`", container_name(self.spec));
        self.engine.call(&doing, self.engine.api.start_container(id, None)).await?;
        Ok(monitor)
    }

    async fn upload(&self, id: &str, owner: Ids, secret: &LinkSecret) -> Result<(), DriverError> {
        let mut archive = Archive::new();
        let relative = |path: &str| path.trim_start_matches('/').to_owned();
        archive.directory(relative(AGENT_DIR), 0o755, Ids::ROOT)?;
        archive.file(relative(&executable(self.agent)), 0o755, Ids::ROOT, &self.agent.bytes)?;
        archive.directory(relative(STATE_DIR), 0o700, owner)?;
        archive.file(format!("{}/secret", relative(STATE_DIR)), 0o600, owner, &secret.0)?;
        archive.upload(self.engine, id, "/").await?;
        verify(self.engine, id, self.agent, &executable(self.agent)).await
    }
}

/// Reads the agent back: what runs there must be what was sent.
///
/// # Errors
/// If it differs.
pub(super) async fn verify(
    engine: &Engine,
    container: &str,
    agent: &AgentBinary,
    path: &str,
) -> Result<(), DriverError> {
    let found = read(engine, container, path, agent.bytes.len()).await?;
    if found.is_none_or(|bytes| hash_differs(&bytes, &agent.sha256)) {
        let message =
            format!("the agent at `{path}` in the container is not the one that was put there");
        return Err(DriverError::new(ErrorKind::Failed, message)
            .hint("the engine's storage may be damaged or full: see `docker system df`"));
    }
    Ok(())
}

/// Removes a container and waits until the engine does not know it any more.
pub(super) async fn remove(engine: &Engine, id: &str) -> Result<(), DriverError> {
    let doing = format!("remove the container `{id}`");
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match engine.try_call(engine.api.remove_container(id, Some(options))).await {
        Ok(()) => {}
        Err(error) if status(&error) == Some(404) => return Ok(()),
        // It removes itself when it stops; the two may meet.
        Err(error) if status(&error) == Some(409) && said(&error).contains("in progress") => {}
        Err(error) => return Err(engine.error(&doing, error)),
    }
    let deadline = Instant::now() + REMOVAL_TIMEOUT;
    let mut ticks = tokio::time::interval(REMOVAL_INTERVAL);
    loop {
        ticks.tick().await;
        match engine.try_call(engine.api.inspect_container(id, None)).await {
            Err(error) if status(&error) == Some(404) => return Ok(()),
            Err(error) => return Err(engine.error(&doing, error)),
            Ok(_) if Instant::now() < deadline => {}
            Ok(_) => {
                let limit = REMOVAL_TIMEOUT.as_secs();
                let message = format!("cannot {doing}: it is still there after {limit} s");
                return Err(DriverError::new(ErrorKind::Failed, message).hint(format!(
                    "try `docker rm -f {id}`; the engine's log says what holds it"
                )));
            }
        }
    }
}
