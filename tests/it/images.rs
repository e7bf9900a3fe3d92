//! The agent needs nothing: images without a shell or a libc, other users, containers of others,
//! both kinds of link.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::{
    ALPINE_LIKE, EMPTY, Outcome, SPECKIT, World, containers_of, docker_is_there, wait_until,
    with_input,
};

/// A program for images with nothing in them: it says what it sees, and writes down what it reads.
const TOOL: &str = r##"
use std::io::{Read, Write};
fn main() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ids: Vec<&str> = status.lines().filter(|l| l.starts_with("Uid") || l.starts_with("Gid"))
        .map(|l| l.split_whitespace().nth(1).unwrap()).collect();
    let first = std::fs::read("/proc/1/cmdline").unwrap();
    let first = String::from_utf8_lossy(first.split(|b| *b == 0).next().unwrap()).into_owned();
    println!("{} {} {first}", ids.join(":"), std::env::current_dir().unwrap().display());
    std::io::stdout().flush().unwrap();
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).unwrap();
    std::fs::create_dir_all("out").unwrap();
    std::fs::write("out/input", &input).unwrap();
    eprint!("{} arguments", std::env::args().count() - 1);
    std::process::exit(7);
}
"##;

/// A world whose profile `docker` has these settings beside its image and no network.
fn world(settings: &[&str]) -> Option<World> {
    if !docker_is_there() {
        return None;
    }
    let world = World::new();
    let add = ["profile", "add", "docker", "--driver", "docker"];
    world.run(&[&add, settings].concat()).expect_code(0);
    Some(world)
}

/// Builds the tool, statically linked, into the project.
fn build_tool(world: &World) {
    let source = world.path("tool.rs");
    #[expect(clippy::disallowed_methods, reason = "a test's own files")]
    std::fs::write(&source, TOOL).expect("written");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler)
        .args(["--edition=2021", "-Ctarget-feature=+crt-static", "-Cstrip=symbols", "-o"])
        .arg(world.project().join("tool"))
        .arg(&source)
        .output()
        .expect("rustc runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs docker and returns what it says.
#[track_caller]
fn docker(arguments: &[&str]) -> String {
    String::from_utf8_lossy(&crate::support::docker(arguments)).trim_end().to_owned()
}

/// A container that is not skync's; removed with the value.
struct Container(String);

impl Container {
    fn run(settings: &[&str]) -> Self {
        let run = ["run", "--detach", "--network=none"];
        Self(docker(&[&run, settings, &[SPECKIT, "sleep", "infinity"]].concat()))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let remove = ["rm", "--force", &self.0];
        let _ = Command::new("docker").args(remove).stdout(Stdio::null()).status();
    }
}

/// A command that runs until its input ends, so that its sandbox stays for a look.
struct Running(Child);

impl Running {
    fn start(world: &World, command: &[&str]) -> Self {
        let mut skync = world.skync([&["exec", "--"], command].concat());
        Self(skync.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("skync runs"))
    }

    /// Waits for its first line of output.
    fn first_line(&mut self) -> String {
        use std::io::BufRead;
        let mut line = String::new();
        let output = self.0.stdout.as_mut().expect("piped");
        std::io::BufReader::new(output).read_line(&mut line).expect("readable");
        line
    }

    /// Ends its input, and waits.
    fn finish(&mut self) -> Option<i32> {
        drop(self.0.stdin.take());
        self.0.wait().expect("it ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.finish();
    }
}

#[test]
fn in_an_empty_image_any_command_is_not_found_and_says_so() {
    let Some(world) = World::with_docker(EMPTY) else { return };
    world.write("a", "a");
    for command in ["sh", "/bin/true", "./nosuch"] {
        let Outcome { stdout, stderr, .. } = world.exec(&[command]).expect_code(127);
        assert_eq!(stdout, "");
        assert!(stderr.contains("in the sandbox"), "{stderr}");
        assert!(stderr.contains(command.trim_start_matches("./")), "{stderr}");
    }
}

#[test]
fn in_an_empty_image_the_projects_own_static_program_runs() {
    let Some(world) = World::with_docker(EMPTY) else { return };
    build_tool(&world);
    let mut command = world.skync(["-q", "exec", "--", "./tool", "a", "b c"]);
    let output = with_input(&mut command, b"into\0nothing");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), &output.stderr);
    assert_eq!(output.status.code(), Some(7), "{out}{}", String::from_utf8_lossy(err));
    let said: Vec<&str> = out.trim_end().splitn(3, ' ').collect();
    assert_eq!(said[..2], ["0:0", &*world.project().to_string_lossy()]);
    // Process 1 is the agent, under a name that says which.
    let agent = said[2].strip_prefix("/.skync/skync-agent-").unwrap_or_else(|| panic!("{out}"));
    assert!(agent.len() >= 12 && agent.bytes().all(|byte| byte.is_ascii_hexdigit()), "{agent}");
    assert_eq!(String::from_utf8_lossy(err), "2 arguments");
    assert_eq!(world.read("out/input"), "into\0nothing");
}

