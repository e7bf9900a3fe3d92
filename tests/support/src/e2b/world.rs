//! The sandboxes of a server, and what time does to them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::sync::watch;

use super::Options;
use super::quirks::Quirks;
use crate::container::{Container, Spec};
use crate::inside::e2b::Config;
use crate::proxy::{Cord, Cords};
use crate::record::Log;
use crate::wire::{Wire, lock};

/// The least that traffic which wakes a sandbox gives it.
const AUTO_RESUME_MIN: Duration = Duration::from_secs(300);

/// Everything that requests share.
pub(super) struct World {
    pub options: Options,
    pub wire: Wire,
    pub quirks: Quirks,
    pub log: Arc<Log>,
    /// Answers by idempotency key: the request's body, and the sandbox.
    pub idempotent: Mutex<HashMap<String, (Vec<u8>, String)>>,
    key: Mutex<String>,
    sandboxes: RwLock<HashMap<String, Arc<Sandbox>>>,
}

/// What a sandbox was created with.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub template: String,
    pub image: String,
    pub timeout: Duration,
    pub auto_pause: bool,
    pub auto_pause_memory: bool,
    pub auto_resume: bool,
    pub is_secure: bool,
    pub is_private: bool,
    pub allows_internet: Option<bool>,
    pub network: Option<Value>,
    pub metadata: BTreeMap<String, String>,
    pub env: HashMap<String, String>,
}

/// Whether a sandbox runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxState {
    /// Its processes run.
    Running,
    /// Its processes are frozen or gone, its disk is kept.
    Paused,
}

impl SandboxState {
    /// Returns the API's word for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
        }
    }
}

/// A sandbox as tests see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxView {
    /// Its id in the API.
    pub id: String,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// Whether it runs.
    pub state: SandboxState,
    /// When it is killed or paused; of a paused one, when it was paused.
    pub ends_at: SystemTime,
    /// Docker's id of its container.
    pub container: String,
}

/// One sandbox.
pub(super) struct Sandbox {
    pub id: String,
    pub wanted: Wanted,
    pub envd_token: Option<String>,
    pub traffic_token: Option<String>,
    pub envd_version: String,
    pub container: Container,
    /// What all connections into it hang on.
    cords: Cords,
    /// Held while it is paused, resumed or removed: one after the other.
    gate: tokio::sync::Mutex<()>,
    life: watch::Sender<Life>,
}

/// Where a sandbox is in its life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub state: SandboxState,
    pub is_gone: bool,
    /// The memory was not kept when it was paused.
    pub is_disk_only: bool,
    pub created: SystemTime,
    /// When the present run began.
    pub run_since: SystemTime,
    /// When it ends; of a paused one, when it was paused.
    pub ends_at: SystemTime,
}

impl World {
    pub(super) fn new(options: Options) -> Self {
        let log = Arc::new(Log::default());
        Self {
            key: Mutex::new(options.key.clone()),
            options,
            wire: Wire::new(),
            quirks: Quirks::new(log.clone()),
            log,
            idempotent: Mutex::default(),
            sandboxes: RwLock::default(),
        }
    }

    pub(super) fn set_key(&self, key: &str) {
        key.clone_into(&mut lock(&self.key));
    }

    pub(super) fn key(&self) -> String {
        lock(&self.key).clone()
    }

    pub(super) fn is_key(&self, key: &str) -> bool {
        *lock(&self.key) == key
    }

    /// Returns the image of a template, by its name or with a tag.
    pub(super) fn image(&self, template: &str) -> Option<String> {
        let name = template.split(':').next().unwrap_or_default();
        if name == "base" {
            return Some(self.options.image.clone());
        }
        let mut others = self.options.templates.iter();
        others.find(|(other, _)| other == name).map(|(_, image)| image.clone())
    }

