//! Where no process can be made any more: a limit on their number, as containers have it.

use super::*;

/// A control group for this many processes; gone when it is dropped.
struct Limit(std::path::PathBuf);

impl Limit {
    fn new(count: u32) -> Option<Self> {
        let name = format!("skync-test-{}", std::process::id());
        let places = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];
        let made = places
            .iter()
            .map(|place| Path::new(place).join(&name))
            .find(|group| std::fs::create_dir(group).is_ok() && group.join("pids.max").exists())?;
        let limit = Self(made);
        write(&limit.0.join("pids.max"), &count.to_string()).then_some(limit)
    }

    /// The agent's program, in this group.
    fn program(&self, directory: &Path) -> std::path::PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let (program, group) = (directory.join("agent"), self.0.display());
        let agent = env!("CARGO_BIN_EXE_skync-agent");
        let script = format!("#!/bin/sh\necho $$ > {group}/cgroup.procs\nexec {agent} \"$@\"\n");
        assert!(write(&program, &script));
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("ours");
        program
    }

    fn count(&self) -> u32 {
        let text = std::fs::read_to_string(self.0.join("pids.current")).expect("there");
        text.trim().parse().expect("a number")
    }
}

#[expect(clippy::disallowed_methods, reason = "a file of the test's own")]
fn write(path: &Path, text: &str) -> bool {
    std::fs::write(path, text).is_ok()
}

impl Drop for Limit {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[tokio::test]
async fn a_fork_bomb_is_stopped_where_no_process_can_be_made() {
    let Some(limit) = Limit::new(60) else {
        println!("skipped: no control group for processes can be made here");
        return;
    };
    let state = tempfile::tempdir().expect("a directory");
    let program = limit.program(state.path());
    let operations = Arc::new(Operations::new(state.path(), &program, LEASE));
    let world = World { state, operations };
    // Shells give up when they cannot fork; this does not.
    let script = "trap '' INT TERM; command -v perl || exit 9; exec perl -e 'fork while 1'";
    let (operation, mut client) = world.run(script).await;
    client.expect("perl").await;
    wait_until("it has used up all", async || limit.count() >= 60).await;
    let begun = std::time::Instant::now();
    let reply = cancel(&operation, 2, 50).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(reply.stopped >= 58 && reply.survivors == 0, "{reply:?}");
    client.exit().await;
    assert!(operation.info().await.processes == 0);
    let id = operation.info().await.id[..].try_into().expect("16 bytes");
    world.operations.forget(id).await.expect("forgotten");
    wait_until("nothing is left", async || {
        // The supervisor is waited for, as an agent does it: until then it counts.
        while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
        limit.count() == 0
    })
    .await;
}
