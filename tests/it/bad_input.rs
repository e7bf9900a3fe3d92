//! Bad input and bad luck get a clear error with the right code, and nothing is lost or left.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::mount::Mount;
use crate::support::processes::{Kind, Running, signal};
use crate::support::{Outcome, SPECKIT, World, containers_of, docker_is_there, wait_until};

/// Fails unless the command failed with `code` and its message has all these parts.
#[track_caller]
fn expect_error(outcome: Outcome, code: i32, parts: &[&str]) {
    let outcome = outcome.expect_code(code);
    for part in [&["error: "], parts].concat() {
        assert!(outcome.stderr.contains(part), "no `{part}` in: {}", outcome.stderr);
    }
}

/// A world with a file, and a profile of that name that is used.
fn with_profile(arguments: &[&str]) -> World {
    let world = World::new();
    world.write("kept", "as it was");
    world.run(&[&["profile", "add", "p"], arguments].concat()).expect_code(0);
    world.run(&["use", "p"]).expect_code(0);
    world
}

#[track_caller]
fn expect_untouched(world: &World) {
    assert_eq!(world.read("kept"), "as it was");
    assert_eq!(names(world.project()), ["kept"]);
    world.expect_nothing_left();
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("listed").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn without_an_engine_the_socket_and_what_to_start_are_named() {
    let world =
        with_profile(&["--driver", "docker", "--image", "x", "--host", "unix:///nonexistent.sock"]);
    let parts = [
        "cannot reach a Docker engine at `/nonexistent.sock`",
        "there is no such socket",
        "hint: start the engine",
    ];
    expect_error(world.exec(&["true"]), 125, &parts);
    expect_untouched(&world);
}

#[test]
fn an_image_that_is_not_to_be_had_is_named_with_near_ones() {
    if !docker_is_there() {
        return;
    }
    let image = "skync-test/speckit:1.2.4";
    let world = with_profile(&["--driver", "docker", "--image", image]);
    let parts = ["the image `skync-test/speckit:1.2.4` is not here", "did you mean `", SPECKIT];
    expect_error(world.exec(&["true"]), 125, &parts);
    expect_untouched(&world);
}

#[test]
fn an_unknown_profile_is_told_with_the_nearest() {
    let world = with_profile(&["--driver", "directory"]);
    world.run(&["profile", "add", "python", "--driver", "directory"]).expect_code(0);
    let run = |arguments: &[&str]| world.run(arguments);
    let parts = ["there is no profile `pyton`", "did you mean `python`?"];
    expect_error(run(&["--profile", "pyton", "exec", "true"]), 125, &parts);
    expect_error(run(&["use", "pyton"]), 5, &parts);
    expect_untouched(&world);
}

#[test]
fn an_unknown_driver_is_told_with_the_nearest() {
    let world = World::new();
    let add = world.run(&["profile", "add", "x", "--driver", "dokcer", "--image", "a"]);
    expect_error(add, 3, &["there is no driver `dokcer`", "did you mean `docker`?"]);
    assert!(!world.path("c/skync/config.toml").exists(), "a wrong profile was written");
}

#[test]
fn an_unknown_key_is_told_with_file_line_and_the_nearest() {
    let world = with_profile(&["--driver", "directory"]);
    let file = world.path("c/skync/config.toml");
    let text = "# mine\nprofile = \"p\"\n\n[profiles.p]\ndriver = \"directory\"\nexlude = []\n";
    #[expect(clippy::disallowed_methods, reason = "a configuration as a person would write it")]
    std::fs::write(&file, text).expect("written");
    let place = format!("{}:6:1: unknown key `exlude`", file.display());
    let parts = [&place, "exlude = []", "did you mean `exclude`?"];
    expect_error(world.exec(&["true"]), 125, &parts);
    expect_error(world.run(&["profile", "validate"]), 3, &parts);
    expect_untouched(&world);
}

#[test]
fn a_file_is_no_project() {
    let world = World::new();
    let file = world.write("kept", "as it was");
    let run = world.run(&["exec", "--root", file.to_str().expect("utf-8"), "true"]);
    expect_error(run, 125, &["kept` as the project: it is not a directory", "hint: "]);
    let run = world.run(&["exec", "--root", "nothing", "true"]);
    expect_error(run, 125, &["nothing` as the project", "No such file"]);
    expect_untouched(&world);
}

#[test]
fn the_whole_machine_is_no_project() {
    let world = World::new();
    let run = world.run(&["exec", "--root", "/", "true"]);
    expect_error(run, 125, &["the project would be `/`", "`--root DIR`", "`--force`"]);
    world.expect_nothing_left();
}

#[test]
fn the_home_directory_is_a_project_only_by_force() {
    let world = World::new();
    let home = world.path("home");
    let run = |flags: &[&str]| {
        let mut command =
            world.skync([&["exec"], flags, &["--", "sh", "-c", "echo 1 > made"]].concat());
        outcome(command.current_dir(&home))
    };
    expect_error(run(&[]), 125, &["the home directory", "`--root DIR`", "`--force`"]);
    assert!(!home.join("made").exists());
    run(&["--force"]).expect_code(0);
    assert!(home.join("made").exists());
    world.expect_nothing_left();
}

fn outcome(command: &mut Command) -> Outcome {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn a_file_that_is_not_executable_is_not_called_missing() {
    let world = World::new();
    world.write("kept", "as it was");
    expect_error(world.exec(&["./kept"]), 126, &["kept", "not executable"]);
    expect_error(world.exec(&["./nosuch"]), 127, &["nosuch"]);
    expect_untouched(&world);
}

/// `skync exec true` with agents from that directory.
fn exec_with_agents(world: &World, directory: &Path) -> Outcome {
    outcome(world.skync(["exec", "true"]).env("SKYNC_AGENT_DIR", directory))
}

/// A world without and one with Docker, if there is one.
fn worlds() -> Vec<World> {
    let worlds: Vec<World> =
        std::iter::once(World::new()).chain(World::with_docker(SPECKIT)).collect();
    for world in &worlds {
        world.write("kept", "as it was");
    }
    worlds
}

/// A directory with this as the agent for this machine's type.
fn agents(world: &World, agent: impl AsRef<[u8]>) -> PathBuf {
    let directory = world.path("agents");
    std::fs::create_dir(&directory).expect("made");
    let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
    #[expect(clippy::disallowed_methods, reason = "a test's own agent")]
    std::fs::write(directory.join(format!("skync-agent-{machine}")), agent).expect("written");
    directory
}

#[test]
fn an_agent_directory_that_is_not_there_is_named_with_its_variable() {
    for world in worlds() {
        let run = exec_with_agents(&world, Path::new("/nonexistent"));
        let parts = ["cannot read the agent `/nonexistent/skync-agent-", "hint: SKYNC_AGENT_DIR"];
        expect_error(run, 125, &parts);
        expect_untouched(&world);
    }
}

#[test]
fn an_agent_that_is_no_program_is_told() {
    for world in worlds() {
        let agents = agents(&world, "no program\n");
        let run = exec_with_agents(&world, &agents);
        assert!(run.stderr.to_lowercase().contains("exec format error"), "{}", run.stderr);
        expect_error(run, 125, &["skync-agent-"]);
        expect_untouched(&world);
    }
}

#[test]
fn an_agent_that_ends_at_once_is_told_with_its_last_words() {
    let world = World::new();
    world.write("kept", "as it was");
    let agents = agents(&world, "#!/bin/sh\necho I give up >&2\nexit 3\n");
    let run = exec_with_agents(&world, &agents);
    expect_error(run, 125, &["the agent of `", "ended with exit code 3: I give up"]);
    expect_untouched(&world);
}

/// An agent that answers a greeting with protocol 9 and says nothing more.
const OTHER_AGENT: &str = r#"
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

fn meet(mut stream: UnixStream) {
    let hello = b"SKYNC\r\n\0\0\0\0\x02\x08\x09";
    let _ = stream.write_all(hello);
    let _ = stream.read_to_end(&mut Vec::new());
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1)
    };
    if arguments[1] != "serve" {
        return;
    }
    if let Some(socket) = after("--dial") {
        meet(UnixStream::connect(socket).unwrap());
    }
    let listener = UnixListener::bind(after("--socket").unwrap()).unwrap();
    listener.incoming().for_each(|stream| meet(stream.unwrap()));
}
"#;

