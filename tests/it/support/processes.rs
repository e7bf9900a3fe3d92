//! The processes of a world, commands that run beside a test, and what is left when all is over.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Outcome, PATIENCE, World, containers_of, wait_until};

/// A `skync exec` that runs beside the test; killed with the value.
pub(crate) struct Running {
    child: std::process::Child,
    streams: [PathBuf; 2],
}

impl World {
    /// Starts `skync exec` with these flags and this command, and does not wait.
    ///
    /// All that the command starts can be told from other processes by its environment.
    pub(crate) fn start_exec(&self, flags: &[&str], command: &[&str]) -> Running {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let streams = ["out", "err"].map(|name| self.path(&format!("{name}-{number}")));
        let [out, err] =
            streams.each_ref().map(|path| std::fs::File::create(path).expect("a file"));
        let mark = format!("SKYNC_TEST_WORLD={}", self.base().display());
        let arguments = [&["exec", "--env", &mark], flags, &["--"], command].concat();
        let child = self.skync(arguments).stdout(out).stderr(err).spawn().expect("skync runs");
        Running { child, streams }
    }

    /// The directory that holds all of this world, without symbolic links.
    pub(crate) fn base(&self) -> &Path {
        self.project.parent().expect("the project is in it")
    }

    /// The living processes that have to do with this world: of ours, and commands of
    /// [`World::start_exec`].
    pub(crate) fn processes(&self) -> Vec<Process> {
        let numbers = std::fs::read_dir("/proc").expect("/proc").flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.filter_map(|pid| Process::look(pid, self.base())).collect()
    }

    /// The process of this world that is `what`; waits until there is one.
    pub(crate) fn process(&self, what: Kind) -> u32 {
        let mut found = None;
        wait_until(&format!("there is a {what:?}"), || {
            found = self.processes().into_iter().find(|process| process.kind == what);
            found.is_some()
        });
        found.expect("it was found").pid
    }

    /// Everything of ours that is still there although no session is: containers, processes,
    /// files. Empty if all is gone.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> =
            self.processes().into_iter().map(|process| format!("{process:?}")).collect();
        if self.path("c/skync/config.toml").exists() {
            left.extend(containers_of(self).into_iter().map(|id| format!("container {id}")));
        }
        left.extend(self.mounts().into_iter().map(|at| format!("a mount at {}", at.display())));
        left.extend(self.in_the_cloud());
        for directory in ["s/skync/sandboxes", "s/skync/journal", "r/skync"] {
            let Ok(entries) = std::fs::read_dir(self.path(directory)) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                // An empty lock says nothing; its file cannot be removed without a race.
                if directory != "r/skync" || !name.ends_with(".lock") {
                    left.push(format!("{directory}/{name}"));
                }
            }
        }
        left
    }

    /// Where something of ours is mounted in this world, dead or alive.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        let mounts = skync_mount::system::mounts().expect("the list of mounts");
        let here =
            mounts.into_iter().map(|mount| mount.at).filter(|at| at.starts_with(self.base()));
        here.collect()
    }

    /// Fails the test unless nothing of ours is left at this moment.
    #[track_caller]
    pub(crate) fn expect_nothing_left(&self) {
        let left = self.leftovers();
        assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    }

    /// Waits, [`PATIENCE`] long, until nothing of ours is left.
    #[track_caller]
    pub(crate) fn wait_until_nothing_is_left(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.leftovers().is_empty() {
            let left = self.leftovers();
            assert!(Instant::now() < deadline, "still left behind:\n{}", left.join("\n"));
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Running {
    /// Waits until the command has written this line.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, line: &str) -> &mut Self {
        wait_until(&format!("it says `{line}`"), || {
            let said = self.stdout();
            let there = said.lines().any(|said| said == line);
            let over = !there && self.child.try_wait().is_ok_and(|status| status.is_some());
            // What it wrote before its end may not have been read yet.
            assert!(
                !over || self.stdout().lines().any(|said| said == line),
                "it ended without `{line}`: {}",
                self.stderr()
            );
            there || over
        });
        self
    }

    /// What the command line's own process is.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What was written to standard output so far.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.streams[0]).expect("output")).into_owned()
    }

    /// What was written to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.streams[1]).expect("output")).into_owned()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Outcome {
        let mut status = None;
        wait_until("skync ends", || {
            status = self.child.try_wait().expect("waited");
            status.is_some()
        });
        let code = status.and_then(|status| status.code()).unwrap_or(-1);
        Outcome { code, stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process of a world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `skync` as a person started it.
    CommandLine,
    /// The session's parent.
    Keeper,
    /// The session.
    Session,
    /// The agent itself.
    Agent,
    /// A process of the agent's for one operation.
    Supervisor,
    /// A command that runs, or what it started.
    Command,
}

/// A living process of a world.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: u32,
    /// What it is.
    pub(crate) kind: Kind,
    /// Its command line, for a failing test's message.
    #[expect(dead_code, reason = "shown by Debug")]
    line: String,
}

impl Process {
    /// The process of that number, if it has to do with the world at `base`.
    fn look(pid: u32, base: &Path) -> Option<Self> {
        if pid == std::process::id() {
            return None;
        }
        let place = PathBuf::from(format!("/proc/{pid}"));
        let read = |name: &str| std::fs::read(place.join(name)).unwrap_or_default();
        let link = |name: &str| std::fs::read_link(place.join(name)).unwrap_or_default();
        let (line, environment) = (read("cmdline"), read("environ"));
        let needle = base.as_os_str().as_encoded_bytes();
        let names = |bytes: &[u8]| bytes.windows(needle.len()).any(|part| part == needle);
        if !names(&line)
            && !names(&environment)
            && !link("cwd").starts_with(base)
            && !link("exe").starts_with(base)
        {
            return None;
        }
        // A zombie is no process any more; its parent has only not looked yet.
        let status = String::from_utf8_lossy(&read("status")).into_owned();
        if status.is_empty() || status.lines().any(|line| line.starts_with("State:\tZ")) {
            return None;
        }
        let words: Vec<String> =
            line.split(|byte| *byte == 0).map(|w| String::from_utf8_lossy(w).into()).collect();
        let program = words[0].rsplit('/').next().unwrap_or_default();
        let word = words.get(1).map_or("", String::as_str);
        let kind = match (program, word) {
            ("skync", "__session") if words.iter().any(|word| word == "--serve") => Kind::Session,
            ("skync", "__session") => Kind::Keeper,
            ("skync", _) => Kind::CommandLine,
            (agent, "serve") if agent.starts_with("skync-agent") => Kind::Agent,
            (agent, _) if agent.starts_with("skync-agent") => Kind::Supervisor,
            _ => Kind::Command,
        };
        Some(Self { pid, kind, line: words.join(" ") })
    }
}

/// Sends a signal, by its name, to these processes at once; those that are gone do not matter.
pub(crate) fn signal(name: &str, pids: &[u32]) {
    let numbers = pids.iter().map(ToString::to_string);
    let mut kill = Command::new("kill");
    kill.arg(format!("-{name}")).args(numbers).stderr(Stdio::null());
    kill.status().expect("kill runs");
}
