//! Sandboxes that are directories on this machine, each with an agent of its own.
//!
//! No isolation is claimed: it is the default that needs no daemon and no account, and what most
//! tests run on. Everything of a sandbox is in `<base>/<session>`:
//!
//! ```text
//! sandbox.json          what it is; written first and removed last, so it can always be found
//! root/<project>        the project
//! agent/skync-agent-…   the agent
//! state/                the agent's state, its secret, its log, its process id
//! ```
//!
//! Nothing outside of the base directory is written but the agent's socket, which has to have a
//! short path and lies in the session's runtime directory.

mod files;
mod process;
mod record;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use skync_agent::own::removal;
use tokio::net::UnixStream;
use tokio::time::Instant;

use self::files::{check_base, failed, make_directory, verify, write_file};
use self::process::Running;
use self::record::Record;
use crate::config::DirectoryConfig;
use crate::driver::{
    AgentBinary, AgentSource, ByteStream, Driver, DriverError, ErrorKind, LinkSecret, Progress,
    Sandbox, SandboxSpec, SandboxState, check_session_id, is_session_id,
};

/// Longest path of a socket, bytes: 108 on Linux, 104 elsewhere, with the zero at its end.
const SOCKET_PATH_MAX: usize = 103;

/// How often a socket that is not there yet is tried.
const CONNECT_INTERVAL: Duration = Duration::from_millis(2);

/// How long the status of an agent that has ended may take to be known.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);

/// The directory driver.
pub struct Directory {
    base: Option<PathBuf>,
    /// The agents that this process started, by sandbox id. A mutex, because calls of the trait
    /// may run side by side; it is held for a look-up and never while waiting.
    running: Mutex<HashMap<String, Arc<Running>>>,
}

impl Directory {
    /// A driver with these settings; makes nothing yet.
    pub fn new(config: &DirectoryConfig) -> Self {
        Self { base: config.base.clone().or_else(default_base), running: Mutex::default() }
    }

    fn base(&self) -> Result<&Path, DriverError> {
        let base = self.base.as_deref().filter(|base| base.is_absolute());
        base.ok_or_else(|| {
            let message = "there is no place for sandboxes: neither `base` in the profile nor \
                           XDG_STATE_HOME nor HOME is an absolute path";
            DriverError::new(ErrorKind::Invalid, message)
                .hint("set `base` in the profile to an absolute path")
        })
    }

    /// The place of a sandbox that is ours to touch: directly below the base directory, under the
    /// name of its session.
    fn place(&self, sandbox: &Sandbox) -> Result<Place, DriverError> {
        let path = Path::new(&sandbox.id);
        let session = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.parent() != Some(self.base()?) || !is_session_id(session) {
            let message = format!("`{}` is no sandbox of this profile", path.display());
            return Err(DriverError::new(ErrorKind::Denied, message)
                .hint("it lies outside of the profile's `base`, and is not touched"));
        }
        Ok(Place(path.to_owned()))
    }

    fn started(&self, id: &str) -> Option<Arc<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

/// Where the parts of one sandbox are.
#[derive(Clone, Debug)]
struct Place(PathBuf);

impl Place {
    fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    fn agents(&self) -> PathBuf {
        self.0.join("agent")
    }

    fn agent(&self, file_name: &str) -> PathBuf {
        self.agents().join(file_name)
    }

    fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    fn log(&self) -> PathBuf {
        self.state().join("agent.log")
    }
}

fn default_base() -> Option<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("skync/sandboxes"))
}

#[async_trait]
impl Driver for Directory {
    async fn validate(&self) -> Vec<DriverError> {
        self.base().and_then(check_base).err().into_iter().collect()
    }

