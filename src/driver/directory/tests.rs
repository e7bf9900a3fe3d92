//! The driver with a stand-in for the agent.
#![expect(clippy::disallowed_methods, reason = "makes and looks at the files of a test")]

use std::os::unix::fs::PermissionsExt;

use sha2::{Digest, Sha256};

use super::*;
use crate::driver::label;
use crate::driver::stand_in::{Manner, PATIENCE, SECRET, StandIns, assert_echo, quiet, spec};

/// A base directory and a runtime directory of a test.
struct Ground {
    dir: tempfile::TempDir,
    driver: Directory,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        let driver = Self::driver(&dir);
        Self { dir, driver }
    }

    fn driver(dir: &tempfile::TempDir) -> Directory {
        Directory::new(&DirectoryConfig { base: Some(dir.path().join("state/base")) })
    }

    fn spec(&self) -> SandboxSpec {
        spec(&self.dir.path().join("run"), "/home/me/a project")
    }

    async fn create(&self, spec: &SandboxSpec, manner: Manner) -> Result<Sandbox, DriverError> {
        self.driver.create(spec, &SECRET, &StandIns(manner), &quiet).await
    }
}

fn mode(path: impl AsRef<Path>) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// What of a test's sandbox is still executed by some process.
fn processes_of(sandbox: &Sandbox) -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let links = entries.filter_map(|entry| std::fs::read_link(entry.path().join("exe")).ok());
    links.filter(|exe| exe.starts_with(&sandbox.id)).collect()
}

#[tokio::test]
async fn a_sandbox_lives_and_goes_and_leaves_nothing() {
    let ground = Ground::new();
    let spec = ground.spec();
    let sandbox = ground.create(&spec, Manner::Good).await.unwrap();
    let place = Path::new(&sandbox.id);
    assert_eq!(sandbox.root, place.join("root/a project"));
    assert!(sandbox.root.is_dir() && sandbox.ephemeral);
    for bytes in [0, 1, 3_000_000] {
        let mut stream = ground.driver.dial(&sandbox, PATIENCE).await.unwrap();
        assert_echo(&mut *stream, bytes).await;
    }
    assert_eq!(ground.driver.state(&sandbox).await.unwrap(), SandboxState::Running);
    assert_eq!(mode(place), 0o700);
    assert_eq!(mode(place.join("agent")), 0o700);
    assert_eq!(mode(place.join("state/agent.log")), 0o600);
    assert!(!place.join("state/secret").exists(), "the agent has taken it");

    // Another process finds it by its labels, and removes it.
    let other = Ground::driver(&ground.dir);
    assert_eq!(other.find(&spec.labels).await.unwrap(), std::slice::from_ref(&sandbox));
    let different = [(label::OWNER.to_owned(), "somebody".to_owned())].into();
    assert!(other.find(&different).await.unwrap().is_empty());
    other.remove(&sandbox).await.unwrap();
    assert_eq!(other.state(&sandbox).await.unwrap(), SandboxState::Gone);
    assert!(!place.exists());
    assert!(processes_of(&sandbox).is_empty());
    ground.driver.remove(&sandbox).await.unwrap();
}

#[tokio::test]
async fn a_sandbox_is_taken_over_from_a_process_that_died() {
    let ground = Ground::new();
    let spec = ground.spec();
    let sandbox = ground.create(&spec, Manner::Good).await.unwrap();
    let successor = Ground::driver(&ground.dir);
    let early = successor.dial(&sandbox, PATIENCE).await.err().unwrap();
    assert_eq!(early.kind, ErrorKind::Gone);
    successor.adopt(&sandbox, &spec).await.unwrap();
    let mut stream = successor.dial(&sandbox, PATIENCE).await.unwrap();
    assert_echo(&mut *stream, 3_000_000).await;
    assert_eq!(successor.state(&sandbox).await.unwrap(), SandboxState::Running);

    // It notices the end of an agent that is not its child.
    let pid = std::fs::read_to_string(Path::new(&sandbox.id).join("state/agent.pid")).unwrap();
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let error = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Err(error) = successor.dial(&sandbox, PATIENCE).await {
                return error;
            }
        }
    });
    assert!(error.await.unwrap().message.contains("has ended"));
    assert!(matches!(
        successor.state(&sandbox).await.unwrap(),
        SandboxState::Stopped { out_of_memory: false, .. }
    ));
    let error = successor.adopt(&sandbox, &spec).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Gone, "{error}");
    successor.remove(&sandbox).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_does_not_stop_is_ended_with_all_that_it_started() {
    let ground = Ground::new();
    let sandbox = ground.create(&ground.spec(), Manner::Stubborn).await.unwrap();
    let _stream = ground.driver.dial(&sandbox, PATIENCE).await.unwrap();
    assert_eq!(processes_of(&sandbox).len(), 1);
    let child = Path::new(&sandbox.id).join("state/child.pid");
    let child: u32 = std::fs::read_to_string(child).unwrap().parse().unwrap();
    assert!(Path::new(&format!("/proc/{child}")).exists());
    std::fs::create_dir_all(sandbox.root.join("closed")).unwrap();
    std::fs::set_permissions(sandbox.root.join("closed"), std::fs::Permissions::from_mode(0o0))
        .unwrap();
    ground.driver.remove(&sandbox).await.unwrap();
    assert!(processes_of(&sandbox).is_empty());
    let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    assert!(!Path::new(&sandbox.id).exists());
}

