//! One verb per file. A command reads its arguments, asks the modules that know, and says the
//! result; it holds no knowledge of its own.

pub mod attach;
mod attached;
pub mod auth;
pub mod cancel;
pub mod completions;
pub mod config;
pub mod conflicts;
pub mod doctor;
pub mod down;
pub mod exec;
pub mod flush;
pub mod gc;
pub mod help;
pub mod init;
pub mod logs;
pub mod man;
pub mod mount;
mod operations;
mod patience;
pub mod pause;
pub mod profile;
mod project_file;
pub mod ps;
mod record;
pub mod resolve;
pub mod resume;
mod running;
pub mod session;
pub mod status;
mod survey;
pub mod trust;
pub mod undo;
pub mod unmount;
pub mod up;
pub mod use_profile;
pub mod wait;

mod ends;
mod follow;
mod setup;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use crate::cli::{ColorChoice, Global};
use crate::config::layers::Layers;
use crate::config::{Config, ConfigProblem, Selected};
use crate::error::{CliError, ExitCode, LIMITS};
use crate::project::Project;
use crate::session::client::Connection;
use crate::state::Places;
use crate::ui::render::{self, Style};
use crate::ui::{say, visible};

/// Most warnings about other profiles that are told one by one.
const WARNINGS_MAX: usize = 3;

/// What every command knows.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where our own files are.
    pub places: Places,
    /// The name behind `--profile`.
    pub profile_flag: Option<String>,
    /// The variable SKYNC_PROFILE.
    pub profile_env: Option<String>,
    /// What stands behind each `--set`.
    pub sets: Vec<String>,
    /// The variables `SKYNC_<KEY>` count.
    pub with_variables: bool,
    /// One JSON document on stdout instead of text.
    pub json: bool,
    /// How much less to say.
    pub quiet: u8,
    /// How much more to say.
    pub verbose: u8,
    /// What `--color` says; for stdout.
    pub color: ColorChoice,
    /// How stderr looks.
    pub style: Style,
}

impl Context {
    /// Takes what the command line and the environment say.
    ///
    /// # Errors
    /// If it is not known where our files are.
    pub fn new(global: &Global) -> Result<Self, CliError> {
        // A name that is not text is no profile's name either; the error that follows shows it.
        let variable = std::env::var_os("SKYNC_PROFILE");
        Ok(Self {
            places: Places::discover()?,
            profile_flag: global.profile.clone(),
            profile_env: variable.map(|name| name.to_string_lossy().into_owned()),
            sets: settings(&global.set)?,
            with_variables: true,
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            color: global.color,
            style: Style::of_stderr(global.color),
        })
    }

    /// The context of a test: everything below one directory, nothing from the environment.
    pub fn below(directory: &std::path::Path) -> Self {
        Self {
            places: Places::below(directory),
            profile_flag: None,
            profile_env: None,
            sets: Vec::new(),
            with_variables: false,
            json: false,
            quiet: 0,
            verbose: 0,
            color: ColorChoice::Never,
            style: Style::of_stderr(ColorChoice::Never),
        }
    }

    /// Reads the configuration, as it is for the project around the current directory.
    ///
    /// # Errors
    /// If a file is there and cannot be read.
    pub fn config(&self) -> Result<Config, CliError> {
        self.config_of(None, self.profile_flag.as_deref())
    }

    /// Reads the configuration, as it is for the project around the current directory, or of `root`;
    /// variables and flags are about the profile `flag`, or about the one that is used.
    ///
    /// # Errors
    /// If a file is there and cannot be read.
    pub fn config_of(&self, root: Option<&Path>, flag: Option<&str>) -> Result<Config, CliError> {
        // Nothing is synchronised by this; who is in no project has the user's own configuration.
        let project = project_root(root);
        let mut layers = Layers::read(&self.places, project.as_deref())?;
        if self.with_variables {
            layers = layers.with_variables(std::env::vars_os());
        }
        layers.sets.clone_from(&self.sets);
        Ok(Config::gather(layers, flag, self.profile_env.as_deref()))
    }

    /// Selects the profile to work with, and tells what is wrong with others.
    ///
    /// # Errors
    /// If there is no such profile, or it has problems.
    pub fn select(&self) -> Result<Selected, CliError> {
        self.select_in(None)
    }

    /// Selects the profile for the project around the current directory, or for the one at `root`.
    ///
    /// # Errors
    /// As [`Context::select`].
    pub fn select_in(&self, root: Option<&Path>) -> Result<Selected, CliError> {
        let config = self.config_of(root, self.profile_flag.as_deref())?;
        let selected = config.select(self.profile_flag.as_deref(), self.profile_env.as_deref())?;
        self.warn(&selected.warnings);
        for (name, meant) in config.layers.slips.iter().take(WARNINGS_MAX) {
            self.caution(&format!("`{}` says nothing; did you mean `{meant}`?", visible(name)));
        }
        Ok(selected)
    }

    /// The name of the profile whose session is meant. Where the configuration cannot be used, or does
    /// not count as long as it is not trusted, it is that of the one session that the project has: what
    /// runs must be reachable, whatever somebody wrote since.
    ///
    /// # Errors
    /// If it is not clear, or none runs.
    pub fn profile_name(&self, root: Option<&Path>) -> Result<String, CliError> {
        self.meant(root)?.map_err(|error| {
            no_session().hint(format!("the configuration is no use either: {}", error.message))
        })
    }

