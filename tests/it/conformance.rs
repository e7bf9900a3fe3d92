//! What a user relies on, whatever the driver: each of these runs unchanged against a directory, a
//! container, E2B and Daytona.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use rustix::process::Signal;

use crate::support::client::{Client, digest, shell, text};
use crate::support::fault::FaultySession;
use crate::support::processes::{Kind, signal};
use crate::support::random::Random;
use crate::support::terminal::Terminal;
use crate::support::{SPECKIT, World, wait_until, with_input};

/// The same tests for every driver, each under a name of its own.
macro_rules! on_every_driver {
    ($($name:ident)*) => {
        on_every_driver! { @in directory { Some(World::new()) } $($name)* }
        on_every_driver! { @in docker { World::with_docker(super::SPECKIT) } $($name)* }
        on_every_driver! { @in e2b { World::with_e2b() } $($name)* }
        on_every_driver! { @in e2b_by_stream { World::with_e2b_options(&["--link", "stream"]) } $($name)* }
        on_every_driver! { @in daytona { World::with_daytona() } $($name)* }
    };
    (@in $driver:ident { $world:expr } $($name:ident)*) => {
        mod $driver {
            use super::World;

            $(#[test] fn $name() {
                if let Some(world) = $world {
                    super::$name(&world);
                }
            })*
        }
    };
}

on_every_driver! {
    arguments_streams_and_the_exit_code_pass_unchanged
    input_reaches_the_command_byte_for_byte
    the_directory_and_the_environment_are_mapped
    a_command_that_is_not_there_is_told_as_such
    a_signal_reaches_the_command_and_ends_it_as_such
    a_terminal_has_its_size_and_follows_it
    files_go_both_ways_as_they_are
    an_edit_during_a_mirror_arrives_on_the_other_side
    a_conflict_changes_nothing_and_is_told
    output_is_whole_after_cuts
    input_is_whole_after_cuts
    a_command_runs_on_while_there_is_no_link
    a_command_that_is_cancelled_leaves_no_process
    a_command_that_was_left_running_is_found_and_waited_for
    nothing_is_left_when_a_command_is_over
    a_client_that_dies_takes_nothing_with_it
    a_session_that_dies_is_succeeded
}

fn arguments_streams_and_the_exit_code_pass_unchanged(world: &World) {
    let arguments = ["two  words ", "", "'\"$HOME`*", "line\nbreak", "häuser ☃"];
    let script = "printf '<%s>' \"$@\"; echo problem >&2; exit 37";
    let all = [&["-q", "exec", "--", "sh", "-c", script, "sh"][..], &arguments].concat();
    let outcome = world.run(&all).expect_code(37);
    let expected: String = arguments.iter().map(|one| format!("<{one}>")).collect();
    assert_eq!(outcome.stdout, expected);
    assert_eq!(outcome.stderr, "problem\n");
}

fn input_reaches_the_command_byte_for_byte(world: &World) {
    let mut input = vec![0; 3 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut input);
    let output = with_input(&mut world.skync(["-q", "exec", "--", "cat"]), &input);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stdout == input, "{} bytes came back", output.stdout.len());
}

fn the_directory_and_the_environment_are_mapped(world: &World) {
    world.write("below/file", "here");
    let mut command = world.skync(["-q", "exec", "-e", "ONE=1 and more", "--", "sh", "-c"]);
    command.arg("cat file; echo; pwd; echo \"$ONE\"").current_dir(world.project().join("below"));
    let output = command.output().expect("it runs");
    let said = text(&output.stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines[0], lines[2]), ("here", "1 and more"), "{said} {}", text(&output.stderr));
    assert!(lines[1].ends_with("/below"), "{said}");
}

fn a_command_that_is_not_there_is_told_as_such(world: &World) {
    let outcome = world.exec(&["no-such-command-of-ours"]).expect_code(127);
    assert!(outcome.stderr.contains("no-such-command-of-ours"), "{}", outcome.stderr);
}

fn a_signal_reaches_the_command_and_ends_it_as_such(world: &World) {
    let script = "trap 'echo caught; exit 9' INT; echo up; while :; do sleep 0.05; done";
    let mut client = Client::start(&mut shell(world, script));
    assert_eq!(client.line(), "up");
    client.signal(Signal::INT);
    assert_eq!(client.line(), "caught");
    client.expect_code(9);
    world.exec(&["sh", "-c", "kill -KILL $$"]).expect_code(128 + 9);
}

