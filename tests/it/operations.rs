//! A command in the sandbox is as good as one here: its arguments, streams, signals, exit code,
//! directory and environment.
//!
//! Most of it on the driver `directory`, whose processes can be seen from here.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    Outcome, SPECKIT, World, containers_of, docker_is_there, wait_until, with_input,
};

/// A world on each driver: what is the same on both is shown on both.
fn worlds() -> Vec<World> {
    [Some(World::new()), World::with_docker(SPECKIT)].into_iter().flatten().collect()
}

/// `skync exec` of a shell's script, without skync's own talk.
fn shell(world: &World, script: &str) -> Command {
    world.skync(["-q", "exec", "--", "sh", "-c", script])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Bytes that do not compress and are the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// A client that runs; stopped with the value, if it still does.
struct Client {
    child: Child,
    output: Option<BufReader<std::process::ChildStdout>>,
}

impl Client {
    /// Starts it with pipes for input and output.
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("skync runs");
        let output = child.stdout.take().map(BufReader::new);
        Self { child, output }
    }

    /// The next line of its output, without its end.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.as_mut().expect("piped").read_line(&mut line).expect("readable");
        line.trim_end().to_owned()
    }

    /// Everything that is left of its output.
    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.output.as_mut().expect("piped").read_to_end(&mut rest).expect("readable");
        rest
    }

    fn say(&mut self, bytes: &[u8]) {
        self.child.stdin.as_mut().expect("piped").write_all(bytes).expect("written");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for its end, and says how long that took.
    #[track_caller]
    fn ended(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        let mut status = None;
        wait_until("the command has ended", || {
            status = self.child.try_wait().expect("ours");
            status.is_some()
        });
        (status.expect("just seen"), begun.elapsed())
    }

    #[track_caller]
    fn expect_code(&mut self, code: i32) {
        assert_eq!(self.ended().0.code(), Some(code));
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps the session and its sandbox of a world, so that what runs meanwhile need not make them.
struct Kept(Client);

impl Kept {
    fn start(world: &World) -> Self {
        let mut client = Client::start(&mut shell(world, "echo up; cat"));
        assert_eq!(client.line(), "up");
        Self(client)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.0.child.stdin.take());
        let _ = self.0.child.wait();
    }
}

/// What all processes of the commands of this world have in their environment.
fn mark(world: &World) -> String {
    format!("SKYNC_TEST_MARK={}", world.path("mark").display())
}

/// `skync exec` of a script whose processes [`marked`] finds.
fn marked_shell(world: &World, script: &str) -> Command {
    world.skync(["-q", "exec", "-e", &mark(world), "--", "sh", "-c", script])
}

/// Living processes with all of `bytes` in their environment.
fn processes_with(bytes: &[u8]) -> Vec<u32> {
    let has = |pid: &u32| {
        // Gone, or a zombie, which has no environment.
        let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { return false };
        environment.windows(bytes.len()).any(|window| window == bytes)
    };
    let names = std::fs::read_dir("/proc").expect("there").flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(has).collect()
}

/// The processes of this world's commands; on the driver `directory` only.
fn marked(world: &World) -> Vec<u32> {
    processes_with(mark(world).as_bytes())
}

/// All processes of this world but this one: client, keeper, session, agent, commands.
fn others(world: &World) -> Vec<u32> {
    let mut all = processes_with(world.path("").as_os_str().as_bytes());
    all.retain(|pid| *pid != std::process::id());
    all
}

/// Resident memory of all processes of this world.
fn resident_bytes(world: &World) -> u64 {
    let all = others(world);
    assert!(all.len() >= 4, "not all are found: {all:?}");
    let of = |pid: &u32| -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    all.iter().filter_map(of).sum::<u64>() << 10
}

// --- arguments and exit codes ---

#[test]
fn every_argument_arrives_byte_for_byte() {
    let arguments: Vec<&OsStr> = [
        &b"plain"[..],
        b"two  words ",
        b"",
        b"'single' \"double\" `tick` $HOME $(id) \\ * ?",
        b"line\nbreak\ttab\r",
        b"\xff\xfe\x80 not text",
        "häuser ☃".as_bytes(),
        b"--help",
        b"-e",
        b"--",
        b"-",
        b"--profile=nosuch",
    ]
    .map(OsStr::from_bytes)
    .to_vec();
    let expected: Vec<u8> =
        arguments.iter().flat_map(|one| [one.as_bytes(), b"\0"].concat()).collect();
    for world in worlds() {
        let _kept = Kept::start(&world);
        // With and without the two dashes that end skync's own options.
        for start in [&["exec", "--", "printf", "%s\\0"][..], &["exec", "printf", "%s\\0"]] {
            let mut all: Vec<OsString> = start.iter().map(OsString::from).collect();
            all.extend(arguments.iter().map(OsString::from));
            let output = world.skync(all).output().expect("skync runs");
            assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
            assert_eq!(text(&output.stdout), text(&expected));
            assert_eq!(output.stdout, expected);
        }
    }
}

#[test]
fn the_exit_code_is_the_commands_and_128_plus_the_signal() {
    for world in worlds() {
        let _kept = Kept::start(&world);
        for code in [0, 1, 42, 123, 255] {
            world.exec(&["sh", "-c", &format!("exit {code}")]).expect_code(code);
        }
        for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
            world.exec(&["sh", "-c", &format!("kill -{signal} $$")]).expect_code(code);
        }
    }
}

