//! Which keys a profile may have, by driver, and what an unknown one was meant to be.

use toml_edit::TableLike;

use super::problem::Bad;
use super::{list, nearest};
use crate::ui::visible;

/// The keys of every driver.
pub(super) const KEYS_ALWAYS: [&str; 3] = ["driver", "env", "extends"];
/// The keys of every driver with two sides, so not of `local`.
pub(super) const KEYS_SYNC: [&str; 5] = ["mode", "exclude", "gitignore", "guarded", "root"];
/// The keys about operations; of every driver whose commands outlive their client, so not of
/// `local`.
pub(super) const KEYS_OPERATIONS: [&str; 3] = ["max_runtime", "on_disconnect", "reconnect_timeout"];
/// The keys about `skync mount`; of every driver with a sandbox, so not of `local`.
pub(super) const KEYS_MOUNT: [&str; 5] =
    ["mount", "mount_at", "mount_root", "mount_rw", "mount_timeout"];
/// The keys about preparing a sandbox; of every driver with one, so not of `local`.
pub(super) const KEYS_SETUP: [&str; 2] = ["setup", "setup_timeout"];
/// The keys of the docker driver.
pub(super) const KEYS_DOCKER: [&str; 10] = [
    "image",
    "container",
    "memory",
    "cpus",
    "pids",
    "network",
    "user",
    "link",
    "host",
    "setup_image",
];
/// The keys of the docker driver that only a container of our own can have.
pub(super) const KEYS_NEW_CONTAINER: [&str; 4] = ["memory", "cpus", "pids", "network"];
/// The keys of the directory driver.
pub(super) const KEYS_DIRECTORY: [&str; 1] = ["base"];
/// The keys of the e2b driver.
pub(super) const KEYS_E2B: [&str; 7] =
    ["template", "timeout", "internet", "on_timeout", "user", "link", "credential_command"];
/// The keys of the daytona driver.
pub(super) const KEYS_DAYTONA: [&str; 9] = [
    "snapshot",
    "image",
    "cpus",
    "memory",
    "disk",
    "target",
    "timeout",
    "internet",
    "credential_command",
];
/// The drivers there are.
pub(super) const DRIVERS: [&str; 5] = ["docker", "e2b", "daytona", "directory", "local"];
/// The drivers that have keys of their own.
const OWNERS: [Kind; 4] = [Kind::Docker, Kind::E2b, Kind::Daytona, Kind::Directory];

/// What the `driver` key says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Local,
    Directory,
    Docker,
    E2b,
    Daytona,
    /// Missing or wrong, which is reported once: keys are then judged as if any driver could be meant.
    Unknown,
}

impl Kind {
    /// The driver of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let all = [Self::Local, Self::Directory, Self::Docker, Self::E2b, Self::Daytona];
        all.into_iter().find(|kind| kind.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Directory => "directory",
            Self::Docker => "docker",
            Self::E2b => "e2b",
            Self::Daytona => "daytona",
            Self::Unknown => "?",
        }
    }

    pub(super) fn keys(self) -> Vec<&'static str> {
        let mut keys = KEYS_ALWAYS.to_vec();
        if self != Self::Local {
            keys.extend(KEYS_SYNC);
            keys.extend(KEYS_OPERATIONS);
            keys.extend(KEYS_MOUNT);
            keys.extend(KEYS_SETUP);
        }
        if self == Self::Unknown {
            // Some are of several drivers.
            let all = OWNERS.into_iter().flat_map(|owner| owner.own_keys().iter().copied());
            all.for_each(|key| {
                if !keys.contains(&key) {
                    keys.push(key)
                }
            });
        } else {
            keys.extend(self.own_keys());
        }
        keys
    }

    /// The keys that not every driver has.
    fn own_keys(self) -> &'static [&'static str] {
        match self {
            Self::Docker => &KEYS_DOCKER,
            Self::E2b => &KEYS_E2B,
            Self::Daytona => &KEYS_DAYTONA,
            Self::Directory => &KEYS_DIRECTORY,
            Self::Local | Self::Unknown => &[],
        }
    }
}

/// The drivers that have this key.
pub(super) fn owners(key: &str) -> Vec<&'static str> {
    let has = |owner: &Kind| owner.own_keys().contains(&key);
    OWNERS.into_iter().filter(has).map(Kind::name).collect()
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
    let bad = Bad::new(format!("there is no driver `{shown}`"));
    match nearest(name, DRIVERS) {
        Some(near) => bad.hint(format!("did you mean `{near}`?")),
        None => bad.hint(format!("there is {}", list(DRIVERS))),
    }
}
