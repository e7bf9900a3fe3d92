//! Our agent in a container that is not ours: `container = NAME`.
//!
//! Nothing of the container is changed but `/.skync/<session>`, which goes with the session. Each
//! session has its own directory with its own agent, so two projects can use one container and
//! neither can take the other's agent away.
//!
//! Everything in that directory belongs to the user that the agent runs as, so nothing in it is
//! ever run as anybody else. A user who is not root cannot remove `/.skync` itself, which then
//! stays behind, empty.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use bollard::exec::{CreateExecOptions, StartExecOptions};
use bollard::models::ContainerInspectResponse;
use serde::{Deserialize, Serialize};

use super::AGENT_DIR;
use super::archive::{self, Archive};
use super::command::{Finished, run};
use super::container::verify;
use super::engine::{Engine, status};
use super::image;
use super::link::{AgentPlace, Live};
use super::running::{check_name, running};
use super::user::{Ids, ids};
use crate::config::DockerConfig;
use crate::driver::{
    AgentBinary, AgentSource, DriverError, ErrorKind, LinkSecret, Progress, Sandbox, SandboxSpec,
    SandboxState, is_session_id, label,
};

/// Most bytes of a record.
const RECORD_BYTES_MAX: usize = 64 * 1024;

/// What lies beside the agent, so that any process can find and remove it.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// Of this format; 1.
    version: u32,
    labels: BTreeMap<String, String>,
    root: PathBuf,
    /// The agent's file name.
    agent: String,
}

/// Puts our agent into the container and starts it; on an error nothing is left there.
pub(super) async fn create(
    engine: &Engine,
    config: &DockerConfig,
    name: &str,
    spec: &SandboxSpec,
    secret: &LinkSecret,
    agents: &dyn AgentSource,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(Sandbox, Live), DriverError> {
    let found = running(engine, name).await?;
    let agent = agents.agent(machine(engine, &found, name).await?)?;
    let own_user = found.config.as_ref().and_then(|config| config.user.clone());
    let user = config.user.clone();
    let sandbox = Sandbox {
        id: found.id.clone().unwrap_or_else(|| name.to_owned()),
        name: name.to_owned(),
        root: spec.root.clone(),
        ephemeral: false,
        labels: spec.labels.clone(),
    };
    let owner =
        ids(engine, &sandbox.id, user.as_deref().or(own_user.as_deref()).unwrap_or_default())
            .await?;
    progress(Progress::Step(format!("putting the agent into the container `{name}`")));
    // What an earlier attempt of this session left, with its agent.
    remove_session(engine, &sandbox.id, name, config.user.as_deref(), &spec.session).await?;
    match install(engine, &sandbox, spec, secret, &agent, owner, user).await {
        Ok(live) => Ok((sandbox, live)),
        Err(error) => {
            match remove_session(engine, &sandbox.id, name, config.user.as_deref(), &spec.session)
                .await
            {
                Ok(()) => Err(error),
                Err(left) => Err(error.hint(left.message)),
            }
        }
    }
}

async fn machine(
    engine: &Engine,
    found: &ContainerInspectResponse,
    name: &str,
) -> Result<&'static str, DriverError> {
    let of_what = format!("the container `{name}`");
    let image = found.image.as_deref().unwrap_or_default();
    let architecture = match engine.try_call(engine.api.inspect_image(image)).await {
        Ok(image) => image.architecture,
        // The image of a running container can be gone; then it most likely is for its machine.
        Err(_) => engine.info().await?.architecture,
    };
    image::machine(architecture.as_deref().unwrap_or_default(), &of_what)
}

fn directory(session: &str) -> String {
    format!("{AGENT_DIR}/{session}")
}

