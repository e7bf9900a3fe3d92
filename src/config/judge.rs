//! What of a project's files counts before the user has let it: a function from values to values.
//!
//! The measure is what the user's own configuration would do without the project: what could harm the
//! host, send the project or money elsewhere, or take away a limit or a guard, needs `skync trust`.
//! The table by key is in `settings`. What does not count stops the command: to run in another
//! sandbox than was meant is worse than not to run.

use std::path::PathBuf;

use super::file::{Config, ConfigError, Entry};
use super::layers::Found;
use super::problem::{Bad, ConfigProblem};
use super::select::{Choice, Origin, choose};
use super::settings::{self, Rule};
use super::sources::{Level, Place};
use super::trust::Verdict;
use super::{BUILT_IN, DriverConfig, Profile};
use crate::ui::visible;

/// Refuses a profile that rests on what does not count.
pub(super) fn check(
    config: &Config,
    name: &str,
    why: Origin,
    profile: &Profile,
) -> Result<(), ConfigError> {
    let blocked = blocked(config, name, why, profile);
    // What the user let count once and is not there any more could have been a limit: that cannot be
    // seen in what is there now, so all of it waits for the user.
    let is_apart = BUILT_IN.contains(&name)
        && matches!(why, Origin::Flag | Origin::Environment | Origin::ChosenHere);
    let mut files = config.layers.files.iter();
    let changed = files.find(|layer| layer.verdict == Verdict::Changed && !is_apart);
    let file: PathBuf = match (changed, blocked.first()) {
        (Some(layer), _) => layer.path.clone(),
        (None, Some((place, _))) => place.name.clone(),
        (None, None) => return Ok(()),
    };
    let gone = changed.is_some_and(|layer| layer.found == Found::Missing);
    let problems = blocked.into_iter().map(|(_, problem)| problem).collect();
    Err(ConfigError::Untrusted { file, changed: changed.is_some(), gone, problems })
}

/// What each thing is that does not count, with its place.
fn blocked(
    config: &Config,
    name: &str,
    why: Origin,
    profile: &Profile,
) -> Vec<(Place, ConfigProblem)> {
    let Some(own) = config.trusted.as_deref() else { return Vec::new() };
    let case = Case { config, own, name, profile };
    let mut blocked = Vec::new();
    let mut add = |place: &Place, span, key: &str, why: &str| {
        let bad =
            Bad::new(format!("`{}` counts only when it is trusted: it could {why}", visible(key)))
                .hint("take it out, or look at all of the file with `skync trust`");
        blocked.push((place.clone(), config.sources.problem(span, bad)));
    };
    for entry in config.entries(name) {
        let Some(place) = entry.place.as_ref().filter(|place| case.is_untrusted(place.level))
        else {
            continue;
        };
        if case.is_blocked(entry) {
            let key = entry.key.split('.').next().unwrap_or_default();
            let why = settings::setting(key).map_or("do what nobody has looked at", |one| one.why);
            add(place, entry.span.clone(), &entry.key, why);
        }
    }
    let choice = config.choices.iter().find(|choice| choice.why == why && choice.name == name);
    if let Some(choice) = choice
        && let Some(place) = choice.place.as_ref().filter(|place| case.is_untrusted(place.level))
        && let Some(why) = case.choice(choice)
    {
        add(place, choice.span.clone(), "profile", why);
    }
    blocked
}

fn verdict(config: &Config, level: Level) -> Verdict {
    let layer = config.layers.files.iter().find(|layer| layer.level == level);
    layer.map_or(Verdict::Unknown, |layer| layer.verdict)
}

struct Case<'a> {
    config: &'a Config,
    /// What holds without what is not trusted.
    own: &'a Config,
    name: &'a str,
    profile: &'a Profile,
}