    /// The same; if none runs and the configuration cannot say, why it cannot.
    fn meant(&self, root: Option<&Path>) -> Result<Result<String, CliError>, CliError> {
        let error = match self.select_in(root) {
            Ok(selected) => return Ok(Ok(selected.profile.name)),
            Err(error) if error.code == ExitCode::Config => error,
            // A name that nobody knows is a slip.
            Err(error) => return Err(error),
        };
        // A session of the home directory, once forced, must be reachable.
        let project = find_project(root, true)?;
        let sessions = running::of_project(self, &project.root).into_iter();
        let mut names: Vec<String> = sessions.map(|entry| entry.profile.name).collect();
        let given = self.profile_flag.as_ref().or(self.profile_env.as_ref());
        if let Some(given) = given.filter(|name| !name.is_empty()) {
            names.retain(|name| name == given);
        }
        match names.as_slice() {
            [name] => Ok(Ok(name.clone())),
            [] => Ok(Err(error)),
            _ => Err(error.hint("several sessions run here: `--profile NAME` says which is meant")),
        }
    }

    /// The session of the project around the current directory, or of `root`, if one runs.
    ///
    /// # Errors
    /// If there is no such profile or directory.
    pub async fn find_session(&self, root: Option<&Path>) -> Result<Option<Connection>, CliError> {
        let Ok(profile) = self.meant(root)? else { return Ok(None) };
        // A session of the home directory, once forced, must be reachable.
        let project = find_project(root, true)?;
        Ok(Connection::find(&self.places, &project.root, &profile).await)
    }

    fn warn(&self, problems: &[ConfigProblem]) {
        for problem in problems.iter().take(WARNINGS_MAX) {
            self.caution(&problem.to_string());
        }
        if let Some(more) = problems.len().checked_sub(WARNINGS_MAX).filter(|more| *more > 0) {
            let text = format!("{more} more; `skync profile validate --all` shows them");
            self.caution(&text);
        }
    }

    /// Warns a person; nothing for a program, which has the same facts in its document, or for who wants
    /// errors only.
    pub fn caution(&self, text: &str) {
        if !self.json && self.quiet < 2 {
            render::warning(text, self.style);
        }
    }

    /// There is a person who sees a question and can answer it.
    pub fn can_ask(&self) -> bool {
        !self.json && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    /// Tells a person that something was done; nothing for a program or for who wants quiet.
    pub fn tell(&self, text: &str) {
        if !self.json && self.quiet == 0 {
            say(text);
        }
    }
}

/// The directory of the project, if there is one.
fn project_root(root: Option<&Path>) -> Option<PathBuf> {
    let current = std::env::current_dir().ok()?;
    let home = std::env::var_os("HOME").map(PathBuf::from);
    Project::find(&current, root, home.as_deref(), true).ok().map(|project| project.root)
}

/// What stands behind each `--set`, which must be a setting.
fn settings(sets: &[String]) -> Result<Vec<String>, CliError> {
    match sets.iter().find(|set| !set.contains('=')) {
        None => Ok(sets.to_vec()),
        Some(set) => {
            let message = format!("`--set {}` has no value", visible(set));
            Err(CliError::new(ExitCode::Usage, message)
                .hint("write `--set KEY=VALUE`, as in `--set image=python:3.13`"))
        }
    }
}

/// Where the command was started.
///
/// # Errors
/// If it is gone, or cannot be reached.
pub fn current_directory() -> Result<PathBuf, CliError> {
    std::env::current_dir().map_err(|error| {
        CliError::new(ExitCode::Failed, "cannot find the current directory")
            .because(&error)
            .hint("it may have been removed: `cd` to one that is there, then try again")
    })
}

/// The project around the current directory, or the one at `root`.
///
/// # Errors
/// As [`Project::find`]; and if it is what a mount shows: its files are in a sandbox already. One that
/// holds a mount is none either, without `force`: the mount's files would become the project's.
pub fn find_project(root: Option<&Path>, force: bool) -> Result<Project, CliError> {
    let current = current_directory()?;
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let project = Project::find(&current, root, home.as_deref(), force)?;
    let mounts = skync_mount::system::mounts().unwrap_or_default();
    if let Some(mount) = mounts.iter().find(|mount| project.root.starts_with(&mount.at)) {
        let message = format!("`{}` is what a sandbox holds, mounted here", mount.at.display());
        return Err(CliError::new(ExitCode::Usage, message)
            .hint("go to the project itself; `skync status` says which one it is"));
    }
    if let Some(mount) = mounts.iter().find(|mount| mount.at.starts_with(&project.root) && !force) {
        let message = format!(
            "`{}` cannot be the project: a sandbox is mounted in it, at `{}`",
            project.root.display(),
            mount.at.display()
        );
        return Err(CliError::new(ExitCode::Usage, message)
            .hint("`skync unmount` takes it away; `--force` mirrors what it shows, too"));
    }
    Ok(project)
}

/// No session runs where one is needed.
pub fn no_session() -> CliError {
    CliError::new(ExitCode::NotFound, "no session of this project runs")
        .hint("`skync up` mirrors the project; `skync status` shows the sessions there are")
}

/// A runtime for a command: it waits more than it works.
///
/// # Errors
/// If the system has no more descriptors.
pub fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        CliError::new(ExitCode::Failed, "cannot start").because(&error).hint(LIMITS)
    })
}
