//! The way to a provider is a network: sockets are dropped at random, silent ones by what is in
//! between, and nothing is lost.

use std::time::Duration;

use crate::support::World;
use crate::support::client::{Client, digest, shell};
use crate::support::wait_until;

fn worlds() -> Vec<World> {
    let stream = World::with_e2b_options(&["--link", "stream"]);
    [World::with_e2b(), stream, World::with_daytona()].into_iter().flatten().collect()
}

#[test]
fn sockets_that_are_dropped_at_random_lose_nothing() {
    for world in worlds() {
        let script =
            "echo once >> runs; echo up; sha256sum; head -c 3000000 /dev/zero | tr '\\0' x";
        let mut client = Client::start(&mut shell(&world, script));
        assert_eq!(client.line(), "up");
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
        let seed = u64::from_le_bytes(bytes);
        eprintln!("seed {seed}");
        world.wire().cut_randomly(seed, 700_000);
        let mut input = vec![0; 2 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut input);
        client.say(&input);
        drop(client.child.stdin.take());
        let (_, expected) = digest(&input[..]);
        assert_eq!(client.line().split(' ').next(), Some(&*expected));
        let output = client.output.take().expect("piped");
        assert_eq!(digest(output), digest(&vec![b'x'; 3_000_000][..]));
        world.wire().cut_randomly(0, 0);
        client.expect_code(0);
        assert_eq!(world.read("runs"), "once\n");
        world.wait_until_nothing_is_left();
    }
}

#[test]
fn a_link_that_nobody_uses_is_not_silent_for_as_long_as_proxies_allow() {
    for world in worlds() {
        world.run(&["up", "-d"]).expect_code(0);
        // A tenth of what the providers' proxies allow.
        world.wire().idle_cut(Some(Duration::from_secs(6)));
        let before = world.wire().counts();
        // Two heartbeats and their answers, on the connection there was.
        wait_until("it was heard of", || world.wire().counts().bytes_down > before.bytes_down + 60);
        let log = std::fs::read_to_string(world.path("s/skync/session.log")).unwrap_or_default();
        assert!(!log.contains("given up") && !log.contains("again"), "{log}");
        world.wire().idle_cut(None);
        world.run(&["down"]).expect_code(0);
        world.expect_nothing_left();
    }
}
