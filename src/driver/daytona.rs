//! Sandboxes of Daytona.
//!
//! A sandbox is made by the control plane (`api`), ephemeral and with the shortest time that
//! Daytona has: what nobody speaks to it stops and destroys, whatever becomes of this machine. Its
//! toolbox takes the agent and starts it (`install`); from then on a WebSocket through Daytona's proxy to
//! the agent's port on loopback is the way in (`dial`), which keeps the sandbox alive while it is
//! open.
//!
//! In reading order: `access` and `errors` are how Daytona is spoken to and what it means; `model`,
//! `api` and `condition` the control plane; `toolbox`, `shell` and `multipart` the way into a
//! sandbox; `create`, `install`, `dial` and `removal` its life; `live` is what this process knows of it, and
//! `validate` checks a profile.

mod access;
mod api;
mod condition;
mod create;
mod dial;
mod errors;
mod install;
mod live;
mod model;
mod multipart;
mod removal;
mod shell;
#[cfg(test)]
mod tests;
mod toolbox;
mod validate;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use skync_agent::websocket::path_of;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use self::api::{ASK_PATIENCE, Api, Refused};
use self::condition::Condition;
use self::create::{Making, Origin};
use self::dial::Dialling;
use self::live::{Live, Lives};
use self::shell::Probed;
use self::toolbox::Toolbox;
use crate::config::DaytonaConfig;
use crate::credentials::{Keys, Provider, Surroundings};
use crate::driver::http::Client;
use crate::driver::{
    AgentSource, ByteStream, Driver, DriverError, ErrorKind, LinkSecret, Progress, Sandbox,
    SandboxSpec, SandboxState, check_session_id, label,
};

/// How long a sandbox's token is waited for, beside what takes longer in any case. Without it the
/// first dial asks again.
const TOKEN_PATIENCE: Duration = Duration::from_secs(5);
/// How long a look at the agent may take.
const PROBE_PATIENCE: Duration = Duration::from_secs(15);

/// Where the API is, by the environment.
pub(super) fn address(surroundings: &Surroundings) -> String {
    access::address(surroundings, None)
}

/// The driver.
pub struct Daytona {
    config: DaytonaConfig,
    keys: Keys,
    client: OnceCell<Client>,
    refused: Refused,
    lives: Lives,
}

impl Daytona {
    /// A driver with these settings; connects to nothing yet.
    pub fn new(config: &DaytonaConfig, surroundings: Surroundings) -> Self {
        Self {
            config: config.clone(),
            keys: Keys::new(Provider::Daytona, surroundings),
            client: OnceCell::new(),
            refused: Refused::default(),
            lives: Lives::default(),
        }
    }

    async fn api(&self) -> Result<Api<'_>, DriverError> {
        let client = self.client.get_or_try_init(|| async { Client::new() }).await?;
        Ok(Api::new(client, &self.keys, &self.refused))
    }

    /// The region that new sandboxes are in; nothing for Daytona's own choice.
    fn target(&self) -> Option<String> {
        let own = self.config.target.as_deref();
        own.or_else(|| self.keys.surroundings().variable("DAYTONA_TARGET")).map(str::to_owned)
    }
}

#[async_trait]
impl Driver for Daytona {
    async fn validate(&self) -> Vec<DriverError> {
        match self.api().await {
            Ok(api) => validate::problems(api, &self.config, self.target().as_deref()).await,
            Err(error) => vec![error],
        }
    }

    async fn account(&self) -> Result<Option<String>, DriverError> {
        validate::account(self.api().await?).await
    }

