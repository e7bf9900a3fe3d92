//! For tests of drivers: a stand-in for the agent, compiled once per test run, and what all
//! drivers are asked.
//!
//! The real agent has its own tests; here only what a driver itself does is looked at, with a
//! program that also shows what the real one would hide (that it fails, hangs, eats memory).

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// How a stand-in behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    /// As the agent.
    Good,
    /// Ends at once with code 3 and a complaint.
    Fails,
    /// Takes all the memory that it can get.
    Eats,
    /// Never dials, as if it could not see the socket.
    Blind,
    /// Does not stop when it is told to.
    Stubborn,
}

/// Stand-ins of one manner, whatever the machine type.
pub(crate) struct StandIns(pub(crate) Manner);

impl AgentSource for StandIns {
    fn agent(&self, machine: &str) -> Result<AgentBinary, DriverError> {
        let mut bytes = program().to_vec();
        bytes.extend_from_slice(match self.0 {
            Manner::Good => b" good",
            Manner::Fails => b" fails",
            Manner::Eats => b" eats",
            Manner::Blind => b" blind",
            Manner::Stubborn => b" stubborn",
        });
        let sha256 = Sha256::digest(&bytes).into();
        let (machine, bytes) = (machine.to_owned(), Bytes::from(bytes));
        Ok(AgentBinary { machine, sha256, bytes, packed: None })
    }
}

fn program() -> &'static [u8] {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/driver/stand_in/agent.rs");
        let program = dir.path().join("agent");
        let compiled = std::process::Command::new("rustc")
            .args(["--edition=2024", "-Cpanic=abort", "-Cstrip=symbols", "-Copt-level=s"])
            // It runs in images without any library.
            .arg("-Ctarget-feature=+crt-static")
            .arg("-o")
            .args([&program, &source])
            .output()
            .unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        std::fs::read(program).unwrap()
    })
}

/// The secret of all tests.
pub(crate) const SECRET: LinkSecret = LinkSecret([7; 32]);

/// Long enough for a busy machine; nothing waits that long where all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A sandbox to be, with a session id of its own.
pub(crate) fn spec(runtime: &Path, root: impl Into<PathBuf>) -> SandboxSpec {
    let session = session_id();
    let root = root.into();
    let labels = [
        (label::VERSION, "1"),
        (label::OWNER, "tests"),
        (label::SESSION, session.as_str()),
        (label::PROFILE, "test"),
        (label::PROJECT, "/somewhere/else"),
    ];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let runtime = runtime.to_owned();
    let (lease, preparation) = (Duration::from_secs(45), None);
    SandboxSpec { session, labels, root, lease, runtime, preparation }
}

/// A new session id.
pub(crate) fn session_id() -> String {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Shows that a stream leads to the agent that got [`SECRET`], and carries any bytes both ways.
pub(crate) async fn assert_echo(stream: &mut dyn ByteStream, bytes: usize) {
    let mut secret = [0; 32];
    stream.read_exact(&mut secret).await.unwrap();
    assert_eq!(secret, SECRET.0);
    let sent: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
    let mut received = vec![0; bytes];
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        writer.write_all(&sent).await.unwrap();
        writer.flush().await.unwrap();
    };
    tokio::join!(write, async { reader.read_exact(&mut received).await.unwrap() });
    assert!(sent == received, "the bytes that came back differ");
}

/// Says nothing of progress.
pub(crate) fn quiet(_: Progress) {}
