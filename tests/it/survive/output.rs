//! Output over a link that is cut again and again.

use std::process::Stdio;

use super::{cut_at_random, faulty_worlds, keep, runs, seeded};
use crate::support::client::{Client, digest, shell, text};

/// Counts itself, then writes 100 MB that nobody can guess, and says on standard error what they
/// are. What it writes is kept outside of the project.
const NOISE: &str = "echo run >> runs; f=$(mktemp) && head -c 100000000 /dev/urandom > $f && \
                     sha256sum < $f >&2; echo begun >&2; cat $f; rm $f; exit 5";

#[test]
fn a_hundred_megabytes_come_whole_through_twenty_cuts() {
    for (world, session) in faulty_worlds() {
        let mut random = seeded();
        let _kept = keep(&world);
        let mut child = shell(&world, NOISE)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("skync runs");
        let output = child.stdout.take().expect("piped");
        let (length, found) = std::thread::scope(|scope| {
            let reader = scope.spawn(|| digest(output));
            session.faults.wait_for_bytes(1 << 20);
            cut_at_random(&session.faults, &mut random, 20, 6 << 20);
            reader.join().expect("it reads to the end")
        });
        let ended = child.wait_with_output().expect("it ends");
        let said = text(&ended.stderr);
        assert_eq!((ended.status.code(), length), (Some(5), 100_000_000), "{said}");
        assert!(said.contains(&format!("{found}  -")), "{found} is not in {said}");
        assert_eq!(session.faults.cuts(), 20);
        assert_eq!(runs(&world), 1);
    }
}

/// Fails, and shows the first line that differs.
#[track_caller]
fn same(found: &[u8], expected: &str) {
    let found = text(found);
    let start = |line: Option<&str>| line.map(|line| line.chars().take(60).collect::<String>());
    for (number, (line, wanted)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(start(Some(line)), start(Some(wanted)), "line {number}");
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "not all is there");
    assert!(found == expected, "lines differ behind their beginnings");
}

#[test]
fn both_streams_stay_apart_and_in_order_through_cuts() {
    for (world, session) in faulty_worlds() {
        let mut random = seeded();
        let _kept = keep(&world);
        let script = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); printf 'out %d %0500d\\n' $i 0; \
                      printf 'err %d %0500d\\n' $i 0 >&2; sleep 0.005; done; printf 'no end'";
        let child = shell(&world, script)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("skync runs");
        let waits = std::thread::scope(|scope| {
            let waits = scope.spawn(|| child.wait_with_output().expect("it ends"));
            cut_at_random(&session.faults, &mut random, 6, 20_000);
            waits.join().expect("it ends")
        });
        let lines = |name: &str| -> String {
            (1..=400).map(|number| format!("{name} {number} {:0500}\n", 0)).collect()
        };
        assert_eq!(waits.status.code(), Some(0), "{}", text(&waits.stderr));
        same(&waits.stdout, &(lines("out") + "no end"));
        same(&waits.stderr, &lines("err"));
    }
}

#[test]
fn a_command_that_ends_while_the_link_is_down_has_ended_with_all_it_said() {
    for (world, session) in faulty_worlds() {
        let _kept = keep(&world);
        let script = "echo up; read x; sleep 0.3; head -c 3000000 /dev/zero; exit 9";
        let mut client = Client::start(&mut shell(&world, script));
        assert_eq!(client.line(), "up");
        client.say(b"go\n");
        session.faults.wait_for_bytes(1);
        session.faults.refuse_for(std::time::Duration::from_millis(1500));
        session.faults.cut();
        assert_eq!(client.rest().len(), 3_000_000);
        client.expect_code(9);
    }
}
