//! Compiles the session contract, and builds the agent that `skync` carries.
//!
//! The agent is a static binary for this machine's architecture, compressed. Other architectures
//! come from `scripts/build-agents`: `SKYNC_EMBED_AGENT_DIR` names a directory of
//! `skync-agent-<machine>` files to carry instead of building one (an empty directory: none).
#![expect(clippy::disallowed_methods, reason = "it writes to OUT_DIR, not to a user's files")]

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

/// `design.md` §3: every `skync` carries it, once for each machine type. It was 3 MiB until the
/// watcher, zstd (110 KB), the deltas, WebSockets (146 KB) and the files of a mount (130 KB) came.
const AGENT_BYTES_MAX: usize = 1 << 22;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/session.proto");
    let descriptors = protox::compile(["proto/session.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".skync.session.v1.Output.data")
        .bytes(".skync.session.v1.Input.data")
        .build_transport(false)
        .compile_fds(descriptors)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let agents = match env::var_os("SKYNC_EMBED_AGENT_DIR") {
        Some(directory) => prebuilt(Path::new(&directory))?,
        // Sandboxes are Linux, whatever carries the agent: elsewhere it is built on a Linux machine.
        None if env::var("CARGO_CFG_TARGET_OS")? != "linux" => none_here(),
        None => vec![build_agent(&out)?],
    };
    embed(&out, agents)
}

/// Builds none, and says how to have some.
fn none_here() -> Vec<(String, PathBuf)> {
    println!("cargo::rerun-if-env-changed=SKYNC_EMBED_AGENT_DIR");
    println!(
        "cargo::warning=this skync carries no agent: run `scripts/build-agents DIR` on Linux, then build \
         with SKYNC_EMBED_AGENT_DIR=DIR, or run with SKYNC_AGENT_DIR=DIR"
    );
    Vec::new()
}

/// The agents of a directory, with the machine type that each is for.
fn prebuilt(directory: &Path) -> Result<Vec<(String, PathBuf)>, Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=SKYNC_EMBED_AGENT_DIR");
    println!("cargo::rerun-if-changed={}", directory.display());
    let mut agents = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(machine) = name.strip_prefix("skync-agent-") {
            agents.push((machine.to_owned(), path));
        }
    }
    agents.sort();
    Ok(agents)
}

fn build_agent(out: &Path) -> Result<(String, PathBuf), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=SKYNC_EMBED_AGENT_DIR");
    for path in ["agent/src", "agent/proto", "agent/build.rs", "agent/Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let machine = env::var("CARGO_CFG_TARGET_ARCH")?;
    let target = format!("{machine}-unknown-linux-gnu");
    // A directory of its own: cargo holds a lock on the one that builds us. It is shared by debug
    // and release builds, since the agent is the same for both: OUT_DIR is
    // target/PROFILE/build/skync-HASH/out.
    let target_dir = out.ancestors().nth(4).ok_or("an unusual OUT_DIR")?.join("agent-build");
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo
        .args(["build", "--package", "skync-agent", "--bin", "skync-agent", "--profile", "agent"])
        // Named even if it is this machine's own: without it the flag below would reach procedural
        // macros, which cannot be linked statically.
        .args(["--target", &target])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_BUILD_TARGET");
    if !cargo.status()?.success() {
        return Err(format!("the agent for {target} could not be built, see above").into());
    }
    Ok((machine, target_dir.join(target).join("agent/skync-agent")))
}

/// Writes `agents.rs`: a constant table of machine type, SHA-256 and compressed binary.
fn embed(out: &Path, agents: Vec<(String, PathBuf)>) -> Result<(), Box<dyn Error>> {
    let mut table = String::from("&[\n");
    for (machine, path) in agents {
        let bytes = fs::read(&path)?;
        if bytes.len() > AGENT_BYTES_MAX {
            let size = bytes.len();
            return Err(format!(
                "{}: {size} bytes, the limit is {AGENT_BYTES_MAX}",
                path.display()
            )
            .into());
        }
        let packed = out.join(format!("skync-agent-{machine}.gz"));
        let mut encoder =
            flate2::write::GzEncoder::new(fs::File::create(&packed)?, flate2::Compression::best());
        encoder.write_all(&bytes)?;
        encoder.finish()?;
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        writeln!(table, "    ({machine:?}, {sha256:?}, include_bytes!({packed:?})),")?;
    }
    table.push(']');
    fs::write(out.join("agents.rs"), table)?;
    Ok(())
}