#[test]
fn an_agent_of_another_release_is_refused() {
    for world in worlds() {
        let (source, program) = (world.path("agent.rs"), world.path("agent"));
        #[expect(clippy::disallowed_methods, reason = "a test's own program")]
        std::fs::write(&source, OTHER_AGENT).expect("written");
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()));
        rustc.args(["--edition=2021", "-C", "target-feature=+crt-static", "-o"]);
        let built = rustc.args([&program, &source]).status().expect("rustc runs");
        assert!(built.success());
        let agents = agents(&world, std::fs::read(&program).expect("built"));
        let run = exec_with_agents(&world, &agents);
        let parts =
            ["the agent speaks protocol 9, this skync speaks 2", "hint: ", "SKYNC_AGENT_DIR"];
        expect_error(run, 125, &parts);
        expect_untouched(&world);
    }
}

#[test]
fn a_sandbox_that_is_killed_under_a_command_is_told() {
    for verb in [&["kill"][..], &["rm", "-f"]] {
        let Some(world) = World::with_docker(SPECKIT) else { return };
        world.write("kept", "as it was");
        let mut running =
            world.start_exec(&[], &["sh", "-c", "echo no > kept; echo ready; sleep 300"]);
        running.wait_for("ready");
        let ids = containers_of(&world);
        assert_eq!(ids.len(), 1);
        let docker = Command::new("docker").args(verb).args(&ids).stdout(Stdio::null()).status();
        assert!(docker.expect("docker runs").success());
        let parts =
            ["the sandbox `skync-", "was killed", "its outcome is not known", "hint: what it had"];
        expect_error(running.finish(), 123, &parts);
        expect_untouched(&world);
    }
}

