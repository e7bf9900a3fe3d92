//! The session's parent: starts it, waits, and removes what it left if it did not end by itself.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

use crate::session::Spec;
use crate::session::cleanup;
use crate::session::journal::Journal;
use crate::state::Places;

/// A log that has grown larger is started anew with the next session.
const LOG_BYTES_MAX: u64 = 4 << 20;

/// Runs a session and returns when it has ended and nothing of it is left.
///
/// # Errors
/// If the session cannot be started, or what it left cannot be removed (`skync gc` tries again).
pub fn keep(places: &Places, spec: &Spec) -> io::Result<()> {
    // No terminal's Ctrl-C, no hang-up of the one it was started from.
    let _ = rustix::process::setsid();
    let directory = places.state_dir().map_err(io::Error::other)?.to_owned();
    let log = directory.join("session.log");
    if std::fs::metadata(&log).is_ok_and(|found| found.len() > LOG_BYTES_MAX) {
        crate::state::remove_file(&log).map_err(io::Error::other)?;
    }
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(log)?;
    let mut session = Command::new(std::env::current_exe()?)
        .args(["__session", "--serve"])
        .stdin(Stdio::piped())
        .stdout(Stdio::inherit())
        .stderr(log)
        .spawn()?;
    if let Some(mut input) = session.stdin.take() {
        // A session that dies at once breaks the pipe; `wait` tells.
        let _ = input.write_all(&serde_json::to_vec(spec).map_err(io::Error::other)?);
    }
    // The command waits for the session's word on this pipe, which must not stay open through us.
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    session.wait()?;
    let journal = Journal::open(places).map_err(io::Error::other)?;
    let Some(entry) = journal.find(&spec.id) else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(cleanup::release(&journal, &entry)).map_err(io::Error::other)?;
    Ok(())
}
