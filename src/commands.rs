//! One verb per file. A command reads its arguments, asks the modules that know, and says the
//! result; it holds no knowledge of its own.

pub mod attach;
mod attached;
pub mod cancel;
pub mod conflicts;
pub mod down;
pub mod exec;
pub mod flush;
pub mod gc;
pub mod logs;
pub mod mount;
mod operations;
pub mod pause;
pub mod profile;
pub mod ps;
mod record;
pub mod resolve;
pub mod resume;
pub mod session;
pub mod status;
pub mod undo;
pub mod unmount;
pub mod up;
pub mod use_profile;
pub mod wait;

mod follow;

use std::path::{Path, PathBuf};

use crate::cli::{ColorChoice, Global};
use crate::config::{Config, ConfigProblem, Selected};
use crate::error::{CliError, ExitCode};
use crate::project::Project;
use crate::session::client::Connection;
use crate::state::Places;
use crate::ui::render::{self, Style};
use crate::ui::say;

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
    /// One JSON document on stdout instead of text.
    pub json: bool,
    /// How much less to say.
    pub quiet: u8,
    /// How much more to say.
    pub verbose: u8,
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
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            style: Style::of_stderr(global.color),
        })
    }

    /// The context of a test: everything below one directory, nothing from the environment.
    pub fn below(directory: &std::path::Path) -> Self {
        Self {
            places: Places::below(directory),
            profile_flag: None,
            profile_env: None,
            json: false,
            quiet: 0,
            verbose: 0,
            style: Style::of_stderr(ColorChoice::Never),
        }
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn config(&self) -> Result<Config, CliError> {
        Ok(Config::load(&self.places.config_file())?)
    }

    /// Selects the profile to work with, and tells what is wrong with others.
    ///
    /// # Errors
    /// If there is no such profile, or it has problems.
    pub fn select(&self) -> Result<Selected, CliError> {
        let config = self.config()?;
        let selected = config.select(self.profile_flag.as_deref(), self.profile_env.as_deref())?;
        self.warn(&selected.warnings);
        Ok(selected)
    }

    /// The session of the project around the current directory, or of `root`, if one runs.
    ///
    /// # Errors
    /// If there is no such profile or directory.
    pub async fn find_session(&self, root: Option<&Path>) -> Result<Option<Connection>, CliError> {
        let profile = self.select()?.profile;
        // A session of the home directory, once forced, must be reachable.
        let project = find_project(root, true)?;
        Ok(Connection::find(&self.places, &project.root, &profile.name).await)
    }

    fn warn(&self, problems: &[ConfigProblem]) {
        if self.json || self.quiet > 1 {
            return;
        }
        for problem in problems.iter().take(WARNINGS_MAX) {
            render::warning(&problem.to_string(), self.style);
        }
        if let Some(more) = problems.len().checked_sub(WARNINGS_MAX).filter(|more| *more > 0) {
            let text = format!("{more} more; `skync profile validate --all` shows them");
            render::warning(&text, self.style);
        }
    }

    /// Tells a person that something was done; nothing for a program or for who wants quiet.
    pub fn tell(&self, text: &str) {
        if !self.json && self.quiet == 0 {
            say(text);
        }
    }
}

/// The project around the current directory, or the one at `root`.
///
/// # Errors
/// As [`Project::find`]; and if it is what a mount shows: its files are in a sandbox already. One that
/// holds a mount is none either, without `force`: the mount's files would become the project's.
pub fn find_project(root: Option<&Path>, force: bool) -> Result<Project, CliError> {
    let current = std::env::current_dir().map_err(|error| {
        CliError::new(ExitCode::Failed, "cannot find the current directory").because(&error)
    })?;
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
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(ExitCode::Failed, "cannot start").because(&error))
}
