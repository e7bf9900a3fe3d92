//! `skync mount`: shows the sandbox's files as a directory.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::{MountArgs, UpMountArgs};
use crate::commands::{Context, find_project, follow};
use crate::config::quantity::milliseconds;
use crate::config::{DriverConfig, Profile};
use crate::error::{CliError, ExitCode};
use crate::project::Project;
use crate::session::Spec;
use crate::session::client::Connection;
use crate::session::mount_place::supported;
use crate::session::proto::{Finished, MountInfo, MountRequest};
use crate::ui::{print, visible};

/// Where mounts are if nothing else is said, in the home directory.
const PLACE: &str = ".remote";

/// Mounts the sandbox of a project; returns when it is there, and prints where.
///
/// # Errors
/// What keeps it from being mounted.
pub async fn run(args: &MountArgs, context: &Context) -> Result<ExitCode, CliError> {
    supported()?;
    let profile = context.select()?.profile;
    if matches!(profile.driver, DriverConfig::Local) {
        return Err(in_place(&profile));
    }
    let request = request(args, &profile)?;
    let project = project(args, &profile, context).await?;
    if let Some(warning) = project.warning() {
        context.caution(&warning);
    }
    let spec = Spec { id: String::new(), root: project.root, profile };
    let ask = async |connection: &mut Connection| connection.client.mount(request.clone()).await;
    let (connection, events) = Connection::ask(&context.places, &spec, ask).await?;
    let finished = follow::to_the_end(connection, events.into_inner(), context).await?;
    said(&finished, context)
}

fn in_place(profile: &Profile) -> CliError {
    let message = format!(
        "the profile `{}` runs commands in place: there is no sandbox to mount",
        profile.name
    );
    CliError::new(ExitCode::Usage, message)
        .hint("`skync profile list` shows the others, `--profile NAME` uses one")
}

/// The project; that of a session that runs need not be likely.
async fn project(
    args: &MountArgs,
    profile: &Profile,
    context: &Context,
) -> Result<Project, CliError> {
    let project = find_project(args.project.as_deref(), true).map_err(by_path)?;
    let runs = Connection::find(&context.places, &project.root, &profile.name).await.is_some();
    if runs || args.force {
        return Ok(project);
    }
    find_project(args.project.as_deref(), false).map_err(by_path)
}

/// Here `--root` means something else.
fn by_path(mut error: CliError) -> CliError {
    for hint in &mut error.hints {
        *hint = hint.replace("`--root DIR`", "`skync mount DIR`");
    }
    error
}

/// What the command line and the profile say.
fn request(args: &MountArgs, profile: &Profile) -> Result<MountRequest, CliError> {
    let of_profile = of_profile(args.at.as_deref(), profile)?;
    let root = args.root.as_ref().or(profile.mount.root.as_ref());
    Ok(MountRequest {
        root: root.map(|root| bytes(root)).unwrap_or_default(),
        writable: (profile.mount.writable || args.rw) && !args.ro,
        timeout_ms: args.timeout.map_or(of_profile.timeout_ms, milliseconds),
        allow_other: args.allow_other,
        own_ids: args.owners,
        raw_symlinks: args.raw_symlinks,
        no_replay: args.no_inotify,
        ..of_profile
    })
}

/// What an `up` mounts; nothing if it mounts nothing.
///
/// # Errors
/// If it is not known where.
pub(super) fn of_up(
    args: &UpMountArgs,
    profile: &Profile,
) -> Result<Option<MountRequest>, CliError> {
    let asked = args.mount || args.mount_at.is_some() || args.mount_rw;
    if args.no_mount || !(asked || profile.mount.with_up) {
        return Ok(None);
    }
    supported().map_err(|error| match asked {
        true => error,
        false => error.hint("the profile says `mount = true`: `--no-mount` goes without"),
    })?;
    let mut request = of_profile(args.mount_at.as_deref(), profile)?;
    request.writable |= args.mount_rw;
    Ok(Some(request))
}

fn of_profile(at: Option<&Path>, profile: &Profile) -> Result<MountRequest, CliError> {
    let mount = &profile.mount;
    let at = match at.or(mount.at.as_deref()) {
        Some(at) => at.to_owned(),
        None => default_place(&profile.name)?,
    };
    Ok(MountRequest {
        at: bytes(&place(&at)?),
        root: mount.root.as_ref().map(|root| bytes(root)).unwrap_or_default(),
        writable: mount.writable,
        timeout_ms: mount.timeout.map_or(0, milliseconds),
        ..MountRequest::default()
    })
}