    /// Finds a sandbox by its id, also with the client id that old ones had behind it.
    pub(super) fn find(&self, id: &str) -> Option<Arc<Sandbox>> {
        let id = id.split('-').next().unwrap_or_default();
        self.sandboxes.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Returns all sandboxes, oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Sandbox>> {
        let sandboxes = self.sandboxes.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = sandboxes.values().cloned().collect();
        all.sort_by_key(|sandbox| (sandbox.life().created, sandbox.id.clone()));
        all
    }

    pub(super) fn views(&self) -> Vec<SandboxView> {
        let view = |sandbox: Arc<Sandbox>| {
            let life = sandbox.life();
            SandboxView {
                id: sandbox.id.clone(),
                metadata: sandbox.wanted.metadata.clone(),
                state: life.state,
                ends_at: life.ends_at,
                container: sandbox.container.id().to_owned(),
            }
        };
        self.all().into_iter().map(view).collect()
    }

    /// Starts a sandbox.
    pub(super) async fn create(self: &Arc<Self>, wanted: Wanted) -> io::Result<Arc<Sandbox>> {
        let id = format!("i{}", random_text(20));
        let envd_token = wanted.is_secure.then(|| random_text(64));
        let envd_version = self.quirks.version();
        let mut env = wanted.env.clone();
        for (name, value) in [("E2B_SANDBOX", "true"), ("E2B_SANDBOX_ID", &id)] {
            env.insert(name.to_owned(), value.to_owned());
        }
        env.insert("E2B_TEMPLATE_ID".to_owned(), wanted.template.clone());
        let (token, version) = (envd_token.clone(), envd_version.clone());
        let config = Config { token, version, env, workdir: None };
        let container = Container::start(Spec {
            program: &self.options.program,
            image: &wanted.image,
            kind: "e2b",
            config: serde_json::to_value(&config).map_err(io::Error::other)?,
            env: HashMap::new(),
        })
        .await?;
        let now = SystemTime::now();
        let life = Life {
            state: SandboxState::Running,
            is_gone: false,
            is_disk_only: false,
            created: now,
            run_since: now,
            ends_at: now + wanted.timeout,
        };
        let sandbox = Arc::new(Sandbox {
            id: id.clone(),
            traffic_token: wanted.is_private.then(|| random_text(32)),
            wanted,
            envd_token,
            envd_version,
            container,
            cords: Cords::default(),
            gate: tokio::sync::Mutex::default(),
            life: watch::Sender::new(life),
        });
        self.change(|sandboxes| drop(sandboxes.insert(id, sandbox.clone())));
        tokio::spawn(expire(self.clone(), sandbox.clone()));
        Ok(sandbox)
    }

    /// Ends a sandbox for good. It is not found any more from the first moment on.
    pub(super) async fn kill(&self, sandbox: &Sandbox) -> io::Result<()> {
        self.change(|sandboxes| drop(sandboxes.remove(&sandbox.id)));
        sandbox.life.send_modify(|life| life.is_gone = true);
        sandbox.cords.cut();
        let _one = sandbox.gate.lock().await;
        sandbox.container.remove().await
    }

    /// Removes all containers. Those that are just being created are removed with their tasks.
    pub(super) async fn remove_all(&self) {
        let all = self.all();
        let removals = all.iter().map(async |sandbox| {
            sandbox.life.send_modify(|life| life.is_gone = true);
            sandbox.cords.cut();
            let _ = sandbox.container.remove().await;
        });
        futures_util::future::join_all(removals).await;
        self.change(HashMap::clear);
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<String, Arc<Sandbox>>)) {
        change(&mut self.sandboxes.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Ends or pauses a sandbox at its deadline. That is absolute: nothing that goes on in it counts.
async fn expire(world: Arc<World>, sandbox: Arc<Sandbox>) {
    let mut changes = sandbox.life.subscribe();
    loop {
        let life = *changes.borrow_and_update();
        if life.is_gone {
            return;
        }
        let left = life.ends_at.duration_since(SystemTime::now()).unwrap_or_default();
        if life.state == SandboxState::Paused {
            let _ = changes.changed().await;
        } else if left.is_zero() {
            let ended = if sandbox.wanted.auto_pause {
                sandbox.pause(sandbox.wanted.auto_pause_memory).await.map(|_| ())
            } else {
                world.kill(&sandbox).await
            };
            if let Err(error) = ended {
                eprintln!("cannot end the sandbox {}: {error}", sandbox.id);
                return;
            }
        } else {
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                _ = changes.changed() => {}
            }
        }
    }
}

impl Sandbox {
    pub(super) fn life(&self) -> Life {
        *self.life.borrow()
    }

    /// Returns what a connection into it hangs on.
    pub(super) fn cord(&self) -> Cord {
        self.cords.cord()
    }

    /// Sets its deadline.
    pub(super) fn end_at(&self, ends_at: SystemTime) {
        self.life.send_modify(|life| life.ends_at = ends_at);
    }

    /// Freezes it, or keeps but its disk. Returns false when it was paused already. All
    /// connections into it are reset.
    pub(super) async fn pause(&self, with_memory: bool) -> io::Result<bool> {
        let _one = self.gate.lock().await;
        if self.life().is_gone || self.life().state == SandboxState::Paused {
            return Ok(false);
        }
        self.life.send_modify(|life| {
            life.state = SandboxState::Paused;
            life.is_disk_only = !with_memory;
            life.ends_at = SystemTime::now();
        });
        self.cords.cut();
        if with_memory {
            self.container.pause().await?;
        } else {
            self.container.stop().await?;
        }
        Ok(true)
    }

    /// Lets it run on until `timeout` from now. Returns false when it ran already.
    pub(super) async fn resume(&self, timeout: Duration, with_memory: bool) -> io::Result<bool> {
        let _one = self.gate.lock().await;
        let life = self.life();
        if life.is_gone {
            return Err(io::ErrorKind::NotFound.into());
        }
        if life.state == SandboxState::Running {
            return Ok(false);
        }
        if life.is_disk_only {
            self.container.boot().await?;
        } else {
            self.container.resume().await?;
            if !with_memory {
                self.container.reboot().await?;
            }
        }
        self.life.send_modify(|life| {
            life.state = SandboxState::Running;
            life.run_since = SystemTime::now();
            life.ends_at = SystemTime::now() + timeout;
        });
        Ok(true)
    }

    /// Lets it run on because there is traffic for it, if it was created so.
    pub(super) async fn wake(&self) -> io::Result<bool> {
        if !self.wanted.auto_resume || self.life().is_disk_only {
            return Ok(false);
        }
        self.resume(self.wanted.timeout.max(AUTO_RESUME_MIN), true).await?;
        Ok(true)
    }
}

/// Returns so many random letters and digits.
pub(super) fn random_text(length: usize) -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        let count =
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty());
        filled += count.expect("the kernel has random numbers");
    }
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}
