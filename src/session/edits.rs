//! Follows the configuration while a session runs: what a profile says of files (`exclude`,
//! `gitignore`, `guarded`) holds as soon as it is written. Anything else of a profile is for the next
//! session, as it is about the sandbox that is there.
//!
//! The sandbox writes into the project, so into its `skync.toml`, too. What the project's files say
//! counts as it was when the session began; an edit that the user has not trusted counts only where it
//! leaves out more.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skync_agent::disk::DirFd;
use skync_agent::path::SyncPath;
use skync_agent::watch::Watcher;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::config::layers::{LOCAL_FILE, Layers, PROJECT_FILE};
use crate::config::trust::{Store, Verdict};
use crate::config::{Config, Profile};
use crate::session::server::Session;
use crate::state;
use crate::ui::visible;

/// Follows the configuration until the session ends.
pub(super) async fn run(session: Arc<Session>) {
    let (send, mut edits) = mpsc::channel(1);
    let places = &session.places;
    let file = |path: PathBuf| (path.parent().unwrap_or(Path::new("/")).to_owned(), Some(path));
    let root = &session.spec.root;
    let mut followed = vec![file(places.config_file())];
    followed.extend([PROJECT_FILE, LOCAL_FILE].map(|name| (root.clone(), Some(root.join(name)))));
    // What is trusted meanwhile counts from then on.
    let trust = Store::of(places).directory().to_owned();
    let _ = state::make_directory(&trust);
    followed.push((trust, None));
    for (directory, file) in followed {
        let send = send.clone();
        // A thread that waits in the kernel; it ends with the process.
        std::thread::spawn(move || {
            // Without a configuration there is nothing that could be edited.
            if let Err(error) = follow(&directory, file.as_deref(), &send) {
                tracing::info!(%error, "edits of the configuration are not followed");
            }
        });
    }
    let mut following = Following::new(session.profile());
    while let Some(()) = edits.recv().await {
        following.read(&session).await;
    }
}

fn follow(directory: &Path, file: Option<&Path>, edits: &mpsc::Sender<()>) -> io::Result<()> {
    let watcher = Watcher::new(directory).map_err(io::Error::other)?;
    let opened = DirFd::open(directory)?;
    watcher.add(&SyncPath::root(), &opened).map_err(io::Error::other)?;
    loop {
        watcher.wait(watcher.as_fd(), None)?;
        let mut is_edited = false;
        watcher.read(&mut |event| {
            let name = event.path().and_then(|path| path.names().last());
            let is_meant = |name| file.is_none_or(|file| file.ends_with(name_of(name)));
            is_edited |= name.is_none_or(is_meant);
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

/// What holds meanwhile.
struct Following {
    profile: Profile,
    /// The project's files that were told to be ignored.
    told: Option<BTreeMap<String, String>>,
}

impl Following {
    fn new(profile: &Profile) -> Self {
        Self { profile: profile.clone(), told: None }
    }

    async fn read(&mut self, session: &Session) {
        let Ok(layers) = Layers::read(&session.places, Some(&session.spec.root)) else { return };
        let (holds, note) = self.take(layers);
        if let Some(note) = note {
            // In the log as well: of a mirror in the background nobody may see it now.
            tracing::warn!("{note}");
            session.tell(note);
        }
        if holds {
            session.take_over(&self.profile).await;
        }
    }

    /// Takes what may count; true if something did, and what is to be told. What is not valid changes
    /// nothing: a person is still writing it, or the sandbox has written it. What a variable or a flag
    /// of the session's command said stays.
    fn take(&mut self, layers: Layers) -> (bool, Option<String>) {
        let files = layers.digests();
        let edited = self.edited(&layers);
        let config = Config::gather(layers, None, None);
        let selected = config.select(Some(&self.profile.name), None).map(|found| found.profile);
        let Some(edited) = edited else {
            let Ok(mut profile) = selected else { return (false, None) };
            profile.fixed.clone_from(&self.profile.fixed);
            let now = &self.profile;
            let is_fixed = |key: &str| now.fixed.iter().any(|fixed| fixed == key);
            if is_fixed("exclude") {
                profile.exclude.clone_from(&now.exclude);
            }
            if is_fixed("gitignore") {
                profile.gitignore = now.gitignore;
            }
            if is_fixed("guarded") {
                profile.guarded.clone_from(&now.guarded);
            }
            self.profile = profile;
            self.told = None;
            return (true, None);
        };
        let holds = selected.is_ok_and(|profile| self.tighten(&profile));
        let note = (self.told.as_ref() != Some(&files)).then(|| {
            format!(
                "`{}` has changed: this session ignores that until `skync trust`, but for what it \
                 excludes more",
                visible(&edited)
            )
        });
        self.told = Some(files);
        (holds, note)
    }

    /// A file of the project that is not as it was, and not trusted as it is.
    fn edited(&self, layers: &Layers) -> Option<String> {
        let (was, now) = (&self.profile.project_files, layers.digests());
        let of_project = layers.files.iter().filter(|layer| layer.level.is_of_project());
        let names = of_project
            .filter(|layer| layer.verdict != Verdict::Trusted)
            .filter_map(|layer| Some(layer.path.file_name()?.to_string_lossy().into_owned()));
        names.into_iter().find(|name| was.get(name) != now.get(name))
    }

    /// Takes what leaves out more; true if something does.
    fn tighten(&mut self, wanted: &Profile) -> bool {
        let own = &mut self.profile;
        let more = |pattern: &&String| {
            !pattern.trim_start().starts_with('!') && !own.exclude.contains(pattern)
        };
        let more: Vec<String> = wanted.exclude.iter().filter(more).cloned().collect();
        let is_more = !more.is_empty() || (wanted.gitignore && !own.gitignore);
        own.exclude.extend(more);
        own.gitignore |= wanted.gitignore;
        is_more
    }
}

#[cfg(test)]
mod tests;