fn default_place(profile: &str) -> Result<PathBuf, CliError> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = home.ok_or_else(|| {
        CliError::new(ExitCode::Usage, "it is not known where your home directory is")
            .hint("name a directory for the mount with `--at DIR`")
    })?;
    Ok(home.join(PLACE).join(profile))
}

/// The same place, absolute and without symbolic links; what is not there yet is taken as it is.
///
/// # Errors
/// If it cannot be a directory's name.
pub(super) fn place(at: &Path) -> Result<PathBuf, CliError> {
    let wrong = |error: &io::Error| {
        CliError::new(ExitCode::Usage, format!("cannot mount at `{}`", at.display()))
            .because(error)
            .hint("choose another directory with `--at DIR`")
    };
    let whole = std::path::absolute(at).map_err(|error| wrong(&error))?;
    let mut behind: Vec<&OsStr> = Vec::new();
    let mut above = whole.as_path();
    loop {
        match above.canonicalize() {
            Ok(mut found) => {
                found.extend(behind.iter().rev());
                return Ok(found);
            }
            // Not there, or a mount that has died: its own name is what counts.
            Err(error) => match (above.file_name(), above.parent()) {
                (Some(name), Some(parent)) => {
                    behind.push(name);
                    above = parent;
                }
                _ => return Err(wrong(&error)),
            },
        }
    }
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_encoded_bytes().to_vec()
}

fn said(finished: &Finished, context: &Context) -> Result<ExitCode, CliError> {
    let info = finished.mounted.clone().unwrap_or_default();
    if context.json {
        let document = json!({
            "schema_version": 1,
            "ok": true,
            "mounted": document(&info),
            "already": finished.had_mounted,
        });
        print(&format!("{document}\n"))?;
        return Ok(ExitCode::Done);
    }
    let at = path(&info.at);
    let is = if finished.had_mounted { "is mounted already" } else { "is mounted" };
    let how = if info.writable { "" } else { ", read-only" };
    context.tell(&format!("the sandbox {is}{how}; `skync unmount` ends that"));
    print(&format!("{at}\n"))?;
    Ok(ExitCode::Done)
}

/// A path that a session tells, for a person.
pub(super) fn path(bytes: &[u8]) -> String {
    visible(&String::from_utf8_lossy(bytes))
}

/// A mount, for programs.
pub(super) fn document(info: &MountInfo) -> Value {
    json!({
        "at": String::from_utf8_lossy(&info.at),
        "root": String::from_utf8_lossy(&info.root),
        "writable": info.writable,
        "open_files": info.open_files,
        "dirty_bytes": info.dirty_bytes,
        "since_ms": info.since_ms,
        "waiting": info.waiting,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_place_that_is_not_there_is_taken_as_it_is_below_what_is() {
        let base = tempfile::tempdir().expect("a directory");
        let real = base.path().canonicalize().expect("a path");
        std::os::unix::fs::symlink(&real, real.join("link")).expect("made");
        let found = place(&real.join("link/a/b")).expect("a place");
        assert_eq!(found, real.join("a/b"));
        assert!(place(&real.join("a/..")).is_err(), "what is not there has no `..`");
    }

    #[test]
    fn flags_win_over_the_profile() {
        let mut profile = Profile::built_in("directory").expect("it is built in");
        profile.mount.at = Some("/tmp/of-profile".into());
        profile.mount.writable = true;
        profile.mount.timeout = Some(Duration::from_secs(7));
        let args = MountArgs::default();
        let plain = request(&args, &profile).expect("a request");
        assert_eq!((plain.at, plain.writable), (b"/tmp/of-profile".to_vec(), true));
        assert_eq!(plain.timeout_ms, 7000);
        let timeout = Some(Duration::from_secs(1));
        let args = MountArgs { ro: true, at: Some("/tmp/flag".into()), timeout, ..args };
        let asked = request(&args, &profile).expect("a request");
        assert_eq!((asked.at, asked.writable), (b"/tmp/flag".to_vec(), false));
        assert_eq!(asked.timeout_ms, 1000);
    }

    #[test]
    fn an_up_mounts_if_it_or_the_profile_says_so() {
        let mut profile = Profile::built_in("directory").expect("it is built in");
        profile.mount.at = Some("/tmp/of-profile".into());
        let none = UpMountArgs::default();
        let asked = UpMountArgs { mount: true, ..none.clone() };
        let not = UpMountArgs { no_mount: true, ..none.clone() };
        let mounts = |args: &UpMountArgs, profile: &Profile| {
            of_up(args, profile).expect("it is known where").is_some()
        };
        assert_eq!([&none, &asked, &not].map(|args| mounts(args, &profile)), [false, true, false]);
        profile.mount.with_up = true;
        assert_eq!([&none, &asked, &not].map(|args| mounts(args, &profile)), [true, true, false]);
    }
}
