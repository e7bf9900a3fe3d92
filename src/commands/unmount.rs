//! `skync unmount`: takes away what `skync mount` has mounted.

use std::path::{Path, PathBuf};

use serde_json::json;
use skync_mount::system::{self, Health};

use crate::cli::UnmountArgs;
use crate::commands::mount::place;
use crate::commands::operations::listed;
use crate::commands::{Context, find_project, follow};
use crate::error::{CliError, ExitCode};
use crate::session::client::Connection;
use crate::session::journal::{Entry, Journal, MountRecord};
use crate::session::proto::{Finished, UnmountRequest};
use crate::ui::render::{SCHEMA_VERSION, error_document};
use crate::ui::{print, visible};

/// Takes mounts away.
///
/// # Errors
/// If there is no such mount, or somebody uses it.
pub async fn run(args: &UnmountArgs, context: &Context) -> Result<ExitCode, CliError> {
    let journal = Journal::open(&context.places)?;
    let (entries, _) = listed(&journal)?;
    let mut done = Done::default();
    let meant = meant(args, &entries, context, &mut done)?;
    // We do not want to be who uses it.
    let _ = std::env::set_current_dir("/");
    for (entry, places) in meant {
        let asked = one(&entry, places, args.force, (context, &journal), &mut done).await;
        match asked {
            Ok(()) => {}
            // The others are as much meant.
            Err(error) if args.all => {
                context.caution(&error.to_string());
                done.failed.get_or_insert(error);
            }
            Err(error) => {
                // What went before is gone all the same.
                done.tell(context);
                return Err(error);
            }
        }
    }
    if done.unmounted.is_empty() && done.failed.is_none() && !args.all {
        return Err(CliError::new(ExitCode::NotFound, "nothing was mounted there any more")
            .hint("`skync status` shows what is mounted"));
    }
    said(done, args, context)
}

/// What has been done.
#[derive(Default)]
struct Done {
    unmounted: Vec<String>,
    ended: bool,
    /// The first that could not be taken away.
    failed: Option<CliError>,
}

/// The sessions that are meant, and which of their mounts.
fn meant(
    args: &UnmountArgs,
    entries: &[Entry],
    context: &Context,
    done: &mut Done,
) -> Result<Vec<(Entry, Vec<PathBuf>)>, CliError> {
    let mounted = |entry: &&Entry| !entry.mounts.is_empty();
    if args.all {
        let all = entries.iter().filter(mounted);
        return Ok(all.map(|entry| (entry.clone(), Vec::new())).collect());
    }
    let current = std::env::current_dir().ok();
    let named = args.at.as_deref().or(args.path.as_deref());
    // Who is in a mount means that one.
    if let Some(path) = named.or(current.as_deref()) {
        let path = place(path)?;
        let found = entries.iter().find_map(|entry| {
            let mount = entry.mounts.iter().find(|mount| path.starts_with(&mount.at))?;
            Some((entry.clone(), vec![mount.at.clone()]))
        });
        match found {
            Some((entry, places)) if named.is_none() || places[0] == path => {
                return Ok(vec![(entry, places)]);
            }
            Some(_) | None if args.at.is_some() => return unknown(&path, done),
            Some(_) | None => {}
        }
        if named.is_some() && find_project(named, true).is_err() {
            return unknown(&path, done);
        }
    }
    let profile = context.profile_name(args.path.as_deref())?;
    let project = find_project(args.path.as_deref(), true)?;
    let own = |entry: &&Entry| entry.root == project.root && entry.profile.name == profile;
    match entries.iter().filter(own).find(mounted) {
        Some(entry) => Ok(vec![(entry.clone(), Vec::new())]),
        None => Err(CliError::new(
            ExitCode::NotFound,
            format!("the sandbox of `{}` ({}) is not mounted", project.root.display(), profile),
        )
        .hint("`skync status` shows what is mounted, `skync unmount DIR` takes that one away")),
    }
}

/// A place that no session knows: what a crash left there goes all the same.
fn unknown(at: &Path, done: &mut Done) -> Result<Vec<(Entry, Vec<PathBuf>)>, CliError> {
    let known = system::mounts().unwrap_or_default();
    let shown = at.display();
    if !known.iter().any(|mount| mount.at == at) {
        return Err(CliError::new(
            ExitCode::NotFound,
            format!("no sandbox is mounted at `{shown}`"),
        )
        .hint("`skync status` shows what is mounted"));
    }
    if system::health(at) == Health::Alive {
        let message = format!("the mount at `{shown}` is not known to any session of this user");
        return Err(CliError::new(ExitCode::Failed, message)
            .hint(format!("`fusermount3 -u {shown}` takes it away, as its owner or root")));
    }
    take_away(at)?;
    done.unmounted.push(at.display().to_string());
    Ok(Vec::new())
}

