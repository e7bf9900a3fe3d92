//! Mounts a directory of this machine through the filesystem, without a sandbox: to measure it.
//!
//! `mount-directory FROM AT [--rw] [--latency-ms N] [--allow-other] [--owners]
//! [--raw-symlinks]`, until it is unmounted or killed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skync_mount::testing::DirectorySource;
use skync_mount::{Mounted, Options, Owners};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, at, ..] = arguments.as_slice() else {
        return Err("usage: mount-directory FROM AT [--rw] [--latency-ms N]".into());
    };
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let source = DirectorySource::new(&PathBuf::from(from))?;
    if let Some(index) = arguments.iter().position(|argument| argument == "--latency-ms") {
        let latency = arguments.get(index + 1).ok_or("how many milliseconds?")?.parse()?;
        source.behave(|behaviour| behaviour.latency = Duration::from_millis(latency));
    }
    let options = Options {
        at: PathBuf::from(at).canonicalize()?,
        name: "skync:directory".to_owned(),
        source_root: PathBuf::from(from).canonicalize()?,
        writable: has("--rw"),
        owners: if has("--owners") { Owners::AsTheyAre } else { Owners::Mine },
        allow_other: has("--allow-other"),
        raw_symlinks: has("--raw-symlinks"),
        replay: true,
        deadline: Duration::from_secs(30),
    };
    let mounted = Mounted::new(Arc::new(source), options).await?;
    println!("mounted");
    mounted.gone().await;
    Ok(())
}
