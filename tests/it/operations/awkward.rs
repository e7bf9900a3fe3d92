//! Streams and readers that do what they should not.

use super::*;
use crate::support::mount::Mount;

#[test]
fn two_hundred_and_fifty_six_mebibytes_of_noise_arrive_as_they_are() {
    let world = World::new();
    let script = "f=$(mktemp) && trap 'rm $f' EXIT && head -c 268435456 /dev/urandom > $f && \
                  sha256sum < $f >&2 && cat $f";
    let mut command = shell(&world, script);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let (length, digest) = digest(child.stdout.take().expect("piped"));
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), length), (Some(0), 256 << 20));
    assert_eq!(text(&output.stderr), format!("{digest}  -\n"));
}

#[test]
fn a_reader_that_has_enough_ends_what_writes_and_not_what_does_something_else() {
    for world in worlds() {
        // As behind `| head -1`: only the stream is closed, and what writes to it is told.
        let script = "yes; echo yes ended with $? >&2; echo more >&2; echo made > made; exit 6";
        let mut command = marked_shell(&world, script);
        let mut client = Client::start(command.stderr(Stdio::piped()));
        assert_eq!(client.line(), "y");
        drop(client.output.take());
        let mut said = String::new();
        let stderr = client.child.stderr.as_mut().expect("piped");
        stderr.read_to_string(&mut said).expect("text");
        assert!(said.contains("yes ended with 141\nmore\n"), "{said}");
        client.expect_code(6);
        assert_eq!(world.read("made"), "made\n");
    }
}

#[test]
fn both_streams_may_be_closed_and_the_command_goes_on() {
    let world = World::new();
    let script =
        "echo up; read x; trap '' PIPE; echo lost; echo lost >&2; echo made > made; exit 2";
    let mut command = shell(&world, script);
    let mut client = Client::start(command.stderr(Stdio::piped()));
    assert_eq!(client.line(), "up");
    drop(client.output.take());
    drop(client.child.stderr.take());
    client.say(b"go\n");
    client.expect_code(2);
    assert_eq!(world.read("made"), "made\n");
}

#[test]
fn input_that_is_closed_early_is_an_end_and_nothing_more() {
    for world in worlds() {
        let script = "cat; echo ended; sleep 0.3; echo late";
        let mut client = Client::start(&mut shell(&world, script));
        client.say(b"no end of line");
        drop(client.child.stdin.take());
        assert_eq!(text(&client.rest()), "no end of lineended\nlate\n");
        client.expect_code(0);
    }
}

#[test]
fn a_closed_standard_input_reads_as_its_end() {
    let world = World::new();
    let mut command = Command::new("sh");
    let skync = shell(&world, "cat; echo ended");
    command.args(["-c", "exec \"$@\" <&-", "sh"]).arg(skync.get_program()).args(skync.get_args());
    command.current_dir(world.project());
    for (name, value) in skync.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let outcome = Outcome::of(command.output().expect("it ends")).expect_code(0);
    assert_eq!(outcome.stdout, "ended\n");
}

#[test]
fn a_last_line_without_an_end_comes_whole_on_both_streams() {
    for world in worlds() {
        let output = shell(&world, "printf 'a\\nb'; printf 'c\\nd' >&2").output().expect("runs");
        assert_eq!(
            (text(&output.stdout).as_str(), text(&output.stderr).as_str()),
            ("a\nb", "c\nd")
        );
    }
}

#[test]
fn a_grandchild_that_keeps_a_terminal_open_does_not_hold_the_command() {
    let world = World::new();
    let script = "trap '' HUP; setsid sleep 300 & (trap '' HUP; sleep 300) & echo done; exit 3";
    let begun = Instant::now();
    let output =
        world.skync(["-q", "exec", "-t", "--", "sh", "-c", script]).output().expect("runs");
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(3), "done\r\n"));
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
}

#[test]
fn edits_that_come_just_before_a_command_are_there() {
    for world in worlds() {
        let _kept = Kept::start(&world);
        for round in 0..20 {
            world.write("seen", format!("{round}\n"));
            world.write(&format!("new/{round}"), "x");
            let outcome = world.exec(&["sh", "-c", "cat seen; ls new | wc -l; echo $? > back"]);
            let expected = format!("{round}\n{}\n", round + 1);
            assert_eq!(outcome.expect_code(0).stdout, expected);
        }
    }
}

#[test]
fn who_does_not_wait_has_the_code_at_once_and_the_results_later() {
    for world in worlds() {
        world.run(&["up", "-d"]).expect_code(0);
        let script = "head -c 5000000 /dev/urandom > big; exit 4";
        world.run(&["exec", "--no-wait", "--", "sh", "-c", script]).expect_code(4);
        wait_until("the result is home", || {
            let found = std::fs::metadata(world.project().join("big"));
            found.is_ok_and(|found| found.len() == 5_000_000)
        });
        // The mirror may have brought it before the command has left.
        wait_until("the session ends", || world.run(&["down"]).code == 0);
    }
    // Also where the session has nothing else to do.
    let world = World::new();
    world.run(&["exec", "--no-wait", "--", "sh", "-c", "echo 1 > result"]).expect_code(0);
    wait_until("the result is home", || world.project().join("result").exists());
    world.wait_until_nothing_is_left();
    assert_eq!(world.read("result"), "1\n");
}

#[test]
fn a_full_disk_under_the_spool_loses_nothing_while_a_client_reads_and_says_so_if_none_does() {
    let world = World::new();
    let base = world.path("base");
    let Some(_mount) = Mount::new(&base, 24) else { return };
    let base = base.to_str().expect("utf-8");
    world.run(&["profile", "add", "p", "--driver", "directory", "--base", base]).expect_code(0);
    let script = "head -c 60000000 /dev/zero; echo tail; exit 4";
    let mut client = Client::start(&mut shell(&world, script));
    // Nobody reads until the command has filled the disk.
    let free = || rustix::fs::statvfs(base).map_or(0, |found| found.f_bavail * found.f_frsize);
    wait_until("the disk is full", || free() < 512 << 10);
    assert_eq!(client.rest().len(), 60_000_005);
    client.expect_code(4);

    world.run(&["exec", "-d", "--name", "full", "--", "sh", "-c", script]).expect_code(0);
    world.run(&["wait", "full"]).expect_code(4);
    let logs = world.run(&["logs", "full"]).expect_code(0);
    assert!(logs.stdout.ends_with("tail\n"), "{} bytes", logs.stdout.len());
    assert!(logs.stderr.contains("bytes of output were not kept"), "{}", logs.stderr);
    world.wait_until_nothing_is_left();
}
