//! Which keys a profile may have, by driver, and what an unknown one was meant to be.

use toml_edit::TableLike;

use super::problem::Bad;
use super::{list, nearest};
use crate::ui::visible;

/// The keys of every driver.
pub(super) const KEYS_ALWAYS: [&str; 2] = ["driver", "env"];
/// The keys of every driver with two sides, so not of `local`.
pub(super) const KEYS_SYNC: [&str; 5] = ["mode", "exclude", "gitignore", "guarded", "root"];
/// The keys about operations; of every driver whose commands outlive their client, so not of
/// `local`.
pub(super) const KEYS_OPERATIONS: [&str; 3] = ["max_runtime", "on_disconnect", "reconnect_timeout"];
/// The keys of the docker driver.
pub(super) const KEYS_DOCKER: [&str; 9] =
    ["image", "container", "memory", "cpus", "pids", "network", "user", "link", "host"];
/// The keys of the docker driver that only a container of our own can have.
pub(super) const KEYS_NEW_CONTAINER: [&str; 4] = ["memory", "cpus", "pids", "network"];
/// The keys of the directory driver.
pub(super) const KEYS_DIRECTORY: [&str; 1] = ["base"];
/// The drivers there are.
pub(super) const DRIVERS: [&str; 3] = ["docker", "directory", "local"];
/// Drivers that a later version has: not slips of the pen.
const DRIVERS_PLANNED: [&str; 2] = ["e2b", "daytona"];

/// What the `driver` key says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Local,
    Directory,
    Docker,
    /// Missing or wrong, which is reported once: keys are then judged as if any driver could be meant.
    Unknown,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Directory => "directory",
            Self::Docker => "docker",
            Self::Unknown => "?",
        }
    }

    pub(super) fn keys(self) -> Vec<&'static str> {
        let mut keys = KEYS_ALWAYS.to_vec();
        if self != Self::Local {
            keys.extend(KEYS_SYNC);
            keys.extend(KEYS_OPERATIONS);
        }
        if matches!(self, Self::Docker | Self::Unknown) {
            keys.extend(KEYS_DOCKER);
        }
        if matches!(self, Self::Directory | Self::Unknown) {
            keys.extend(KEYS_DIRECTORY);
        }
        keys
    }
}

/// The known keys that the unknown ones of a table are nearest to.
pub(super) fn slips(table: &dyn TableLike) -> Vec<&'static str> {
    let known = Kind::Unknown.keys();
    let unknown = table.iter().filter(|(name, _)| !known.contains(name));
    unknown.filter_map(|(name, _)| nearest(name, known.iter().copied())).collect()
}

/// What is wrong with the name of a driver that there is not.
pub(super) fn unknown_driver(name: &str) -> Bad {
    let shown = visible(name);
    if DRIVERS_PLANNED.contains(&name) {
        return Bad::new(format!("the driver `{shown}` is not in this version of skync"))
            .hint(format!("it is coming; until then there is {}", list(DRIVERS)));
    }
    let bad = Bad::new(format!("there is no driver `{shown}`"));
    match nearest(name, DRIVERS) {
        Some(near) => bad.hint(format!("did you mean `{near}`?")),
        None => bad.hint(format!("there is {}", list(DRIVERS))),
    }
}
