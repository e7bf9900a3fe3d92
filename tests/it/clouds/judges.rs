//! The providers' own SDKs judge the test servers: what they take for the provider is near enough to
//! it for skync to be tested on.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::World;

/// The interpreter with a provider's SDK; `scripts/test` makes it. Nothing if there is none, unless it
/// is required.
pub fn python(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    let required = std::env::var("SKYNC_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|what| what == "sdk");
    assert!(found.is_some() || !is_required, "{variable} is not set: `scripts/test` sets it");
    if found.is_none() {
        eprintln!("skipped: {variable} names no Python with the SDK (scripts/test makes one)");
    }
    found
}

/// Not the key of the other tests, which look for theirs in the arguments of all processes.
const KEY: &str = "judge_5f0c2a7718";

fn judge(python: &Path, script: &str, url: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/sdk").join(script);
    let output = Command::new(python)
        .args(["-W", "ignore"])
        .arg(script)
        .args([url, KEY])
        .output()
        .expect("Python runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaint}");
}

#[test]
fn the_sdk_of_e2b_takes_our_server_for_e2b() {
    let Some(python) = python("SKYNC_SDK_E2B") else { return };
    let Some(world) = World::with_e2b() else { return };
    world.e2b().set_key(KEY);
    judge(&python, "e2b_judge.py", &world.e2b().url());
}

#[test]
fn the_sdk_of_daytona_takes_our_server_for_daytona() {
    let Some(python) = python("SKYNC_SDK_DAYTONA") else { return };
    let Some(world) = World::with_daytona() else { return };
    world.daytona().set_key(KEY);
    judge(&python, "daytona_judge.py", &world.daytona().url());
}