#[test]
fn what_cannot_be_run_has_the_codes_of_a_shell_and_says_why() {
    let world = World::new();
    let executable = |name: &str, content: &str| {
        let path = world.write(name, content);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("set");
    };
    world.write("plain.sh", "#!/bin/sh\necho no\n");
    executable("lost.sh", "#!/opt/no/such/interpreter -x\n");
    executable("dos.sh", "#!/bin/sh\r\necho no\r\n");
    executable("bare", "echo bare \"$1\"\n");
    std::fs::create_dir(world.project().join("directory")).expect("made");

    let _kept = Kept::start(&world);
    let said = |command: &str, code: i32| {
        let Outcome { stdout, stderr, .. } = world.exec(&[command]).expect_code(code);
        assert_eq!(stdout, "");
        assert!(stderr.starts_with("error: "), "{stderr}");
        stderr
    };
    assert!(said("./plain.sh", 126).contains("plain.sh` is not executable"));
    assert!(said("./directory", 126).contains("directory` is a directory"));
    assert!(said("./lost.sh", 127).contains("`/opt/no/such/interpreter`"));
    let dos = said("./dos.sh", 127);
    assert!(dos.contains("`/bin/sh\\r`"), "the carriage return is to be seen: {dos}");
    assert!(said("./absent", 127).contains("absent` is not there in the sandbox"));
    assert!(said("absent", 127).contains("`absent` is not found in the sandbox"));
    assert!(said("", 127).contains("``"));
    // A script without a first line that names one is a shell's.
    let Outcome { stdout, .. } = world.exec(&["./bare", "x y"]).expect_code(0);
    assert_eq!(stdout, "bare x y\n");
}

// --- streams ---

#[test]
fn standard_input_arrives_whole_and_ends() {
    let input = noise(20 << 20);
    for world in worlds() {
        let output = with_input(&mut world.skync(["-q", "exec", "cat"]), &input);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(output.stdout == input, "{} bytes came back", output.stdout.len());
        let output = with_input(&mut world.skync(["-q", "exec", "wc", "-c"]), &input);
        assert_eq!(text(&output.stdout).trim(), "20971520");
        // `/dev/null` ends at once.
        let outcome = world.run(&["-q", "exec", "cat"]).expect_code(0);
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
    }
}

#[test]
fn a_command_that_does_not_read_its_input_ends_all_the_same() {
    for world in worlds() {
        let output = with_input(&mut world.skync(["-q", "exec", "true"]), &noise(20 << 20));
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
        // One that reads a little of it.
        let output = with_input(&mut shell(&world, "head -c 3; exit 4"), &[b'x'; 1 << 20]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(4), "xxx".into()));
        // And with an input that never comes and never ends.
        let mut client = Client::start(&mut world.skync(["-q", "exec", "true"]));
        client.expect_code(0);
    }
}

#[test]
fn both_streams_come_apart_and_unchanged() {
    let all: Vec<u8> = (0..=255).collect();
    let reverse: Vec<u8> = all.iter().rev().copied().chain(*b"\r\n\0\0no end").collect();
    for world in worlds() {
        world.write("out", &all);
        world.write("err", &reverse);
        let output = shell(&world, "cat out; cat err >&2").output().expect("skync runs");
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(output.stdout, all);
        assert_eq!(output.stderr, reverse);
    }
}

