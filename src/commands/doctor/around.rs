//! What the checks look at: this machine, or what a test has in its place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::commands::patience::bounded;
use crate::commands::survey::{Survey, survey};
use crate::config::Profile;
use crate::project::Project;
use crate::state::Places;

/// How long the project is counted: less than a check may take.
const SURVEY_PATIENCE: Duration = Duration::from_secs(3);
/// How long another program may take to say its version.
const VERSION_PATIENCE: Duration = Duration::from_secs(2);

/// The surroundings of a command; read once, so that all checks speak of the same.
#[derive(Clone, Debug)]
pub(super) struct Around {
    /// What stands for `/`.
    pub(super) root: PathBuf,
    /// Environment variables that are text.
    pub(super) variables: BTreeMap<String, String>,
    /// Where our own files are.
    pub(super) places: Places,
    /// Who we are.
    pub(super) uid: u32,
    /// This program.
    pub(super) program: Option<PathBuf>,
    /// The profile that is meant and why; or why there is none, in words.
    pub(super) selected: Result<(Profile, String), String>,
    /// All profiles that can be used, built-in ones left out.
    pub(super) profiles: Vec<Profile>,
    /// What is wrong in the configuration, one sentence each.
    pub(super) config_problems: Vec<String>,
    /// Standard output or input is a terminal.
    pub(super) terminal: bool,
    /// What the project is made of; counted by whichever check needs it first.
    pub(super) survey: Arc<OnceLock<Survey>>,
    /// The project, or why there is none.
    pub(super) project: Result<Project, String>,
}

/// What a program says of its version; nothing if it says none in time.
pub(super) fn version_said(program: &Path) -> Option<String> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null());
    let output = bounded(VERSION_PATIENCE, move || command.output().ok()).flatten()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Some(said).filter(|said| !said.is_empty())
}

impl Around {
    /// A machine without anything, below a directory; for tests.
    #[cfg(test)]
    pub(super) fn below(base: &Path) -> Self {
        Self {
            root: base.to_owned(),
            variables: BTreeMap::new(),
            places: Places::below(base),
            uid: rustix::process::geteuid().as_raw(),
            program: None,
            selected: Err("no profile".to_owned()),
            profiles: Vec::new(),
            config_problems: Vec::new(),
            terminal: false,
            survey: Arc::default(),
            project: Err("no project".to_owned()),
        }
    }

    /// Where an absolute path is.
    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The text of a file, as `/proc` has them; nothing if it cannot be read.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.at(path)).ok()
    }

    /// The number in a file of `/proc/sys`.
    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.trim().parse().ok()
    }

    /// A variable that is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// True for root.
    pub(super) fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// The profile that is meant, if there is one.
    pub(super) fn profile(&self) -> Option<&Profile> {
        self.selected.as_ref().ok().map(|(profile, _)| profile)
    }

    /// The profiles that there are, the one that is meant first; each once.
    pub(super) fn all_profiles(&self) -> Vec<&Profile> {
        let meant = self.profile();
        let others = self.profiles.iter().filter(|profile| Some(*profile) != meant);
        meant.into_iter().chain(others).collect()
    }

    /// What the project is made of, by the rules of the profile that is meant.
    pub(super) fn survey(&self) -> Option<&Survey> {
        let project = self.project.as_ref().ok()?;
        let (exclude, gitignore) = match self.profile() {
            Some(profile) => (profile.exclude.as_slice(), profile.gitignore),
            None => (&[][..], false),
        };
        let count = || survey(&project.root, exclude, gitignore, SURVEY_PATIENCE);
        Some(self.survey.get_or_init(count))
    }

    /// The programs of this name on the search path, in its order.
    pub(super) fn programs(&self, name: &str) -> Vec<PathBuf> {
        let path = self.variable("PATH").unwrap_or_default();
        let places = std::env::split_paths(path).filter(|place| place.is_absolute());
        places.map(|place| place.join(name)).filter(|program| is_program(program)).collect()
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// A path for a person.
pub(super) fn shown(path: &Path) -> String {
    format!("`{}`", path.display())
}