    async fn create(
        &self,
        spec: &SandboxSpec,
        secret: &LinkSecret,
        agents: &dyn AgentSource,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Sandbox, DriverError> {
        check_session_id(&spec.session)?;
        let api = self.api().await?;
        let making = Making { api, config: &self.config, target: self.target(), spec, progress };
        // It stays known until it is seen to have gone, whatever becomes of this call.
        let obtained = Box::pin(making.obtain(self.lives.of_session(&spec.session))).await?;
        let (id, origin) = (obtained.sandbox.id.clone(), obtained.origin);
        let bring_up = async {
            let sandbox = making.wait(obtained.sandbox).await?;
            let url = toolbox_of(&sandbox)?;
            let toolbox = Toolbox::new(api, url.clone());
            let (launched, token) = tokio::join!(
                install::install(&toolbox, spec, secret, agents, progress),
                api.token(&id, TOKEN_PATIENCE)
            );
            let launched = launched?;
            let live = Live {
                session: spec.session.clone(),
                toolbox: url,
                port: launched.port,
                path: path_of(&secret.0),
                token: token.ok().flatten(),
                needs_key: false,
                auto_stop: sandbox.auto_stop(),
            };
            self.lives.remember(&id, live);
            let (name, labels) = (sandbox.name().to_owned(), spec.labels.clone());
            Ok(Sandbox { id: id.clone(), name, root: launched.root, ephemeral: true, labels })
        };
        match (Box::pin(bring_up).await, origin) {
            (Err(error), Origin::Fresh) => Err(making.remove(error, &id).await),
            // It may hold what nobody else has.
            (Err(error), Origin::Found) => Err(error.unclear()),
            (brought, _) => brought,
        }
    }

    async fn dial(
        &self,
        sandbox: &Sandbox,
        patience: Duration,
    ) -> Result<Box<dyn ByteStream>, DriverError> {
        let deadline = Instant::now() + patience;
        let api = self.api().await?;
        Box::pin(Dialling { api, lives: &self.lives, sandbox, deadline }.dial()).await
    }

    async fn adopt(&self, sandbox: &Sandbox, spec: &SandboxSpec) -> Result<(), DriverError> {
        check_session_id(&spec.session)?;
        // Also if its agent has died: `create` starts another in it then, and makes no other sandbox.
        self.lives.know(&spec.session, &sandbox.id);
        let api = self.api().await?;
        let name = &sandbox.name;
        let gone = |message: String| DriverError::new(ErrorKind::Gone, message);
        let found = api.sandbox(&sandbox.id, ASK_PATIENCE).await?;
        let found = found.filter(|found| found.is_of(&spec.session));
        let found = found.ok_or_else(|| {
            self.lives.forget(&sandbox.id);
            gone(format!("the sandbox `{name}` is gone"))
        })?;
        if Condition::of(&found) != Condition::Up {
            return Err(gone(format!("the sandbox `{name}` does not run")));
        }
        let path = path_of(&secret_of(spec)?);
        let toolbox = toolbox_of(&found)?;
        let within = Toolbox::new(api, toolbox.clone());
        let (probed, token) = tokio::join!(
            within.probe(&spec.session, PROBE_PATIENCE),
            api.token(&sandbox.id, TOKEN_PATIENCE)
        );
        let Probed::Alive { port } = probed? else {
            return Err(gone(format!("no agent runs in the sandbox `{name}` any more")));
        };
        let (session, auto_stop) = (spec.session.clone(), found.auto_stop());
        let token = token.ok().flatten();
        let live = Live { session, toolbox, port, path, token, needs_key: false, auto_stop };
        self.lives.remember(&sandbox.id, live);
        Ok(())
    }

    async fn state(&self, sandbox: &Sandbox) -> Result<SandboxState, DriverError> {
        let session = sandbox.labels.get(label::SESSION).map_or("", String::as_str);
        check_session_id(session)?;
        let state = condition::state(self.api().await?, &sandbox.id, session).await?;
        if state == SandboxState::Gone {
            self.lives.forget(&sandbox.id);
        }
        Ok(state)
    }

    fn is_remote(&self) -> bool {
        true
    }

    /// Daytona counts in minutes, from the last time that a sandbox was used.
    async fn renew(
        &self,
        sandbox: &Sandbox,
        time: Duration,
    ) -> Result<Option<Duration>, DriverError> {
        let api = self.api().await?;
        let minutes = minutes(time);
        if self.lives.of(&sandbox.id).and_then(|live| live.auto_stop) != Some(minutes) {
            api.order(&sandbox.id, &format!("autostop/{minutes}")).await?;
            self.lives.change(&sandbox.id, |live| live.auto_stop = Some(minutes));
        }
        api.order(&sandbox.id, "last-activity").await?;
        Ok(Some(Duration::from_secs(minutes * 60)))
    }

    /// See `condition`: what can come back is an agent that died in a sandbox that runs.
    fn revives(&self) -> bool {
        true
    }

    async fn remove(&self, sandbox: &Sandbox) -> Result<(), DriverError> {
        let session = sandbox.labels.get(label::SESSION).map(String::as_str);
        removal::remove(self.api().await?, &sandbox.id, &sandbox.name, session).await?;
        self.lives.forget(&sandbox.id);
        Ok(())
    }

    async fn find(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Sandbox>, DriverError> {
        let api = self.api().await?;
        let mut found = api.list(labels).await?;
        // The list can be late, a look at one sandbox is not.
        if let Some(session) = labels.get(label::SESSION) {
            found.extend(api.sandbox(&format!("skync-{session}"), ASK_PATIENCE).await?);
        }
        found.retain(|one| one.state() != model::State::Destroyed);
        if let Some(session) = labels.get(label::SESSION)
            && let Some(known) = self.lives.of_session(session)
            && found.iter().all(|one| one.id != known)
        {
            self.lives.forget(&known);
        }
        found.retain(|one| one.carries(labels));
        let mut all: Vec<Sandbox> = found.into_iter().map(model::Sandbox::into_sandbox).collect();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        all.dedup_by(|one, other| one.id == other.id);
        Ok(all)
    }
}

/// What Daytona counts a time as: whole minutes, at least one.
fn minutes(time: Duration) -> u64 {
    let whole = time.as_secs().div_ceil(60);
    let has_more = time.subsec_nanos() > 0 && time.as_secs().is_multiple_of(60);
    (whole + u64::from(has_more)).max(1)
}

fn toolbox_of(sandbox: &model::Sandbox) -> Result<String, DriverError> {
    sandbox.toolbox().ok_or_else(|| {
        let message = format!("Daytona does not say how to reach `{}`", sandbox.name());
        DriverError::new(ErrorKind::Failed, message)
            .hint("see whether DAYTONA_API_URL is the address of a newer server")
    })
}

/// The secret that the session keeps for whoever goes on after it.
fn secret_of(spec: &SandboxSpec) -> Result<[u8; 32], DriverError> {
    let path = spec.runtime.join("secret");
    let read = std::fs::read(&path);
    read.ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        let message = format!("the secret of the session's link, `{}`, is lost", path.display());
        DriverError::new(ErrorKind::Failed, message)
            .hint("`skync gc` removes what the session left")
    })
}
