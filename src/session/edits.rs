//! Follows the configuration while a session runs: what a profile says of files (`exclude`,
//! `gitignore`, `guarded`) holds as soon as it is written. Anything else of a profile is for the next
//! session, as it is about the sandbox that is there.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use skync_agent::disk::DirFd;
use skync_agent::path::SyncPath;
use skync_agent::watch::Watcher;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::config::Config;
use crate::session::server::Session;

/// Follows the configuration until the session ends.
pub(super) async fn run(session: Arc<Session>) {
    let file = session.places.config_file();
    let (send, mut edits) = mpsc::channel(1);
    let there = file.clone();
    // A thread that waits in the kernel; it ends with the process.
    std::thread::spawn(move || {
        // Without a configuration there is nothing that could be edited.
        if let Err(error) = follow(&there, &send) {
            tracing::info!(%error, "edits of the configuration are not followed");
        }
    });
    while let Some(()) = edits.recv().await {
        take_over(&session, &file).await;
    }
}

fn follow(file: &Path, edits: &mpsc::Sender<()>) -> io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("/"));
    let watcher = Watcher::new(directory).map_err(io::Error::other)?;
    let opened = DirFd::open(directory)?;
    watcher.add(&SyncPath::root(), &opened).map_err(io::Error::other)?;
    loop {
        watcher.wait(watcher.as_fd(), None)?;
        let mut is_edited = false;
        watcher.read(&mut |event| {
            let name = event.path().and_then(|path| path.names().last());
            is_edited |= name.is_none_or(|name| file.ends_with(name_of(name)));
        })?;
        // One that waits already reads what is there then.
        if is_edited && matches!(edits.try_send(()), Err(TrySendError::Closed(()))) {
            return Ok(());
        }
    }
}

fn name_of(name: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name)
}

/// What cannot be read, or is not valid, changes nothing: a person is still writing it.
async fn take_over(session: &Session, file: &Path) {
    let Ok(config) = Config::load(file) else { return };
    let Some(checked) = config.profile(&session.profile().name) else { return };
    if let Ok(profile) = checked {
        session.take_over(&profile).await;
    }
}