#[test]
fn a_command_that_needs_too_much_memory_is_told_with_the_limit() {
    if !docker_is_there() {
        return;
    }
    let world = with_profile(&[
        "--driver",
        "docker",
        "--image",
        SPECKIT,
        "--memory",
        "64MiB",
        "--network",
        "none",
    ]);
    let program = "open('made', 'w').write('1'); x = bytearray(500 << 20); x[::4096] = x[::4096]";
    let outcome = world.exec(&["python3", "-c", program]).expect_code(137);
    assert!(outcome.stderr.contains("memory limit of 64 MiB"), "{}", outcome.stderr);
    world.expect_nothing_left();
    assert_eq!(names(world.project()), ["kept", "made"]);
}

#[test]
fn a_full_disk_in_the_sandbox_stops_before_the_command() {
    let world = World::new();
    let base = world.path("base");
    let Some(_mount) = Mount::new(&base, 24) else { return };
    world.write("kept", "as it was");
    let large: Vec<u8> =
        (0..25_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    world.write("large", &large);
    let base = base.to_str().expect("utf-8");
    world.run(&["profile", "add", "p", "--driver", "directory", "--base", base]).expect_code(0);
    let parts = ["the sandbox's disk is full", "hint: give the sandbox more room", "--exclude"];
    expect_error(world.exec(&["touch", "ran"]), 125, &parts);
    assert_eq!(names(world.project()), ["kept", "large"]);
    assert_eq!(names(Path::new(base)), [""; 0]);
    world.expect_nothing_left();
    // The way out that the hint names.
    world.run(&["exec", "--exclude", "large", "--", "touch", "ran"]).expect_code(0);
    assert_eq!(names(world.project()), ["kept", "large", "ran"]);
}

#[test]
fn a_disk_without_room_for_the_agent_is_named() {
    let world = World::new();
    let base = world.path("base");
    let Some(_mount) = Mount::new(&base, 1) else { return };
    world.write("kept", "as it was");
    let base = base.to_str().expect("utf-8");
    world.run(&["profile", "add", "p", "--driver", "directory", "--base", base]).expect_code(0);
    let parts = [base, "No space left on device", "hint: free some room"];
    expect_error(world.exec(&["true"]), 125, &parts);
    assert_eq!(names(Path::new(base)), [""; 0]);
    expect_untouched(&world);
}

#[test]
fn results_that_do_not_fit_on_the_host_wait_in_the_sandbox() {
    let world = World::new();
    let Some(mount) = Mount::new(world.project(), 2) else { return };
    world.write("kept", "as it was");
    let command = "echo a > a; head -c 5000000 /dev/zero > large; echo z > z";
    let run = world.exec(&["sh", "-c", command]);
    assert!(run.stderr.contains("not synced: large (host): "), "{}", run.stderr);
    assert!(run.stderr.contains("warning: the sandbox is kept: "), "{}", run.stderr);
    expect_error(run, 1, &["the host's disk is full", "hint: the sandbox is kept"]);
    assert_eq!(names(world.project()), ["a", "kept", "z"]);

    let parts = ["the session stays: the host's disk is full", "`skync down --discard` gives up"];
    expect_error(world.run(&["down"]), 6, &parts);
    let status = world.run(&["status"]).expect_code(0);
    assert!(status.stdout.contains("kept: the host's disk is full"), "{}", status.stdout);

    mount.grow(20);
    world.exec(&["true"]).expect_code(0);
    assert_eq!(names(world.project()), ["a", "kept", "large", "z"]);
    assert_eq!(std::fs::read(world.project().join("large")).expect("read"), vec![0; 5_000_000]);
    world.expect_nothing_left();
}

#[test]
fn a_session_that_is_terminated_keeps_what_is_not_home() {
    let world = World::new();
    let Some(mount) = Mount::new(world.project(), 2) else { return };
    world.exec(&["sh", "-c", "head -c 5000000 /dev/zero > large"]).expect_code(1);
    signal("TERM", &[world.process(Kind::Session)]);
    wait_until("the session has heard it", || {
        let log = std::fs::read_to_string(world.path("s/skync/session.log")).expect("a log");
        log.contains("stays although a signal asked it to end")
    });
    mount.grow(20);
    world.exec(&["true"]).expect_code(0);
    assert_eq!(names(world.project()), ["large"]);
    world.expect_nothing_left();
}

#[test]
fn what_is_only_in_the_sandbox_can_be_given_up() {
    let world = World::new();
    let Some(_mount) = Mount::new(world.project(), 2) else { return };
    world.exec(&["sh", "-c", "head -c 5000000 /dev/zero > large"]).expect_code(1);
    world.run(&["down", "--discard"]).expect_code(0);
    assert_eq!(names(world.project()), [""; 0]);
    world.expect_nothing_left();
}

/// A world whose files belong to a user who is not root, and `skync` as that user.
struct Unprivileged(World);

impl Unprivileged {
    fn new(world: World) -> Self {
        std::fs::copy(env!("CARGO_BIN_EXE_skync"), world.path("skync")).expect("copied");
        let user = Self(world);
        if user.is_another() {
            let owner =
                Command::new("chown").args(["-R", "65534:65534"]).arg(user.0.base()).status();
            assert!(owner.expect("chown runs").success());
        }
        user
    }

    /// False if the tests themselves run without privileges.
    fn is_another(&self) -> bool {
        rustix::process::geteuid().is_root()
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let like = self.0.skync(arguments);
        let program = self.0.path("skync");
        let mut command = if self.is_another() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(arguments).current_dir(self.0.project());
        for (name, value) in like.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        outcome(&mut command)
    }
}

impl Drop for Unprivileged {
    fn drop(&mut self) {
        let _ = self.run(&["down", "--discard"]);
    }
}

fn set_mode(path: &Path, mode: u32) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, mode).expect("changed");
}

