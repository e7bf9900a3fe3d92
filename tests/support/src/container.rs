//! Sandboxes as containers: started, frozen, thawed and removed with the `docker` program.
//!
//! Every container carries the server's process id, so that one that was killed leaves nothing
//! for good: the next server removes what belongs to none.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

/// Label of all containers: the process id of the server, and when that process began.
const LABEL: &str = "skync-test-servers";
/// How long the part inside of a container may take until it listens.
const READY_MAX: Duration = Duration::from_secs(20);
/// Between two looks whether it listens.
const READY_POLL: Duration = Duration::from_millis(5);
/// How the names of containers, and of their directories, begin.
const NAME_PREFIX: &str = "skync-ts-";
/// Where the server's directory is inside.
const INSIDE_DIR: &str = "/run/ts";

/// What a container is made of.
pub struct Spec<'a> {
    /// The program `test-servers`.
    pub program: &'a Path,
    /// The image; nothing is pulled.
    pub image: &'a str,
    /// `e2b` or `daytona`.
    pub kind: &'a str,
    /// What the part inside has to know; it reads it as JSON from `/run/ts/config.json`.
    pub config: serde_json::Value,
    /// Set for the first process, and so for all that inherit from it.
    pub env: HashMap<String, String>,
}

/// A running or frozen container and the directory that it shares with the server.
///
/// Dropping it removes the container, if nobody did.
pub struct Container {
    /// The name by which docker knows it before it has told an id.
    name: String,
    id: String,
    dir: TempDir,
    is_removed: AtomicBool,
}

impl Drop for Container {
    fn drop(&mut self) {
        if !*self.is_removed.get_mut() {
            let mut command = std::process::Command::new("docker");
            command.args(["rm", "--force", "--volumes", &self.name]).stdin(Stdio::null());
            let _ = command.output();
        }
    }
}

impl Container {
    /// Starts a container and waits until the part inside listens.
    pub async fn start(spec: Spec<'_>) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix(NAME_PREFIX).tempdir()?;
        // Unique, and what is left of a start that was given up has it, too.
        let name = dir.path().file_name().unwrap_or_default().to_string_lossy().replace('.', "");
        let is_removed = AtomicBool::new(false);
        let mut container = Self { name, id: String::new(), dir, is_removed };
        container.run(spec).await?;
        if let Err(error) = container.ready().await {
            let log = container.log().await;
            return Err(io::Error::other(format!("the part inside did not start: {error}: {log}")));
        }
        Ok(container)
    }

    async fn run(&mut self, spec: Spec<'_>) -> io::Result<()> {
        let dir = self.dir.path();
        tokio::fs::write(dir.join("config.json"), spec.config.to_string()).await?;
        let mut command = Command::new("docker");
        command.args(["run", "--detach", "--network", "none", "--pull", "never"]);
        command.args(["--name", &self.name, "--label"]);
        command.arg(format!("{LABEL}={}", owner(std::process::id()).unwrap_or_default()));
        command.arg("--volume").arg(format!("{}:/test-servers:ro", spec.program.display()));
        command.arg("--volume").arg(format!("{}:{INSIDE_DIR}", dir.display()));
        for (name, value) in &spec.env {
            command.arg("--env").arg(format!("{name}={value}"));
        }
        command.args(["--workdir", "/", "--entrypoint", "/test-servers", spec.image]);
        command.args(["inside", spec.kind, "--socket", "/run/ts/inside.sock"]);
        command.args(["--config", "/run/ts/config.json"]);
        let output = docker(command).await?;
        self.id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(())
    }

    /// Returns docker's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the socket of the part inside.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("inside.sock")
    }

    /// Connects to the part inside. A frozen one accepts, and says nothing.
    pub async fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.socket()).await
    }

    /// Freezes all processes.
    pub async fn pause(&self) -> io::Result<()> {
        self.command("pause", &[]).await
    }

    /// Lets all processes run on.
    pub async fn resume(&self) -> io::Result<()> {
        self.command("unpause", &[]).await
    }

    /// Kills all processes and runs the part inside anew, on the same disk.
    pub async fn reboot(&self) -> io::Result<()> {
        self.stop().await?;
        self.boot().await
    }

    /// Kills all processes; the disk stays.
    pub async fn stop(&self) -> io::Result<()> {
        self.command("kill", &[]).await
    }

    /// Runs the part inside of a stopped container again.
    pub async fn boot(&self) -> io::Result<()> {
        self.command("start", &[]).await?;
        self.ready().await
    }

    /// Removes the container with all that is in it.
    pub async fn remove(&self) -> io::Result<()> {
        self.is_removed.store(true, Ordering::Relaxed);
        self.command("rm", &["--force", "--volumes"]).await
    }

    async fn ready(&self) -> io::Result<()> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            match self.connect().await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => sleep(READY_POLL).await,
            }
        }
    }

    async fn log(&self) -> String {
        let mut command = Command::new("docker");
        command.args(["logs", "--tail", "20", &self.id]);
        match docker(command).await {
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        }
    }

    async fn command(&self, verb: &str, options: &[&str]) -> io::Result<()> {
        let mut command = Command::new("docker");
        command.arg(verb).args(options).arg(&self.id);
        docker(command).await.map(|_| ())
    }
}

/// Removes the containers of servers that are no more.
pub async fn sweep() -> io::Result<()> {
    let is_left = |label: &str| {
        let pid = label.split('.').next().and_then(|pid| pid.parse().ok());
        pid.and_then(owner).as_deref() != Some(label)
    };
    let mut list = Command::new("docker");
    list.args(["ps", "--all", "--no-trunc", "--filter", &format!("label={LABEL}"), "--format"]);
    list.arg(format!("{{{{.Names}}}} {{{{.Label \"{LABEL}\"}}}}"));
    let output = docker(list).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let names: Vec<_> = lines.filter(|(_, label)| is_left(label)).map(|(name, _)| name).collect();
    if names.is_empty() {
        return Ok(());
    }
    let mut command = Command::new("docker");
    command.args(["rm", "--force", "--volumes"]).args(&names);
    let removed = docker(command).await.map(|_| ());
    for name in names.iter().filter(|name| name.starts_with(NAME_PREFIX)) {
        // Its directory has the same name; without the container nobody needs it.
        let _ = tokio::fs::remove_dir_all(std::env::temp_dir().join(name)).await;
    }
    removed
}

/// Names a process beyond the reuse of its id: `PID.STARTTIME`.
fn owner(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name may contain anything; the fields after it are a state and numbers.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X");
    let started = fields.nth(18)?;
    (!is_dead).then(|| format!("{pid}.{started}"))
}

async fn docker(mut command: Command) -> io::Result<Output> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    if output.status.success() {
        return Ok(output);
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("docker: {}", error.trim())))
}