    async fn create(
        &self,
        spec: &SandboxSpec,
        secret: &LinkSecret,
        agents: &dyn AgentSource,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Sandbox, DriverError> {
        let base = self.base()?;
        check_session_id(&spec.session)?;
        let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
        let agent = agents.agent(&machine)?;
        let plan = Plan::new(base, spec, &agent)?;
        progress(Progress::Step(format!("making a sandbox in `{}`", plan.place.0.display())));
        make_directory(base)?;
        let fresh = match std::fs::DirBuilder::new().mode(0o700).create(&plan.place.0) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(failed("make", &plan.place.0, error)),
        };
        match plan.carry_out(secret, fresh).await {
            Ok(running) => {
                let sandbox = plan.record.sandbox(&plan.place.0);
                let mut all = self.running.lock().unwrap_or_else(PoisonError::into_inner);
                all.insert(sandbox.id.clone(), Arc::new(running));
                Ok(sandbox)
            }
            Err(error) if fresh => match removal::remove(&plan.place.0, record::FILE) {
                Ok(()) => Err(error),
                Err(left) => Err(error.hint(format!(
                    "`{}` was left behind ({left}): run `skync gc`",
                    plan.place.0.display()
                ))),
            },
            Err(error) => Err(error),
        }
    }

    async fn dial(
        &self,
        sandbox: &Sandbox,
        patience: Duration,
    ) -> Result<Box<dyn ByteStream>, DriverError> {
        let place = self.place(sandbox)?;
        let running = self.started(&sandbox.id).ok_or_else(|| {
            let message = format!("the sandbox `{}` was not made by this session", sandbox.id);
            DriverError::new(ErrorKind::Gone, message)
        })?;
        let deadline = Instant::now() + patience;
        let mut ticks = tokio::time::interval(CONNECT_INTERVAL);
        let connect = async {
            loop {
                ticks.tick().await;
                match UnixStream::connect(&running.socket).await {
                    Ok(stream) => return stream,
                    Err(error) => tracing::trace!(%error, "the agent does not listen yet"),
                }
            }
        };
        tokio::select! {
            biased;
            connected = tokio::time::timeout_at(deadline, connect) => match connected {
                Ok(stream) => Ok(Box::new(stream)),
                Err(_) => {
                    let message = format!("the agent of `{}` does not answer", sandbox.id);
                    Err(DriverError::new(ErrorKind::Unreachable, message)
                        .hint(format!("see its log, `{}`", place.log().display())))
                }
            },
            how = running.ended() => {
                let said = process::last_words(&place.log());
                let message = format!("the agent of `{}` {how}{said}", sandbox.id);
                Err(DriverError::new(ErrorKind::Gone, message))
            }
        }
    }

    async fn adopt(&self, sandbox: &Sandbox, _spec: &SandboxSpec) -> Result<(), DriverError> {
        let place = self.place(sandbox)?;
        let gone = || {
            let message = format!("no agent runs in `{}` any more", place.0.display());
            DriverError::new(ErrorKind::Gone, message)
        };
        let record = Record::read(&place.0)?.ok_or_else(gone)?;
        record.check(sandbox)?;
        let agent = place.agent(&record.agent);
        let running = process::adopt(&agent, &record.socket)?.ok_or_else(gone)?;
        let mut all = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(sandbox.id.clone(), Arc::new(running));
        Ok(())
    }

    async fn state(&self, sandbox: &Sandbox) -> Result<SandboxState, DriverError> {
        let place = self.place(sandbox)?;
        let Some(record) = Record::read(&place.0)? else {
            return Ok(SandboxState::Gone);
        };
        let agent = place.agent(&record.agent);
        let running = self.started(&sandbox.id);
        let how = running.as_ref().and_then(|running| running.ending());
        if how.is_some() || !process::serves(&agent)? {
            let how = match (how, running) {
                // It is our child, and its status comes a moment after its end.
                (None, Some(running)) => {
                    tokio::time::timeout(STATUS_PATIENCE, running.ended()).await.ok()
                }
                (how, _) => how,
            };
            let said = process::last_words(&place.log());
            let reason = format!("its agent {}{said}", how.as_deref().unwrap_or("does not run"));
            return Ok(SandboxState::Stopped { reason, out_of_memory: false });
        }
        Ok(SandboxState::Running)
    }

    fn revives(&self) -> bool {
        true
    }

