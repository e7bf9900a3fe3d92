//! Finding and stopping every process that descends from one.
//!
//! The caller is a subreaper, so a process that forks twice or calls `setsid` becomes its child
//! again and is found. Killing the process group alone left 203 of 207 hostile processes alive;
//! this left none (`reference/exec.md` §0.7). It reads `/proc`, which every container has, and
//! needs no privilege.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest time that SIGKILL may take to show: a process in uninterruptible sleep dies late.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at `/proc` while waiting.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Processes that were there and are gone.
    pub stopped: u32,
    /// Processes that are still there.
    pub survivors: u32,
}

/// All living descendants of `ancestor`, without `spared` and what descends from those.
///
/// Zombies do not count: they are dead and only wait for their parent.
pub fn descendants(ancestor: Pid, spared: &HashSet<i32>) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<(i32, bool)>> = HashMap::new();
    let Ok(proc) = std::fs::read_dir("/proc") else { return Vec::new() };
    for entry in proc.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // A process that ends while we look has no stat any more.
        let Ok(stat) = std::fs::read(entry.path().join("stat")) else { continue };
        if let Some((parent, zombie)) = parse_stat(&stat) {
            children.entry(parent).or_default().push((pid, zombie));
        }
    }
    let mut found = Vec::new();
    let mut open = vec![ancestor.as_raw_nonzero().get()];
    while let Some(parent) = open.pop() {
        for &(pid, zombie) in children.get(&parent).into_iter().flatten() {
            if spared.contains(&pid) {
                continue;
            }
            // Below a zombie too: its other threads may still have children.
            open.push(pid);
            if !zombie {
                found.extend(Pid::from_raw(pid));
            }
        }
    }
    found
}

/// The parent's pid and whether it is a zombie, from `/proc/PID/stat`.
///
/// The name in parentheses may hold anything, so fields count from the last `)`.
fn parse_stat(stat: &[u8]) -> Option<(i32, bool)> {
    let after = stat.iter().rposition(|&b| b == b')')? + 1;
    let mut fields = std::str::from_utf8(stat.get(after..)?).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    Some((parent, matches!(state, "Z" | "X")))
}

/// Sends `signal` to all descendants, then gives them until `grace` to end.
///
/// Returns those that were seen.
pub fn signal_and_wait(
    ancestor: Pid,
    spared: &HashSet<i32>,
    signal: Signal,
    grace: Duration,
) -> HashSet<i32> {
    let deadline = Instant::now() + grace;
    let mut seen = HashSet::new();
    for pid in descendants(ancestor, spared) {
        seen.insert(pid.as_raw_nonzero().get());
        // It may have ended since we looked.
        let _ = kill_process(pid, signal);
    }
    while Instant::now() < deadline && !descendants(ancestor, spared).is_empty() {
        std::thread::sleep(LOOK_INTERVAL);
    }
    seen
}

/// Kills every descendant and returns when none is left, or after five seconds.
///
/// All are stopped before the first is killed, so that none can fork in between.
pub fn kill_all(ancestor: Pid, spared: &HashSet<i32>, mut seen: HashSet<i32>) -> Swept {
    let deadline = Instant::now() + KILL_PATIENCE;
    loop {
        let living = descendants(ancestor, spared);
        seen.extend(living.iter().map(|pid| pid.as_raw_nonzero().get()));
        if living.is_empty() || Instant::now() > deadline {
            let survivors = u32::try_from(living.len()).unwrap_or(u32::MAX);
            let all = u32::try_from(seen.len()).unwrap_or(u32::MAX);
            return Swept { stopped: all - survivors, survivors };
        }
        for &pid in &living {
            let _ = kill_process(pid, Signal::STOP);
        }
        for &pid in &living {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse_the_fields() {
        assert_eq!(parse_stat(b"12 (a) R 1) S 34 12 12"), Some((34, false)));
        assert_eq!(parse_stat(b"12 (x) Z 34 12"), Some((34, true)));
        assert_eq!(parse_stat(b"12 (x"), None);
    }
}
