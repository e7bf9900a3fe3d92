//! Fixtures: a private world for each test, with a project, and the real binary.

pub mod client;
pub mod clouds;
pub mod fake_agent;
pub mod fault;
pub mod held;
pub mod keychain;
pub mod mount;
pub mod pair;
pub mod processes;
pub mod random;
pub mod sources;
pub mod terminal;
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
    /// Variables that `skync` gets beside its own.
    env: Vec<(String, String)>,
    /// Where its sandboxes are, if not on this machine. It goes last.
    cloud: Option<clouds::Cloud>,
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
        Self { project: path.join("project"), base, env: Vec::new(), cloud: None }
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

    /// Variables that `skync` gets beside its own.
    pub fn env(&self) -> &[(String, String)] {
        &self.env
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
            // What it says of who runs the tests is not said of who uses skync.
            .env_remove("CI")
            // The keychain of whoever runs the tests is not ours.
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .env("XDG_CONFIG_HOME", self.path("c"))
            .env("XDG_STATE_HOME", self.path("s"))
            .env("XDG_RUNTIME_DIR", self.path("r"))
            .env("HOME", self.path("home"))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
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
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.path("s/skync/session.log"));
            eprintln!("the session's log:\n{}", log.unwrap_or_default());
        }
        // Whatever a failing test left: its session, its sandboxes, its files.
        // A command that is still being cancelled is waited for.
        let deadline = Instant::now() + PATIENCE / 2;
        while self.run(&["down", "--discard"]).code != 0 && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(100));
        }
        let _ = self.run(&["gc"]);
        // The world's directory must not be removed through a mount.
        for at in self.mounts() {
            let _ = Command::new("umount").arg("-l").arg(at).status();
        }
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

/// What `docker` says, which must succeed.
#[track_caller]
pub fn docker(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("docker").args(arguments).output().expect("docker runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {said}");
    output.stdout
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

/// Writes a file of either side, with the directories above it.
#[track_caller]
pub fn put(side: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = side.join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    let mut file = std::fs::File::create(path).expect("made");
    std::io::Write::write_all(&mut file, content.as_ref()).expect("written");
}

/// Waits until a file has this content.
#[track_caller]
pub fn arrives(side: &Path, name: &str, content: &str) {
    let path = side.join(name);
    wait_until(&format!("{path:?} is {content:?}"), || {
        std::fs::read_to_string(&path).is_ok_and(|found| found == content)
    });
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
