//! Brings back what the sandbox overwrote or deleted on the host.
//!
//! Bringing back destroys nothing: it is a change like any other, made by the same transitions, so
//! what is at the path now goes to the trash first, and an undo can be undone. A running session sees
//! it as an edit of the host's and sends it on.
//!
//! What is brought back is the version from *before* a burst: if a path was lost several times in
//! it, the first. For a single path the newest version is meant, of a directory everything that was
//! lost below it in the newest burst that touched it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use skync_agent::disk::{DiskError, Root};
use skync_agent::endpoint::{Endpoint, EndpointError};
use skync_agent::entry::{Directory, Entry};
use skync_agent::path::{Name, SyncPath};
use skync_agent::rules::{RuleSet, Rules};
use skync_agent::transition::{
    Held, ReadProblem, Status, Step, Transition, entry_at, read_content,
};

use super::trash::{Lost, Trash};

#[cfg(test)]
mod tests;

/// Steps that wait between the reader of the trash and the writer; each has at most 256 KiB.
const STEPS_WAITING_MAX: usize = 8;

/// Why nothing was brought back.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// The project or the place for what is being written.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The project or the trash.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// What a person wants back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meant {
    /// What the last burst destroyed.
    Last,
    /// A path, or what is below it.
    Path(SyncPath),
}

impl Meant {
    /// Chooses from what was lost (the newest first): one version of each path, by path. Nothing
    /// if there is none.
    pub fn choose<'a>(&self, lost: &'a [Lost]) -> Vec<&'a Lost> {
        let is_meant = |lost: &&Lost| match self {
            Self::Last => true,
            Self::Path(path) => lost.path.is_within(path),
        };
        let Some(newest) = lost.iter().find(is_meant) else { return Vec::new() };
        if matches!(self, Self::Path(path) if newest.path == *path) {
            return vec![newest];
        }
        // Later ones are older: the last of each path is from before the burst.
        let of_burst = lost.iter().filter(is_meant).filter(|l| l.batch_ns == newest.batch_ns);
        let by_path: BTreeMap<&SyncPath, &Lost> = of_burst.map(|l| (&l.path, l)).collect();
        by_path.into_values().collect()
    }
}

/// What became of a version that was to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is back.
    Restored,
    /// The path is like this already.
    Already,
    /// It could not come back, for a person to read.
    Failed(String),
}

/// Brings versions back to the project at `root`. `staging` is a directory for what is being written,
/// which nobody else uses. What is replaced goes to `trash`.
///
/// Each version has an outcome, in their order.
///
/// # Errors
/// If the project, the trash or `staging` cannot be used at all.
pub fn restore(
    root: &Path,
    staging: &Path,
    trash: Arc<Trash>,
    chosen: &[&Lost],
) -> Result<Vec<Outcome>, UndoError> {
    // Nothing is scanned here, so no rules are asked.
    let rules = RuleSet::of_defaults();
    let (compiled, _) = Rules::compile(&rules);
    let root = Root::open(root)?;
    let endpoint = Endpoint::open(root, staging, compiled, rules.version, None)?.keep_with(trash);
    let mut work = Work { endpoint: &endpoint, directories: BTreeMap::new(), steps: Vec::new() };
    let planned = chosen.iter().enumerate().map(|(at, lost)| work.plan(at, lost));
    let mut outcomes: Vec<Outcome> =
        planned.map(|planned| planned.unwrap_or_else(Outcome::Failed)).collect();
    let steps = work.steps;
    let mut statuses = vec![None; steps.len()];
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(STEPS_WAITING_MAX);
        let steps = &steps;
        scope.spawn(move || steps.iter().all(|step| step.feed(&send)));
        endpoint.apply(receive.into_iter(), &mut |outcome| {
            let place = usize::try_from(outcome.index).ok().and_then(|at| statuses.get_mut(at));
            if let Some(place) = place {
                *place = Some(outcome.status);
            }
        });
    });
    for (step, status) in steps.iter().zip(statuses) {
        if let Some((version, _)) = step.version {
            outcomes[version] = told(status);
        }
    }
    Ok(outcomes)
}