fn a_terminal_has_its_size_and_follows_it(world: &World) {
    let script = "trap 'stty size' WINCH; stty size; while :; do sleep 0.05; done";
    let terminal = Terminal::start(&world.skync(["-q", "exec", "--", "sh", "-c", script]), 33, 91);
    terminal.expect("33 91");
    terminal.resize(20, 70);
    terminal.expect("20 70");
    terminal.keys("\u{3}");
    terminal.expect_end(130);
    terminal.expect_restored();
}

fn files_go_both_ways_as_they_are(world: &World) {
    let script = world.write("run.sh", "#!/bin/sh\necho ran > ran.txt\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("set");
    std::os::unix::fs::symlink("run.sh", world.project().join("link")).expect("made");
    let mut large = vec![0; 5 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut large);
    world.write("large", &large);
    for number in 0..300 {
        world.write(&format!("many/{}/{number}", number % 7), format!("{number}"));
    }
    let script = "./link && cp large copy && rm many/3/3 && chmod +x ran.txt && ln -s large l2 && \
                  mkdir -p new/deep && find many -type f | wc -l";
    let outcome = world.run(&["-q", "exec", "--", "sh", "-c", script]).expect_code(0);
    assert_eq!(outcome.stdout.trim(), "299");
    assert_eq!(world.read("ran.txt"), "ran\n");
    let ran = world.project().join("ran.txt").metadata().expect("there");
    assert_eq!(ran.permissions().mode() & 0o100, 0o100);
    assert!(std::fs::read(world.project().join("copy")).expect("there") == large);
    assert!(!world.project().join("many/3/3").exists());
    assert!(world.project().join("new/deep").is_dir());
    let target = std::fs::read_link(world.project().join("l2")).expect("a link");
    assert_eq!(target.to_str(), Some("large"));
}

fn an_edit_during_a_mirror_arrives_on_the_other_side(world: &World) {
    let script = "echo up; until [ \"$(cat from-host 2>/dev/null)\" = edited ]; do sleep 0.02; done; \
                  echo seen; echo answer > from-sandbox; cat";
    let up = world.skync(["up"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut up = up.expect("it runs");
    let mut client = Client::start(&mut shell(world, script));
    assert_eq!(client.line(), "up");
    world.write("from-host", "edited");
    assert_eq!(client.line(), "seen");
    wait_until("the answer is here", || {
        std::fs::read_to_string(world.project().join("from-sandbox")).is_ok_and(|t| t == "answer\n")
    });
    drop(client.child.stdin.take());
    client.expect_code(0);
    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&up), Signal::INT);
    up.wait().expect("it ends");
}

fn a_conflict_changes_nothing_and_is_told(world: &World) {
    world.write("file", "base");
    let script = "echo sandbox > file; echo changed; cat";
    let mut client = Client::start(shell(world, script).stderr(Stdio::null()));
    assert_eq!(client.line(), "changed");
    world.write("file", "host, and longer");
    drop(client.child.stdin.take());
    let _ = client.ended();
    assert_eq!(world.read("file"), "host, and longer");
    let conflicts = world.run(&["conflicts"]);
    assert!(conflicts.stdout.contains("file"), "{conflicts:?}");
    world.run(&["resolve", "file", "--sandbox"]).expect_code(0);
    wait_until("the sandbox's version is here", || world.read("file") == "sandbox\n");
}

fn output_is_whole_after_cuts(world: &World) {
    let session = FaultySession::start(world);
    let script = "echo once >> runs; head -c 8000000 /dev/zero | tr '\\0' x; echo done >&2";
    let mut client = Client::start(shell(world, script).stderr(Stdio::null()));
    let mut random = Random::new(20261126);
    let output = client.output.take().expect("piped");
    let reader = std::thread::spawn(move || digest(output));
    for _ in 0..4 {
        let before = session.faults.cuts();
        session.faults.cut_after(1 + random.below(1_500_000) as u64);
        wait_until("the link is cut, or all has come", || {
            session.faults.cuts() > before || reader.is_finished()
        });
    }
    let (length, hash) = reader.join().expect("read");
    let expected = digest(&vec![b'x'; 8_000_000][..]);
    assert_eq!((length, hash), expected);
    client.expect_code(0);
    assert_eq!(world.read("runs"), "once\n");
}

fn input_is_whole_after_cuts(world: &World) {
    let session = FaultySession::start(world);
    let mut client = Client::start(&mut shell(world, "echo up; sha256sum"));
    assert_eq!(client.line(), "up");
    let mut input = vec![0; 2 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut input);
    for part in input.chunks(512 << 10) {
        session.faults.cut();
        client.say(part);
    }
    drop(client.child.stdin.take());
    let (_, expected) = digest(&input[..]);
    assert_eq!(client.line().split(' ').next(), Some(&*expected));
    client.expect_code(0);
}

fn a_command_runs_on_while_there_is_no_link(world: &World) {
    let session = FaultySession::start(world);
    let script = "echo up; read go; echo worked > during; echo later; read end";
    let mut client = Client::start(&mut shell(world, script));
    assert_eq!(client.line(), "up");
    session.faults.refuse();
    session.faults.cut();
    // It goes in while nothing leads there.
    client.say(b"go\n");
    session.faults.accept();
    assert_eq!(client.line(), "later");
    client.say(b"end\n");
    client.expect_code(0);
    assert_eq!(world.read("during"), "worked\n");
}

fn a_command_that_is_cancelled_leaves_no_process(world: &World) {
    let mut keeper = Client::start(&mut shell(world, "echo up; cat"));
    assert_eq!(keeper.line(), "up");
    let script = "trap '' INT TERM; setsid sleep 987 & (setsid sh -c 'sleep 987 & sleep 987' &); \
                  echo up; while :; do sleep 0.1; done";
    let arguments = ["-q", "exec", "--name", "victim", "--", "sh", "-c", script];
    let mut client = Client::start(&mut world.skync(arguments));
    assert_eq!(client.line(), "up");
    world.run(&["cancel", "victim", "--grace", "100ms"]).expect_code(0);
    client.ended();
    // Whatever runs there: `sleep 987` is no more among it.
    let look = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'sleep 98[7]'";
    let left = world.run(&["-q", "exec", "--", "sh", "-c", look]);
    assert_eq!(left.stdout.trim(), "0", "{left:?}");
    drop(keeper.child.stdin.take());
    keeper.expect_code(0);
}

fn a_command_that_was_left_running_is_found_and_waited_for(world: &World) {
    world.run(&["up", "-d"]).expect_code(0);
    let script = "until [ -e go ]; do sleep 0.02; done; echo said; echo file > made; exit 5";
    world.run(&["exec", "-d", "--name", "job", "--", "sh", "-c", script]).expect_code(0);
    assert!(world.run(&["ps"]).expect_code(0).stdout.contains("job"));
    world.write("go", "");
    world.run(&["wait", "job"]).expect_code(5);
    assert_eq!(world.run(&["logs", "job"]).expect_code(0).stdout, "said\n");
    assert_eq!(world.read("made"), "file\n");
    world.run(&["down"]).expect_code(0);
    world.wait_until_nothing_is_left();
}

fn nothing_is_left_when_a_command_is_over(world: &World) {
    for (command, code) in [("true", 0), ("exit 4", 4), ("sleep 1000 & exit 0", 0)] {
        world.exec(&["sh", "-c", command]).expect_code(code);
        world.expect_nothing_left();
    }
}

fn a_client_that_dies_takes_nothing_with_it(world: &World) {
    let script = "echo up; until [ -e go ]; do sleep 0.02; done; echo late > late";
    let command = ["-q", "exec", "--on-disconnect", "10m", "--", "sh", "-c", script];
    let mut client = Client::start(&mut world.skync(command));
    assert_eq!(client.line(), "up");
    client.signal(Signal::KILL);
    client.ended();
    world.run(&["up", "-d"]).expect_code(0);
    world.write("go", "");
    wait_until("the result is at home", || world.project().join("late").exists());
    wait_until("nobody uses the session", || world.run(&["down"]).code == 0);
    world.wait_until_nothing_is_left();
}

fn a_session_that_dies_is_succeeded(world: &World) {
    let script = "echo up; read word; echo \"$word\" > after; echo got";
    let mut client = Client::start(shell(world, script).stderr(Stdio::null()));
    assert_eq!(client.line(), "up");
    signal("KILL", &[world.process(Kind::Session)]);
    client.say(b"word\n");
    assert_eq!(client.line(), "got");
    client.expect_code(0);
    assert_eq!(world.read("after"), "word\n");
    world.wait_until_nothing_is_left();
}