#[test]
fn the_agent_in_the_sandbox_is_small_and_static() {
    let Some(world) = World::with_docker(EMPTY) else { return };
    build_tool(&world);
    let mut command = world.skync(["exec", "--", "./tool"]);
    // What skync carries, not what a developer's shell may put in its place.
    command.env_remove("SKYNC_AGENT_DIR").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = Running(command.spawn().expect("skync runs"));
    running.first_line();
    let [container] = &containers_of(&world)[..] else { panic!("one container") };
    let path = docker(&["inspect", "--format={{.Path}}", container]);
    let copy = world.path("agent");
    docker(&["cp", &format!("{container}:{path}"), copy.to_str().expect("text")]);
    assert_eq!(running.finish(), Some(7));

    let size = copy.metadata().expect("there").len();
    assert!(size <= 1 << 22, "{size} bytes");
    match Command::new("file").arg("--brief").arg(&copy).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.contains("static-pie linked") || said.contains("statically"), "{said}");
        }
        Err(error) => eprintln!("skipped: `file`: {error}"),
    }
}

#[test]
fn an_image_with_busybox_and_musl_works() {
    let Some(world) = World::with_docker(ALPINE_LIKE) else { return };
    world.write("in", "from the host\n");
    let script = "cat in; tr a-z A-Z < in > out; chmod 755 out; ln -s out link; exit 3";
    let Outcome { stdout, .. } = world.exec(&["sh", "-c", script]).expect_code(3);
    assert_eq!(stdout, "from the host\n");
    assert_eq!(world.read("out"), "FROM THE HOST\n");
    let out = world.project().join("out").metadata().expect("there");
    assert_eq!(out.mode() & 0o777, 0o755);
    let link = world.project().join("link");
    assert_eq!(std::fs::read_link(link).expect("a link"), PathBuf::from("out"));
}

#[test]
fn another_user_can_read_and_write_the_project() {
    let settings = ["--image", SPECKIT, "--network", "none", "--user", "12345:12345"];
    let Some(world) = world(&settings) else { return };
    world.write("in", "secret\n");
    world.write("deep/er/file", "x");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(world.project().join("in"), mode).expect("set");
    let script = "id -u; id -g; cat in; echo more >> in; mkdir new; echo 1 > new/made; rm -r deep";
    let Outcome { stdout, .. } = world.exec(&["sh", "-c", script]).expect_code(0);
    assert_eq!(stdout, "12345\n12345\nsecret\n");
    assert_eq!(world.read("in"), "secret\nmore\n");
    assert!(!world.project().join("deep").exists());
    let me = rustix::process::geteuid().as_raw();
    for (name, mode) in [("in", 0o600), ("new/made", 0o644)] {
        let found = world.project().join(name).metadata().expect("there");
        assert_eq!((found.uid(), found.mode() & 0o777), (me, mode), "{name}");
    }
}

#[test]
fn another_user_works_in_an_empty_image_too() {
    let settings = ["--image", EMPTY, "--network", "none", "--user", "12345:12345"];
    let Some(world) = world(&settings) else { return };
    build_tool(&world);
    let output = with_input(&mut world.skync(["exec", "--", "./tool"]), b"x");
    let out = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{out}{said}");
    assert!(out.starts_with("12345:12345 "), "{out}");
    assert_eq!(world.read("out/input"), "x");
}

