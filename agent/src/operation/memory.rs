//! Whether the sandbox's memory limit has killed something: the kernel's own counter.

/// Where a container sees its own control group, version 2 then version 1.
const PLACES: [(&str, &str); 2] = [
    ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory.max"),
    ("/sys/fs/cgroup/memory/memory.oom_control", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
];
/// A limit above this is how version 1 says that there is none.
const LIMIT_BYTES_MAX: u64 = 1 << 60;

/// Processes that the memory limit has killed here so far; 0 if that cannot be known.
pub fn kills() -> u64 {
    PLACES.iter().find_map(|(events, _)| parse_kills(&read(events)?)).unwrap_or(0)
}

/// The memory limit in bytes, if there is one.
pub fn limit() -> Option<u64> {
    PLACES
        .iter()
        .find_map(|(_, limit)| read(limit)?.trim().parse().ok())
        .filter(|limit| *limit < LIMIT_BYTES_MAX)
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn parse_kills(events: &str) -> Option<u64> {
    events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_count_kills_alike() {
        assert_eq!(parse_kills("low 0\nhigh 0\nmax 7\noom 1\noom_kill 3\n"), Some(3));
        assert_eq!(parse_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), Some(2));
        assert_eq!(parse_kills("oom_kill_disable 0\n"), None);
    }
}