async fn install(
    engine: &Engine,
    sandbox: &Sandbox,
    spec: &SandboxSpec,
    secret: &LinkSecret,
    agent: &AgentBinary,
    owner: Ids,
    user: Option<String>,
) -> Result<Live, DriverError> {
    if archive::look(engine, &sandbox.id, AGENT_DIR).await?.is_none() {
        let mut top = Archive::new();
        // As /tmp: several users of one container may each have a session in it.
        top.directory(AGENT_DIR.trim_start_matches('/'), 0o1777, Ids::ROOT)?;
        top.upload(engine, &sandbox.id, "/").await?;
    }
    let record = Record {
        version: 1,
        labels: spec.labels.clone(),
        root: spec.root.clone(),
        agent: agent.file_name(),
    };
    let record = serde_json::to_vec(&record).map_err(|error| {
        DriverError::new(ErrorKind::Invalid, "cannot write the sandbox's record")
            .source(error)
            .hint("set `root` in the profile to a path of plain text")
    })?;
    // One upload, the record first: whatever is there can be found by it. The directory is the
    // agent's own, so that it can take everything away when its lease runs out.
    let session = spec.session.as_str();
    let mut files = Archive::new();
    files.directory(session, 0o700, owner)?;
    files.file(format!("{session}/sandbox.json"), 0o600, owner, &record)?;
    files.file(format!("{session}/{}", agent.file_name()), 0o755, owner, &agent.bytes)?;
    files.directory(format!("{session}/state"), 0o700, owner)?;
    files.file(format!("{session}/state/secret"), 0o600, owner, &secret.0)?;
    files.upload(engine, &sandbox.id, AGENT_DIR).await?;

    let place = AgentPlace {
        executable: format!("{}/{}", directory(session), agent.file_name()),
        state: format!("{}/state", directory(session)),
        user,
    };
    verify(engine, &sandbox.id, agent, &place.executable).await?;
    if owner.uid != 0 {
        archive::make_directories(engine, &sandbox.id, &spec.root, owner).await?;
    }
    let exec = start(engine, sandbox, spec, &place).await?;
    Ok(Live {
        place,
        socket: None,
        may_fall_back: false,
        monitor: None,
        exec: Some(exec),
        listening: AtomicBool::new(false),
    })
}

/// Takes over the agent that an earlier process of the same session started.
pub(super) async fn adopt(
    engine: &Engine,
    user: Option<String>,
    sandbox: &Sandbox,
) -> Result<Live, DriverError> {
    let session = session_of(sandbox)?;
    let record = record(engine, &sandbox.id, session).await?.ok_or_else(|| {
        let message = format!("our agent in the container `{}` is gone", sandbox.name);
        DriverError::new(ErrorKind::Gone, message)
    })?;
    let place = AgentPlace {
        executable: format!("{}/{}", directory(session), record.agent),
        state: format!("{}/state", directory(session)),
        user,
    };
    let listening = AtomicBool::new(true);
    Ok(Live { place, socket: None, may_fall_back: false, monitor: None, exec: None, listening })
}

/// Starts the agent; the `exec` that runs it.
async fn start(
    engine: &Engine,
    sandbox: &Sandbox,
    spec: &SandboxSpec,
    place: &AgentPlace,
) -> Result<String, DriverError> {
    let (lease, cleanup) = (spec.lease.as_millis().to_string(), directory(&spec.session));
    let command = [
        &place.executable,
        "serve",
        "--state",
        &place.state,
        "--lease-ms",
        &lease,
        "--cleanup",
        &cleanup,
    ];
    let options = CreateExecOptions {
        cmd: Some(command.map(str::to_owned).to_vec()),
        user: place.user.clone(),
        working_dir: Some("/".to_owned()),
        ..CreateExecOptions::default()
    };
    let doing = format!("start the agent in the container `{}`", sandbox.name);
    let exec = engine.call(&doing, engine.api.create_exec(&sandbox.id, options)).await?;
    let detached = StartExecOptions { detach: true, ..StartExecOptions::default() };
    engine.call(&doing, engine.api.start_exec(&exec.id, Some(detached))).await?;
    Ok(exec.id)
}

/// Stops the agent of a session and removes its directory; nothing there is no error.
pub(super) async fn remove_session(
    engine: &Engine,
    container: &str,
    name: &str,
    user: Option<&str>,
    session: &str,
) -> Result<(), DriverError> {
    let directory = directory(session);
    if archive::look(engine, container, &directory).await?.is_none() {
        return Ok(());
    }
    let left = |why: &str| {
        let message = format!("`{directory}` is left in the container `{name}`: {why}");
        DriverError::new(ErrorKind::Failed, message)
            .hint(format!("run `docker exec -u 0 {name} rm -rf {directory}`"))
    };
    let record =
        record(engine, container, session).await?.ok_or_else(|| left("it has no record"))?;
    let executable = format!("{directory}/{}", record.agent);
    let state = format!("{directory}/state");
    let stop = [&executable, "stop", "--state", &state];
    let stopped = run(engine, container, user, &stop).await;
    // The agent takes the directory with it when it goes.
    if archive::look(engine, container, &directory).await?.is_none() {
        return Ok(());
    }
    match stopped {
        Ok(Finished { code: 0, .. }) => {}
        Ok(finished) => {
            return Err(left(&format!("the agent does not stop: {}", finished.words())));
        }
        Err(error) => return Err(left(&error.message).source(error)),
    }
    let clean = [&executable, "clean", "--dir", &directory];
    let cleaned = run(engine, container, user, &clean).await;
    if archive::look(engine, container, &directory).await?.is_none() {
        return Ok(());
    }
    match cleaned {
        Ok(finished) => Err(left(&finished.words())),
        Err(error) => Err(left(&error.message).source(error)),
    }
}