#[test]
fn over_standard_streams_the_link_carries_everything_as_well() {
    let settings = ["--image", SPECKIT, "--network", "none", "--link", "stdio"];
    let Some(world) = world(&settings) else { return };
    world.write("in", "host\n");

    // Both ways, both streams, an exit code, the end of the input.
    let script = "cat > input; cat in; echo err >&2; echo sandbox > in; exit 42";
    let input: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let output = with_input(&mut world.skync(["-q", "exec", "--", "sh", "-c", script]), &input);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(42), "{said}");
    assert_eq!((&output.stdout[..], &*said), (&b"host\n"[..], "err\n"));
    assert!(std::fs::read(world.project().join("input")).expect("there") == input);
    assert_eq!(world.read("in"), "sandbox\n");

    // No link of the host is in the container, and 32 MiB come through whole.
    let script = "test ! -e /.skync/link || exit 9; head -c 33554432 /dev/urandom > data; \
                  sha256sum < data >&2; cat data; rm data";
    let mut command = world.skync(["-q", "exec", "--", "sh", "-c", script]);
    let output = command.output().expect("skync runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    use sha2::Digest;
    let digest = sha2::Sha256::digest(&output.stdout);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((output.stdout.len(), said.trim_end()), (32 << 20, &*format!("{digest}  -")));
    assert_eq!(containers_of(&world), Vec::<String>::new());
}

/// What must hold of a container of somebody else: it works there, and leaves nothing.
#[expect(clippy::disallowed_methods, reason = "a test's own file")]
fn check_container_of_another(settings: &[&str], ids: &str) {
    if !docker_is_there() {
        return;
    }
    let container = Container::run(settings);
    let Some(world) = world(&["--container", &container.0]) else { return };
    world.write("in", "one\n");
    world.write("script.sh", "#!/bin/sh\nid -u; id -g; cat in; echo made > made; exit 5\n");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(world.project().join("script.sh"), mode).expect("set");
    let Outcome { stdout, .. } = world.exec(&["./script.sh"]).expect_code(5);
    assert_eq!(stdout, format!("{ids}\none\n"));
    assert_eq!(world.read("made"), "made\n");

    let inside = |script: &str| docker(&["exec", "--user=0", &container.0, "sh", "-c", script]);
    let running = docker(&["inspect", "--format={{.State.Running}}", &container.0]);
    assert_eq!(running, "true");
    // `docker top` insists on the process id.
    let table = docker(&["top", &container.0, "-eo", "pid,args"]);
    let lines = table.lines().skip(1).filter_map(|line| line.trim_start().split_once(' '));
    let processes: Vec<&str> = lines.map(|(_, arguments)| arguments.trim()).collect();
    assert_eq!(processes, ["sleep infinity"]);
    assert_eq!(inside("ls -A /.skync 2>/dev/null; true"), "");
    assert_eq!(containers_of(&world), Vec::<String>::new());

    // The project stays there, and with it what both sides agreed on.
    world.write("in", "two\n");
    std::fs::remove_file(world.project().join("made")).expect("removed");
    let again = world.exec(&["sh", "-c", "cat in; ls made"]).expect_code(2);
    assert_eq!(again.stdout, "two\n");
    assert!(!world.project().join("made").exists());
}

#[test]
fn a_container_of_another_works_and_is_left_as_it_was() {
    check_container_of_another(&[], "0\n0");
}

#[test]
fn a_container_of_another_that_is_not_root_works_and_is_left_as_it_was() {
    check_container_of_another(&["--user=4321:4321"], "4321\n4321");
}

#[test]
fn orphans_are_reaped_so_that_no_zombie_stays() {
    let Some(world) = World::with_docker(SPECKIT) else { return };
    let mut running = Running::start(&world, &["sh", "-c", "echo up; cat"]);
    assert_eq!(running.first_line(), "up\n");
    let [container] = &containers_of(&world)[..] else { panic!("one container") };

    // Children of children whose parents are gone, in the command's group and out of it; one of
    // them takes its supervisor away, so that the rest of its family falls to process 1.
    let script = "for i in 1 2 3 4 5 6 7 8; do (setsid sh -c 'sleep 0.3 & exit' &); (sleep 0.2 &); \
                  done; exit 0";
    world.exec(&["sh", "-c", script]).expect_code(0);
    world.exec(&["sh", "-c", "(setsid sleep 0.3 &); kill -9 $PPID; sleep 9"]);

    let left = || {
        let table = docker(&["top", container, "-eo", "pid,stat,args"]);
        table.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let expected = ["skync-agent-", "skync-agent supervise", "sh -c echo up; cat", "cat"];
    wait_until("only what still runs is left, and no zombie", || {
        let left = left();
        left.len() == expected.len() && left.iter().all(|line| !line.contains("defunct"))
    });
    let left = left();
    for what in expected {
        assert!(left.iter().any(|line| line.contains(what)), "{what}: {left:#?}");
    }
    assert_eq!(running.finish(), Some(0));
}
