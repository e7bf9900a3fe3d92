//! Ending an agent from outside its link: for a driver that removes it from a sandbox that stays.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The agent gives its operations five seconds; this is longer.
const PATIENCE: Duration = Duration::from_secs(8);
/// How the name of an agent's file begins wherever drivers install it; the version follows.
const VERSIONS: &[u8] = b"skync-agent-";
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Asks the agent of that state directory to end, and kills it if it does not.
///
/// One that is gone already is no error. A process is only signalled if it runs our own binary,
/// whatever its version, so that a pid that was used again is never hit.
///
/// # Errors
/// If it is still there after all.
pub fn stop(state: &Path) -> io::Result<()> {
    let Some(pid) = agent(state) else { return Ok(()) };
    end(state, pid, Signal::TERM).or_else(|_| end(state, pid, Signal::KILL))
}

fn end(state: &Path, pid: Pid, signal: Signal) -> io::Result<()> {
    // It may end in this moment.
    let _ = kill_process(pid, signal);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if agent(state) != Some(pid) {
            return Ok(());
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    Err(io::Error::other(format!("the agent (process {}) does not end", pid.as_raw_nonzero())))
}

/// True if the agent of that state directory lives.
pub fn is_running(state: &Path) -> bool {
    agent(state).is_some()
}

/// Ends the agent of that state directory at once, and nothing that it has started: the next agent
/// on this state finds its operations.
///
/// # Errors
/// If it is still there after all.
pub fn end_agent_alone(state: &Path) -> io::Result<()> {
    let Some(pid) = agent(state) else { return Ok(()) };
    end(state, pid, Signal::KILL)
}

/// The agent's process, if it lives.
fn agent(state: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(state.join("agent.pid")).ok()?;
    let pid: i32 = text.trim().parse().ok()?;
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let own = std::fs::read_link("/proc/self/exe").ok()?;
    if !is_ours(&program, &own) || is_zombie(pid) {
        return None;
    }
    Pid::from_raw(pid)
}

/// True for our own binary, and for another version of it in the same place.
fn is_ours(program: &Path, own: &Path) -> bool {
    let is_version = |path: &Path| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(VERSIONS))
    };
    program == own || (program.parent() == own.parent() && is_version(program) && is_version(own))
}

fn is_zombie(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_in_the_same_place_is_ours_and_nothing_else_is() {
        let ours = |program: &str| is_ours(Path::new(program), Path::new("/p/skync-agent-1"));
        assert!(ours("/p/skync-agent-1") && ours("/p/skync-agent-2"));
        // The file was replaced while it ran.
        assert!(ours("/p/skync-agent-2 (deleted)"));
        assert!(!ours("/q/skync-agent-2") && !ours("/p/sh") && !ours("/p/skync-agent"));
        assert!(!is_ours(Path::new("/p/skync-agent-2"), Path::new("/p/sh")));
    }
}