impl Case<'_> {
    fn is_untrusted(&self, level: Level) -> bool {
        level.is_of_project() && verdict(self.config, level) != Verdict::Trusted
    }

    fn is_blocked(&self, entry: &Entry) -> bool {
        let key = entry.key.split('.').next().unwrap_or_default();
        match (settings::rule(key), key) {
            (Rule::Free, _) => false,
            (Rule::Asks | Rule::Never, _) => true,
            (Rule::Weakens, "driver") => !self.is_driver_as_good(),
            (Rule::Weakens, "extends") => {
                !self.is_driver_as_good() || self.takes_from_own() || self.drops(self.name)
            }
            (Rule::Weakens, "exclude") => !self.keeps_exclusions(self.name),
            (Rule::Weakens, "gitignore") => {
                let was = self.own.profile(self.name).and_then(Result::ok);
                was.is_some_and(|own| own.gitignore) && !self.profile.gitignore
            }
            // A limit; where it costs money there is always one, the provider's.
            (Rule::Weakens, key) => {
                let own = self.own.entries(self.name).iter().find(|own| own.key == key);
                own.map_or(is_paid(&self.profile.driver), |own| own.value != entry.value)
            }
        }
    }

    /// What speaks against a choice that a project makes.
    fn choice(&self, choice: &Choice) -> Option<&'static str> {
        let own = choose(self.own, None, None).0;
        if own == choice.name {
            return None;
        }
        if !self.is_driver_as_good() {
            return settings::setting("driver").map(|setting| setting.why);
        }
        if self.drops(&own) {
            return Some(
                "leave out the limits and exclusions of the profile that you use otherwise",
            );
        }
        let takes = self.is_sensitive_own(|entry| entry.from.is_none());
        takes.then_some("use settings or variables that you made for something else")
    }

    /// Something that weighs and that `other` says in the user's own configuration does not hold here.
    /// What a project says in its place is judged where it says that.
    fn drops(&self, other: &str) -> bool {
        let is_kept = |own: &Entry| {
            self.config.entries(self.name).iter().any(|entry| {
                let by_project = entry.place.as_ref().is_some_and(|at| at.level.is_of_project());
                entry.key == own.key && (by_project || entry.value == own.value)
            })
        };
        self.own.entries(other).iter().any(|own| {
            let key = own.key.split('.').next().unwrap_or_default();
            let weighs = settings::rule(key) != Rule::Free;
            let is_apart = matches!(key, "driver" | "extends" | "env" | "exclude");
            weighs && !is_apart && !is_kept(own)
        }) || !self.keeps_exclusions(other)
    }

    /// An inherited setting that a project could not say is the user's own, made for another profile.
    fn takes_from_own(&self) -> bool {
        self.is_sensitive_own(|entry| entry.from.is_some())
    }

    fn is_sensitive_own(&self, is_meant: impl Fn(&Entry) -> bool) -> bool {
        self.config.entries(self.name).iter().filter(|entry| is_meant(entry)).any(|entry| {
            let key = entry.key.split('.').next().unwrap_or_default();
            let is_own = entry.place.as_ref().is_some_and(|place| place.level <= Level::User);
            let weighs = key == "env" || matches!(settings::rule(key), Rule::Asks | Rule::Never);
            is_own && weighs
        })
    }

    /// The driver keeps commands as far from this machine as the user's own choice would, and costs
    /// nothing that this does not.
    fn is_driver_as_good(&self) -> bool {
        let driver = &self.profile.driver;
        let of_name = self.own.profile(self.name).and_then(Result::ok);
        let same = |other: &Profile| other.driver.name() == driver.name();
        // What the user's own profile of this name is anyway.
        if self.own.profiles.iter().any(|(name, _)| name == self.name)
            && of_name.as_ref().is_some_and(same)
        {
            let chosen_by_project = choose(self.config, None, None).0 == self.name
                && choose(self.own, None, None).0 != self.name;
            if !chosen_by_project {
                return true;
            }
        }
        let (baseline, _) = choose(self.own, None, None);
        let baseline = self.own.profile(&baseline).and_then(Result::ok);
        match driver {
            // On this machine, where a cloud was meant.
            DriverConfig::Docker(_) => !baseline.is_some_and(|own| is_paid(&own.driver)),
            DriverConfig::E2b(_) | DriverConfig::Daytona(_) => baseline.as_ref().is_some_and(same),
            DriverConfig::Directory(_) => baseline.is_some_and(|own| runs_here(&own.driver)),
            DriverConfig::Local => {
                baseline.is_some_and(|own| matches!(own.driver, DriverConfig::Local))
            }
        }
    }

    /// Everything that the user's own files leave out for `other` is left out. In a list the last
    /// pattern that fits counts, so nothing may take back what stands before it.
    fn keeps_exclusions(&self, other: &str) -> bool {
        let Some(own) = self.own.profile(other).and_then(Result::ok) else { return true };
        let mut left = own.exclude.iter().peekable();
        for pattern in &self.profile.exclude {
            if left.peek() == Some(&pattern) {
                left.next();
            } else if pattern.trim_start().starts_with('!') && !own.exclude.is_empty() {
                return false;
            }
        }
        left.next().is_none()
    }
}

/// Commands run on this machine, as this user.
fn runs_here(driver: &DriverConfig) -> bool {
    matches!(driver, DriverConfig::Local | DriverConfig::Directory(_))
}

/// What runs costs money.
fn is_paid(driver: &DriverConfig) -> bool {
    matches!(driver, DriverConfig::E2b(_) | DriverConfig::Daytona(_))
}

#[cfg(test)]
mod tests;
