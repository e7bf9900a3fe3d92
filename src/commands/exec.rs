//! `skync exec`: runs a command in the sandbox as if it ran here.

mod place;
mod remote;

use std::path::PathBuf;

use crate::cli::ExecArgs;
use crate::commands::Context;
use crate::config::DriverConfig;
use crate::environment;
use crate::error::CliError;
use crate::project::Project;
use crate::session::Spec;
use crate::session::proto::{Begin, Variable};
use crate::ui::render;

/// Runs the command; the code is the command's own, or one of skync's (see `--help`).
///
/// # Errors
/// What went wrong before the command started, or while its results came home.
pub fn run(args: &ExecArgs, context: &Context) -> Result<u8, CliError> {
    let selected = context.select()?;
    let current = std::env::current_dir().map_err(|error| {
        CliError::new(crate::error::ExitCode::Failed, "cannot find the current directory")
            .because(&error)
    })?;
    if matches!(selected.profile.driver, DriverConfig::Local) {
        return place::run(args, &selected.profile, &current);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let project = Project::find(&current, args.root.as_deref(), home.as_deref(), args.force)?;
    if let Some(warning) = project.warning()
        && context.quiet < 2
    {
        render::warning(&warning, context.style);
    }
    let begin = begin(args, &project)?;
    let spec = Spec {
        // The keeper that is started chooses the id; one that runs has its own.
        id: String::new(),
        root: project.root,
        profile: selected.profile,
    };
    let runtime = crate::commands::runtime()?;
    let code = runtime.block_on(remote::run(context, &spec, begin));
    // A read of standard input may be under way in a thread: it must not hold us.
    runtime.shutdown_background();
    code
}

fn begin(args: &ExecArgs, project: &Project) -> Result<Begin, CliError> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let git = environment::git_settings(&project.root);
    let variables = environment::collect(std::env::vars_os(), &args.env, &git)?;
    environment::check_directories(&variables, &project.root)?;
    let workdir = args.workdir.clone().unwrap_or_default();
    // An absolute directory of the project is meant as the same place in the sandbox.
    let in_project = workdir.strip_prefix(&project.root).ok();
    let (directory, sandbox_directory) = match (workdir.is_absolute(), in_project) {
        (true, None) => (PathBuf::new(), workdir),
        (true, Some(inside)) => (inside.to_owned(), PathBuf::new()),
        (false, _) => (project.inside.join(&workdir), PathBuf::new()),
    };
    let mut id = vec![0; 16];
    getrandom::fill(&mut id).expect("the kernel gives random bytes");
    Ok(Begin {
        id,
        argv: args.command.iter().map(|word| word.as_bytes().to_vec()).collect(),
        directory: directory.into_os_string().into_vec(),
        sandbox_directory: sandbox_directory.into_os_string().into_vec(),
        environment: variables
            .into_iter()
            .map(|(name, value)| Variable { name: name.into_vec(), value: value.into_vec() })
            .collect(),
        exclude: args.exclude.clone(),
    })
}