#[tokio::test]
async fn an_agent_that_ends_at_once_is_an_error_with_its_last_words() {
    let ground = Ground::new();
    let sandbox = ground.create(&ground.spec(), Manner::Fails).await.unwrap();
    let error = ground.driver.dial(&sandbox, PATIENCE).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Gone);
    assert!(
        error.message.ends_with("ended with exit code 3: stand-in:\u{fffd}[31m I was told to fail"),
        "{error}"
    );
    match ground.driver.state(&sandbox).await.unwrap() {
        SandboxState::Stopped { reason, .. } => assert!(reason.contains("code 3"), "{reason}"),
        other => panic!("{other:?}"),
    }
    ground.driver.remove(&sandbox).await.unwrap();
    assert!(!Path::new(&sandbox.id).exists());
}

#[tokio::test]
async fn what_a_stopped_sandbox_holds_is_kept_when_it_is_made_again() {
    let ground = Ground::new();
    let spec = ground.spec();
    let sandbox = ground.create(&spec, Manner::Fails).await.unwrap();
    ground.driver.dial(&sandbox, PATIENCE).await.err().unwrap();
    std::fs::write(sandbox.root.join("work"), "mine").unwrap();
    let again = ground.create(&spec, Manner::Good).await.unwrap();
    assert_eq!(again, sandbox);
    let mut stream = ground.driver.dial(&again, PATIENCE).await.unwrap();
    assert_echo(&mut *stream, 10).await;
    assert_eq!(std::fs::read(sandbox.root.join("work")).unwrap(), b"mine");
    let agents = std::fs::read_dir(Path::new(&sandbox.id).join("agent")).unwrap();
    assert_eq!(agents.count(), 1, "never two versions");

    let error = ground.create(&spec, Manner::Good).await.unwrap_err();
    assert!(error.message.contains("in use"), "{error}");
    assert!(sandbox.root.join("work").exists());
    ground.driver.remove(&again).await.unwrap();
}

#[tokio::test]
async fn nothing_is_removed_that_is_not_a_sandbox_of_ours() {
    let ground = Ground::new();
    let spec = ground.spec();
    let sandbox = ground.create(&spec, Manner::Good).await.unwrap();
    let base = ground.driver.base().unwrap().to_owned();
    let outside = ground.dir.path().join("0123456789abcdef");
    let bare = base.join("0123456789abcdef");
    for path in [&outside, &bare] {
        std::fs::create_dir(path).unwrap();
    }
    let at = |path: &Path| Sandbox { id: path.to_str().unwrap().to_owned(), ..sandbox.clone() };
    let named = base.join("x/../0123456789abcdef");
    for path in [&*outside, &*bare, &*base, Path::new("/"), &*named, Path::new("")] {
        let error = ground.driver.remove(&at(path)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Denied, "{}: {error}", path.display());
    }
    let stranger = Sandbox { labels: BTreeMap::new(), ..sandbox.clone() };
    assert_eq!(ground.driver.remove(&stranger).await.unwrap_err().kind, ErrorKind::Denied);
    assert!(outside.exists() && bare.exists() && sandbox.root.exists());
    ground.driver.remove(&sandbox).await.unwrap();
}

#[tokio::test]
async fn records_that_are_damaged_or_strange_are_passed_over() {
    let ground = Ground::new();
    assert!(ground.driver.find(&BTreeMap::new()).await.unwrap().is_empty());
    let base = ground.driver.base().unwrap().to_owned();
    let strange =
        r#"{"version":1,"labels":{"skync.v":"1"},"root":"/","agent":"../../bin/sh","socket":"/s"}"#;
    for (n, text) in ["", "{", strange, r#"{"version":9}"#].into_iter().enumerate() {
        let place = base.join(format!("{n:016x}"));
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join(record::FILE), text).unwrap();
    }
    assert!(ground.driver.find(&BTreeMap::new()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_failed_creation_leaves_nothing() {
    struct Nonsense;
    impl AgentSource for Nonsense {
        fn agent(&self, machine: &str) -> Result<AgentBinary, DriverError> {
            let bytes = bytes::Bytes::from_static(b"\x7fELF no program");
            let sha256 = Sha256::digest(&bytes).into();
            Ok(AgentBinary { machine: machine.into(), sha256, bytes, packed: None })
        }
    }
    struct Wrong;
    impl AgentSource for Wrong {
        fn agent(&self, machine: &str) -> Result<AgentBinary, DriverError> {
            let bytes = bytes::Bytes::from_static(b"x");
            Ok(AgentBinary { machine: machine.into(), sha256: [0; 32], bytes, packed: None })
        }
    }
    let ground = Ground::new();
    for (agents, words) in
        [(&Nonsense as &dyn AgentSource, "cannot start"), (&Wrong, "is not the one")]
    {
        let error =
            ground.driver.create(&ground.spec(), &SECRET, agents, &quiet).await.unwrap_err();
        assert!(error.message.contains(words), "{error}");
        let left = std::fs::read_dir(ground.driver.base().unwrap()).unwrap().count();
        assert_eq!(left, 0);
    }
}

#[tokio::test]
async fn a_runtime_directory_with_a_long_path_is_an_error_before_anything_is_made() {
    let ground = Ground::new();
    let spec = spec(&ground.dir.path().join("x".repeat(100)), "/p");
    let error = ground.create(&spec, Manner::Good).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.message.contains("too long for a socket"), "{error}");
    assert!(!ground.driver.base().unwrap().exists());
}

#[tokio::test]
async fn validation_sees_what_cannot_be_a_base() {
    let ground = Ground::new();
    assert!(ground.driver.validate().await.is_empty());
    assert!(!ground.driver.base().unwrap().exists(), "looking makes nothing");
    let file = ground.dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for base in [file.join("below"), PathBuf::from("relative")] {
        let driver = Directory::new(&DirectoryConfig { base: Some(base) });
        let problems = driver.validate().await;
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert_eq!(problems[0].kind, ErrorKind::Invalid, "{problems:#?}");
        assert!(!problems[0].hints.is_empty());
    }
}