#[test]
fn a_lot_of_output_comes_through_whole() {
    for world in worlds() {
        // Not in the project, which would be synchronised.
        let script = "f=$(mktemp) && trap 'rm $f' EXIT && head -c 67108864 /dev/urandom > $f && \
                      sha256sum < $f >&2 && cat $f";
        let output = shell(&world, script).output().expect("skync runs");
        use sha2::Digest;
        let digest = sha2::Sha256::digest(&output.stdout);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 64 << 20));
        assert_eq!(text(&output.stderr), format!("{digest}  -\n"));
    }
}

#[test]
fn output_comes_while_the_command_runs_and_input_goes() {
    for world in worlds() {
        // Each side says the next word only after the other's.
        let script = "echo one; read a; echo two $a; read b; printf three; read c; echo four $c";
        let mut client = Client::start(&mut shell(&world, script));
        assert_eq!(client.line(), "one");
        client.say(b"A\n");
        assert_eq!(client.line(), "two A");
        client.say(b"B\n");
        // Not held back until its line has ended.
        let mut three = [0; 5];
        client.output.as_mut().expect("piped").read_exact(&mut three).expect("five bytes");
        assert_eq!(&three, b"three");
        client.say(b"C\n");
        assert_eq!(client.line(), "four C");
        client.expect_code(0);
    }
}

#[test]
fn a_reader_that_stops_holds_the_command_up_and_costs_no_memory() {
    let world = World::new();
    let mut client = Client::start(&mut marked_shell(&world, "exec yes 0123456789abcdef"));
    assert_eq!(client.line(), "0123456789abcdef");
    // From here on nobody reads.
    let [pid] = marked(&world)[..] else { panic!("one process") };
    let written = || -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).expect("it runs");
        let line = io.lines().find_map(|line| line.strip_prefix("wchar: "));
        line.expect("counted").parse().expect("a number")
    };
    let mut last = (written(), Instant::now());
    wait_until("the command waits for its reader", || {
        let now = written();
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(500)
    });
    let resident = resident_bytes(&world);
    assert!(resident < 200 << 20, "{} MiB after {} MiB", resident >> 20, last.0 >> 20);

    // Ctrl-C does not wait for the reader.
    let begun = Instant::now();
    client.signal(Signal::INT);
    wait_until("the command is gone", || marked(&world).is_empty());
    assert!(begun.elapsed() < Duration::from_secs(3), "it took {:?}", begun.elapsed());
    // What was written before is not lost.
    assert!(client.rest().ends_with(b"def\n") || last.0 > 0);
    client.expect_code(130);
}

#[test]
fn ctrl_c_reaches_a_command_whose_output_never_pauses() {
    for world in worlds() {
        let mut command = world.skync(["-q", "exec", "sh", "-c", "echo ready >&2; exec yes"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("skync runs");
        let mut line = String::new();
        let stderr = child.stderr.take().expect("piped");
        BufReader::new(stderr).read_line(&mut line).expect("readable");
        let mut client = Client { child, output: None };
        assert_eq!(line, "ready\n");
        client.signal(Signal::INT);
        let (status, took) = client.ended();
        assert_eq!(status.code(), Some(130));
        assert!(took < Duration::from_secs(10), "it took {took:?}");
    }
}

#[test]
fn a_reader_that_has_enough_ends_the_command() {
    for world in worlds() {
        let mut client = Client::start(&mut marked_shell(&world, "echo > made; exec yes"));
        assert_eq!(client.line(), "y");
        drop(client.output.take());
        let (status, took) = client.ended();
        assert_eq!(status.code(), Some(128 + 13));
        assert!(took < Duration::from_secs(10), "it took {took:?}");
        assert_eq!(marked(&world), Vec::<u32>::new());
        assert_eq!(world.read("made"), "\n");
    }
}

#[test]
fn something_left_in_the_background_does_not_hold_the_command() {
    for world in worlds() {
        // It has the command's streams, in a session of its own.
        let script = "setsid sleep 1000 & echo done";
        let output = marked_shell(&world, script).output().expect("skync runs");
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "done\n".into()));
        assert_eq!(marked(&world), Vec::<u32>::new(), "it goes with its sandbox");
    }
}

// --- signals ---

/// Says `ready`, and ends with 9 on INT, after some work.
const TRAPS_INT: &str = "trap 'echo trapped; echo late > late; exit 9' INT; \
                         trap 'echo by TERM; exit 10' TERM; \
                         echo ready; while :; do sleep 0.05; done";

