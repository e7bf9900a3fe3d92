//! Standard input, output and error: whole, in time, without a heap of memory.

use super::*;

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

#[test]
fn something_in_the_background_that_goes_on_writing_does_not_hold_the_command() {
    let world = World::new();
    let script = "(while :; do echo later; sleep 0.05; done) & echo at once";
    let outcome = Outcome::of(shell(&world, script).output().expect("it ends"));
    assert!(outcome.expect_code(0).stdout.contains("at once\n"));
}
