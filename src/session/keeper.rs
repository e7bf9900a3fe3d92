//! The session's parent: starts it, waits, starts it again if it died, and removes what it left if
//! that does not help.
//!
//! A session that is started again takes over the sandbox with the commands that run in it, which
//! is the only way to bring home what they write.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::driver;
use crate::error::ExitCode;
use crate::session::cleanup;
use crate::session::journal::Journal;
use crate::session::mount_place;
use crate::session::{Spec, random_id};
use crate::state::Places;

/// What a session ends with if another one has what it was to have: the keeper leaves everything to
/// that one's.
pub const BUSY: ExitCode = ExitCode::Conflict;
/// What a session ends with if the sandbox of an earlier one may be there and could not be taken over.
pub const UNREACHED: ExitCode = ExitCode::Unreachable;
/// A session that dies more often than this in a row does not get better.
const RESTARTS_MAX: u32 = 3;
/// One that has lived so long begins a new row.
const HEALTHY: Duration = Duration::from_secs(60);
/// A log that has grown larger is started anew with the next session.
const LOG_BYTES_MAX: u64 = 4 << 20;

/// Runs a session and returns when it has ended and nothing of it is left. It gets an id of its
/// own, or that of one that died and was kept by nobody.
///
/// # Errors
/// If the session cannot be started, or what it left cannot be removed (`skync gc` tries again).
pub fn keep(places: &Places, mut spec: Spec) -> io::Result<()> {
    // No terminal's Ctrl-C, no hang-up of the one it was started from.
    let _ = rustix::process::setsid();
    let journal = Journal::open(places).map_err(io::Error::other)?;
    spec.id = journal.orphan(&spec.root, &spec.profile).unwrap_or_else(random_id);
    let (mut deaths, mut again, mut unreached) = (0, false, false);
    while deaths <= RESTARTS_MAX {
        let started = Instant::now();
        let status = serve(places, &spec, again)?;
        if status.code() == Some(i32::from(BUSY as u8)) {
            return forget_nothing(&journal, &spec.id);
        }
        // Whoever is in a mount of it must not wait for its successor.
        let mounts = journal.find(&spec.id).map(|entry| entry.mounts).unwrap_or_default();
        mount_place::clear(&mounts, true);
        unreached = status.code() == Some(i32::from(UNREACHED as u8));
        let has_sandbox = || journal.find(&spec.id).is_some_and(|entry| entry.sandbox.is_some());
        if status.success() || !has_sandbox() {
            break;
        }
        // Only what dies over and over is hopeless.
        deaths = if started.elapsed() < HEALTHY { deaths + 1 } else { 1 };
        again = true;
    }
    let Some(entry) = journal.find(&spec.id) else { return Ok(()) };
    let is_remote = driver::open(&entry.profile).is_some_and(|driver| driver.is_remote());
    if unreached && is_remote {
        // It may hold what nobody else has, and its provider ends it at its time. The next session of
        // the project takes it up, or `skync gc` removes it.
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(cleanup::release(&journal, &entry)).map_err(io::Error::other)?;
    Ok(())
}

/// Removes what claiming an id has left, if there is nothing of that id any more.
fn forget_nothing(journal: &Journal, id: &str) -> io::Result<()> {
    let claim = journal.claim(id).map_err(io::Error::other)?;
    if claim.is_some() && journal.find(id).is_none() {
        journal.forget(id).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Runs the session once.
fn serve(places: &Places, spec: &Spec, again: bool) -> io::Result<ExitStatus> {
    let directory = places.state_dir().map_err(io::Error::other)?.to_owned();
    let log = directory.join("session.log");
    if std::fs::metadata(&log).is_ok_and(|found| found.len() > LOG_BYTES_MAX) {
        crate::state::remove_file(&log).map_err(io::Error::other)?;
    }
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(log)?;
    let mut session = Command::new(std::env::current_exe()?)
        .args(["__session", "--serve"])
        .stdin(Stdio::piped())
        .stdout(if again { Stdio::null() } else { Stdio::inherit() })
        .stderr(log)
        .spawn()?;
    if let Some(mut input) = session.stdin.take() {
        // A session that dies at once breaks the pipe; `wait` tells.
        let _ = input.write_all(&serde_json::to_vec(spec).map_err(io::Error::other)?);
    }
    // The command waits for the session's word on this pipe, which must not stay open through us.
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    session.wait()
}
