//! The engine of this process with a real agent, without a session or a command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use skync::agents::Agents;
use skync::channel::Channel;
use skync::config::{DirectoryConfig, SyncMode};
use skync::driver::directory::Directory;
use skync::driver::{Driver, LinkSecret, Sandbox, SandboxSpec};
use skync::link::Link;
use skync::sync::engine::{Engine, Settings, SyncError};
use skync::sync::host::Host;
use skync::sync::manifest::{Manifest, Owner};
use skync::sync::report::Report;
use skync::sync::transfer::Counters;
use skync_agent::proto::agent_client::AgentClient;
use tokio::runtime::Runtime;

use super::PATIENCE;

/// A host directory and a sandbox directory that an engine keeps the same.
pub struct Pair {
    runtime: Runtime,
    driver: Directory,
    made: Sandbox,
    engine: Option<Engine>,
    client: AgentClient<Channel>,
    host: PathBuf,
    /// Removed last.
    base: tempfile::TempDir,
}

impl Pair {
    /// Two empty directories, with an agent in the sandbox.
    pub fn new(mode: SyncMode) -> Self {
        let base = tempfile::Builder::new().prefix("skp").tempdir_in("/tmp").expect("a directory");
        let path = base.path().canonicalize().expect("a path");
        let make = |name: &str| {
            let made = path.join(name);
            std::fs::create_dir(&made).expect("made");
            made
        };
        let (host, runtime_directory) = (make("project"), make("r"));
        let driver = Directory::new(&DirectoryConfig { base: Some(path.join("sandboxes")) });
        let secret = LinkSecret([7; 32]);
        let spec = SandboxSpec {
            session: "00000000000000aa".to_owned(),
            labels: BTreeMap::from([("skync.session".into(), "00000000000000aa".into())]),
            root: host.clone(),
            lease: Duration::from_secs(45),
            runtime: runtime_directory,
            preparation: None,
        };
        let runtime = runtime();
        let (made, link) = runtime.block_on(async {
            let made = driver.create(&spec, &secret, &Agents, &|_| {}).await.expect("a sandbox");
            let (_, nobody) = tokio::sync::watch::channel(false);
            let link = Link::open(&driver, &made, &secret, 1, PATIENCE, nobody);
            let link = link.await.expect("a link");
            (made, link)
        });
        let settings = settings(&host, &made.root, mode);
        let opened = open_host(&path, &host);
        let replica = &link.agent.replica_id;
        let engine = Engine::new(opened, link.client.clone(), replica, settings, Vec::new());
        let engine = Some(engine.expect("an engine"));
        Self { runtime, driver, made, engine, client: link.client, host, base }
    }

    /// The agent, for calls that the engine does not make.
    pub fn client(&self) -> AgentClient<Channel> {
        self.client.clone()
    }

    /// What runs those calls.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// What the engine has moved.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.engine.as_ref().expect("it is taken at the end only").counters)
    }

    /// The staging directories of the host and of the sandbox.
    pub fn stagings(&self) -> [PathBuf; 2] {
        let base = self.base.path();
        let mut found = Vec::new();
        let mut open = vec![base.join("sandboxes")];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
                let path = entry.path();
                match path.is_dir() {
                    true if path.ends_with("staging") => found.push(path),
                    true => open.push(path),
                    false => {}
                }
            }
        }
        assert_eq!(found.len(), 1, "{found:?}");
        [base.join("staging"), found.remove(0)]
    }

    /// Begins to synchronise, and breaks off once so many bytes of content have gone over.
    pub fn sync_until(&mut self, bytes: u64) -> Option<Result<Report, SyncError>> {
        let counters = self.counters();
        let engine = self.engine.as_mut().expect("it is taken at the end only");
        self.runtime.block_on(async {
            let enough = async {
                while counters.bytes.load(Ordering::Relaxed) < bytes {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::select! {
                biased;
                () = enough => None,
                result = engine.synchronise() => Some(result),
            }
        })
    }

    /// The host's directory.
    pub fn host(&self) -> &Path {
        &self.host
    }

    /// The sandbox's directory.
    pub fn sandbox(&self) -> &Path {
        &self.made.root
    }

    /// Synchronises once.
    pub fn sync(&mut self) -> Result<Report, SyncError> {
        let engine = self.engine.as_mut().expect("it is taken at the end only");
        self.runtime.block_on(engine.synchronise())
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let engine = self.engine.take();
        let _ = self.runtime.block_on(async {
            if let Some(engine) = engine {
                let _ = engine.close().await;
            }
            self.driver.remove(&self.made).await
        });
    }
}

/// A runtime as a session has it.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// The settings of a pair.
pub fn settings(host: &Path, sandbox: &Path, mode: SyncMode) -> Settings {
    Settings {
        host_root: host.to_owned(),
        sandbox_root: sandbox.to_owned(),
        mode,
        exclude: Vec::new(),
        gitignore: false,
        guarded: None,
        durable: false,
    }
}

/// The host's half, with its record in `base`.
pub fn open_host(base: &Path, host: &Path) -> Host {
    let owner = Owner { root: host.to_owned(), profile: "p".to_owned() };
    let manifest = Manifest::open(&base.join("manifest.db"), owner).expect("a manifest");
    Host::open(host, &base.join("staging"), manifest).expect("a host")
}
