//! Making a sandbox, or waking the one that a session has already.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::api::{ASK_PATIENCE, Api, Created};
use super::condition::Condition;
use super::errors::left_behind;
use super::model::{Sandbox, State};
use super::removal;
use crate::config::DaytonaConfig;
use crate::driver::http::unique;
use crate::driver::{DriverError, ErrorKind, Progress, SandboxSpec};

/// A sandbox that nobody speaks to is stopped, and with that destroyed, after this. Whoever uses it
/// renews it, for longer if there is a reason ([`crate::driver::Driver::renew`]).
pub(super) const AUTO_STOP_MINUTES: u64 = 1;
/// A sandbox comes up within this …
const PATIENCE: Duration = Duration::from_secs(120);
/// … unless an image is built, or a whole disk moved.
const LONG_PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks, at first and at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// What to do if somebody else takes it away.
const REMOVED: &str = "somebody else removed it: try again, the next command makes another";
/// The label by which what one call has made is told from what was there before.
const MARK: &str = "skync.creation";
/// How often a creation is begun whose answers are lost.
const TRIES_MAX: u32 = 3;
/// What was begun shows within this.
const SHOWS_AFTER: Duration = Duration::from_secs(1);

/// What is needed to make one.
pub(super) struct Making<'a> {
    pub(super) api: Api<'a>,
    pub(super) config: &'a DaytonaConfig,
    /// The region.
    pub(super) target: Option<String>,
    pub(super) spec: &'a SandboxSpec,
    pub(super) progress: &'a (dyn Fn(Progress) + Send + Sync),
}

/// A sandbox that has been begun or found.
pub(super) struct Obtained {
    pub(super) sandbox: Sandbox,
    pub(super) origin: Origin,
}

/// Where a sandbox comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was made just now: nothing is lost with it.
    Fresh,
    /// The session has it already.
    Known,
    /// It is of the session, which does not know of it.
    Found,
}

fn is_made_here(found: &Sandbox, mark: &str) -> bool {
    found.label(MARK) == Some(mark)
}

