//! The arguments of `mount` and `unmount`, and those about mounts of other verbs.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::quantity::duration;

pub(super) const MOUNT_HELP: &str = "\
Examples:
  skync mount                        this project's sandbox, in ~/.remote/PROFILE
  cd \"$(skync mount)\"                the place is printed on stdout
  skync mount --at ~/box --root /    all of the sandbox
  skync mount --rw                   write there, too: then the project is mirrored
  skync mount --timeout 5s           whoever reads there waits no longer for a lost link

What is not synchronised shows as well (`node_modules/`, `.venv/`, …): it is the sandbox itself. Who
watches the directory (inotify) is told of changes in the sandbox. Links that lead out of what is shown
cannot be followed, unless --raw-symlinks is given. As an ordinary user it needs the package `fuse3`.";

pub(super) const UNMOUNT_HELP: &str = "\
Examples:
  skync unmount                    what is mounted of this project's sandbox
  skync unmount ~/.remote/dev      that one
  skync unmount --all              all, of all projects
  skync unmount --force            under a shell that is still there, and with what could not be written

Code 6 says that somebody uses it, and who.";

/// Arguments of `mount`.
#[derive(Args, Clone, Debug, Default)]
pub struct MountArgs {
    /// The project's directory; else the one around the current directory
    #[arg(value_name = "PATH")]
    pub project: Option<PathBuf>,
    /// Where to mount it: an empty directory, or one that is not there yet; else ~/.remote/PROFILE
    #[arg(long, value_name = "DIR")]
    pub at: Option<PathBuf>,
    /// The directory of the sandbox to show, from its `/` or from the project's root; else that
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Let it be written
    #[arg(long)]
    pub rw: bool,
    /// Do not let it be written, although the profile says so
    #[arg(long, conflicts_with = "rw")]
    pub ro: bool,
    /// How long whoever reads there waits for a lost link, as in 5s; 30s if not given
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// Let other users see it, and containers
    #[arg(long)]
    pub allow_other: bool,
    /// Show owners as they are in the sandbox; else everything is yours
    #[arg(long)]
    pub owners: bool,
    /// Show symbolic links as they are, also those that lead out of what is shown
    #[arg(long)]
    pub raw_symlinks: bool,
    /// Do not tell who watches it (inotify) of changes in the sandbox
    #[arg(long)]
    pub no_inotify: bool,
    /// Go on although the project is `/`, the home directory, or otherwise a likely mistake
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `unmount`.
#[derive(Args, Clone, Debug, Default)]
pub struct UnmountArgs {
    /// A mount, or the project's directory; else the one around the current directory
    #[arg(value_name = "PATH", conflicts_with = "all")]
    pub path: Option<PathBuf>,
    /// This mount only
    #[arg(long, value_name = "DIR", conflicts_with_all = ["path", "all"])]
    pub at: Option<PathBuf>,
    /// Although somebody uses it, or what was written there cannot be put into the sandbox
    #[arg(long)]
    pub force: bool,
    /// All mounts, of all projects
    #[arg(long)]
    pub all: bool,
}

/// What `up` has to say of mounts.
#[derive(Args, Clone, Debug, Default)]
pub struct UpMountArgs {
    /// Mount the sandbox as long as it is mirrored (`skync mount --help` says what that is)
    #[arg(long)]
    pub mount: bool,
    /// Do not, although the profile says so
    #[arg(long, conflicts_with_all = ["mount", "mount_at", "mount_rw"])]
    pub no_mount: bool,
    /// Mount it there; else in ~/.remote/PROFILE
    #[arg(long, value_name = "DIR")]
    pub mount_at: Option<PathBuf>,
    /// Mount it, and let it be written
    #[arg(long)]
    pub mount_rw: bool,
}

/// What a new profile says of mounts.
// The values are checked by the configuration's own rules.
#[derive(Args, Clone, Debug, Default)]
pub struct ProfileMountArgs {
    /// `skync up` mounts the sandbox
    #[arg(long)]
    pub mount: bool,
    /// Where the sandbox is mounted; else in ~/.remote/PROFILE
    #[arg(long, value_name = "DIR")]
    pub mount_at: Option<String>,
    /// The directory of the sandbox that a mount shows; else the project
    #[arg(long, value_name = "DIR")]
    pub mount_root: Option<String>,
    /// Mounts can be written
    #[arg(long)]
    pub mount_rw: bool,
    /// How long whoever reads a mount waits for a lost link, as in 30s
    #[arg(long, value_name = "TIME")]
    pub mount_timeout: Option<String>,
}
