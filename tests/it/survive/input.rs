//! Input over a link that is cut again and again: each line arrives once.

use std::process::Stdio;

use super::{cut_at_random, faulty_worlds, keep, runs, seeded};
use crate::support::client::{Client, digest, shell, text};
use crate::support::terminal::{CTRL_D, Terminal};
use crate::support::with_input;

#[test]
fn each_line_of_a_conversation_arrives_once() {
    for (world, session) in faulty_worlds() {
        let mut random = seeded();
        let _kept = keep(&world);
        let script = "echo run >> runs; while read x; do echo \"<$x>\"; done; exit 4";
        let mut client = Client::start(&mut shell(&world, script));
        std::thread::scope(|scope| {
            let faults = session.faults.clone();
            let cuts = scope.spawn(move || cut_at_random(&faults, &mut random, 20, 3000));
            let mut number = 0;
            while number < 300 || !cuts.is_finished() {
                number += 1;
                client.say(format!("{number}\n").as_bytes());
                assert_eq!(client.line(), format!("<{number}>"));
            }
        });
        drop(client.child.stdin.take());
        assert_eq!(text(&client.rest()), "", "nothing came twice");
        client.expect_code(4);
        assert_eq!(runs(&world), 1);
    }
}

#[test]
fn no_prompt_comes_twice_on_a_terminal() {
    for (world, session) in faulty_worlds() {
        let mut random = seeded();
        let _kept = keep(&world);
        let script = "echo run >> runs; while printf 'prompt> ' && read x; do echo \"<$x>\"; done";
        let terminal =
            Terminal::start(&world.skync(["-q", "exec", "--", "sh", "-c", script]), 40, 80);
        terminal.expect("prompt> ");
        let lines = std::thread::scope(|scope| {
            let faults = session.faults.clone();
            let cuts = scope.spawn(move || cut_at_random(&faults, &mut random, 10, 3000));
            let mut number = 0;
            while number < 100 || !cuts.is_finished() {
                number += 1;
                terminal.keys(&format!("{number}\r"));
                terminal.expect_written(&format!("<{number}>\r\nprompt> "));
            }
            number
        });
        terminal.keys(CTRL_D);
        terminal.expect_end(0);
        assert_eq!(terminal.count("prompt> "), lines + 1);
        for number in 1..=lines {
            assert_eq!(terminal.count(&format!("<{number}>\r\n")), 1, "{}", terminal.written());
        }
        assert_eq!(runs(&world), 1);
    }
}

#[test]
fn a_large_input_arrives_whole_through_cuts() {
    for (world, session) in faulty_worlds() {
        let mut random = seeded();
        let _kept = keep(&world);
        let mut input = vec![0; 30 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut input);
        let (_, expected) = digest(&input[..]);
        let output = std::thread::scope(|scope| {
            let faults = session.faults.clone();
            let cuts = scope.spawn(move || {
                faults.wait_for_bytes(1 << 20);
                cut_at_random(&faults, &mut random, 8, 3 << 20);
            });
            let output = with_input(&mut shell(&world, "sha256sum"), &input);
            cuts.join().expect("all are done");
            output
        });
        assert_eq!(text(&output.stdout), format!("{expected}  -\n"), "{}", text(&output.stderr));
    }
}

#[test]
fn the_end_of_the_input_arrives_after_a_cut() {
    for (world, session) in faulty_worlds() {
        let _kept = keep(&world);
        let mut command = shell(&world, "echo up; cat; echo ended");
        let mut client = Client::start(command.stderr(Stdio::null()));
        assert_eq!(client.line(), "up");
        session.faults.refuse();
        session.faults.cut();
        client.say(b"said while it was down\n");
        drop(client.child.stdin.take());
        session.faults.accept();
        assert_eq!(text(&client.rest()), "said while it was down\nended\n");
        client.expect_code(0);
    }
}
