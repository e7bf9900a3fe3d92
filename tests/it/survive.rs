//! Operations outlive links, sessions and agents: nothing is lost, nothing comes twice, and each
//! command runs once.

mod contract;
mod deaths;
mod half_open;
mod input;
mod network;
mod outage;
mod output;
mod start;
mod synchronised;

use std::process::Stdio;
use std::time::Duration;

use crate::support::client::{Client, shell};
use crate::support::fault::{Faults, FaultySession};
use crate::support::random::Random;
use crate::support::{SPECKIT, World, wait_until};

/// A world on each driver, with a session whose link can be broken. The session is
/// named last, so that it goes first.
fn faulty_worlds() -> Vec<(World, FaultySession)> {
    let worlds = [Some(World::new()), World::with_docker(SPECKIT)].into_iter().flatten();
    let with_session = |world: World| {
        let session = FaultySession::start(&world);
        (world, session)
    };
    worlds.map(with_session).collect()
}

/// A command that keeps the session's sandbox as long as the value lives.
fn keep(world: &World) -> Client {
    let mut command = shell(world, "echo up; exec sleep 1000");
    let mut client = Client::start(command.stderr(Stdio::null()));
    assert_eq!(client.line(), "up");
    client
}

/// A generator whose seed is printed, so that a failing test can be run again.
fn seeded() -> Random {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    let seed = std::env::var("SKYNC_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from_le_bytes(bytes));
    eprintln!("SKYNC_TEST_SEED={seed}");
    Random::new(seed)
}

/// Cuts the link so often, each time after fewer than so many bytes; sometimes it is so few that
/// it hits the link's beginning, and sometimes it cannot be dialled for a while.
fn cut_at_random(faults: &Faults, random: &mut Random, count: u64, bytes: usize) {
    for _ in 0..count {
        let before = faults.cuts();
        let within = if random.once_in(4) { 600 } else { bytes };
        faults.cut_after(1 + random.below(within) as u64);
        wait_until("the link is cut", || faults.cuts() > before);
        if random.once_in(4) {
            faults.refuse_for(Duration::from_millis(random.below(700) as u64));
        }
    }
}

/// How often the command of this world that counts itself has run.
fn runs(world: &World) -> usize {
    world.read("runs").lines().count()
}