#[test]
fn ctrl_c_is_the_commands_to_handle_and_its_results_come_home() {
    for world in worlds() {
        let mut client = Client::start(&mut shell(&world, TRAPS_INT));
        assert_eq!(client.line(), "ready");
        client.signal(Signal::INT);
        assert_eq!(text(&client.rest()), "trapped\n");
        client.expect_code(9);
        assert_eq!(world.read("late"), "late\n");
    }
}

#[test]
fn term_and_hangup_interrupt_the_command_before_they_kill_it() {
    for signal in [Signal::TERM, Signal::HUP] {
        let world = World::new();
        let mut client = Client::start(&mut marked_shell(&world, TRAPS_INT));
        assert_eq!(client.line(), "ready");
        client.signal(signal);
        assert_eq!(text(&client.rest()), "trapped\n");
        client.expect_code(9);
        assert_eq!(world.read("late"), "late\n");
        assert_eq!(marked(&world), Vec::<u32>::new());
    }
}

#[test]
fn a_second_ctrl_c_stops_whatever_the_command_has_started() {
    let world = World::new();
    // Out of the group, out of the session, without a parent, and deaf to all but KILL.
    let script = "trap 'echo heard' INT; trap '' TERM; echo begun > begun
        setsid sh -c 'trap \"\" INT TERM HUP; while :; do sleep 1; done' &
        (setsid sh -c '(trap \"\" INT TERM; sleep 1000; sleep 1000) & exit 0' &)
        echo ready; while :; do sleep 1; done";
    let mut client = Client::start(&mut marked_shell(&world, script));
    assert_eq!(client.line(), "ready");
    wait_until("its family is there", || marked(&world).len() >= 5);
    client.signal(Signal::INT);
    assert_eq!(client.line(), "heard");
    assert!(marked(&world).len() >= 4, "the first one is the command's to handle");
    client.signal(Signal::INT);
    let (status, took) = client.ended();
    assert_eq!(status.code(), Some(137));
    assert!(took < Duration::from_secs(15), "it took {took:?}");
    assert_eq!(marked(&world), Vec::<u32>::new());
    assert_eq!(world.read("begun"), "begun\n");
}

