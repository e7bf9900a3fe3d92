//! At a terminal a command in the sandbox is as good as one here: size, colours, keys, full-screen
//! programs, and the terminal is left as it was found.

mod escapes;
mod keys;
mod kind;
mod programs;
mod restored;

use crate::support::{ALPINE_LIKE, SPECKIT, World};

/// A world on each driver.
fn worlds() -> Vec<World> {
    [Some(World::new()), World::with_docker(SPECKIT)].into_iter().flatten().collect()
}

/// A world in a container with busybox.
fn busybox() -> Option<World> {
    World::with_docker(ALPINE_LIKE)
}
