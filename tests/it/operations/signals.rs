//! Ctrl-C and other signals, also while nobody reads what the command writes.

use super::*;

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

pub(super) const TRAPS_INT: &str = "trap 'echo trapped; echo late > late; exit 9' INT; \
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