impl Making<'_> {
    pub(super) fn name(&self) -> String {
        format!("skync-{}", self.spec.session)
    }

    /// Makes a sandbox, unless this session has one: `known` is its id as far as it is known, and
    /// what carries its name is looked at if the name is taken.
    ///
    /// # Errors
    /// [`ErrorKind::Gone`] if the known one is gone. Of what was made here nothing is left then, or
    /// the error says that it is unclear.
    pub(super) async fn obtain(&self, known: Option<String>) -> Result<Obtained, DriverError> {
        if let Some(id) = known {
            return self.take_known(&id).await;
        }
        let mut may_be_there = false;
        let obtained = self.make(&mut may_be_there).await;
        obtained.map_err(|error| if may_be_there { error.unclear() } else { error })
    }

    /// It may hold what nobody else has, so no other is made in its place without a word.
    async fn take_known(&self, id: &str) -> Result<Obtained, DriverError> {
        let gone = || {
            let message = format!("the sandbox `{}` is gone", self.name());
            DriverError::new(ErrorKind::Gone, message)
        };
        let found = self.api.sandbox(id, ASK_PATIENCE).await?;
        let found = found.filter(|found| found.is_of(&self.spec.session)).ok_or_else(gone)?;
        if Condition::of(&found) == Condition::Gone {
            return Err(gone());
        }
        self.take(found, Origin::Known).await?.ok_or_else(gone)
    }

    async fn make(&self, may_be_there: &mut bool) -> Result<Obtained, DriverError> {
        let name = self.name();
        let doing = format!("create the sandbox `{name}`");
        // Whoever finds a sandbox of that name knows by this whether it was made here.
        let mark = unique()?;
        let body = self.body(&mark);
        self.tell(&self.what());
        let mut last = None;
        for _ in 0..TRIES_MAX {
            match self.api.create(&doing, &body).await? {
                Created::Begun(sandbox) => {
                    return Ok(Obtained { sandbox: *sandbox, origin: Origin::Fresh });
                }
                Created::Taken => *may_be_there = true,
                Created::Unclear(error) => {
                    tracing::debug!(%error, "it is not known whether a sandbox was made");
                    *may_be_there = true;
                    last = Some(error);
                }
                Created::Refused(error) if error.kind == ErrorKind::Unreachable => {
                    return Err(error);
                }
                Created::Refused(error) => return Err(self.clear(error, &mark).await),
            }
            if let Some(found) = self.api.sandbox(&name, ASK_PATIENCE).await? {
                if !found.is_of(&self.spec.session) {
                    *may_be_there = false;
                    let message =
                        format!("cannot {doing}: somebody else's sandbox has that name already");
                    return Err(DriverError::new(ErrorKind::Failed, message)
                        .hint("try again: another name is chosen then"));
                }
                let origin =
                    if is_made_here(&found, &mark) { Origin::Fresh } else { Origin::Found };
                if let Some(obtained) = self.take(found, origin).await? {
                    return Ok(obtained);
                }
            } else {
                tokio::time::sleep(SHOWS_AFTER).await;
            }
        }
        Err(last.unwrap_or_else(|| {
            let message = format!("cannot {doing}: its name is taken, and no sandbox has it");
            DriverError::new(ErrorKind::Failed, message).hint("try again in a moment")
        }))
    }

    /// Takes a sandbox of this session that is there already; nothing once it is gone.
    async fn take(&self, found: Sandbox, origin: Origin) -> Result<Option<Obtained>, DriverError> {
        let id = found.id.clone();
        match (Condition::of(&found), found.state()) {
            (Condition::Gone, _) => {
                self.tell(found.state().step());
                removal::wait_until_gone(self.api, &id, found.name()).await?;
                return Ok(None);
            }
            (Condition::Up | Condition::Rising, _) => {}
            (Condition::Down(_), State::Error) if found.is_recoverable() => {
                self.tell("recovering the sandbox");
                self.api.order(&id, "recover").await?;
            }
            (Condition::Down(reason), State::Error | State::BuildFailed) => {
                let message = format!("the sandbox `{}` cannot be used: {reason}", found.name());
                let error = DriverError::new(ErrorKind::Failed, message);
                if origin == Origin::Fresh {
                    return Err(self.remove(error, &id).await);
                }
                return Err(error.hint("`skync down --discard` gives up what is only in it"));
            }
            (Condition::Down(_), _) => {
                self.tell(found.state().step());
                self.api.order(&id, "start").await?;
            }
        }
        let sandbox = self.api.sandbox(&id, ASK_PATIENCE).await?;
        Ok(sandbox.map(|sandbox| Obtained { sandbox, origin }))
    }

    /// Waits until a sandbox runs.
    pub(super) async fn wait(&self, sandbox: Sandbox) -> Result<Sandbox, DriverError> {
        let begun = Instant::now();
        let (id, name) = (sandbox.id.clone(), sandbox.name().to_owned());
        let (mut now, mut interval, mut patience) = (sandbox, Duration::ZERO, PATIENCE);
        let mut told = None;
        loop {
            let state = now.state();
            match state {
                State::Started => return Ok(now),
                State::Error | State::BuildFailed | State::Destroying | State::Destroyed => {
                    return Err(self.failed(&now).await);
                }
                _ => {}
            }
            if told.replace(state) != Some(state) {
                self.tell(state.step());
            }
            if state.is_long() {
                patience = LONG_PATIENCE;
            }
            if begun.elapsed() > patience {
                let minutes = patience.as_secs() / 60;
                let step = state.step();
                let message =
                    format!("the sandbox `{name}` is not there after {minutes} min: still {step}");
                return Err(DriverError::new(ErrorKind::Failed, message)
                    .hint("try again later; Daytona's dashboard may say what it waits for"));
            }
            tokio::time::sleep(interval).await;
            interval = interval.mul_f64(1.1).clamp(LOOK_INTERVAL, LOOK_INTERVAL_MAX);
            now = self.api.sandbox(&id, ASK_PATIENCE).await?.ok_or_else(|| {
                let message = format!("the sandbox `{name}` was removed while it was being made");
                DriverError::new(ErrorKind::Gone, message).hint(REMOVED)
            })?;
        }
    }

    /// Why a sandbox does not come up.
    async fn failed(&self, sandbox: &Sandbox) -> DriverError {
        let name = sandbox.name();
        let reason = sandbox.reason().unwrap_or_else(|| "Daytona does not say why".to_owned());
        let image = self.config.image.as_deref().unwrap_or_default();
        match sandbox.state() {
            State::BuildFailed => {
                let log = self.api.build_log(&sandbox.id).await;
                let log = if log.is_empty() { log } else { format!(" ({log})") };
                let message = format!("Daytona cannot build the image `{image}`: {reason}{log}");
                DriverError::new(ErrorKind::NotFound, message)
                    .hint("see whether it exists for linux/amd64 and can be pulled by everybody")
            }
            State::Error => {
                let message = format!("the sandbox `{name}` does not start: {reason}");
                DriverError::new(ErrorKind::Failed, message)
                    .hint("try again; Daytona's dashboard may say more")
            }
            _ => {
                let message = format!("the sandbox `{name}` was removed while it was being made");
                DriverError::new(ErrorKind::Gone, message).hint(REMOVED)
            }
        }
    }

    /// A creation was refused, and may have left something all the same. What was there before stays:
    /// it may be what has used up the limits.
    async fn clear(&self, error: DriverError, mark: &str) -> DriverError {
        match self.api.sandbox(&self.name(), ASK_PATIENCE).await {
            Ok(Some(found)) if is_made_here(&found, mark) => self.remove(error, &found.id).await,
            Ok(_) => error,
            // Who is not let in has made nothing.
            Err(_) if error.is_refusal() => error,
            Err(_) => error.unclear(),
        }
    }

    /// Removes what was made before an error is told.
    pub(super) async fn remove(&self, error: DriverError, id: &str) -> DriverError {
        match removal::remove(self.api, id, &self.name(), Some(&self.spec.session)).await {
            Ok(()) => error,
            Err(left) => left_behind(error, &self.name(), &left),
        }
    }

    fn tell(&self, step: &str) {
        (self.progress)(Progress::Step(step.to_owned()));
    }

    fn what(&self) -> String {
        match (&self.config.snapshot, &self.config.image) {
            (Some(snapshot), _) => format!("creating a sandbox from the snapshot `{snapshot}`"),
            (None, Some(image)) => format!("creating a sandbox from `{image}`"),
            (None, None) => "creating a sandbox".to_owned(),
        }
    }

    fn body(&self, mark: &str) -> Value {
        let config = self.config;
        let mut labels = self.spec.labels.clone();
        labels.insert(MARK.to_owned(), mark.to_owned());
        let mut body = json!({
            "name": self.name(),
            "labels": labels,
            "env": {},
            "public": false,
            "autoStopInterval": AUTO_STOP_MINUTES,
            "autoDeleteInterval": 0,
            "networkBlockAll": !config.internet,
        });
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body[name] = value;
            }
        };
        set("target", self.target.clone().map(Value::from));
        match (&config.snapshot, &config.image) {
            (None, Some(image)) => {
                set("buildInfo", Some(json!({ "dockerfileContent": format!("FROM {image}\n") })));
                set("cpu", config.cpus.map(Value::from));
                set("memory", config.memory_gib.map(Value::from));
                set("disk", config.disk_gib.map(Value::from));
            }
            (snapshot, _) => set("snapshot", snapshot.clone().map(Value::from)),
        }
        body
    }
}