    async fn remove(&self, sandbox: &Sandbox) -> Result<(), DriverError> {
        let place = self.place(sandbox)?;
        let record = match Record::read(&place.0)? {
            Some(record) => record,
            None if place.0.exists() => {
                let message = format!("`{}` has no record of ours", place.0.display());
                return Err(DriverError::new(ErrorKind::Denied, message)
                    .hint("it is not touched; remove it yourself if it is a sandbox's rest"));
            }
            None => return Ok(()),
        };
        record.check(sandbox)?;
        process::stop(&place.agent(&record.agent), &place.state(), &record.socket).await?;
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&sandbox.id);
        let path = place.0;
        let removed = tokio::task::spawn_blocking(move || {
            removal::remove(&path, record::FILE).map_err(|error| failed("remove", &path, error))
        });
        removed.await.unwrap_or_else(|error| {
            let message = "removing a sandbox's directory was interrupted";
            let error = DriverError::new(ErrorKind::Failed, message).source(error);
            Err(error.hint("`skync gc` removes what is left"))
        })
    }

    async fn find(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Sandbox>, DriverError> {
        record::find(self.base()?, labels)
    }
}

/// What is to be made for one sandbox.
struct Plan<'a> {
    place: Place,
    record: Record,
    spec: &'a SandboxSpec,
    agent: &'a AgentBinary,
}

impl<'a> Plan<'a> {
    fn new(
        base: &Path,
        spec: &'a SandboxSpec,
        agent: &'a AgentBinary,
    ) -> Result<Self, DriverError> {
        let place = Place(base.join(&spec.session));
        let project = spec.root.file_name().ok_or_else(|| {
            let message = format!("`{}` is no project directory", spec.root.display());
            DriverError::new(ErrorKind::Invalid, message)
                .hint("name the project's directory with `--root DIR`")
        })?;
        let socket = spec.runtime.join("agent.sock");
        if socket.as_os_str().len() > SOCKET_PATH_MAX || !socket.is_absolute() {
            let message = format!(
                "the path `{}` is too long for a socket, or not absolute",
                socket.display()
            );
            return Err(DriverError::new(ErrorKind::Invalid, message)
                .hint("set XDG_RUNTIME_DIR to a short absolute path"));
        }
        let record = Record {
            version: record::VERSION,
            labels: spec.labels.clone(),
            root: place.root().join(project),
            agent: agent.file_name(),
            socket,
        };
        Ok(Self { place, record, spec, agent })
    }

    /// Writes everything and starts the agent. What a sandbox of this session already holds
    /// stays; only its agent is another one afterwards.
    async fn carry_out(&self, secret: &LinkSecret, fresh: bool) -> Result<Running, DriverError> {
        let place = &self.place;
        let agent = place.agent(&self.agent.file_name());
        let mut is_there = false;
        if !fresh && let Some(former) = Record::read(&place.0)? {
            former.check(&self.record.sandbox(&place.0))?;
            let former_agent = place.agent(&former.agent);
            if process::serves(&former_agent)? {
                let message =
                    format!("there is a sandbox `{}` already, and it is in use", place.0.display());
                return Err(DriverError::new(ErrorKind::Failed, message)
                    .hint("run `skync gc`, which removes it if its session is gone"));
            }
            // The supervisors of operations outlive their agent, and are known by its file.
            is_there = former_agent == agent && verify(&agent, &self.agent.sha256).is_ok();
            if !is_there {
                process::stop(&former_agent, &place.state(), &former.socket).await?;
                removal::remove(&place.agents(), "")
                    .map_err(|error| failed("replace", &place.agents(), error))?;
            }
        }
        self.record.write(&place.0)?;
        for directory in [place.agents(), place.state(), self.record.root.clone()] {
            make_directory(&directory)?;
        }
        if !is_there {
            write_file(&agent, 0o700, &self.agent.bytes)?;
            verify(&agent, &self.agent.sha256)?;
        }
        write_file(&place.state().join("secret"), 0o600, &secret.0)?;
        process::start(&agent, place, &self.record.socket, self.spec.lease).await
    }
}
