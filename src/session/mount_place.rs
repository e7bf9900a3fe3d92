//! Where a sandbox may be mounted, and what a crash left there.
//!
//! All that can be refused is refused here, before a sandbox is made for it.

#[cfg(target_os = "linux")]
mod machine;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::Access;
use skync_mount::system::{self, Health};

use crate::error::{CliError, ExitCode};
use crate::session::journal::{Entry, Journal, MountRecord};

/// What the kernel gives mounts of ours through.
pub(crate) const DEVICE: &str = "/dev/fuse";
/// Where an administrator allows others to see what a user mounts.
pub(crate) const CONFIGURATION: &str = "/etc/fuse.conf";
/// How long somebody else may take to take a mount away …
const FREE_PATIENCE: Duration = Duration::from_millis(500);
/// … and how often it is looked whether that is done.
const FREE_INTERVAL: Duration = Duration::from_millis(10);

/// What a place is measured by.
pub(super) struct Surroundings<'a> {
    /// The project on the host.
    pub(super) project: &'a Path,
    /// Where our own files are.
    pub(super) state: &'a Path,
    pub(super) journal: &'a Journal,
}

/// What was found at a place that can be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, or an empty directory.
    Free,
    /// What a crash left; it is gone now.
    Stale,
}

/// Checks a place and clears it of what a crash left. It may take seconds.
///
/// # Errors
/// Why nothing can be mounted there, and what to do.
pub(super) fn prepare(wanted: &MountRecord, around: &Surroundings<'_>) -> Result<Found, CliError> {
    supported()?;
    let at = &wanted.at;
    apart(at, around)?;
    let found = take_stale(at, around)?;
    fits(at)?;
    #[cfg(target_os = "linux")]
    machine::possible(wanted.allow_other)?;
    Ok(found)
}

/// Says whether this system can have mounts of ours at all; `commands` asks before there is a session.
///
/// # Errors
/// That it cannot, and what to do instead.
pub fn supported() -> Result<(), CliError> {
    if cfg!(target_os = "linux") { Ok(()) } else { Err(not_here()) }
}

/// What [`CONFIGURATION`] says of that.
pub(crate) fn allows_others(text: &str) -> bool {
    text.lines().any(|line| line.trim() == "user_allow_other")
}

pub(super) fn not_here() -> CliError {
    CliError::new(ExitCode::Failed, "a sandbox can be mounted on Linux alone")
        .hint("`skync up` mirrors the project here, in place of a mount")
        .hint("`skync exec cat FILE` shows a file of the sandbox that is not mirrored")
}

/// It must not be where we look ourselves.
fn apart(at: &Path, around: &Surroundings<'_>) -> Result<(), CliError> {
    let (project, shown) = (around.project, at.display());
    let elsewhere = "choose a directory outside the project with `--at DIR`";
    if at.starts_with(project) {
        return Err(refused(format!("`{shown}` is in the project, which would mirror the mount"))
            .hint(elsewhere));
    }
    if project.starts_with(at) {
        return Err(refused(format!("`{shown}` holds the project, which the mount would hide"))
            .hint(elsewhere));
    }
    if at.starts_with(around.state) {
        return Err(refused(format!("`{shown}` is where skync keeps its own files"))
            .hint("choose another directory with `--at DIR`"));
    }
    let (entries, _) = around.journal.list().unwrap_or_default();
    let other = entries.iter().find(|entry| at.starts_with(&entry.root) && lives(entry, around));
    if let Some(other) = other {
        let other = other.root.display();
        let message =
            format!("`{shown}` is in the project `{other}`, which would mirror the mount");
        return Err(refused(message).hint("choose a directory outside of it with `--at DIR`"));
    }
    Ok(())
}

/// Its session is there, as far as can be told.
fn lives(entry: &Entry, around: &Surroundings<'_>) -> bool {
    around.journal.claim(&entry.id).map_or(true, |claim| claim.is_none())
}

/// What is mounted there, or above it.
fn take_stale(at: &Path, around: &Surroundings<'_>) -> Result<Found, CliError> {
    let shown = at.display();
    let mounts = system::mounts().map_err(|error| {
        CliError::new(ExitCode::Failed, "cannot read the list of mounts").because(&error)
    })?;
    if let Some(above) = mounts.iter().find(|found| at.starts_with(&found.at) && found.at != at) {
        let message = format!("`{shown}` is inside the mount at `{}`", above.at.display());
        return Err(refused(message).hint("choose a directory elsewhere with `--at DIR`"));
    }
    let mut found = Found::Free;
    for _ in mounts.iter().filter(|found| found.at == at) {
        if system::health(at) == Health::Alive {
            let message = format!("`{shown}` is a mount already{}", whose(at, around.journal));
            return Err(CliError::new(ExitCode::Conflict, message)
                .hint("choose another directory with `--at DIR`")
                .hint(format!("`skync unmount {shown}` takes that one away")));
        }
        system::bury(at).map_err(|error| {
            let message = format!("a mount that has died is in the way at `{shown}`");
            CliError::new(ExitCode::Failed, message)
                .because(&error)
                .hint(format!("`fusermount3 -u -z {shown}` takes it away, as its owner or root"))
        })?;
        found = Found::Stale;
    }
    if system::is_mount_point(at) {
        let message = format!("another file system is mounted at `{shown}`");
        return Err(refused(message).hint("choose another directory with `--at DIR`"));
    }
    Ok(found)
}