/// Removes our agent from a container that may itself be gone or stopped by now.
pub(super) async fn remove(
    engine: &Engine,
    sandbox: &Sandbox,
    user: Option<&str>,
    session: &str,
) -> Result<(), DriverError> {
    let doing = format!("look at the container `{}`", sandbox.name);
    let found = match engine.try_call(engine.api.inspect_container(&sandbox.id, None)).await {
        Ok(found) => found,
        Err(error) if status(&error) == Some(404) => return Ok(()),
        Err(error) => return Err(engine.error(&doing, error)),
    };
    let directory = directory(session);
    let runs = found.state.is_some_and(|state| state.running == Some(true));
    if !runs && archive::look(engine, &sandbox.id, &directory).await?.is_some() {
        // No process of ours can run in it, and without one its files cannot be removed.
        let name = &sandbox.name;
        let message =
            format!("`{directory}` is left in the container `{name}`, which does not run");
        return Err(DriverError::new(ErrorKind::Failed, message)
            .hint(format!("run `docker start {name}` and try again")));
    }
    remove_session(engine, &sandbox.id, &sandbox.name, user, session).await
}

async fn record(
    engine: &Engine,
    container: &str,
    session: &str,
) -> Result<Option<Record>, DriverError> {
    let path = format!("{}/sandbox.json", directory(session));
    let bytes = archive::read(engine, container, &path, RECORD_BYTES_MAX).await?;
    let record = bytes.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    // The container's users can write it: what is run by it must be a plain name beside it.
    Ok(record.filter(|record| {
        record.version == 1
            && record.agent.strip_prefix("skync-agent-").is_some_and(|hex| {
                !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
            })
    }))
}

/// How our agent's container is; gone also if only our agent's directory has gone.
pub(super) async fn state(engine: &Engine, sandbox: &Sandbox) -> Result<SandboxState, DriverError> {
    let session = session_of(sandbox)?;
    match archive::look(engine, &sandbox.id, &directory(session)).await? {
        Some(_) => Ok(SandboxState::Running),
        None => Ok(SandboxState::Gone),
    }
}

/// The session that a sandbox in a container of somebody else belongs to.
///
/// # Errors
/// [`ErrorKind::Invalid`] without its label: nothing is touched then.
pub(super) fn session_of(sandbox: &Sandbox) -> Result<&str, DriverError> {
    let session = sandbox.labels.get(label::SESSION).map(String::as_str);
    session.filter(|session| is_session_id(session)).ok_or_else(|| {
        let message = format!("nothing says which session in `{}` is meant", sandbox.name);
        DriverError::new(ErrorKind::Invalid, message)
            .hint("nothing was touched there; `skync gc --dry-run` shows what skync knows of")
    })
}

/// Our agent in the container `name`, if `labels` name its session and it carries all of them.
///
/// Without the session's label there is no answer: the container is not ours to search.
pub(super) async fn find(
    engine: &Engine,
    name: &str,
    labels: &BTreeMap<String, String>,
) -> Result<Vec<Sandbox>, DriverError> {
    check_name(name)?;
    let session = labels.get(label::SESSION).map(String::as_str);
    let Some(session) = session.filter(|session| is_session_id(session)) else {
        return Ok(Vec::new());
    };
    let found = match engine.try_call(engine.api.inspect_container(name, None)).await {
        Ok(found) => found,
        Err(error) if status(&error) == Some(404) => return Ok(Vec::new()),
        Err(error) => return Err(engine.error(&format!("look at the container `{name}`"), error)),
    };
    let id = found.id.unwrap_or_else(|| name.to_owned());
    let Some(record) = record(engine, &id, session).await? else {
        return Ok(Vec::new());
    };
    if labels.iter().any(|(key, value)| record.labels.get(key) != Some(value)) {
        return Ok(Vec::new());
    }
    let (root, labels) = (record.root, record.labels);
    Ok(vec![Sandbox { id, name: name.to_owned(), root, ephemeral: false, labels }])
}