#[test]
fn an_unreadable_file_is_reported_and_the_rest_is_synchronised() {
    let world = World::new();
    world.write("kept", "as it was");
    let secret = world.write("secret", "no");
    set_mode(&secret, 0);
    let user = Unprivileged::new(world);
    let outcome = user.run(&["exec", "sh", "-c", "ls; echo 1 > made; exit 4"]).expect_code(4);
    assert_eq!(outcome.stdout, "kept\n");
    let told = "not synced: secret (host): permission denied";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
    assert_eq!(names(user.0.project()), ["kept", "made", "secret"]);
    user.0.expect_nothing_left();
}

#[test]
fn a_read_only_project_keeps_results_in_the_sandbox_until_it_can_be_written() {
    let world = World::new();
    world.write("kept", "as it was");
    let user = Unprivileged::new(world);
    let project = user.0.project();
    set_mode(project, 0o555);
    let run = user.run(&["exec", "sh", "-c", "echo 1 > made"]);
    assert!(run.stderr.contains("not synced: made (host): "), "{}", run.stderr);
    expect_error(run, 1, &["could not be written on the host", "hint: the sandbox is kept"]);
    set_mode(project, 0o755);
    user.run(&["exec", "true"]).expect_code(0);
    assert_eq!(names(project), ["kept", "made"]);
    user.0.expect_nothing_left();
}