fn take_away(at: &Path) -> Result<(), CliError> {
    system::bury(at).map_err(|error| {
        let message = format!("a mount that has died stays at `{}`", at.display());
        CliError::new(ExitCode::Failed, message)
            .because(&error)
            .hint(format!("`fusermount3 -u -z {}` takes it away", at.display()))
    })
}

/// Has one session take its mounts away; none named: all.
async fn one(
    entry: &Entry,
    places: Vec<PathBuf>,
    force: bool,
    (context, journal): (&Context, &Journal),
    done: &mut Done,
) -> Result<(), CliError> {
    let found = Connection::find(&context.places, &entry.root, &entry.profile.name).await;
    let Some(mut connection) = found else {
        return of_the_dead(entry, &places, journal, done);
    };
    let at = places.iter().map(|at| at.as_os_str().as_encoded_bytes().to_vec()).collect();
    let events = connection.client.unmount(UnmountRequest { at, force }).await;
    let events = match events {
        Ok(events) => events.into_inner(),
        // It was about to die when it was asked.
        Err(_) if connection.has_ended().await => {
            return of_the_dead(entry, &places, journal, done);
        }
        Err(status) => return Err(follow::broken(&status)),
    };
    let finished = follow::to_the_end(connection, events, context).await?;
    done.add(&finished);
    Ok(())
}

/// What a session that died left. The sandbox is left to whoever cleans up, or goes on with it.
fn of_the_dead(
    entry: &Entry,
    places: &[PathBuf],
    journal: &Journal,
    done: &mut Done,
) -> Result<(), CliError> {
    let is_meant = |mount: &MountRecord| places.is_empty() || places.contains(&mount.at);
    let mut gone = Vec::new();
    for mount in entry.mounts.iter().filter(|mount| is_meant(mount)) {
        let mounted = system::mounts().unwrap_or_default();
        if mounted.iter().any(|found| found.at == mount.at) {
            if system::health(&mount.at) == Health::Alive {
                let message =
                    format!("the session of the mount at `{}` does not answer", mount.at.display());
                return Err(CliError::new(ExitCode::Unreachable, message).hint(format!(
                    "`fusermount3 -u {}` takes it away, as its owner or root",
                    mount.at.display()
                )));
            }
            take_away(&mount.at)?;
            done.unmounted.push(mount.at.display().to_string());
        }
        mount.remove_made();
        gone.push(mount.at.clone());
    }
    forget(&entry.id, &gone, journal)
}

/// The next session of the project must not mount them again.
fn forget(id: &str, gone: &[PathBuf], journal: &Journal) -> Result<(), CliError> {
    // One that lives again keeps its own record.
    let Ok(Some(_claim)) = journal.claim(id) else { return Ok(()) };
    let Some(mut entry) = journal.find(id) else { return Ok(()) };
    entry.mounts.retain(|mount| !gone.contains(&mount.at));
    Ok(journal.write(&entry)?)
}

impl Done {
    fn add(&mut self, finished: &Finished) {
        let unmounted =
            finished.unmounted.iter().map(|at| String::from_utf8_lossy(at).into_owned());
        self.unmounted.extend(unmounted);
        self.ended |= !finished.ending.is_empty();
    }

    /// For a person.
    fn tell(&self, context: &Context) {
        for at in &self.unmounted {
            context.tell(&format!("`{}` is not mounted any more", visible(at)));
        }
        if self.ended {
            context.tell("the session has ended and its sandbox is gone");
        }
    }
}

fn said(done: Done, args: &UnmountArgs, context: &Context) -> Result<ExitCode, CliError> {
    done.tell(context);
    if context.json {
        let mut document = match &done.failed {
            None => json!({ "schema_version": SCHEMA_VERSION, "ok": true }),
            Some(error) => error_document(error),
        };
        document["unmounted"] = json!(done.unmounted);
        document["ended"] = done.ended.into();
        print(&format!("{document}\n"))?;
        return Ok(done.failed.map_or(ExitCode::Done, |error| error.code));
    }
    if args.all && done.unmounted.is_empty() && done.failed.is_none() {
        context.tell("nothing is mounted");
    }
    done.failed.map_or(Ok(ExitCode::Done), Err)
}
