//! Fixtures: a private world for each test, with a project, and the real binary.

pub mod held;
pub mod pair;
pub mod random;
pub mod tree;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The longest that anything in a test may take before it is called stuck.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The image with `specify`, `git`, `python3` and a shell.
pub const SPECKIT: &str = "skync-test/speckit:1.2.3";
/// The image with nothing in it.
pub const EMPTY: &str = "skync-test/empty:1";
/// The image with musl and busybox.
pub const ALPINE_LIKE: &str = "skync-test/alpine-like:1";

/// A world of its own: configuration, state, sockets and a project, removed with the value.
pub struct World {
    base: tempfile::TempDir,
    project: PathBuf,
}

impl World {
    /// A world with an empty project and no profile: the built-in `directory` is used.
    pub fn new() -> Self {
        // Short: a socket's path must fit in 107 bytes.
        let base = tempfile::Builder::new().prefix("skt").tempdir_in("/tmp").expect("a directory");
        let path = base.path().canonicalize().expect("a path");
        for directory in ["c", "s", "r", "home", "project"] {
            std::fs::create_dir(path.join(directory)).expect("made");
        }
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(path.join("r"), private).expect("private");
        Self { project: path.join("project"), base }
    }

    /// A world whose profile `docker` (image, no network) is used.
    pub fn with_docker(image: &str) -> Option<Self> {
        if !docker_is_there() {
            return None;
        }
        let world = Self::new();
        world.run(&[
            "profile",
            "add",
            "docker",
            "--driver",
            "docker",
            "--image",
            image,
            "--network",
            "none",
        ]);
        Some(world)
    }

    /// The project's directory.
    pub fn project(&self) -> &Path {
        &self.project
    }

    /// A path below this world that is not the project.
    pub fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    /// Writes a file of the project, with the directories above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.project.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        #[expect(clippy::disallowed_methods, reason = "a test's own files")]
        std::fs::write(&path, content).expect("written");
        path
    }

    /// Reads a file of the project as text.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.project.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The command `skync`, in the project and in this world.
    pub fn skync<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skync"));
        command
            .args(arguments)
            .current_dir(&self.project)
            .env_remove("SKYNC_PROFILE")
            .env("XDG_CONFIG_HOME", self.path("c"))
            .env("XDG_STATE_HOME", self.path("s"))
            .env("XDG_RUNTIME_DIR", self.path("r"))
            .env("HOME", self.path("home"))
            .stdin(Stdio::null());
        command
    }

    /// Runs `skync` to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(self.skync(arguments).output().expect("skync runs"))
    }

    /// Runs `skync exec -- …` to its end.
    pub fn exec(&self, command: &[&str]) -> Outcome {
        self.run(&[&["exec", "--"], command].concat())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Whatever a failing test left: its session, its sandboxes, its files.
        let _ = self.run(&["down", "--discard"]);
        let _ = self.run(&["gc"]);
    }
}

/// What a finished command said.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Outcome {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails the test, with everything that was said, unless the code is this one.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\nstdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }
}

/// True if an engine answers. If the tests are to fail without one (`SKYNC_REQUIRE`), they do.
pub fn docker_is_there() -> bool {
    let quiet =
        Command::new("docker").arg("info").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let there = quiet.is_ok_and(|status| status.success());
    let required = std::env::var("SKYNC_REQUIRE").unwrap_or_default();
    assert!(there || !required.split(',').any(|what| what == "docker"), "no Docker engine answers");
    if !there {
        eprintln!("skipped: no Docker engine answers (scripts/test starts one)");
    }
    there
}

/// Ids of the containers, running or not, that were made for this world's project.
pub fn containers_of(world: &World) -> Vec<String> {
    let label = format!("label=skync.project={}", world.project().display());
    let output = Command::new("docker").args(["ps", "-aq", "--filter", &label]).output();
    let text = output.expect("docker runs").stdout;
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "still not after {} s: {what}", PATIENCE.as_secs());
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

<<<<<<< HEAD
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

    fn stderr(&self) -> String {
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

/// What a test compares of one path: kind and mode, owner, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Type and permissions, as `stat` has them.
    pub mode: u32,
    /// The user who owns it.
    pub uid: u32,
    /// The content's digest; a symbolic link's target; nothing of a directory.
    pub content: String,
}

/// Everything below `root`, by its path relative to it.
pub fn tree(root: &Path) -> std::collections::BTreeMap<PathBuf, Found> {
    use std::os::unix::fs::MetadataExt;
    let mut found = std::collections::BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let stat = path.symlink_metadata().expect("there");
            let content = if stat.is_dir() {
                open.push(path.clone());
                String::new()
            } else if stat.is_symlink() {
                std::fs::read_link(&path).expect("a link").display().to_string()
            } else {
                blake3::hash(&std::fs::read(&path).expect("readable")).to_string()
            };
            let name = path.strip_prefix(root).expect("below").to_owned();
            found.insert(name, Found { mode: stat.mode(), uid: stat.uid(), content });
        }
    }
    found
}

/// Starts a command with these bytes as its standard input, and waits for its end.
pub fn with_input(command: &mut Command, input: &[u8]) -> Output {
    use std::io::Write;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    std::thread::scope(|scope| {
        // A command that does not read all of it breaks the pipe, which is no failure.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().expect("it ends")
    })
}
=======
pub mod fake_agent;
pub mod held;
pub mod pair;
pub mod random;
pub mod tree;
>>>>>>> t3
