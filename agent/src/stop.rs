//! Ending an agent from outside its link: for a driver that removes it from a sandbox that stays.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The agent gives its operations five seconds; this is longer.
const PATIENCE: Duration = Duration::from_secs(8);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Asks the agent of that state directory to end, and kills it if it does not.
///
/// One that is gone already is no error. A process is only signalled if it runs our own binary, so
/// that a pid that was used again is never hit.
///
/// # Errors
/// If it is still there after all.
pub fn stop(state: &Path) -> io::Result<()> {
    let Some(pid) = agent(state) else { return Ok(()) };
    for (signal, patience) in [(Signal::TERM, PATIENCE), (Signal::KILL, PATIENCE)] {
        // It may end in this moment.
        let _ = kill_process(pid, signal);
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if agent(state) != Some(pid) {
                return Ok(());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
    Err(io::Error::other(format!("the agent (process {}) does not end", pid.as_raw_nonzero())))
}

/// The agent's process, if it lives.
fn agent(state: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(state.join("agent.pid")).ok()?;
    let pid: i32 = text.trim().parse().ok()?;
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let own = std::fs::read_link("/proc/self/exe").ok()?;
    if program != own || is_zombie(pid) {
        return None;
    }
    Pid::from_raw(pid)
}

fn is_zombie(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}
