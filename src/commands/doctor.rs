//! `skync doctor`: checks this machine, the project and the profile, and says what is in the way.
//!
//! `check` is what a check is and how all are run side by side; the files of groups (`versions`,
//! `engine`, …) look, each at its surroundings (`around`); `fix` repairs, `report` writes, `redact`
//! and `bundle` make the file for a bug report.

mod around;
mod bundle;
mod check;
mod clock;
mod engine;
mod fix;
mod fuse;
mod keychain;
mod left_over;
mod limits;
mod places;
mod profile;
mod project;
mod providers;
mod redact;
mod report;
mod terminal;
mod versions;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::DoctorArgs;
use crate::commands::patience::bounded;
use crate::commands::{Context, find_project};
use crate::config::Profile;
use crate::error::{CliError, ExitCode};
use crate::ui::print;
use around::Around;
use check::{Check, Checked, Level, PATIENCE, run_all};
use fix::{Fix, Fixed};

/// Everything that is looked at, in the order in which it is told.
const CHECKS: [Check; 21] = [
    Check { group: "Versions", name: "versions", look: versions::own },
    Check { group: "Versions", name: "system", look: versions::system },
    Check { group: "Versions", name: "search-path", look: versions::others },
    Check { group: "Profile", name: "configuration", look: profile::others },
    Check { group: "Profile", name: "profile", look: profile::selected },
    Check { group: "Profile", name: "docker", look: engine::look },
    Check { group: "Profile", name: "providers", look: providers::look },
    Check { group: "Profile", name: "keychain", look: keychain::look },
    Check { group: "Mounts", name: "fuse", look: fuse::device },
    Check { group: "Mounts", name: "fusermount3", look: fuse::program },
    Check { group: "Mounts", name: "allow-other", look: fuse::others },
    Check { group: "This machine", name: "runtime-directory", look: places::runtime },
    Check { group: "This machine", name: "state-directory", look: places::state },
    Check { group: "This machine", name: "configuration-directory", look: places::config },
    Check { group: "This machine", name: "inotify", look: limits::watches },
    Check { group: "This machine", name: "open-files", look: limits::open_files },
    Check { group: "This machine", name: "terminal", look: terminal::look },
    Check { group: "Left over", name: "left-over", look: left_over },
    Check { group: "Project", name: "project", look: project::tree },
    Check { group: "Project", name: "file-system", look: project_place },
    Check { group: "Project", name: "git", look: project::git },
];

fn left_over(around: &Around) -> Vec<check::Finding> {
    [left_over::mounts(around), left_over::sessions(around), left_over::files(around)].concat()
}

fn project_place(around: &Around) -> Vec<check::Finding> {
    [project::file_system(around), places::project_room(around)].concat()
}

/// What was found, and what was done about it.
#[derive(Debug)]
struct Report {
    checked: Vec<Checked>,
    fixed: Vec<Fixed>,
    bundle: Option<bundle::Bundle>,
}

impl Report {
    /// True if nothing is worse than a warning.
    fn is_good(&self) -> bool {
        self.checked.iter().all(|one| one.level() < Level::Problem)
    }
}

/// Checks, and repairs or packs up if that is asked for.
///
/// # Errors
/// If the bundle cannot be written, or its name is taken.
pub fn run(args: &DoctorArgs, context: &Context) -> Result<ExitCode, CliError> {
    let context = &Context {
        profile_flag: args.name.clone().or_else(|| context.profile_flag.clone()),
        ..context.clone()
    };
    if let Some(file) = &args.bundle {
        bundle::refuse_existing(file)?;
    }
    let around = Arc::new(surroundings(context));
    let mut checked = run_all(&CHECKS, &around, PATIENCE);
    let mut fixed = Vec::new();
    if args.fix {
        fixed = repair(&mut checked, &around);
    }
    let mut report = Report { checked, fixed, bundle: None };
    if let Some(file) = &args.bundle {
        let document = report::document(&report);
        report.bundle = Some(bundle::write(file, &document, &around, context)?);
    }
    if context.json {
        print(&format!("{}\n", report::document(&report)))?;
    } else {
        let details = context.verbose > 0;
        print(&report::text(&report, details))?;
    }
    Ok(if report.is_good() { ExitCode::Done } else { ExitCode::Failed })
}

/// Does what can be done, and checks again what it was done for.
fn repair(checked: &mut [Checked], around: &Arc<Around>) -> Vec<Fixed> {
    let of = |one: &Checked| one.findings.iter().filter_map(|found| found.fix.clone()).collect();
    let fixes: Vec<Fix> = checked.iter().flat_map(|one| -> Vec<Fix> { of(one) }).collect();
    let fixed = fix::apply_all(&fixes, &around.places);
    let concerned: Vec<usize> =
        (0..checked.len()).filter(|at| !of(&checked[*at]).is_empty()).collect();
    let again: Vec<Check> = concerned.iter().map(|at| CHECKS[*at]).collect();
    for (at, now) in concerned.into_iter().zip(run_all(&again, around, PATIENCE)) {
        checked[at] = now;
    }
    fixed
}

/// What there is here. Whatever of it hangs is not known.
fn surroundings(context: &Context) -> Around {
    let variables: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let selected = match context.select() {
        Ok(selected) => Ok((selected.profile, selected.why.to_string())),
        Err(error) => Err(error.to_string()),
    };
    let (profiles, config_problems) = match context.config() {
        Ok(config) => {
            // Nobody is called whom only a project that is not trusted names.
            let usable = |name: &String| Some(config.select(Some(name), None).ok()?.profile);
            let is_own = |name: &&String| Profile::built_in(name).is_none();
            let profiles = config.names().iter().filter(is_own).filter_map(usable).collect();
            (profiles, config.all_problems().iter().map(ToString::to_string).collect())
        }
        Err(error) => (Vec::new(), vec![error.to_string()]),
    };
    let project =
        bounded(PATIENCE, || find_project(None, false).map_err(|error| error.to_string()));
    Around {
        root: PathBuf::from("/"),
        variables,
        places: context.places.clone(),
        uid: rustix::process::geteuid().as_raw(),
        program: std::env::current_exe().ok(),
        selected,
        profiles,
        config_problems,
        terminal: std::io::stdin().is_terminal() || std::io::stdout().is_terminal(),
        survey: Arc::default(),
        project: project.unwrap_or_else(|| Err("the current directory does not answer".to_owned())),
    }
}