#[test]
fn a_third_ctrl_c_leaves_even_a_command_that_is_deaf_to_a_reader_that_is_gone() {
    let world = World::new();
    let script = "trap '' INT TERM; exec yes";
    let mut client = Client::start(&mut marked_shell(&world, script));
    assert_eq!(client.line(), "y");
    // How many it takes depends on how many are one by the time that they are seen.
    let begun = Instant::now();
    let mut status = None;
    wait_until("the client has left", || {
        let _ = kill_process(Pid::from_child(&client.child), Signal::INT);
        status = client.child.try_wait().expect("ours");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(4), "it took {:?}", begun.elapsed());
    wait_until("the session has stopped the command and ended", || others(&world).is_empty());
}

#[test]
fn a_reader_that_stops_at_the_very_end_can_be_left() {
    let world = World::new();
    // More than a pipe holds, and in few pieces: it is all on its way when the command ends.
    let script = "echo up; dd if=/dev/zero bs=200000 count=1; exit 6";
    let mut client = Client::start(&mut shell(&world, script));
    assert_eq!(client.line(), "up");
    let own = client.child.id();
    let sockets = || {
        let entries = std::fs::read_dir(world.path("r/skync")).expect("there").flatten();
        entries.filter(|entry| entry.path().extension() == Some(OsStr::new("sock"))).count()
    };
    wait_until("only the client is left", || others(&world) == [own] && sockets() == 0);
    client.signal(Signal::INT);
    client.expect_code(6);
}

#[test]
fn other_signals_are_passed_on() {
    let world = World::new();
    let script = "trap 'echo one' USR1; trap 'echo two; exit 3' USR2; echo ready; \
                  while :; do sleep 0.05; done";
    let mut client = Client::start(&mut shell(&world, script));
    assert_eq!(client.line(), "ready");
    client.signal(Signal::USR1);
    assert_eq!(client.line(), "one");
    client.signal(Signal::USR2);
    assert_eq!(client.line(), "two");
    client.expect_code(3);
}

// --- directory and environment ---

#[test]
fn the_command_starts_in_the_same_place_of_the_project() {
    for world in worlds() {
        let below = world.project().join("a b/ü");
        std::fs::create_dir_all(&below).expect("made");
        let root = world.project().to_str().expect("text").to_owned();
        let root = root.as_str();
        let kept = Kept::start(&world);
        let place = |current: &std::path::Path, settings: &[&str]| {
            let all = [&["-q", "exec"], settings, &["sh", "-c", "pwd"]].concat();
            let output = world.skync(all).current_dir(current).output().expect("skync runs");
            assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
            text(&output.stdout).trim_end().to_owned()
        };
        let check = |current, settings: &[&str], expected: &str| {
            let found = place(current, settings);
            // On the driver `directory` the project is below a directory of the sandbox's own.
            assert!(found.ends_with(&format!("/project{expected}")), "{settings:?}: {found}");
        };
        check(world.project(), &[], "");
        check(world.project(), &["-w", "a b/ü"], "/a b/ü");
        check(world.project(), &["--workdir", below.to_str().expect("text")], "/a b/ü");
        check(&below, &["--root", root], "/a b/ü");
        check(&below, &["--root", root, "-w", ".."], "/a b");
        assert_eq!(place(world.project(), &["-w", "/usr"]), "/usr");
        drop(kept);
        let (found, in_container) = (place(&below, &[]), world.run(&["profile", "show"]));
        if in_container.stdout.contains("docker") {
            // Without a repository the current directory is the project, at the path it has here.
            assert_eq!(found, below.to_string_lossy());
        }
        let missing = ["exec", "-w", "not/there", "true"];
        let Outcome { stderr, .. } = world.run(&missing).expect_code(125);
        assert!(stderr.contains("not/there` is not there in the sandbox"), "{stderr}");
    }
}

/// The environment of a command in the sandbox.
fn environment(world: &World, settings: &[&str]) -> std::collections::BTreeMap<String, String> {
    let mut command = world.skync([&["-q", "exec"], settings, &["env", "-0"]].concat());
    let path = std::env::var("PATH").expect("a path");
    command
        .env("PATH", format!("{path}:/only/on/the/host"))
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("GH_TOKEN", "gh")
        .env("LANG", "C")
        .env("LC_ALL", "POSIX")
        .env("SPECIFY_X", "a b")
        .env("SPECKIT_Y", "")
        .env("TERM", "xterm-test");
    let output = command.output().expect("skync runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let all = text(&output.stdout);
    let all = all.split_terminator('\0').map(|one| one.split_once('=').expect("a variable"));
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn of_the_hosts_environment_only_what_is_allowed_and_asked_for_goes_along() {
    if !docker_is_there() {
        return;
    }
    let world = World::new();
    let add = ["profile", "add", "docker", "--driver", "docker", "--image", SPECKIT];
    let settings = ["--network", "none", "--env", "FROM=profile", "--env", "WHO=profile=x"];
    world.run(&[&add[..], &settings].concat()).expect_code(0);
    let asked = ["-e", "K=V", "-e", "GH_TOKEN", "-e", "ABSENT", "-e", "A=b=c=", "-e", "FROM=line"];
    let found = environment(&world, &asked);
    let value = |name: &str| found.get(name).map(String::as_str);
    for (name, expected) in [
        ("K", Some("V")),
        ("GH_TOKEN", Some("gh")),
        ("ABSENT", None),
        ("A", Some("b=c=")),
        ("FROM", Some("line")),
        ("WHO", Some("profile=x")),
        ("AWS_SECRET_ACCESS_KEY", None),
        ("XDG_STATE_HOME", None),
        ("SPECIFY_X", Some("a b")),
        ("SPECKIT_Y", Some("")),
        ("TERM", Some("xterm-test")),
        ("LANG", Some("C.UTF-8")),
        ("LC_ALL", None),
        ("SKYNC", Some("1")),
    ] {
        assert_eq!(value(name), expected, "{name}: {found:#?}");
    }
    assert!(!value("PATH").expect("the image's").contains("/only/on/the/host"));
    assert_ne!(value("HOME"), world.path("home").to_str());
    // It is a locale that python can print in.
    let print = ["-q", "exec", "python3", "-c", "print('\\u2603 \\xe4')"];
    assert_eq!(world.run(&print).expect_code(0).stdout, "☃ ä\n");
}

#[test]
fn without_being_asked_no_secret_goes_along() {
    let world = World::new();
    let found = environment(&world, &[]);
    for name in ["AWS_SECRET_ACCESS_KEY", "GH_TOKEN", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"] {
        assert_eq!(found.get(name), None, "{name}");
    }
    assert_eq!(found.get("LANG").map(String::as_str), Some("C.UTF-8"));
}

#[test]
fn git_knows_the_hosts_user_and_trusts_the_project() {
    let Some(world) = World::with_docker(SPECKIT) else { return };
    let config = "[user]\n\tname = Ada \"Ä\" Löwe\n\temail = ada@example.org\n";
    #[expect(clippy::disallowed_methods, reason = "a test's own files")]
    std::fs::write(world.path("home").join(".gitconfig"), config).expect("written");
    let script = "git config user.name; git config user.email; git config safe.directory; \
                  git init -q . && chown -R 54321 . && git status --porcelain && echo trusted";
    let mut command = shell(&world, script);
    let output = command.env_remove("GIT_CONFIG_GLOBAL").output().expect("skync runs");
    let said = text(&output.stdout);
    // The quotes are git's, and gone once it has read them.
    assert_eq!(said, "Ada Ä Löwe\nada@example.org\n*\ntrusted\n", "{}", text(&output.stderr));
}

// --- in place ---

#[test]
fn the_profile_local_runs_in_place_and_leaves_no_trace() {
    let world = World::new();
    let state = || {
        let all = ["s", "r"].map(|name| std::fs::read_dir(world.path(name)).expect("there"));
        all.into_iter().flatten().count()
    };
    let below = world.project().join("below");
    std::fs::create_dir(&below).expect("made");
    let local =
        |words: &[&str]| world.skync([&["--profile", "local", "exec", "--"], words].concat());

    let script = "pwd; echo \"$SECRET\"; echo made > made; exit 42";
    let mut command = local(&["sh", "-c", script]);
    let output = command.current_dir(&below).env("SECRET", "kept").output().expect("it runs");
    assert_eq!(output.status.code(), Some(42), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), format!("{}\nkept\n", below.display()));
    assert_eq!(world.read("below/made"), "made\n");

    let output = local(&["nosuch"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(127));
    assert!(text(&output.stderr).contains("`nosuch`"));
    let output = local(&["./below/made"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(126));
    let output = local(&["./below"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(126));

    let mut client = Client::start(&mut local(&["sh", "-c", TRAPS_INT]));
    assert_eq!(client.line(), "ready");
    client.signal(Signal::INT);
    assert_eq!(text(&client.rest()), "trapped\n");
    client.expect_code(9);
    assert_eq!(with_input(&mut local(&["cat"]), b"in\0put").stdout, b"in\0put");
    assert_eq!(state(), 0, "no session, no state");
}

// --- several at the same time ---

#[test]
fn commands_at_the_same_time_share_one_sandbox() {
    for world in worlds() {
        let sandboxes = || {
            let place = std::fs::read_dir(world.path("s/skync/sandboxes"));
            place.map_or(0, Iterator::count) + containers_of(&world).len()
        };
        let script =
            |name: &str| format!("echo up; read x; echo {name} > {name}; cat ?.out; exit 5");
        let mut first = Client::start(&mut shell(&world, &script("1.out")));
        assert_eq!(first.line(), "up");
        let mut second = Client::start(&mut shell(&world, &script("2.out")));
        assert_eq!(second.line(), "up");
        assert_eq!(sandboxes(), 1);

        // The second ends first: its results are home, and the first goes on.
        second.say(b"go\n");
        assert_eq!(text(&second.rest()), "2.out\n");
        second.expect_code(5);
        assert_eq!(world.read("2.out"), "2.out\n");
        assert!(!world.project().join("1.out").exists());
        assert_eq!(sandboxes(), 1);

        first.say(b"go\n");
        assert_eq!(text(&first.rest()), "1.out\n2.out\n", "it sees what the second wrote");
        first.expect_code(5);
        assert_eq!(world.read("1.out"), "1.out\n");
        assert_eq!(sandboxes(), 0, "the last one takes it away");
    }
}

#[test]
fn results_are_home_also_after_a_failure() {
    for world in worlds() {
        world.write("old", "old\n");
        world.exec(&["sh", "-c", "echo 1 > one; rm old; exit 3"]).expect_code(3);
        assert_eq!(world.read("one"), "1\n");
        assert!(!world.project().join("old").exists());
        world.exec(&["sh", "-c", "echo 2 > two; kill -KILL $$"]).expect_code(137);
        assert_eq!(world.read("two"), "2\n");
    }
}