/// Runs `then` in the sandbox once [`Held::go_on`] says so.
struct Held {
    running: Running,
    /// The project in the sandbox.
    sandbox: PathBuf,
}

fn held(world: &World, then: &str) -> Held {
    let script = format!("pwd; echo ready; until [ -e go ]; do sleep 0.02; done; rm go; {then}");
    let mut running = world.start_exec(&[], &["sh", "-c", &script]);
    running.wait_for("ready");
    let sandbox = running.stdout().lines().next().expect("a line").into();
    Held { running, sandbox }
}

impl Held {
    #[track_caller]
    fn go_on(self) -> Outcome {
        std::fs::File::create(self.sandbox.join("go")).expect("made");
        self.running.finish()
    }
}

#[test]
fn a_project_that_goes_away_under_a_command_takes_nothing_else_with_it() {
    let world = World::new();
    world.write("kept", "as it was");
    let held = held(&world, "echo 1 > made");
    let (sandbox, aside) = (held.sandbox.clone(), world.path("aside"));
    #[expect(clippy::disallowed_methods, reason = "what a user does")]
    std::fs::rename(world.project(), &aside).expect("moved");
    let outcome = held.go_on();
    // Whichever is noticed first.
    let why = ["the root on the host is gone", "the project could not be read"];
    assert!(why.iter().any(|why| outcome.stderr.contains(why)), "{}", outcome.stderr);
    expect_error(outcome, 1, &["the sandbox is kept"]);
    assert!(!world.project().exists(), "the project was made anew");
    assert_eq!(names(&aside), ["kept"]);
    assert_eq!(names(&sandbox), ["kept", "made"]);
    // Once it is back, so are the results.
    #[expect(clippy::disallowed_methods, reason = "what a user does")]
    std::fs::rename(&aside, world.project()).expect("moved");
    world.exec(&["true"]).expect_code(0);
    assert_eq!(names(world.project()), ["kept", "made"]);
    world.expect_nothing_left();
}

#[test]
fn a_file_changed_on_both_sides_stays_on_both_until_a_person_decides() {
    let world = World::new();
    let file = world.write("a", "before");
    let held = held(&world, "echo sandbox > a; echo 1 > made");
    let sandbox = held.sandbox.clone();
    world.write("a", "host\n");
    let outcome = held.go_on();
    for part in ["warning: conflict: a: ", "both versions are kept", "the sandbox is kept: 1 path "]
    {
        assert!(outcome.stderr.contains(part), "no `{part}` in: {}", outcome.stderr);
    }
    assert_eq!(world.read("a"), "host\n");
    assert_eq!(std::fs::read_to_string(sandbox.join("a")).expect("read"), "sandbox\n");
    assert_eq!(world.read("made"), "1\n", "the rest came home");
    expect_error(world.run(&["down"]), 6, &["1 path is in conflict", "--discard"]);

    #[expect(clippy::disallowed_methods, reason = "how a person decides for the sandbox's")]
    std::fs::remove_file(file).expect("removed");
    world.exec(&["true"]).expect_code(0);
    assert_eq!(world.read("a"), "sandbox\n");
    world.expect_nothing_left();
}

fn with_30_files() -> World {
    let world = World::new();
    for number in 0..30 {
        world.write(&format!("file{number:02}"), number.to_string());
    }
    world
}

#[test]
fn a_sandbox_that_was_emptied_does_not_empty_the_host() {
    let lost = [
        ("rm -rf *", "is empty and held 30 entries"),
        ("rm file*; echo > x", "30 of the 30 files"),
    ];
    for (command, why) in lost {
        let world = with_30_files();
        let before = names(world.project());
        let run = world.exec(&["sh", "-c", command]);
        expect_error(run, 1, &[why, "nothing was changed", "hint: the sandbox is kept"]);
        assert_eq!(names(world.project()), before);
        expect_error(world.run(&["down"]), 6, &[why, "--discard"]);
        world.run(&["down", "--discard"]).expect_code(0);
        assert_eq!(names(world.project()), before);
        world.expect_nothing_left();
    }
}

#[test]
fn a_few_deletions_are_carried_out() {
    let world = with_30_files();
    world.exec(&["sh", "-c", "rm file0*"]).expect_code(0);
    assert_eq!(names(world.project()).len(), 20);
    world.expect_nothing_left();
}
