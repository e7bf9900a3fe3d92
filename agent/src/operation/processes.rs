//! Finding and stopping every process that descends from one.
//!
//! The caller is a subreaper, so a process that forks twice or calls `setsid` becomes its child
//! again and is found. Killing the process group alone left 203 of 207 hostile processes alive;
//! this left none (`reference/exec.md` §0.7). It reads `/proc`, which every container has, and
//! needs no privilege. Nothing here makes a process or a thread: it must work where a fork bomb
//! has used up all that there may be.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest time that SIGKILL may take to show: a process in uninterruptible sleep dies late.
pub const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at `/proc` while killed processes go.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Looks at `/proc` until everything is stopped; past this, what is left is killed as it is. One
/// that is in uninterruptible sleep does not stop, nor does it fork.
const STOP_ROUNDS_MAX: usize = 64;
/// The kernel tells processor time in these, on every machine type of ours.
const TICKS_PER_SECOND: u64 = 100;

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Processes that were there and are gone.
    pub stopped: u32,
    /// Processes that are still there.
    pub survivors: u32,
}

/// One process, as `/proc/PID/stat` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// It is dead and only waits for its parent.
    pub zombie: bool,
    /// It was stopped by a signal.
    pub stopped: bool,
    /// Its own processor time and that of its children it has waited for, milliseconds.
    pub cpu_ms: u64,
    /// The latter alone.
    pub children_cpu_ms: u64,
}

impl Process {
    /// Reads one process; nothing if it is gone.
    pub fn read(pid: i32) -> Option<Self> {
        parse_stat(pid, &std::fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            // It may have ended since we looked.
            let _ = kill_process(pid, signal);
        }
    }

    /// A file of its own in `/proc`.
    pub fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }
}

/// All living descendants of `ancestor`, without `spared` and what descends from those.
///
/// Zombies do not count: they are dead and only wait for their parent.
pub fn descendants(ancestor: Pid, spared: &HashSet<i32>) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    let Ok(proc) = std::fs::read_dir("/proc") else { return Vec::new() };
    for entry in proc.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // A process that ends while we look has no stat any more.
        if let Some(process) = Process::read(pid) {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![ancestor.as_raw_nonzero().get()];
    while let Some(parent) = open.pop() {
        for process in children.remove(&parent).into_iter().flatten() {
            if spared.contains(&process.pid) {
                continue;
            }
            // Below a zombie too: its other threads may still have children.
            open.push(process.pid);
            if !process.zombie {
                found.push(process);
            }
        }
    }
    found
}

/// The name in parentheses may hold anything, so fields count from the last `)`.
fn parse_stat(pid: i32, stat: &[u8]) -> Option<Process> {
    let after = stat.iter().rposition(|&b| b == b')')? + 1;
    let fields = std::str::from_utf8(stat.get(after..)?).ok()?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().take(15).collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse().ok());
    let ticks = |index: usize| number(index).and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    let milliseconds = |ticks: u64| ticks * 1000 / TICKS_PER_SECOND;
    let state = *fields.first()?;
    let id = |index| number(index).and_then(|n: i64| i32::try_from(n).ok());
    Some(Process {
        pid,
        parent: id(1)?,
        group: id(2)?,
        zombie: matches!(state, "Z" | "X"),
        stopped: matches!(state, "T" | "t"),
        cpu_ms: milliseconds(ticks(11) + ticks(12) + ticks(13) + ticks(14)),
        children_cpu_ms: milliseconds(ticks(13) + ticks(14)),
    })
}

/// Sends a signal to processes and lets those go on that were stopped, so that it reaches them.
pub fn signal_all(processes: &[Process], signal: Signal) {
    for process in processes {
        process.signal(signal);
    }
    for process in processes.iter().filter(|process| process.stopped) {
        process.signal(Signal::CONT);
    }
}

/// Kills every descendant once and returns those that it saw.
///
/// All are stopped before the first is killed, so that none can fork in between.
pub fn kill_once(ancestor: Pid, spared: &HashSet<i32>) -> Vec<Process> {
    let mut living = descendants(ancestor, spared);
    for _ in 0..STOP_ROUNDS_MAX {
        let mut all_stopped = true;
        for process in living.iter().filter(|process| !process.stopped) {
            process.signal(Signal::STOP);
            all_stopped = false;
        }
        if all_stopped {
            break;
        }
        living = descendants(ancestor, spared);
    }
    for process in &living {
        process.signal(Signal::KILL);
    }
    living
}

/// Kills every descendant and returns when none is left, or after five seconds.
pub fn kill_all(ancestor: Pid, spared: &HashSet<i32>) -> Swept {
    let deadline = Instant::now() + KILL_PATIENCE;
    let mut seen = HashSet::new();
    loop {
        let living = kill_once(ancestor, spared);
        seen.extend(living.iter().map(|process| process.pid));
        if living.is_empty() || Instant::now() > deadline {
            return Swept::of(&seen, living.len());
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

impl Swept {
    /// Of all that were seen, so many are left.
    pub fn of(seen: &HashSet<i32>, survivors: usize) -> Self {
        let survivors = u32::try_from(survivors).unwrap_or(u32::MAX);
        let all = u32::try_from(seen.len()).unwrap_or(u32::MAX);
        Self { stopped: all.saturating_sub(survivors), survivors }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse_the_fields() {
        let running = parse_stat(12, b"12 (a) R 1) S 34 12 13 0 0 0 1 2 3 4 5 6 7 8").expect("one");
        assert_eq!((running.parent, running.group, running.zombie), (34, 12, false));
        assert_eq!((running.cpu_ms, running.children_cpu_ms), (260, 150));
        assert!(parse_stat(12, b"12 (x) Z 34 12").expect("a zombie").zombie);
        assert!(parse_stat(12, b"12 (x) T 34 12").expect("one").stopped);
        assert_eq!(parse_stat(12, b"12 (x"), None);
    }
}