/// Whose mount it is, as far as the journal knows.
fn whose(at: &Path, journal: &Journal) -> String {
    let entries = journal.list().map(|(entries, _)| entries).unwrap_or_default();
    let owner = entries.iter().find(|entry| entry.mounts.iter().any(|mount| mount.at == at));
    owner.map_or_else(String::new, |entry| {
        format!(": it shows the sandbox of `{}` ({})", entry.root.display(), entry.profile.name)
    })
}

/// It is an empty directory of the user's, or can be made.
fn fits(at: &Path) -> Result<(), CliError> {
    let shown = at.display();
    let other = "choose an empty directory, or one that is not there yet, with `--at DIR`";
    let found = match std::fs::symlink_metadata(at) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return can_be_made(at),
        Err(error) => {
            let message = format!("cannot mount at `{shown}`");
            return Err(refused(message).because(&error).hint(other));
        }
    };
    if !found.is_dir() {
        return Err(refused(format!("`{shown}` is not a directory")).hint(other));
    }
    let uid = rustix::process::geteuid();
    if found.uid() != uid.as_raw() && !uid.is_root() {
        return Err(refused(format!("`{shown}` belongs to another user")).hint(other));
    }
    let mut entries = std::fs::read_dir(at).map_err(|error| {
        refused(format!("cannot mount at `{shown}`")).because(&error).hint(other)
    })?;
    if entries.next().is_some() {
        return Err(refused(format!(
            "`{shown}` is not empty, and the mount would hide what is there"
        ))
        .hint(other));
    }
    Ok(())
}

fn can_be_made(at: &Path) -> Result<(), CliError> {
    let above = at.ancestors().skip(1).find(|path| path.symlink_metadata().is_ok());
    let above = above.unwrap_or(Path::new("/"));
    match rustix::fs::access(above, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if above.is_dir() => Ok(()),
        Ok(()) => Err(refused(format!("`{}` is not a directory", above.display()))
            .hint("choose another directory with `--at DIR`")),
        Err(error) => {
            let message = format!("cannot make `{}`", at.display());
            Err(refused(message)
                .because(&io::Error::from(error))
                .hint("choose a directory of yours with `--at DIR`"))
        }
    }
}

/// Takes away what a session that has died left at these places, and the directories that were made
/// for it unless it goes on. A mount that somebody else has put there since is left alone.
pub(super) fn clear(mounts: &[MountRecord], keep_directories: bool) {
    for mount in mounts {
        let mounted = system::mounts().unwrap_or_default();
        for _ in mounted.iter().filter(|found| found.at == mount.at) {
            if system::health(&mount.at) == Health::Alive {
                break;
            }
            if let Err(error) = system::bury(&mount.at) {
                tracing::warn!(%error, at = %mount.at.display(), "a mount that has died stays");
                break;
            }
        }
        if !keep_directories && is_free_soon(&mount.at) {
            mount.remove_made();
        }
    }
}

/// Nothing is mounted there any more. Another `gc` may be taking it away at this moment.
fn is_free_soon(at: &Path) -> bool {
    let deadline = Instant::now() + FREE_PATIENCE;
    while system::is_mount_point(at) {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(FREE_INTERVAL);
    }
    true
}

/// Makes the directory, and those above it, and says which were made.
///
/// # Errors
/// If one cannot be made; none is left then.
pub(super) fn make(at: &Path, journal: &Journal) -> Result<Vec<PathBuf>, CliError> {
    let missing: Vec<&Path> =
        at.ancestors().take_while(|path| path.symlink_metadata().is_err()).collect();
    let mut made = Vec::new();
    for directory in missing.into_iter().rev() {
        use std::os::unix::fs::DirBuilderExt;
        if let Err(error) = std::fs::DirBuilder::new().mode(0o700).create(directory) {
            made.iter().rev().all(|made: &PathBuf| std::fs::remove_dir(made).is_ok());
            let message = format!("cannot make `{}`", directory.display());
            return Err(CliError::new(ExitCode::Failed, message)
                .because(&error)
                .hint("choose a directory of yours with `--at DIR`"));
        }
        made.push(directory.to_owned());
    }
    // What was made for another mount goes with the last one in it.
    let entries = journal.list().map(|(entries, _)| entries).unwrap_or_default();
    let of_others = entries.iter().flat_map(|entry| &entry.mounts).flat_map(|mount| &mount.made);
    let shared =
        of_others.filter(|directory| at.starts_with(directory) && !made.contains(directory));
    let mut all: Vec<PathBuf> = shared.cloned().collect();
    all.sort();
    all.dedup();
    all.extend(made);
    Ok(all)
}

fn refused(message: String) -> CliError {
    CliError::new(ExitCode::Usage, message)
}

#[cfg(test)]
mod tests;
