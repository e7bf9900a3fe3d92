//! The profile in use: whether it can be used, as `profile validate` asks.

use super::around::Around;
use super::check::{Finding, Level, PATIENCE};
use crate::commands::patience::wait;
use crate::config::{DriverConfig, Profile};
use crate::driver::{self, DriverError, ErrorKind};
use crate::ui::visible;

/// The profile that is meant, and why it is this one.
pub(super) fn selected(around: &Around) -> Vec<Finding> {
    let (profile, why) = match &around.selected {
        Ok(selected) => selected,
        Err(problem) => {
            let finding = Finding::problem("profile", visible(problem))
                .why("nothing can be run without one")
                .remedy("skync profile validate --all    shows all that is wrong")
                .remedy("skync init    sets one up");
            return vec![finding];
        }
    };
    let found = format!("`{}` ({}), {why}", profile.name, profile.driver.name());
    let mut findings = vec![Finding::ok("profile", found)];
    if matches!(profile.driver, DriverConfig::Local) {
        findings.push(Finding::skipped("what it needs", "`local` runs in place and needs nothing"));
    } else {
        findings.extend(validated(profile));
    }
    findings
}

fn validated(profile: &Profile) -> Vec<Finding> {
    let asked = async {
        match driver::open(profile) {
            Some(driver) => driver.validate().await,
            None => Vec::new(),
        }
    };
    // A little less than the check has: the name of the profile is then told with it.
    match wait(PATIENCE * 9 / 10, asked) {
        None => {
            let found =
                format!("`{}` could not be checked within {} s", profile.name, PATIENCE.as_secs());
            let finding = Finding::problem("what it needs", found)
                .why("its engine or provider does not answer")
                .remedy(format!("skync profile validate {}    has more patience", profile.name));
            vec![finding]
        }
        Some(errors) if errors.is_empty() => {
            vec![Finding::ok("what it needs", "all of it is there")]
        }
        Some(errors) => errors.iter().map(finding).collect(),
    }
}

fn finding(error: &DriverError) -> Finding {
    let why = match error.kind {
        ErrorKind::Unreachable => "no sandbox can be made while it does not answer",
        ErrorKind::NotFound | ErrorKind::Gone => "no sandbox can be made without it",
        ErrorKind::Invalid => "no sandbox can be made with such a setting",
        ErrorKind::Auth | ErrorKind::Denied => {
            "nothing can be asked of it without a key or a right"
        }
        ErrorKind::Exhausted => "no sandbox can be made without room for it",
        ErrorKind::NoAgent | ErrorKind::Failed => "no sandbox can be made",
    };
    let mut finding = Finding::problem("what it needs", visible(&error.message)).why(why);
    finding.remedy = error.hints.clone();
    finding
}

/// The configuration as a whole: profiles that cannot be used, problems beside them.
pub(super) fn others(around: &Around) -> Vec<Finding> {
    let count = around.profiles.len();
    let found = match count {
        0 => "no profile but the built-in ones".to_owned(),
        1 => "1 profile".to_owned(),
        count => format!("{count} profiles"),
    };
    if around.config_problems.is_empty() {
        return vec![Finding::ok("configuration", found)];
    }
    let finding = |problem: &String| {
        let level = if around.selected.is_err() { Level::Problem } else { Level::Warning };
        Finding::warning("configuration", visible(problem))
            .why("a profile with a mistake cannot be used")
            .remedy("skync profile validate --all    shows where, and what else")
            .level(level)
    };
    around.config_problems.iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DirectoryConfig;

    #[test]
    fn no_profile_is_a_problem_and_one_that_works_is_none() {
        let base = tempfile::tempdir().expect("a directory");
        let mut around = Around::below(base.path());
        assert_eq!(selected(&around)[0].level, Level::Problem);
        let directory = DirectoryConfig { base: Some(base.path().join("sandboxes")) };
        let profile = Profile::new("dev", DriverConfig::Directory(directory));
        around.selected = Ok((profile, "because I say so".into()));
        let found = selected(&around);
        assert_eq!(found[0].found, "`dev` (directory), because I say so");
        assert_eq!(found[1].level, Level::Ok, "{found:?}");
    }

    #[test]
    fn what_a_driver_says_is_kept_with_its_way_out() {
        let error = DriverError::new(ErrorKind::NotFound, "there is no image").hint("pull it");
        let found = finding(&error);
        assert_eq!((found.level, found.remedy), (Level::Problem, vec!["pull it".to_owned()]));
    }

    #[test]
    fn a_mistake_elsewhere_in_the_file_is_a_warning() {
        let base = tempfile::tempdir().expect("a directory");
        let mut around = Around::below(base.path());
        around.config_problems = vec!["`imag` is no key".into()];
        assert_eq!(others(&around)[0].level, Level::Problem);
        around.selected = Ok((Profile::built_in("local").expect("built in"), String::new()));
        assert_eq!(others(&around)[0].level, Level::Warning);
    }
}
