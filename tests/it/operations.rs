//! A command in the sandbox is as good as one here: its arguments, streams, signals, exit code,
//! directory and environment.
//!
//! Most of it on the driver `directory`, whose processes can be seen from here.

mod awkward;
mod cancel;
mod detached;
mod report;
mod signals;
mod streams;
mod surroundings;

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::client::{Client, Kept, digest, shell, text};
use crate::support::{
    Outcome, SPECKIT, World, containers_of, docker_is_there, wait_until, with_input,
};

/// A world on each driver: what is the same on both is shown on both.
fn worlds() -> Vec<World> {
    [Some(World::new()), World::with_docker(SPECKIT)].into_iter().flatten().collect()
}

/// Bytes that do not compress and are the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
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

    let mut client = Client::start(&mut local(&["sh", "-c", signals::TRAPS_INT]));
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
