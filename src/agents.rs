//! The agents that this `skync` carries, one for each machine type it was built for.

use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::driver::{AgentBinary, AgentSource, DriverError, ErrorKind};

/// Machine type, SHA-256 of the binary, the binary compressed by gzip.
type Carried = (&'static str, [u8; 32], &'static [u8]);

const CARRIED: &[Carried] = include!(concat!(env!("OUT_DIR"), "/agents.rs"));

/// A directory of `skync-agent-<machine>` files that are used instead of the carried ones.
pub const DIRECTORY_VARIABLE: &str = "SKYNC_AGENT_DIR";

/// The machine types that this `skync` carries an agent for.
pub fn machines() -> Vec<&'static str> {
    CARRIED.iter().map(|(machine, ..)| *machine).collect()
}

/// The agents of this binary, or of the directory that [`DIRECTORY_VARIABLE`] names.
#[derive(Debug, Default)]
pub struct Agents;

impl AgentSource for Agents {
    fn agent(&self, machine: &str) -> Result<AgentBinary, DriverError> {
        match std::env::var_os(DIRECTORY_VARIABLE) {
            Some(directory) => from_directory(Path::new(&directory), machine),
            None => carried(machine),
        }
    }
}

fn carried(machine: &str) -> Result<AgentBinary, DriverError> {
    let Some((_, sha256, packed)) = CARRIED.iter().find(|(other, ..)| *other == machine) else {
        let known: Vec<_> = CARRIED.iter().map(|(machine, ..)| *machine).collect();
        let message = format!(
            "this skync carries no agent for `{machine}`, only for: {}",
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        );
        return Err(DriverError::new(ErrorKind::NoAgent, message).hint(format!(
            "build one with `scripts/build-agents DIR` and set {DIRECTORY_VARIABLE}=DIR"
        )));
    };
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(*packed).read_to_end(&mut bytes).map_err(|error| {
        DriverError::new(ErrorKind::Failed, "the agent inside this skync is damaged")
            .source(error)
            .hint("install skync again")
    })?;
    let (bytes, packed) = (bytes.into(), Some(Bytes::from_static(packed)));
    let agent = AgentBinary { machine: machine.into(), sha256: *sha256, bytes, packed };
    let actual: [u8; 32] = Sha256::digest(&agent.bytes).into();
    if actual != agent.sha256 {
        let message = "the agent inside this skync is damaged: its SHA-256 is not what was built";
        return Err(DriverError::new(ErrorKind::Failed, message).hint("install skync again"));
    }
    Ok(agent)
}

fn from_directory(directory: &Path, machine: &str) -> Result<AgentBinary, DriverError> {
    let file = directory.join(format!("skync-agent-{machine}"));
    let bytes = std::fs::read(&file).map_err(|error| {
        let message = format!("cannot read the agent `{}`", file.display());
        DriverError::new(ErrorKind::NoAgent, message)
            .hint(format!(
                "{DIRECTORY_VARIABLE} names that directory; unset it to use the agent inside skync"
            ))
            .source(error)
    })?;
    let sha256 = Sha256::digest(&bytes).into();
    Ok(AgentBinary { machine: machine.into(), sha256, bytes: bytes.into(), packed: None })
}