fn told(status: Option<Status>) -> Outcome {
    match status {
        Some(Status::Applied) => Outcome::Restored,
        Some(Status::Failed { problem, .. }) => Outcome::Failed(problem),
        Some(Status::Stale | Status::NotEmpty) | None => {
            Outcome::Failed("it changed just now; try again".to_owned())
        }
    }
}

/// One transition, and where its content is.
struct Planned<'a> {
    transition: Transition,
    /// The number of the version that it brings back, and the version; nothing for a directory
    /// around one.
    version: Option<(usize, &'a Lost)>,
}

impl Planned<'_> {
    /// Sends the content, then the transition; false if nobody takes it.
    fn feed(&self, send: &SyncSender<Step>) -> bool {
        if let (Some((_, lost)), Some(Entry::File(file))) = (self.version, &self.transition.new) {
            // A content that does not come whole fails its transition, which says so.
            let _ = Root::open(&lost.shelf).map_err(ReadProblem::from).and_then(|shelf| {
                read_content(&shelf, &lost.path, file, Held::default(), |chunk| {
                    match send.send(Step::Chunk(chunk)) {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(_) => ControlFlow::Break(()),
                    }
                })
            });
        }
        send.send(Step::Transition(self.transition.clone())).is_ok()
    }
}

struct Work<'a> {
    endpoint: &'a Endpoint,
    /// The directories around what comes back, and whether each can be one.
    directories: BTreeMap<SyncPath, Result<(), String>>,
    steps: Vec<Planned<'a>>,
}

impl<'a> Work<'a> {
    /// Plans one version.
    ///
    /// # Errors
    /// Why it cannot come back, for a person to read.
    fn plan(&mut self, number: usize, lost: &'a Lost) -> Result<Outcome, String> {
        let shelf = Root::open(&lost.shelf).map_err(|error| error.to_string())?;
        let version = entry_at(&shelf, &lost.path).map_err(|error| error.to_string())?;
        let Some(version) = version else {
            return Err("it is not kept any more".to_owned());
        };
        if let Some((parent, _)) = lost.path.split() {
            self.make_directory(&parent)?;
        }
        let there = self.endpoint.entry_at(&lost.path).map_err(|error| error.to_string())?;
        match &there {
            Some(there) if *there == version => return Ok(Outcome::Already),
            Some(there @ (Entry::Directory(_) | Entry::Untracked | Entry::Problem(_))) => {
                return Err(format!("a {} is there now; move it away first", there.kind_word()));
            }
            Some(Entry::File(_) | Entry::Symlink(_)) | None => {}
        }
        let path = lost.path.clone();
        let transition = Transition { path, expected: there, new: Some(version) };
        self.steps.push(Planned { transition, version: Some((number, lost)) });
        Ok(Outcome::Restored)
    }

    /// Plans a directory and those above it where they are not there.
    ///
    /// # Errors
    /// Why there can be none, for a person to read.
    fn make_directory(&mut self, path: &SyncPath) -> Result<(), String> {
        let mut names = path.names().filter_map(|name| Name::parse(name).ok());
        names.try_fold(SyncPath::root(), |above, name| {
            let path = above.join(&name);
            let known = self.directories.get(&path).cloned();
            let state = known.unwrap_or_else(|| self.plan_directory(&path));
            self.directories.insert(path.clone(), state.clone());
            state.map(|()| path)
        })?;
        Ok(())
    }

    fn plan_directory(&mut self, path: &SyncPath) -> Result<(), String> {
        match self.endpoint.entry_at(path).map_err(|error| error.to_string())? {
            Some(Entry::Directory(_)) => Ok(()),
            Some(other) => {
                Err(format!("`{path}` is a {} now; move it away first", other.kind_word()))
            }
            None => {
                let new = Some(Entry::Directory(Directory { mode: 0o755, ..Directory::default() }));
                let transition = Transition { path: path.clone(), expected: None, new };
                self.steps.push(Planned { transition, version: None });
                Ok(())
            }
        }
    }
}
